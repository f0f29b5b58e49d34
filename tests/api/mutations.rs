//! Manifests that somebody broke: thousands of mutated objects of every kind, written in every way. Each gets an answer that says what is
//! wrong, and none leaves anything behind that was refused.
//!
//! `ORCH_MUTATIONS=10000` is the long form; `ORCH_SEED` chooses other ones.

use orch::server::kinds::KINDS;
use rand::RngExt;
use rand::seq::IndexedRandom;

use super::mutator::{Mutator, Stock};
use super::objects::{collection, objects, row, text};
use super::samples;
use super::support::server;

/// How many without the long form.
const DEFAULT: usize = 1500;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[tokio::test]
async fn broken_manifests_are_refused_with_reasons() {
    let seed = setting("ORCH_SEED", 37);
    let count = usize::try_from(setting("ORCH_MUTATIONS", DEFAULT as u64)).unwrap();
    println!("ORCH_SEED={seed} ORCH_MUTATIONS={count}");
    let objects = objects();
    let mut stock = Stock::default();
    KINDS.iter().for_each(|kind| stock.note(&samples::full(kind)));
    objects.iter().for_each(|object| stock.note(object));
    let mut mutator = Mutator::new(seed).with(&stock);
    let api = server().await;
    api.yes("POST", "/api/v1/namespaces/default/serviceaccounts", "metadata: {name: default}").await;
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..count {
        let original = objects.choose(&mut mutator.random).unwrap();
        let kind = row(original);
        let all = collection(kind);
        let one = format!("{all}/{}", text(&original["metadata"]["name"]));
        let mut broken = original.clone();
        for _ in 0..mutator.random.random_range(1..4) {
            mutator.change(&mut broken);
        }
        let body = mutator.text(&broken);
        let existing = mutator.chance(2);
        if existing {
            let made = api.ask("admin", "POST", &all, &[], &original.to_string()).await;
            assert!(made.code == 201 || made.code == 409, "{kind:?}: {} {}", made.code, made.body);
        }
        let before = api.ask("admin", "GET", &one, &[], "").await;
        let (method, uri, media) = match mutator.random.random_range(0..6) {
            0 if existing => ("PUT", one.clone(), "application/json"),
            1 => ("PATCH", one.clone(), "application/merge-patch+json"),
            2 => ("PATCH", one.clone(), "application/strategic-merge-patch+json"),
            3 => ("PATCH", format!("{one}?fieldManager=m&force=true"), "application/apply-patch+yaml"),
            4 => ("POST", format!("{all}?fieldValidation=Strict"), "application/yaml"),
            _ => ("POST", all.clone(), "application/json"),
        };
        let answer = api.ask("admin", method, &uri, &[("content-type", media)], &body).await;
        let told = || format!("seed {seed}, round {round}: {method} {uri} {media}\n{body}\n{} {}", answer.code, answer.body);
        match answer.code {
            200 | 201 => accepted += 1,
            code => {
                refused += 1;
                assert!((400..500).contains(&code), "{}", told());
                assert!(answer.body["kind"] == "Status" && !answer.message().is_empty(), "{}", told());
                let causes = answer.body["details"]["causes"].as_array().map_or(0, Vec::len);
                assert!(code != 422 || causes > 0 || method == "PATCH", "an invalid object names its fields: {}", told());
                let after = api.ask("admin", "GET", &one, &[], "").await;
                assert_eq!(before.body["metadata"]["resourceVersion"], after.body["metadata"]["resourceVersion"], "{}", told());
            }
        }
        for object in [&answer.body, original] {
            let name = text(&object["metadata"]["name"]);
            if !name.is_empty() && kind.kind() != "Namespace" {
                let one = format!("{all}/{name}");
                api.ask("admin", "DELETE", &one, &[], r#"{"gracePeriodSeconds":0}"#).await;
                let free = [("content-type", "application/merge-patch+json")];
                api.ask("admin", "PATCH", &one, &free, r#"{"metadata":{"finalizers":null}}"#).await;
            }
        }
    }
    println!("{accepted} accepted, {refused} refused");
    assert!(accepted * 50 > count && refused * 50 > count, "neither all nor nothing passes: {accepted} accepted, {refused} refused");
}
