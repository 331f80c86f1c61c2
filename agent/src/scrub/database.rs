//! Which of the sanitizers a statement needs, by what `db.system.name` or `db.system` say.

#![forbid(unsafe_code)]

use super::{
    nosql::{
        command::{self, Server},
        json,
    },
    sql::{self, Dialect},
};

/// A way of speaking to a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    /// SQL and what is like it.
    Sql(Dialect),
    /// `redis`
    Redis,
    /// `valkey`
    Valkey,
    /// `memcached`
    Memcached,
    /// `mongodb`
    Mongo,
    /// `opensearch`
    OpenSearch,
    /// `elasticsearch`
    Elasticsearch,
}

/// The sanitizers of the configuration, as bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sanitizers(u8);

impl Sanitizers {
    /// `db_sanitizer.sql`
    pub(super) const SQL: Self = Self(1);
    /// `db_sanitizer.redis`
    pub(super) const REDIS: Self = Self(2);
    /// `db_sanitizer.valkey`
    pub(super) const VALKEY: Self = Self(4);
    /// `db_sanitizer.memcached`
    pub(super) const MEMCACHED: Self = Self(8);
    /// `db_sanitizer.mongo`
    pub(super) const MONGO: Self = Self(16);
    /// `db_sanitizer.opensearch`
    pub(super) const OPENSEARCH: Self = Self(32);
    /// `db_sanitizer.es`
    pub(super) const ES: Self = Self(64);
    /// Those that look for commands.
    const COMMANDS: Self = Self(2 | 4 | 8);
    /// Those that look for JSON.
    const JSON: Self = Self(16 | 32 | 64);

    /// Whether there is none.
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether one of `other` is among them.
    pub(super) fn meet(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Adds others.
    pub(super) fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// The language of a statement whose system nobody tells: by its first characters, among those that are enabled.
    pub(super) fn guess(self, statement: &[u8]) -> Option<Language> {
        let first = statement.trim_ascii_start().first();
        if self.meet(Self::JSON) && matches!(first, Some(b'{' | b'[')) {
            return Some(Language::Mongo);
        }
        let server = |sanitizer, server, language| {
            (self.meet(sanitizer) && command::is_command(statement, server) && !is_sql(statement))
                .then_some(language)
        };
        // `SELECT`, `EXPLAIN` and the like are SQL before they are anything else.
        server(Self::REDIS, Server::Redis, Language::Redis)
            .or_else(|| server(Self::VALKEY, Server::Redis, Language::Valkey))
            .or_else(|| server(Self::MEMCACHED, Server::Memcached, Language::Memcached))
            .or_else(|| self.meet(Self::SQL).then_some(Language::Sql(Dialect::Other)))
            // Nothing enabled fits: what is enabled then masks all of it.
            .or_else(|| self.meet(Self::COMMANDS).then_some(Language::Redis))
            .or_else(|| self.meet(Self::JSON).then_some(Language::Mongo))
    }
}

/// Words that begin statements of SQL and commands of Redis alike.
fn is_sql(statement: &[u8]) -> bool {
    let statement = statement.trim_ascii();
    let word = statement.split(u8::is_ascii_whitespace).next().unwrap_or_default();
    // `SELECT 0` is Redis; `SELECT a FROM b` is not.
    word.eq_ignore_ascii_case(b"select")
        && statement[word.len()..].iter().any(|byte| !byte.is_ascii_digit() && *byte != b' ')
        || word.eq_ignore_ascii_case(b"set") && statement.contains(&b'=')
}

impl Language {
    /// The language of a system: names of the semantic conventions, new and old, in any case.
    pub(super) fn of(system: &[u8]) -> Option<Self> {
        let mut lower = [0; 32];
        let lower = lower.get_mut(..system.len())?;
        lower.copy_from_slice(system);
        lower.make_ascii_lowercase();
        Some(match std::str::from_utf8(lower).ok()? {
            "postgresql" | "postgres" | "cockroachdb" | "redshift" | "aws.redshift" | "greenplum" | "edb"
            | "yugabytedb" | "timescaledb" | "netezza" | "vertica" => Self::Sql(Dialect::Postgres),
            "mysql" | "mariadb" | "tidb" | "singlestore" => Self::Sql(Dialect::MySql),
            "mssql" | "microsoft.sql_server" | "mssqlcompact" | "sybase" => Self::Sql(Dialect::MsSql),
            "oracle" | "oracle.db" => Self::Sql(Dialect::Oracle),
            "sqlite" => Self::Sql(Dialect::Sqlite),
            "clickhouse" => Self::Sql(Dialect::ClickHouse),
            "other_sql" | "db2" | "ibm.db2" | "hsqldb" | "h2" | "h2database" | "derby" | "firebird"
            | "firebirdsql" | "hive" | "presto" | "trino" | "spark" | "snowflake" | "spanner"
            | "gcp.spanner" | "bigquery" | "gcp.bigquery" | "teradata" | "hanadb" | "sap.hana" | "maxdb"
            | "sap.maxdb" | "informix" | "ibm.informix" | "ingres" | "actian.ingres" | "interbase"
            | "pervasive" | "progress" | "cache" | "intersystems_cache" | "adabas" | "softwareag.adabas"
            | "cloudscape" | "coldfusion" | "filemaker" | "firstsql" | "instantdb" | "pointbase"
            | "duckdb" | "cassandra" | "scylladb" | "couchbase" | "neo4j" | "cosmosdb" | "azure.cosmosdb"
            | "databricks" | "athena" | "aws.athena" => Self::Sql(Dialect::Other),
            "redis" => Self::Redis,
            "valkey" => Self::Valkey,
            "memcached" => Self::Memcached,
            "mongodb" | "mongo" | "documentdb" | "aws.documentdb" => Self::Mongo,
            "opensearch" => Self::OpenSearch,
            "elasticsearch" => Self::Elasticsearch,
            _ => return None,
        })
    }

    /// The sanitizer that is meant for it.
    pub(super) fn sanitizer(self) -> Sanitizers {
        match self {
            Self::Sql(_) => Sanitizers::SQL,
            Self::Redis => Sanitizers::REDIS,
            Self::Valkey => Sanitizers::VALKEY,
            Self::Memcached => Sanitizers::MEMCACHED,
            Self::Mongo => Sanitizers::MONGO,
            Self::OpenSearch => Sanitizers::OPENSEARCH,
            Self::Elasticsearch => Sanitizers::ES,
        }
    }

    /// Writes the statement without its values. `false` where nothing changes.
    pub(super) fn sanitize(self, statement: &[u8], out: &mut Vec<u8>) -> bool {
        match self {
            Self::Sql(dialect) => sql::sanitize(statement, dialect, out),
            Self::Redis | Self::Valkey => command::sanitize(statement, Server::Redis, out),
            Self::Memcached => command::sanitize(statement, Server::Memcached, out),
            Self::Mongo | Self::OpenSearch | Self::Elasticsearch => json::sanitize(statement, out),
        }
    }

    /// The same for a span's name, which is a statement or a word that somebody chose: what is not a statement stays.
    pub(super) fn sanitize_name(self, name: &[u8], out: &mut Vec<u8>) -> bool {
        let statement = match self {
            // A path is none, though it may hold `/*/`.
            Self::Sql(_) => {
                !matches!(name.trim_ascii_start(), [b'/', rest @ ..] if rest.first() != Some(&b'*'))
            }
            Self::Redis | Self::Valkey => command::is_command(name, Server::Redis),
            Self::Memcached => command::is_command(name, Server::Memcached),
            Self::Mongo | Self::OpenSearch | Self::Elasticsearch => {
                matches!(name.trim_ascii_start().first(), Some(b'{' | b'['))
            }
        };
        statement && self.sanitize(name, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systems_have_their_languages() {
        for (system, language) in [
            ("postgresql", Some(Language::Sql(Dialect::Postgres))),
            ("MySQL", Some(Language::Sql(Dialect::MySql))),
            ("microsoft.sql_server", Some(Language::Sql(Dialect::MsSql))),
            ("other_sql", Some(Language::Sql(Dialect::Other))),
            ("Redis", Some(Language::Redis)),
            ("kafka", None),
            ("", None),
            ("a name that is longer than any that we know", None),
        ] {
            assert_eq!(Language::of(system.as_bytes()), language, "{system}");
        }
    }

    #[test]
    fn without_a_system_the_statement_tells() {
        let mut all = Sanitizers::default();
        for one in [Sanitizers::SQL, Sanitizers::REDIS, Sanitizers::MEMCACHED, Sanitizers::MONGO] {
            all.add(one);
        }
        let other = Some(Language::Sql(Dialect::Other));
        for (statement, language) in [
            ("SELECT a FROM b", other),
            ("SELECT 0", Some(Language::Redis)),
            ("SET a 1", Some(Language::Redis)),
            ("SET a = 1", other),
            (" {\"find\":\"a\"}", Some(Language::Mongo)),
            ("get a", Some(Language::Redis)),
            ("gats 1 a", Some(Language::Memcached)),
            ("something", other),
        ] {
            assert_eq!(all.guess(statement.as_bytes()), language, "{statement}");
        }
        assert_eq!(Sanitizers::REDIS.guess(b"something"), Some(Language::Redis));
        assert_eq!(Sanitizers::ES.guess(b"something"), Some(Language::Mongo));
        assert_eq!(Sanitizers::default().guess(b"something"), None);
    }

    #[test]
    fn names_change_where_they_are_statements() {
        let name = |language: Language, name: &str| {
            let mut out = Vec::new();
            language.sanitize_name(name.as_bytes(), &mut out).then(|| String::from_utf8(out).expect("text"))
        };
        let postgres = Language::Sql(Dialect::Postgres);
        assert_eq!(name(postgres, "SELECT 'x'").as_deref(), Some("SELECT ?"));
        assert_eq!(name(postgres, "/twirp/*/Update"), None);
        assert_eq!(name(Language::Redis, "SET a b").as_deref(), Some("SET ?"));
        assert_eq!(name(Language::Redis, "cache lookup"), None);
        assert_eq!(name(Language::Mongo, "orders.find"), None);
        assert_eq!(name(Language::Mongo, "{\"a\":1}").as_deref(), Some("{\"a\":\"?\"}"));
    }
}
