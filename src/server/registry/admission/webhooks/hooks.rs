//! The webhooks that are configured, compiled: rules and selectors parsed once for each revision of their configurations.
//!
//! Follows upstream's `apiserver/pkg/admission/configuration`. Configurations are sorted by name, which the order of the store's keys
//! already is; the webhooks of one keep their order.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    MatchCondition, MutatingWebhook, MutatingWebhookConfiguration, ValidatingWebhook, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use parking_lot::Mutex;

use super::super::matching::Matcher;
use super::review::Version;
use crate::api::policy::Conditions;
use crate::api::{Kind, Scope};
use crate::server::store::{Entry, Snapshot};

/// For a webhook that names no time.
const DEFAULT_TIMEOUT: i32 = 10;

/// One webhook, ready to be asked.
#[derive(Debug)]
pub(super) struct Hook {
    /// The name of the object it is configured in.
    pub configuration: String,
    pub name: String,
    /// Tells apart two of one name in one configuration.
    pub uid: String,
    pub matcher: Matcher,
    /// What must hold, besides, before it is asked.
    pub conditions: Conditions,
    pub client: WebhookClientConfig,
    pub timeout: Duration,
    /// Whether a failed call is no refusal.
    pub ignores_failure: bool,
    /// Whether it can be asked about a dry run.
    pub dry_runs: bool,
    pub version: Option<Version>,
    /// Whether a later change brings it up again.
    pub reinvocable: bool,
}

/// The hooks of one kind of configuration.
type Hooks = Arc<Vec<Arc<Hook>>>;

/// What was compiled last, and from what.
#[derive(Default)]
struct Compiled {
    from: Vec<Arc<Entry>>,
    hooks: Hooks,
}

impl Compiled {
    /// The hooks of the configurations in `state`; compiled anew only when one of them changed.
    fn of<T: Kind>(cell: &Mutex<Compiled>, state: &Snapshot, compile: fn(&T) -> Vec<Hook>) -> Hooks {
        let scope = Scope::of::<T>();
        let mut present = state.range(&scope).peekable();
        if present.peek().is_none() {
            return Hooks::default();
        }
        let mut compiled = cell.lock();
        let mut known = compiled.from.iter();
        let same = present.by_ref().all(|entry| known.next().is_some_and(|known| Arc::ptr_eq(known, entry))) && known.next().is_none();
        if !same {
            let from: Vec<Arc<Entry>> = state.range(&scope).cloned().collect();
            let mut hooks = Vec::new();
            for entry in &from {
                match entry.typed::<T>() {
                    Ok(configuration) => hooks.extend(compile(&configuration).into_iter().map(Arc::new)),
                    Err(error) => tracing::error!(%error, "a webhook configuration can't be read; its webhooks are not asked"),
                }
            }
            *compiled = Compiled { from, hooks: Arc::new(hooks) };
        }
        compiled.hooks.clone()
    }
}

/// The configured webhooks, kept between requests.
#[derive(Default)]
pub(in crate::server::registry) struct Configured {
    mutating: Mutex<Compiled>,
    validating: Mutex<Compiled>,
}

impl Configured {
    /// The mutating ones at this state.
    pub(super) fn mutating(&self, state: &Snapshot) -> Hooks {
        Compiled::of::<MutatingWebhookConfiguration>(&self.mutating, state, |configuration| {
            let name = configuration.metadata.name.as_deref().unwrap_or_default();
            number(name, configuration.webhooks.iter().flatten().map(|hook| mutating(name, hook)))
        })
    }

    /// The validating ones at this state.
    pub(super) fn validating(&self, state: &Snapshot) -> Hooks {
        Compiled::of::<ValidatingWebhookConfiguration>(&self.validating, state, |configuration| {
            let name = configuration.metadata.name.as_deref().unwrap_or_default();
            number(name, configuration.webhooks.iter().flatten().map(|hook| validating(name, hook)))
        })
    }
}

/// Gives each hook its uid: `CONFIGURATION/NAME/NTH OF THIS NAME`.
fn number(configuration: &str, hooks: impl Iterator<Item = Hook>) -> Vec<Hook> {
    let mut done: Vec<Hook> = Vec::new();
    for mut hook in hooks {
        let nth = done.iter().filter(|before| before.name == hook.name).count();
        hook.uid = format!("{configuration}/{}/{nth}", hook.name);
        done.push(hook);
    }
    done
}

fn mutating(configuration: &str, hook: &MutatingWebhook) -> Hook {
    Hook {
        configuration: configuration.into(),
        name: hook.name.clone(),
        uid: String::new(),
        matcher: Matcher::webhook(
            hook.rules.as_deref(),
            hook.match_policy.as_deref(),
            hook.namespace_selector.as_ref(),
            hook.object_selector.as_ref(),
        ),
        conditions: conditions(hook.match_conditions.as_deref()),
        client: hook.client_config.clone(),
        timeout: timeout(hook.timeout_seconds),
        ignores_failure: hook.failure_policy.as_deref() == Some("Ignore"),
        dry_runs: dry_runs(&hook.side_effects),
        version: Version::choose(&hook.admission_review_versions),
        reinvocable: hook.reinvocation_policy.as_deref() == Some("IfNeeded"),
    }
}

fn validating(configuration: &str, hook: &ValidatingWebhook) -> Hook {
    Hook {
        configuration: configuration.into(),
        name: hook.name.clone(),
        uid: String::new(),
        matcher: Matcher::webhook(
            hook.rules.as_deref(),
            hook.match_policy.as_deref(),
            hook.namespace_selector.as_ref(),
            hook.object_selector.as_ref(),
        ),
        conditions: conditions(hook.match_conditions.as_deref()),
        client: hook.client_config.clone(),
        timeout: timeout(hook.timeout_seconds),
        ignores_failure: hook.failure_policy.as_deref() == Some("Ignore"),
        dry_runs: dry_runs(&hook.side_effects),
        version: Version::choose(&hook.admission_review_versions),
        reinvocable: false,
    }
}

fn conditions(conditions: Option<&[MatchCondition]>) -> Conditions {
    let conditions = conditions.unwrap_or_default().iter();
    Conditions::new(conditions.map(|condition| (condition.name.as_str(), condition.expression.as_str())), false)
}

fn timeout(seconds: Option<i32>) -> Duration {
    Duration::from_secs(u64::from(seconds.unwrap_or(DEFAULT_TIMEOUT).clamp(1, 30).unsigned_abs()))
}

fn dry_runs(side_effects: &str) -> bool {
    ["None", "NoneOnDryRun"].contains(&side_effects)
}
