//! A registry that lies, on 127.0.0.1:5001 of the host: `/truncated:1` has a layer that ends early, `/wrong:1` one whose bytes
//! are others than its digest says.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::json;
use sha2::{Digest, Sha256};

const ADDRESS: &str = "127.0.0.1:5001";
const LAYER: &[u8] = &[7; 4096];

/// Serves until the process ends. To be called on the thread that entered the host.
pub fn start() {
    let listener = TcpListener::bind(ADDRESS).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
}

fn sha256(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

fn config() -> Vec<u8> {
    let rootfs = json!({"type": "layers", "diff_ids": [sha256(LAYER)]});
    json!({"architecture": "amd64", "os": "linux", "config": {"Cmd": ["x"]}, "rootfs": rootfs}).to_string().into_bytes()
}

fn manifest() -> Vec<u8> {
    let descriptor = |kind: &str, bytes: &[u8]| {
        let media_type = format!("application/vnd.oci.image.{kind}");
        json!({"mediaType": media_type, "digest": sha256(bytes), "size": bytes.len()})
    };
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    json!({"schemaVersion": 2, "mediaType": media_type, "config": descriptor("config.v1+json", &config()),
        "layers": [descriptor("layer.v1.tar", LAYER)]})
    .to_string()
    .into_bytes()
}

/// One request; the connection ends with its answer, and whoever asks may be gone.
fn answer(mut stream: TcpStream) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let request = lines.next().unwrap_or_default();
    lines.take_while(|line| !line.is_empty()).for_each(drop);
    let path = request.split(' ').nth(1).unwrap_or_default();
    let (kind, body, claimed) = if path.contains("/manifests/") {
        ("application/vnd.oci.image.manifest.v1+json", manifest(), manifest().len())
    } else if path.ends_with(&sha256(&config())) {
        ("application/octet-stream", config(), config().len())
    } else if path.contains("/truncated/blobs/") {
        ("application/octet-stream", LAYER[..1000].to_vec(), LAYER.len())
    } else if path.contains("/wrong/blobs/") {
        ("application/octet-stream", vec![8; LAYER.len()], LAYER.len())
    } else {
        ("application/json", b"{}".to_vec(), 2)
    };
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {claimed}\r\nConnection: close\r\n\r\n");
    let body = if request.starts_with("HEAD") { &[] } else { &body[..] };
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
}
