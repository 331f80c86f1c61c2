//! Lines against the published schema, and the schema against the published page. As much of JSON Schema as that
//! schema uses; any other keyword is an error, so that nothing in it goes unchecked.

use super::tests::lines_of_all_kinds;
use serde_json::Value;

const SCHEMA: &str = include_str!("../../../../../deploy/docs/findings.schema.json");
const PAGE: &str = include_str!("../../../../../deploy/docs/findings.md");

/// What is wrong with `value`, at `place`.
fn check(schema: &Value, value: &Value, place: &str, wrong: &mut Vec<String>) {
    for (keyword, argument) in schema.as_object().unwrap() {
        let fine = match keyword.as_str() {
            "$schema" | "title" | "description" => true,
            "type" => types(argument).any(|name| is(name, value)),
            "enum" => argument.as_array().unwrap().contains(value),
            "minimum" => value.as_f64().is_none_or(|number| number >= argument.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|number| number <= argument.as_f64().unwrap()),
            "pattern" => value
                .as_str()
                .is_none_or(|text| regex::Regex::new(argument.as_str().unwrap()).unwrap().is_match(text)),
            "required" => value.as_object().is_none_or(|object| {
                argument.as_array().unwrap().iter().all(|key| object.contains_key(key.as_str().unwrap()))
            }),
            "properties" => {
                for (key, part) in value.as_object().into_iter().flatten() {
                    match argument.get(key) {
                        Some(schema) => check(schema, part, &format!("{place}.{key}"), wrong),
                        None => wrong.push(format!("{place}.{key} is not in the schema")),
                    }
                }
                true
            }
            other => panic!("{place}: the keyword `{other}` is not checked here"),
        };
        if !fine {
            wrong.push(format!("{place}: {value} against {keyword}: {argument}"));
        }
    }
}

fn types(argument: &Value) -> impl Iterator<Item = &str> {
    let one = argument.as_str().into_iter();
    one.chain(argument.as_array().into_iter().flatten().filter_map(Value::as_str))
}

fn is(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "object" => value.is_object(),
        other => panic!("the type `{other}` is not checked here"),
    }
}

#[test]
fn every_line_keeps_to_the_schema() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let mut wrong = Vec::new();
    for line in lines_of_all_kinds() {
        check(&schema, &line, "line", &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // And the check can fail.
    let line = lines_of_all_kinds().remove(0);
    for (key, bad) in
        [("pid", "1".into()), ("where", "moon".into()), ("local", "a:1".into()), ("new", Value::Null)]
    {
        let mut spoiled = line.clone();
        spoiled[key] = bad;
        let mut wrong = Vec::new();
        check(&schema, &spoiled, "line", &mut wrong);
        assert_eq!(wrong.len(), 1, "{key}: {wrong:?}");
    }
    let mut short = line;
    short.as_object_mut().unwrap().remove("time");
    check(&schema, &short, "line", &mut wrong);
    assert_eq!(wrong.len(), 1, "{wrong:?}");
}

/// The page's table has a row for every key, and no others.
#[test]
fn the_page_has_every_key() {
    let schema: Value = serde_json::from_str(SCHEMA).unwrap();
    let mut known: Vec<&str> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
    let table = PAGE.split("## The line").nth(1).unwrap().split("\n## ").next().unwrap();
    let first_cells = table.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let mut told: Vec<&str> =
        first_cells.flat_map(|cell| cell.split(", ")).map(|key| key.trim_matches('`')).collect();
    known.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, known);
}
