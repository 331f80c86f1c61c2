//! The matrix: what each kernel can, and what its verifier had to do.

use std::fmt::Write as _;

use serde_json::Value;

use super::suites::{CAPABILITIES, ShownBy};

/// Everything that one kernel has answered.
pub(super) struct Row {
    /// `uname -r`, or what was asked for when it did not get that far.
    pub(super) kernel: String,
    /// Answers of `kernel-guest`.
    pub(super) answers: Vec<Value>,
    /// Why it did not get to its end.
    pub(super) error: Option<String>,
    /// From the start to the end.
    pub(super) seconds: f64,
}

/// Whether a kernel has a capability.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Shown; with how many tests.
    Yes(usize),
    /// Shown by so many tests; so many others need something that this kernel lacks.
    Partly(usize, usize),
    /// So many of so many tests have not passed, or nothing showed it.
    No(usize, usize),
    /// What shows it needs something that this kernel lacks.
    Lacking,
    /// Nothing that could show it was asked for.
    NotRun,
    /// Just so.
    Fact(bool),
}

impl Row {
    fn tests(&self, suite: &str, part: &str) -> Vec<&Value> {
        let of = |answer: &&Value| {
            answer["suite"] == suite && answer["test"].as_str().is_some_and(|name| name.contains(part))
        };
        self.answers.iter().filter(of).collect()
    }

    fn programs(&self) -> Vec<&Value> {
        self.answers.iter().filter(|answer| answer["program"].is_string()).collect()
    }

    fn verdict(&self, shown_by: &ShownBy) -> Verdict {
        match shown_by {
            ShownBy::Load => all(&self.programs(), |program| program["loaded"] == true),
            ShownBy::Attach => all(&self.programs(), |program| program["attached"] == true),
            ShownBy::Fact(name) => {
                let facts = self.answers.iter().find_map(|answer| answer.get("facts"));
                facts.map_or(Verdict::NotRun, |facts| Verdict::Fact(facts[*name] == true))
            }
            ShownBy::Tests(suite, part) => {
                let tests = self.tests(suite, part);
                let possible: Vec<&Value> =
                    tests.iter().copied().filter(|test| test["outcome"] != "unsupported").collect();
                if possible.is_empty() && !tests.is_empty() {
                    return Verdict::Lacking;
                }
                match all(&possible, |test| test["outcome"] == "ok") {
                    Verdict::Yes(shown) if shown < tests.len() => Verdict::Partly(shown, tests.len() - shown),
                    verdict => verdict,
                }
            }
            ShownBy::Measured(prefix) => self.measured(prefix),
        }
    }

    /// Lines `measured: PREFIX, family: …` of the test of all paths, which passes only as a whole.
    fn measured(&self, prefix: &str) -> Verdict {
        let paths = self.tests("attribution", "paths::ten_thousand");
        let Some(test) = paths.first() else { return Verdict::NotRun };
        let lines = test["measured"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let passed = lines.filter(|line| line.split([',', ':']).next() == Some(prefix)).count();
        match passed {
            // IPv4 and IPv6.
            2.. => Verdict::Yes(passed),
            _ => Verdict::No(2 - passed, 2),
        }
    }

    /// What is wrong, each with as much as is known.
    pub(super) fn failures(&self) -> Vec<String> {
        let mut failures: Vec<String> =
            self.error.iter().map(|error| format!("{}: {error}", self.kernel)).collect();
        for answer in &self.answers {
            let said = |key: &str| answer[key].as_str().unwrap_or_default();
            if answer["program"].is_string() && answer["attached"] != true {
                failures.push(format!("{}: program {}: {}", self.kernel, said("program"), said("error")));
            } else if answer["suite"].is_string() && !matches!(said("outcome"), "ok" | "unsupported") {
                let (suite, test, outcome) = (said("suite"), said("test"), said("outcome"));
                failures.push(format!("{}: {suite}: {test}: {outcome}", self.kernel));
            } else if answer["error"].is_string() {
                failures.push(format!("{}: {}{}", self.kernel, said("module"), said("error")));
            }
        }
        failures
    }
}

fn all(of: &[&Value], good: impl Fn(&Value) -> bool) -> Verdict {
    let bad = of.iter().filter(|answer| !good(answer)).count();
    match (of.len(), bad) {
        (0, _) => Verdict::NotRun,
        (count, 0) => Verdict::Yes(count),
        (count, bad) => Verdict::No(bad, count),
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Yes(_) | Self::Fact(true) => f.write_str("yes"),
            Self::Partly(shown, lacking) => {
                write!(f, "{shown} of {}: the kernel lacks the rest", shown + lacking)
            }
            Self::No(bad, count) => write!(f, "**NO** ({bad} of {count})"),
            Self::Lacking => f.write_str("kernel lacks it"),
            Self::NotRun => f.write_str("not run"),
            Self::Fact(false) => f.write_str("no"),
        }
    }
}

/// The tables in Markdown.
pub(super) fn markdown(rows: &[Row]) -> String {
    let mut text = String::new();
    line(&mut text, "capability", rows.iter().map(|row| row.kernel.clone()));
    line(&mut text, "---", rows.iter().map(|_| "---".to_owned()));
    for capability in &CAPABILITIES {
        let cells = rows.iter().map(|row| row.verdict(&capability.shown_by).to_string());
        line(&mut text, capability.title, cells);
    }
    line(
        &mut text,
        "tests passed",
        rows.iter().map(|row| {
            let tests = row.tests_run();
            format!("{} of {}", tests.iter().filter(|test| test["outcome"] == "ok").count(), tests.len())
        }),
    );
    line(&mut text, "time", rows.iter().map(|row| format!("{:.0} s", row.seconds)));
    let _ = writeln!(text, "\nInstructions that the verifier went through, and the time it took:\n");
    line(&mut text, "program", rows.iter().map(|row| row.kernel.clone()));
    line(&mut text, "---", rows.iter().map(|_| "---:".to_owned()));
    for name in names(rows) {
        line(&mut text, &format!("`{name}`"), rows.iter().map(|row| row.verifier(&name)));
    }
    text
}

fn line(text: &mut String, first: &str, cells: impl Iterator<Item = String>) {
    let _ = writeln!(text, "| {first} | {} |", cells.collect::<Vec<_>>().join(" | "));
}

/// The programs of all rows; a kernel that did not get so far has none.
fn names(rows: &[Row]) -> Vec<String> {
    let mut names: Vec<String> = rows
        .iter()
        .flat_map(Row::programs)
        .filter_map(|program| program["program"].as_str())
        .map(str::to_owned)
        .collect();
    names.sort();
    names.dedup();
    names
}

impl Row {
    fn tests_run(&self) -> Vec<&Value> {
        self.tests_of_all().into_iter().filter(|test| test["outcome"] != "unsupported").collect()
    }

    fn tests_of_all(&self) -> Vec<&Value> {
        self.answers.iter().filter(|answer| answer["suite"].is_string()).collect()
    }

    fn verifier(&self, name: &str) -> String {
        let program = self.answers.iter().find(|answer| answer["program"] == name);
        let verifier = program.map(|program| &program["verifier"]);
        match verifier.and_then(|v| Some((v["instructions"].as_u64()?, v["verification_us"].as_u64()?))) {
            Some((instructions, us)) => format!("{instructions} ({:.1} ms)", us as f64 / 1000.0),
            None => "–".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(answers: Value) -> Row {
        let Value::Array(answers) = answers else { panic!("a list") };
        Row { kernel: "5.10".to_owned(), answers, error: None, seconds: 1.0 }
    }

    #[test]
    fn nothing_counts_as_shown_that_was_not_seen() {
        let nothing = row(json!([]));
        for capability in &CAPABILITIES {
            assert_eq!(nothing.verdict(&capability.shown_by), Verdict::NotRun, "{}", capability.title);
        }
        let one = row(json!([
            { "suite": "attribution", "test": "attribution::findings::a", "outcome": "ok" },
            { "suite": "attribution", "test": "attribution::findings::b", "outcome": "timeout" },
            { "suite": "attribution", "test": "attribution::paths::ten_thousand", "outcome": "failed",
              "measured": ["DNAT and masquerade, IPv4: 9", "veth, IPv4: 9", "veth, IPv6: 9"] },
            { "program": "a", "loaded": true, "attached": false, "error": "EPERM" },
        ]));
        assert_eq!(one.verdict(&ShownBy::Tests("attribution", "findings::")), Verdict::No(1, 2));
        assert_eq!(one.verdict(&ShownBy::Measured("veth")), Verdict::Yes(2));
        assert_eq!(one.verdict(&ShownBy::Measured("DNAT")), Verdict::No(2, 2));
        assert_eq!(one.verdict(&ShownBy::Load), Verdict::Yes(1));
        assert_eq!(one.verdict(&ShownBy::Attach), Verdict::No(1, 1));
        assert_eq!(one.failures().len(), 3, "{:?}", one.failures());
    }

    #[test]
    fn what_the_kernel_lacks_is_no_failure() {
        let test = json!([{ "suite": "attribution", "test": "agent::x", "outcome": "unsupported" }]);
        let lacking = row(test);
        assert_eq!(lacking.verdict(&ShownBy::Tests("attribution", "agent::")), Verdict::Lacking);
        assert!(lacking.failures().is_empty());
        let partly = row(json!([
            { "suite": "sending", "test": "ways::a", "outcome": "ok" },
            { "suite": "sending", "test": "ways::b", "outcome": "unsupported" },
        ]));
        assert_eq!(partly.verdict(&ShownBy::Tests("sending", "")), Verdict::Partly(1, 1));
    }
}
