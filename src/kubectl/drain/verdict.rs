//! Which pods of a node go, which stay, and which forbid that the node is drained.
//!
//! Follows `kubectl/pkg/drain/filters.go`: rules are asked in order, the first that keeps a pod decides, and what an earlier one warns of
//! is forgotten when a later one has nothing to say.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::Value;

use super::Drain;
use crate::kubectl::error::{Error, Result};

const MIRROR: &str = "kubernetes.io/config.mirror";

/// DaemonSets by namespace and name: whether they are there.
pub type DaemonSets = BTreeMap<(String, String), Result<()>>;

/// What becomes of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Goes,
    /// It goes, which somebody should know.
    GoesBut(String),
    Stays,
    /// It stays, which somebody should know.
    StaysBut(String),
    Forbids(String),
}

/// A pod of the node.
pub struct Pod {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    verdict: Verdict,
}

/// All pods of the node.
pub struct Verdicts(pub Vec<Pod>);

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn controller(pod: &Value) -> Option<&Value> {
    pod["metadata"]["ownerReferences"].as_array()?.iter().find(|owner| owner["controller"] == true)
}

fn is_finished(pod: &Value) -> bool {
    matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// The DaemonSet that has to be looked for before a pod can be judged.
pub fn daemon_set(pod: &Value) -> Option<(String, String)> {
    let owner = controller(pod).filter(|owner| owner["kind"] == "DaemonSet" && !is_finished(pod))?;
    Some((text(&pod["metadata"]["namespace"]), text(&owner["name"])))
}

/// Whether a pod is being deleted for longer than anybody wants to wait.
pub fn is_given_up(pod: &Value, limit: i64, now: Timestamp) -> bool {
    let since = pod["metadata"]["deletionTimestamp"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    limit > 0 && since.is_some_and(|since| now.as_second().saturating_sub(since.as_second()) > limit)
}

/// Judges a pod.
pub fn of(flags: &Drain, pod: Value, sets: &DaemonSets, now: Timestamp) -> Pod {
    let rules: [&dyn Fn() -> Verdict; 5] = [
        &|| if is_given_up(&pod, flags.skip_wait_for_delete_timeout, now) { Verdict::Stays } else { Verdict::Goes },
        &|| of_daemon_set(flags, &pod, sets),
        &|| if pod["metadata"]["annotations"].get(MIRROR).is_some() { Verdict::Stays } else { Verdict::Goes },
        &|| with_local_data(flags, &pod),
        &|| without_controller(flags, &pod),
    ];
    let mut verdict = Verdict::Goes;
    for rule in rules {
        verdict = rule();
        if !matches!(verdict, Verdict::Goes | Verdict::GoesBut(_)) {
            break;
        }
    }
    let meta = &pod["metadata"];
    Pod { namespace: text(&meta["namespace"]), name: text(&meta["name"]), uid: text(&meta["uid"]), verdict }
}

fn of_daemon_set(flags: &Drain, pod: &Value, sets: &DaemonSets) -> Verdict {
    match daemon_set(pod).and_then(|set| sets.get(&set)) {
        None => Verdict::Goes,
        // Nobody would make it anew.
        Some(Err(error)) if error.is_not_found() && flags.force => Verdict::GoesBut(error.plain()),
        Some(Err(error)) => Verdict::Forbids(error.plain()),
        Some(Ok(())) if flags.ignore_daemonsets => Verdict::StaysBut("ignoring DaemonSet-managed Pods".into()),
        Some(Ok(())) => Verdict::Forbids("DaemonSet-managed Pods (use --ignore-daemonsets to ignore)".into()),
    }
}

fn with_local_data(flags: &Drain, pod: &Value) -> Verdict {
    let local = pod["spec"]["volumes"].as_array().into_iter().flatten().any(|volume| volume["emptyDir"].is_object());
    match (local && !is_finished(pod), flags.delete_emptydir_data) {
        (false, _) => Verdict::Goes,
        (true, true) => Verdict::GoesBut("deleting Pods with local storage".into()),
        (true, false) => Verdict::Forbids("Pods with local storage (use --delete-emptydir-data to override)".into()),
    }
}

fn without_controller(flags: &Drain, pod: &Value) -> Verdict {
    match (controller(pod).is_some() || is_finished(pod), flags.force) {
        (true, _) => Verdict::Goes,
        (false, true) => Verdict::GoesBut("deleting Pods that declare no controller".into()),
        (false, false) => Verdict::Forbids("cannot delete Pods that declare no controller (use --force to override)".into()),
    }
}

impl Verdicts {
    /// The pods that go.
    pub fn going(&self) -> Vec<&Pod> {
        self.0.iter().filter(|pod| matches!(pod.verdict, Verdict::Goes | Verdict::GoesBut(_))).collect()
    }

    /// What somebody should know, in one line.
    pub fn warnings(&self) -> Option<String> {
        let said = self.by(|verdict| match verdict {
            Verdict::GoesBut(text) | Verdict::StaysBut(text) => Some(text),
            _ => None,
        });
        let lines: Vec<String> = said.iter().map(|(text, pods)| format!("{text}: {}", pods.join(", "))).collect();
        Some(lines.join("; ")).filter(|text| !text.is_empty())
    }

    /// Why the node can't be drained.
    pub fn refusal(&self) -> Result<()> {
        let said = self.by(|verdict| if let Verdict::Forbids(text) = verdict { Some(text) } else { None });
        let errors = said.iter().map(|(text, pods)| {
            let start = if text.to_lowercase().starts_with("cannot delete") { "" } else { "cannot delete " };
            Error::Usage(format!("{start}{text}: {}", pods.join(", ")))
        });
        let errors: Vec<Error> = errors.collect();
        if errors.is_empty() { Ok(()) } else { Err(Error::Several(errors)) }
    }

    /// The pods of which the same is said, in the order in which it first was.
    fn by<'a>(&'a self, said: impl Fn(&'a Verdict) -> Option<&'a String>) -> Vec<(&'a String, Vec<String>)> {
        let mut groups: Vec<(&String, Vec<String>)> = Vec::new();
        for pod in &self.0 {
            let Some(text) = said(&pod.verdict) else { continue };
            let name = format!("{}/{}", pod.namespace, pod.name);
            match groups.iter_mut().find(|(other, _)| *other == text) {
                Some((_, pods)) => pods.push(name),
                None => groups.push((text, vec![name])),
            }
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(line: &str) -> Drain {
        use clap::{Args, FromArgMatches};
        let words = std::iter::once("drain").chain(line.split_whitespace());
        Drain::from_arg_matches(&Drain::augment_args(clap::Command::new("drain")).get_matches_from(words)).unwrap()
    }

    fn judged(line: &str, pod: &str) -> Verdict {
        let mut pod: Value = serde_yaml::from_str(pod).unwrap();
        pod["metadata"]["namespace"] = "n".into();
        let gone = || {
            let text = "{reason: NotFound, message: 'daemonsets.apps \"gone\" not found'}";
            Err(Error::Api(Box::new(serde_yaml::from_str(text).unwrap())))
        };
        let sets = BTreeMap::from([(("n".to_owned(), "there".to_owned()), Ok(())), (("n".to_owned(), "gone".to_owned()), gone())]);
        of(&flags(line), pod, &sets, "2026-01-01T00:01:00Z".parse().unwrap()).verdict
    }

    #[test]
    fn each_pod_is_judged() {
        let owned = |kind: &str, name: &str| format!("ownerReferences: [{{kind: {kind}, name: {name}, controller: true}}]");
        let [managed, there, gone] = [owned("ReplicaSet", "r"), owned("DaemonSet", "there"), owned("DaemonSet", "gone")];
        let forbids = |text: &str| Verdict::Forbids(text.into());
        let alone = forbids("cannot delete Pods that declare no controller (use --force to override)");
        let local = forbids("Pods with local storage (use --delete-emptydir-data to override)");
        let daemon = forbids("DaemonSet-managed Pods (use --ignore-daemonsets to ignore)");
        let missing = "daemonsets.apps \"gone\" not found";
        let empty_dir = "spec: {volumes: [{name: v, emptyDir: {}}]}";
        let table = [
            ("", format!("{{metadata: {{{managed}}}}}"), Verdict::Goes),
            ("", "{metadata: {}}".into(), alone.clone()),
            ("--force", "{metadata: {}}".into(), Verdict::GoesBut("deleting Pods that declare no controller".into())),
            ("", "{metadata: {}, status: {phase: Succeeded}}".into(), Verdict::Goes),
            ("", "{metadata: {}, status: {phase: Failed}, spec: {volumes: [{emptyDir: {}}]}}".into(), Verdict::Goes),
            ("", "{metadata: {annotations: {kubernetes.io/config.mirror: x}}}".into(), Verdict::Stays),
            ("", format!("{{metadata: {{{managed}}}, {empty_dir}}}"), local),
            ("--delete-emptydir-data", format!("{{metadata: {{{managed}}}, {empty_dir}}}"), Verdict::Goes),
            ("--delete-emptydir-data", format!("{{metadata: {{}}, {empty_dir}}}"), alone),
            ("", format!("{{metadata: {{{there}}}}}"), daemon),
            ("--ignore-daemonsets", format!("{{metadata: {{{there}}}}}"), Verdict::StaysBut("ignoring DaemonSet-managed Pods".into())),
            ("--force", format!("{{metadata: {{{there}}}}}"), forbids("DaemonSet-managed Pods (use --ignore-daemonsets to ignore)")),
            ("", format!("{{metadata: {{{there}}}, status: {{phase: Failed}}}}"), Verdict::Goes),
            ("--ignore-daemonsets", format!("{{metadata: {{{gone}}}}}"), forbids(missing)),
            // Upstream's warning is lost, since the later rules have none.
            ("--force", format!("{{metadata: {{{gone}}}}}"), Verdict::Goes),
            ("", format!("{{metadata: {{{managed}, deletionTimestamp: '2026-01-01T00:00:00Z'}}}}"), Verdict::Goes),
            (
                "--skip-wait-for-delete-timeout=50",
                format!("{{metadata: {{{managed}, deletionTimestamp: '2026-01-01T00:00:00Z'}}}}"),
                Verdict::Stays,
            ),
            (
                "--skip-wait-for-delete-timeout=60",
                format!("{{metadata: {{{managed}, deletionTimestamp: '2026-01-01T00:00:00Z'}}}}"),
                Verdict::Goes,
            ),
        ];
        for (line, pod, want) in table {
            assert_eq!(judged(line, &pod), want, "{line} {pod}");
        }
    }

    #[test]
    fn what_is_said_of_all() {
        let pod = |name: &str, verdict| Pod { namespace: "n".into(), name: name.into(), uid: String::new(), verdict };
        let verdicts = Verdicts(vec![
            pod("a", Verdict::StaysBut("ignoring".into())),
            pod("b", Verdict::GoesBut("deleting".into())),
            pod("c", Verdict::StaysBut("ignoring".into())),
            pod("d", Verdict::Goes),
            pod("e", Verdict::Stays),
        ]);
        assert_eq!(verdicts.warnings().as_deref(), Some("ignoring: n/a, n/c; deleting: n/b"));
        assert_eq!(verdicts.going().iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["b", "d"]);
        assert!(verdicts.refusal().is_ok());
        let refused =
            Verdicts(vec![pod("a", Verdict::Forbids("Pods of a kind".into())), pod("b", Verdict::Forbids("cannot delete this".into()))]);
        let error = refused.refusal().unwrap_err();
        assert_eq!(error.plain(), "[cannot delete Pods of a kind: n/a, cannot delete this: n/b]");
        assert_eq!(error.to_string(), "cannot delete Pods of a kind: n/a\ncannot delete this: n/b");
    }
}
