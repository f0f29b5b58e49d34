//! The standard gRPC health check (grpc.health.v1.Health/Check) over plain HTTP/2. The two messages have one field each, so they
//! are written and read by hand.
use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::timeout;

use super::check::{OUTPUT, connect};

/// Succeeds if the service says SERVING.
pub async fn check(address: SocketAddr, service: &str, limit: Duration) -> Result<(), String> {
    match timeout(limit, ask(address, service, limit)).await {
        Ok(result) => result,
        Err(_) => Err(format!("timeout: health rpc did not complete within {}s", limit.as_secs())),
    }
}

/// HealthCheckRequest: field 1 is the service; before it, the message header of gRPC.
fn encode(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push(length as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend(message);
    frame
}

/// HealthCheckResponse: field 1 is the state, 1 meaning SERVING.
fn decode(frame: &[u8]) -> Result<(), String> {
    let message = frame.get(5..).ok_or("the health service sent no message")?;
    match message {
        [0x08, 1, ..] => Ok(()),
        [] | [0x08, 0, ..] => Err("service unhealthy (responded with \"UNKNOWN\")".into()),
        [0x08, 2, ..] => Err("service unhealthy (responded with \"NOT_SERVING\")".into()),
        [0x08, 3, ..] => Err("service unhealthy (responded with \"SERVICE_UNKNOWN\")".into()),
        _ => Err("the health service sent a message that can't be understood".into()),
    }
}

async fn ask(address: SocketAddr, service: &str, limit: Duration) -> Result<(), String> {
    let text = |error: hyper::Error| format!("failed to connect to service \"{address}\": {error}");
    let stream = connect(&address.ip().to_string(), address.port(), limit).await?;
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(text)?;
    let request = http::Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "kube-probe/1.37")
        .body(Full::new(Bytes::from(encode(service))))
        .map_err(|e| e.to_string())?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(text)?;
        let early = response.headers().get("grpc-status").cloned();
        let body = Limited::new(response.into_body(), OUTPUT).collect().await.map_err(|e| e.to_string())?;
        let status = body.trailers().and_then(|t| t.get("grpc-status").cloned()).or(early);
        match status.as_ref().and_then(|s| s.to_str().ok()) {
            Some("0") => decode(&body.to_bytes()),
            Some("12") => Err(format!("this server does not implement the grpc health protocol (grpc.health.v1.Health): {address}")),
            Some(code) => Err(format!("health rpc probe failed with status {code}")),
            None => Err("health rpc probe failed: no grpc-status".into()),
        }
    };
    tokio::select! {
        result = exchange => result,
        Err(error) = connection => Err(text(error)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        assert_eq!(encode(""), [0, 0, 0, 0, 0]);
        assert_eq!(encode("a"), [0, 0, 0, 0, 3, 0x0a, 1, b'a']);
        assert_eq!(encode(&"x".repeat(200))[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 1]);
        assert_eq!(decode(&[0, 0, 0, 0, 2, 8, 1]), Ok(()));
        assert!(decode(&[0, 0, 0, 0, 2, 8, 2]).unwrap_err().contains("NOT_SERVING"));
        assert!(decode(&[0]).is_err());
    }
}
