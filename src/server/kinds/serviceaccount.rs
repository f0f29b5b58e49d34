//! ServiceAccount: who a pod is to the API.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::support::print;

kind!(ServiceAccount: NAMESPACED { returns_deleted: true, singular: "serviceaccount", short: &["sa"], generation: false }
    fn prepare_create(&mut self) {
        if let Some(secrets) = &mut self.secrets {
            for secret in secrets {
                *secret = k8s_openapi::api::core::v1::ObjectReference { name: secret.name.take(), ..Default::default() };
            }
        }
    }
    columns!(ServiceAccount;
        "Secrets" string: "How many secrets it lists." => |account, _| print::count(account.secrets.as_ref().map_or(0, Vec::len)),
        "Age" string: "Time since creation." => print::age);
);
