//! Request bodies that nobody read to their end are taken in all the same, within bounds.
//!
//! A client that is still sending when the answer comes would otherwise see a broken stream (HTTP/2) or find its connection closed
//! (HTTP/1.1) rather than read the answer. As Go's server, which upstream is built on, does.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;

/// How much of a refused body is taken, and for how long.
const LIMIT: usize = 64 * 1024 * 1024;
const TIMEOUT: Duration = Duration::from_secs(5);

struct OnDrop(Body);

/// The same body; what is left of it when it is dropped is read and thrown away.
pub(super) fn on_drop(body: Body) -> Body {
    if body.is_end_stream() { body } else { Body::new(OnDrop(body)) }
}

impl http_body::Body for OnDrop {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

impl Drop for OnDrop {
    fn drop(&mut self) {
        let body = std::mem::take(&mut self.0);
        // Outside of a runtime there is no connection either.
        if !body.is_end_stream()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(drain(body));
        }
    }
}

async fn drain(mut body: Body) {
    let all = async {
        let mut left = LIMIT;
        while let Some(Ok(frame)) = body.frame().await {
            let size = frame.data_ref().map_or(0, Bytes::len);
            match left.checked_sub(size) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    // Whoever takes longer is cut off.
    tokio::time::timeout(TIMEOUT, all).await.ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_left_is_read() {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
        let body = on_drop(Body::from_stream(tokio_stream::wrappers::ReceiverStream::new(receiver)));
        drop(body);
        for _ in 0..10 {
            tokio::time::timeout(Duration::from_secs(5), sender.send(Ok("chunk".into()))).await.expect("is taken").expect("is open");
        }
        drop(sender);
    }
}
