//! Which rules an operator sees, and from what number they count.

use super::*;
use crate::config::Location;

fn rule(processor: &str, name: &str, content: &str) -> Rule {
    let at = Location { file: "test.yaml".into(), line: 1, column: 1, path: "".into() };
    Rule {
        processor: processor.into(),
        name: name.into(),
        at,
        content: content.into(),
        complains: false,
        owner: 0,
    }
}

fn shown_lines(processor: &str) -> Vec<String> {
    let text = crate::telemetry::metrics::render();
    let of = format!("spanwarden_scrub_rule_matches{{processor=\"{processor}\"");
    text.lines().filter(|line| line.starts_with(&of)).map(str::to_owned).collect()
}

fn line(processor: &str, name: &str, count: u64) -> String {
    format!("spanwarden_scrub_rule_matches{{processor=\"{processor}\",rule=\"{name}\"}} {count}")
}

#[test]
fn a_rule_that_never_matched_is_shown_and_one_that_was_changed_begins_anew() {
    let names = ["redaction/series".to_owned()];
    let rules = |second: &str| {
        [rule(&names[0], "blocked_values[0]", "a"), rule(&names[0], "blocked_values[1]", second)]
    };
    let count = |matches| Count { matches, errors: 0 };
    let first = Series::new(&names, &rules("b"));
    assert_eq!(
        shown_lines(&names[0]),
        [line(&names[0], "blocked_values[0]", 0), line(&names[0], "blocked_values[1]", 0)]
    );
    first.add(&[count(3), count(4)]);

    let second = Series::new(&names, &rules("changed"));
    assert_eq!(
        shown_lines(&names[0]),
        [line(&names[0], "blocked_values[0]", 3), line(&names[0], "blocked_values[1]", 0)]
    );
    // What the plan before still had at work counts for the rule that is the same in both.
    first.add(&[count(1), count(1)]);
    drop(first);
    second.add(&[count(0), count(2)]);
    assert_eq!(
        shown_lines(&names[0]),
        [line(&names[0], "blocked_values[0]", 4), line(&names[0], "blocked_values[1]", 2)]
    );

    drop(second);
    assert_eq!(shown_lines(&names[0]), Vec::<String>::new());
}

#[test]
fn rules_of_two_pipelines_count_together() {
    let names = ["redaction/shared".to_owned()];
    let rules = [rule(&names[0], "blocked_keys", "k")];
    let (one, other) = (Series::new(&names, &rules), Series::new(&names, &rules));
    one.add(&[Count { matches: 1, errors: 0 }]);
    other.add(&[Count { matches: 2, errors: 0 }]);
    drop(one);
    assert_eq!(shown_lines(&names[0]), [line(&names[0], "blocked_keys", 3)]);
}

#[test]
fn complaints_are_told_at_once_and_then_once_in_a_while() {
    let complaints = Complaints::default();
    let began = Instant::now();
    let at = |seconds: u64, errors| complaints.add(errors, began + Duration::from_secs(seconds));
    assert_eq!(at(0, 3), Some(3));
    assert_eq!(at(1, 5), None);
    assert_eq!(at(59, 1), None);
    assert_eq!(at(60, 1), Some(7));
    assert_eq!(at(61, 1), None);
    assert_eq!(at(600, 1), Some(2));
}

/// What the log says of errors, and that it says nothing of a sender's.
#[test]
fn only_rules_that_ignore_errors_complain() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(Mutex::new(writer)).with_ansi(false).finish();
    tracing::subscriber::with_default(subscriber, || {
        let mut rules = [rule("complaints", "statements[0]", "a"), rule("complaints", "statements[1]", "b")];
        rules[1].complains = true;
        let series = Series::new(&["complaints".to_owned()], &rules);
        for _ in 0..3 {
            series.add(&[Count { matches: 1, errors: 2 }, Count { matches: 1, errors: 2 }]);
        }
    });
    let said = String::from_utf8(log.0.lock().expect("nobody panics").clone()).expect("text");
    assert_eq!(said.lines().count(), 1, "{said}");
    for part in ["WARN", "processor=complaints", "rule=statements[1]", "errors=2"] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panics").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
