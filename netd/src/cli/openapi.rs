//! `netd openapi`.

use std::process::ExitCode;

use clap::Args;

use super::Outcome;
use super::output::print;

/// `netd openapi`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  netd openapi > netd.json\n\n\
        The daemon serves the same as /v1/openapi.json.")]
pub struct Openapi {}

/// Prints the document.
pub fn run() -> Outcome {
    let text = serde_json::to_string_pretty(&*crate::api::DOCUMENT)?;
    print(&(text + "\n"));
    Ok(ExitCode::SUCCESS)
}
