//! The types of the served kinds, for those who check expressions: from the schemas of built-in types and of definitions.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;

use super::controllers::KindTypes;
use super::registry::{KindRef, MergeSchema, Registry};
use crate::api::cel::{DeclType, Type};

/// The kinds of a registry.
pub(super) struct ServedTypes(pub Registry);

impl KindTypes for ServedTypes {
    fn kind(&self, group: &str, version: &str, resource: &str) -> Option<String> {
        self.0.kind(group, version, resource).map(|kind| kind.kind().to_owned())
    }

    fn object(&self, group: &str, version: &str, kind: &str) -> Option<Type> {
        let named = |row: &KindRef| row.group() == group && row.version() == version && row.kind() == kind;
        let row = self.0.kinds().into_iter().find(named)?;
        object_type(&row)
    }
}

fn object_type(row: &KindRef) -> Option<Type> {
    if let MergeSchema::OpenApi(schema) = row.merge_schema() {
        return DeclType::from_schema(row.kind(), &schema, true).map(|decl| decl.ty);
    }
    let mut generator = SchemaGenerator::new(SchemaSettings::openapi3().with(|settings| settings.transforms.clear()));
    let schema = row.schema(&mut generator).to_value();
    let definitions = generator.take_definitions(false);
    let refs = |target: &str| definitions.get(target.rsplit('/').next().unwrap_or(target));
    DeclType::from_schema_with(row.kind(), &schema, true, &refs).map(|decl| decl.ty)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::cel::Env;
    use crate::server::kinds::KINDS;

    #[test]
    fn every_built_in_kind_has_a_type() {
        for row in KINDS.iter() {
            assert!(object_type(row).is_some(), "{row:?}");
        }
        let deployment = KINDS.iter().find(|row| row.kind() == "Deployment").unwrap();
        let env = Env::new().with("object", object_type(deployment).unwrap());
        for expression in [
            "object.spec.replicas > 1",
            "object.metadata.name == 'a' && object.metadata.labels.app == 'b'",
            "object.spec.template.spec.containers.all(c, c.image.startsWith('a') && c.resources.limits['cpu'] != '')",
            "object.metadata.creationTimestamp < timestamp('2020-01-01T00:00:00Z')",
            "object.spec.strategy.rollingUpdate.maxSurge == 1",
        ] {
            assert!(env.compile(expression).is_ok(), "{expression}: {}", env.compile(expression).unwrap_err());
        }
        assert!(env.compile("object.spec.replicas > '1'").is_err());
        assert!(env.compile("object.spec.nope").is_err());
    }
}
