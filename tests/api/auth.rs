//! Who and whether, over HTTP.

use super::support::{Server, server};

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Binds a new ClusterRole with these rules to a user.
async fn grant(api: &Server, user: &str, rules: &str) {
    let name = format!("{user}-{}", uuid());
    api.yes("POST", &format!("{RBAC}/clusterroles"), &format!("{{metadata: {{name: {name}}}, rules: {rules}}}")).await;
    let binding =
        format!("{{metadata: {{name: {name}}}, roleRef: {{kind: ClusterRole, name: {name}}}, subjects: [{{kind: User, name: {user}}}]}}");
    api.yes("POST", &format!("{RBAC}/clusterrolebindings"), &binding).await;
}

/// A word that no other grant has.
fn uuid() -> usize {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}

#[tokio::test]
async fn acting_as_another() {
    let api = server().await;
    let who = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
    let headers =
        [("impersonate-user", "bob"), ("impersonate-group", "g"), ("impersonate-extra-acme%2fteam", "red"), ("impersonate-uid", "7")];
    let denied = api.ask("ann", "POST", who, &headers, "{}").await;
    let want = r#"users "bob" is forbidden: User "ann" cannot impersonate resource "users" in API group "" at the cluster scope"#;
    assert_eq!((denied.code, denied.message()), (403, want));
    grant(&api, "ann", "[{apiGroups: [''], resources: [users], resourceNames: [bob], verbs: [impersonate]}]").await;
    let denied = api.ask("ann", "POST", who, &headers, "{}").await;
    let want = r#"groups "g" is forbidden: User "ann" cannot impersonate resource "groups" in API group "" at the cluster scope"#;
    assert_eq!((denied.code, denied.message()), (403, want));
    grant(&api, "ann", "[{apiGroups: [''], resources: [groups], verbs: [impersonate]}]").await;
    let denied = api.ask("ann", "POST", who, &headers, "{}").await;
    let want = "userextras.authentication.k8s.io \"red\" is forbidden: User \"ann\" cannot impersonate resource \"userextras/acme/team\" \
                in API group \"authentication.k8s.io\" at the cluster scope";
    assert_eq!((denied.code, denied.message()), (403, want));
    grant(&api, "ann", "[{apiGroups: [authentication.k8s.io], resources: [uids, userextras/acme/team], verbs: [impersonate]}]").await;
    // Granted, and then judged as bob, who may nothing.
    let denied = api.ask("ann", "POST", who, &headers, "{}").await;
    assert!(denied.message().contains(r#"User "bob" cannot create resource "selfsubjectreviews""#), "{}", denied.body);
    let acted = api.ask("admin", "POST", who, &[&headers[..], &[("impersonate-group", "system:masters")]].concat(), "{}").await;
    let info = &acted.body["status"]["userInfo"];
    assert_eq!((acted.code, &info["username"], &info["uid"]), (201, &"bob".into(), &"7".into()), "{}", acted.body);
    assert_eq!(info["groups"], serde_json::json!(["g", "system:masters", "system:authenticated"]));
    assert_eq!(info["extra"], serde_json::json!({"acme/team": ["red"]}));
    let orphan = api.ask("admin", "GET", CONFIGMAPS, &[("impersonate-group", "g")], "").await;
    assert_eq!(orphan.code, 500);
    assert!(orphan.message().contains("without impersonating a user"));
}

#[tokio::test]
async fn nobody_gives_what_he_has_not() {
    let api = server().await;
    let roles = format!("{RBAC}/namespaces/default/roles");
    let bindings = format!("{RBAC}/namespaces/default/rolebindings");
    grant(&api, "ann", "[{apiGroups: [rbac.authorization.k8s.io], resources: ['*'], verbs: [create, update, patch, get]}, {apiGroups: [''], resources: [pods], verbs: [get]}]").await;
    let role = |name: &str, verbs: &str| {
        format!("{{metadata: {{name: {name}}}, rules: [{{apiGroups: [''], resources: [pods], verbs: {verbs}}}]}}")
    };
    assert_eq!(api.ask("ann", "POST", &roles, &[], &role("mine", "[get]")).await.code, 201);
    let denied = api.ask("ann", "POST", &roles, &[], &role("more", "[get, list, delete]")).await;
    let want = "roles.rbac.authorization.k8s.io \"more\" is forbidden: user \"ann\" (groups=[\"system:authenticated\"]) is attempting to grant \
                RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\" \"delete\"]}";
    assert_eq!((denied.code, denied.message()), (403, want));
    let merge = [("content-type", "application/merge-patch+json")];
    let more = r#"{"rules":[{"apiGroups":["*"],"resources":["*"],"verbs":["*"]}]}"#;
    assert_eq!(api.ask("ann", "PATCH", &format!("{roles}/mine"), &merge, more).await.code, 403);
    // What only the collector touches may change.
    let owner = r#"{"metadata":{"finalizers":["a/b"]}}"#;
    api.yes("POST", &roles, &role("more", "[delete]")).await;
    assert_eq!(api.ask("ann", "PATCH", &format!("{roles}/more"), &merge, owner).await.code, 200);
    let aggregate = "{metadata: {name: agg}, aggregationRule: {clusterRoleSelectors: [{matchLabels: {a: b}}]}}";
    let denied = api.ask("ann", "POST", &format!("{RBAC}/clusterroles"), &[], aggregate).await;
    assert!(denied.message().ends_with("must have cluster-admin privileges to use the aggregationRule"), "{}", denied.body);
    // Bindings: what one holds, what one may bind, and what is not there.
    let bind = |name: &str, role: &str| {
        format!("{{metadata: {{name: {name}}}, roleRef: {{kind: Role, name: {role}}}, subjects: [{{kind: User, name: bob}}]}}")
    };
    assert_eq!(api.ask("ann", "POST", &bindings, &[], &bind("a", "mine")).await.code, 201);
    assert_eq!(api.ask("ann", "POST", &bindings, &[], &bind("b", "more")).await.code, 403);
    let missing = api.ask("ann", "POST", &bindings, &[], &bind("c", "none")).await;
    assert_eq!((missing.code, missing.message()), (404, "roles.rbac.authorization.k8s.io \"none\" not found"));
    grant(&api, "ann", "[{apiGroups: [rbac.authorization.k8s.io], resources: [roles], resourceNames: [more], verbs: [bind]}]").await;
    assert_eq!(api.ask("ann", "POST", &bindings, &[], &bind("b", "more")).await.code, 201);
    grant(&api, "ann", "[{apiGroups: [rbac.authorization.k8s.io], resources: [roles], verbs: [escalate]}]").await;
    assert_eq!(api.ask("ann", "PATCH", &format!("{roles}/mine"), &merge, more).await.code, 200);
    let other = r#"{"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"Role","name":"more"}}"#;
    assert!(api.ask("admin", "PATCH", &format!("{bindings}/a"), &merge, other).await.message().contains("cannot change roleRef"));
}
