//! From processors of the configuration to the steps of a plan.

#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::{
    auth::claims::Claims,
    config::{
        Component, ConfigError, Located, Location,
        processors::{Processor, Transform},
    },
    otlp::walk::Kind,
};

use super::{
    actions,
    detect::Detect,
    k8s::Extract,
    keys::{KeyId, Keys},
    metrics::Handles,
    ottl::{
        self,
        resolve::{Context, Resolver},
    },
    pattern::{Patterns, gate::Gate},
    redact::Redactor,
    rule::{Rule, RuleId},
    run::Run,
    stamp::Stamp,
};

/// All kinds of messages, in the order of [`slot`].
pub(super) const KINDS: [Kind; 9] = [
    Kind::Resource,
    Kind::Scope,
    Kind::Span,
    Kind::Event,
    Kind::Link,
    Kind::Status,
    Kind::ResourceSpans,
    Kind::ScopeSpans,
    Kind::EntityRef,
];

/// A kind's place in tables by kind.
pub(super) fn slot(kind: Kind) -> usize {
    match kind {
        Kind::Resource => 0,
        Kind::Scope => 1,
        Kind::Span => 2,
        Kind::Event => 3,
        Kind::Link => 4,
        Kind::Status => 5,
        Kind::ResourceSpans => 6,
        Kind::ScopeSpans => 7,
        Kind::EntityRef => 8,
    }
}

/// One step of a plan.
#[derive(Debug)]
pub(super) enum Step {
    /// Writes the origin.
    Stamp(Stamp),
    /// Writes what is known of the pod.
    Extract(Extract),
    /// Redacts; the number counts the plan's redactors.
    Redact(usize),
    /// Masks what the built-in detectors find.
    Detect(Arc<Detect>),
    /// Runs a statement.
    Statement(Box<ottl::Statement>),
    /// Runs an action.
    Action(actions::Step),
    /// Remembers a resource attribute for the spans below.
    Capture(usize, KeyId),
}

impl Step {
    /// Works on one message.
    pub(super) fn run(&self, kind: Kind, redactors: &[Redactor], run: &mut Run<'_>) {
        match self {
            Self::Stamp(step) => step.run(run),
            Self::Extract(step) => step.run(run),
            Self::Redact(which) => redactors[*which].run(kind, run),
            Self::Detect(step) => step.run(run),
            Self::Statement(statement) => ottl::exec::run(statement, run),
            Self::Action(step) => step.run(run),
            Self::Capture(slot, id) => {
                let list = &run.list;
                let values = list.with_key(*id).map(|index| {
                    let item = &list.items[index];
                    (item.kind, list.bytes(run.buf, item.value).to_vec())
                });
                run.captured[*slot] = values.collect();
            }
        }
    }
}

/// A plan in the making.
#[derive(Debug, Default)]
pub(super) struct Builder {
    /// Compiled patterns.
    pub(super) patterns: Patterns,
    /// Known keys.
    pub(super) keys: Keys,
    /// What looks everywhere.
    pub(super) gate: Gate,
    /// By kind.
    pub(super) steps: [Vec<Step>; KINDS.len()],
    /// The plan's redactors.
    pub(super) redactors: Vec<Redactor>,
    /// How many resource attributes are remembered.
    pub(super) captures: usize,
    /// By processor.
    pub(super) handles: Vec<Handles>,
    /// Everything that can change a span.
    pub(super) rules: Vec<Rule>,
    /// Names of the processors, in the same order as `handles`.
    pub(super) processors: Vec<String>,
}

impl Builder {
    /// Adds the step that stamps.
    pub(super) fn stamp(&mut self, rules: &Claims) {
        let stamp = Stamp::new(&mut self.keys, rules);
        self.steps[slot(Kind::Resource)].push(Step::Stamp(stamp));
    }

    /// Adds a processor's steps.
    pub(super) fn processor(&mut self, component: &Component<Processor>) -> Result<(), ConfigError> {
        let processor = self.handles.len();
        let redacts = matches!(component.config, Processor::Redaction(_) | Processor::Scrub(_));
        let name = component.id.to_string();
        self.handles.push(Handles::new(&name, redacts));
        self.processors.push(name);
        match &component.config {
            Processor::Redaction(config) => {
                let redactor = Redactor::new(config, &component.at, self, processor)?;
                self.redactors.push(redactor);
                for steps in &mut self.steps {
                    steps.push(Step::Redact(self.redactors.len() - 1));
                }
            }
            Processor::Scrub(config) => {
                let step = Arc::new(Detect::new(config, &component.at, self, processor));
                for steps in &mut self.steps {
                    steps.push(Step::Detect(Arc::clone(&step)));
                }
            }
            Processor::Transform(config) => self.transform(config, processor)?,
            Processor::Attributes(actions) => {
                for action in actions {
                    let step = actions::Step::new(action, self, processor)?;
                    self.steps[slot(Kind::Span)].push(Step::Action(step));
                }
            }
            Processor::Resource(actions) => {
                for action in actions {
                    let step = actions::Step::new(action, self, processor)?;
                    self.steps[slot(Kind::Resource)].push(Step::Action(step));
                }
            }
            Processor::K8sAttributes(config) => {
                let step = Extract::new(config, &component.at, self, processor)?;
                self.steps[slot(Kind::Resource)].push(Step::Extract(step));
            }
            Processor::MemoryLimiter(_) | Processor::Batch(_) | Processor::TailSampling(_) => {
                let message = format!("`{}` does not edit spans and can't be part of a plan", component.id);
                return Err(ConfigError { at: component.at.clone(), message });
            }
        }
        Ok(())
    }

    /// A rule of a processor. `content` is what it says: when that changes, its metrics begin anew.
    pub(super) fn rule(&mut self, processor: usize, name: &str, content: &str, at: &Location) -> RuleId {
        self.rules.push(Rule {
            processor: self.processors[processor].clone(),
            name: name.to_owned(),
            at: at.clone(),
            content: content.to_owned(),
            owner: processor,
        });
        RuleId::at(self.rules.len() - 1)
    }

    /// A rule that has the name of its place: `blocked_values[2]`, `trace_statements[0]::statements[3]`.
    pub(super) fn rule_at(&mut self, processor: usize, content: &str, at: &Location) -> RuleId {
        let path = at.path.clone();
        // `processors::redaction/pii::` comes before it, but where the place is not the processor's own (an anchor).
        let name = path.splitn(3, "::").nth(2).unwrap_or(&path);
        self.rule(processor, name, content, at)
    }

    /// A slot for a resource attribute that is read from below, as the steps so far leave it.
    pub(super) fn capture(&mut self, key: KeyId) -> usize {
        self.captures += 1;
        self.steps[slot(Kind::Resource)].push(Step::Capture(self.captures - 1, key));
        self.captures - 1
    }

    fn transform(&mut self, config: &Transform, processor: usize) -> Result<(), ConfigError> {
        for group in &config.trace_statements {
            let context = match &group.context {
                None => None,
                Some(Located { value, at }) => Some(Context::named(value).ok_or_else(|| ConfigError {
                    at: at.clone(),
                    message: format!(
                        "`{value}` is not a context; there are resource, scope, span, spanevent, spanlink"
                    ),
                })?),
            };
            let mode = group.error_mode.unwrap_or(config.error_mode);
            for statement in &group.statements {
                let conditions: Vec<&str> =
                    group.conditions.iter().map(|condition| condition.value.as_str()).collect();
                let content = format!("{mode:?} {} {}", conditions.join("\n"), statement.value);
                let rule = self.rule_at(processor, &content, &statement.at);
                let resolver = Resolver::new(self, context, &statement.at);
                let result = resolver.statement(&statement.value, &group.conditions, mode, rule);
                let (kind, statement) = result
                    .map_err(|error| ConfigError { at: statement.at.clone(), message: error.to_string() })?;
                self.steps[slot(kind)].push(Step::Statement(Box::new(statement)));
            }
        }
        Ok(())
    }
}
