//! Where a node's agent opens its tunnel: a connection that it makes, and that this server then uses to reach the node.
//!
//! `GET /orch/v1/nodes/NAME/tunnel` with `Upgrade: orch-tunnel`, by the node's own client certificate and nobody else's: whoever keeps a
//! node's tunnel is whom this server finds when it looks for that node (and must still show the node's serving certificate).

use axum::body::Body;
use axum::response::Response;
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Method, StatusCode};

use super::{Call, only};
use crate::api::Status;
use crate::api::cluster::TUNNEL_PROTOCOL;

/// Takes the connection over as the tunnel of `node`.
pub(super) fn serve(mut call: Call, node: &str) -> Result<Response, Status> {
    only(call.request.method(), &[Method::GET])?;
    if call.user.node() != Some(node) {
        let why = format!("{:?} can't keep a tunnel for node {node:?}: only that node itself can", call.user.name);
        return Err(Status::new(403, "Forbidden", why));
    }
    let wanted = call.header(UPGRADE).split(',').any(|protocol| protocol.trim().eq_ignore_ascii_case(TUNNEL_PROTOCOL));
    if !wanted {
        return Err(Status::bad_request(format!("this path is for agents: it wants `Upgrade: {TUNNEL_PROTOCOL}` over HTTP/1.1")));
    }
    let upgrade = hyper::upgrade::on(&mut call.request);
    let (tunnels, stop, node) = (call.app.tunnels.clone(), call.app.stopping.clone(), node.to_owned());
    tokio::spawn(async move {
        match upgrade.await {
            Ok(connection) => tunnels.keep(&node, connection, stop).await,
            Err(error) => tracing::debug!(node, %error, "a tunnel was not opened"),
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(TUNNEL_PROTOCOL));
    Ok(response)
}
