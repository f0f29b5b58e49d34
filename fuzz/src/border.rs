//! A whole API in process, asked by the administrator.
//!
//! It holds one object of every stored kind, as `tests/api/kinds.yaml` has them, in the namespace `default`. A limit or quota there is
//! wide enough to let others through, and no webhook or binding concerns a kind that exists.

use orch::server::kinds::KINDS;
use orch::server::registry::KindRef;
use serde_json::Value;

use crate::samples_by_hand::{collection, objects, row, text, twin};
use crate::support::{Answer, Server, server};

/// The API and what is in it.
pub struct Border {
    runtime: tokio::runtime::Runtime,
    api: Server,
    /// By the place of their kind in `KINDS`; `None` for kinds that are not stored.
    stored: Vec<Option<Value>>,
}

thread_local! {
    static BORDER: Border = Border::new();
}

/// Lends the border of this thread, which is made at the first call.
pub fn border<R>(act: impl FnOnce(&Border) -> R) -> R {
    BORDER.with(act)
}

/// Makes the border of this thread, so that the first input does not have to wait for it.
pub fn prepare() {
    border(|_| ());
}

/// The row of a number; any number will do.
pub fn kind(number: u8) -> &'static KindRef {
    &KINDS[usize::from(number) % KINDS.len()]
}

impl Border {
    fn new() -> Border {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let api = runtime.block_on(async {
            let api = server().await;
            api.yes("POST", "/api/v1/namespaces/default/serviceaccounts", "metadata: {name: default}").await;
            for object in objects() {
                let made = api.ask("admin", "POST", &collection(row(&object)), &[], &object.to_string()).await;
                assert!(made.code == 201 || made.code == 409, "{object}: {}", made.body);
            }
            api
        });
        let stored = objects();
        let of = |kind: &KindRef| stored.iter().find(|object| std::ptr::eq(row(object), kind)).cloned();
        Border { runtime, api, stored: KINDS.iter().map(of).collect() }
    }

    /// Asks as the administrator. `None`: these are no request.
    pub fn ask(&self, method: &str, uri: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Answer> {
        uri.parse::<http::Uri>().ok()?;
        Some(self.runtime.block_on(async {
            let response = self.api.send_bytes("admin", method, uri, headers, body).await;
            let (parts, body) = response.into_parts();
            // A watch has no end.
            let is_stream = uri.contains("watch");
            let bytes = if is_stream { bytes::Bytes::new() } else { http_body_util::BodyExt::collect(body).await.unwrap().to_bytes() };
            let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
            let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| text());
            Answer { code: parts.status.as_u16(), headers: parts.headers, body }
        }))
    }

    /// The object of the kind that is stored.
    pub fn stored(&self, kind: &KindRef) -> Option<&Value> {
        self.stored[KINDS.iter().position(|one| std::ptr::eq(one, kind))?].as_ref()
    }
}

/// Where objects of the kind are created.
pub fn all(kind: &KindRef) -> String {
    collection(kind)
}

/// Where the stored object of a kind is.
pub fn one(kind: &KindRef, stored: &Value) -> String {
    format!("{}/{}", collection(kind), text(&stored["metadata"]["name"]))
}

/// The stored object under another name.
pub fn another(stored: &Value) -> Value {
    twin(stored)
}

/// Holds an answer against what every answer is: good, or refused with a reason.
pub fn judge(answer: &Answer, asked: &dyn Fn() -> String) -> bool {
    match answer.code {
        200..300 => true,
        400..500 => {
            assert_eq!(answer.body["kind"], "Status", "{}: {}", asked(), answer.body);
            assert!(!answer.message().is_empty(), "{}: {}", asked(), answer.body);
            false
        }
        code => panic!("{}: {code} {}", asked(), answer.body),
    }
}
