//! `netd run -- CMD`: a command in a fresh namespace on a network, and nothing left when it ends.
//!
//! A forked child makes the namespace and waits; this process attaches it (`pid:N`), lets the child
//! become the command, passes signals on to it, and detaches when it has ended.

mod child;
mod signals;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::Args;
use ipnet::IpNet;
use netd_api::{Attach, Client, Macs, PublishSpec};

use super::error::Exit;
use super::{Context, Outcome, values, wait};
use child::Child;
use signals::{Blocked, Event, Signals};

/// Who asked for the endpoints made here.
const OWNER: &str = "run";

/// A daemon that does not answer must not keep this process for ever once the command has ended.
const TEARDOWN: Duration = Duration::from_secs(10);

/// `netd run`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    netd run -- ping -c1 1.1.1.1\n  \
    netd run --network web -p 8080:80 --name api -- python3 -m http.server 80\n  \
    netd run --network web --network db -p 0:80 -- ./server\n\n\
    The exit status is the command's (128 + signal when it is killed); 127: no such command, 126: it\n\
    cannot be executed. SIGINT, SIGTERM, SIGHUP, SIGUSR1 and SIGUSR2 are passed on to the command.")]
pub struct Run {
    /// Network to attach to, repeatable [default: the only one there is]
    #[arg(long = "network", value_name = "N", value_parser = values::name)]
    networks: Vec<String>,
    /// Publish a port on the first network: [HOSTIP:]HOSTPORT[-END]:PORT[-END][/tcp|udp]
    #[arg(short, value_name = "SPEC")]
    publish: Vec<PublishSpec>,
    /// Who may come to the published ports, repeatable: a prefix or an address [default: everybody]
    #[arg(long, value_name = "CIDR", value_parser = values::source, requires = "publish")]
    from: Vec<IpNet>,
    /// Name of the endpoint; on further networks it is EP-NETWORK
    #[arg(long, value_name = "EP", value_parser = values::name)]
    name: Option<String>,
    /// MACs the command may hold on each network, its own included [default: 1]
    #[arg(long, value_name = "any|N")]
    macs: Option<Macs>,
    /// The command and its arguments
    #[arg(value_name = "CMD", required = true, last = true)]
    command: Vec<OsString>,
}

/// Runs the command and ends as it did.
pub fn run(verb: &Run, ctx: &Context) -> Outcome {
    let command = super::command::arguments(&verb.command)?;
    let blocked = Blocked::new()?;
    let mut child = Child::spawn(&command, &blocked)?;
    wait(async {
        let signals = Signals::new(&blocked)?;
        let target = format!("pid:{}", child.pid());
        let attached = tokio::select! {
            attached = attach(verb, ctx, &target) => attached,
            event = signals.next() => Err(interrupted(event?)),
        };
        let ended = match attached {
            Ok(()) => supervise(&mut child, &signals).await,
            Err(e) => Err(e),
        };
        child.end();
        finish(ended, detach(&ctx.client, &target).await)
    })
}

/// The command's end and the tear-down's: whichever failed first is told, and a failed tear-down
/// never looks like success.
fn finish(ended: anyhow::Result<u8>, detached: anyhow::Result<()>) -> Outcome {
    match (ended, detached) {
        (Ok(status), Ok(())) => Ok(ExitCode::from(status)),
        (Ok(0), Err(left)) => Err(left),
        (Ok(status), Err(left)) => Err(Exit {
            text: format!("{left:#}"),
            status,
        }
        .into()),
        (Err(e), Ok(())) => Err(e),
        // Where no daemon answers, the second error repeats the first.
        (Err(e), Err(left)) if e.to_string() == left.to_string() => Err(e),
        (Err(e), Err(left)) => {
            eprintln!("netd: {left:#}");
            Err(e)
        }
    }
}

fn interrupted(event: Event) -> anyhow::Error {
    match event {
        Event::ChildChanged => anyhow!("the process that waits for its network died"),
        Event::Forward(signal) | Event::Ignore(signal) => Exit {
            text: format!("stopped by {signal} before the command began"),
            status: child::killed_by(signal),
        }
        .into(),
    }
}

/// Attaches the target to each network and publishes the ports.
async fn attach(verb: &Run, ctx: &Context, target: &str) -> anyhow::Result<()> {
    let networks = match verb.networks.as_slice() {
        [] => vec![only_network(&ctx.client).await?],
        some => some.to_vec(),
    };
    for (i, network) in networks.into_iter().enumerate() {
        let first = i == 0;
        let name = verb.name.as_ref().map(|name| {
            if first {
                name.clone()
            } else {
                format!("{name}-{network}")
            }
        });
        let request = Attach {
            target: target.into(),
            network,
            name,
            publish: if first {
                super::publish::limited(verb.publish.clone(), &verb.from)
            } else {
                Vec::new()
            },
            macs: verb.macs,
            owner: Some(OWNER.into()),
            ..Attach::default()
        };
        let endpoint = ctx.client.attach(&request).await?;
        if ctx.verbose {
            let addresses = super::output::list(&endpoint.addresses);
            eprintln!(
                "netd: endpoint {} on {}: {addresses}",
                endpoint.name, endpoint.network
            );
        }
        // A port that was found is news; one that was asked for is not.
        if ctx.verbose || request.publish.iter().any(|p| p.host.host_port == 0) {
            for published in &endpoint.published {
                eprintln!("netd: published {}", published.spec);
            }
        }
    }
    Ok(())
}

async fn only_network(client: &Client) -> anyhow::Result<String> {
    let mut names: Vec<String> = client
        .networks()
        .await?
        .into_iter()
        .map(|n| n.name)
        .collect();
    names.sort();
    match names.as_slice() {
        [only] => Ok(only.clone()),
        [] => bail!("there is no network to run on: create one with `netd network create NAME`"),
        several => bail!(
            "there are several networks, say which with --network: {}",
            several.join(", ")
        ),
    }
}

/// Lets the command begin and waits for its end; its exit status.
async fn supervise(child: &mut Child, signals: &Signals) -> anyhow::Result<u8> {
    child.begin()?;
    loop {
        if let Some(status) = child.ended()? {
            return Ok(status);
        }
        match signals.next().await? {
            Event::Forward(signal) => child.signal(signal),
            Event::ChildChanged | Event::Ignore(_) => {}
        }
    }
}

/// Detaches whatever the target has. The daemon is asked for it, because an attach that was
/// interrupted may have been completed all the same.
async fn detach(client: &Client, target: &str) -> anyhow::Result<()> {
    let work = async {
        let mut failed = None;
        for endpoint in client.endpoints().await? {
            if endpoint.target == target && endpoint.owner == OWNER {
                // Go on with the others: one that fails must not keep them.
                if let Err(e) = client.detach(&endpoint.id, None).await {
                    failed = Some(anyhow!("endpoint {} is left attached: {e}", endpoint.name));
                }
            }
        }
        failed.map_or(Ok(()), Err)
    };
    tokio::time::timeout(TEARDOWN, work)
        .await
        .unwrap_or_else(|_| {
            bail!("the daemon does not answer, endpoints may be left: see `netd endpoint ls`")
        })
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;

    use super::*;

    fn status(outcome: Outcome) -> Result<(), (u8, String)> {
        match outcome {
            Ok(_) => Ok(()),
            Err(e) => Err((
                e.downcast_ref::<Exit>().map_or(1, |x| x.status),
                e.to_string(),
            )),
        }
    }

    #[test]
    fn a_failed_tear_down_never_looks_like_success_and_keeps_the_command_s_failure() {
        let left = || Err(anyhow!("left"));
        assert_eq!(status(finish(Ok(0), Ok(()))), Ok(()));
        assert_eq!(status(finish(Ok(0), left())), Err((1, "left".into())));
        assert_eq!(status(finish(Ok(7), left())), Err((7, "left".into())));
        assert_eq!(
            status(finish(Err(anyhow!("first")), left())),
            Err((1, "first".into()))
        );
    }

    #[test]
    fn a_signal_before_the_command_begins_ends_as_if_it_had_killed_it() {
        let e = interrupted(Event::Forward(Signal::SIGTERM));
        assert_eq!(e.downcast_ref::<Exit>().map(|x| x.status), Some(143));
    }
}
