//! From processors of the configuration to the steps of a plan.

#![forbid(unsafe_code)]

use std::sync::Arc;

use crate::{
    auth::claims::Claims,
    config::{
        Component, ConfigError, Location,
        processors::{Attributes, ErrorMode, Processor, Transform},
    },
    otlp::walk::Kind,
};

use super::{
    actions,
    detect::Detect,
    filter::{self, Filter},
    k8s::Extract,
    keys::{KeyId, Keys},
    matching::{Choice, ChoiceInWalk},
    metrics::Handles,
    ottl::{self, lower::lower, program, resolve::Resolver},
    pattern::{Patterns, gate::Gate},
    redact::Redactor,
    rule::{Rule, RuleId},
    run::Run,
    skip::Skip,
    span::Rules,
    stage::{Stage, Steps, TreeStep, Walk},
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
    /// Runs actions on chosen spans.
    Chosen(Box<(ChoiceInWalk, Vec<actions::Step>)>),
    /// Remembers a resource attribute for the spans below.
    Capture(usize, KeyId),
}

impl Step {
    /// Whether it writes what this program knows, and looks at nothing of the sender's.
    pub(super) fn is_ours(&self) -> bool {
        matches!(self, Self::Stamp(_) | Self::Extract(_) | Self::Capture(..))
    }

    /// Works on one message.
    pub(super) fn run(&self, kind: Kind, redactors: &[Redactor], run: &mut Run<'_>) {
        match self {
            Self::Stamp(step) => step.run(run),
            Self::Extract(step) => step.run(run),
            Self::Redact(which) if run.is_skipped(*which) => {}
            Self::Redact(which) => redactors[*which].run(kind, run),
            Self::Detect(step) => step.run(run),
            Self::Statement(statement) => ottl::exec::run(statement, run),
            Self::Action(step) => step.run(run),
            Self::Chosen(chosen) => {
                let (spans, actions) = &**chosen;
                if spans.has(run) {
                    for action in actions {
                        action.run(run);
                    }
                }
            }
            Self::Capture(slot, id) => {
                let list = &run.list;
                let values = list.with_key(*id).map(|index| {
                    let item = &list.items[index];
                    (item.kind, list.bytes(run.buf, item.value).to_vec())
                });
                let values = values.collect();
                run.above.remember(*slot, values);
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
    /// The walk that is being filled, by kind.
    pub(super) steps: Steps,
    /// The stages before it, the first of which is a walk.
    pub(super) stages: Vec<Stage>,
    /// Groups of statements so far.
    groups: usize,
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
        self.handles.push(match &component.config {
            Processor::Filter(_) => Handles::of_filter(&name),
            _ => Handles::new(&name, redacts),
        });
        self.processors.push(name);
        match &component.config {
            Processor::Redaction(config) => {
                let redactor = Redactor::new(config, &component.at, self, processor)?;
                if !config.skip_conditions.is_empty() {
                    let skip = Skip::new(&config.skip_conditions, self, processor, self.redactors.len())?;
                    self.end_walk();
                    self.stages.push(Stage::Skip(skip));
                }
                self.redactors.push(redactor);
                for steps in &mut self.steps {
                    steps.push(Step::Redact(self.redactors.len() - 1));
                }
            }
            Processor::Scrub(config) => {
                let step = Arc::new(Detect::new(config, &component.at, self, processor));
                if let Some(sanitizers) = &config.sanitizers {
                    let redactor = Redactor::new(sanitizers, &component.at, self, processor)?;
                    self.redactors.push(redactor);
                }
                for steps in &mut self.steps {
                    if config.sanitizers.is_some() {
                        steps.push(Step::Redact(self.redactors.len() - 1));
                    }
                    steps.push(Step::Detect(Arc::clone(&step)));
                }
            }
            Processor::Transform(config) => self.transform(config, processor)?,
            Processor::Attributes(config) => self.attributes(config, processor)?,
            Processor::Filter(config) => {
                let filter = Filter::new(config, &component.at, self, processor)?;
                self.tree(TreeStep::Filter(filter));
            }
            Processor::Span(config) => {
                let rules = Rules::new(config, &component.at, self, processor)?;
                self.tree(TreeStep::Span(rules));
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
    ///
    /// Two parts of a processor that name the same rule share it, with what the first says.
    pub(super) fn rule(&mut self, processor: usize, name: &str, content: &str, at: &Location) -> RuleId {
        let same = |rule: &Rule| rule.owner == processor && rule.name == name;
        if let Some(known) = self.rules.iter().position(same) {
            return RuleId::at(known);
        }
        self.rules.push(Rule {
            processor: self.processors[processor].clone(),
            name: name.to_owned(),
            at: at.clone(),
            content: content.to_owned(),
            complains: false,
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

    /// A rule made of OTTL, under an error mode.
    pub(super) fn rule_under(
        &mut self,
        mode: ErrorMode,
        processor: usize,
        content: &str,
        at: &Location,
    ) -> RuleId {
        let rule = self.rule_at(processor, &format!("{mode:?} {content}"), at);
        self.rules[rule.index()].complains = mode == ErrorMode::Ignore;
        rule
    }

    /// A slot for a resource attribute that is read from below, as the steps so far leave it.
    pub(super) fn capture(&mut self, key: KeyId) -> usize {
        self.captures += 1;
        self.steps[slot(Kind::Resource)].push(Step::Capture(self.captures - 1, key));
        self.captures - 1
    }

    /// The stages of the plan: a walk, and what comes after it.
    pub(super) fn finish(&mut self) -> (Walk, Vec<Stage>) {
        let mut stages = std::mem::take(&mut self.stages);
        if stages.is_empty() {
            return (self.take_walk(), stages);
        }
        if !self.walks_nothing() {
            stages.push(Stage::Walk(Box::new(self.take_walk())));
        }
        let later = stages.split_off(1);
        match stages.pop() {
            Some(Stage::Walk(first)) => (*first, later),
            _ => unreachable!("the first stage is a walk"),
        }
    }

    /// The walk that was being filled.
    fn take_walk(&mut self) -> Walk {
        Walk::new(std::mem::take(&mut self.steps), &self.redactors, &self.rules, &self.keys)
    }

    fn walks_nothing(&self) -> bool {
        self.steps.iter().all(Vec::is_empty)
    }

    /// What comes next sees the request as all steps so far leave it, and checked.
    fn end_walk(&mut self) {
        if self.stages.is_empty() || !self.walks_nothing() {
            let walk = self.take_walk();
            self.stages.push(Stage::Walk(Box::new(walk)));
        }
    }

    /// Whether the next step comes right after one on the tree.
    fn is_on_tree(&self) -> bool {
        self.walks_nothing() && matches!(self.stages.last(), Some(Stage::Tree(_)))
    }

    /// Adds a step on the tree, after all steps so far.
    fn tree(&mut self, step: TreeStep) {
        if !self.is_on_tree() {
            self.end_walk();
            self.stages.push(Stage::Tree(Vec::new()));
        }
        let Some(Stage::Tree(steps)) = self.stages.last_mut() else { unreachable!("just pushed") };
        if let (Some(TreeStep::Statements(group, all)), TreeStep::Statements(same, more)) =
            (steps.last_mut(), &step)
            && group == same
            && all[0].context == more[0].context
        {
            all.extend_from_slice(more);
            return;
        }
        steps.push(step);
    }

    fn attributes(&mut self, config: &Attributes, processor: usize) -> Result<(), ConfigError> {
        let actions = config.actions.iter().map(|action| actions::Step::new(action, self, processor));
        let actions = actions.collect::<Result<Vec<_>, _>>()?;
        if config.spans.include.is_none() && config.spans.exclude.is_none() {
            self.steps[slot(Kind::Span)].extend(actions.into_iter().map(Step::Action));
        } else {
            let spans = Choice::new(&config.spans, &mut self.patterns)?;
            if self.is_on_tree() || !spans.fits_walk() {
                self.tree(TreeStep::Actions(spans, actions));
            } else {
                let spans = spans.lower(self);
                self.steps[slot(Kind::Span)].push(Step::Chosen(Box::new((spans, actions))));
            }
        }
        Ok(())
    }

    /// Statements go into the walk until one needs the tree; those after it follow it there, which costs less than
    /// another walk.
    fn transform(&mut self, config: &Transform, processor: usize) -> Result<(), ConfigError> {
        for group in &config.trace_statements {
            self.groups += 1;
            let context = group.context.as_ref().map(filter::context).transpose()?;
            let mode = group.error_mode.unwrap_or(config.error_mode);
            for statement in &group.statements {
                let conditions: Vec<&str> =
                    group.conditions.iter().map(|condition| condition.value.as_str()).collect();
                let says = format!("{} {}", conditions.join("\n"), statement.value);
                let rule = self.rule_under(mode, processor, &says, &statement.at);
                let resolver = Resolver::new(&mut self.patterns, context, &statement.at);
                let statement = resolver.statement(&statement.value, &group.conditions, mode, rule)?;
                self.statement(statement);
            }
        }
        Ok(())
    }

    fn statement(&mut self, statement: program::Statement) {
        if !self.is_on_tree()
            && let Some((kind, lowered)) = lower(&statement, self)
        {
            self.steps[slot(kind)].push(Step::Statement(Box::new(lowered)));
            return;
        }
        self.tree(TreeStep::Statements(self.groups, vec![statement]));
    }
}
