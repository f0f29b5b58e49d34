//! Kinds of core that are little used: templates on their own, and component states.

use k8s_openapi::api::core::v1::{ComponentStatus, PodTemplate};

use super::pod;
use super::support::path::{Errors, Path};
use super::support::print;

kind!(PodTemplate: NAMESPACED { returns_deleted: true, singular: "podtemplate" }
    fn apply_defaults(&mut self) {
        if let Some(template) = &mut self.template {
            pod::defaults::template(template);
        }
    }
    fn validate(&self, _old: Option<&Self>) -> Errors {
        let mut errors = Errors::new();
        let template = super::support::rules::part(&self.template);
        pod::validate::template(&mut errors, &Path::new("template"), &template);
        errors
    }
    columns!(PodTemplate;
        "Containers" string: "Names of its containers." => |one, _| print::container_names(print::containers_of(one.template.as_ref())),
        "Images" string: "Their images." => |one, _| print::container_images(print::containers_of(one.template.as_ref())),
        "Pod Labels" string: "Labels of its pods." => |one, _| print::text(print::labels(
            one.template.as_ref().and_then(|template| template.metadata.as_ref()).and_then(|meta| meta.labels.as_ref()))),
    );
);

kind!(ComponentStatus: CLUSTER { singular: "componentstatus", short: &["cs"], generation: false, computed: true }
    columns!(ComponentStatus;
        "Status" string: "Whether it is well." => |one, _| {
            let healthy = one.conditions.iter().flatten().find(|condition| condition.type_ == "Healthy");
            print::text(match healthy { Some(condition) if condition.status == "True" => "Healthy", _ => "Unhealthy" })
        },
        "Message" string: "What it says." =>
            |one, _| print::opt(&one.conditions.iter().flatten().find(|c| c.type_ == "Healthy").and_then(|c| c.message.clone())),
        "Error" string: "What is wrong." =>
            |one, _| print::opt(&one.conditions.iter().flatten().find(|c| c.type_ == "Healthy").and_then(|c| c.error.clone())),
    );
);
