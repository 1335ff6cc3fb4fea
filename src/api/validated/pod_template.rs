//! podTemplate, checked.

use std::collections::BTreeMap;

use super::super::bounds::is_label_key;
use super::super::refusal::Refusals;
use super::super::{GROUP, PodTemplate, Resources, Toleration};
use crate::plan::locality::is_label_part;

/// A podTemplate whose labels, annotations and taint keys have Kubernetes' syntax.
#[derive(Debug, Clone, PartialEq)]
pub struct ValidatedPodTemplate(PodTemplate);

impl ValidatedPodTemplate {
    /// The template, to be merged into a pod.
    #[must_use]
    pub fn get(&self) -> &PodTemplate {
        &self.0
    }

    pub(super) fn parse(refusals: &mut Refusals, path: &str, template: PodTemplate) -> Option<Self> {
        let before = refusals.len();
        let PodTemplate {
            resources,
            tolerations,
            priority_class_name: _, // A name: the schema's form is all there is to check.
            image_pull_secrets: _,  // Likewise.
            service_account_name: _,
            labels,
            annotations,
        } = &template;
        if let Some(labels) = labels {
            label_map(refusals, &format!("{path}.labels"), labels);
        }
        if let Some(annotations) = annotations {
            for key in annotations.keys() {
                key_syntax(refusals, &format!("{path}.annotations[{key}]"), key);
            }
        }
        for toleration in tolerations {
            let Toleration { key, operator: _, value, effect: _, toleration_seconds: _ } = toleration;
            let at = format!("{path}.tolerations[{key}]");
            if !is_label_key(key) {
                refusals.invalid(format!("{at}.key"), "is no key of a taint", "write it as the node has it");
            }
            if value.as_ref().is_some_and(|value| !value.is_empty() && !is_label_part(value)) {
                refusals.invalid(
                    format!("{at}.value"),
                    "is no value of a taint",
                    "write it as the node has it",
                );
            }
        }
        if let Some(Resources { requests, limits }) = resources {
            for (which, list) in [("requests", requests), ("limits", limits)] {
                for name in list.iter().flat_map(BTreeMap::keys).filter(|name| !is_label_key(name)) {
                    let at = format!("{path}.resources.{which}[{name}]");
                    refusals.invalid(at, "is no name of a resource", "write `cpu`, `memory`, …");
                }
            }
        }
        (refusals.len() == before).then_some(ValidatedPodTemplate(template))
    }
}

/// Checks keys and values of labels.
pub(super) fn label_map(refusals: &mut Refusals, path: &str, labels: &BTreeMap<String, String>) {
    for (key, value) in labels {
        let at = format!("{path}[{key}]");
        if key_syntax(refusals, &at, key) && !value.is_empty() && !is_label_part(value) {
            let hint = "at most 63 of A-Z a-z 0-9 - _ . that begin and end with a letter or digit";
            refusals.invalid(at, format!("`{value}` is no value of a label"), hint);
        }
    }
}

fn key_syntax(refusals: &mut Refusals, at: &str, key: &str) -> bool {
    if !is_label_key(key) {
        refusals.invalid(at, "is no key of a label or annotation", "write `name` or `prefix.example/name`");
        return false;
    }
    // Jobs and Backups are found by our own labels: a user's could hide one or forge one.
    if key.split_once('/').is_some_and(|(prefix, _)| prefix == GROUP) {
        refusals.invalid(at, format!("keys of {GROUP} are the operator's own"), "take another prefix");
        return false;
    }
    true
}
