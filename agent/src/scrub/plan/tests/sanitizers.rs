//! `redaction` with hashes, `url_sanitizer` and `db_sanitizer`, as a plan runs it.

use super::*;

/// A request of one span with this name.
fn named(name: &str, attributes: &[(&str, Value<'_>)]) -> Bytes {
    let mut out = Vec::new();
    encode::field_with(&mut out, 1, |out| {
        encode::field_with(out, 2, |out| {
            encode::field_with(out, 2, |out| {
                encode::field(out, 1, &[1; 16]);
                encode::field(out, 2, &[2; 8]);
                encode::field(out, 5, name.as_bytes());
                for (key, value) in attributes {
                    encode::key_value(out, 9, key, *value);
                }
            });
        });
    });
    Bytes::from(out)
}

fn redaction(fields: &str) -> Plan {
    plan(&format!("  redaction: {{allow_all_keys: true, {fields}}}\n"), false)
}

/// What becomes of a span.
fn check(plan: &Plan, before: (&str, &[(&str, Value<'_>)]), after: (&str, &[(&str, Value<'_>)])) {
    let out = applied(plan, &named(before.0, before.1));
    assert_eq!(out, named(after.0, after.1), "{}", String::from_utf8_lossy(&out));
}

#[test]
fn statements_are_sanitized_by_their_system() {
    let plan = redaction(
        "db_sanitizer: {sql: {enabled: true, attributes: [q, db.statement]}, redis: {enabled: true, attributes: [q]}, \
         es: {enabled: true, attributes: [q]}}",
    );
    let sql = "SELECT \"a\" FROM t WHERE b = 'x'";
    // The statement may stand before what says its system, and several times.
    for (system, statement, left) in [
        ("postgresql", sql, "SELECT \"a\" FROM t WHERE b = ?"),
        ("MYSQL", sql, "SELECT ? FROM t WHERE b = ?"),
        ("redis", "SET a b", "SET ?"),
        (
            "elasticsearch",
            "{\"query\":{\"match\":{\"name\":\"alice\"}}}",
            "{\"query\":{\"match\":{\"name\":\"?\"}}}",
        ),
        ("elasticsearch", "alice", "?"),
        // Not enabled, and not known.
        ("mongodb", "{\"a\":1}", "{\"a\":1}"),
        ("kafka", sql, sql),
    ] {
        for key in ["db.system", "db.system.name"] {
            check(
                &plan,
                (
                    "n",
                    &[
                        ("q", text(statement)),
                        (key, text(system)),
                        ("q", text(statement)),
                        ("z", text(statement)),
                    ],
                ),
                ("n", &[("q", text(left)), (key, text(system)), ("q", text(left)), ("z", text(statement))]),
            );
        }
    }
    let same = [("q", text(sql)), ("a", text("b"))];
    check(&plan, ("SELECT 'x'", &same), ("SELECT 'x'", &same));
    // Two systems: both.
    check(
        &plan,
        ("n", &[("db.system", text("redis")), ("db.system", text("postgresql")), ("q", text("GET 'x'"))]),
        ("n", &[("db.system", text("redis")), ("db.system", text("postgresql")), ("q", text("GET ?"))]),
    );
    let bytes = [("db.system", text("sqlite")), ("q", Value::Bytes(b"a = '\xff'"))];
    check(&plan, ("n", &bytes), ("n", &[("db.system", text("sqlite")), ("q", Value::Bytes(b"a = ?"))]));
}

#[test]
fn a_name_is_sanitized_where_the_span_says_its_system() {
    let plan = redaction("db_sanitizer: {sql: {enabled: true}}");
    let system = [("db.system", text("mysql"))];
    check(&plan, ("SELECT 'x' FROM t", &system), ("SELECT ? FROM t", &system));
    check(&plan, ("/twirp/*/Update", &system), ("/twirp/*/Update", &system));
    let plan = redaction("db_sanitizer: {sql: {enabled: true}, sanitize_span_name: false}");
    check(&plan, ("SELECT 'x' FROM t", &system), ("SELECT 'x' FROM t", &system));
}

#[test]
fn without_a_system_only_where_it_is_asked_for() {
    let plan = redaction(
        "db_sanitizer: {sql: {enabled: true}, mongo: {enabled: true}, redis: {enabled: true}, allow_fallback_without_system: true}",
    );
    for (statement, left) in [
        ("SELECT 1", "SELECT ?"),
        ("SELECT a FROM b WHERE c = 'x'", "SELECT a FROM b WHERE c = ?"),
        ("{\"a\":1}", "{\"a\":\"?\"}"),
        ("HSET a b c", "HSET ?"),
    ] {
        check(&plan, ("n", &[("db.statement", text(statement))]), ("n", &[("db.statement", text(left))]));
    }
}

#[test]
fn a_system_that_is_deleted_still_says_what_the_statement_is() {
    let plan = plan(
        "  redaction: {allowed_keys: [db.statement], blocked_keys: [db.system], db_sanitizer: {sql: {enabled: true}}}\n",
        false,
    );
    check(
        &plan,
        ("n", &[("db.system", text("mysql")), ("x", text("y")), ("db.statement", text("a = \"b\""))]),
        ("n", &[("db.statement", text("a = ?"))]),
    );
}

#[test]
fn urls_lose_what_tells_of_people() {
    let plan = redaction("url_sanitizer: {enabled: true}");
    check(
        &plan,
        (
            "GET /users/42",
            &[
                ("url.full", text("https://u:p@h/users/42?token=x#top")),
                ("url.query", text("a=b&c")),
                ("url.full", text("https://h/v1/b")),
                ("other", text("https://u:p@h/users/42")),
                ("http.url", Value::Int(7)),
            ],
        ),
        (
            "GET /users/*",
            &[
                ("url.full", text("https://*@h/users/*?token=*#top")),
                ("url.query", text("a=*&c")),
                ("url.full", text("https://h/v1/b")),
                ("other", text("https://u:p@h/users/42")),
                ("http.url", Value::Int(7)),
            ],
        ),
    );
    let plan = redaction(
        "url_sanitizer: {enabled: true, attributes: [u], query: secrets, sanitize_span_name: false}, summary: debug",
    );
    let sent = [("u", text("/a?page=2&sig=x")), ("url.full", text("/a?sig=x"))];
    let mut sent = span_attributes(&applied(&plan, &named("GET /users/42", &sent)));
    sent.sort();
    assert_eq!(
        sent,
        ["redaction.masked.count=\u{1}", "redaction.masked.keys=u", "u=/a?page=2&sig=*", "url.full=/a?sig=x"]
    );
}

#[test]
fn hashes_stand_in() {
    let hash = |function: &str| {
        redaction(&format!(
            "hash_function: {function}, blocked_values: ['al[a-z]+'], blocked_key_patterns: ['^k']"
        ))
    };
    // Of `alice`, as md5sum, sha1sum, sha256sum and openssl say.
    for (function, wanted) in [
        ("md5", "6384e2b2184bcbf58eccf10ca7a6563c"),
        ("sha1", "522b276a356bdf39013dfabea2cd43e141ecc9e8"),
        ("sha256", "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90"),
    ] {
        let part = format!("user {wanted}, and {wanted}.");
        check(
            &hash(function),
            ("n", &[("a", text("user alice, and alice.")), ("k", text("alice")), ("b", text("bob"))]),
            ("n", &[("a", text(&part)), ("k", text(wanted)), ("b", text("bob"))]),
        );
    }
    // A value of several lines is one value, and a number's text is what is hashed.
    let whole = hash("sha256");
    let out = applied(&whole, &named("n", &[("k", text("one\ntwo")), ("k2", Value::Int(7))]));
    let sent = span_attributes(&out);
    assert_eq!(sent[1], "k2=7902699be42c8a8e46fbbb4501726517e86b22c56a189f7625a6da49081b2451");
    assert!(sent[0].len() == 66 && !sent[0].contains('\n'));
}

#[test]
fn a_key_file_gives_hashes_their_epoch() {
    let path = std::env::temp_dir().join(format!("spanwarden-plan-keys-{}", std::process::id()));
    std::fs::write(&path, format!("old: {}\nnew: {}\n", "a".repeat(64), "b".repeat(64))).expect("writable");
    let file = path.display();
    let fields = format!("hash_function: hmac-sha512, hmac_key_file: {file}, blocked_values: [alice]");
    let out = applied(&redaction(&fields), &named("n", &[("a", text("alice"))]));
    let sent = span_attributes(&out);
    assert!(sent[0].starts_with("a=new:") && sent[0].len() == 6 + 128, "{sent:?}");
    std::fs::write(&path, "new: short").expect("writable");
    let error =
        try_plan(&format!("  redaction: {{{fields}, allow_all_keys: true}}\n"), false).expect_err("short");
    assert!(error.contains("line 1: the key has 5 bytes") && error.contains("hmac_key_file"), "{error}");
    std::fs::remove_file(&path).expect("it is there");
}

/// A map as an attribute; a member's value is a text, or with `None` the map that follows.
fn map(members: &[(&str, Option<&str>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, (key, value)) in members.iter().enumerate() {
        if let Some(value) = value {
            encode::key_value(&mut out, 1, key, text(value));
            continue;
        }
        let inner = map(&members[index + 1..]);
        encode::field_with(&mut out, 1, |out| {
            encode::field(out, 1, key.as_bytes());
            encode::field_with(out, 2, |out| encode::field(out, 6, &inner));
        });
        break;
    }
    out
}

/// A request whose span has one attribute, a map.
fn with_map(key: &str, members: &[(&str, Option<&str>)]) -> Bytes {
    let mut span = Vec::new();
    encode::field(&mut span, 1, &[1; 16]);
    encode::field(&mut span, 2, &[2; 8]);
    encode::field(&mut span, 5, b"n");
    encode::field_with(&mut span, 9, |out| {
        encode::field(out, 1, key.as_bytes());
        encode::field_with(out, 2, |out| encode::field(out, 6, &map(members)));
    });
    let mut out = Vec::new();
    encode::field_with(&mut out, 1, |out| encode::field_with(out, 2, |out| encode::field(out, 2, &span)));
    Bytes::from(out)
}

#[test]
fn keys_inside_of_maps_count_by_themselves_and_by_their_path() {
    let deep =
        [("a", Some("x")), ("cookie", Some("y")), ("headers", None), ("auth", Some("z")), ("b", Some("w"))];
    let blocks = redaction("blocked_keys: [cookie, req.headers.auth, auth.no]");
    assert_eq!(
        applied(&blocks, &with_map("req", &deep)),
        with_map("req", &[("a", Some("x")), ("headers", None), ("b", Some("w"))])
    );
    // Elsewhere that path is another one.
    let elsewhere = [("headers", None), ("auth", Some("z"))];
    assert_eq!(applied(&blocks, &with_map("other", &elsewhere)), with_map("other", &elsewhere));
    let masks = redaction("blocked_key_patterns: ['^cookie$', '^req[.].*auth$']");
    assert_eq!(
        applied(&masks, &with_map("req", &deep)),
        with_map(
            "req",
            &[
                ("a", Some("x")),
                ("cookie", Some("[REDACTED]")),
                ("headers", None),
                ("auth", Some("[REDACTED]")),
                ("b", Some("w"))
            ]
        )
    );
    let ignores = redaction("blocked_keys: [cookie], ignored_keys: [req]");
    assert_eq!(applied(&ignores, &with_map("req", &deep)), with_map("req", &deep));
}
