//! Bodies of YAML, read and written as upstream does.

use serde_json::json;

use crate::support::server;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test]
async fn numbers_and_truths_of_yaml_1_1() {
    let api = server().await;
    api.yes("POST", "/api/v1/namespaces/default/serviceaccounts", "metadata: {name: default}").await;
    let pod = "
metadata: {name: p}
spec:
  automountServiceAccountToken: no
  hostNetwork: off
  containers: &all
  - name: c
    image: i
    stdin: yes
    resources: &few {requests: {cpu: 0.5}}
  initContainers:
  - <<: {name: base, image: i}
    name: first
    resources: *few
  volumes:
  - {name: v, configMap: {name: m, defaultMode: 0400, items: [{key: k, path: p, mode: 0o640}]}}
  - {name: e, emptyDir: {sizeLimit: 1_000}}
";
    let made = api.yes("POST", PODS, pod).await;
    assert_eq!(made["spec"]["volumes"][0]["configMap"]["defaultMode"], 0o400);
    assert_eq!(made["spec"]["volumes"][0]["configMap"]["items"][0]["mode"], 0o640);
    assert_eq!((&made["spec"]["containers"][0]["stdin"], &made["spec"]["automountServiceAccountToken"]), (&json!(true), &json!(false)));
    assert_eq!(made["spec"]["initContainers"][0]["name"], "first");
    let asked = |list: &str| made["spec"][list][0]["resources"]["requests"]["cpu"].clone();
    assert!(asked("containers").is_string() && asked("containers") == asked("initContainers"), "{made}");
    // What is text must be written as text, as upstream's users know.
    let refused = api.no(400, "POST", MAPS, "{metadata: {name: a}, data: {answer: yes}}").await;
    assert!(refused.contains("data"), "{refused}");
    api.yes("POST", MAPS, "{metadata: {name: a}, data: {answer: 'yes', mode: '0400', 'on': \"1_000\"}}").await;
}

#[tokio::test]
async fn what_is_written_says_the_same_to_every_reader() {
    let api = server().await;
    let data = json!({"answer": "yes", "mode": "0400", "on": "1_000", "date": "2026-01-01", "script": "#!/bin/sh\nexit 0\n", "empty": "", "star": "*"});
    let body = json!({"metadata": {"name": "a"}, "data": data}).to_string();
    api.ask("admin", "POST", MAPS, &[("content-type", "application/json")], &body).await;
    let answer = api.ask("admin", "GET", &format!("{MAPS}/a"), &[("accept", "application/yaml")], "").await;
    let text = answer.body.as_str().unwrap();
    for line in [
        "  answer: \"yes\"\n",
        "  mode: \"0400\"\n",
        "  \"on\": \"1_000\"\n",
        "  date: \"2026-01-01\"\n",
        "  script: |\n    #!/bin/sh\n    exit 0\n",
    ] {
        assert!(text.contains(line), "{line:?} in\n{text}");
    }
    let same = api.ask("admin", "PUT", &format!("{MAPS}/a"), &[("content-type", "application/yaml")], text).await;
    assert_eq!((same.code, &same.body["data"]), (200, &data), "{}", same.body);
    assert!(text.contains(&format!("resourceVersion: {}", same.body["metadata"]["resourceVersion"])), "nothing changed");
}

#[tokio::test]
async fn what_is_wrong_is_told_with_its_line() {
    let api = server().await;
    let twice = "metadata: {name: a}\ndata:\n  k: a\n  k: b\ndta: {}\n";
    let refused = api.no(400, "POST", &format!("{MAPS}?fieldValidation=Strict"), twice).await;
    let want = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: error converting YAML to JSON: yaml: \
                unmarshal errors:\n  line 4: key \"k\" already set in map, unknown field \"dta\"";
    assert_eq!(refused, want);
    let warned = api.ask("admin", "POST", MAPS, &[], twice).await;
    let warnings: Vec<_> = warned.headers.get_all("warning").iter().map(|one| one.to_str().unwrap()).collect();
    assert!(warnings.len() == 2 && warnings[0].contains("line 4: key \\\"k\\\" already set in map"), "{warnings:?}");
    assert_eq!(warned.body["data"]["k"], "b");
    let table = [
        ("metadata: {name: b}\ndata: {a: b\n", "error converting YAML to JSON: yaml: line "),
        ("metadata:\n  name: b\n data: {}\n", "error converting YAML to JSON: yaml: line 3: "),
        ("metadata: &a {name: b, labels: *a}", "error converting YAML to JSON: yaml: anchor value contains itself"),
        ("data: {a: .nan}", "error converting YAML to JSON: json: unsupported value: NaN"),
    ];
    for (body, want) in table {
        let refused = api.no(400, "POST", MAPS, body).await;
        assert!(refused.contains(want), "{body:?}: {refused}");
    }
    let applied = api
        .ask("admin", "PATCH", &format!("{MAPS}/c?fieldManager=m"), &[("content-type", "application/apply-patch+yaml")], "a: b: c")
        .await;
    assert_eq!(
        applied.message(),
        "error decoding YAML: error converting YAML to JSON: yaml: mapping values are not allowed in this context"
    );
}
