//! What statements are taken, and what the others are told.

use super::{
    grammar,
    resolve::{Context, Resolver},
};
use crate::{
    config::{Location, processors::ErrorMode},
    scrub::{builder::Builder, rule::RuleId},
};

fn resolve(context: Option<&str>, statement: &str) -> Result<String, String> {
    let mut builder = Builder::default();
    let at = Location { file: "test".into(), line: 1, column: 1, path: "statements[0]".into() };
    let context = context.map(|name| Context::named(name).expect("a context"));
    Resolver::new(&mut builder, context, &at)
        .statement(statement, &[], ErrorMode::DropValue, RuleId::at(0))
        .map(|(kind, _)| format!("{kind:?}"))
        .map_err(|error| error.to_string())
}

#[test]
fn statements_work_on_what_their_paths_name() {
    for (context, statement, kind) in [
        (Some("span"), r#"replace_pattern(attributes["a"], "x\\d", "$1")"#, "Span"),
        (None, r#"replace_pattern(span.name, "x", "y")"#, "Span"),
        (Some("span"), r#"replace_pattern(status.message, "x", "y", SHA256, "<%s>")"#, "Status"),
        (None, r#"set(resource.attributes["a"], 1) where resource.attributes["b"] == nil"#, "Resource"),
        (Some("scope"), r#"set(instrumentation_scope.version, "v")"#, "Scope"),
        (Some("spanevent"), r#"delete_matching_keys(attributes, "^x")"#, "Event"),
        (Some("spanlink"), r#"replace_pattern(trace_state, "a", "b")"#, "Link"),
        (
            None,
            r#"keep_keys(span.attributes, ["a", "b"]) where not (span.name == "x" or true) and false"#,
            "Span",
        ),
        (None, r#"set(span.attributes["a"], Concat([resource.attributes["b"], "c"], "-"))"#, "Span"),
        (Some("span"), r#"set(attributes["a"], "b") where resource.attributes["team"] != "x""#, "Span"),
        (Some("resource"), "truncate_all(target = attributes, limit = 64)", "Resource"),
        (
            Some("span"),
            "set(attributes[\"a\"],\n  SHA256(attributes[\"a\"]))\n  where attributes[\"a\"] != nil",
            "Span",
        ),
        (Some("span"), r#"replace_all_patterns(attributes, "key", "a\"\\.", "\u00e9")"#, "Span"),
    ] {
        assert_eq!(resolve(context, statement).as_deref(), Ok(kind), "{statement}");
    }
}

#[test]
fn errors_say_where_and_what_there_is() {
    for (statement, place, says) in [
        (r#"set(attributes["a"], 1)"#, "column 5", "`span.attributes`"),
        (r#"sett(span.name, "x")"#, "column 1", "replace_pattern"),
        (r"set(span.name)", "column 1", "`value` is missing"),
        (r#"set(span.name, "x", 1)"#, "column 21", "one too many"),
        (r#"set(span.name, "x") where span.kind == 1"#, "column 27", "not built yet"),
        (r#"set(span.name, "x") where 1 < 2"#, "column 29", "not built yet"),
        (r#"set(span.name, "x") wher true"#, "column 21", "`where`"),
        (r#"replace_pattern(span.name, "\d", "x")"#, "column 29", r"write `\\d`"),
        (r#"replace_pattern(span.name, "a(?!b)", "x")"#, "column 28", "look-around"),
        (r#"set(span.attributes["a"]["b"], 1)"#, "column 5", "not built yet"),
        ("set(span.nam, 1)", "column 5", "no path `nam`"),
        (r#"set(span.attributes["a"], scope.name)"#, "column 27", "not built yet"),
        (r#"set(span.status.message, "x")"#, "column 1", "replace_pattern on it"),
        (r#"set(span.attributes["a"], MD5("x"))"#, "column 27", "SHA256"),
        (r#"set(span.attributes["a"], 1 + 1)"#, "column 29", "arithmetic"),
        (r#"set(span.name, "x"#, "column 16", "not closed"),
        (r"set(span.name, 'x')", "column 16", "double quotes"),
        ("set(span.name,\n  ])", "line 2, column 3", "expected a value"),
        (r"", "column 1", "editor"),
    ] {
        let error = resolve(None, statement).expect_err(statement);
        assert!(error.contains(place) && error.contains(says), "{statement}: {error}");
    }
}

#[test]
fn depth_is_bounded() {
    let deep = format!("set(span.name, \"x\") where {}true{}", "(".repeat(1000), ")".repeat(1000));
    assert!(resolve(None, &deep).expect_err("too deep").contains("deep"));
    let not = format!("{}true", "not ".repeat(1000));
    assert!(grammar::condition(&not).is_err());
}
