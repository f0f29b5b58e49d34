//! Resizes as data: what is wanted, what there is, and what comes of it.
use super::*;

fn pod(spec: &str) -> Pod {
    serde_yaml::from_str(&format!("metadata: {{name: p, uid: u, generation: 2}}\nspec: {spec}")).unwrap()
}

fn with(resources: &str) -> Pod {
    pod(&format!("{{containers: [{{name: a, resources: {resources}}}]}}"))
}

#[test]
fn verdicts() {
    let node = Capacity { cpu: 2000, memory: 1000, pids: 0, huge_pages: Vec::new() };
    let others = [
        with("{requests: {cpu: 1, memory: 500}}"),
        serde_yaml::from_str("spec: {containers: [{name: e, resources: {requests: {cpu: 1}}}]}\nstatus: {phase: Succeeded}").unwrap(),
    ]
    .map(Arc::new);
    let have = with("{requests: {cpu: 500m, memory: 200}}");
    for (wanted, verdict) in [
        ("{requests: {cpu: '0.5', memory: 200}}", "same"),
        ("{requests: {cpu: 1, memory: 200}}", "granted"),
        ("{requests: {cpu: 500m, memory: 200}, limits: {cpu: 9}}", "granted"),
        ("{requests: {cpu: 100m, memory: 100}}", "granted"),
        (
            "{requests: {cpu: 1001m, memory: 200}}",
            "Deferred: Node didn't have enough resource: cpu, requested: 1001, used: 1000, capacity: 2000",
        ),
        (
            "{requests: {cpu: 500m, memory: 501}}",
            "Deferred: Node didn't have enough resource: memory, requested: 501, used: 500, capacity: 1000",
        ),
        ("{requests: {cpu: 2001m, memory: 200}}", "Infeasible: Node didn't have enough capacity: cpu, requested: 2001, capacity: 2000"),
        ("{requests: {cpu: 3, memory: 2Ki}}", "Infeasible: Node didn't have enough capacity: memory, requested: 2048, capacity: 1000"),
    ] {
        let got = match judge(&with(wanted), &have, &others, &node) {
            Verdict::Same => "same".into(),
            Verdict::Grant => "granted".into(),
            Verdict::Refuse(pending) => {
                assert_eq!(pending.generation, Some(2));
                format!("{}: {}", pending.reason, pending.message)
            }
        };
        assert_eq!(got, verdict, "{wanted}");
    }
}

/// There is room for one of those that wait: who gets it?
#[test]
fn whose_turn_it_is() {
    let node = Capacity { cpu: 4000, memory: 1 << 40, pids: 0, huge_pages: Vec::new() };
    let guaranteed = |cpu: &str| format!("{{limits: {{cpu: {cpu}, memory: 1}}, requests: {{cpu: {cpu}, memory: 1}}}}");
    let burstable = |cpu: &str| format!("{{requests: {{cpu: {cpu}}}}}");
    let one = |resources: &str, priority: i32| {
        Arc::new(pod(&format!("{{priority: {priority}, containers: [{{name: a, resources: {resources}}}]}}")))
    };
    let at = |second: i64| Timestamp::from_second(second).unwrap();
    // Each: what it is, its priority, what it wants, since when. All have one core.
    type Wish = (bool, i32, &'static str, i64);
    for (first, second, winner) in [
        ((false, 0, "3", 1), (false, 0, "3", 2), "a"),
        ((false, 0, "3", 2), (false, 0, "3", 1), "b"),
        ((false, 0, "3", 1), (true, 0, "3", 2), "b"),
        ((true, 0, "3", 1), (false, 5, "3", 2), "b"),
        // What takes nothing goes first, but makes room only when it is done.
        ((false, 9, "3500m", 1), (false, 0, "500m", 2), "b"),
        ((false, 0, "2", 2), (false, 0, "2", 1), "a b"),
        // Who can't be served holds nobody up.
        ((false, 9, "3500m", 1), (false, 0, "2", 2), "b"),
    ] as [(Wish, Wish, &str); 7]
    {
        let make =
            |guaranteed_class: bool, cpu: &str, priority| one(&if guaranteed_class { guaranteed(cpu) } else { burstable(cpu) }, priority);
        let (mut waiting, mut allotted) = (BTreeMap::new(), BTreeMap::new());
        for (uid, (class, priority, wanted, since)) in [("a", first), ("b", second)] {
            waiting.insert(uid.to_owned(), Waiting { wanted: make(class, wanted, priority), since: at(since) });
            allotted.insert(uid.to_owned(), make(class, "1", priority));
        }
        let granted: Vec<&str> =
            ["a", "b"].into_iter().filter(|uid| serve(uid, &waiting, allotted.clone(), &node) == Verdict::Grant).collect();
        assert_eq!(granted.join(" "), winner, "{first:?} {second:?}");
    }
}

fn given(pod: &Pod) -> Given {
    let all = Allotted::of(pod);
    Given { containers: all.containers.clone(), group: Some(all) }
}

#[test]
fn moves_keep_containers_within_their_pod() {
    let two = |a: &str, b: &str| {
        pod(&format!(
            "{{containers: [{{name: a, resources: {{limits: {a}, requests: {a}}}}}, {{name: b, resources: {{limits: {b}, requests: {b}}}}}]}}"
        ))
    };
    let running = [("a".to_owned(), "a-0".to_owned()), ("b".to_owned(), "b-3".to_owned())];
    let shown = |old: &Pod, new: &Pod, running: &[(String, String)]| -> String {
        let one = |change: &Move| {
            let group = change.group.strip_prefix("orch/podu").unwrap();
            let falls = change.falls.as_ref().map(|(who, limit)| format!(" ({who} below {limit})")).unwrap_or_default();
            let (cpu, memory) = (&change.limits["cpu"], &change.limits["memory"]);
            match cpu.is_object() {
                true => format!("{group} cpu {} {}", cpu["shares"], cpu["quota"]),
                false => format!("{group} memory {}{falls}", memory["limit"]),
            }
        };
        moves(new, &given(old), running).iter().map(one).collect::<Vec<_>>().join(", ")
    };
    let old = two("{cpu: 100m, memory: 1Ki}", "{cpu: 200m, memory: 1Ki}");
    for (new, want) in [
        (two("{cpu: 100m, memory: 1Ki}", "{cpu: 0.2, memory: 1024}"), ""),
        (two("{cpu: 300m, memory: 1Ki}", "{cpu: 200m, memory: 1Ki}"), " cpu 512 50000, /a-0 cpu 307 30000"),
        (two("{cpu: 50m, memory: 1Ki}", "{cpu: 200m, memory: 1Ki}"), "/a-0 cpu 51 5000,  cpu 256 25000"),
        (
            two("{cpu: 200m, memory: 2Ki}", "{cpu: 100m, memory: 512}"),
            " memory 2560, /b-3 memory 512 (container \"b\" below 512), /a-0 memory 2048, /b-3 cpu 102 10000, /a-0 cpu 204 20000",
        ),
        (
            two("{cpu: 100m, memory: 512}", "{cpu: 200m, memory: 1Ki}"),
            "/a-0 memory 512 (container \"a\" below 512),  memory 1536 (pod below 1536)",
        ),
    ] {
        assert_eq!(shown(&old, &new, &running), want, "{new:?}");
    }
    // What does not run is not changed, but its pod's group is.
    let new = two("{cpu: 300m, memory: 1Ki}", "{cpu: 200m, memory: 1Ki}");
    assert_eq!(shown(&old, &new, &running[1..]), " cpu 512 50000");
    let whole = |limits: &str| pod(&format!("{{resources: {{limits: {limits}, requests: {{cpu: 100m}}}}, containers: [{{name: a}}]}}"));
    let group = |change: &Move| (change.group.clone(), change.limits["cpu"]["quota"].clone());
    let moves = moves(&whole("{cpu: 400m}"), &given(&whole("{cpu: 200m}")), &running);
    let want = [("orch/burstable/podu".to_owned(), json!(40_000)), ("orch/burstable/podu/a-0".to_owned(), json!(40_000))];
    assert_eq!(moves.iter().map(group).collect::<Vec<_>>(), want);
}

#[test]
fn policies() {
    let container = |resources: &str| -> Container {
        let policy = "[{resourceName: memory, restartPolicy: RestartContainer}, {resourceName: cpu, restartPolicy: NotRequired}]";
        serde_yaml::from_str(&format!("{{name: a, resizePolicy: {policy}, resources: {resources}}}")).unwrap()
    };
    let given = given(&with("{requests: {cpu: 1, memory: 1}, limits: {memory: 2}}"));
    for (resources, due, restart) in [
        ("{requests: {cpu: 1, memory: 1}, limits: {memory: 2}}", false, false),
        ("{requests: {cpu: 2, memory: 1}, limits: {memory: 2}}", true, false),
        ("{requests: {cpu: 1, memory: 1}, limits: {memory: 3}}", true, true),
        ("{requests: {cpu: 2, memory: 2}, limits: {memory: 2}}", true, true),
    ] {
        let container = container(resources);
        assert_eq!((is_due(&container, &given), needs_restart(&container, &given)), (due, restart), "{resources}");
    }
}

#[test]
fn allotted_resources_take_the_place_of_wanted_ones() {
    let old = with("{requests: {cpu: 1}}");
    let new = with("{requests: {cpu: 2}}");
    let allotted = Allotted::of(&old);
    assert_eq!(allotted.on(&new).spec, old.spec);
    let written = serde_json::to_vec(&allotted).unwrap();
    assert_eq!(serde_json::from_slice::<Allotted>(&written).unwrap(), allotted);
}
