//! `/healthz`, `/livez`, `/readyz`: named conditions, together and one by one.
//!
//! Follows upstream's `apiserver/pkg/server/healthz`, texts included. The check named `etcd` is our store's: monitors know it by that name.

use std::collections::BTreeMap;

use axum::response::Response;
use parking_lot::{Mutex, RwLock};

use super::{Call, reply};
use crate::api::Status;
use crate::metrics::Text;

/// Checks that every server passes as long as it answers.
const ALWAYS: &[&str] = &["ping", "log"];
/// Whether the store can write.
const STORE: &str = "etcd";
/// Whether the server is not on its way down.
pub const SHUTDOWN: &str = "shutdown";

/// Named conditions that must hold before the server is ready.
#[derive(Default)]
pub struct Readiness {
    checks: RwLock<BTreeMap<&'static str, bool>>,
    /// How often each check was made: by name, endpoint, outcome.
    made: Mutex<BTreeMap<(String, &'static str, bool), u64>>,
}

impl Readiness {
    /// A server that is ready once each of `checks` was [`set`](Readiness::set).
    pub fn new(checks: &[&'static str]) -> Readiness {
        let checks = checks.iter().map(|check| (*check, false)).chain([(SHUTDOWN, true)]);
        Readiness { checks: RwLock::new(checks.collect()), made: Mutex::default() }
    }

    /// Says whether `check` holds.
    pub fn set(&self, check: &'static str, holds: bool) {
        self.checks.write().insert(check, holds);
    }

    /// Whether all hold.
    pub fn ready(&self) -> bool {
        self.checks.read().values().all(|holds| *holds)
    }

    /// The checks of an endpoint, and whether they hold.
    fn checks(&self, endpoint: &str, store: bool) -> Vec<(&'static str, bool)> {
        let mut all: Vec<_> = ALWAYS.iter().map(|check| (*check, true)).collect();
        all.push((STORE, store));
        // Being alive must not depend on being ready, or a slow start is restarted for ever.
        let own = self.checks.read();
        let of_endpoint = |check: &str| endpoint == "readyz" || (endpoint == "healthz" && check != SHUTDOWN);
        all.extend(own.iter().filter(|(check, _)| of_endpoint(check)).map(|(check, holds)| (*check, *holds)));
        all
    }

    /// Each check, and whether all of them that are not excluded hold.
    fn report(&self, endpoint: &'static str, store: bool, excluded: &[&str]) -> (bool, String) {
        let mut text = String::new();
        let mut good = true;
        let checks = self.checks(endpoint, store);
        for (check, holds) in &checks {
            if excluded.contains(check) {
                text += &format!("[+]{check} excluded: ok\n");
                continue;
            }
            good &= holds;
            *self.made.lock().entry(((*check).to_owned(), endpoint, *holds)).or_default() += 1;
            text += &if *holds { format!("[+]{check} ok\n") } else { format!("[-]{check} failed: reason withheld\n") };
        }
        let mut unknown: Vec<String> =
            excluded.iter().filter(|name| !checks.iter().any(|(check, _)| check == *name)).map(|name| format!("{name:?}")).collect();
        unknown.sort();
        unknown.dedup();
        if !unknown.is_empty() {
            text += &format!("warn: some health checks cannot be excluded: no matches for {}\n", unknown.join(", "));
        }
        text += &format!("{endpoint} check {}\n", if good { "passed" } else { "failed" });
        (good, text)
    }

    /// `/metrics/slis`.
    pub(super) fn slis(&self, store: bool) -> String {
        let mut out = Text::default();
        let name = "kubernetes_healthcheck";
        out.metric(name, "gauge", "This metric records the result of a single healthcheck.");
        for endpoint in ["healthz", "livez", "readyz"] {
            for (check, holds) in self.checks(endpoint, store) {
                out.sample(name, &[("name", check), ("type", endpoint)], u8::from(holds));
            }
        }
        let name = "kubernetes_healthchecks_total";
        out.metric(name, "counter", "This metric records the results of all healthcheck.");
        for ((check, endpoint, holds), count) in self.made.lock().iter() {
            out.sample(name, &[("name", check), ("status", if *holds { "success" } else { "error" }), ("type", endpoint)], count);
        }
        out.into_string()
    }
}

/// `/readyz` and its siblings, and each check below them.
pub(super) fn serve(call: &Call, endpoint: &'static str, check: Option<&str>) -> Result<Response, Status> {
    const TEXT: &str = "text/plain; charset=utf-8";
    let readiness = &call.app.readiness;
    let store = call.app.registry.store().is_healthy();
    let (code, body) = if let Some(check) = check {
        let found = readiness.checks(endpoint, store).into_iter().find(|(name, _)| *name == check);
        match found {
            None => return Err(Status::no_such_path()),
            Some((_, true)) => (200, "ok".to_owned()),
            Some((name, false)) => (500, format!("internal server error: {name} does not hold yet\n")),
        }
    } else {
        let excluded: Vec<&str> = call.query.all("exclude").collect();
        let (good, text) = readiness.report(endpoint, store, &excluded);
        let brief = good && call.query.first("verbose").is_none();
        (if good { 200 } else { 500 }, if brief { "ok".into() } else { text })
    };
    let mut response = reply::bytes(code, TEXT, body);
    response.headers_mut().insert(http::header::X_CONTENT_TYPE_OPTIONS, http::HeaderValue::from_static("nosniff"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness() {
        let ready = Readiness::new(&["poststarthook/bootstrap"]);
        assert!(!ready.ready());
        let want =
            "[+]ping ok\n[+]log ok\n[+]etcd ok\n[-]poststarthook/bootstrap failed: reason withheld\n[+]shutdown ok\nreadyz check failed\n";
        assert_eq!(ready.report("readyz", true, &[]), (false, want.into()));
        assert!(ready.report("livez", true, &[]).0 && !ready.report("healthz", true, &[]).0);
        let (good, text) = ready.report("readyz", true, &["poststarthook/bootstrap", "no", "no"]);
        assert!(good && text.contains("[+]poststarthook/bootstrap excluded: ok\n"), "{text}");
        assert!(text.contains("warn: some health checks cannot be excluded: no matches for \"no\"\nreadyz check passed\n"), "{text}");
        ready.set("poststarthook/bootstrap", true);
        assert!(ready.ready() && ready.report("healthz", true, &[]).0);
        assert!(!ready.report("livez", false, &[]).0, "a store that can't write is no life");
        ready.set(SHUTDOWN, false);
        assert!(!ready.report("readyz", true, &[]).0 && ready.report("livez", true, &[]).0);
        let slis = ready.slis(true);
        assert!(slis.contains("kubernetes_healthcheck{name=\"shutdown\",type=\"readyz\"} 0\n"), "{slis}");
        assert!(slis.contains("kubernetes_healthchecks_total{name=\"etcd\",status=\"error\",type=\"livez\"} 1\n"), "{slis}");
    }
}
