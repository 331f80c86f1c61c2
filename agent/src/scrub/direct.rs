//! The short way: what the steps of a walk do to an attribute, whatever stands beside it.
//!
//! Most steps look at one key: a blocked key goes, addresses in a URL are masked, a user's id is hashed. Where the gate
//! has found nothing in a message, and none of its keys stands twice, what they do is known key by key: no
//! [list](super::list) of the message is made, and what changes is written at once. Any other message goes the long way,
//! through every step; both do the same, which the tests of the plan hold them to.

#![forbid(unsafe_code)]

use crate::otlp::{
    edit::Edits,
    walk::{Attribute, Part, ValueKind},
};

use super::{
    builder::Step,
    hash::put_sha256,
    keys::{KeyId, Keys, length_bit},
    list::{attributes_number, put_string},
    metrics::Tally,
    ottl::{self, Condition, Editor, Expr, Replacement, Target, exec},
    pattern::{Caches, PatternId, Patterns, gate::Hits},
    redact::Redactor,
    rule::{Account, Did, Place, Rule, RuleId},
};

/// What is done to the attribute with one key.
#[derive(Debug)]
enum Action {
    /// It goes.
    Delete,
    /// `replace_pattern`
    Replace(PatternId, Replacement),
    /// `set(k, SHA256(k))`
    Hash,
}

/// One action of a rule.
#[derive(Debug)]
struct Op {
    action: Action,
    rule: RuleId,
    /// The rule's processor.
    owner: usize,
}

/// What is known of one key.
#[derive(Debug, Default)]
struct ByKey {
    ops: Vec<Op>,
    /// Only texts are worked on here.
    text: bool,
    /// A step asks more of it than is known here.
    long: bool,
}

impl ByKey {
    fn is_idle(&self) -> bool {
        self.ops.is_empty() && !self.long
    }
}

/// The short way through the steps of one kind of message.
#[derive(Debug)]
pub(super) struct Direct {
    /// What the gate must not have found.
    windows: Hits,
    /// By [`KeyId::index`].
    keys: Vec<ByKey>,
    /// Lengths of these keys: what other kinds of messages ask for must not cost here.
    lengths: u64,
    /// Members of maps are looked at by their keys.
    nested: bool,
}

/// Memory that is reused from message to message.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Attributes with something to do, by their place.
    known: Vec<(u32, KeyId)>,
    text: Vec<u8>,
    other: Vec<u8>,
}

/// What a message is worked on with.
pub(super) struct Work<'a> {
    pub(super) keys: &'a Keys,
    pub(super) patterns: &'a Patterns,
    pub(super) caches: &'a mut Caches,
    pub(super) scratch: &'a mut Scratch,
    pub(super) tally: &'a mut [Tally],
    pub(super) account: &'a mut Account,
}

impl Direct {
    /// For these steps; `None` where one of them may change a message in another way.
    pub(super) fn new(steps: &[Step], redactors: &[Redactor], rules: &[Rule], keys: &Keys) -> Option<Self> {
        let mut direct = Self { windows: Hits::default(), keys: Vec::new(), lengths: 0, nested: false };
        let mut written = false;
        for step in steps {
            match step {
                // What a statement has written is new text to those after it.
                Step::Redact(_) | Step::Detect(_) if written => return None,
                Step::Redact(which) => {
                    let plain = redactors[*which].plain()?;
                    direct.windows.join(&plain.windows);
                    direct.nested |= !plain.blocked.is_empty();
                    if let Some(rule) = plain.rule {
                        let owner = rules[rule.index()].owner;
                        for id in plain.blocked {
                            direct.key(id).ops.push(Op { action: Action::Delete, rule, owner });
                        }
                    }
                }
                Step::Detect(detect) => direct.windows.join(&detect.windows()?),
                Step::Statement(statement) => {
                    written = true;
                    direct.statement(statement, rules)?;
                }
                Step::Stamp(_) | Step::Extract(_) | Step::Action(_) | Step::Chosen(_) | Step::Capture(..) => {
                    return None;
                }
            }
        }
        let known = (0..direct.keys.len()).filter(|index| !direct.keys[*index].is_idle());
        direct.lengths = known.fold(0, |all, index| all | keys.length(KeyId::at(index)));
        Some(direct)
    }

    fn key(&mut self, id: KeyId) -> &mut ByKey {
        if self.keys.len() <= id.index() {
            self.keys.resize_with(id.index() + 1, ByKey::default);
        }
        &mut self.keys[id.index()]
    }

    /// `None` for a statement that may do something where its key is not.
    fn statement(&mut self, statement: &ottl::Statement, rules: &[Rule]) -> Option<()> {
        let (key, action) = match &statement.editor {
            Editor::ReplacePattern(Target::Attribute(key), pattern, with) => {
                let always = statement.condition.as_ref().is_none_or(|only| is_there(only, key.id));
                (key.id, always.then(|| Action::Replace(*pattern, with.clone())))
            }
            Editor::Set(Target::Attribute(key), value) => {
                // Without the condition, a missing key is something that SHA256 can't take.
                let only = statement.condition.as_ref().is_some_and(|only| is_there(only, key.id));
                let of_itself = matches!(value, Expr::Sha256(of) if is_key(of, key.id));
                (key.id, (only && of_itself).then_some(Some(Action::Hash))?)
            }
            Editor::DeleteKey(id) => (*id, None),
            _ => return None,
        };
        let (rule, by_key) = (statement.rule, self.key(key));
        match action {
            Some(action) => {
                by_key.ops.push(Op { action, rule, owner: rules[rule.index()].owner });
                by_key.text = true;
            }
            None => by_key.long = true,
        }
        Some(())
    }

    /// Works on one message in which the gate has found this. `false`, and nothing done, where it must go the long way.
    pub(super) fn run(&self, part: &Part<'_>, hits: &Hits, work: &mut Work<'_>, edits: &mut Edits) -> bool {
        if hits.meet(&self.windows) || !self.find(part, work) {
            return false;
        }
        for place in 0..work.scratch.known.len() {
            let (index, id) = work.scratch.known[place];
            edit(part, &part.attributes[index as usize], &self.keys[id.index()].ops, work, edits);
        }
        true
    }

    /// Finds the attributes with something to do; `false` where one must go the long way.
    #[inline]
    fn find(&self, part: &Part<'_>, work: &mut Work<'_>) -> bool {
        work.scratch.known.clear();
        let mut present = 0;
        for (index, attribute) in part.attributes.iter().enumerate() {
            if self.nested && matches!(attribute.kind, ValueKind::Array | ValueKind::KvList) {
                return false;
            }
            if self.lengths & length_bit(attribute.key.len() as usize) == 0 {
                continue;
            }
            let id = work.keys.find(part.bytes(attribute.key));
            let Some(by_key) = self.keys.get(id.index()) else { continue };
            if by_key.long || by_key.text && attribute.kind != ValueKind::String || present & id.bit() != 0 {
                return false;
            }
            if !by_key.ops.is_empty() {
                present |= id.bit();
                work.scratch.known.push((index as u32, id));
            }
        }
        true
    }
}

/// Does to one attribute what its key asks for.
fn edit(part: &Part<'_>, attribute: &Attribute, ops: &[Op], work: &mut Work<'_>, edits: &mut Edits) {
    let Scratch { text, other, .. } = &mut *work.scratch;
    let mut changed = false;
    for op in ops {
        let before = if changed { &text[..] } else { part.bytes(attribute.value) };
        other.clear();
        let did = match &op.action {
            Action::Delete => {
                edits.delete(attribute.field);
                note(op, Did::Removed, work.tally, work.account);
                return;
            }
            Action::Replace(pattern, with) => {
                if !exec::replace(work.patterns, work.caches, *pattern, with, before, other) {
                    continue;
                }
                Did::Masked
            }
            Action::Hash => {
                put_sha256(before, other);
                Did::Hashed
            }
        };
        if before != &other[..] {
            std::mem::swap(text, other);
            changed = true;
            note(op, did, work.tally, work.account);
        }
    }
    if changed {
        edits.replace_with(attribute.field, |out| {
            put_string(
                out,
                attributes_number(part.kind),
                (part.buf, attribute.key.range()),
                (text, 0..text.len()),
            );
        });
    }
}

fn note(op: &Op, did: Did, tally: &mut [Tally], account: &mut Account) {
    tally[op.owner].did(did);
    account.hit(op.rule, did, Place::Message);
}

/// Whether a condition holds exactly where the attribute at hand is there: `attributes["k"] != nil`.
fn is_there(condition: &Condition, id: KeyId) -> bool {
    matches!(condition, Condition::Equal(left, Expr::Literal(ValueKind::Empty, _), false) if is_key(left, id))
}

fn is_key(expr: &Expr, id: KeyId) -> bool {
    matches!(expr, Expr::Attribute(known) if *known == id)
}
