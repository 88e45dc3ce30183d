//! The workspace's test binaries: building them and asking them for their tests.

use std::{collections::HashMap, path::PathBuf, process::Stdio};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::exec;

/// One built test binary.
pub struct TestBinary {
    /// The package it belongs to.
    pub package: String,
    /// The suite's name; `None` for a package's unit tests.
    pub suite: Option<String>,
    /// The executable.
    pub path: PathBuf,
}

/// Builds the test binaries of `packages` without running them.
pub fn build<'a>(packages: impl IntoIterator<Item = &'a str>) -> Result<Vec<TestBinary>> {
    let mut cargo = exec::cargo();
    cargo.args([
        "test",
        "--locked",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ]);
    for package in packages {
        cargo.args(["-p", package]);
    }
    // What fails to compile is said on the terminal, not swallowed.
    let output = cargo
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("cannot start cargo test")?;
    if !output.status.success() {
        anyhow::bail!(
            "the test binaries were not built (`{}`)",
            exec::name(&cargo)
        );
    }
    let names = package_names()?;
    Ok(parse(&String::from_utf8_lossy(&output.stdout), &names))
}

impl TestBinary {
    /// Full names of its tests; with `ignored`, of those that a plain run leaves out.
    pub fn tests(&self, ignored: bool) -> Result<Vec<String>> {
        let mut list = exec::command(&self.path);
        list.args(["--list", "--format", "terse"]);
        if ignored {
            list.arg("--ignored");
        }
        let said = exec::capture(&mut list)?;
        let tests = said.lines().filter_map(|line| line.strip_suffix(": test"));
        Ok(tests.map(|test| self.full_name(test)).collect())
    }

    /// `package::test` for unit tests, `package::suite::test` for suites.
    fn full_name(&self, test: &str) -> String {
        full_name(&self.package, self.suite.as_deref(), test)
    }
}

/// The name by which `promises.toml` knows a test.
pub fn full_name(package: &str, suite: Option<&str>, test: &str) -> String {
    match suite {
        Some(suite) => format!("{package}::{suite}::{test}"),
        None => format!("{package}::{test}"),
    }
}

/// Package ids to names.
fn package_names() -> Result<HashMap<String, String>> {
    let mut metadata = exec::cargo();
    metadata.args(["metadata", "--locked", "--no-deps", "--format-version=1"]);
    let metadata: Value = serde_json::from_str(&exec::capture(&mut metadata)?)
        .context("cargo metadata is no JSON")?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    Ok(packages
        .filter_map(|package| {
            Some((
                package["id"].as_str()?.to_owned(),
                package["name"].as_str()?.to_owned(),
            ))
        })
        .collect())
}

/// Reads cargo's messages, one JSON object a line.
fn parse(messages: &str, names: &HashMap<String, String>) -> Vec<TestBinary> {
    messages
        .lines()
        .filter_map(|line| test_binary(&serde_json::from_str(line).ok()?, names))
        .collect()
}

fn test_binary(message: &Value, names: &HashMap<String, String>) -> Option<TestBinary> {
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let target = &message["target"];
    let suite = target["kind"].as_array()?.iter().any(|kind| kind == "test");
    Some(TestBinary {
        package: names.get(message["package_id"].as_str()?)?.clone(),
        suite: suite
            .then(|| target["name"].as_str().map(ToOwned::to_owned))
            .flatten(),
        path: message["executable"].as_str()?.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_messages_become_test_binaries_with_full_names() {
        let names = HashMap::from([(
            "path+file:///w/tests#netd-tests@0.1.0".to_owned(),
            "netd-tests".to_owned(),
        )]);
        let messages = r#"
{"reason":"compiler-artifact","package_id":"path+file:///w/tests#netd-tests@0.1.0","target":{"kind":["lib"],"name":"netd_tests"},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","package_id":"path+file:///w/tests#netd-tests@0.1.0","target":{"kind":["lib"],"name":"netd_tests"},"profile":{"test":true},"executable":"/t/netd_tests-1"}
{"reason":"compiler-artifact","package_id":"path+file:///w/tests#netd-tests@0.1.0","target":{"kind":["test"],"name":"packet"},"profile":{"test":true},"executable":"/t/packet-1"}
{"reason":"build-finished","success":true}
"#;
        let found = parse(messages, &names);
        assert_eq!(found.len(), 2);
        assert_eq!(
            found[0].full_name("stats::tests::median"),
            "netd-tests::stats::tests::median"
        );
        assert_eq!(
            found[1].full_name("drops_runts"),
            "netd-tests::packet::drops_runts"
        );
    }
}
