use std::path::Path;

use super::{expand::Environment, *};

fn variable(name: &str) -> Option<String> {
    let value = match name {
        "NUMBER" => "4317",
        "TEXT" => "a $$ b ${NUMBER}",
        "LIST" => "[1, two]",
        "EMPTY" => "",
        "STAGE" => "NUM",
        "COLON" => "secret: #1",
        _ => return None,
    };
    Some(value.to_owned())
}

fn file(path: &Path) -> Result<String, String> {
    match path.to_str() {
        Some("part.yaml") => Ok("inner:\n  port: ${NUMBER}\n".to_owned()),
        Some("token") => Ok("t0ken\n".to_owned()),
        Some("loop.yaml") => Ok("again: ${file:loop.yaml}\n".to_owned()),
        _ => Err("no such file".to_owned()),
    }
}

fn read(text: &str) -> Result<Node, Vec<ConfigError>> {
    let env = Environment { variable: &variable, file: &file };
    parse(text, &"test.yaml".into(), &env)
}

fn at<'a>(node: &'a Node, key: &str) -> &'a Node {
    let Value::Map(entries) = &node.value else { panic!("no mapping: {node:?}") };
    &entries.iter().find(|(name, _)| name.name == key).unwrap_or_else(|| panic!("no {key}")).1
}

/// The only error of a text.
fn error(text: &str) -> String {
    let errors = read(text).expect_err(text);
    assert_eq!(errors.len(), 1, "{errors:?}");
    errors[0].to_string()
}

#[test]
fn places_and_paths() {
    let root = read("a:\n  b/c:\n    - x\n    - [1, \"z\"]\n").unwrap();
    let list = at(at(&root, "a"), "b/c");
    let Value::Seq(items) = &list.value else { panic!() };
    assert_eq!(items[0].at.to_string(), "test.yaml:3:7: a::b/c[0]");
    let Value::Seq(inner) = &items[1].value else { panic!() };
    assert_eq!(inner[1].at.to_string(), "test.yaml:4:11: a::b/c[1][1]");
    let Value::Scalar(z) = &inner[1].value else { panic!() };
    assert!(!z.plain);
}

#[test]
fn scalars_keep_their_text() {
    for (yaml, text) in [
        (r#""\\b\\d{3}-\\d{2}""#, Some(r"\b\d{3}-\d{2}")),
        (r"'it''s'", Some("it's")),
        (r#"f(a["b"], "x{2,}\\.")"#, Some(r#"f(a["b"], "x{2,}\\.")"#)),
        ("a\n   b", Some("a b")),
        ("|\n  a\n  b", Some("a\nb\n")),
        (">-\n  a\n  b", Some("a b")),
        ("0123", Some("0123")),
        ("!!str null", Some("null")),
        ("~", None),
        ("", None),
        ("''", Some("")),
    ] {
        let root = read(&format!("k: {yaml}\n")).unwrap();
        assert_eq!(at(&root, "k").text(), text, "{yaml}");
    }
}

#[test]
fn references() {
    for (yaml, text) in [
        ("${env:NUMBER}", Some("4317")),
        ("${NUMBER}", Some("4317")),
        ("\"${NUMBER}\"", Some("4317")),
        ("host:${env:NUMBER}/x", Some("host:4317/x")),
        ("${env:NOPE:-x y}", Some("x y")),
        ("${NOPE:-}", None),
        ("${EMPTY:-default}", None),
        ("${env:${STAGE}BER}", Some("4317")),
        ("${env:TEXT}", Some("a $$ b ${NUMBER}")),
        ("<${env:TEXT}>", Some("<a $$ b ${NUMBER}>")),
        ("${env:COLON}", Some("secret: #1")),
        ("${file:token}", Some("t0ken")),
        ("Bearer ${file:token}", Some("Bearer t0ken")),
        ("$$", Some("$")),
        ("$${NUMBER}", Some("${NUMBER}")),
        ("$$1", Some("$1")),
        ("$$$${NUMBER}", Some("$${NUMBER}")),
        ("foo$", Some("foo$")),
        ("'[^$]'", Some("[^$]")),
        ("$1x", Some("$1x")),
        ("$NAME", Some("$NAME")),
        ("'^a{2}$|${'", Some("^a{2}$|${")),
    ] {
        let root = read(&format!("k: {yaml}\n")).unwrap_or_else(|errors| panic!("{yaml}: {errors:?}"));
        assert_eq!(at(&root, "k").text(), text, "{yaml}");
    }
}

#[test]
fn references_that_hold_structure() {
    let root = read("a: ${env:LIST}\nb: ${file:part.yaml}\n").unwrap();
    let Value::Seq(items) = &at(&root, "a").value else { panic!() };
    assert_eq!(items[1].at.to_string(), "test.yaml:1:4: a[1]");
    assert_eq!(at(&root, "a").text(), Some("[1, two]"));
    let port = at(at(at(&root, "b"), "inner"), "port");
    assert_eq!((port.at.to_string().as_str(), port.text()), ("part.yaml:2:9: b::inner::port", Some("4317")));
}

#[test]
fn bad_references() {
    for (yaml, part) in [
        ("${env:NOPE}", "`NOPE` is not set"),
        ("${1}", "write `$${1}`"),
        ("x${env:a-b}", "names no variable"),
        ("${file:nope}", "no such file"),
        ("${http://x}", "not built yet"),
        ("${file:loop.yaml}", "files within files"),
    ] {
        let message = error(&format!("k: {yaml}\n"));
        assert!(message.contains(part), "{yaml}: {message}");
    }
    assert_eq!(read("a: ${X1}\nb: ${X2}\n").unwrap_err().len(), 2);
}

#[test]
fn aliases_and_merges() {
    let root = read("a: &a {x: 1, y: [2]}\nb: *a\nc: {<<: *a, x: 3}\nd: {<<: [{z: 9}, *a]}\n").unwrap();
    assert_eq!(at(at(&root, "b"), "x").text(), Some("1"));
    assert_eq!(at(at(&root, "c"), "x").text(), Some("3"));
    assert_eq!(at(&root, "c").at.path.as_ref(), "c");
    assert!(matches!(at(at(&root, "c"), "y").value, Value::Seq(_)));
    assert_eq!((at(at(&root, "d"), "z").text(), at(at(&root, "d"), "x").text()), (Some("9"), Some("1")));
}

#[test]
fn refuses_what_is_not_one_sound_document() {
    for (yaml, part) in [
        ("a: 1\na: 2\n", "test.yaml:2:1: not valid YAML: `a` is here twice in one mapping (first in line 1)"),
        ("a: 1\n---\nb: 2\n", "a second document"),
        ("a: [1\n", "test.yaml:"),
        ("a: *nope\n", "test.yaml:1:4"),
        ("a: &x [*x]\n", "alias"),
        ("? [a]\n: 1\n", "a key must be"),
        ("a: !!binary aGk=\n", "`!!binary` is not supported"),
        ("a: !custom 1\n", "not supported"),
        ("<<: 5\n", "merges mappings only"),
    ] {
        let message = error(yaml);
        assert!(message.contains(part), "{yaml}: {message}");
    }
    let deep = format!("{}1{}", "[".repeat(60), "]".repeat(60));
    assert!(error(&deep).contains("nested deeper"));
    assert!(error(&"x".repeat(MAX_BYTES + 1)).contains("bytes"));
}

#[test]
fn alias_bombs_are_bounded() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..9 {
        let uses = vec![format!("*a{}", level - 1); 10].join(", ");
        let line = format!("a{level}: &a{level} [{uses}]\n");
        bomb.push_str(&line);
    }
    assert!(error(&bomb).contains("values"));
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 19), vec!["*a"; 200].join(", "));
    assert!(error(&long).contains("values"));
    let include = format!("k: [{}]", vec!["'${NUMBER}'"; 1000].join(", "));
    assert!(read(&include).is_ok());
}
