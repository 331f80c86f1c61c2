//! Who sent it: the origin of a connection and the verified principal, written onto every resource it sends; and what
//! a resource claims, held against `identity.rules`.

#![forbid(unsafe_code)]

use crate::{
    auth::{Identity, claims::Claims},
    config::auth::ClaimMode,
    origin::{Evidence, Origin, Pod},
    otlp::{encode, walk::ValueKind},
};

use super::{
    keys::{KeyId, Keys},
    list::State,
    run::Run,
};

/// How many attributes are ours to write.
pub(super) const CLAIMS: usize = 14;

/// Their names. What a sender writes under them is a claim, and never passed on.
pub(super) const NAMES: [&str; CLAIMS] = [
    "k8s.pod.uid",
    "k8s.pod.name",
    "k8s.namespace.name",
    "k8s.node.name",
    "k8s.deployment.name",
    "k8s.container.name",
    "container.id",
    "otlp.origin.evidence",
    "otlp.origin.pid",
    "otlp.origin.comm",
    "otlp.origin.principal",
    "otlp.origin.contradiction",
    "otlp.origin.quarantine",
    "otlp.origin.refused_claims",
];

/// What a request's resources claimed against the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Forged {
    /// Claims that the rule does not allow.
    pub(super) claims: u64,
    /// The rule's mode, where there are any.
    pub(super) mode: Option<ClaimMode>,
}

/// The step that stamps.
#[derive(Debug)]
pub(super) struct Stamp {
    keys: [KeyId; CLAIMS],
    rules: Claims,
    /// By rule: its attributes.
    claimed: Vec<Vec<KeyId>>,
}

impl Stamp {
    /// Compiles it.
    pub(super) fn new(keys: &mut Keys, rules: &Claims) -> Self {
        let claimed =
            (0..rules.len()).map(|rule| rules.of(rule).map(|name| keys.add(name)).collect()).collect();
        Self { keys: NAMES.map(|name| keys.add(name)), claimed, rules: rules.clone() }
    }

    /// Works on one resource. A claim that says the truth is left where it is; everything else under our names
    /// goes, and is counted as a lie.
    pub(super) fn run(&self, run: &mut Run<'_>) {
        let identity = run.identity;
        if identity.is_some_and(|identity| identity.is_agent) {
            return;
        }
        let judged = self.judge(run, identity);
        let truth = Truth::new(run.origin, identity, judged);
        for (which, id) in self.keys.iter().enumerate() {
            let truth = truth.of(which);
            let mut told = false;
            if run.list.present & id.bit() != 0 {
                for index in 0..run.list.items.len() {
                    let item = run.list.items[index];
                    if item.id != *id || item.state == State::Deleted {
                        continue;
                    }
                    let content = run.list.bytes(run.buf, item.value);
                    let honest =
                        truth.as_ref().is_some_and(|(kind, truth)| *kind == item.kind && truth == content);
                    if honest && !told {
                        told = true;
                        run.list.items[index].stamped = true;
                    } else {
                        run.list.delete(index);
                        run.claims[which] += u64::from(!honest);
                    }
                }
            }
            if let Some((kind, truth)) = truth.filter(|_| !told) {
                run.list.push(*id, NAMES[which].as_bytes(), kind, &truth, true);
            }
        }
    }

    /// Holds the resource's claims against the sender's rule.
    fn judge(&self, run: &mut Run<'_>, identity: Option<&Identity>) -> Judged {
        let mut judged = Judged {
            quarantined: identity.is_some_and(|identity| identity.quarantined),
            names: String::new(),
        };
        let Some(rule) = identity.and_then(|identity| identity.rule) else { return judged };
        let mode = self.rules.mode(rule);
        let before = run.forged.claims;
        for (place, (id, name)) in self.claimed[rule].iter().zip(self.rules.of(rule)).enumerate() {
            let refused = self.refused(run, *id, rule, place);
            if mode == ClaimMode::Annotate && !refused.is_empty() {
                if !judged.names.is_empty() {
                    judged.names.push(',');
                }
                judged.names.push_str(name);
                for index in &refused {
                    run.list.delete(*index);
                }
            }
            run.forged.claims += refused.len() as u64;
        }
        if run.forged.claims > before {
            run.forged.mode = Some(mode);
            judged.quarantined |= mode == ClaimMode::Quarantine;
        }
        judged
    }

    /// The attributes with this key whose value the rule does not allow. Anything but text never is.
    fn refused(&self, run: &Run<'_>, id: KeyId, rule: usize, place: usize) -> Vec<usize> {
        let allowed = |index: &usize| {
            let item = &run.list.items[*index];
            let value = std::str::from_utf8(run.list.bytes(run.buf, item.value));
            item.kind == ValueKind::String && value.is_ok_and(|value| self.rules.allows(rule, place, value))
        };
        run.list.with_key(id).filter(|index| !allowed(index)).collect()
    }
}

/// What came of a resource's claims.
struct Judged {
    quarantined: bool,
    /// The attributes that were removed, separated by commas.
    names: String,
}

/// What is true of the sender.
struct Truth<'a> {
    origin: Option<&'a Origin>,
    identity: Option<&'a Identity>,
    pod: Option<&'a Pod>,
    judged: Judged,
}

impl<'a> Truth<'a> {
    fn new(origin: Option<&'a Origin>, identity: Option<&'a Identity>, judged: Judged) -> Self {
        let learned = identity.and_then(|identity| identity.pod.as_deref());
        let pod = origin.and_then(|origin| origin.pod.as_deref()).or(learned);
        Self { origin, identity, pod, judged }
    }

    /// The value of one of [`NAMES`], where it is known.
    fn of(&self, which: usize) -> Option<(ValueKind, Vec<u8>)> {
        let text = |text: &str| (!text.is_empty()).then(|| (ValueKind::String, text.as_bytes().to_vec()));
        let process = self.origin.and_then(|origin| origin.process.as_ref());
        match NAMES[which] {
            "k8s.pod.uid" => {
                let uid = self.origin.and_then(|origin| origin.pod_uid.as_deref());
                text(uid.or(self.pod.map(|pod| pod.uid.as_str()))?)
            }
            "k8s.pod.name" => text(&self.pod?.name),
            "k8s.namespace.name" => text(&self.pod?.namespace),
            "k8s.node.name" => text(self.pod?.node.as_deref()?),
            "k8s.deployment.name" => text(self.pod?.deployment.as_deref()?),
            "k8s.container.name" => {
                let id = self.origin?.container_id.as_deref()?;
                text(&self.pod?.containers.iter().find(|container| container.id == id)?.name)
            }
            "container.id" => text(self.origin?.container_id.as_deref()?),
            "otlp.origin.evidence" => {
                text(self.origin.map_or(Evidence::None, |origin| origin.evidence).as_str())
            }
            "otlp.origin.pid" => {
                let mut content = Vec::new();
                encode::varint(&mut content, u64::from(process?.pid));
                Some((ValueKind::Int, content))
            }
            "otlp.origin.comm" => text(&process?.comm),
            "otlp.origin.principal" => text(&self.identity?.principal.as_ref()?.name),
            "otlp.origin.contradiction" => text(self.identity?.contradiction?),
            "otlp.origin.quarantine" => self.judged.quarantined.then(|| (ValueKind::Bool, vec![1])),
            "otlp.origin.refused_claims" => text(&self.judged.names),
            _ => None,
        }
    }
}
