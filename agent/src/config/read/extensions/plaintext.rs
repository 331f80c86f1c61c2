//! `extensions.origin.plaintext`: the ladder and whom it is for.

#![forbid(unsafe_code)]

use std::time::Duration;

use crate::config::{
    Location,
    extensions::{Place, PlaintextMode, PlaintextPolicy, PlaintextRule, PodSelector},
    fields::Fields,
    yaml::{Node, Value},
};

use super::super::selector::{bounded, pods};

const MODES: [(&str, PlaintextMode); 3] =
    [("observe", PlaintextMode::Observe), ("warn", PlaintextMode::Warn), ("block", PlaintextMode::Block)];

const PLACES: [(&str, Place); 5] = [
    ("pod", Place::Pod),
    ("agent", Place::Agent),
    ("node", Place::Node),
    ("cluster", Place::Cluster),
    ("outside", Place::Outside),
];

/// The kernel forgets failed connections by their number, so a longer window would promise too much.
const LONGEST_WINDOW: Duration = Duration::from_hours(1);

/// A pod that was denied by mistake must not wait until tomorrow.
const LONGEST_DENIAL: Duration = Duration::from_hours(24);

pub(super) fn read(fields: &mut Fields<'_>, evidence_required: bool) -> PlaintextPolicy {
    let mut policy = PlaintextPolicy::default();
    let Some(node) = fields.get("plaintext") else { return policy };
    let mut blocks = Blocks { places: Vec::new() };
    if let Value::Map(_) = node.value {
        let mut fields = Fields::new(fields.report(), node);
        mapping(&mut fields, &mut policy, &mut blocks);
    } else if let Some(mode) = fields.choice("plaintext", &MODES) {
        blocks.note(mode, &node.at);
        policy.mode = mode;
    }
    if !evidence_required {
        for at in blocks.places {
            fields.report().error(
                &at,
                "`block` needs `evidence: required`: with `preferred` the agent goes on without the kernel, and nothing is blocked",
            );
        }
    }
    policy
}

/// Where `block` is said.
struct Blocks {
    places: Vec<Location>,
}

impl Blocks {
    fn note(&mut self, mode: PlaintextMode, at: &Location) {
        if mode == PlaintextMode::Block {
            self.places.push(at.clone());
        }
    }
}

fn mapping(fields: &mut Fields<'_>, policy: &mut PlaintextPolicy, blocks: &mut Blocks) {
    if let Some(mode) = mode(fields, blocks) {
        policy.mode = mode;
    }
    if let Some(places) = places(fields) {
        policy.places = places;
    }
    policy.rules = rules(fields, blocks);
    let report = fields.report();
    for node in bounded(fields, "exclude") {
        let mut selector = Fields::new(report, node);
        let pods = pods(&mut selector);
        if pods == PodSelector::default() {
            selector.error(
                "selects all pods; name `namespaces` or `match_labels`, or set `mode: observe` instead",
            );
        }
        policy.exclude.push(pods);
    }
    if let Some(window) = fields.duration("fallback_window") {
        if !(Duration::from_secs(1)..=LONGEST_WINDOW).contains(&window) {
            fields.error_at("fallback_window", "must be between 1s and 1h");
        }
        policy.fallback_window = window;
    }
    if let Some(time) = fields.duration("deny_for") {
        if time > LONGEST_DENIAL {
            fields.error_at("deny_for", "must not be longer than 24h");
        }
        policy.deny_for = time;
    }
    policy.kill_switch = fields.absolute("kill_switch", "/run/spanwarden/pass-all");
}

fn mode(fields: &mut Fields<'_>, blocks: &mut Blocks) -> Option<PlaintextMode> {
    let mode = fields.choice("mode", &MODES)?;
    if let Some(node) = fields.get("mode") {
        blocks.note(mode, &node.at);
    }
    Some(mode)
}

/// `None` where the key is absent.
fn places(fields: &mut Fields<'_>) -> Option<Vec<Place>> {
    fields.get("where")?;
    if let Some(Node { value: Value::Seq(items), .. }) = fields.get("where")
        && items.is_empty()
    {
        fields.error_at(
            "where",
            "names no destination, so every mode would be `observe`; set `mode: observe` instead",
        );
    }
    let mut places = Vec::new();
    for place in fields.choices("where", &PLACES) {
        if places.contains(&place.value) {
            fields.report().error(&place.at, format!("`{}` is in the list twice", place.value.as_str()));
        } else {
            places.push(place.value);
        }
    }
    Some(places)
}

fn rules(fields: &mut Fields<'_>, blocks: &mut Blocks) -> Vec<PlaintextRule> {
    if let Some(Node { value: Value::Seq(items), .. }) = fields.get("rules")
        && items.is_empty()
    {
        fields.error_at("rules", "is empty; leave it out, or write `- {mode: warn, namespaces: [shop]}`");
    }
    let report = fields.report();
    let mut rules = Vec::new();
    let mut catch_all: Option<&Location> = None;
    for node in bounded(fields, "rules") {
        if let Some(earlier) = catch_all {
            report.error(
                &node.at,
                format!("is never reached: the rule in line {} selects all pods", earlier.line),
            );
        }
        let mut rule = Fields::new(report, node);
        let mode = mode(&mut rule, blocks);
        if rule.get("mode").is_none() {
            rule.error("`mode` is required");
        }
        let pods = pods(&mut rule);
        if pods == PodSelector::default() {
            catch_all = Some(&node.at);
        }
        rules.push(PlaintextRule { mode: mode.unwrap_or_default(), pods });
    }
    rules
}
