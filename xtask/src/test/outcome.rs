//! What a run of tests came to, and how the runners' output is read.

use serde::Deserialize;

/// A test that failed, and the command that runs it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Package and test, as a person would look for it.
    pub name: String,
    /// Paste this in the repository's root.
    pub rerun: String,
}

/// Sums of a run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Tests that passed.
    pub passed: usize,
    /// Tests that failed, timed out or could not be built.
    pub failures: Vec<Failure>,
    /// Tests that did not run, with the reason when the runner gave one.
    pub skipped: Vec<String>,
}

impl Outcome {
    /// Adds another run to this one.
    pub fn add(&mut self, other: Outcome) {
        self.passed += other.passed;
        self.failures.extend(other.failures);
        self.skipped.extend(other.skipped);
    }

    /// The plain last line.
    pub fn line(&self) -> String {
        format!("{} passed, {} failed, {} skipped", self.passed, self.failures.len(), self.skipped.len())
    }
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    event: String,
    #[serde(default)]
    name: String,
}

/// Reads nextest's machine output, one event a line.
pub fn read_events(lines: impl Iterator<Item = String>, rerun: impl Fn(&str) -> String) -> Outcome {
    let mut outcome = Outcome::default();
    for event in lines.filter_map(|line| serde_json::from_str::<Event>(&line).ok()) {
        if event.kind != "test" {
            continue;
        }
        // `package::binary$module::test`; the test's own name is what a filter wants.
        let test = event.name.rsplit('$').next().unwrap_or(&event.name);
        match event.event.as_str() {
            "started" => {}
            "ok" => outcome.passed += 1,
            "ignored" => outcome.skipped.push(event.name.clone()),
            _ => outcome.failures.push(Failure { rerun: rerun(test), name: event.name.clone() }),
        }
    }
    outcome
}

/// Reads the human output of `cargo test`, whose shape is stable: `test NAME ... ok`.
pub fn read_lines(lines: impl Iterator<Item = String>, rerun: impl Fn(&str) -> String) -> Outcome {
    let mut outcome = Outcome::default();
    for line in lines {
        let Some((name, result)) =
            line.trim().strip_prefix("test ").and_then(|rest| rest.rsplit_once(" ... "))
        else {
            continue;
        };
        match result.split([' ', ',']).next() {
            Some("ok") => outcome.passed += 1,
            Some("ignored") => {
                outcome.skipped.push(format!("{name} {}", result.trim_start_matches("ignored")))
            }
            Some("FAILED") => outcome.failures.push(Failure { name: name.to_owned(), rerun: rerun(name) }),
            _ => {}
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> impl Iterator<Item = String> {
        text.lines().map(str::to_owned)
    }

    #[test]
    fn reads_what_cargo_test_prints() {
        let text = "running 4 tests\ntest a::b ... ok\ntest c ... FAILED\ntest d ... ignored, needs rain\n\
                    test src/lib.rs - f (line 3) ... ok\ntest result: FAILED. 2 passed; 1 failed";
        let outcome = read_lines(lines(text), |name| format!("again {name}"));
        assert_eq!(outcome.line(), "2 passed, 1 failed, 1 skipped");
        assert_eq!(outcome.failures, [Failure { name: "c".into(), rerun: "again c".into() }]);
    }

    #[test]
    fn reads_nextest_events_and_nothing_else() {
        let text = r#"noise
{"type":"suite","event":"started","test_count":3}
{"type":"test","event":"started","name":"p::p$m::one"}
{"type":"test","event":"ok","name":"p::p$m::one","exec_time":0.1}
{"type":"test","event":"failed","name":"p::p$m::two"}
{"type":"test","event":"ignored","name":"p::p$m::three"}
{"type":"test","event":"timeout","name":"p::p$m::four"}"#;
        let outcome = read_events(lines(text), |name| name.to_owned());
        assert_eq!(outcome.line(), "1 passed, 2 failed, 1 skipped");
        assert_eq!(outcome.failures[0].rerun, "m::two");
    }
}
