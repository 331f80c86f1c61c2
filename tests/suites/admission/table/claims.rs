//! The rows about what spans say of themselves.

use serde_json::json;
use spanwarden_tests::proto::v1::KeyValue;

use super::{
    super::{
        spans::{bytes, int, list, text},
        world::Shown,
    },
    Row, Then, To, Who, accepted, denied,
    scene::Scene,
};

const FORGED: Option<&str> = Some("ForgedIdentity");

/// Overwritten, and counted under these names.
fn overwritten(overwritten: &[(&'static str, u64)]) -> Then {
    Then::Accepted {
        principal: None,
        has: Vec::new(),
        overwritten: overwritten.to_vec(),
        forged: None,
        event: None,
    }
}

pub(super) fn rows(s: &Scene) -> Vec<Row> {
    let mut rows = identities(s);
    rows.extend(names());
    rows
}

fn row(name: &'static str, who: Who, resources: Vec<Vec<KeyValue>>, then: Then) -> Row {
    Row { resources, ..Row::new(name, who, To::Open, Shown::nothing(), then) }
}

/// What only the agent may say.
fn identities(s: &Scene) -> Vec<Row> {
    let victim = &s.cart.pod;
    let (uid, own) = (victim.uid.as_str(), s.thief.pod.uid.as_str());
    let one = |name, claim: KeyValue, key| row(name, Who::Thief, vec![vec![claim]], overwritten(&[(key, 1)]));
    vec![
        row("honest: no claims", Who::Thief, vec![vec![]], accepted(None)),
        row("honest: its own uid", Who::Thief, vec![vec![text("k8s.pod.uid", own)]], accepted(None)),
        one("uid of another pod", text("k8s.pod.uid", uid), "k8s.pod.uid"),
        one("name of another pod", text("k8s.pod.name", &victim.name), "k8s.pod.name"),
        one("another namespace", text("k8s.namespace.name", "shop"), "k8s.namespace.name"),
        one("another node", text("k8s.node.name", "node-2"), "k8s.node.name"),
        one("another container", text("container.id", &victim.container_id), "container.id"),
        one("a deployment", text("k8s.deployment.name", "cart"), "k8s.deployment.name"),
        one("uid as bytes", bytes("k8s.pod.uid", uid), "k8s.pod.uid"),
        one("its own uid as bytes", bytes("k8s.pod.uid", own), "k8s.pod.uid"),
        one("uid in a list", list("k8s.pod.uid", uid), "k8s.pod.uid"),
        one("uid as a number", int("k8s.pod.uid", 7), "k8s.pod.uid"),
        one("empty uid", text("k8s.pod.uid", ""), "k8s.pod.uid"),
        one("evidence", text("otlp.origin.evidence", "address"), "otlp.origin.evidence"),
        one("another process", int("otlp.origin.pid", 1), "otlp.origin.pid"),
        one("a principal", text("otlp.origin.principal", &s.cart.name()), "otlp.origin.principal"),
        one("a mark", text("otlp.origin.quarantine", "false"), "otlp.origin.quarantine"),
        one("a finding", text("otlp.origin.refused_claims", "service.name"), "otlp.origin.refused_claims"),
        row(
            "its own uid, then another's",
            Who::Thief,
            vec![vec![text("k8s.pod.uid", own), text("k8s.pod.uid", uid)]],
            overwritten(&[("k8s.pod.uid", 1)]),
        ),
        row(
            "another's uid, then its own",
            Who::Thief,
            vec![vec![text("k8s.pod.uid", uid), text("k8s.pod.uid", own)]],
            overwritten(&[("k8s.pod.uid", 1)]),
        ),
        row(
            "in the second resource",
            Who::Thief,
            vec![vec![text("k8s.pod.uid", own)], vec![text("k8s.pod.uid", uid)]],
            overwritten(&[("k8s.pod.uid", 1)]),
        ),
        row(
            "everything at once",
            Who::Thief,
            vec![vec![
                text("k8s.pod.uid", uid),
                text("k8s.pod.name", &victim.name),
                text("k8s.namespace.name", &victim.namespace),
                text("container.id", &victim.container_id),
            ]],
            overwritten(&[
                ("k8s.pod.uid", 1),
                ("k8s.pod.name", 1),
                ("k8s.namespace.name", 1),
                ("container.id", 1),
            ]),
        ),
        Row {
            resources: vec![vec![text("k8s.pod.uid", uid)]],
            ..Row::new(
                "not seen, with the victim's uid",
                Who::Unseen,
                To::Open,
                Shown::nothing(),
                denied("evidence", &["did not see"], None),
            )
        },
    ]
}

/// What rules are for.
fn names() -> Vec<Row> {
    let refused = || denied("forged_claim", &["service.name", "identity.rules"], FORGED);
    let name = |value: &str| vec![text("service.name", value)];
    let kept = |quarantine: bool| Then::Accepted {
        principal: None,
        has: if quarantine {
            vec![
                ("otlp.origin.quarantine", Some("true".to_owned())),
                ("service.name", Some(json!("cart").as_str().unwrap_or_default().to_owned())),
            ]
        } else {
            vec![
                ("otlp.origin.refused_claims", Some("service.name".to_owned())),
                ("otlp.origin.quarantine", None),
                ("service.name", None),
            ]
        },
        overwritten: Vec::new(),
        forged: Some((if quarantine { "quarantine" } else { "annotate" }, 1)),
        event: FORGED,
    };
    let cart = |what, resources| row(what, Who::Cart, resources, refused());
    vec![
        row("honest: allowed name", Who::Cart, vec![name("cart")], accepted(None)),
        row("honest: allowed pattern", Who::Cart, vec![name("cart-v2")], accepted(None)),
        row("honest: lab", Who::Lab, vec![name("trial-7")], accepted(None)),
        row("honest: dev", Who::Dev, vec![name("sandbox")], accepted(None)),
        cart("another service", vec![name("bank")]),
        cart("a name that ends like its own", vec![name("my-cart")]),
        cart("its name in other letters", vec![name("Cart")]),
        cart("its name as bytes", vec![vec![bytes("service.name", "cart")]]),
        cart("its name in a list", vec![vec![list("service.name", "cart")]]),
        cart("its name, then another", vec![[name("cart"), name("bank")].concat()]),
        cart("another name, then its own", vec![[name("bank"), name("cart")].concat()]),
        cart("another name in the second resource", vec![name("cart"), name("bank")]),
        cart(
            "another namespace of services",
            vec![[name("cart"), vec![text("service.namespace", "bank")]].concat()],
        ),
        row("another service, quarantined", Who::Lab, vec![name("cart")], kept(true)),
        row("another service, corrected", Who::Dev, vec![name("cart")], kept(false)),
    ]
}
