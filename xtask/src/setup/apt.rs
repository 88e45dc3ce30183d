//! Debian packages: which are missing, and getting them. The only file that installs system-wide.

use std::{process::Command, sync::OnceLock};

use anyhow::{Context, Result, bail};

use crate::{exec, progress, root, workspace};

/// A program and the Debian package that has it.
pub struct Tool {
    /// The program's name.
    pub program: &'static str,
    package: &'static str,
}

impl Tool {
    /// `program` from `package`.
    pub const fn new(program: &'static str, package: &'static str) -> Self {
        Self { program, package }
    }

    fn is_there(&self) -> bool {
        workspace::which(self.program).is_some()
    }
}

/// Installs the packages of those tools that are not on the search path.
pub fn ensure_tools(what_for: &str, tools: &[Tool]) -> Result<()> {
    let missing: Vec<&Tool> = tools.iter().filter(|tool| !tool.is_there()).collect();
    let mut packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    packages.dedup();
    install(what_for, &packages)?;
    if let Some(tool) = missing.iter().find(|tool| !tool.is_there()) {
        bail!(
            "{what_for} needs `{}`, which is not there although its package `{}` is installed: `apt-get install --reinstall {}`",
            tool.program,
            tool.package,
            tool.package
        );
    }
    Ok(())
}

/// Installs those packages that are not installed.
pub fn ensure_packages(what_for: &str, packages: &[&'static str]) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .copied()
        .filter(|package| !installed(package))
        .collect();
    install(what_for, &missing)
}

fn installed(package: &str) -> bool {
    let mut query = exec::command("dpkg-query");
    query.args(["-W", "-f=${db:Status-Abbrev}\n", package]);
    // Several lines where several architectures are installed.
    exec::capture(&mut query).is_ok_and(|said| said.lines().any(|line| line.starts_with("ii")))
}

fn install(what_for: &str, packages: &[&str]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    let list = packages.join(" ");
    if workspace::which("apt-get").is_none() {
        bail!(
            "{what_for} needs programs that are not installed, and there is no apt-get here: install what Debian calls `{list}`"
        );
    }
    let by_hand = format!("get them with `apt-get update && apt-get install {list}`");
    if !root::is_root() && workspace::which("sudo").is_none() {
        bail!(
            "{what_for} needs the packages `{list}` and this user cannot install them: as root, {by_hand}"
        );
    }
    if packages.iter().any(|package| !known(package)) {
        update()?;
    }
    if let Some(package) = packages.iter().find(|package| !known(package)) {
        bail!(
            "{what_for} needs the package `{package}`, which apt does not know here: add a source that has it (Debian 12 with bookworm-security has), then {by_hand}"
        );
    }
    let mut command = apt_get()?;
    command
        .args(["install", "-y", "--no-install-recommends", "--no-remove"])
        .args(packages);
    progress::step(&format!("installing for {what_for}: {list}"), &mut command)
        .or_else(|first| {
            // Old lists name files that the mirror no longer has.
            update()?;
            let mut again = apt_get()?;
            again
                .args(["install", "-y", "--no-install-recommends", "--no-remove"])
                .args(packages);
            progress::step(&format!("installing again after {first}"), &mut again)
        })
        .with_context(|| format!("{what_for} needs the packages `{list}`; {by_hand}"))
}

/// Whether apt could install it.
fn known(package: &str) -> bool {
    exec::capture(exec::command("apt-cache").args(["policy", package])).is_ok_and(|said| {
        said.lines()
            .any(|line| line.trim_start().starts_with("Candidate:") && !line.ends_with("(none)"))
    })
}

/// `apt-get update`, once per run.
pub fn update() -> Result<()> {
    static DONE: OnceLock<()> = OnceLock::new();
    if DONE.set(()).is_err() {
        return Ok(());
    }
    progress::step("bringing the package lists up to date", apt_get()?.arg("update"))
        .context("apt cannot reach its sources; check the network and /etc/apt/sources.list, then run `apt-get update`")
}

/// apt-get as root, without questions, waiting for another apt's lock.
fn apt_get() -> Result<Command> {
    // sudo does not pass the variable on; `env` does.
    let mut command = root::command("env")?;
    command.args([
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-q",
        "-o",
        "DPkg::Lock::Timeout=300",
    ]);
    Ok(command)
}
