//! Long steps: a spinner with elapsed time and the last output line on a terminal, plain lines
//! otherwise; a failed step shows the end of what it printed.

use std::{
    collections::VecDeque,
    env,
    io::{BufRead, BufReader, IsTerminal, pipe, stderr},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};

/// How many lines of a failed step are shown.
const TAIL: usize = 40;
/// How often a silent, non-terminal log hears that a step still runs.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// Whether somebody looks at a live terminal.
pub fn interactive() -> bool {
    stderr().is_terminal() && env::var_os("CI").is_none()
}

/// Runs `command` as the step `label`, its output folded into one live line.
pub fn step(label: &str, command: &mut Command) -> Result<()> {
    let (reader, writer) = pipe().context("cannot make a pipe")?;
    let mut child = command
        // A backtrace of rustup's would hide what it says.
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("cannot copy a pipe end")?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("{label}: cannot start `{}`", crate::exec::name(command)))?;
    // The command keeps the writing ends; with them open the reader below would never end.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let start = Instant::now();
    let mut line = Line::start(label);
    let mut tail = VecDeque::new();
    for text in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
        // Tools that draw progress end their redraws with a carriage return.
        let text = String::from_utf8_lossy(&text);
        let text = text.rsplit('\r').find(|part| !part.trim().is_empty());
        let Some(text) = text else { continue };
        line.show(text.trim());
        if tail.len() == TAIL {
            tail.pop_front();
        }
        tail.push_back(text.trim_end().to_owned());
    }
    let status = child
        .wait()
        .with_context(|| format!("{label}: lost its process"))?;
    line.end();
    if !status.success() {
        for text in tail {
            eprintln!("    {text}");
        }
        bail!(
            "{label}: `{}` failed ({status})",
            crate::exec::name(command)
        );
    }
    eprintln!("xtask: {label}: done in {}", seconds(start.elapsed()));
    Ok(())
}

/// A duration for people.
pub fn seconds(time: Duration) -> String {
    let whole = time.as_secs();
    if whole >= 60 {
        format!("{} min {} s", whole / 60, whole % 60)
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

enum Line {
    Live(ProgressBar),
    Plain {
        label: String,
        start: Instant,
        last: Instant,
    },
}

impl Line {
    fn start(label: &str) -> Self {
        if interactive() {
            let style = ProgressStyle::with_template("{spinner} {prefix} [{elapsed}] {wide_msg}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner());
            let bar = ProgressBar::new_spinner().with_style(style);
            bar.set_prefix(label.to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            Self::Live(bar)
        } else {
            eprintln!("xtask: {label} ..");
            let now = Instant::now();
            Self::Plain {
                label: label.to_owned(),
                start: now,
                last: now,
            }
        }
    }

    fn show(&mut self, text: &str) {
        match self {
            Self::Live(bar) => bar.set_message(text.to_owned()),
            Self::Plain { label, start, last } => {
                if last.elapsed() >= HEARTBEAT {
                    *last = Instant::now();
                    eprintln!("xtask: {label} ({}): {text}", seconds(start.elapsed()));
                }
            }
        }
    }

    fn end(&self) {
        if let Self::Live(bar) = self {
            bar.finish_and_clear();
        }
    }
}
