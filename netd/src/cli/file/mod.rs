//! `netd apply`, `netd plan`, `netd delete` and `netd export`: what is asked for as one file.

mod read;
mod show;
mod write;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use netd_api::{ClientError, Manifest, Plan, Problem};

use super::error::Listed;
use super::{Context, Outcome, values};
use read::Source;

/// Exit status of `netd plan` when there is something to do.
const SOMETHING: u8 = 3;

/// `netd apply`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    netd apply -f shop.toml\n  \
    netd apply -f shop.toml --prune      and remove what has left the file\n  \
    netd apply -f shop.toml -o json")]
pub struct Apply {
    #[command(flatten)]
    file: File,
}

/// `netd plan`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit status: 0 nothing to do, 3 something to do, 1 refused or failed, 2 wrong usage.\n\n\
        Examples:\n  netd plan -f shop.toml\n  netd plan -f shop.toml --prune -v     and list the flows it would cut"
)]
pub struct Make {
    #[command(flatten)]
    file: File,
}

/// What both take.
#[derive(Debug, Args)]
struct File {
    /// The file, TOML; - reads standard input
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    path: PathBuf,
    /// Remove what the file made and no longer asks for
    #[arg(long)]
    prune: bool,
    /// Take over objects that have another owner
    #[arg(long)]
    force: bool,
}

/// `netd delete`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  netd delete -f shop.toml")]
pub struct Delete {
    /// The file: everything it made goes, also what has left it since; - reads standard input
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    path: PathBuf,
}

/// `netd export`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    netd export > node.toml              applied, it changes nothing\n  \
    netd export --owner file:shop\n  \
    netd export -o json")]
pub struct Export {
    /// Only what this owner has
    #[arg(long, value_name = "OWNER", value_parser = values::name)]
    owner: Option<String>,
}

/// Gives a file what it asks for.
pub async fn apply(verb: Apply, ctx: &Context) -> Outcome {
    let source = verb.file.read()?;
    let plan = ctx.client.apply(&source.manifest).await;
    let plan = plan.map_err(|e| located(e, &source))?;
    ctx.out.show(&plan, |p| show::plan(p, ctx.verbose, true))?;
    Ok(ExitCode::SUCCESS)
}

/// Shows what `apply` would do.
pub async fn plan(verb: Make, ctx: &Context) -> Outcome {
    let source = verb.file.read()?;
    let plan: Result<Plan, _> = ctx.client.plan(&source.manifest).await;
    let plan = plan.map_err(|e| located(e, &source))?;
    ctx.out.show(&plan, |p| show::plan(p, ctx.verbose, false))?;
    Ok(if plan.lines.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(SOMETHING)
    })
}

/// Removes what a file made.
pub async fn delete(verb: Delete, ctx: &Context) -> Outcome {
    let source = Source::open(&verb.path)?;
    let nothing = Manifest {
        name: source.manifest.name.clone(),
        prune: true,
        ..Manifest::default()
    };
    let plan = ctx.client.apply(&nothing).await;
    let plan = plan.map_err(|e| located(e, &source))?;
    ctx.out.show(&plan, |p| show::plan(p, ctx.verbose, true))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes what is there as a file.
pub async fn export(verb: Export, ctx: &Context) -> Outcome {
    let manifest = ctx.client.export(verb.owner.as_deref()).await?;
    let text = write::toml(&manifest)?;
    ctx.out.show(&manifest, |_| text)?;
    Ok(ExitCode::SUCCESS)
}

impl File {
    fn read(&self) -> anyhow::Result<Source> {
        let mut source = Source::open(&self.path)?;
        source.manifest.prune = self.prune;
        source.manifest.force = self.force;
        Ok(source)
    }
}

/// What the daemon found wrong, with the lines of the file.
fn located(error: ClientError, source: &Source) -> anyhow::Error {
    match error {
        ClientError::Api { mut problems, .. } if !problems.is_empty() => {
            problems.sort_by_key(|p| source.line(&p.object).unwrap_or(usize::MAX));
            let line =
                |p: &Problem| format!("{}: {}: {}", source.place(&p.object), p.object, p.error);
            Listed(problems.iter().map(line).collect()).into()
        }
        error => error.into(),
    }
}
