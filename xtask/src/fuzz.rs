//! `cargo xtask fuzz`: the fuzzer for longer than the ordinary suite runs it, or from another seed.

use anyhow::{Result, bail};

use crate::{exec, root, setup};

/// Arguments of the verb.
#[derive(clap::Args)]
pub struct Args {
    /// Only netd's functions, on this machine as this user
    #[arg(long, conflicts_with = "elf")]
    host: bool,
    /// Only the loaded programs, as root
    #[arg(long)]
    elf: bool,
    /// How many cases each part runs
    #[arg(long, value_name = "N", conflicts_with = "minutes")]
    cases: Option<u64>,
    /// How long each part runs
    #[arg(long, value_name = "M")]
    minutes: Option<u64>,
    /// Where the cases come from; another one each time if it is not given
    #[arg(long, value_name = "S")]
    seed: Option<u32>,
}

/// Ten minutes of each part, if nothing else is asked for.
const MINUTES: u64 = 10;

/// The verb.
pub fn run(args: &Args) -> Result<()> {
    let seed = args.seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map_or(1, |since| since.as_secs() as u32)
    });
    println!("fuzz: seed {seed}");
    if !args.elf {
        part(
            args,
            seed,
            "netd-fuzz",
            "host",
            "a_million_frames_break_no_promise",
            false,
        )?;
    }
    if !args.host {
        setup::build_tools()?;
        part(
            args,
            seed,
            "netd-tests",
            "fuzz",
            "a_hundred_thousand_frames_break_no_promise",
            true,
        )?;
    }
    Ok(())
}

fn part(
    args: &Args,
    seed: u32,
    package: &str,
    suite: &str,
    test: &str,
    raised: bool,
) -> Result<()> {
    println!("== {package}");
    let mut cargo = exec::cargo();
    if raised {
        let raise = root::prefix()?;
        if !raise.is_empty() {
            cargo.env(
                "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER",
                raise.join(" "),
            );
        }
    }
    match (args.cases, args.minutes) {
        (Some(cases), _) => cargo.env("NETD_FUZZ_CASES", cases.to_string()),
        (None, minutes) => cargo.env("NETD_FUZZ_MINUTES", minutes.unwrap_or(MINUTES).to_string()),
    };
    cargo
        .env("NETD_FUZZ_SEED", seed.to_string())
        .args(["test", "--locked", "-p", package, "--test", suite, "--"])
        .args(["--exact", test, "--nocapture"]);
    if exec::run(&mut cargo).is_err() {
        bail!("{package}: a case failed: its line is above, and below target/fuzz");
    }
    Ok(())
}
