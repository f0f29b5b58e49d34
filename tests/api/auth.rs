//! Who and whether, over HTTP.

use std::sync::Arc;

use axum::body::Body;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::Response;
use orch::server::auth::authn::Ways;
use orch::server::auth::authn::files::Watched;
use orch::server::auth::authn::front_proxy::FrontProxy;
use orch::server::auth::authn::oidc::{Oidc, Settings};
use orch::server::auth::authn::passwords::{Passwords, Users};
use orch::server::auth::authn::static_tokens::StaticTokens;
use orch::server::outbound::Outbound;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::json;

use super::peer;
use super::support::{Server, server, server_with_ways};

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

const WHO: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";

/// Lets everybody ask who they are.
async fn basic_user(api: &Server) {
    let role = "{metadata: {name: basic}, rules: [{apiGroups: [authentication.k8s.io], resources: [selfsubjectreviews], verbs: [create]}]}";
    api.yes("POST", &format!("{RBAC}/clusterroles"), role).await;
    let binding =
        "{metadata: {name: basic}, roleRef: {kind: ClusterRole, name: basic}, subjects: [{kind: Group, name: 'system:authenticated'}]}";
    api.yes("POST", &format!("{RBAC}/clusterrolebindings"), binding).await;
}

/// Who the server thinks sends these headers: the user's name and groups, or the refusal's code.
async fn who(api: &Server, user: &str, headers: &[(&str, &str)]) -> Result<(String, Vec<String>), u16> {
    let answer = api.ask(user, "POST", WHO, headers, "{}").await;
    if answer.code != 201 {
        return Err(answer.code);
    }
    let info = &answer.body["status"]["userInfo"];
    Ok((info["username"].as_str().unwrap().to_owned(), serde_json::from_value(info["groups"].clone()).unwrap()))
}

fn known(name: &str, groups: &[&str]) -> Result<(String, Vec<String>), u16> {
    Ok((name.to_owned(), groups.iter().map(|group| (*group).to_owned()).collect()))
}

#[tokio::test]
async fn files_and_front_proxies_say_who() {
    let dir = tempfile::tempdir().unwrap();
    let (tokens, users) = (dir.path().join("tokens"), dir.path().join("users"));
    std::fs::write(&tokens, "s3cret,bob,7,\"a,b\"\n").unwrap();
    std::fs::write(&users, format!("ann:{}::devs", bcrypt::hash("pass", 4).unwrap())).unwrap();
    let one = |name: &str| vec![name.to_owned()];
    let api = server_with_ways(|_| Ways {
        tokens: Some(Arc::new(Watched::open(&tokens, StaticTokens::parse).unwrap())),
        passwords: Some(Arc::new(Passwords::new(Arc::new(Watched::open(&users, Users::parse).unwrap())))),
        front_proxy: Some(FrontProxy {
            allowed_names: one("front"),
            username_headers: one("x-remote-user"),
            uid_headers: one("x-remote-uid"),
            group_headers: one("x-remote-group"),
            extra_prefixes: one("x-remote-extra-"),
        }),
        ..Ways::default()
    })
    .await;
    basic_user(&api).await;
    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    let header = async |value: &str| who(&api, "", &[("authorization", value)]).await;
    assert_eq!(header("Bearer s3cret").await, known("bob", &["a", "b", "system:authenticated"]));
    assert_eq!(header("Bearer other").await, Err(401));
    assert_eq!(header(&basic("ann:pass")).await, known("ann", &["devs", "system:authenticated"]));
    assert_eq!(header(&basic("ann:wrong")).await, Err(401));
    assert_eq!(header(&basic("eve:pass")).await, Err(401));
    let remote = [("x-remote-user", "eve"), ("x-remote-group", "g")];
    assert_eq!(who(&api, "proxy:front", &remote).await, known("eve", &["g", "system:authenticated"]));
    assert_eq!(who(&api, "proxy:other", &remote).await, Err(401), "it is not on the list");
    assert_eq!(who(&api, "", &remote).await, Err(401), "headers alone are nothing");
    assert_eq!(who(&api, "ann", &remote).await, known("ann", &["system:authenticated"]), "nor are they with another certificate");
    // The token file is replaced: the old token is gone, the new one counts.
    std::fs::write(dir.path().join("new"), "fresh,eve,8\n").unwrap();
    std::fs::rename(dir.path().join("new"), &tokens).unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while header("Bearer fresh").await.is_err() {
        assert!(std::time::Instant::now() < deadline, "the file was not read again");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(header("Bearer s3cret").await, Err(401));
}

#[tokio::test]
async fn bootstrap_tokens_say_who() {
    let api = server().await;
    basic_user(&api).await;
    api.yes("POST", "/api/v1/namespaces", "metadata: {name: kube-system}").await;
    let secret = "{metadata: {name: bootstrap-token-abcdef}, type: bootstrap.kubernetes.io/token, stringData: {token-id: abcdef,
        token-secret: 0123456789abcdef, usage-bootstrap-authentication: 'true', auth-extra-groups: 'system:bootstrappers:x'}}";
    api.yes("POST", "/api/v1/namespaces/kube-system/secrets", secret).await;
    let header = async |value: &str| who(&api, "", &[("authorization", value)]).await;
    let want = known("system:bootstrap:abcdef", &["system:bootstrappers", "system:bootstrappers:x", "system:authenticated"]);
    assert_eq!(header("Bearer abcdef.0123456789abcdef").await, want);
    assert_eq!(header("Bearer abcdef.0123456789abcdee").await, Err(401));
    api.yes("DELETE", "/api/v1/namespaces/kube-system/secrets/bootstrap-token-abcdef", "").await;
    assert_eq!(header("Bearer abcdef.0123456789abcdef").await, Err(401));
}

#[tokio::test]
async fn cluster_info_is_for_everybody_as_far_as_roles_say() {
    const INFO: &str = "/api/v1/namespaces/kube-public/configmaps/cluster-info";
    const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/kube-public";
    let api = server().await;
    api.yes("POST", "/api/v1/namespaces", "metadata: {name: kube-public}").await;
    api.yes("POST", "/api/v1/namespaces/kube-public/configmaps", "{metadata: {name: cluster-info}, data: {kubeconfig: x}}").await;
    let nobody = async |method: &str, path: &str, headers: &[(&str, &str)]| api.ask("", method, path, headers, "").await;
    let refused = nobody("GET", INFO, &[]).await;
    assert_eq!(refused.code, 403);
    assert!(refused.message().contains("User \"system:anonymous\" cannot get resource \"configmaps\""), "{}", refused.message());
    let role = "{metadata: {name: r}, rules: [{apiGroups: [''], resources: [configmaps], verbs: ['*']}]}";
    api.yes("POST", &format!("{RBAC}/roles"), role).await;
    let subject = "{kind: User, name: 'system:anonymous', apiGroup: rbac.authorization.k8s.io}";
    let binding =
        format!("{{metadata: {{name: b}}, roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: r}}, subjects: [{subject}]}}");
    api.yes("POST", &format!("{RBAC}/rolebindings"), &binding).await;
    let read = nobody("GET", INFO, &[]).await;
    assert_eq!((read.code, &read.body["data"]["kubeconfig"]), (200, &"x".into()));
    assert_eq!(nobody("GET", INFO, &[("authorization", "Bearer nonsense")]).await.code, 401, "who says who he is must be right");
    for (method, path) in [("DELETE", INFO), ("GET", &*format!("{INFO}s")), ("GET", "/api/v1/namespaces/kube-public/configmaps")] {
        assert_eq!(nobody(method, path, &[]).await.code, 401, "{method} {path}: whatever roles say");
    }
}

#[tokio::test]
async fn tokens_are_requested_and_reviewed() {
    let api = server().await;
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    api.yes("POST", accounts, "metadata: {name: web}").await;
    let token = format!("{accounts}/web/token");
    for (body, code, want) in [
        (
            "{spec: {expirationSeconds: 1}}",
            422,
            "spec.expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes",
        ),
        ("{spec: {expirationSeconds: 4294967297}}", 422, "may not specify a duration larger than 2^32 seconds"),
        ("{metadata: {name: other}, spec: {}}", 422, "must match the service account name if specified"),
        ("{metadata: {namespace: other}, spec: {}}", 422, "must match the service account namespace if specified"),
        (
            "{spec: {boundObjectRef: {apiVersion: apps/v1, kind: Deployment, name: x}}}",
            400,
            "cannot bind token to object of type apps/v1, Kind=Deployment",
        ),
        ("{spec: {boundObjectRef: {apiVersion: v1, kind: Pod, name: x}}}", 404, "pods \"x\" not found"),
    ] {
        let message = api.no(code, "POST", &token, body).await;
        assert!(message.contains(want), "{message:?} should say {want:?}");
    }
    let made = api.yes("POST", &token, "{spec: {audiences: [vault], expirationSeconds: 600}}").await;
    let text = made["status"]["token"].as_str().unwrap();
    assert_eq!((&made["metadata"]["name"], &made["spec"]["expirationSeconds"]), (&"web".into(), &600.into()));
    let reviews = "/apis/authentication.k8s.io/v1/tokenreviews";
    let review = async |audiences: &str| {
        api.yes("POST", reviews, &format!("{{spec: {{token: {text}, audiences: {audiences}}}}}")).await["status"].clone()
    };
    let status = review("[vault, x]").await;
    assert_eq!((&status["authenticated"], &status["audiences"]), (&true.into(), &json!(["vault"])), "{status}");
    assert_eq!(status["user"]["username"], "system:serviceaccount:default:web");
    let status = review("[]").await;
    let want = "token audiences [\"vault\"] is invalid for the target audiences [\"https://kubernetes.default.svc.cluster.local\"]";
    assert_eq!((status.get("authenticated"), &status["error"]), (None, &want.into()), "{status}");
    let nobody = api.yes("POST", reviews, "{spec: {token: junk}}").await;
    assert_eq!(nobody["status"], json!({"user": {}}));
    assert_eq!(api.no(400, "POST", reviews, "{spec: {}}").await, "token is required for TokenReview in authentication");
    let keys = api.yes("GET", "/openid/v1/jwks", "").await;
    assert_eq!(keys["keys"][0]["alg"], "ES256");
    assert_eq!(api.yes("GET", "/.well-known/openid-configuration", "").await["issuer"], "https://kubernetes.default.svc.cluster.local");
    // A Secret that its token is bound to takes it along.
    api.yes("POST", "/api/v1/namespaces/default/secrets", "metadata: {name: s}").await;
    let bound = api.yes("POST", &token, "{spec: {boundObjectRef: {apiVersion: v1, kind: Secret, name: s}}}").await;
    let body = format!("{{spec: {{token: {}}}}}", bound["status"]["token"].as_str().unwrap());
    assert_eq!(api.yes("POST", reviews, &body).await["status"]["authenticated"], true);
    api.yes("DELETE", "/api/v1/namespaces/default/secrets/s", "").await;
    assert_eq!(api.yes("POST", reviews, &body).await["status"]["error"], "service account token has been invalidated");
}

/// An ID token, signed by `key`.
fn id_token(key: &EcdsaKeyPair, claims: &serde_json::Value) -> String {
    let encode = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&json!({"alg": "ES256", "kid": "k"})), encode(claims));
    let signature = key.sign(&ring::rand::SystemRandom::new(), signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test]
async fn openid_connect_says_who() {
    let random = ring::rand::SystemRandom::new();
    let pair = || {
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref(), &random).unwrap()
    };
    let (key, stranger) = (pair(), pair());
    let point = key.public_key().as_ref()[1..].to_vec();
    let [x, y] = [&point[..32], &point[32..]].map(|part| URL_SAFE_NO_PAD.encode(part));
    let issuer = peer::https(&["127.0.0.1"], move |request| {
        let base = format!(
            "https://{}",
            request.uri().authority().map_or_else(|| request.headers()["host"].to_str().unwrap().to_owned(), |a| a.to_string())
        );
        let body = match request.uri().path() {
            "/.well-known/openid-configuration" => json!({"issuer": base, "jwks_uri": format!("{base}/keys")}),
            "/keys" => json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "k", "alg": "ES256", "use": "sig", "x": x, "y": y}]}),
            other => panic!("{other}"),
        };
        async move { Response::new(Body::from(body.to_string())) }
    })
    .await;
    let url = format!("https://{}", issuer.address);
    let settings = Settings {
        issuer_url: url.clone(),
        client_id: "orch".into(),
        username_claim: "sub".into(),
        username_prefix: "oidc:".into(),
        groups_claim: Some("groups".into()),
        groups_prefix: String::new(),
        required_claims: Default::default(),
        ca_pem: Some(issuer.ca_pem.clone().into_bytes()),
        signing_algs: vec!["ES256".into()],
    };
    let api =
        server_with_ways(|store| Ways { oidc: Some(Arc::new(Oidc::new(settings, Outbound::new(store.clone(), None)))), ..Ways::default() })
            .await;
    basic_user(&api).await;
    let claims = |audience: &str, exp: i64| json!({"iss": url, "sub": "ann", "aud": audience, "exp": exp, "groups": ["devs"]});
    let ask = async |token: String| who(&api, "", &[("authorization", &format!("Bearer {token}"))]).await;
    assert_eq!(ask(id_token(&key, &claims("orch", 99_999_999_999))).await, known("oidc:ann", &["devs", "system:authenticated"]));
    assert_eq!(ask(id_token(&stranger, &claims("orch", 99_999_999_999))).await, Err(401));
    assert_eq!(ask(id_token(&key, &claims("other", 99_999_999_999))).await, Err(401));
    assert_eq!(ask(id_token(&key, &claims("orch", 1))).await, Err(401));
    let mut elsewhere = claims("orch", 99_999_999_999);
    elsewhere["iss"] = "https://else".into();
    assert_eq!(ask(id_token(&key, &elsewhere)).await, Err(401));
    // Reviews say what is wrong, and nothing of the token.
    let body = format!("{{spec: {{token: {}}}}}", id_token(&key, &claims("orch", 1)));
    let review = api.yes("POST", "/apis/authentication.k8s.io/v1/tokenreviews", &body).await;
    assert_eq!(review["status"]["error"], "oidc: verify token: oidc: token is expired (Token Expiry: 1)");
}

#[tokio::test]
async fn signing_requests() {
    let api = server().await;
    let requests = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, "ann");
    let pem = params.serialize_request(&rcgen::KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    let body = |name: &str, request: &str, signer: &str| {
        let request = STANDARD.encode(request);
        format!(
            "{{metadata: {{name: {name}}}, spec: {{request: {request}, signerName: {signer}, usages: [client auth], username: liar, groups: [system:masters]}}}}"
        )
    };
    const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
    let junk = api.no(422, "POST", requests, &body("a", "junk", CLIENT)).await;
    assert!(
        junk.ends_with("spec.request: Invalid value: []byte{0x6a, 0x75, 0x6e, 0x6b}: PEM block type must be CERTIFICATE REQUEST"),
        "{junk}"
    );
    let legacy = api.no(422, "POST", requests, &body("a", &pem, "kubernetes.io/legacy-unknown")).await;
    assert!(legacy.contains("the legacy signerName is not allowed via this API version"), "{legacy}");
    let made = api.yes("POST", requests, &body("a", &pem, CLIENT)).await;
    assert_eq!((&made["spec"]["username"], &made["spec"]["groups"]), (&"admin".into(), &json!(["system:masters"])), "{made}");
    let liar = api.ask("ann", "POST", requests, &[], &body("b", &pem, CLIENT)).await;
    assert_eq!(liar.code, 403);
    let merge = [("content-type", "application/merge-patch+json")];
    let patch = async |part: &str, body: &str| api.ask("admin", "PATCH", &format!("{requests}/a{part}"), &merge, body).await;
    // Approvals are not for /status, and certificates are not for /approval.
    let approved = r#"{"status":{"certificate":"Zm9v","conditions":[{"type":"Approved","status":"True","reason":"r","message":"m"}]}}"#;
    let by_status = patch("/status", &approved.replace(r#""certificate":"Zm9v","#, "")).await;
    assert!(by_status.code == 200 && by_status.body["status"].to_string().find("Approved").is_none(), "{}", by_status.body);
    let false_approval = patch("/approval", &approved.replace("True", "False")).await;
    assert!(
        false_approval.message().contains("status.conditions[0].status: Unsupported value: \"False\": supported values: \"True\""),
        "{}",
        false_approval.body
    );
    let done = patch("/approval", approved).await;
    assert_eq!((done.code, done.body["status"].get("certificate")), (200, None), "{}", done.body);
    assert!(done.body["status"]["conditions"][0]["lastUpdateTime"].is_string(), "{}", done.body);
    let withdrawn = patch("/approval", r#"{"status":{"conditions":[]}}"#).await;
    assert!(withdrawn.message().contains("updates may not remove a condition of type \"Approved\""), "{}", withdrawn.body);
    let both = r#"{"status":{"conditions":[{"type":"Approved","status":"True"},{"type":"Denied","status":"True"}]}}"#;
    assert!(patch("/approval", both).await.message().contains("Approved and Denied conditions are mutually exclusive"));
    let foreign = patch("/status", r#"{"status":{"certificate":"Zm9v"}}"#).await;
    assert!(foreign.message().contains("status.certificate: Invalid value: \"<certificate data>\""), "{}", foreign.body);
}

#[tokio::test]
async fn reviews_in_all_forms() {
    let api = server().await;
    grant(&api, "ann", "[{apiGroups: [''], resources: [pods], verbs: [get]}, {nonResourceURLs: [/x], verbs: [get]}]").await;
    let authorization = "/apis/authorization.k8s.io/v1";
    let access = async |spec: &str| {
        api.yes("POST", &format!("{authorization}/subjectaccessreviews"), &format!("{{spec: {spec}}}")).await["status"].clone()
    };
    let allowed = access("{user: ann, resourceAttributes: {verb: get, resource: pods, namespace: default}}").await;
    assert_eq!(allowed["allowed"], true);
    assert!(allowed["reason"].as_str().unwrap().starts_with("RBAC: allowed by ClusterRoleBinding \"ann-"), "{allowed}");
    assert_eq!(access("{user: ann, nonResourceAttributes: {verb: get, path: /x}}").await["allowed"], true);
    assert_eq!(access("{user: ann, nonResourceAttributes: {verb: get, path: /y}}").await, json!({"allowed": false}));
    let node = "user: 'system:node:n', groups: ['system:nodes'], resourceAttributes: {verb: list, resource: pods";
    assert_eq!(access(&format!("{{{node}}}}}")).await["reason"], "can only list/watch pods with spec.nodeName field selector");
    let selected = "fieldSelector: {requirements: [{key: spec.nodeName, operator: In, values: ['n']}]}";
    assert_eq!(access(&format!("{{{node}, {selected}}}}}")).await["allowed"], true);
    let named = api
        .no(422, "POST", &format!("{authorization}/subjectaccessreviews"), "{metadata: {name: x}, spec: {user: a, resourceAttributes: {}}}")
        .await;
    assert!(named.contains("metadata: Invalid value:") && named.ends_with("must be empty"), "{named}");
    let local = format!("{authorization}/namespaces/default/localsubjectaccessreviews");
    let other = api.no(422, "POST", &local, "{spec: {user: a, resourceAttributes: {namespace: other}}}").await;
    assert!(other.contains("spec.resourceAttributes.namespace: Invalid value: \"other\": must match metadata.namespace"), "{other}");
    let rules = api
        .ask(
            "admin",
            "POST",
            &format!("{authorization}/selfsubjectrulesreviews"),
            &[("impersonate-user", "ann")],
            "{spec: {namespace: default}}",
        )
        .await;
    assert_eq!(rules.code, 403, "it is ann who asks");
    grant(&api, "ann", "[{apiGroups: [authorization.k8s.io], resources: [selfsubjectrulesreviews], verbs: [create]}]").await;
    let rules = api.ask("ann", "POST", &format!("{authorization}/selfsubjectrulesreviews"), &[], "{spec: {namespace: default}}").await;
    assert_eq!(rules.body["status"]["resourceRules"].as_array().map(Vec::len), Some(2), "{}", rules.body);
    assert_eq!(rules.body["status"]["nonResourceRules"], json!([{"verbs": ["get"], "nonResourceURLs": ["/x"]}]));
}
