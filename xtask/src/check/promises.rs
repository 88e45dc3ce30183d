//! `tests/promises.toml`: each promise of the README and the CLI contract, and the tests that prove
//! it. A promise whose test does not exist or is ignored fails the check. So does a row of
//! `docs/rfc-compliance.md` ([`compliance`]) and of `docs/operations.md` ([`operations`]), whose tests are looked
//! for in the same binaries.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{compliance, operations};
use crate::{
    test::binaries::{self, TestBinary},
    workspace,
};

/// One promise.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promise {
    /// A short name, unique in the file.
    pub id: String,
    /// What is promised.
    pub text: String,
    test: Tests,
}

/// One test or several, each as `package::test` (unit tests) or `package::suite::test`.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Tests {
    One(String),
    Several(Vec<String>),
}

impl Promise {
    /// The tests that prove it.
    pub fn tests(&self) -> &[String] {
        match &self.test {
            Tests::One(test) => std::slice::from_ref(test),
            Tests::Several(tests) => tests,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    promise: Vec<Promise>,
}

/// The tests that exist, and those of them that a plain run leaves out.
#[derive(Default)]
pub struct Known {
    all: HashSet<String>,
    ignored: HashSet<String>,
}

/// Compares the promises with the tests of the built test binaries.
pub fn check() -> Result<()> {
    let promises = load()?;
    let mut of_pages = compliance::tests()?;
    of_pages.extend(operations::tests()?);
    let tests = promises.iter().flat_map(Promise::tests).chain(&of_pages);
    let packages: BTreeSet<&str> = tests
        .filter_map(|test| test.split_once("::").map(|(package, _)| package))
        .collect();
    let mut known = Known::default();
    for binary in binaries::build(packages)? {
        known.add(&binary)?;
    }
    compliance::check(&known)?;
    operations::check(&known)?;
    let broken = broken(&promises, &known);
    for line in &broken {
        println!("    {line}");
    }
    match broken.len() {
        0 => {
            println!("    {} promises, each with its test", promises.len());
            Ok(())
        }
        n => bail!("promises without proof: {n}"),
    }
}

/// Reads and parses the file.
pub fn load() -> Result<Vec<Promise>> {
    let path = workspace::root().join("tests/promises.toml");
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| format!("in {}", path.display()))
}

fn parse(text: &str) -> Result<Vec<Promise>> {
    let File { promise } = toml::from_str(text).map_err(|error| {
        // The library's own text is a drawing of several lines.
        let line = error
            .span()
            .map_or(0, |span| text[..span.start].lines().count());
        anyhow::anyhow!("near line {line}: {}", error.message())
    })?;
    if promise.is_empty() {
        bail!("no promise at all");
    }
    Ok(promise)
}

/// One line for each promise that is not proven.
fn broken(promises: &[Promise], known: &Known) -> Vec<String> {
    let mut lines = Vec::new();
    let mut ids = HashSet::new();
    for promise in promises {
        let id = &promise.id;
        if !ids.insert(id) {
            lines.push(format!("{id}: this id is used twice"));
        }
        if promise.text.trim().is_empty() {
            lines.push(format!("{id}: says nothing"));
        }
        if promise.tests().is_empty() {
            lines.push(format!("{id}: names no test"));
        }
        for test in promise.tests() {
            if let Some(complaint) = known.complaint(test) {
                lines.push(format!("{id}: {complaint}"));
            }
        }
    }
    lines
}

impl Known {
    /// What is wrong with a test as a proof.
    pub fn complaint(&self, test: &str) -> Option<String> {
        if !self.all.contains(test) {
            Some(format!("there is no test `{test}`"))
        } else if self.ignored.contains(test) {
            Some(format!("the test `{test}` is ignored"))
        } else {
            None
        }
    }

    fn add(&mut self, binary: &TestBinary) -> Result<()> {
        self.all.extend(binary.tests(false)?);
        self.ignored.extend(binary.tests(true)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let set = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        Known {
            all: set(&[
                "netd-tests::cli::creates",
                "netd-tests::cli::slow",
                "netd-common::nat::tests::undo",
            ]),
            ignored: set(&["netd-tests::cli::slow"]),
        }
    }

    fn lines(text: &str) -> Vec<String> {
        broken(&parse(text).unwrap(), &known())
    }

    #[test]
    fn proven_promises_pass() {
        let text = r#"
            [[promise]]
            id = "a"
            text = "creates"
            test = "netd-tests::cli::creates"
            [[promise]]
            id = "b"
            text = "both"
            test = ["netd-tests::cli::creates", "netd-common::nat::tests::undo"]
        "#;
        assert!(lines(text).is_empty());
    }

    #[test]
    fn unknown_and_ignored_tests_are_named() {
        let text = r#"
            [[promise]]
            id = "a"
            text = "x"
            test = "netd-tests::cli::gone"
            [[promise]]
            id = "b"
            text = "y"
            test = "netd-tests::cli::slow"
        "#;
        let lines = lines(text);
        assert_eq!(lines.len(), 2);
        assert!(
            lines[0].contains("no test `netd-tests::cli::gone`"),
            "{lines:?}"
        );
        assert!(lines[1].contains("ignored"), "{lines:?}");
    }

    #[test]
    fn a_promise_without_a_test_does_not_parse() {
        let error = parse("[[promise]]\nid = \"a\"\ntext = \"x\"\n").unwrap_err();
        assert!(error.to_string().contains("test"), "{error}");
    }

    #[test]
    fn an_empty_list_of_tests_a_repeated_id_and_an_empty_text_are_named() {
        let text = r#"
            [[promise]]
            id = "a"
            text = "x"
            test = []
            [[promise]]
            id = "a"
            text = " "
            test = "netd-tests::cli::creates"
        "#;
        let lines = lines(text);
        assert_eq!(lines.len(), 3, "{lines:?}");
    }

    #[test]
    fn a_file_without_promises_is_refused() {
        assert!(parse("").is_err());
    }
}
