//! Go's RE2 dialect, read into a `regex-syntax` HIR.
//!
//! A Collector configuration means what Go's `regexp/syntax` says, and Rust's parser says otherwise about
//! `\d`, `\s`, `\b` (Unicode there, ASCII in Go), about `[a&&b]` and `[[]` (set operations there, literals in
//! Go), and about `\Q…\E`, octal escapes and `a{,5}` (errors there). So the dialect has a parser of its own;
//! what comes after it, from the HIR on, is the `regex` crate's.

use regex_syntax::hir::{
    Capture, Class, ClassUnicode, ClassUnicodeRange, Dot, Hir, HirKind, Look, Repetition,
};

use super::class;

/// Go's limit on one repetition count.
const MAX_REPEAT: u32 = 1000;
/// Groups inside groups. Go allows 1000; nothing written by a person comes near this.
const MAX_DEPTH: u32 = 200;

/// Why a pattern could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {at} of the pattern: {message}")]
pub(crate) struct Error {
    /// 1-based, in characters.
    pub(crate) at: usize,
    /// What is wrong and what to write instead.
    pub(crate) message: String,
}

/// A parsed pattern.
pub(crate) struct Parsed {
    /// What it matches.
    pub(crate) hir: Hir,
    /// Names of the groups by index; 0 is the whole match.
    pub(crate) groups: Vec<Option<String>>,
}

/// Whether counts inside each other multiply to no more than `most`. Go refuses more.
fn within(hir: &Hir, most: u32) -> bool {
    let all = |parts: &[Hir], most| parts.iter().all(|part| within(part, most));
    match hir.kind() {
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min);
            times <= most && within(&repetition.sub, most / times.max(1))
        }
        HirKind::Capture(capture) => within(&capture.sub, most),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => all(parts, most),
        HirKind::Empty | HirKind::Literal(_) | HirKind::Class(_) | HirKind::Look(_) => true,
    }
}

/// Reads a pattern.
pub(crate) fn parse(pattern: &str) -> Result<Parsed, Error> {
    let mut parser = Parser {
        chars: pattern.chars().collect(),
        at: 0,
        groups: vec![None],
        depth: 0,
        flags: Flags::default(),
    };
    let hir = parser.alternation()?;
    if parser.peek().is_some() {
        return Err(parser.error("this `)` closes nothing; escape it as `\\)`"));
    }
    Ok(Parsed { hir, groups: parser.groups })
}

#[derive(Clone, Copy, Default)]
#[expect(clippy::struct_excessive_bools, reason = "RE2's four flags")]
struct Flags {
    fold: bool,
    multi_line: bool,
    dot_newline: bool,
    swap_greed: bool,
}

struct Parser {
    chars: Vec<char>,
    at: usize,
    groups: Vec<Option<String>>,
    depth: u32,
    flags: Flags,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn looking_at(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(i, c)| self.chars.get(self.at + i) == Some(&c))
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.looking_at(text);
        if found {
            self.at += text.chars().count();
        }
        found
    }

    fn error(&self, message: impl Into<String>) -> Error {
        Error { at: self.at + 1, message: message.into() }
    }

    fn alternation(&mut self) -> Result<Hir, Error> {
        let mut branches = vec![self.concat()?];
        while self.eat("|") {
            branches.push(self.concat()?);
        }
        Ok(if branches.len() == 1 { branches.swap_remove(0) } else { Hir::alternation(branches) })
    }

    fn concat(&mut self) -> Result<Hir, Error> {
        let mut parts = Vec::new();
        while let Some(c) = self.peek() {
            if c == '|' || c == ')' {
                break;
            }
            if self.eat("\\Q") {
                self.quoted(&mut parts)?;
            } else if let Some(atom) = self.atom(c)? {
                let atom = self.repeat(atom)?;
                parts.push(atom);
            }
        }
        Ok(Hir::concat(parts))
    }

    /// `\Q…\E`: only its last character takes a repetition, as in Go.
    fn quoted(&mut self, parts: &mut Vec<Hir>) -> Result<(), Error> {
        let mut last = None;
        while let Some(c) = self.peek() {
            if self.eat("\\E") {
                break;
            }
            self.at += 1;
            parts.extend(last.replace(self.literal(c)));
        }
        if let Some(atom) = last {
            let atom = self.repeat(atom)?;
            parts.push(atom);
        }
        Ok(())
    }

    /// One atom; `None` for what matches nothing and takes no repetition: a bare flag group.
    fn atom(&mut self, c: char) -> Result<Option<Hir>, Error> {
        Ok(Some(match c {
            '(' => return self.group(),
            '[' => self.bracket()?,
            '\\' => self.escape()?,
            '*' | '+' | '?' => {
                return Err(self.error(format!("nothing stands before `{c}` that it could repeat")));
            }
            '.' => {
                self.at += 1;
                Hir::dot(if self.flags.dot_newline { Dot::AnyChar } else { Dot::AnyCharExceptLF })
            }
            '^' => {
                self.at += 1;
                Hir::look(if self.flags.multi_line { Look::StartLF } else { Look::Start })
            }
            '$' => {
                self.at += 1;
                Hir::look(if self.flags.multi_line { Look::EndLF } else { Look::End })
            }
            '{' if self.count()?.is_some() => {
                return Err(self.error("nothing stands before this count that it could repeat"));
            }
            c => {
                self.at += 1;
                self.literal(c)
            }
        }))
    }

    fn literal(&self, c: char) -> Hir {
        if self.flags.fold {
            let mut set = ClassUnicode::new([ClassUnicodeRange::new(c, c)]);
            class::fold(&mut set);
            return Hir::class(Class::Unicode(set));
        }
        Hir::literal(c.to_string().into_bytes())
    }

    fn group(&mut self) -> Result<Option<Hir>, Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(format!("more than {MAX_DEPTH} groups inside each other")));
        }
        self.at += 1;
        let outer = self.flags;
        let capture = if self.eat("?P<") || self.looking_at("?<") && !self.looks_behind() && self.eat("?<") {
            Some(Some(self.group_name()?))
        } else if self.eat("?") {
            if !self.flag_group()? {
                self.depth -= 1;
                return Ok(None);
            }
            None
        } else {
            Some(None)
        };
        let index = self.groups.len() as u32;
        if let Some(name) = &capture {
            self.groups.push(name.clone());
        }
        let sub = self.alternation()?;
        if !self.eat(")") {
            return Err(self.error("a `(` is not closed"));
        }
        self.flags = outer;
        self.depth -= 1;
        Ok(Some(match capture {
            Some(name) => Hir::capture(Capture { index, name: name.map(Into::into), sub: Box::new(sub) }),
            None => sub,
        }))
    }

    fn looks_behind(&self) -> bool {
        self.looking_at("?<=") || self.looking_at("?<!")
    }

    fn group_name(&mut self) -> Result<String, Error> {
        let start = self.at;
        while self.peek().is_some_and(|c| c != '>') {
            self.at += 1;
        }
        let name: String = self.chars[start..self.at].iter().collect();
        if name.is_empty() || !name.chars().all(|c| c == '_' || c.is_ascii_alphanumeric()) || !self.eat(">") {
            return Err(self.error("a group's name is letters, digits and `_`, closed by `>`"));
        }
        if self.groups.iter().any(|other| other.as_deref() == Some(&name)) {
            return Err(self.error(format!("two groups are named `{name}`")));
        }
        Ok(name)
    }

    /// Flags after `(?`. True when a group `(?flags:` follows, false for `(?flags)`.
    fn flag_group(&mut self) -> Result<bool, Error> {
        let mut flags = self.flags;
        let mut on = true;
        let mut any = false;
        loop {
            let c = self.peek();
            match c {
                Some('i') => flags.fold = on,
                Some('m') => flags.multi_line = on,
                Some('s') => flags.dot_newline = on,
                Some('U') => flags.swap_greed = on,
                Some('-') if on => {
                    on = false;
                    any = false;
                    self.at += 1;
                    continue;
                }
                Some(end @ (':' | ')')) if on || any => {
                    self.at += 1;
                    self.flags = flags;
                    return Ok(end == ':');
                }
                Some('=' | '!' | '<') => {
                    return Err(
                        self.error("look-around is not part of RE2; match more and keep it with a group")
                    );
                }
                _ => return Err(self.error("after `(?` come the flags i, m, s, U, then `:` or `)`")),
            }
            any = true;
            self.at += 1;
        }
    }

    fn repeat(&mut self, mut atom: Hir) -> Result<Hir, Error> {
        let mut repeated = false;
        loop {
            let start = self.at;
            let (min, max) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => match self.count()? {
                    Some((min, max, length)) => {
                        self.at += length - 1;
                        (min, max)
                    }
                    None => return Ok(atom),
                },
                _ => return Ok(atom),
            };
            if repeated {
                self.at = start;
                return Err(self.error("a repetition of a repetition; put the first into `(?:…)`"));
            }
            repeated = true;
            self.at += 1;
            let lazy = self.eat("?");
            atom = Hir::repetition(Repetition {
                min,
                max,
                greedy: lazy == self.flags.swap_greed,
                sub: Box::new(atom),
            });
            if !within(&atom, MAX_REPEAT) {
                self.at = start;
                let message = format!("counts inside each other that come to more than {MAX_REPEAT}");
                return Err(self.error(message));
            }
        }
    }

    /// `{n}`, `{n,}`, `{n,m}` at the cursor, with its length; `None` where the brace is a literal.
    fn count(&self) -> Result<Option<(u32, Option<u32>, usize)>, Error> {
        let mut at = self.at + 1;
        let number = |at: &mut usize| {
            let start = *at;
            while self.chars.get(*at).is_some_and(char::is_ascii_digit) {
                *at += 1;
            }
            let digits: String = self.chars[start..*at].iter().collect();
            // Go takes no leading zeros: `{01}` is text.
            (!digits.is_empty() && (digits == "0" || !digits.starts_with('0')))
                .then(|| digits.parse::<u32>().unwrap_or(u32::MAX))
        };
        let Some(min) = number(&mut at) else { return Ok(None) };
        let mut max = Some(min);
        if self.chars.get(at) == Some(&',') {
            at += 1;
            max = None;
            if self.chars.get(at) != Some(&'}') {
                let Some(number) = number(&mut at) else { return Ok(None) };
                max = Some(number);
            }
        }
        if self.chars.get(at) != Some(&'}') {
            return Ok(None);
        }
        if min > MAX_REPEAT || max.is_some_and(|max| max > MAX_REPEAT || max < min) {
            return Err(self.error(format!("a count is at most {MAX_REPEAT}, the smaller number first")));
        }
        Ok(Some((min, max, at + 1 - self.at)))
    }

    fn escape(&mut self) -> Result<Hir, Error> {
        let Some(c) = self.chars.get(self.at + 1).copied() else {
            return Err(self.error("a `\\` at the end escapes nothing"));
        };
        let look = match c {
            'A' => Some(Look::Start),
            'z' => Some(Look::End),
            'b' => Some(Look::WordAscii),
            'B' => Some(Look::WordAsciiNegate),
            _ => None,
        };
        if let Some(look) = look {
            self.at += 2;
            return Ok(Hir::look(look));
        }
        if let Some(set) = self.class_escape()? {
            return Ok(Hir::class(Class::Unicode(set)));
        }
        let c = self.char_escape()?;
        Ok(self.literal(c))
    }

    /// `\d`, `\pN` and the like at the cursor.
    fn class_escape(&mut self) -> Result<Option<ClassUnicode>, Error> {
        let Some(c) = self.chars.get(self.at + 1).copied() else { return Ok(None) };
        if let Some(mut set) = class::perl(c.to_ascii_lowercase()) {
            self.at += 2;
            if self.flags.fold {
                class::fold(&mut set);
            }
            if c.is_ascii_uppercase() {
                set.negate();
            }
            return Ok(Some(set));
        }
        if c != 'p' && c != 'P' {
            return Ok(None);
        }
        let start = self.at;
        self.at += 2;
        let mut negated = c == 'P';
        let name: String = if self.eat("{") {
            if self.eat("^") {
                negated = !negated;
            }
            let from = self.at;
            while self.peek().is_some_and(|c| c != '}') {
                self.at += 1;
            }
            let name = self.chars[from..self.at].iter().collect();
            if !self.eat("}") {
                self.at = start;
                return Err(self.error("the `{` after `\\p` is not closed"));
            }
            name
        } else {
            self.at += 1;
            self.chars.get(self.at - 1).into_iter().collect()
        };
        let Some(mut set) = class::unicode(&name) else {
            self.at = start;
            return Err(self.error(format!("`{name}` is not a Unicode category or script")));
        };
        if self.flags.fold {
            class::fold(&mut set);
        }
        if negated {
            set.negate();
        }
        Ok(Some(set))
    }

    /// An escaped character at the cursor, inside or outside a class.
    fn char_escape(&mut self) -> Result<char, Error> {
        let unknown = |this: &Self, c: char| {
            let hint = match c {
                'Z' => "; the end of the text is `\\z` or `$`",
                '1'..='9' => "; RE2 has no back-references",
                'C' => "; Go does not take it either",
                _ => "",
            };
            this.error(format!("`\\{c}` is not an escape of RE2{hint}"))
        };
        let Some(c) = self.chars.get(self.at + 1).copied() else {
            return Err(self.error("a `\\` at the end escapes nothing"));
        };
        let octal = |c: Option<&char>| c.and_then(|c| c.to_digit(8));
        let value = match c {
            'a' => 7,
            'f' => 12,
            'n' => 10,
            'r' => 13,
            't' => 9,
            'v' => 11,
            'x' => return self.hex_escape(),
            '0'..='7' if c == '0' || octal(self.chars.get(self.at + 2)).is_some() => {
                let mut value = 0;
                let mut length = 1;
                while let Some(digit) = octal(self.chars.get(self.at + length)).filter(|_| length < 4) {
                    value = value * 8 + digit;
                    length += 1;
                }
                self.at += length;
                return char::from_u32(value).ok_or_else(|| unknown(self, c));
            }
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => c as u32,
            c => return Err(unknown(self, c)),
        };
        self.at += 2;
        char::from_u32(value).ok_or_else(|| unknown(self, c))
    }

    fn hex_escape(&mut self) -> Result<char, Error> {
        let start = self.at;
        self.at += 2;
        let digits: String = if self.eat("{") {
            let from = self.at;
            while self.peek().is_some_and(|c| c.is_ascii_hexdigit()) {
                self.at += 1;
            }
            let digits = self.chars[from..self.at].iter().collect();
            if self.eat("}") { digits } else { String::new() }
        } else {
            let end = (self.at + 2).min(self.chars.len());
            let digits: String = self.chars[self.at..end].iter().filter(|c| c.is_ascii_hexdigit()).collect();
            self.at = end;
            if digits.len() == 2 { digits } else { String::new() }
        };
        u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32).ok_or_else(|| {
            self.at = start;
            self.error("`\\x` takes two hex digits, or up to six in braces as in `\\x{10FFFF}`")
        })
    }

    fn bracket(&mut self) -> Result<Hir, Error> {
        let open = self.at;
        self.at += 1;
        let negated = self.eat("^");
        let mut set = ClassUnicode::empty();
        let mut first = true;
        loop {
            match self.peek() {
                None => {
                    self.at = open;
                    return Err(self.error("this `[` is not closed"));
                }
                Some(']') if !first => break,
                Some('[') if self.looking_at("[:") && self.posix(&mut set)? => {}
                Some('\\') if self.class_member(&mut set)? => {}
                Some(_) => self.range(&mut set)?,
            }
            first = false;
        }
        self.at += 1;
        if negated {
            set.negate();
        }
        Ok(Hir::class(Class::Unicode(set)))
    }

    fn class_member(&mut self, set: &mut ClassUnicode) -> Result<bool, Error> {
        let member = self.class_escape()?;
        if let Some(member) = &member {
            set.union(member);
        }
        Ok(member.is_some())
    }

    fn posix(&mut self, set: &mut ClassUnicode) -> Result<bool, Error> {
        let rest: String = self.chars[self.at + 2..].iter().take(16).collect();
        let Some((name, _)) = rest.split_once(":]") else { return Ok(false) };
        let (negated, bare) = name.strip_prefix('^').map_or((false, name), |bare| (true, bare));
        let Some(mut member) = class::posix(bare) else {
            return Err(self.error(format!("`[:{name}:]` is not a POSIX class")));
        };
        if self.flags.fold {
            class::fold(&mut member);
        }
        if negated {
            member.negate();
        }
        set.union(&member);
        self.at += 4 + name.chars().count();
        Ok(true)
    }

    fn range(&mut self, set: &mut ClassUnicode) -> Result<(), Error> {
        let start = self.at;
        let low = self.class_char()?;
        let mut high = low;
        if self.peek() == Some('-') && self.chars.get(self.at + 1).is_some_and(|c| *c != ']') {
            self.at += 1;
            high = self.class_char()?;
            if high < low {
                self.at = start;
                return Err(self.error(format!("`{low}-{high}` runs backwards")));
            }
        }
        let mut member = ClassUnicode::new([ClassUnicodeRange::new(low, high)]);
        if self.flags.fold {
            class::fold(&mut member);
        }
        set.union(&member);
        Ok(())
    }

    fn class_char(&mut self) -> Result<char, Error> {
        match self.peek() {
            Some('\\') => self.char_escape(),
            Some(c) => {
                self.at += 1;
                Ok(c)
            }
            None => Err(self.error("a `[` is not closed")),
        }
    }
}
