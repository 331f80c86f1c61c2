//! `k8sattributes`: what the pod source knows of the sender's pod, by the kernel's evidence.
//!
//! What is known overwrites what the sender wrote under the same name; what is not known is left alone.

#![forbid(unsafe_code)]

use crate::{
    config::{
        ConfigError, Location,
        processors::{FieldExtract, K8sAttributes},
    },
    origin::{Origin, Pod},
    otlp::walk::ValueKind,
};

use super::{
    builder::Builder,
    keys::KeyId,
    pattern::{PatternId, Template},
    run::Run,
};

/// What the Collector extracts when `extract.metadata` is empty, as far as a pod source tells it.
const DEFAULT: [&str; 5] =
    ["k8s.namespace.name", "k8s.pod.name", "k8s.pod.uid", "k8s.deployment.name", "k8s.node.name"];

/// What can be extracted.
const KNOWN: [&str; 8] = [
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.pod.uid",
    "k8s.deployment.name",
    "k8s.node.name",
    "k8s.container.name",
    "container.id",
    "k8s.pod.ip",
];

/// A compiled `k8sattributes` processor.
#[derive(Debug)]
pub(super) struct Extract {
    metadata: Vec<(KeyId, &'static str)>,
    labels: Vec<Field>,
    annotations: Vec<Field>,
    processor: usize,
}

#[derive(Debug)]
struct Field {
    which: Which,
    /// The attribute's name, where it does not depend on the label's.
    tag: Option<(KeyId, Box<str>)>,
}

#[derive(Debug)]
enum Which {
    Key(Box<str>),
    Matching(PatternId, Option<Template>),
}

impl Extract {
    /// Compiles the processor.
    pub(super) fn new(
        config: &K8sAttributes,
        at: &Location,
        builder: &mut Builder,
        processor: usize,
    ) -> Result<Self, ConfigError> {
        let mut metadata = Vec::new();
        let wanted: Vec<&str> = if config.passthrough {
            vec!["k8s.pod.ip"]
        } else if config.metadata.is_empty() {
            DEFAULT.to_vec()
        } else {
            config.metadata.iter().map(String::as_str).collect()
        };
        for name in wanted {
            let Some(name) = KNOWN.iter().find(|known| **known == name) else {
                let message =
                    format!("extract.metadata: `{name}` is not built yet; there are {}", KNOWN.join(", "));
                return Err(ConfigError { at: at.clone(), message });
            };
            metadata.push((builder.keys.add(name), *name));
        }
        let mut fields = |fields: &[FieldExtract]| {
            let fields = if config.passthrough { &[] } else { fields };
            fields.iter().map(|field| Field::new(field, at, builder)).collect::<Result<Vec<_>, _>>()
        };
        let labels = fields(&config.labels)?;
        let annotations = fields(&config.annotations)?;
        Ok(Self { metadata, labels, annotations, processor })
    }

    /// Works on one resource.
    pub(super) fn run(&self, run: &mut Run<'_>) {
        let Some(origin) = run.origin else { return };
        for (id, name) in &self.metadata {
            if let Some(value) = metadata(origin, name) {
                self.put(run, *id, name, &value);
            }
        }
        let Some(pod) = &origin.pod else { return };
        for (fields, from, prefix) in [
            (&self.labels, &pod.labels, "k8s.pod.labels."),
            (&self.annotations, &pod.annotations, "k8s.pod.annotations."),
        ] {
            for field in fields {
                for (key, value) in from {
                    self.field(run, field, key, value, prefix);
                }
            }
        }
    }

    fn field(&self, run: &mut Run<'_>, field: &Field, key: &str, value: &str, prefix: &str) {
        let mut made = None;
        match &field.which {
            Which::Key(wanted) if **wanted != *key => return,
            Which::Key(_) => {}
            Which::Matching(pattern, tag) => {
                let mut name = Vec::new();
                let tag = tag.as_ref();
                let found = run.patterns.replace_each(
                    *pattern,
                    run.caches,
                    key.as_bytes(),
                    true,
                    &mut name,
                    |captures, out| {
                        if let Some(tag) = tag {
                            tag.expand(captures, key.as_bytes(), out);
                        }
                    },
                );
                if !found {
                    return;
                }
                made = tag.map(|_| String::from_utf8_lossy(&name).into_owned());
            }
        }
        match (made, &field.tag) {
            (Some(name), _) => self.put(run, run.keys.find(name.as_bytes()), &name, value),
            (None, Some((id, name))) => self.put(run, *id, name, value),
            (None, None) => {
                let name = format!("{prefix}{key}");
                self.put(run, run.keys.find(name.as_bytes()), &name, value);
            }
        }
    }

    fn put(&self, run: &mut Run<'_>, id: KeyId, name: &str, value: &str) {
        if run.upsert(id, name, ValueKind::String, value.as_bytes(), true) {
            run.tally[self.processor].set += 1;
        }
    }
}

impl Field {
    fn new(field: &FieldExtract, at: &Location, builder: &mut Builder) -> Result<Self, ConfigError> {
        if let Some(pattern) = &field.key_regex {
            // The Collector matches whole keys.
            let whole = builder.patterns.compile(&format!("^(?:{})$", pattern.value), &pattern.at)?;
            let tag = field.tag_name.as_ref().map(|tag| Template::parse(tag, builder.patterns.get(whole)));
            return Ok(Self { which: Which::Matching(whole, tag), tag: None });
        }
        let Some(key) = &field.key else {
            let message = "extract: a label or annotation needs `key` or `key_regex`".into();
            return Err(ConfigError { at: at.clone(), message });
        };
        let tag = field.tag_name.as_ref().map(|tag| (builder.keys.add(tag), tag.as_str().into()));
        Ok(Self { which: Which::Key(key.as_str().into()), tag })
    }
}

fn metadata(origin: &Origin, name: &str) -> Option<String> {
    let pod = origin.pod.as_deref();
    let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    match name {
        "k8s.namespace.name" => known(&pod?.namespace),
        "k8s.pod.name" => known(&pod?.name),
        "k8s.pod.uid" => origin.pod_uid.clone().or_else(|| known(&pod?.uid)),
        "k8s.deployment.name" => pod?.deployment.clone(),
        "k8s.node.name" => pod?.node.clone(),
        "k8s.container.name" => container(pod?, origin.container_id.as_deref()?),
        "container.id" => origin.container_id.clone(),
        _ => Some(pod.and_then(|pod| pod.ips.first().copied()).unwrap_or(origin.peer.ip()).to_string()),
    }
}

fn container(pod: &Pod, id: &str) -> Option<String> {
    pod.container(id).map(|container| container.name.clone())
}
