//! Secrets whose tokens are used say on which day that was last (upstream's `LegacyServiceAccountTokenTracking`).

use k8s_openapi::api::core::v1::Secret;

use super::AppState;
use crate::api::Object;
use crate::server::auth::Lookup;
use crate::server::auth::authn::LegacyUse;
use crate::server::auth::authn::service_account::LAST_USED;
use crate::server::registry::{Part, WriteOptions};

/// Writes the day into the Secret's label, in the background and once a day.
pub(super) fn used(app: &AppState, used: LegacyUse) {
    let today = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let secret = Lookup::get::<Secret>(&app.registry.store().snapshot(), &used.namespace, &used.secret);
    let known = secret.is_none_or(|s| s.metadata.labels.as_ref().and_then(|labels| labels.get(LAST_USED)) == Some(&today));
    if known || !app.marking.lock().insert(used.secret.clone() + "/" + &used.namespace) {
        return;
    }
    let app = app.clone();
    tokio::spawn(async move {
        let mark = |object: &mut dyn Object| {
            object.meta_mut().labels.get_or_insert_default().insert(LAST_USED.into(), today.clone());
            Ok(())
        };
        let written = match app.kind_of::<Secret>() {
            Ok(kind) => {
                let options = WriteOptions { field_manager: "kube-apiserver".into(), ..WriteOptions::default() };
                app.registry.edit(&kind, &used.namespace, &used.secret, Part::Main, &mark, &options).await.map(drop)
            }
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            tracing::warn!(namespace = used.namespace, secret = used.secret, %error, "noting the use of a secret-based token");
        }
        app.marking.lock().remove(&(used.secret.clone() + "/" + &used.namespace));
    });
}
