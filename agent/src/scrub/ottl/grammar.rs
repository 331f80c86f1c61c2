//! OTTL's grammar: tokens to a tree.

use super::{
    At, OttlError,
    lexer::{Token, tokens},
};

/// Parentheses, calls and lists inside each other.
const MAX_DEPTH: u32 = 64;

/// An expression and its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    /// Where it begins.
    pub(super) at: At,
    /// What it is.
    pub(super) what: What,
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
    /// `span.attributes["x"]`
    Path(Vec<Field>),
    /// `SHA256(…)`, or an editor
    Call(Call),
    /// `SHA256` without parentheses: a function as an argument, or an enum's symbol
    Symbol(String),
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

/// A condition.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Condition {
    /// All of them.
    And(Vec<Condition>),
    /// One of them.
    Or(Vec<Condition>),
    /// The opposite.
    Not(Box<Condition>),
    /// `a == b`, or `a != b` where the flag is false.
    Equal(Node, Node, bool),
    /// A call or a literal.
    Value(Node),
}

/// `editor(…) where …`
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Statement {
    /// Where the editor stands.
    pub(super) at: At,
    /// The editor.
    pub(super) editor: Call,
    /// The condition.
    pub(super) condition: Option<Condition>,
}

/// Reads a statement.
pub(super) fn statement(source: &str) -> Result<Statement, OttlError> {
    let mut parser = Parser::new(source)?;
    let at = parser.at();
    let Token::Lower(name) = parser.next() else {
        return Err(OttlError { at, message: "a statement begins with an editor, as in `set(…)`".into() });
    };
    let editor = parser.call(name)?;
    let condition = if parser.word("where") { Some(parser.or()?) } else { None };
    parser.end()?;
    Ok(Statement { at, editor, condition })
}

/// Reads a condition of a group.
pub(super) fn condition(source: &str) -> Result<Condition, OttlError> {
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
        if *self.peek() == Token::End { Ok(()) } else { self.error("`where` or the end") }
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

    fn or(&mut self) -> Result<Condition, OttlError> {
        let mut terms = vec![self.and()?];
        while self.word("or") {
            terms.push(self.and()?);
        }
        Ok(if terms.len() == 1 { terms.swap_remove(0) } else { Condition::Or(terms) })
    }

    fn and(&mut self) -> Result<Condition, OttlError> {
        let mut terms = vec![self.term()?];
        while self.word("and") {
            terms.push(self.term()?);
        }
        Ok(if terms.len() == 1 { terms.swap_remove(0) } else { Condition::And(terms) })
    }

    fn term(&mut self) -> Result<Condition, OttlError> {
        if self.word("not") {
            return Ok(Condition::Not(Box::new(self.deeper(Self::term)?)));
        }
        if self.sign("(") {
            let inner = self.deeper(Self::or)?;
            self.expect(")")?;
            return Ok(inner);
        }
        let left = self.node()?;
        if self.sign("==") {
            return Ok(Condition::Equal(left, self.node()?, true));
        }
        if self.sign("!=") {
            return Ok(Condition::Equal(left, self.node()?, false));
        }
        if matches!(self.peek(), Token::Sign("<" | ">" | "<=" | ">=")) {
            return Err(OttlError {
                at: self.at(),
                message: "order comparisons are known but not built yet; `==`, `!=` and IsMatch are".into(),
            });
        }
        Ok(Condition::Value(left))
    }

    fn node(&mut self) -> Result<Node, OttlError> {
        self.deeper(Self::node_inside)
    }

    fn node_inside(&mut self) -> Result<Node, OttlError> {
        let at = self.at();
        let what = match self.next() {
            Token::Text(text) => What::Text(text),
            Token::Int(value) => What::Int(value),
            Token::Float(value) => What::Float(value),
            Token::Bytes(value) => What::Bytes(value),
            Token::Upper(name) if *self.peek() == Token::Sign("(") => What::Call(self.call(name)?),
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
                _ => What::Path(self.path(name)?),
            },
            Token::Sign("[") => What::List(self.list()?),
            Token::Sign("{") => {
                return Err(OttlError { at, message: "map literals are known but not built yet".into() });
            }
            _ => {
                self.next = self.next.saturating_sub(usize::from(*self.peek() != Token::End));
                return self.error("a value, a path or a function");
            }
        };
        if matches!(self.peek(), Token::Sign("+" | "-" | "=>")) {
            return Err(OttlError {
                at: self.at(),
                message: "arithmetic and lambdas are known but not built yet".into(),
            });
        }
        Ok(Node { at, what })
    }

    fn list(&mut self) -> Result<Vec<Node>, OttlError> {
        let mut list = Vec::new();
        while !self.sign("]") {
            list.push(self.node()?);
            if !self.sign(",") {
                self.expect("]")?;
                break;
            }
        }
        Ok(list)
    }

    fn path(&mut self, first: String) -> Result<Vec<Field>, OttlError> {
        let mut fields = vec![Field { name: first, keys: Vec::new() }];
        loop {
            if self.sign("[") {
                let key = self.node()?;
                self.expect("]")?;
                fields.last_mut().expect("a path has a first field").keys.push(key);
            } else if self.sign(".") {
                let Token::Lower(name) = self.peek().clone() else { return self.error("a name after `.`") };
                self.next();
                fields.push(Field { name, keys: Vec::new() });
            } else {
                return Ok(fields);
            }
        }
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
            arguments.push((named, self.node()?));
            if !self.sign(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(Call { name, arguments })
    }
}
