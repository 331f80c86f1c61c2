//! The character classes of Go's `regexp`: Perl's and POSIX's are ASCII, Unicode's are by name.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, HirKind};

fn ranges(ranges: &[(char, char)]) -> ClassUnicode {
    ClassUnicode::new(ranges.iter().map(|(low, high)| ClassUnicodeRange::new(*low, *high)))
}

/// `\d`, `\s` (without `\v`, unlike Rust's), `\w`.
pub(super) fn perl(letter: char) -> Option<ClassUnicode> {
    Some(match letter {
        'd' => ranges(&[('0', '9')]),
        's' => ranges(&[('\t', '\n'), ('\x0c', '\r'), (' ', ' ')]),
        'w' => ranges(&[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')]),
        _ => return None,
    })
}

/// `[[:name:]]`.
pub(super) fn posix(name: &str) -> Option<ClassUnicode> {
    Some(ranges(match name {
        "alnum" => &[('0', '9'), ('A', 'Z'), ('a', 'z')],
        "alpha" => &[('A', 'Z'), ('a', 'z')],
        "ascii" => &[('\0', '\x7f')],
        "blank" => &[('\t', '\t'), (' ', ' ')],
        "cntrl" => &[('\0', '\x1f'), ('\x7f', '\x7f')],
        "digit" => &[('0', '9')],
        "graph" => &[('!', '~')],
        "lower" => &[('a', 'z')],
        "print" => &[(' ', '~')],
        "punct" => &[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')],
        "space" => &[('\t', '\r'), (' ', ' ')],
        "upper" => &[('A', 'Z')],
        "word" => &[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')],
        "xdigit" => &[('0', '9'), ('A', 'F'), ('a', 'f')],
        _ => return None,
    }))
}

/// `\p{name}`: a category or a script.
pub(super) fn unicode(name: &str) -> Option<ClassUnicode> {
    // The name goes into a pattern, so it may be nothing but a name.
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return None;
    }
    if matches!(name, "Cs" | "Surrogate") {
        // No text holds one.
        return Some(ClassUnicode::empty());
    }
    // Properties beyond these, such as `Lower`, are Rust's alone.
    let known = |of| regex_syntax::parse(&format!("\\p{{{of}={name}}}")).ok();
    match known("gc").or_else(|| known("sc"))?.into_kind() {
        HirKind::Class(Class::Unicode(set)) => Some(set),
        HirKind::Literal(literal) => {
            let c = std::str::from_utf8(&literal.0).ok()?.chars().next()?;
            Some(ranges(&[(c, c)]))
        }
        _ => None,
    }
}

/// Adds what differs only in case, by Unicode's simple folding as Go does.
pub(super) fn fold(set: &mut ClassUnicode) {
    set.try_case_fold_simple().expect("the regex crates are built with their case tables");
}
