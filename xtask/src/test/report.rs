//! Reads what `cargo test -- --show-output` prints, line by line: which tests passed, failed or
//! were skipped. A skipped test is one that prints `SKIP: reason` and returns, or is ignored; it
//! never counts as passed.

use super::binaries::full_name;

/// What the runs so far came to.
#[derive(Default)]
pub struct Report {
    /// Tests that ran and held.
    pub passed: usize,
    /// Tests that ran and did not.
    pub failed: usize,
    /// Full names of the failed tests.
    pub failures: Vec<String>,
    /// Full names of tests that could not run here, each with its reason.
    pub skipped: Vec<(String, String)>,
    /// Runs that ended badly without naming a failed test.
    pub broken: Vec<String>,
    failed_before: usize,
    binary: Binary,
    section: Section,
}

/// The test binary whose output is read.
#[derive(Default)]
struct Binary {
    package: String,
    suite: Option<String>,
}

#[derive(Default, PartialEq)]
enum Section {
    /// Test by test.
    #[default]
    Running,
    /// Output of passing tests, of the test named here; hidden.
    Passing(Option<String>),
    /// Output of failing tests; shown.
    Failing,
}

impl Report {
    /// Another `cargo test` starts.
    pub fn begin(&mut self) {
        self.failed_before = self.failed;
        self.section = Section::Running;
    }

    /// Failed tests of the current `cargo test`.
    pub fn failed_since_begin(&self) -> usize {
        self.failed - self.failed_before
    }

    /// The closing line.
    pub fn totals(&self) -> String {
        // A run that broke down without naming a test is a failure all the same.
        let failed = self.failed + self.broken.len();
        format!(
            "{} passed, {failed} failed, {} skipped",
            self.passed,
            self.skipped.len()
        )
    }

    /// Takes in one line; says whether it is worth showing.
    pub fn line(&mut self, line: &str) -> bool {
        if let Some(binary) = Binary::announced(line) {
            self.binary = binary;
            self.section = Section::Running;
            return true;
        }
        match line {
            "successes:" => {
                self.section = Section::Passing(None);
                return false;
            }
            "failures:" => {
                self.section = Section::Failing;
                return true;
            }
            _ if line.starts_with("test result: ") => {
                self.section = Section::Running;
                return true;
            }
            _ => {}
        }
        match &mut self.section {
            Section::Running => {
                self.test_line(line);
                !line.trim().is_empty()
            }
            Section::Passing(test) => {
                if let Some(name) = header(line) {
                    *test = Some(name.to_owned());
                } else if let (Some(name), Some(reason)) = (test, line.trim().strip_prefix("SKIP:"))
                {
                    let name = self.binary.full_name(name);
                    let reason = reason.trim().to_owned();
                    self.skip(name, reason);
                }
                false
            }
            Section::Failing => true,
        }
    }

    /// `test NAME ... ok`, `FAILED` or `ignored, REASON`.
    fn test_line(&mut self, line: &str) {
        let Some((name, result)) = line
            .strip_prefix("test ")
            .and_then(|line| line.rsplit_once(" ... "))
        else {
            return;
        };
        let name = name.split(" - should panic").next().unwrap_or(name);
        let name = self.binary.full_name(name);
        match result.split(',').next().unwrap_or(result) {
            "ok" => self.passed += 1,
            "FAILED" => {
                self.failed += 1;
                self.failures.push(name);
            }
            "ignored" => {
                let reason = result
                    .split_once(", ")
                    .map_or("ignored", |(_, reason)| reason);
                self.skipped.push((name, reason.to_owned()));
            }
            _ => {}
        }
    }

    /// The test was counted as passed when it ended: it said in its output that it did nothing.
    fn skip(&mut self, name: String, reason: String) {
        if !self.skipped.iter().any(|(known, _)| *known == name) {
            self.passed = self.passed.saturating_sub(1);
            self.skipped.push((name, reason));
        }
    }
}

impl Binary {
    /// Reads cargo's `Running unittests src/lib.rs (target/debug/deps/netd_common-0123)`,
    /// `Running suites/cli.rs (..)` or `Doc-tests netd_common`.
    fn announced(line: &str) -> Option<Self> {
        let line = line.trim_start();
        if let Some(library) = line.strip_prefix("Doc-tests ") {
            return Some(Self {
                package: library.replace('_', "-"),
                suite: None,
            });
        }
        let (source, executable) = line
            .strip_prefix("Running ")?
            .strip_suffix(')')?
            .rsplit_once(" (")?;
        let file = executable.rsplit('/').next()?;
        let target = file.rsplit_once('-').map_or(file, |(name, _hash)| name);
        if source.starts_with("unittests ") {
            Some(Self {
                package: target.replace('_', "-"),
                suite: None,
            })
        } else {
            // The only package with suites of its own.
            Some(Self {
                package: "netd-tests".to_owned(),
                suite: Some(target.to_owned()),
            })
        }
    }

    fn full_name(&self, test: &str) -> String {
        full_name(&self.package, self.suite.as_deref(), test)
    }
}

/// `---- NAME stdout ----`
fn header(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Report, Vec<String>) {
        let mut report = Report::default();
        report.begin();
        let shown = text
            .lines()
            .filter(|line| report.line(line))
            .map(ToOwned::to_owned)
            .collect();
        (report, shown)
    }

    const OUTPUT: &str = "\
     Running suites/cli.rs (target/debug/deps/cli-0123abcd)

running 4 tests
test creates ... ok
test tcx_only ... ok
test slow ... ignored, needs an hour
test refuses ... FAILED

successes:

---- creates stdout ----
noise of a test that held

---- tcx_only stdout ----
SKIP: the kernel has no TCX
SKIP: the kernel has no TCX, second mode


successes:
    creates
    tcx_only

failures:

---- refuses stdout ----
what went wrong

failures:
    refuses

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    #[test]
    fn a_skipped_test_is_not_counted_as_passed() {
        let (report, _) = read(OUTPUT);
        assert_eq!(report.totals(), "1 passed, 1 failed, 2 skipped");
        assert_eq!(
            report.skipped,
            [
                (
                    "netd-tests::cli::slow".to_owned(),
                    "needs an hour".to_owned()
                ),
                (
                    "netd-tests::cli::tcx_only".to_owned(),
                    "the kernel has no TCX".to_owned()
                ),
            ]
        );
        assert_eq!(report.failures, ["netd-tests::cli::refuses"]);
    }

    #[test]
    fn output_of_failing_tests_is_shown_and_of_passing_ones_is_not() {
        let (_, shown) = read(OUTPUT);
        assert!(shown.iter().any(|line| line == "what went wrong"));
        assert!(!shown.iter().any(|line| line.contains("noise")));
    }

    #[test]
    fn totals_add_up_over_several_binaries() {
        let (report, _) = read(&format!("{OUTPUT}{}", OUTPUT.replace("cli", "nat")));
        assert_eq!(report.totals(), "2 passed, 2 failed, 4 skipped");
    }

    #[test]
    fn unit_tests_are_named_by_their_package() {
        let (report, _) = read(
            "     Running unittests src/lib.rs (target/debug/deps/netd_common-01)\ntest nat::tests::undo ... FAILED\n",
        );
        assert_eq!(report.failures, ["netd-common::nat::tests::undo"]);
    }

    #[test]
    fn a_run_that_breaks_down_counts_as_failed() {
        let mut report = Report::default();
        report.broken.push("cargo test".to_owned());
        assert_eq!(report.totals(), "0 passed, 1 failed, 0 skipped");
    }
}
