//! Who sent it: the origin of a connection, written onto every resource it sends.

#![forbid(unsafe_code)]

use crate::otlp::{encode, walk::ValueKind};

use super::{
    keys::{KeyId, Keys},
    list::State,
    run::Run,
};

/// How many attributes are ours to write.
pub(super) const CLAIMS: usize = 7;

/// Their names. What a sender writes under them is a claim, and never passed on.
pub(super) const NAMES: [&str; CLAIMS] = [
    "k8s.pod.uid",
    "k8s.pod.name",
    "k8s.namespace.name",
    "container.id",
    "otlp.origin.evidence",
    "otlp.origin.pid",
    "otlp.origin.comm",
];

/// The step that stamps.
#[derive(Debug)]
pub(super) struct Stamp {
    keys: [KeyId; CLAIMS],
}

impl Stamp {
    /// Compiles it.
    pub(super) fn new(keys: &mut Keys) -> Self {
        Self { keys: NAMES.map(|name| keys.add(name)) }
    }

    /// Works on one resource. A claim that says the truth is left where it is; everything else under our names
    /// goes, and is counted as a lie.
    pub(super) fn run(&self, run: &mut Run<'_>) {
        for (which, id) in self.keys.iter().enumerate() {
            let truth = truth(run, which);
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
}

fn truth(run: &Run<'_>, which: usize) -> Option<(ValueKind, Vec<u8>)> {
    let origin = run.origin;
    let pod = origin.and_then(|origin| origin.pod.as_ref());
    let process = origin.and_then(|origin| origin.process.as_ref());
    let text = |text: &str| Some((ValueKind::String, text.as_bytes().to_vec()));
    match which {
        0 => text(origin?.pod_uid.as_ref().or(pod.map(|pod| &pod.uid)).filter(|uid| !uid.is_empty())?),
        1 => text(&pod.filter(|pod| !pod.name.is_empty())?.name),
        2 => text(&pod.filter(|pod| !pod.namespace.is_empty())?.namespace),
        3 => text(origin?.container_id.as_ref()?),
        4 => text(origin.map_or(crate::origin::Evidence::None, |origin| origin.evidence).as_str()),
        5 => {
            let mut content = Vec::new();
            encode::varint(&mut content, u64::from(process?.pid));
            Some((ValueKind::Int, content))
        }
        _ => text(&process?.comm),
    }
}
