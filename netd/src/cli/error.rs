//! What a failure looks like: one line on stderr that begins with `netd:`, and the exit status.

use std::process::ExitCode;

use clap::error::ErrorKind;

/// Exit status of a request that was refused or failed.
const FAILED: u8 = 1;
/// Exit status of a command line that makes no sense.
const WRONG_USAGE: u8 = 2;

/// A command line that clap takes but that makes no sense: exits with 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Something that exits with a status of its own: a command that could not be executed.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct Exit {
    /// What to print.
    pub text: String,
    /// Exit status.
    pub status: u8,
}

/// Several things that are wrong, one line each: exits with 1.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct Listed(pub Vec<String>);

/// Prints why a verb failed and says how to exit.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(Listed(lines)) = error.downcast_ref() {
        for line in lines {
            eprintln!("netd: {}", one_line(line));
        }
        return ExitCode::from(FAILED);
    }
    eprintln!("netd: {}", one_line(&format!("{error:#}")));
    ExitCode::from(status(error))
}

fn status(error: &anyhow::Error) -> u8 {
    if error.is::<Usage>() {
        WRONG_USAGE
    } else if let Some(exit) = error.downcast_ref::<Exit>() {
        exit.status
    } else {
        FAILED
    }
}

/// Prints help, the version or a usage error of clap's, and says how to exit.
pub fn usage(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            super::output::print(&error.render().to_string());
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            eprint!("{}", error.render());
            ExitCode::from(WRONG_USAGE)
        }
        _ => {
            eprintln!("netd: {}", condense(&error.render().to_string()));
            ExitCode::from(WRONG_USAGE)
        }
    }
}

/// Clap's paragraphs in one line: what is wrong, its tips, and the usage of the verb.
fn condense(text: &str) -> String {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    let (what, rest) = text.split_once("\n\nUsage: ").unwrap_or((text, ""));
    let what: Vec<&str> = what
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with("For more information"))
        .collect();
    let what = what.join(" ").replace(" tip: ", "; ");
    match rest.lines().next() {
        Some(usage) if !usage.is_empty() => format!("{what} (usage: {usage})"),
        _ => what,
    }
}

fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;
    use clap::Parser as _;

    use super::*;
    use crate::cli::Cli;

    fn condensed(args: &[&str]) -> String {
        let e = Cli::try_parse_from(args).expect_err("a usage error");
        condense(&e.render().to_string())
    }

    #[test]
    fn exit_statuses_tell_wrong_usage_from_refusal_and_pass_a_command_s_own() {
        let usage = anyhow::Error::from(Usage("x".into()));
        assert_eq!(status(&usage), 2);
        assert_eq!(status(&anyhow::anyhow!("refused")), 1);
        let exit = anyhow::Error::from(Exit {
            text: "no such command".into(),
            status: 127,
        });
        assert_eq!(status(&exit), 127);
        let wrapped = Err::<(), _>(Usage("x".into()))
            .context("network create")
            .unwrap_err();
        assert_eq!(status(&wrapped), 2);
    }

    #[test]
    fn usage_errors_are_one_line_with_the_usage() {
        let text = condensed(&["netd", "attach", "box"]);
        assert!(!text.contains('\n'), "{text}");
        assert!(text.contains("--network <NETWORK>"), "{text}");
        assert!(text.contains("usage: netd attach"), "{text}");
        let text = condensed(&["netd", "netwrk", "ls"]);
        assert!(!text.contains('\n') && text.contains("'network'"), "{text}");
        let text = condensed(&["netd", "attach", "a/b", "--network", "n"]);
        assert!(!text.contains('\n') && text.contains("pid:N"), "{text}");
    }

    #[test]
    fn a_chain_of_causes_is_one_line() {
        let e = anyhow::anyhow!("first\n  second\n").context("outer");
        assert_eq!(one_line(&format!("{e:#}")), "outer: first; second");
    }
}
