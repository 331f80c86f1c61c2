//! Which pods `k8sattributes` works on: `filter` and `exclude`.

use crate::{
    config::{
        ConfigError, Located,
        processors::{PodFilter, Requirement, RequirementOp},
    },
    origin::{Origin, Pod},
    scrub::{builder::Builder, pattern::PatternId, run::Run},
};

/// The annotation by which a pod asks to be left alone, the Collector's.
const IGNORE: &str = "opentelemetry.io/k8s-processor/ignore";

#[derive(Debug)]
pub(super) struct Filter {
    filter: PodFilter,
    exclude: Vec<PatternId>,
}

impl Filter {
    pub(super) fn new(
        filter: &PodFilter,
        exclude: &[Located<String>],
        builder: &mut Builder,
    ) -> Result<Self, ConfigError> {
        let exclude = exclude.iter().map(|name| builder.patterns.add(name)).collect::<Result<_, _>>()?;
        Ok(Self { filter: filter.clone(), exclude })
    }

    /// Whether it is to be worked on. Of a pod that is known by its uid only nothing speaks against it, as long as nothing
    /// is demanded of it.
    pub(super) fn selects(&self, origin: &Origin, run: &mut Run<'_>) -> bool {
        let PodFilter { namespace, labels, fields } = &self.filter;
        let Some(pod) = origin.pod.as_deref() else {
            return namespace.is_none() && labels.is_empty() && fields.is_empty() && self.exclude.is_empty();
        };
        namespace.as_ref().is_none_or(|namespace| *namespace == pod.namespace)
            && labels.iter().all(|needed| holds(needed, label(pod, &needed.key)))
            && fields.iter().all(|needed| holds(needed, field(pod, &needed.key)))
            && !pod.annotations.iter().any(|(key, value)| key == IGNORE && value == "true")
            && !self.exclude.iter().any(|name| run.patterns.is_match(*name, run.caches, pod.name.as_bytes()))
    }
}

fn label<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.labels.iter().find(|(label, _)| label == key).map(|(_, value)| value.as_str())
}

fn field<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    match key {
        "metadata.name" => Some(&pod.name),
        "metadata.namespace" => Some(&pod.namespace),
        "spec.nodeName" => pod.node.as_deref(),
        _ => pod.service_account.as_deref(),
    }
}

/// As Kubernetes' selectors: what is not there is not equal to anything.
fn holds(needed: &Requirement, value: Option<&str>) -> bool {
    match needed.op {
        RequirementOp::Equals => value == Some(&*needed.value),
        RequirementOp::NotEquals => value != Some(&*needed.value),
        RequirementOp::Exists => value.is_some(),
        RequirementOp::DoesNotExist => value.is_none(),
    }
}
