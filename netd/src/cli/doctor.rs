//! `netd doctor`: asks the machine, and the daemon if one answers, and prints what that means.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use netd_api::ClientError;

use super::daemon::Place;
use super::output::table;
use super::{Context, Outcome, wait};
use crate::config::DaemonOptions;
use crate::doctor::facts::{self, Daemon, Network};
use crate::doctor::judge::judge;
use crate::doctor::{Check, Verdict};

/// `netd doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  netd doctor\n  netd doctor --config /etc/netd.toml -o json\n\n\
    Takes the options of `netd daemon`, to look at what that would meet; a daemon that answers tells its\n\
    own uplinks and problems. Tries the kernel out with programs and devices that nobody else sees, and\n\
    changes nothing. ok: as it should be; note: netd runs, this could be better or was not seen; missing:\n\
    netd does not run without it. Fails when something is missing."
)]
pub struct Doctor {
    /// Configuration file (TOML)
    #[arg(long, value_name = "F")]
    config: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
    /// Device that leads outside, repeatable [default: those of the default routes]
    #[arg(long = "uplink", value_name = "IF")]
    uplinks: Vec<String>,
    /// Cgroup the socket hooks would sit on [default: the root of cgroup2]
    #[arg(long, value_name = "P")]
    cgroup: Option<PathBuf>,
}

/// Looks, judges and prints; fails when something needed is missing.
pub fn run(verb: Doctor, ctx: &Context) -> Outcome {
    let options = DaemonOptions {
        config: verb.config,
        uplinks: verb.uplinks,
        cgroup: verb.cgroup,
        ..verb.place.options()
    };
    let mut settings = options.settings()?;
    let daemon = wait(ask(ctx)).map_err(|e| match e.downcast_ref() {
        Some(ClientError::Unreachable { socket, .. }) => {
            format!("none answers on {}", socket.display())
        }
        _ => format!("{e:#}"),
    });
    if let Ok(daemon) = &daemon {
        settings.bpf_dir = daemon.status.bpf_dir.clone().into();
    }
    let checks = judge(&facts::gather(&settings, daemon));
    ctx.out.show(&checks, |all| lines(all))?;
    let missing = checks.iter().any(|c| c.result == Verdict::Missing);
    Ok(ExitCode::from(u8::from(missing)))
}

async fn ask(ctx: &Context) -> anyhow::Result<Daemon> {
    let networks = ctx.client.networks().await?;
    Ok(Daemon {
        status: ctx.client.status().await?,
        networks: networks
            .into_iter()
            .map(|n| Network {
                outside: !n.internal && !n.gateways.is_empty(),
                name: n.name,
                mtu: n.mtu,
            })
            .collect(),
    })
}

fn lines(checks: &[Check]) -> String {
    let text = |t: &Option<String>| t.clone().unwrap_or_else(|| "-".into());
    table(
        &["CHECK", "RESULT", "FOUND", "COSTS", "WHAT TO DO"],
        &[],
        checks.iter().map(|c| {
            let result = match c.result {
                Verdict::Ok => "ok",
                Verdict::Note => "note",
                Verdict::Missing => "MISSING",
            };
            vec![
                c.check.clone(),
                result.into(),
                c.found.replace('\n', " "),
                text(&c.cost),
                text(&c.remedy),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_stands_out_with_its_cost_and_remedy() {
        let check = |result, cost: Option<&str>| Check {
            check: "helpers".into(),
            result,
            found: "a\nb".into(),
            cost: cost.map(Into::into),
            remedy: cost.map(|_| "take another kernel".into()),
        };
        let text = lines(&[
            check(Verdict::Ok, None),
            check(Verdict::Missing, Some("all")),
        ]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[1].contains("ok") && lines[1].ends_with('-'), "{text}");
        assert!(lines[2].contains("MISSING") && lines[2].ends_with("take another kernel"));
    }
}
