//! flowcontrol.apiserver.k8s.io: what `server/http/fairness` compiles, and the controller `fairness` keeps.

use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};

use super::flowcontrol_rules;
use super::support::path::Errors;
use super::support::{print, rules};
use crate::server::registry::strategy::{Cell, Subresource};

kind!(FlowSchema: CLUSTER { singular: "flowschema", subresources: &[Subresource::Status] }
    separate_status!();
    fn apply_defaults(&mut self) {
        self.spec.matching_precedence.get_or_insert(1000);
    }
    fn validate(&self, _old: Option<&Self>) -> Errors {
        flowcontrol_rules::schema(self)
    }
    columns!(FlowSchema;
        "PriorityLevel" string: "Where its requests go." => |one, _| print::text(&one.spec.priority_level_configuration.name),
        "MatchingPrecedence" string: "Lower is tried first." => |one, _| print::int(one.spec.matching_precedence),
        "DistinguisherMethod" string: "How flows are told apart." => |one, _| print::text(
            one.spec.distinguisher_method.as_ref().map_or(print::NONE, |method| method.type_.as_str())),
        "Age" string: "Time since creation." => print::age,
        "MissingPL" string: "Whether the level is missing." => |one, _| {
            let status = rules::part(&one.status);
            let found = status.conditions.iter().flatten().find(|condition| condition.type_ == "Dangling");
            print::text(found.and_then(|condition| condition.status.clone()).unwrap_or_else(|| "?".into()))
        },
    );
);

kind!(PriorityLevelConfiguration: CLUSTER { singular: "prioritylevelconfiguration", subresources: &[Subresource::Status] }
    separate_status!();
    fn apply_defaults(&mut self) {
        let spec = &mut self.spec;
        if let Some(limited) = &mut spec.limited {
            limited.nominal_concurrency_shares.get_or_insert(30);
            limited.lendable_percent.get_or_insert(0);
            if limited.limit_response.type_ == "Queue" {
                let queuing = limited.limit_response.queuing.get_or_insert_default();
                queuing.queues.get_or_insert(64);
                queuing.hand_size.get_or_insert(8);
                queuing.queue_length_limit.get_or_insert(50);
            }
        }
        if let Some(exempt) = &mut spec.exempt {
            exempt.nominal_concurrency_shares.get_or_insert(0);
            exempt.lendable_percent.get_or_insert(0);
        }
    }
    fn validate(&self, _old: Option<&Self>) -> Errors {
        flowcontrol_rules::level(self)
    }
    columns!(PriorityLevelConfiguration;
        "Type" string: "Whether requests are limited." => |one, _| print::text(&one.spec.type_),
        "NominalConcurrencyShares" string: "Its share." =>
            |one, _| number(one.spec.limited.as_ref().and_then(|limited| limited.nominal_concurrency_shares)),
        "Queues" string: "How many queues." => |one, _| number(queuing(one).0),
        "HandSize" string: "Queues tried for a request." => |one, _| number(queuing(one).1),
        "QueueLengthLimit" string: "How long a queue may be." => |one, _| number(queuing(one).2),
        "Age" string: "Time since creation." => print::age,
    );
);

fn queuing(level: &PriorityLevelConfiguration) -> (Option<i32>, Option<i32>, Option<i32>) {
    let spec = &level.spec;
    let queuing = spec.limited.as_ref().and_then(|limited| limited.limit_response.queuing.as_ref());
    queuing.map_or((None, None, None), |queuing| (queuing.queues, queuing.hand_size, queuing.queue_length_limit))
}

fn number(value: Option<i32>) -> Cell {
    print::text(value.map_or_else(|| print::NONE.into(), |value| value.to_string()))
}
