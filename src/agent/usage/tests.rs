//! Samples as data, and what comes of them.
use super::*;

fn stats(cpu_nanos: u64, working_set_bytes: u64) -> Stats {
    Stats { cpu_nanos, working_set_bytes, usage_bytes: working_set_bytes + 5, ..Stats::default() }
}

fn container(id: &str, started: i64, cpu: u64) -> ContainerSample {
    let name = id.split('-').next().unwrap().to_owned();
    ContainerSample { name, id: id.into(), started: Timestamp::from_second(started).unwrap(), stats: stats(cpu, 10) }
}

fn pod(uid: &str, cpu: u64, containers: Vec<ContainerSample>) -> PodSample {
    let pod = format!("{{metadata: {{name: p, namespace: n, uid: {uid}}}}}");
    PodSample { pod: Arc::new(serde_yaml::from_str(&pod).unwrap()), stats: stats(cpu, 30), containers }
}

/// Two seconds, 1000 and 1002, in which: `a` used one core, `b` was restarted at 1001 and used a tenth since, and `c` came at 1000.
fn pair() -> Pair {
    let now = Instant::now();
    let machine = |cpu_nanos| Machine { cpu_nanos, total: 100, used: 60, inactive_file: 10, ..Machine::default() };
    let before = Sample {
        at: Timestamp::from_second(1000).unwrap(),
        taken: now,
        node: machine(5_000_000_000),
        pods: vec![pod("u", 9_000_000_000, vec![container("a-0", 1, 7_000_000_000), container("b-0", 1, 2_000_000_000)])],
    };
    let after = Sample {
        at: Timestamp::from_second(1002).unwrap(),
        taken: now + Duration::from_secs(2),
        node: machine(8_000_000_000),
        pods: vec![
            pod("u", 11_100_000_000, vec![container("a-0", 1, 9_000_000_000), container("b-1", 1001, 100_000_000)]),
            pod("v", 500_000_000, vec![container("c-0", 1000, 500_000_000)]),
        ],
    };
    Pair(Arc::new(before), Arc::new(after))
}

#[test]
fn rates_are_of_the_time_between() {
    let usage = rates(&pair());
    assert_eq!((usage.window, usage.node), (2000, Amount { nano_cores: 1_500_000_000, working_set: 50 }));
    let all =
        usage.pods.iter().flat_map(|pod| pod.containers.iter().map(|one| (pod.uid.as_str(), one.name.as_str(), one.usage.nano_cores)));
    assert_eq!(all.collect::<Vec<_>>(), [("u", "a", 1_000_000_000), ("u", "b", 100_000_000), ("v", "c", 250_000_000)]);
}

#[test]
fn told_as_upstream_tells_it() {
    let text = tell::resource(&pair().1);
    for line in [
        "# TYPE container_cpu_usage_seconds_total counter",
        "container_cpu_usage_seconds_total{container=\"a\",namespace=\"n\",pod=\"p\"} 9 1002000",
        "container_memory_working_set_bytes{container=\"a\",namespace=\"n\",pod=\"p\"} 10 1002000",
        "container_start_time_seconds{container=\"b\",namespace=\"n\",pod=\"p\"} 1001",
        "node_cpu_usage_seconds_total 8 1002000",
        "node_memory_working_set_bytes 50 1002000",
        "pod_cpu_usage_seconds_total{namespace=\"n\",pod=\"p\"} 11.1 1002000",
        "resource_scrape_error 0",
    ] {
        assert!(text.lines().any(|own| own == line), "{line} in\n{text}");
    }
    let summary = tell::summary(&pair(), "k");
    assert_eq!((&summary["node"]["nodeName"], &summary["node"]["memory"]["availableBytes"]), (&"k".into(), &50.into()));
    let first = &summary["pods"][0];
    assert_eq!((&first["podRef"]["uid"], &first["cpu"]["usageNanoCores"]), (&"u".into(), &1_050_000_000.into()));
    assert_eq!(
        first["containers"][0]["memory"],
        serde_json::json!({"time": "1970-01-01T00:16:42Z", "usageBytes": 15, "workingSetBytes": 10,
        "rssBytes": 0, "pageFaults": 0, "majorPageFaults": 0})
    );
}

#[test]
fn nothing_is_measured_more_often_than_needed() {
    let seconds = |s: Option<u64>| s.map(Duration::from_secs);
    for (last, before, want) in [
        (None, None, Next::Two),
        (Some(0), None, Next::Two),
        (Some(30), None, Next::One),
        (Some(2), None, Next::One),
        (Some(2), Some(60), Next::Keep),
        (Some(10), Some(60), Next::One),
        (Some(2), Some(200), Next::One),
        (Some(300), Some(400), Next::Two),
    ] {
        assert_eq!(next(seconds(last), seconds(before)), want, "{last:?} {before:?}");
    }
}
