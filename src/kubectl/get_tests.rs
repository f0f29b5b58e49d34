//! `get` against a table of answers.

use super::*;
use crate::kubectl::support;

const PODS: &str = "
{kind: Table, metadata: {resourceVersion: '7'}, columnDefinitions: [{name: Name, priority: 0}, {name: Ready, priority: 0}], rows: [
  {cells: [b10, 1/1], object: {metadata: {name: b10}}}, {cells: [b9, 0/1], object: {metadata: {name: b9}}}]}";

async fn run(line: &str, answers: &[(&str, &str)]) -> (Result<i32>, String, Vec<String>) {
    let (session, record) = support::session(answers);
    let command = <Get as Args>::augment_args(clap::Command::new("get"));
    let matches = command.get_matches_from(std::iter::once("get").chain(line.split(' ')));
    let get = <Get as clap::FromArgMatches>::from_arg_matches(&matches).unwrap();
    let result = get.run(&session).await;
    session.flush();
    (result, record.output(), record.requests())
}

const LIST: &str = "/api/v1/namespaces/default/pods";

#[tokio::test]
async fn tables() {
    let answers = [("GET /api/v1/namespaces/default/pods", PODS)];
    let (code, out, requests) = run("po -l a=b", &answers).await;
    assert_eq!((code.unwrap(), out.as_str()), (0, "NAME   READY\nb10    1/1\nb9     0/1\n"));
    assert_eq!(requests, [format!("GET {LIST}?labelSelector=a%3Db&limit=500")]);
    let (_, out, requests) = run("pods --sort-by=.metadata.name --no-headers", &answers).await;
    assert_eq!(out, "b9    0/1\nb10   1/1\n");
    assert_eq!(requests, [format!("GET {LIST}?includeObject=Object&limit=500")]);
}

#[tokio::test]
async fn objects() {
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: a, managedFields: [{}]}}";
    let answers = [
        ("GET /api/v1/namespaces/default/pods/a", pod),
        ("GET /api/v1/namespaces/default/pods", "{kind: PodList, items: [{metadata: {name: a}}]}"),
    ];
    for (line, expected) in [
        ("pod a -o yaml", "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n"),
        ("pod/a -o name", "pod/a\n"),
        ("pods -o name", "pod/a\n"),
        ("pods -o jsonpath={.items[0].kind}", "Pod"),
        ("pod a -o custom-columns=N:.metadata.name --no-headers", "a\n"),
    ] {
        let (code, out, _) = run(line, &answers).await;
        assert_eq!((code.unwrap(), out.as_str()), (0, expected), "{line}");
    }
}

#[tokio::test]
async fn missing_objects() {
    let answers = [("GET /api/v1/namespaces/default/pods/b", "{apiVersion: v1, kind: Pod, metadata: {name: b}}")];
    let (code, out, _) = run("pods a b -o name", &answers).await;
    assert_eq!((code.unwrap(), out.as_str()), (1, "pod/b\n"));
    let (code, out, _) = run("pod a --ignore-not-found", &answers).await;
    assert_eq!((code.unwrap(), out.as_str()), (0, ""));
    let (code, _, _) = run("nonsense", &answers).await;
    assert_eq!(code.unwrap_err().to_string(), "error: the server doesn't have a resource type \"nonsense\"");
    let (code, _, _) = run("pod a -l x=y", &answers).await;
    assert!(code.is_err());
    let (code, _, _) = run("pods -l x=(", &answers).await;
    assert!(code.is_err());
}

#[test]
fn sorting() {
    let value = |text: &str| Value::from(text);
    for (a, b) in [("a9", "a10"), ("a", "b"), ("500m", "1"), ("1Gi", "2Gi"), ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"), ("a", "aa")]
    {
        assert_eq!(order(Some(&value(a)), Some(&value(b))), Ordering::Less, "{a} {b}");
    }
    assert_eq!(order(None, Some(&value("a"))), Ordering::Less);
    assert_eq!(order(Some(&Value::from(2)), Some(&Value::from(10))), Ordering::Less);
}
