//! POST: upstream's `Store.Create` and `rest.BeforeCreate`.

use std::sync::Arc;
use std::time::Duration;

use super::admission::{Asked, Findings, Operation, Phase, Refusal};
use super::ownership::{Before, Entries};
use super::{Body, KindDef, Registry, WriteOptions, Written, decode, meta, now, store_failure};
use crate::api::{Key, Object, Scope, Status};
use crate::server::store::{Change, Entry, Expect, StoreError};

/// How often a generated name is drawn again when it is taken, as upstream.
const NAME_ATTEMPTS: usize = 8;
/// How long a write waits for an object that a controller is about to make (a new namespace's service account), about as upstream.
const PATIENCE: Duration = Duration::from_millis(1500);

impl Registry {
    /// POST.
    pub async fn create(&self, kind: &KindDef, namespace: &str, body: Body, options: &WriteOptions) -> Result<Written, Status> {
        let (object, warnings) = decode::object(kind, &body, options.field_validation)?;
        self.create_decoded(kind, namespace, object, warnings, options).await
    }

    /// Creates an object that trusted code made: without the decoding, with all else.
    pub async fn create_object(&self, mut object: Box<dyn Object>, options: &WriteOptions) -> Result<Written, Status> {
        let kind =
            self.kind_of(object.as_ref()).ok_or_else(|| Status::internal("an object of a type that no kind serves can't be created"))?;
        let namespace = object.meta().namespace.clone().unwrap_or_default();
        kind.apply_defaults(object.as_mut());
        self.create_decoded(&kind, &namespace, object, Vec::new(), options).await
    }

    pub(super) async fn create_decoded(
        &self,
        kind: &KindDef,
        namespace: &str,
        mut object: Box<dyn Object>,
        warnings: Vec<String>,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        let managed = if kind.info.virtual_only { None } else { self.track(kind, &Before::nothing(), object.as_mut(), options).await };
        self.create_owned(kind, namespace, object, managed, warnings, options).await
    }

    /// Creates an object of which it is known who owns what.
    pub(super) async fn create_owned(
        &self,
        kind: &KindDef,
        namespace: &str,
        mut object: Box<dyn Object>,
        managed: Entries,
        warnings: Vec<String>,
        options: &WriteOptions,
    ) -> Result<Written, Status> {
        if kind.info.virtual_only {
            // Answered by the HTTP layer; must never be stored.
            return Err(Status::method_not_allowed("create"));
        }
        if let Some(why) = kind.closed("create") {
            return Err(Status::new(405, "MethodNotAllowed", why));
        }
        meta::settle_namespace(kind, object.meta_mut(), namespace)?;
        let asked = Asked { kind, operation: Operation::Create, old: None, options, deletion: None };
        let mut findings = Findings { warnings, ..Findings::default() };
        object.meta_mut().managed_fields.clone_from(&managed);
        self.admit_patiently(asked, &mut object, &mut findings).await?;
        meta::check_managed(object.meta_mut(), managed, &mut findings.warnings);
        // Admission adds volumes, ports and the like, which have defaults too.
        kind.apply_defaults(object.as_mut());
        let named = object.meta().name.as_deref().is_some_and(|name| !name.is_empty());
        let generated = !named && object.meta().generate_name.as_deref().is_some_and(|base| !base.is_empty());
        let attempts = if generated { NAME_ATTEMPTS } else { 1 };
        for _ in 1..attempts {
            match self.create_once(asked, object.clone_object(), &mut findings).await {
                Err(status) if status.reason == "AlreadyExists" => {}
                done => return written(kind, done?, findings),
            }
        }
        let done = self.create_once(asked, object, &mut findings).await;
        // Whatever was set aside for it is given back only now that the snapshot shows it taken.
        written(kind, done?, findings)
    }

    /// From the admitted object to the entry, in working form.
    async fn create_once(&self, asked: Asked<'_>, mut object: Box<dyn Object>, findings: &mut Findings) -> Result<Arc<Entry>, Status> {
        let Asked { kind, options, .. } = asked;
        meta::fill_new(kind, object.meta_mut(), &now())?;
        let metadata = object.meta_mut();
        if metadata.name.as_deref().is_none_or(str::is_empty) {
            metadata.name = metadata.generate_name.as_deref().filter(|base| !base.is_empty()).map(meta::generate_name);
        }
        kind.prepare_create(object.as_mut());
        self.admit(Phase::Reserve, asked, &mut object, findings).await?;
        // Upstream fills in defaults at each read of what is stored; here what is stored has them already.
        kind.apply_defaults(object.as_mut());
        let name = object.meta().name.clone().unwrap_or_default();
        let mut errors = meta::validate(kind, object.meta());
        errors.extend(kind.validate(object.as_ref(), None));
        if !errors.is_empty() {
            return Err(Status::invalid(kind.group(), kind.kind(), &name, errors));
        }
        self.admit(Phase::Validate, asked, &mut object, findings).await?;
        let namespace = object.meta().namespace.as_deref().unwrap_or_default();
        let key = kind.key(namespace, &name).ok_or_else(|| Status::bad_request(format!("\"{name}\" is not the name of an object")))?;
        let taken = || Status::already_exists(kind.group(), kind.resource(), &name);
        if options.dry_run {
            let snapshot = self.store().snapshot();
            return match snapshot.get(&key) {
                Some(_) => Err(taken()),
                None => Ok(kind.entry(object.as_ref(), key, snapshot.rev()).into()),
            };
        }
        let draft = kind.draft(object).await?;
        let entry = self.store().commit(key, Expect::Absent, Change::Put(draft)).await.map_err(|error| match error {
            StoreError::Conflict(_) => taken(),
            other => store_failure(&other),
        })?;
        kind.serve_one(&entry).await
    }

    /// Mutating admission, waiting once for an object that is about to be there.
    pub(super) async fn admit_patiently(
        &self,
        asked: Asked<'_>,
        object: &mut Box<dyn Object>,
        findings: &mut Findings,
    ) -> Result<(), Status> {
        let awaited = match self.admit(Phase::Mutate, asked, object, findings).await {
            Err(Refusal { awaiting: Some(key), .. }) => key,
            done => return done.map_err(Status::from),
        };
        self.wait_for(&awaited).await;
        Ok(self.admit(Phase::Mutate, asked, object, findings).await?)
    }

    /// Waits until the key is written, or patience ends.
    async fn wait_for(&self, key: &Key) {
        let snapshot = self.store().snapshot();
        if snapshot.get(key).is_some() {
            return;
        }
        // An expired start means that much happened meanwhile: look again at once. A timeout is answered by the second look, too.
        if let Ok(mut watch) = self.store().watch(Scope::object(key), snapshot.rev()) {
            drop(snapshot);
            let _ = tokio::time::timeout(PATIENCE, watch.next()).await;
        }
    }
}

fn written(kind: &KindDef, entry: Arc<Entry>, findings: Findings) -> Result<Written, Status> {
    let entry = kind.present(&entry)?;
    Ok(Written { entry, created: true, warnings: findings.warnings, annotations: findings.annotations })
}
