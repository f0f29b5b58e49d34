//! Gives each pod a service account and the means to use it (kubernetes `plugin/pkg/admission/serviceaccount`): the account `default`
//! unless another is named, its image pull secrets, and a projected volume with token, CA and namespace in every container.

use k8s_openapi::api::core::v1::{
    ConfigMapProjection, Container, DownwardAPIProjection, DownwardAPIVolumeFile, EnvVar, KeyToPath, ObjectFieldSelector, Pod, PodSpec,
    ProjectedVolumeSource, ServiceAccount, ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};

use super::super::meta::random_suffix;
use super::{Check, Operation, Request, unreadable};
use crate::api::{Key, Status};

const DEFAULT: &str = "default";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME: &str = "kube-api-access-";
/// A pod that the agent made from a file, shown by the API.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// On an account: its pods may use its own secrets only.
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";
/// An hour and a little: the agent renews it long before.
const EXPIRATION: i64 = 3607;

pub(super) struct ServiceAccounts;

impl Check for ServiceAccounts {
    fn handles(&self, request: &Request<'_>) -> bool {
        let ways = [(Operation::Create, ""), (Operation::Update, "ephemeralcontainers")];
        ways.contains(&(request.operation, request.subresource())) && request.object.as_any().is::<Pod>()
    }

    fn mutate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        if request.operation != Operation::Create {
            return Ok(());
        }
        let namespace = request.namespace();
        let Some(pod) = request.object::<Pod>() else { return Ok(()) };
        let mirror = is_mirror(pod);
        let Some(spec) = pod.spec.as_mut() else { return Ok(()) };
        if mirror {
            return check_mirror(spec).map_err(|why| request.forbidden(why));
        }
        let name = spec.service_account_name.take().or(spec.service_account.take()).filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| DEFAULT.into());
        spec.service_account_name = Some(name.clone());
        // The deprecated twin is kept equal, as upstream's conversion does.
        spec.service_account = Some(name.clone());
        let key = Key::new("", "serviceaccounts", &namespace, if name.contains('/') { "" } else { &name });
        let Some(entry) = request.snapshot.get(&key) else {
            // A new namespace's account is made by a controller, a moment after the namespace.
            request.awaiting = (name == DEFAULT).then_some(key);
            let why = format!("error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found");
            return Err(request.forbidden(why));
        };
        let account = entry.typed::<ServiceAccount>().map_err(unreadable)?;
        let Some(spec) = request.object::<Pod>().and_then(|pod| pod.spec.as_mut()) else { return Ok(()) };
        if spec.automount_service_account_token.or(account.automount_service_account_token).unwrap_or(true) {
            mount_token(spec);
        }
        if spec.image_pull_secrets.as_ref().is_none_or(Vec::is_empty) {
            spec.image_pull_secrets = account.image_pull_secrets.clone().filter(|secrets| !secrets.is_empty());
        }
        Ok(())
    }

    fn validate(&self, request: &mut Request<'_>) -> Result<(), Status> {
        let Some(pod) = request.object.as_any().downcast_ref::<Pod>().filter(|pod| !is_mirror(pod)) else { return Ok(()) };
        let Some(spec) = &pod.spec else { return Ok(()) };
        let name = spec.service_account_name.as_deref().filter(|name| !name.is_empty()).unwrap_or(DEFAULT);
        let key = Key::of::<ServiceAccount>(&request.namespace(), name);
        let Some(entry) = request.snapshot.get(&key) else { return Ok(()) };
        let enforced = entry.meta().annotations.as_ref().and_then(|all| all.get(ENFORCE)).is_some_and(|value| value == "true");
        if !enforced {
            return Ok(());
        }
        let account = entry.typed::<ServiceAccount>().map_err(unreadable)?;
        let creates = request.operation == Operation::Create;
        secrets_are_mountable(spec, &account, creates).map_err(|why| request.forbidden(why))
    }
}

fn is_mirror(pod: &Pod) -> bool {
    pod.metadata.annotations.as_ref().is_some_and(|annotations| annotations.contains_key(MIRROR))
}

/// Pods of an account that says so use no secrets but its own. Once a pod is there, only its ephemeral containers are new.
fn secrets_are_mountable(spec: &PodSpec, account: &ServiceAccount, creates: bool) -> Result<(), String> {
    let account_name = account.metadata.name.as_deref().unwrap_or_default();
    let mountable = |secret: &str| account.secrets.iter().flatten().any(|own| own.name.as_deref() == Some(secret));
    let refuses = |what: String| format!("{what} is not allowed because service account {account_name} does not reference that secret");
    let in_environment = |sort: &str, container: &str, env: &Option<Vec<EnvVar>>| {
        for variable in env.iter().flatten() {
            let secret = variable.value_from.as_ref().and_then(|from| from.secret_key_ref.as_ref()).map(|secret| secret.name.as_str());
            if let Some(secret) = secret.filter(|secret| !mountable(secret)) {
                let name = &variable.name;
                return Err(refuses(format!("{sort} {container} with envVar {name} referencing secret.secretName=\"{secret}\"")));
            }
        }
        Ok(())
    };
    if !creates {
        return spec.ephemeral_containers.iter().flatten().try_for_each(|one| in_environment("ephemeral container", &one.name, &one.env));
    }
    let volumes = spec.volumes.iter().flatten().filter_map(|volume| volume.secret.as_ref()?.secret_name.as_deref());
    if let Some(secret) = volumes.into_iter().find(|secret| !mountable(secret)) {
        return Err(refuses(format!("volume with secret.secretName=\"{secret}\"")));
    }
    spec.init_containers.iter().flatten().try_for_each(|one| in_environment("init container", &one.name, &one.env))?;
    spec.containers.iter().try_for_each(|one| in_environment("container", &one.name, &one.env))?;
    for (index, secret) in spec.image_pull_secrets.iter().flatten().enumerate() {
        if !account.image_pull_secrets.iter().flatten().any(|own| own.name == secret.name) {
            let what = format!("imagePullSecrets[{index}].name=\"{}\"", secret.name);
            return Err(format!("{what} is not allowed because service account {account_name} does not reference that imagePullSecret"));
        }
    }
    Ok(())
}

fn check_mirror(spec: &PodSpec) -> Result<(), &'static str> {
    if spec.service_account_name.as_deref().is_some_and(|name| !name.is_empty()) {
        return Err("a mirror pod may not reference service accounts");
    }
    let volumes = || spec.volumes.iter().flatten();
    if volumes().any(|volume| volume.secret.is_some()) {
        return Err("a mirror pod may not reference secrets");
    }
    let projects = |volume: &Volume| {
        volume
            .projected
            .iter()
            .flat_map(|projected| projected.sources.iter().flatten())
            .any(|source| source.service_account_token.is_some())
    };
    if volumes().any(projects) { Err("a mirror pod may not use ServiceAccountToken volume projections") } else { Ok(()) }
}

/// Mounts the token in every container that has nothing of its own at the path.
fn mount_token(spec: &mut PodSpec) {
    let present = spec.volumes.iter().flatten().find(|volume| volume.name.starts_with(VOLUME)).map(|volume| volume.name.clone());
    let name = present.clone().unwrap_or_else(|| format!("{VOLUME}{}", random_suffix()));
    let mut needed = false;
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        needed |= mount_in(container, &name);
    }
    if needed && present.is_none() {
        spec.volumes.get_or_insert_default().push(token_volume(name));
    }
}

fn mount_in(container: &mut Container, volume: &str) -> bool {
    let mounts = container.volume_mounts.get_or_insert_default();
    let free = mounts.iter().all(|mount| mount.mount_path != MOUNT_PATH);
    if free {
        mounts.push(VolumeMount { name: volume.into(), read_only: Some(true), mount_path: MOUNT_PATH.into(), ..VolumeMount::default() });
    }
    free
}

fn token_volume(name: String) -> Volume {
    let token = ServiceAccountTokenProjection { path: "token".into(), expiration_seconds: Some(EXPIRATION), ..Default::default() };
    let ca = ConfigMapProjection {
        name: "kube-root-ca.crt".into(),
        items: Some(vec![KeyToPath { key: "ca.crt".into(), path: "ca.crt".into(), ..KeyToPath::default() }]),
        optional: None,
    };
    let field = ObjectFieldSelector { api_version: Some("v1".into()), field_path: "metadata.namespace".into() };
    let namespace = DownwardAPIVolumeFile { path: "namespace".into(), field_ref: Some(field), ..Default::default() };
    let namespace = DownwardAPIProjection { items: Some(vec![namespace]) };
    let sources = vec![
        VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() },
        VolumeProjection { config_map: Some(ca), ..VolumeProjection::default() },
        VolumeProjection { downward_api: Some(namespace), ..VolumeProjection::default() },
    ];
    let projected = ProjectedVolumeSource { default_mode: Some(0o644), sources: Some(sources), ..Default::default() };
    Volume { name, projected: Some(projected), ..Volume::default() }
}
