//! Statuses as data: a pod, what is observed, and the parts of the status that matter.
use super::*;
use crate::agent::observed::StartFailure;
use crate::agent::plan::tests::{at, have, pod};

fn shown(pod: &Pod, have: &Observed) -> String {
    let status = status(pod, &PodStatus::default(), have, IpAddr::from([192, 0, 2, 1]), at(1000));
    let container = |s: &ContainerStatus| {
        let state = s.state.clone().unwrap_or_default();
        let word = match (&state.waiting, &state.running, &state.terminated) {
            (Some(w), ..) => w.reason.clone().unwrap_or_default(),
            (_, Some(_), _) => "running".into(),
            (.., Some(t)) => format!("{}:{}", t.reason.clone().unwrap_or_default(), t.exit_code),
            _ => "nothing".into(),
        };
        let last = s.last_state.as_ref().and_then(|l| l.terminated.as_ref()).map(|t| format!(" last {}", t.exit_code));
        format!("{} {word}{}{} {}", s.name, last.unwrap_or_default(), if s.ready { " ready" } else { "" }, s.restart_count)
    };
    let lists = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    let all: Vec<String> = lists.into_iter().flatten().flatten().map(container).collect();
    let conditions = status.conditions.iter().flatten().filter(|c| c.status == "True").map(|c| {
        c.type_
            .replace("Containers", "C")
            .replace("PodReadyToStartC", "Start")
            .replace("Initialized", "Init")
            .replace("PodScheduled", "Sched")
    });
    format!("{}; {}; {}", status.phase.unwrap_or_default(), all.join(", "), conditions.collect::<Vec<_>>().join(" "))
}

#[test]
fn statuses() {
    const ONE: &str = "{containers: [{name: a, image: x}]}";
    const NEVER: &str = "{restartPolicy: Never, containers: [{name: a, image: x}]}";
    const INIT: &str = "{initContainers: [{name: i, image: x}], containers: [{name: a, image: x}]}";
    const SIDE: &str = "{initContainers: [{name: s, image: x, restartPolicy: Always}], containers: [{name: a, image: x}]}";
    const SEER: &str = "{containers: [{name: a, image: x}], ephemeralContainers: [{name: e, image: x}]}";
    const SEER_INIT: &str =
        "{initContainers: [{name: i, image: x}], containers: [{name: a, image: x}], ephemeralContainers: [{name: e, image: x}]}";
    let table = [
        (ONE, "", "Pending; a ContainerCreating 0; Init Sched"),
        (ONE, "ready a=running", "Running; a running ready 0; Start Init Ready CReady Sched"),
        (ONE, "ready a=pullfail:1010", "Pending; a ErrImagePull 0; Start Init Sched"),
        (ONE, "ready a=exit:1@999+1#1", "Running; a CrashLoopBackOff last 1 1; Start Init Sched"),
        (NEVER, "a=exit:0@999", "Succeeded; a Completed:0 0; Init Sched"),
        (NEVER, "a=exit:3@999", "Failed; a Error:3 0; Init Sched"),
        (INIT, "ready i=running", "Pending; i running 0, a PodInitializing 0; Start Sched"),
        (INIT, "ready i=exit:0@999", "Pending; i Completed:0 ready 0, a ContainerCreating 0; Start Init Sched"),
        (INIT, "ready i=exit:0@999 a=running", "Running; i Completed:0 ready 0, a running ready 0; Start Init Ready CReady Sched"),
        (SIDE, "ready s=running a=running", "Running; s running ready 0, a running ready 0; Start Init Ready CReady Sched"),
        (SEER, "ready a=running", "Running; a running ready 0, e ContainerCreating 0; Start Init Ready CReady Sched"),
        (SEER, "ready a=running e=running", "Running; a running ready 0, e running 0; Start Init Ready CReady Sched"),
        (SEER, "ready a=running e=pullfail:1010", "Running; a running ready 0, e ErrImagePull 0; Start Init Ready CReady Sched"),
        // Its failed starts before do not make it one that is to run again.
        (SEER, "ready a=running e=exit:3@999+2", "Running; a running ready 0, e Error:3 0; Start Init Ready CReady Sched"),
        (SEER_INIT, "ready i=running", "Pending; i running 0, a PodInitializing 0, e PodInitializing 0; Start Sched"),
    ];
    for (spec, seen, want) in table {
        assert_eq!(shown(&pod(spec), &have(seen)), want, "{spec} {seen}");
    }
}

#[test]
fn says_why() {
    let one = pod("{containers: [{name: a, image: x}]}");
    let of = |have: &Observed| {
        let status = status(&one, &PodStatus::default(), have, IpAddr::from([192, 0, 2, 1]), at(1000));
        let waiting = status.container_statuses.unwrap()[0].state.clone().unwrap().waiting.unwrap();
        (waiting.reason.unwrap(), waiting.message.unwrap_or_default())
    };
    let mut seen = have("ready a=pullfail:1010");
    assert_eq!(of(&seen), ("ErrImagePull".into(), "m".into()));
    seen.containers.get_mut("a").unwrap().pull_told = true;
    assert_eq!(of(&seen), ("ImagePullBackOff".into(), "Back-off pulling image \"x\": ErrImagePull: m".into()));
    let crash = of(&have("ready a=exit:1@999+2#2"));
    assert_eq!(crash, ("CrashLoopBackOff".into(), "back-off 20s restarting failed container=a pod=p_d(u)".into()));
    let mut seen = have("ready a=present");
    let error = StartFailure { reason: "CreateContainerConfigError", message: "configmap \"c\" not found".into(), retry: at(1010) };
    seen.containers.get_mut("a").unwrap().error = Some(error);
    assert_eq!(of(&seen).0, "CreateContainerConfigError");
}

#[test]
fn conditions_keep_their_times_and_strangers() {
    let one = pod("{readinessGates: [{conditionType: g}], containers: [{name: a, image: x}]}");
    let node = IpAddr::from([192, 0, 2, 1]);
    let first = status(&one, &PodStatus::default(), &have("ready a=running"), node, at(1000));
    let find = |s: &PodStatus, name: &str| s.conditions.iter().flatten().find(|c| c.type_ == name).cloned();
    assert_eq!(find(&first, "Ready").unwrap().reason.as_deref(), Some("ReadinessGatesNotReady"));
    let mut old = first.clone();
    old.conditions.as_mut().unwrap().push(PodCondition { type_: "g".into(), status: "True".into(), ..PodCondition::default() });
    let second = status(&one, &old, &have("ready a=running"), node, at(2000));
    assert_eq!(find(&second, "Ready").unwrap().last_transition_time, Some(Time(at(2000))));
    assert_eq!(find(&second, "Initialized").unwrap().last_transition_time, Some(Time(at(1000))));
    assert!(find(&second, "g").is_some());
    assert_eq!(second.pod_ip.as_deref(), Some("10.0.0.5"));
    assert_eq!(second.qos_class.as_deref(), Some("BestEffort"));
}
