//! `k8sattributes`: what the pod source knows of the sender's pod, by the kernel's evidence.
//!
//! What is known overwrites what the sender wrote under the same name; what is not known is left alone. Two things are
//! only added where they are not there: `service.*`, which an application knows better, and what a pod's annotations
//! say. No label and no annotation is written under a name that the agent stamps: who makes a pod is not to make its identity.

#![forbid(unsafe_code)]

mod filter;
mod metadata;

use crate::{
    config::{
        ConfigError, Location,
        processors::{FieldExtract, K8sAttributes},
    },
    otlp::walk::ValueKind,
};

use super::{
    builder::Builder,
    keys::KeyId,
    pattern::{PatternId, Template},
    rule::{Did, Place, RuleId},
    run::Run,
    stamp,
};
use filter::Filter;

/// What the Collector extracts when `extract.metadata` is empty.
const DEFAULT: [&str; 8] = [
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.pod.uid",
    "k8s.pod.start_time",
    "k8s.deployment.name",
    "k8s.node.name",
    "container.image.name",
    "container.image.tag",
];

/// Annotations that name an attribute (`extract.otel_annotations`).
const OTEL_ANNOTATION: &str = "resource.opentelemetry.io/";

/// A compiled `k8sattributes` processor.
#[derive(Debug)]
pub(super) struct Extract {
    metadata: Vec<(KeyId, &'static str)>,
    labels: Vec<Field>,
    annotations: Vec<Field>,
    otel_annotations: bool,
    filter: Filter,
    rule: RuleId,
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
            let Some(name) = metadata::KNOWN.iter().find(|known| **known == name) else {
                let known = metadata::KNOWN.join(", ");
                let message = format!("extract.metadata: `{name}` is not built yet; there are {known}");
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
        let otel_annotations = config.otel_annotations && !config.passthrough;
        let filter = Filter::new(&config.filter, &config.exclude, builder)?;
        let rule = builder.rule(processor, "extract", "", at);
        Ok(Self { metadata, labels, annotations, otel_annotations, filter, rule })
    }

    /// Works on one resource.
    pub(super) fn run(&self, run: &mut Run<'_>) {
        let Some(origin) = run.origin else { return };
        if !self.filter.selects(origin, run) {
            return;
        }
        if let Some(pod) = origin.pod.as_deref().filter(|_| self.otel_annotations) {
            for (key, value) in &pod.annotations {
                if let Some(name) = key.strip_prefix(OTEL_ANNOTATION).filter(|name| !name.is_empty()) {
                    self.offer(run, run.keys.find(name.as_bytes()), name, value);
                }
            }
        }
        for (id, name) in &self.metadata {
            let Some(value) = metadata::value(origin, name) else { continue };
            if name.starts_with("service.") {
                self.offer(run, *id, name, &value);
            } else {
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
            (Some(name), _) if is_stamped(&name) => {}
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
            run.hit(self.rule, Did::Set, Place::Key(id));
        }
    }

    /// Writes it where there is nothing yet, or nothing in it.
    fn offer(&self, run: &mut Run<'_>, id: KeyId, name: &str, value: &str) {
        if !is_stamped(name) && !run.has_text(id, name) {
            self.put(run, id, name, value);
        }
    }
}

/// Whether a name is the agent's to write.
fn is_stamped(name: &str) -> bool {
    stamp::NAMES.contains(&name) || name.starts_with("otlp.origin.")
}

impl Field {
    fn new(field: &FieldExtract, at: &Location, builder: &mut Builder) -> Result<Self, ConfigError> {
        if let Some(tag) = field.tag_name.as_deref().filter(|tag| is_stamped(tag)) {
            let message =
                format!("extract: `{tag}` is what the agent writes by evidence; choose another `tag_name`");
            return Err(ConfigError { at: at.clone(), message });
        }
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
