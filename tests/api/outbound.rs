//! Calls out: by URL and by Service, whom they trust, what they say when they fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use orch::api::{Key, Kind};
use orch::server::outbound::{CallError, Outbound, Peer};
use orch::server::store::{Change, Draft, Expect, Limits, Store};

use crate::peer::{https, self_signed};

async fn put<T: Kind>(store: &Store, yaml: &str) {
    let object: T = serde_yaml::from_str(yaml).unwrap();
    let key = Key::of::<T>(object.meta().namespace.as_deref().unwrap(), object.meta().name.as_deref().unwrap());
    store.commit(key, Expect::Absent, Change::Put(Draft::of(Arc::new(object)))).await.unwrap();
}

const PATIENCE: Duration = Duration::from_secs(10);

async fn post(outbound: &Outbound, peer: &Peer) -> Result<String, CallError> {
    let answer = outbound.post(peer, "timeout=10s", Bytes::from_static(b"{}"), PATIENCE, 1000).await?;
    Ok(String::from_utf8(answer.to_vec()).unwrap())
}

#[tokio::test]
async fn services_are_called_under_their_own_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Limits::default(), &[]).unwrap();
    let server = https(&["hook.n.svc"], |request| async move {
        assert_eq!(request.headers()["content-type"], "application/json");
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        Response::new(Body::from(format!("{} {} {:?}", host, request.uri().path_and_query().unwrap(), request.version())))
    })
    .await;
    let outbound = Outbound::new(store.clone(), None);
    let peer = |name: &str| Peer::webhook(None, Some(("n", name, Some("/x"), None)), Some(server.ca_pem.as_bytes())).unwrap();
    let why = post(&outbound, &peer("hook")).await.unwrap_err().to_string();
    assert_eq!(why, "Post \"https://hook.n.svc:443/x?timeout=10s\": service \"hook\" not found");
    put::<Service>(&store, "{metadata: {namespace: n, name: hook}, spec: {ports: [{port: 443}]}}").await;
    let why = post(&outbound, &peer("hook")).await.unwrap_err().to_string();
    assert!(why.ends_with("no endpoints available for service \"hook\""), "{why}");
    let slice = |owner: &str| {
        format!(
            "{{metadata: {{namespace: n, name: {owner}-1, labels: {{kubernetes.io/service-name: {owner}}}}}, addressType: IPv4,
              endpoints: [{{addresses: [127.0.0.1]}}], ports: [{{port: {}}}]}}",
            server.address.port()
        )
    };
    put::<EndpointSlice>(&store, &slice("hook")).await;
    assert_eq!(post(&outbound, &peer("hook")).await.unwrap(), "hook.n.svc:443 /x?timeout=10s HTTP/2.0");
    // The certificate is not for another Service with the same endpoints.
    put::<Service>(&store, "{metadata: {namespace: n, name: other}, spec: {ports: [{port: 443}]}}").await;
    put::<EndpointSlice>(&store, &slice("other")).await;
    let why = post(&outbound, &peer("other")).await.unwrap_err().to_string();
    assert!(why.contains("tls: failed to verify certificate: x509: certificate is valid for hook.n.svc, not other.n.svc"), "{why}");
}

#[tokio::test]
async fn failures_say_what_upstream_says() {
    let dir = tempfile::tempdir().unwrap();
    let outbound = Outbound::new(Store::open(dir.path(), Limits::default(), &[]).unwrap(), None);
    let server = https(&["127.0.0.1"], |request| async move {
        match request.uri().path() {
            "/fail" => Response::builder().status(500).body(Body::from("no luck")).unwrap(),
            "/moved" => Response::builder().status(302).header("location", "/good").body(Body::empty()).unwrap(),
            "/large" => Response::new(Body::from(vec![b'x'; 2000])),
            "/slow" => std::future::pending().await,
            _ => Response::new(Body::from("good")),
        }
    })
    .await;
    let url = |path: &str| format!("https://{}{path}", server.address);
    let peer = |path: &str, ca: &str| Peer::webhook(Some(&url(path)), None, Some(ca.as_bytes())).unwrap();
    let text = |result: Result<String, CallError>| result.unwrap_or_else(|error| error.to_string());
    for (path, want) in [
        ("/good", "good"),
        ("/fail", "an error on the server (\"no luck\") has prevented the request from succeeding"),
        ("/moved", "the server responded with the status code 302 but did not return more information"),
        ("/large", "the answer is larger than 1000 bytes"),
    ] {
        assert_eq!(text(post(&outbound, &peer(path, &server.ca_pem)).await), want, "{path}");
    }
    let late = outbound.post(&peer("/slow", &server.ca_pem), "", Bytes::new(), Duration::from_millis(50), 10).await.unwrap_err();
    assert!(late.is_timeout());
    assert_eq!(late.to_string(), format!("Post \"{}\": context deadline exceeded", url("/slow")));
    let other = https(&["127.0.0.1"], |_| async { Response::new(Body::empty()) }).await;
    let why = text(post(&outbound, &peer("/good", &other.ca_pem)).await);
    assert!(why.ends_with("tls: failed to verify certificate: x509: certificate signed by unknown authority"), "{why}");
    let why = text(post(&outbound, &peer("/good", "junk")).await);
    assert_eq!(why, "unable to load root certificates: unable to parse bytes as PEM block");
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nobody = Peer::webhook(Some(&format!("https://{free}/")), None, None).unwrap();
    let why = text(post(&outbound, &nobody).await);
    assert_eq!(why, format!("Post \"https://{free}/?timeout=10s\": dial tcp {free}: connect: connection refused"));
}

#[tokio::test]
async fn pods_are_proxied_to_whatever_they_show() {
    let server = self_signed("somebody", |_| async { Response::new(Body::from("good")) }).await;
    let dial = || tokio::net::TcpStream::connect(server.address);
    for host in ["10.42.0.7", "fd00::7", "localhost"] {
        let stream = orch::server::outbound::unverified(dial().await.unwrap(), host).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get("/").header("host", "h").body(Body::empty()).unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), 200, "{host}");
    }
    let why = orch::server::outbound::unverified(dial().await.unwrap(), "not a host").await.err();
    assert_eq!(why.as_deref(), Some("invalid server name \"not a host\""));
    let plain = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = tokio::net::TcpStream::connect(plain.local_addr().unwrap()).await.unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let why = orch::server::outbound::unverified(stream, "10.42.0.7").await.err();
    assert_eq!(why.as_deref(), Some("http: server gave HTTP response to HTTPS client"));
}

#[tokio::test]
async fn a_certificate_may_be_its_own_authority() {
    let dir = tempfile::tempdir().unwrap();
    let outbound = Outbound::new(Store::open(dir.path(), Limits::default(), &[]).unwrap(), None);
    let connections = Arc::new(AtomicUsize::new(0));
    let seen = connections.clone();
    let server = self_signed("localhost", move |_| {
        seen.fetch_add(1, Ordering::Relaxed);
        async { Response::new(Body::from("good")) }
    })
    .await;
    let url = format!("https://localhost:{}/", server.address.port());
    let peer = Peer::webhook(Some(&url), None, Some(server.ca_pem.as_bytes())).unwrap();
    assert_eq!(post(&outbound, &peer).await.unwrap(), "good");
    let wrong = format!("https://127.0.0.1:{}/", server.address.port());
    let peer = Peer::webhook(Some(&wrong), None, Some(server.ca_pem.as_bytes())).unwrap();
    let why = post(&outbound, &peer).await.unwrap_err().to_string();
    assert!(why.contains("x509: certificate is"), "{why}");
    assert_eq!(connections.load(Ordering::Relaxed), 1);
}
