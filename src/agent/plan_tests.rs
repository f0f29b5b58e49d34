//! Decisions as data: a pod, what is observed, and the steps that must come out.
use super::*;
use crate::agent::observed::{Instance, Restart};
use crate::agent::resize::{Allotted, Given};

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// `running`, `exit:CODE@FINISHED` (started a second before), with `+N` for crashes and `#N` for the attempt.
fn seen(word: &str) -> Seen {
    let (word, attempt) = word.split_once('#').map_or((word, 0), |(w, n)| (w, n.parse().unwrap()));
    let (word, crashes) = word.split_once('+').map_or((word, 0), |(w, n)| (w, n.parse().unwrap()));
    let mut seen = Seen { crashes, ..Seen::default() };
    let phase = match word.split_once(':') {
        None if word == "present" => {
            seen.image = Image::Present;
            return seen;
        }
        None if word == "pulling" => {
            seen.doing = Some(Doing::Image);
            return seen;
        }
        None if word == "stopping" => {
            seen.doing = Some(Doing::Stopping { deadline: at(1030) });
            Phase::Running { pid: 1, started: at(900) }
        }
        None => Phase::Running { pid: 1, started: at(900) },
        Some(("pullfail", until)) => {
            seen.image = Image::Failed { reason: "ErrImagePull", message: "m".into(), retry: at(until.parse().unwrap()) };
            return seen;
        }
        Some((_, rest)) => {
            let (code, finished) = rest.split_once('@').unwrap();
            let finished: i64 = finished.parse().unwrap();
            seen.image = Image::Present;
            Phase::Exited { code: code.parse().unwrap(), oom_killed: false, started: at(finished - 1), finished: at(finished) }
        }
    };
    (seen.started, seen.ready) = (word == "running", word == "running");
    seen.current =
        Some(Instance { attempt, phase, message: None, reason: None, image: "x".into(), image_id: String::new(), hash: String::new() });
    seen
}

/// `ready` (sandbox and volumes) and `NAME=WORD`.
pub(crate) fn have(text: &str) -> Observed {
    let mut have = Observed { start_time: Some(at(900)), ..Observed::default() };
    for word in text.split_whitespace() {
        match word.split_once('=') {
            None if word == "ready" => {
                have.sandbox = Sandbox::Ready { pid: 1, ip: "10.0.0.5".parse().ok() };
                have.volumes = Volumes::Ready;
            }
            None if word == "gone" => have.gone = true,
            None => panic!("{word}"),
            Some((name, word)) => drop(have.containers.insert(name.into(), seen(word))),
        }
    }
    have
}

pub(crate) fn pod(spec: &str) -> Pod {
    let mut pod: Pod = serde_yaml::from_str(&format!("metadata: {{name: p, namespace: d, uid: u}}\nspec: {spec}")).unwrap();
    if spec.contains("DELETED") {
        pod.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(1000)));
        pod.metadata.deletion_grace_period_seconds = Some(30);
    }
    pod
}

fn shown(step: &Step) -> String {
    match step {
        Step::CreateSandbox => "sandbox".into(),
        Step::MountVolumes => "volumes".into(),
        Step::EnsureImage(name) => format!("image {name}"),
        Step::Start(name, attempt) => format!("start {name}#{attempt}"),
        Step::Stop { container, grace, .. } => format!("stop {container} {}", grace.as_secs()),
        Step::Kill(name) => format!("kill {name}"),
        Step::Fail(reason, _) => format!("fail {reason}"),
        Step::Resize => "resize".into(),
        Step::RemoveSandbox => "remove".into(),
        Step::Finish => "finish".into(),
        Step::Wake(at) => format!("wake {}", at.as_second()),
    }
}

#[test]
fn steps() {
    const ONE: &str = "{containers: [{name: a, image: x}]}";
    const NEVER: &str = "{restartPolicy: Never, containers: [{name: a, image: x}]}";
    const INIT: &str = "{initContainers: [{name: i, image: x}], containers: [{name: a, image: x}]}";
    const SIDE: &str = "{initContainers: [{name: s, image: x, restartPolicy: Always}], containers: [{name: a, image: x}]}";
    const SEER: &str = "{containers: [{name: a, image: x}], ephemeralContainers: [{name: e, image: x, targetContainerName: a}]}";
    const SEER_NEVER: &str = "{restartPolicy: Never, containers: [{name: a, image: x}], ephemeralContainers: [{name: e, image: x}]}";
    const SEER_INIT: &str =
        "{initContainers: [{name: i, image: x}], containers: [{name: a, image: x}], ephemeralContainers: [{name: e, image: x}]}";
    const GONE: &str = "{hostname: DELETED, containers: [{name: a, image: x}]}";
    const GONE_SIDE: &str =
        "{hostname: DELETED, initContainers: [{name: s, image: x, restartPolicy: Always}], containers: [{name: a, image: x}]}";
    let table = [
        ("all begins at once", ONE, "", "sandbox, volumes, image a"),
        ("a start needs its image", ONE, "ready a=pulling", ""),
        ("and then happens", ONE, "ready a=present", "start a#0"),
        ("but not before the sandbox", ONE, "a=present", "sandbox, volumes"),
        ("nothing to do", ONE, "ready a=running", ""),
        ("a failed pull waits", ONE, "ready a=pullfail:1010", "wake 1010"),
        ("and is tried again", ONE, "ready a=pullfail:1000", "image a"),
        ("the first restart is immediate", ONE, "ready a=exit:1@999", "start a#1"),
        ("the second waits ten seconds", ONE, "ready a=exit:1@999+1#1", "wake 1009"),
        ("and then happens", ONE, "ready a=exit:1@990+1#1", "start a#2"),
        ("the wait is bounded", ONE, "ready a=exit:0@999+30#9", "wake 1299"),
        ("Never means never", NEVER, "ready a=exit:1@999", "remove"),
        ("init containers come first", INIT, "ready i=present a=present", "start i#0"),
        ("one at a time", INIT, "ready i=running a=present", ""),
        ("then the others", INIT, "ready i=exit:0@999 a=present", "start a#0"),
        ("a failed one is run again", INIT, "ready i=exit:1@999 a=present", "start i#1"),
        ("init containers are not run again", INIT, "ready a=running", ""),
        ("a sidecar does not block once started", SIDE, "ready s=running a=present", "start a#0"),
        ("a sidecar is restarted beside", SIDE, "ready s=exit:0@999 a=running", "start s#1"),
        ("an ephemeral container begins with its image", SEER, "ready a=running", "image e"),
        ("and runs", SEER, "ready a=running e=present", "start e#0"),
        ("once", SEER, "ready a=running e=exit:1@999", ""),
        ("for as long as it likes", SEER, "ready a=running e=running", ""),
        ("whatever the others are at", SEER_INIT, "ready i=running a=present e=present", "start e#0"),
        ("but not before the sandbox", SEER, "a=present e=present", "sandbox, volumes"),
        ("it does not keep a pod from ending", SEER_NEVER, "ready a=exit:0@999 e=running", "stop e 30"),
        ("deletion stops", GONE, "ready a=running", "stop a 30"),
        ("and waits", GONE, "ready a=stopping", ""),
        ("and cleans up", GONE, "ready a=exit:0@999", "remove"),
        ("and finishes", GONE, "a=exit:0@999", "finish"),
        ("one never started is finished at once", GONE, "", "finish"),
        ("sidecars stop last", GONE_SIDE, "ready s=running a=running", "stop a 30"),
        ("sidecars stop then", GONE_SIDE, "ready s=running a=exit:0@999", "stop s 30"),
        ("a pod gone from the API is removed", ONE, "gone ready a=exit:0@999", "remove"),
    ];
    for (what, spec, seen, want) in table {
        let got: Vec<String> = plan(&pod(spec), &have(seen), at(1000)).iter().map(shown).collect();
        assert_eq!(got.join(", "), want, "{what}");
    }
}

#[test]
fn deadline_and_orders() {
    let deadline = pod("{activeDeadlineSeconds: 60, containers: [{name: a, image: x}]}");
    assert_eq!(plan(&deadline, &have("ready a=running"), at(950)).iter().map(shown).collect::<Vec<_>>(), ["wake 960"]);
    assert_eq!(plan(&deadline, &have("ready a=running"), at(960)).iter().map(shown).collect::<Vec<_>>(), ["fail DeadlineExceeded"]);
    let mut failed = have("ready a=running");
    failed.failed = Some(("DeadlineExceeded".into(), String::new()));
    assert_eq!(plan(&deadline, &failed, at(961)).iter().map(shown).collect::<Vec<_>>(), ["stop a 30"]);
    let mut unhealthy = have("ready a=running");
    let order = Restart { why: "w".into(), grace: Some(Duration::from_secs(5)) };
    unhealthy.containers.get_mut("a").unwrap().restart = Some(order);
    assert_eq!(plan(&pod("{containers: [{name: a, image: x}]}"), &unhealthy, at(1000)).iter().map(shown).collect::<Vec<_>>(), ["stop a 5"]);
    let image = pod("{containers: [{name: a, image: y}]}");
    assert_eq!(plan(&image, &have("ready a=running"), at(1000)).iter().map(shown).collect::<Vec<_>>(), ["stop a 30"]);
    let mut shorter = pod("{hostname: DELETED, containers: [{name: a, image: x}]}");
    shorter.metadata.deletion_grace_period_seconds = Some(1);
    assert_eq!(plan(&shorter, &have("ready a=stopping"), at(1000)).iter().map(shown).collect::<Vec<_>>(), ["kill a"]);
}

#[test]
fn resizes() {
    let policy = "resizePolicy: [{resourceName: memory, restartPolicy: RestartContainer}]";
    let one = |resources: &str| {
        pod(&format!("{{restartPolicy: OnFailure, containers: [{{name: a, image: x, {policy}, resources: {resources}}}]}}"))
    };
    let old = Allotted::of(&one("{requests: {cpu: 1, memory: 1}}"));
    let given = Given { group: Some(old.clone()), containers: old.containers };
    let check = |what: &str, resources: &str, seen: &str, change: &dyn Fn(&mut Observed), want: &str| {
        let mut have = have(seen);
        have.given = given.clone();
        change(&mut have);
        let got: Vec<String> = plan(&one(resources), &have, at(1000)).iter().map(shown).collect();
        assert_eq!(got.join(", "), want, "{what}");
    };
    let error = |retry: i64| move |have: &mut Observed| have.resize.error = Some(("e".into(), at(retry)));
    let again = |have: &mut Observed| have.containers.get_mut("a").unwrap().again = true;
    let (same, cpu, memory) = ("{requests: {cpu: 1000m, memory: 1}}", "{requests: {cpu: 2, memory: 1}}", "{requests: {cpu: 1, memory: 2}}");
    check("the same in other words", same, "ready a=running", &|_| {}, "");
    check("in place", cpu, "ready a=running", &|_| {}, "resize");
    check("once", cpu, "ready a=running", &|have| have.resize.doing = true, "");
    check("again after a while", cpu, "ready a=running", &error(1010), "wake 1010");
    check("and then", cpu, "ready a=running", &error(1000), "resize");
    check("by a restart", memory, "ready a=running", &|_| {}, "stop a 30");
    check("which takes its time", memory, "ready a=stopping", &|_| {}, "");
    check("then the group", memory, "ready a=exit:0@999", &again, "resize");
    check(
        "is not left ended",
        memory,
        "ready a=exit:0@999+3",
        &|have| {
            again(have);
            have.given.group = Some(Allotted::of(&one(memory)));
        },
        "start a#1",
    );
    check("a start waits", cpu, "ready a=present", &|have| have.given.containers.clear(), "resize");
}

#[test]
fn waits_double() {
    let seconds: Vec<u64> = (0..8).map(|n| backoff(n).as_secs()).collect();
    assert_eq!(seconds, [0, 10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(backoff(u32::MAX), BACKOFF_MAX);
}
