//! `netd repro`: a packet of a node that runs is told with all that decided about it, and ends elsewhere as it
//! did there.

#[path = "repro/captured.rs"]
mod captured;
#[path = "repro/cases.rs"]
mod cases;

use anyhow::{Context as _, Result};

/// The text that the one `const` of a source holds.
fn const_of(source: &str) -> Result<String> {
    let text = source
        .split_once("const CASE: &str = \"\\\n")
        .and_then(|(_, rest)| rest.split_once("\";\n"));
    Ok(text.context("no const")?.0.to_owned())
}
