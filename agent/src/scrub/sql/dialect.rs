//! What the SQL of one database system counts as a literal, a comment or a name.

#![forbid(unsafe_code)]

/// A dialect, by what it makes of quotes, backslashes and comments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `PostgreSQL` and what speaks like it: `CockroachDB`, Redshift, Greenplum.
    Postgres,
    /// `MySQL`, `MariaDB`, `TiDB`.
    MySql,
    /// Microsoft SQL Server.
    MsSql,
    /// Oracle.
    Oracle,
    /// `SQLite`.
    Sqlite,
    /// `ClickHouse`.
    ClickHouse,
    /// Anything else, `other_sql` too: where dialects disagree about what follows, the rest of the text is masked.
    Other,
}

impl Dialect {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Postgres, Self::MySql, Self::MsSql, Self::Oracle, Self::Sqlite, Self::ClickHouse, Self::Other];

    /// `"…"` is text, not a name.
    pub(super) fn double_quoted_text(self) -> bool {
        matches!(self, Self::MySql | Self::Other)
    }

    /// `"…"` is a name where there is such a name and text otherwise, or as a session setting says.
    pub(super) fn double_quotes_unsure(self) -> bool {
        matches!(self, Self::Sqlite | Self::MsSql)
    }

    /// A backslash escapes inside every quoted text.
    pub(super) fn backslash(self) -> bool {
        matches!(self, Self::MySql | Self::ClickHouse)
    }

    /// `$tag$…$tag$` is text.
    pub(super) fn dollar_quotes(self) -> bool {
        matches!(self, Self::Postgres | Self::ClickHouse | Self::Other)
    }

    /// `$1` is a parameter.
    pub(super) fn dollar_parameters(self) -> bool {
        matches!(self, Self::Postgres | Self::Sqlite | Self::Other)
    }

    /// Comments stand in each other.
    pub(super) fn nested_comments(self) -> bool {
        matches!(self, Self::Postgres | Self::MsSql | Self::ClickHouse)
    }

    /// `#` begins a comment.
    pub(super) fn hash_comments(self) -> bool {
        matches!(self, Self::MySql | Self::ClickHouse)
    }

    /// `q'[…]'` is text.
    pub(super) fn alternative_quotes(self) -> bool {
        matches!(self, Self::Oracle | Self::Other)
    }

    /// What each byte may be.
    pub(super) fn bytes(self) -> &'static [Byte; 256] {
        static TABLES: [[Byte; 256]; 7] = [
            table(Dialect::Postgres),
            table(Dialect::MySql),
            table(Dialect::MsSql),
            table(Dialect::Oracle),
            table(Dialect::Sqlite),
            table(Dialect::ClickHouse),
            table(Dialect::Other),
        ];
        &TABLES[self as usize]
    }
}

/// What a byte may begin, and whether it is part of a name: a [`Class`] in the lower half, flags above.
#[derive(Clone, Copy, Debug)]
pub(super) struct Byte(u8);

impl Byte {
    const WORD: u8 = 1 << 6;
    const WITHIN: u8 = 1 << 7;

    /// What it may begin.
    pub(super) fn class(self) -> Class {
        Class::ALL[usize::from(self.0 & 0x0f)]
    }

    /// Whether it, or one of the others, begins something.
    pub(super) fn any(bytes: [Self; 8]) -> bool {
        bytes.iter().fold(0, |all, byte| all | byte.0) & 0x0f != 0
    }

    /// Whether it begins something.
    pub(super) fn begins(self) -> bool {
        self.0 & 0x0f != 0
    }

    /// Part of a name where it stands alone: a letter, `_`, a byte beyond ASCII.
    pub(super) fn word(self) -> bool {
        self.0 & Self::WORD != 0
    }

    /// Part of a name that has begun: a digit, `$`, and in some dialects `#` and `@`.
    pub(super) fn within(self) -> bool {
        self.0 & (Self::WORD | Self::WITHIN) != 0
    }
}

/// What a byte may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Class {
    /// Nothing: letters, space, operators, parentheses.
    Plain,
    /// `0` to `9`
    Digit,
    /// `$`
    Dollar,
    /// `'`
    Single,
    /// `"`
    Double,
    /// A backtick
    Backtick,
    /// `[` where it begins a name
    Bracket,
    /// `-`
    Dash,
    /// `/`
    Slash,
    /// `#` where it is or may be a comment
    Hash,
    /// `:` or `?`, where a number after it is a parameter's
    Parameter,
}

impl Class {
    const ALL: [Self; 16] = [
        Self::Plain,
        Self::Digit,
        Self::Dollar,
        Self::Single,
        Self::Double,
        Self::Backtick,
        Self::Bracket,
        Self::Dash,
        Self::Slash,
        Self::Hash,
        Self::Parameter,
        Self::Plain,
        Self::Plain,
        Self::Plain,
        Self::Plain,
        Self::Plain,
    ];
}

const fn table(dialect: Dialect) -> [Byte; 256] {
    let mut table = [Byte(0); 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = Byte(class(dialect, byte as u8) as u8 | flags(dialect, byte as u8));
        byte += 1;
    }
    table
}

const fn flags(dialect: Dialect, byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => Byte::WORD,
        b'0'..=b'9' | b'$' => Byte::WITHIN,
        b'#' if matches!(dialect, Dialect::MsSql | Dialect::Oracle) => Byte::WITHIN,
        b'@' if matches!(dialect, Dialect::MsSql) => Byte::WITHIN,
        _ => 0,
    }
}

const fn class(dialect: Dialect, byte: u8) -> Class {
    match byte {
        b'0'..=b'9' => Class::Digit,
        b'$' => Class::Dollar,
        b'\'' => Class::Single,
        b'"' => Class::Double,
        b'-' => Class::Dash,
        b'/' => Class::Slash,
        b'`' if !matches!(dialect, Dialect::Postgres | Dialect::MsSql | Dialect::Oracle) => Class::Backtick,
        b'[' if matches!(dialect, Dialect::MsSql | Dialect::Sqlite) => Class::Bracket,
        b'#' if matches!(dialect, Dialect::MySql | Dialect::ClickHouse | Dialect::Other) => Class::Hash,
        b':' if matches!(dialect, Dialect::Oracle | Dialect::Sqlite) => Class::Parameter,
        b'?' if matches!(dialect, Dialect::Sqlite) => Class::Parameter,
        _ => Class::Plain,
    }
}
