//! Has pods go, and waits until they are gone.
//!
//! Follows `kubectl/pkg/drain/drain.go`: each pod is evicted by itself, what a disruption budget forbids is tried again, and the time of
//! `--timeout` is that of all.

use std::time::Duration;

use futures::future::join_all;
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::Drain;
use super::verdict::{Pod, is_given_up};
use crate::kubectl::error::{Error, Result};
use crate::kubectl::flags::DryRun;
use crate::kubectl::session::{JSON, Session};

/// Between two attempts to evict a pod.
const AGAIN: Duration = Duration::from_secs(5);
/// Between two looks at a pod that is going.
const LOOK: Duration = Duration::from_secs(1);

impl Pod {
    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/pods/{}", self.namespace, self.name)
    }
}

/// When patience ends.
struct Limit {
    after: Duration,
    at: Option<Instant>,
}

impl Limit {
    fn new(after: Duration) -> Limit {
        Limit { after, at: if after.is_zero() { None } else { Instant::now().checked_add(after) } }
    }

    fn is_reached(&self) -> bool {
        self.at.is_some_and(|at| Instant::now() >= at)
    }

    fn error(&self) -> String {
        format!("global timeout reached: {}", go_text(self.after))
    }
}

/// What kind of refusal an eviction met.
fn is_too_many(error: &Error) -> bool {
    error.status().is_some_and(|status| status.reason.as_deref() == Some("TooManyRequests") || status.code == Some(429))
}

fn is_of_ending_namespace(error: &Error) -> bool {
    let causes = error.status().filter(|status| status.reason.as_deref() == Some("Forbidden")).and_then(|status| status.details.as_ref());
    let causes = causes.and_then(|details| details.causes.as_ref());
    causes.into_iter().flatten().any(|cause| cause.reason.as_deref() == Some("NamespaceTerminating"))
}

impl Drain {
    /// Has all these pods go.
    pub(super) async fn leave(&self, session: &Session, pods: Vec<&Pod>) -> Result<()> {
        if self.disable_eviction {
            return self.delete(session, pods).await;
        }
        let limit = Limit::new(self.timeout);
        let done = join_all(pods.into_iter().map(|pod| self.evict(session, pod, &limit))).await;
        let errors: Vec<Error> = done.into_iter().filter_map(Result::err).collect();
        match errors.into_iter().partition::<Vec<_>, _>(Error::is_broken_pipe) {
            (mut broken, _) if !broken.is_empty() => Err(broken.remove(0)),
            (_, errors) if errors.is_empty() => Ok(()),
            (_, errors) => Err(Error::Several(errors)),
        }
    }

    fn options(&self) -> Value {
        let mut options = json!({});
        if self.grace_period >= 0 {
            options["gracePeriodSeconds"] = self.grace_period.into();
        }
        if self.nodes.dry_run == DryRun::Server {
            options["dryRun"] = json!(["All"]);
        }
        options
    }

    async fn evict(&self, session: &Session, pod: &Pod, limit: &Limit) -> Result<()> {
        let eviction = json!({
            "apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod.name, "namespace": pod.namespace}, "deleteOptions": self.options(),
        });
        let place = format!("pods/{:?} -n {:?}", pod.name, pod.namespace);
        let mut is_going = false;
        loop {
            session.line(&format!("evicting pod {}/{}{}", pod.namespace, pod.name, self.nodes.dry_run.suffix()))?;
            if limit.is_reached() {
                return Error::usage(format!("error when evicting {place}: {}", limit.error()));
            }
            match session.change(Method::POST, &format!("{}/eviction", pod.path()), &eviction).await {
                Ok(_) => break,
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) if is_too_many(&error) => {
                    session.note(&format!("error when evicting {place} (will retry after 5s): {}", error.plain()));
                }
                // Such a request is never granted; a pod that is going anyhow is waited for.
                Err(error) if is_of_ending_namespace(&error) && is_going => break,
                Err(error) if is_of_ending_namespace(&error) => session.note(&format!(
                    "error when evicting pod {:?} from terminating namespace {:?} (will retry after 5s): {}",
                    pod.name,
                    pod.namespace,
                    error.plain()
                )),
                Err(error) => return Error::usage(format!("error when evicting {place}: {}", error.plain())),
            }
            sleep(AGAIN).await;
            let now = session.get(&pod.path(), JSON).await;
            is_going = now.is_ok_and(|pod| pod["metadata"]["deletionTimestamp"].is_string());
        }
        if self.nodes.dry_run == DryRun::Server {
            return Ok(());
        }
        self.gone(session, &[pod], limit, "evicted").await.map_err(|error| match error {
            error if error.is_broken_pipe() => error,
            error => {
                let place = format!("{:?} in namespace {:?}", pod.name, pod.namespace);
                Error::Usage(format!("error when waiting for pod {place} to terminate: {}", error.plain()))
            }
        })
    }

    async fn delete(&self, session: &Session, pods: Vec<&Pod>) -> Result<()> {
        let limit = Limit::new(self.timeout);
        for pod in &pods {
            let mut options = self.options();
            options["kind"] = "DeleteOptions".into();
            options["apiVersion"] = "v1".into();
            match session.change(Method::DELETE, &pod.path(), &options).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        if self.nodes.dry_run == DryRun::Server { Ok(()) } else { self.gone(session, &pods, &limit, "deleted").await }
    }

    /// Waits until these pods, and not others of their names, are gone.
    async fn gone(&self, session: &Session, pods: &[&Pod], limit: &Limit, done: &str) -> Result<()> {
        let mut left: Vec<&Pod> = pods.to_vec();
        loop {
            let mut still = Vec::new();
            for pod in left {
                match session.get(&pod.path(), JSON).await {
                    Ok(now) if now["metadata"]["uid"] == pod.uid.as_str() => {
                        let after = self.skip_wait_for_delete_timeout;
                        if is_given_up(&now, after, Timestamp::now()) {
                            session.line(&format!("pod {:?} has DeletionTimestamp older than {after} seconds, skipping", pod.name))?;
                        } else {
                            still.push(pod);
                        }
                    }
                    Err(error) if !error.is_not_found() => return Err(error),
                    _ => session.line(&format!("pod/{} {done}", pod.name))?,
                }
            }
            if still.is_empty() {
                return Ok(());
            }
            if limit.is_reached() {
                return Error::usage("context deadline exceeded");
            }
            left = still;
            sleep(limit.at.map_or(LOOK, |at| LOOK.min(at.saturating_duration_since(Instant::now())))).await;
        }
    }
}

/// As Go writes durations: `1h0m5s`, `1.5s`, `300ms`.
fn go_text(duration: Duration) -> String {
    const SECOND: u128 = 1_000_000_000;
    let nanos = duration.as_nanos();
    let minutes = nanos / (60 * SECOND);
    match (nanos, minutes / 60, minutes % 60) {
        (0, ..) => "0s".into(),
        (1..1_000, ..) => format!("{nanos}ns"),
        (1_000..1_000_000, ..) => format!("{}µs", decimal(nanos, 1_000)),
        (1_000_000..SECOND, ..) => format!("{}ms", decimal(nanos, 1_000_000)),
        (_, 0, 0) => format!("{}s", decimal(nanos, SECOND)),
        (_, 0, minutes) => format!("{minutes}m{}s", decimal(nanos % (60 * SECOND), SECOND)),
        (_, hours, minutes) => format!("{hours}h{minutes}m{}s", decimal(nanos % (60 * SECOND), SECOND)),
    }
}

/// `nanos` in units of a power of ten, without final zeros.
fn decimal(nanos: u128, unit: u128) -> String {
    let (whole, rest, digits) = (nanos / unit, nanos % unit, unit.ilog10() as usize);
    let text = format!("{whole}.{rest:0digits$}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubectl::support;
    use crate::kubectl::verb::Verb;

    #[test]
    fn durations_as_go_has_them() {
        for (millis, want) in
            [(0, "0s"), (300, "300ms"), (1_500, "1.5s"), (60_000, "1m0s"), (3_605_000, "1h0m5s"), (90_250, "1m30.25s"), (5_000, "5s")]
        {
            assert_eq!(go_text(Duration::from_millis(millis)), want);
        }
        assert_eq!(go_text(Duration::from_nanos(1_500)), "1.5µs");
    }

    const NODE: (&str, &str) = ("GET /api/v1/nodes/a", "{kind: Node, metadata: {name: a}, spec: {unschedulable: true}}");
    const PODS: (&str, &str) = (
        "GET /api/v1/pods",
        "{kind: PodList, items: [{metadata: {name: p, namespace: n, uid: u, ownerReferences: [{kind: ReplicaSet, name: r, controller: true}]}}]}",
    );
    const EVICT: (&str, &str) = ("POST /api/v1/namespaces/n/pods/p/eviction", "{kind: Status, status: Success}");
    const STAYS: (&str, &str) = ("GET /api/v1/namespaces/n/pods/p", "{kind: Pod, metadata: {name: p, namespace: n, uid: u}}");
    const OTHER: (&str, &str) = ("GET /api/v1/namespaces/n/pods/p", "{kind: Pod, metadata: {name: p, namespace: n, uid: another}}");
    const DELETE: (&str, &str) = ("DELETE /api/v1/namespaces/n/pods/p", "{kind: Status, status: Success}");

    async fn run(line: &str, answers: &[(&str, &str)]) -> (Result<i32>, String, Vec<String>) {
        use clap::{Args, FromArgMatches};
        let (session, record) = support::session(answers);
        let words = std::iter::once("drain").chain(line.split_whitespace());
        let drain = Drain::from_arg_matches(&Drain::augment_args(clap::Command::new("drain")).get_matches_from(words)).unwrap();
        let result = drain.run(&session).await;
        let changes = record.requests().into_iter().filter(|request| !request.starts_with("GET")).collect();
        (result, record.output(), changes)
    }

    /// A command line, what the server answers, what is printed, and what is asked.
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str, Vec<String>);

    #[tokio::test(start_paused = true)]
    async fn pods_go() {
        let evict = |options: &str| {
            format!(
                "POST /api/v1/namespaces/n/pods/p/eviction {{\"apiVersion\":\"policy/v1\",\"deleteOptions\":{options},\"kind\":\"Eviction\",\
                 \"metadata\":{{\"name\":\"p\",\"namespace\":\"n\"}}}}"
            )
        };
        let table: &[Row] = &[
            (
                "a --grace-period=3",
                &[NODE, PODS, EVICT],
                "node/a already cordoned\nevicting pod n/p\npod/p evicted\nnode/a drained\n",
                vec![evict("{\"gracePeriodSeconds\":3}")],
            ),
            // Another pod of the same name is another pod.
            (
                "a",
                &[NODE, PODS, EVICT, OTHER],
                "node/a already cordoned\nevicting pod n/p\npod/p evicted\nnode/a drained\n",
                vec![evict("{}")],
            ),
            (
                "a --dry-run=client",
                &[NODE, PODS],
                "node/a already cordoned (dry run)\nevicting pod n/p (dry run)\nnode/a drained (dry run)\n",
                vec![],
            ),
            (
                "a --dry-run=server",
                &[NODE, PODS, EVICT, STAYS],
                "node/a already cordoned (server dry run)\nevicting pod n/p (server dry run)\nnode/a drained (server dry run)\n",
                vec![evict("{\"dryRun\":[\"All\"]}")],
            ),
            (
                "a --disable-eviction",
                &[NODE, PODS, DELETE],
                "node/a already cordoned\npod/p deleted\nnode/a drained\n",
                vec!["DELETE /api/v1/namespaces/n/pods/p {\"apiVersion\":\"v1\",\"kind\":\"DeleteOptions\"}".into()],
            ),
            // A pod that is gone before it is asked to go.
            ("a", &[NODE, PODS], "node/a already cordoned\nevicting pod n/p\nnode/a drained\n", vec![evict("{}")]),
        ];
        for (line, answers, out, requests) in table {
            let (code, printed, sent) = run(line, answers).await;
            assert_eq!((code.unwrap(), printed.as_str(), &sent), (0, *out, requests), "{line}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends() {
        let (error, out, sent) = run("a --timeout=5s", &[NODE, PODS, EVICT, STAYS]).await;
        let want = "error when waiting for pod \"p\" in namespace \"n\" to terminate: context deadline exceeded";
        assert_eq!(
            (error.unwrap_err().to_string().as_str(), out.as_str(), sent.len()),
            (want, "node/a already cordoned\nevicting pod n/p\n", 1)
        );
        let refused = "{code: 429, reason: TooManyRequests, kind: Status, message: wait}";
        let refused = [NODE, PODS, STAYS, ("POST /api/v1/namespaces/n/pods/p/eviction", refused)];
        let (error, out, sent) = run("a --timeout=11s", &refused).await;
        let want = "error when evicting pods/\"p\" -n \"n\": global timeout reached: 11s";
        assert_eq!((error.unwrap_err().to_string().as_str(), sent.len()), (want, 3), "{out}");
        assert_eq!(out.matches("evicting pod n/p\n").count(), 4);
    }
}
