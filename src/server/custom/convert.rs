//! Between the version an object is stored in and the one it is asked for in.
//!
//! An object is stored as it was last written; a definition may have changed since. So what was stored before the newest definition is
//! given its stored version's defaults and pruned whenever it is read, as upstream does; what was stored since is as it should be.
//!
//! Follows apiextensions-apiserver `pkg/apiserver/{customresource_handler.go,conversion}`.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::Value;

use super::behaviour::shape;
use super::version::Definition;
use super::{Dynamic, webhook};
use crate::api::{Object, Status, structural};
use crate::server::registry::{Converter, KindDef, undecodable};
use crate::server::store::{Draft, Entry};

/// The conversion of one served version.
pub(super) struct Versions {
    pub definition: Arc<Definition>,
    pub index: usize,
}

/// An entry on its way.
struct Moving {
    /// Its place in the answer.
    at: usize,
    /// The version that `object` is in.
    version: usize,
    object: Dynamic,
}

impl Versions {
    async fn served(&self, mut entries: Vec<Arc<Entry>>) -> Result<Vec<Arc<Entry>>, Status> {
        let definition = &self.definition;
        let mut moving = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            if self.index == definition.storage() && entry.rev > definition.rev {
                continue;
            }
            let stored = Dynamic::of(entry).map_err(|error| undecodable(entry, &error))?;
            // A version that the definition no longer has is read as the one that is stored now.
            let version = definition.find(stored.text("apiVersion")).unwrap_or_else(|| definition.storage());
            let object = self.refreshed(version, &stored);
            if version == self.index && object.content == stored.content {
                continue;
            }
            moving.push(Moving { at, version, object });
        }
        self.convert(&mut moving).await?;
        for Moving { at, mut object, .. } in moving {
            let entry = &entries[at];
            // Decoded forms do not hold it, and no conversion changes it.
            object.meta.managed_fields = entry.managed_fields();
            entries[at] = Arc::new(Draft::keeping(Box::new(object)).at(entry.key.clone(), entry.rev));
        }
        Ok(entries)
    }

    /// A stored object, with the defaults and fields of its version's present schema.
    fn refreshed(&self, version: usize, stored: &Dynamic) -> Dynamic {
        let version = self.definition.version(version);
        let mut object = stored.clone();
        if !version.preserve {
            structural::drop_nulls(&mut object.content, Some(&version.schema));
            structural::fill(&mut object.content, &version.schema);
        }
        // Malformed metadata of embedded resources is dropped here, so there is nothing to refuse.
        let _ = shape(version, &mut object.content, true, &mut |_| ());
        object
    }

    /// Brings all to this version.
    async fn convert(&self, moving: &mut [Moving]) -> Result<(), Status> {
        let version = self.definition.version(self.index);
        let strategy = self.definition.crd.spec.conversion.as_ref();
        let mut foreign: Vec<&mut Moving> = moving.iter_mut().filter(|one| one.version != self.index).collect();
        if foreign.is_empty() {
            return Ok(());
        }
        match strategy.filter(|conversion| conversion.strategy == "Webhook").and_then(|conversion| conversion.webhook.as_ref()) {
            None => {}
            Some(hook) => {
                let objects: Vec<&Dynamic> = foreign.iter().map(|one| &one.object).collect();
                let converted = webhook::convert(&self.definition.outbound, hook, &objects, &version.api_version).await?;
                for (one, object) in foreign.iter_mut().zip(converted) {
                    one.object = object;
                }
            }
        }
        for one in foreign {
            one.version = self.index;
            one.object.map_mut().insert("apiVersion".into(), Value::from(version.api_version.as_str()));
            shape(version, &mut one.object.content, true, &mut |_| ()).map_err(Status::internal)?;
        }
        Ok(())
    }

    async fn stored(&self, object: &Dynamic) -> Result<Draft, Status> {
        let storage = self.definition.storage();
        if storage == self.index {
            return Ok(Draft::keeping(object.clone_object()));
        }
        let to = Versions { definition: self.definition.clone(), index: storage };
        let mut moving = [Moving { at: 0, version: self.index, object: object.clone() }];
        to.convert(&mut moving).await?;
        let [Moving { object, .. }] = moving;
        // What a reader would fill in at once is filled in now, so that the stored form can be served as it is.
        Ok(Draft::keeping(Box::new(to.refreshed(storage, &object))))
    }
}

impl Converter for Versions {
    fn serve<'a>(&'a self, _: &'a KindDef, entries: Vec<Arc<Entry>>) -> BoxFuture<'a, Result<Vec<Arc<Entry>>, Status>> {
        self.served(entries).boxed()
    }

    fn store<'a>(&'a self, _: &'a KindDef, object: &'a dyn Object) -> BoxFuture<'a, Result<Draft, Status>> {
        let object: &Dynamic = object.as_any().downcast_ref().expect("a row is only handed objects that it made");
        self.stored(object).boxed()
    }
}
