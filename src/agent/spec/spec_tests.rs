//! Environments, files and runtime configurations as data.
use std::collections::BTreeMap;

use super::env::{ServiceEnv, SourceKind, environment, expand, services};
use super::*;
use crate::agent::plan::tests::pod;

fn facts() -> Facts {
    Facts {
        node_name: "n".into(),
        node_ip: "192.0.2.1".parse().unwrap(),
        pod_ip: "10.0.0.5".parse().ok(),
        node_memory: 1 << 30,
        node_cpu: 2000,
        huge_pages: Vec::new(),
    }
}

fn image(config: &str) -> Image {
    let config = serde_yaml::from_str(config).unwrap();
    Image { id: "sha256:1".into(), repo_digests: vec![], repo_tags: vec![], layers: vec![], config, size: 1 }
}

#[test]
fn expansion() {
    let vars: BTreeMap<String, String> = [("A", "1"), ("B", "x y")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    let table = [
        ("$(A)", "1"),
        ("a$(B)c", "ax yc"),
        ("$$(A)", "$(A)"),
        ("$(C)", "$(C)"),
        ("$A", "$A"),
        ("$(A", "$(A"),
        ("$", "$"),
        ("$$", "$"),
        ("$($(A))", "$($(A))"),
    ];
    for (text, want) in table {
        assert_eq!(expand(text, &vars), want, "{text}");
    }
}

#[test]
fn environments() {
    let pod = pod(
        "{containers: [{name: a, resources: {limits: {cpu: 1500m}}, envFrom: [{prefix: P_, configMapRef: {name: c}}, {secretRef: {name: gone, optional: true}}],
          env: [{name: X, value: '$(P_k)-$(MISSING)-$(WEB_SERVICE_HOST)'}, {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}},
                {name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}, {name: MEM, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}},
                {name: S, valueFrom: {secretKeyRef: {name: s, key: k}}}, {name: O, valueFrom: {secretKeyRef: {name: s, key: no, optional: true}}}]}]}",
    );
    let data = |pairs: &[(&str, &str)]| Some(pairs.iter().map(|(k, v)| (k.to_string(), v.as_bytes().to_vec())).collect());
    let mut fetched: env::Fetched = BTreeMap::new();
    fetched.insert((SourceKind::ConfigMap, "c".into()), data(&[("k", "v")]));
    fetched.insert((SourceKind::Secret, "s".into()), data(&[("k", "secret")]));
    let container = &pod.spec.as_ref().unwrap().containers[0];
    let web =
        ServiceEnv { namespace: "d".into(), name: "web".into(), ip: "10.1.1.1".into(), ports: vec![("http".into(), "TCP".into(), 80)] };
    let links = services(std::slice::from_ref(&web), "d", true);
    assert!(links.contains(&("WEB_PORT_80_TCP".into(), "tcp://10.1.1.1:80".into())));
    assert!(services(&[web], "d", false).is_empty());
    let env = environment(&pod, container, &["PATH=/x".into(), "HOME=/h".into()], links, &fetched, &facts()).unwrap();
    for line in [
        "PATH=/x",
        "HOSTNAME=p",
        "P_k=v",
        "X=v-$(MISSING)-10.1.1.1",
        "IP=10.0.0.5",
        "CPU=2",
        "MEM=1024",
        "S=secret",
        "WEB_SERVICE_PORT_HTTP=80",
    ] {
        assert!(env.contains(&line.to_owned()), "{line} in {env:?}");
    }
    assert!(!env.iter().any(|l| l.starts_with("O=")));
    fetched.insert((SourceKind::ConfigMap, "c".into()), None);
    let error = environment(&pod, container, &[], vec![], &fetched, &facts()).unwrap_err();
    assert_eq!(error.to_string(), "configmap \"c\" not found");
}

#[test]
fn resolv_confs() {
    let node = "nameserver 192.0.2.53\nsearch corp.test\noptions rotate\n";
    let table = [
        ("{}", "search d.svc.cluster.local svc.cluster.local cluster.local corp.test\nnameserver 10.43.0.10\noptions ndots:5\n"),
        ("{dnsPolicy: Default}", "search corp.test\nnameserver 192.0.2.53\noptions rotate\n"),
        ("{hostNetwork: true}", "search corp.test\nnameserver 192.0.2.53\noptions rotate\n"),
        ("{dnsPolicy: None, dnsConfig: {nameservers: [1.2.3.4]}}", "nameserver 1.2.3.4\n"),
        (
            "{dnsConfig: {options: [{name: ndots, value: '2'}, {name: edns0}]}}",
            "search d.svc.cluster.local svc.cluster.local cluster.local corp.test\nnameserver 10.43.0.10\noptions ndots:2 edns0\n",
        ),
    ];
    for (spec, want) in table {
        let spec = spec.replacen('{', "{containers: [], ", 1);
        assert_eq!(files::resolv_conf(&pod(&spec), [10, 43, 0, 10].into(), "cluster.local", node), want, "{spec}");
    }
    let aliases = pod("{containers: [], subdomain: s, hostAliases: [{ip: 1.2.3.4, hostnames: [a, b]}]}");
    let hosts = files::hosts(&aliases, "10.0.0.5".parse().ok(), "cluster.local", None);
    assert!(hosts.contains("10.0.0.5\tp.s.d.svc.cluster.local\tp\n") && hosts.ends_with("1.2.3.4\ta\tb\n"), "{hosts}");
}

#[test]
fn users() {
    let (passwd, group) = ("root:x:0:0::/:/bin/sh\nweb:x:101:102::/:/bin/sh\n", "www:x:33:web\n");
    let table = [
        ("{}", "", Ok((0, 0, vec![0]))),
        ("{}", "web", Ok((101, 102, vec![33, 102]))),
        ("{}", "7:8", Ok((7, 8, vec![8]))),
        ("{}", "nobody", Err("unable to find user nobody: no matching entries in passwd file")),
        ("{runAsUser: 101, fsGroup: 5}", "", Ok((101, 102, vec![5, 33, 102]))),
        ("{runAsUser: 9, runAsGroup: 4, supplementalGroups: [6]}", "web", Ok((9, 4, vec![4, 6]))),
        ("{runAsNonRoot: true}", "", Err("container has runAsNonRoot and image will run as root (container: a)")),
        (
            "{runAsNonRoot: true}",
            "web",
            Err("container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root (container: a)"),
        ),
    ];
    for (context, image_user, want) in table {
        let pod = pod(&format!("{{securityContext: {context}, containers: [{{name: a}}]}}"));
        let wanted = user::wanted(&pod, &pod.spec.as_ref().unwrap().containers[0]);
        let got = user::resolve("a", &wanted, image_user, passwd, group).map(|u| (u.uid, u.gid, u.groups)).map_err(|e| e.to_string());
        assert_eq!(got, want.map_err(str::to_owned), "{context} {image_user}");
    }
}

fn built(container: &str, image_config: &str) -> serde_json::Value {
    let pod = pod(&format!("{{containers: [{container}]}}"));
    let image = image(image_config);
    let facts = facts();
    let bind = Bind { source: "/v".into(), target: "/data".into(), read_only: true, propagation: None };
    let parts = Parts {
        image: &image,
        env: vec!["A=1".into()],
        user: user::User::default(),
        binds: vec![bind],
        shm: "/shm".into(),
        id: "a-0",
        profile: None,
        facts: &facts,
    };
    let container = &pod.spec.as_ref().unwrap().containers[0];
    serde_json::to_value(spec(&pod, container, &parts).unwrap()).unwrap()
}

#[test]
fn specs() {
    let plain = built("{name: a}", "{Entrypoint: [/bin/e], Cmd: [c], WorkingDir: /w}");
    assert_eq!(plain["process"]["args"], json!(["/bin/e", "c"]));
    assert_eq!(plain["process"]["cwd"], "/w");
    assert_eq!(plain["linux"]["cgroupsPath"], "orch/besteffort/podu/a-0");
    assert_eq!(plain["process"]["oomScoreAdj"], 1000);
    assert_eq!(plain["process"]["capabilities"]["bounding"].as_array().unwrap().len(), CAPABILITIES.len());
    assert!(plain["linux"]["seccomp"]["defaultAction"] == "SCMP_ACT_ERRNO");
    let last = plain["mounts"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["destination"], &last["options"]), (&json!("/data"), &json!(["rbind", "rprivate", "ro"])));
    let args = built("{name: a, args: ['$(A)']}", "{Entrypoint: [/bin/e], Cmd: [c]}");
    assert_eq!(args["process"]["args"], json!(["/bin/e", "1"]));
    let command = built("{name: a, command: [/x]}", "{Entrypoint: [/bin/e], Cmd: [c]}");
    assert_eq!(command["process"]["args"], json!(["/x"]));
    let hard = built(
        "{name: a, command: [x], securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL], add: [NET_ADMIN]}, seccompProfile: {type: Unconfined}}}",
        "{}",
    );
    assert_eq!(hard["root"]["readonly"], true);
    assert_eq!(hard["process"]["noNewPrivileges"], true);
    assert_eq!(hard["process"]["capabilities"]["bounding"], json!(["CAP_NET_ADMIN"]));
    assert!(hard["linux"]["seccomp"].is_null());
    let free = built("{name: a, command: [x], securityContext: {privileged: true}}", "{}");
    assert_eq!(free["process"]["capabilities"]["bounding"].as_array().unwrap().len(), ALL_CAPABILITIES.len());
    assert!(free["linux"]["maskedPaths"].as_array().is_none_or(Vec::is_empty));
}
