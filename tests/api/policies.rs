//! Admission policies over HTTP: what they refuse, warn of and change, and what may be written in them.

use serde_json::json;

use crate::support::{Answer, Server, server};

const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const REGISTRATION: &str = "/apis/admissionregistration.k8s.io/v1";

/// A rule for these operations on core/v1 ConfigMaps.
fn configmaps(operations: &str) -> String {
    format!("resourceRules: [{{operations: [{operations}], apiGroups: [''], apiVersions: [v1], resources: [configmaps]}}]")
}

/// A validating policy with this spec below its constraints, and a binding with `more` fields.
async fn validating(api: &Server, name: &str, constraints: &str, spec: &str, more: &str) {
    let policy = format!("{{metadata: {{name: {name}}}, spec: {{matchConstraints: {{{constraints}}}, {spec}}}}}");
    api.yes("POST", &format!("{REGISTRATION}/validatingadmissionpolicies"), &policy).await;
    let actions = if more.contains("validationActions") { "" } else { ", validationActions: [Deny]" };
    let binding = format!("{{metadata: {{name: {name}-binding}}, spec: {{policyName: {name}{actions}{more}}}}}");
    api.yes("POST", &format!("{REGISTRATION}/validatingadmissionpolicybindings"), &binding).await;
}

async fn mutating(api: &Server, name: &str, constraints: &str, spec: &str) {
    let again = if spec.contains("reinvocationPolicy") { "" } else { ", reinvocationPolicy: Never" };
    let policy = format!("{{metadata: {{name: {name}}}, spec: {{matchConstraints: {{{constraints}}}, {spec}{again}}}}}");
    api.yes("POST", &format!("{REGISTRATION}/mutatingadmissionpolicies"), &policy).await;
    let binding = format!("{{metadata: {{name: {name}-binding}}, spec: {{policyName: {name}}}}}");
    api.yes("POST", &format!("{REGISTRATION}/mutatingadmissionpolicybindings"), &binding).await;
}

async fn create(api: &Server, name: &str, data: &str) -> Answer {
    api.ask("admin", "POST", CONFIGMAPS, &[], &format!("{{metadata: {{name: {name}}}, data: {{{data}}}}}")).await
}

fn apply(expression: &str) -> String {
    format!("{{patchType: ApplyConfiguration, applyConfiguration: {{expression: {}}}}}", json!(expression))
}

fn json_patch(expression: &str) -> String {
    format!("{{patchType: JSONPatch, jsonPatch: {{expression: {}}}}}", json!(expression))
}

fn deployment(name: &str, replicas: u32) -> String {
    format!(
        "{{metadata: {{name: {name}}}, spec: {{replicas: {replicas}, selector: {{matchLabels: {{app: a}}}}, template: {{metadata: {{labels: {{app: a}}}},
          spec: {{containers: [{{name: c, image: i}}]}}}}}}}}"
    )
}

#[tokio::test]
async fn a_failed_validation_refuses() {
    let api = server().await;
    let rule = "resourceRules: [{operations: [CREATE, UPDATE], apiGroups: [apps], apiVersions: [v1], resources: [deployments]}]";
    let validation = "validations: [{expression: 'object.spec.replicas > 1', messageExpression: \"'wants replicas > 1, got ' + string(object.spec.replicas)\"}]";
    validating(&api, "p.example.com", rule, validation, "").await;
    let refused = api.ask("admin", "POST", DEPLOYMENTS, &[], &deployment("one", 1)).await;
    let message =
        "ValidatingAdmissionPolicy 'p.example.com' with binding 'p.example.com-binding' denied request: wants replicas > 1, got 1";
    assert_eq!((refused.code, refused.message()), (422, format!("deployments.apps \"one\" is forbidden: {message}").as_str()));
    assert_eq!((&refused.body["reason"], &refused.body["details"]["causes"][0]["message"]), (&json!("Invalid"), &json!(message)));
    api.yes("POST", DEPLOYMENTS, &deployment("two", 2)).await;
    let scaled = api.ask("admin", "PUT", &format!("{DEPLOYMENTS}/two"), &[], &deployment("two", 1)).await;
    assert_eq!(scaled.code, 422, "{}", scaled.body);
    create(&api, "other", "k: v").await;
    // Without its binding, it is without effect.
    api.yes("DELETE", &format!("{REGISTRATION}/validatingadmissionpolicybindings/p.example.com-binding"), "").await;
    api.yes("POST", DEPLOYMENTS, &deployment("one", 1)).await;
}

#[tokio::test]
async fn what_a_failure_says_and_does() {
    let api = server().await;
    let all = configmaps("CREATE");
    let denied = |answer: &Answer, code: u16, said: &str| {
        assert_eq!(answer.code, code, "{}", answer.body);
        assert!(answer.message().ends_with(said), "{}", answer.message());
    };
    for (index, (validation, actions, code, said)) in [
        ("{expression: 'false'}", "Deny", 422, "denied request: failed expression: false"),
        ("{expression: 'false', message: plain}", "Deny", 422, "denied request: plain"),
        ("{expression: 'false', message: plain, reason: Forbidden}", "Deny", 403, "denied request: plain"),
        ("{expression: 'false', reason: Unauthorized}", "Deny, Audit", 401, "denied request: failed expression: false"),
        ("{expression: 'false', reason: RequestEntityTooLarge}", "Deny", 413, "denied request: failed expression: false"),
        ("{expression: 'false', message: plain, messageExpression: \"'a\\\\nb'\"}", "Deny", 422, "denied request: plain"),
        (
            "{expression: 'object.nope == 1'}",
            "Deny",
            422,
            "denied request: expression 'object.nope == 1' resulted in error: no such key: nope",
        ),
        ("{expression: 'false'}", "Audit", 201, ""),
        (
            "{expression: 'request.operation == \"CREATE\" && request.name == \"c\" && request.userInfo.username == \"admin\"'}",
            "Deny",
            201,
            "",
        ),
        ("{expression: 'oldObject == null && request.namespace == namespaceObject.metadata.name'}", "Deny", 201, ""),
        ("{expression: 'object.data.all(k, v, v.size() < 5)'}", "Deny", 201, ""),
        ("{expression: \"authorizer.group('').resource('secrets').namespace('x').check('get').allowed()\"}", "Deny", 201, ""),
    ]
    .into_iter()
    .enumerate()
    {
        let more = format!(", validationActions: [{actions}]");
        validating(&api, "p", &all, &format!("validations: [{validation}]"), &more).await;
        let answer = create(&api, "c", "k: v").await;
        if code == 201 {
            assert_eq!(answer.code, 201, "{index} {}", answer.body)
        } else {
            denied(&answer, code, said)
        }
        for object in ["validatingadmissionpolicies/p", "validatingadmissionpolicybindings/p-binding"] {
            api.yes("DELETE", &format!("{REGISTRATION}/{object}"), "").await;
        }
        api.ask("admin", "DELETE", &format!("{CONFIGMAPS}/c"), &[], "").await;
    }
}

#[tokio::test]
async fn warnings_go_to_the_client() {
    let api = server().await;
    validating(&api, "p", &configmaps("CREATE"), "validations: [{expression: 'false', message: mind}]", ", validationActions: [Warn]")
        .await;
    let answer = create(&api, "a", "k: v").await;
    assert_eq!(answer.code, 201);
    let warning = answer.headers["warning"].to_str().unwrap();
    assert!(warning.contains("Validation failed for ValidatingAdmissionPolicy 'p' with binding 'p-binding': mind"), "{warning}");
}

#[tokio::test]
async fn failures_count_as_the_policy_says() {
    let api = server().await;
    let spec = "failurePolicy: Ignore, validations: [{expression: 'object.nope == 1'}], auditAnnotations: [{key: k, valueExpression: 'string(object.nope)'}]";
    validating(&api, "p", &configmaps("CREATE"), spec, "").await;
    assert_eq!(create(&api, "a", "k: v").await.code, 201);
}

#[tokio::test]
async fn conditions_and_variables() {
    let api = server().await;
    let spec = "matchConditions: [{name: not-exempt, expression: \"!('exempt' in object.data)\"}],
        variables: [{name: size, expression: 'object.data.size()'}, {name: big, expression: 'variables.size > 1'}],
        validations: [{expression: '!variables.big', messageExpression: \"'has ' + string(variables.size)\"}]";
    validating(&api, "p", &configmaps("CREATE"), spec, "").await;
    assert_eq!(create(&api, "a", "k: v").await.code, 201);
    let refused = create(&api, "b", "k: v, l: w").await;
    assert!(refused.message().ends_with("denied request: has 2"), "{}", refused.message());
    assert_eq!(create(&api, "c", "k: v, exempt: w").await.code, 201);
}

#[tokio::test]
async fn parameters() {
    let api = server().await;
    let spec = "paramKind: {apiVersion: v1, kind: ConfigMap}, validations: [{expression: 'object.data.n == params.data.n', messageExpression: \"'wants ' + params.data.n\"}],
        matchConditions: [{name: not-a-param, expression: \"!object.metadata.name.startsWith('param')\"}]";
    validating(&api, "p", &configmaps("CREATE"), spec, ", paramRef: {name: param}").await;
    let missing = create(&api, "a", "'n': '1'").await;
    let said = "denied request: failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
    assert!(missing.message().ends_with(said), "{}", missing.message());
    let binding = format!("{REGISTRATION}/validatingadmissionpolicybindings/p-binding");
    let patch = |body: &'static str| api.ask("admin", "PATCH", &binding, &[("content-type", "application/merge-patch+json")], body);
    assert_eq!(patch(r#"{"spec": {"paramRef": {"parameterNotFoundAction": "Allow"}}}"#).await.code, 200);
    assert_eq!(create(&api, "param", "'n': '1'").await.code, 201);
    assert_eq!(create(&api, "a", "'n': '1'").await.code, 201);
    assert!(create(&api, "b", "'n': '2'").await.message().ends_with("denied request: wants 1"));
    // Each of several must be satisfied.
    api.yes("POST", CONFIGMAPS, "{metadata: {name: param2, labels: {use: it}}, data: {'n': '2'}}").await;
    let selected = r#"{"spec": {"paramRef": {"name": null, "selector": {"matchLabels": {"use": "it"}}}}}"#;
    assert_eq!(patch(selected).await.code, 200);
    assert_eq!(create(&api, "b", "'n': '2'").await.code, 201);
    assert!(create(&api, "c", "'n': '1'").await.message().ends_with("denied request: wants 2"));
}

#[tokio::test]
async fn deletions_and_subresources() {
    let api = server().await;
    validating(&api, "d", &configmaps("DELETE"), "validations: [{expression: \"object == null && oldObject.data.k != 'keep'\"}]", "").await;
    create(&api, "keep", "k: keep").await;
    create(&api, "gone", "k: v").await;
    assert_eq!(api.ask("admin", "DELETE", &format!("{CONFIGMAPS}/keep"), &[], "").await.code, 422);
    api.yes("DELETE", &format!("{CONFIGMAPS}/gone"), "").await;
    let scale = "resourceRules: [{operations: [UPDATE], apiGroups: [apps], apiVersions: [v1], resources: [deployments/scale]}]";
    validating(&api, "s", scale, "validations: [{expression: 'object.spec.replicas < 5 && request.subResource == \"scale\"'}]", "").await;
    api.yes("POST", DEPLOYMENTS, &deployment("d", 2)).await;
    let scaled = |replicas: u32| {
        let body = format!("{{\"spec\": {{\"replicas\": {replicas}}}}}");
        let api = &api;
        async move {
            api.ask("admin", "PATCH", &format!("{DEPLOYMENTS}/d/scale"), &[("content-type", "application/merge-patch+json")], &body)
                .await
                .code
        }
    };
    assert_eq!((scaled(9).await, scaled(4).await), (422, 200));
}

#[tokio::test]
async fn selectors_and_exclusions() {
    let api = server().await;
    api.yes("POST", "/api/v1/namespaces", "metadata: {name: free, labels: {policies: 'off'}}").await;
    let constraints = format!(
        "{}, excludeResourceRules: [{{operations: ['*'], apiGroups: [''], apiVersions: [v1], resources: [configmaps], resourceNames: [spared]}}]",
        configmaps("'*'")
    );
    let more = ", matchResources: {namespaceSelector: {matchExpressions: [{key: policies, operator: NotIn, values: ['off']}]}}";
    validating(&api, "p", &constraints, "validations: [{expression: 'false'}]", more).await;
    assert_eq!(create(&api, "a", "k: v").await.code, 422);
    assert_eq!(create(&api, "spared", "k: v").await.code, 201);
    api.yes("POST", "/api/v1/namespaces/free/configmaps", "{metadata: {name: a}}").await;
}

#[tokio::test]
async fn policies_change_objects() {
    let api = server().await;
    let first = apply("Object{metadata: Object.metadata{labels: Object.metadata.labels{team: 'a'}}, data: {'added': 'yes'}}");
    let second = json_patch(
        "[JSONPatch{op: 'test', path: '/metadata/labels/team', value: 'a'}, JSONPatch{op: 'add', path: '/data/' + jsonpatch.escapeKey('x.y'), value: object.data.added}]",
    );
    mutating(&api, "m", &configmaps("CREATE"), &format!("mutations: [{first}, {second}]")).await;
    let made = create(&api, "a", "k: v").await;
    assert_eq!(made.code, 201, "{}", made.body);
    assert_eq!(made.body["data"], json!({"k": "v", "added": "yes", "x.y": "yes"}));
    assert_eq!(made.body["metadata"]["labels"], json!({"team": "a"}));
    // Deployments are merged by their lists' keys.
    let rule = "resourceRules: [{operations: [CREATE], apiGroups: [apps], apiVersions: [v1], resources: [deployments]}]";
    let sidecar = apply(
        "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: [Object.spec.template.spec.containers{name: 'side', image: 's'}]}}}}",
    );
    mutating(&api, "d", rule, &format!("mutations: [{sidecar}]")).await;
    let made = api.yes("POST", DEPLOYMENTS, &deployment("d", 1)).await;
    let containers = made["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    assert_eq!(containers.iter().map(|c| c["name"].as_str().unwrap()).collect::<Vec<_>>(), ["c", "side"]);
    assert_eq!(containers[1]["imagePullPolicy"], "Always", "what was added has its defaults");
}

#[tokio::test]
async fn earlier_policies_are_asked_again_after_a_change() {
    let api = server().await;
    let count = json_patch("[JSONPatch{op: 'add', path: '/data/' + (has(object.data.first) ? 'second' : 'first'), value: 'x'}]");
    mutating(&api, "a", &configmaps("CREATE"), &format!("mutations: [{count}], reinvocationPolicy: IfNeeded")).await;
    mutating(
        &api,
        "b",
        &configmaps("CREATE"),
        &format!("mutations: [{}]", json_patch("[JSONPatch{op: 'add', path: '/data/b', value: 'x'}]")),
    )
    .await;
    let made = create(&api, "c", "k: v").await;
    assert_eq!(made.body["data"], json!({"k": "v", "first": "x", "second": "x", "b": "x"}), "{}", made.body);
}

#[tokio::test]
async fn mutations_that_can_not_be_refuse() {
    let api = server().await;
    let rule = "resourceRules: [{operations: [CREATE], apiGroups: [apps], apiVersions: [v1], resources: [deployments]}]";
    for (mutation, said) in [
        (
            apply("Object{spec: Object.spec{selector: Object.spec.selector{matchLabels: Object.spec.selector.matchLabels{a: 'b'}}}}"),
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.selector",
        ),
        (
            apply("Object{spec: Object.wrong{replicas: 1}}"),
            "type mismatch: unexpected type name \"Object.wrong\", expected \"Object.spec\", which matches field name path from root Object type",
        ),
        (apply("Object{spec: Object.spec{replicas: object.nope}}"), "resulted in error: no such key: nope"),
        (json_patch("[JSONPatch{op: 'remove', path: '/nope'}]"), "JSONPath: "),
    ] {
        mutating(&api, "m", rule, &format!("mutations: [{mutation}]")).await;
        let refused = api.ask("admin", "POST", DEPLOYMENTS, &[], &deployment("d", 1)).await;
        assert_eq!((refused.code, &refused.body["reason"]), (403, &json!("Invalid")), "{}", refused.body);
        assert!(refused.message().starts_with("policy 'm' with binding 'm-binding' denied request: "), "{}", refused.message());
        assert!(refused.message().contains(said), "{}", refused.message());
        for object in ["mutatingadmissionpolicies/m", "mutatingadmissionpolicybindings/m-binding"] {
            api.yes("DELETE", &format!("{REGISTRATION}/{object}"), "").await;
        }
    }
}

#[tokio::test]
async fn nonsense_is_refused_when_it_is_written() {
    let api = server().await;
    let policy = format!(
        "{{metadata: {{name: p}}, spec: {{matchConstraints: {{{}}}, validations: [{{expression: 'object.spec.replicas >'}}]}}}}",
        configmaps("CREATE")
    );
    let message = api.no(422, "POST", &format!("{REGISTRATION}/validatingadmissionpolicies"), &policy).await;
    let start = "ValidatingAdmissionPolicy.admissionregistration.k8s.io \"p\" is invalid: spec.validations[0].expression: Invalid value: \
                 \"object.spec.replicas >\": compilation failed: ERROR: <input>:1:23: Syntax error: mismatched input '<EOF>'";
    assert!(message.starts_with(start), "{message}");
}

#[tokio::test]
async fn no_policy_is_asked_about_policies() {
    let api = server().await;
    let everything = "resourceRules: [{operations: ['*'], apiGroups: ['*'], apiVersions: ['*'], resources: ['*/*']}]";
    validating(&api, "p", everything, "validations: [{expression: 'false'}]", "").await;
    assert_eq!(create(&api, "a", "k: v").await.code, 422);
    api.yes("DELETE", &format!("{REGISTRATION}/validatingadmissionpolicies/p"), "").await;
    assert_eq!(create(&api, "a", "k: v").await.code, 201);
}

#[tokio::test]
async fn connections_are_judged() {
    let api = server().await;
    api.yes("POST", "/api/v1/namespaces/default/serviceaccounts", "{metadata: {name: default}}").await;
    api.yes("POST", "/api/v1/namespaces/default/pods", "{metadata: {name: p}, spec: {containers: [{name: c, image: i}]}}").await;
    let rule = "resourceRules: [{operations: [CONNECT], apiGroups: [''], apiVersions: [v1], resources: [pods/exec]}]";
    validating(&api, "p", rule, "validations: [{expression: \"!('sh' in object.command)\", message: no shell}]", "").await;
    let refused = api.no(422, "POST", "/api/v1/namespaces/default/pods/p/exec?command=sh&container=c", "").await;
    assert!(refused.ends_with("denied request: no shell"), "{refused}");
}
