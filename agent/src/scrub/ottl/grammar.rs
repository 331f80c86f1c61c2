//! OTTL's grammar: tokens to a tree, and the tree back to text.
//!
//! Values and conditions are one kind of tree; what may stand where is asked when a statement is resolved. So every
//! parenthesis is read once, and reading takes time linear in the text.

#![forbid(unsafe_code)]

use std::fmt;

use super::{
    At, OttlError,
    lexer::{Token, tokens},
};

/// Parentheses, calls, lists and keys inside each other.
const MAX_DEPTH: u32 = 64;

/// An expression and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Where it begins.
    pub(super) at: At,
    /// What it is.
    pub(super) what: What,
}

/// Wherever it stands.
impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.what == other.what
    }
}

/// An expression.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum What {
    /// `nil`
    Nil,
    /// `"text"`
    Text(String),
    /// `1`
    Int(i64),
    /// `1.5`
    Float(f64),
    /// `true`
    Bool(bool),
    /// `0x00`
    Bytes(Vec<u8>),
    /// `[a, b]`
    List(Vec<Node>),
    /// `{"a": b}`
    Map(Vec<(String, Node)>),
    /// `span.attributes["x"]`
    Path(Vec<Field>),
    /// `SHA256(…)`, or an editor
    Call(Call),
    /// `Split(…)[0]`
    Keyed(Box<Node>, Vec<Node>),
    /// `SHA256` without parentheses: a function as an argument, or an enum's symbol
    Symbol(String),
    /// `a + b`
    Math(MathOp, Box<Node>, Box<Node>),
    /// `a < b`
    Compare(CompareOp, Box<Node>, Box<Node>),
    /// `not a`
    Not(Box<Node>),
    /// `a and b and …`
    And(Vec<Node>),
    /// `a or b or …`
    Or(Vec<Node>),
}

/// Arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::scrub) enum MathOp {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
}

/// Comparisons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::scrub) enum CompareOp {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// One segment of a path.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    /// `attributes`
    pub(super) name: String,
    /// `["x"]`
    pub(super) keys: Vec<Node>,
}

/// A function and its arguments.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Call {
    /// As written.
    pub(super) name: String,
    /// Positional ones first.
    pub(super) arguments: Vec<(Option<String>, Node)>,
}

/// `editor(…) where …`
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Statement {
    /// Where the editor stands.
    pub(super) at: At,
    /// The editor.
    pub(super) editor: Call,
    /// The condition.
    pub(super) condition: Option<Node>,
}

/// Reads a statement.
pub(super) fn statement(source: &str) -> Result<Statement, OttlError> {
    let mut parser = Parser::new(source)?;
    let at = parser.at();
    let name = match parser.next() {
        Token::Lower(name) => name,
        Token::Upper(name) => {
            let message =
                format!("`{name}` is a converter; a statement begins with an editor, as in `set(…)`");
            return Err(OttlError { at, message });
        }
        _ => {
            return Err(OttlError {
                at,
                message: "a statement begins with an editor, as in `set(…)`".into(),
            });
        }
    };
    let editor = parser.call(name)?;
    let condition = if parser.word("where") { Some(parser.or()?) } else { None };
    parser.end()?;
    Ok(Statement { at, editor, condition })
}

/// Reads a condition of a group.
pub(super) fn condition(source: &str) -> Result<Node, OttlError> {
    let mut parser = Parser::new(source)?;
    let condition = parser.or()?;
    parser.end()?;
    Ok(condition)
}

struct Parser {
    tokens: Vec<(At, Token)>,
    next: usize,
    depth: u32,
}

impl Parser {
    fn new(source: &str) -> Result<Self, OttlError> {
        Ok(Self { tokens: tokens(source)?, next: 0, depth: 0 })
    }

    fn at(&self) -> At {
        self.tokens[self.next].0
    }

    fn peek(&self) -> &Token {
        &self.tokens[self.next].1
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        // The last token is `End`, which is never passed.
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        token
    }

    fn error<T>(&self, expected: &str) -> Result<T, OttlError> {
        Err(OttlError {
            at: self.at(),
            message: format!("expected {expected}, found {}", self.peek().show()),
        })
    }

    fn sign(&mut self, sign: &'static str) -> bool {
        let found = *self.peek() == Token::Sign(sign);
        if found {
            self.next();
        }
        found
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), OttlError> {
        if self.sign(sign) { Ok(()) } else { self.error(&format!("`{sign}`")) }
    }

    fn word(&mut self, word: &str) -> bool {
        let found = matches!(self.peek(), Token::Lower(found) if found == word);
        if found {
            self.next();
        }
        found
    }

    fn end(&self) -> Result<(), OttlError> {
        if *self.peek() == Token::End { Ok(()) } else { self.error("`where`, an operator or the end") }
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, OttlError>) -> Result<T, OttlError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(OttlError { at: self.at(), message: format!("nested more than {MAX_DEPTH} deep") });
        }
        let read = read(self);
        self.depth -= 1;
        read
    }

    fn or(&mut self) -> Result<Node, OttlError> {
        self.terms("or", Self::and, What::Or)
    }

    fn and(&mut self) -> Result<Node, OttlError> {
        self.terms("and", Self::term, What::And)
    }

    fn terms(
        &mut self,
        word: &str,
        read: impl Fn(&mut Self) -> Result<Node, OttlError>,
        join: impl Fn(Vec<Node>) -> What,
    ) -> Result<Node, OttlError> {
        let first = read(self)?;
        if !matches!(self.peek(), Token::Lower(found) if found == word) {
            return Ok(first);
        }
        let at = first.at;
        let mut terms = vec![first];
        while self.word(word) {
            terms.push(read(self)?);
        }
        Ok(Node { at, what: join(terms) })
    }

    /// `not`, a comparison, or a value.
    fn term(&mut self) -> Result<Node, OttlError> {
        let at = self.at();
        if self.word("not") {
            let inner = self.deeper(Self::term)?;
            return Ok(Node { at, what: What::Not(Box::new(inner)) });
        }
        let left = self.sum()?;
        let op = match self.peek() {
            Token::Sign("==") => CompareOp::Equal,
            Token::Sign("!=") => CompareOp::NotEqual,
            Token::Sign("<") => CompareOp::Less,
            Token::Sign("<=") => CompareOp::LessOrEqual,
            Token::Sign(">") => CompareOp::Greater,
            Token::Sign(">=") => CompareOp::GreaterOrEqual,
            _ => return Ok(left),
        };
        self.next();
        let right = self.sum()?;
        Ok(Node { at, what: What::Compare(op, Box::new(left), Box::new(right)) })
    }

    /// A value. A chain of operators becomes a tree as deep as the chain is long, so that it counts as depth.
    fn sum(&mut self) -> Result<Node, OttlError> {
        self.chain(&[("+", MathOp::Add), ("-", MathOp::Subtract)], Self::product)
    }

    fn product(&mut self) -> Result<Node, OttlError> {
        self.chain(&[("*", MathOp::Multiply), ("/", MathOp::Divide)], |parser| parser.deeper(Self::primary))
    }

    fn chain(
        &mut self,
        signs: &[(&'static str, MathOp)],
        read: impl Fn(&mut Self) -> Result<Node, OttlError>,
    ) -> Result<Node, OttlError> {
        let mut left = read(self)?;
        let mut length = 0;
        while let Some((_, op)) = signs.iter().find(|(sign, _)| self.sign(sign)) {
            length += 1;
            if length + self.depth > MAX_DEPTH {
                return Err(OttlError {
                    at: self.at(),
                    message: format!("more than {MAX_DEPTH} operators in a row, or nested that deep"),
                });
            }
            let right = read(self)?;
            left = Node { at: left.at, what: What::Math(*op, Box::new(left), Box::new(right)) };
        }
        Ok(left)
    }

    fn primary(&mut self) -> Result<Node, OttlError> {
        let at = self.at();
        let before = self.next;
        let what = match self.next() {
            Token::Text(text) => What::Text(text),
            Token::Int(value) => What::Int(value),
            Token::Float(value) => What::Float(value),
            Token::Bytes(value) => What::Bytes(value),
            Token::Upper(name) if *self.peek() == Token::Sign("(") => {
                let call = Node { at, what: What::Call(self.call(name)?) };
                let keys = self.keys()?;
                if keys.is_empty() {
                    return Ok(call);
                }
                What::Keyed(Box::new(call), keys)
            }
            Token::Upper(name) => What::Symbol(name),
            Token::Lower(name) if *self.peek() == Token::Sign("(") => {
                return Err(OttlError {
                    at,
                    message: format!("`{name}` is an editor and stands at the beginning"),
                });
            }
            Token::Lower(name) => match name.as_str() {
                "nil" => What::Nil,
                "true" => What::Bool(true),
                "false" => What::Bool(false),
                "and" | "or" | "not" | "where" => {
                    self.next = before;
                    return self.error("a value, a path or a function");
                }
                _ => What::Path(self.path(name)?),
            },
            Token::Sign("[") => What::List(self.list()?),
            Token::Sign("{") => What::Map(self.map()?),
            Token::Sign("(") => {
                let inner = self.or()?;
                if self.peek() == &Token::Sign(",") {
                    return Err(OttlError { at, message: NO_LAMBDAS.into() });
                }
                self.expect(")")?;
                if *self.peek() == Token::Sign("=>") {
                    return Err(OttlError { at, message: NO_LAMBDAS.into() });
                }
                return Ok(Node { at, what: inner.what });
            }
            _ => {
                self.next = before;
                return self.error("a value, a path or a function");
            }
        };
        Ok(Node { at, what })
    }

    fn list(&mut self) -> Result<Vec<Node>, OttlError> {
        let mut list = Vec::new();
        while !self.sign("]") {
            list.push(self.sum()?);
            if !self.sign(",") {
                self.expect("]")?;
                break;
            }
        }
        Ok(list)
    }

    fn map(&mut self) -> Result<Vec<(String, Node)>, OttlError> {
        let mut map = Vec::new();
        while !self.sign("}") {
            let Token::Text(key) = self.peek().clone() else { return self.error("a key in quotes") };
            self.next();
            self.expect(":")?;
            map.push((key, self.sum()?));
            if !self.sign(",") {
                self.expect("}")?;
                break;
            }
        }
        Ok(map)
    }

    fn keys(&mut self) -> Result<Vec<Node>, OttlError> {
        let mut keys = Vec::new();
        while self.sign("[") {
            keys.push(self.sum()?);
            self.expect("]")?;
        }
        Ok(keys)
    }

    fn path(&mut self, first: String) -> Result<Vec<Field>, OttlError> {
        let mut fields = vec![Field { name: first, keys: self.keys()? }];
        while self.sign(".") {
            let Token::Lower(name) = self.peek().clone() else { return self.error("a name after `.`") };
            self.next();
            fields.push(Field { name, keys: self.keys()? });
        }
        Ok(fields)
    }

    fn call(&mut self, name: String) -> Result<Call, OttlError> {
        self.expect("(")?;
        let mut arguments = Vec::new();
        while !self.sign(")") {
            let named = match (self.peek(), self.tokens.get(self.next + 1)) {
                (Token::Lower(name), Some((_, Token::Sign("=")))) => Some(name.clone()),
                _ => None,
            };
            if named.is_some() {
                self.next();
                self.next();
            } else if arguments.iter().any(|(name, _): &(Option<String>, Node)| name.is_some()) {
                return self.error("a named argument, because positional ones come first");
            }
            arguments.push((named, self.sum()?));
            if !self.sign(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(Call { name, arguments })
    }
}

const NO_LAMBDAS: &str = "lambdas are not supported; write one statement for each key, or use an editor for all \
                          values of a map, such as replace_all_patterns";

/// Text that is read as the same tree.
impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.editor)?;
        match &self.condition {
            Some(condition) => write!(f, " where {condition}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}(", self.name)?;
        for (index, (name, node)) in self.arguments.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            match name {
                Some(name) => write!(f, "{comma}{name} = {node}")?,
                None => write!(f, "{comma}{node}")?,
            }
        }
        f.write_str(")")
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::Nil => f.write_str("nil"),
            What::Text(text) => quoted(f, text),
            What::Int(value) => write!(f, "{value}"),
            What::Float(value) => {
                let text = format!("{value:?}");
                let point = if text.contains(['.', 'e']) { "" } else { ".0" };
                write!(f, "{text}{point}")
            }
            What::Bool(value) => write!(f, "{value}"),
            What::Bytes(bytes) => {
                f.write_str("0x")?;
                bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
            What::List(list) => {
                f.write_str("[")?;
                joined(f, list, ", ")?;
                f.write_str("]")
            }
            What::Map(map) => {
                f.write_str("{")?;
                for (index, (key, value)) in map.iter().enumerate() {
                    f.write_str(if index > 0 { ", " } else { "" })?;
                    quoted(f, key)?;
                    write!(f, ": {value}")?;
                }
                f.write_str("}")
            }
            What::Path(fields) => {
                for (index, field) in fields.iter().enumerate() {
                    write!(f, "{}{}", if index > 0 { "." } else { "" }, field.name)?;
                    field.keys.iter().try_for_each(|key| write!(f, "[{key}]"))?;
                }
                Ok(())
            }
            What::Call(call) => write!(f, "{call}"),
            What::Keyed(call, keys) => {
                write!(f, "{call}")?;
                keys.iter().try_for_each(|key| write!(f, "[{key}]"))
            }
            What::Symbol(name) => f.write_str(name),
            What::Math(op, left, right) => {
                let sign = match op {
                    MathOp::Add => "+",
                    MathOp::Subtract => "-",
                    MathOp::Multiply => "*",
                    MathOp::Divide => "/",
                };
                write!(f, "({left} {sign} {right})")
            }
            What::Compare(op, left, right) => write!(f, "({left} {op} {right})"),
            What::Not(inner) => write!(f, "(not {inner})"),
            What::And(terms) | What::Or(terms) => {
                let word = if matches!(self.what, What::And(_)) { " and " } else { " or " };
                f.write_str("(")?;
                joined(f, terms, word)?;
                f.write_str(")")
            }
        }
    }
}

impl fmt::Display for CompareOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        })
    }
}

fn joined(f: &mut fmt::Formatter<'_>, nodes: &[Node], between: &str) -> fmt::Result {
    for (index, node) in nodes.iter().enumerate() {
        write!(f, "{}{node}", if index > 0 { between } else { "" })?;
    }
    Ok(())
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_str("\"")?;
    for c in text.chars() {
        match c {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            c if c.is_control() => write!(f, "\\U{:08x}", u32::from(c))?,
            c => write!(f, "{c}")?,
        }
    }
    f.write_str("\"")
}
