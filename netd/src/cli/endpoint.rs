//! `netd attach`, `netd detach` and `netd endpoint ls|inspect`.

use std::net::IpAddr;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use ipnet::IpNet;
use netd_api::{Endpoint as Object, EndpointState, Macs, PublishSpec};

use super::output::{list, table};
use super::{Context, Outcome, inspect, values};

/// `netd attach`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    netd attach box --network web\n  \
    netd attach pid:4711 --network web --name api --ip 10.210.0.9 --publish 8080:80\n  \
    netd attach /run/netns/box --network db --ifname db0\n  \
    netd attach vm --network web --macs any")]
pub struct Attach {
    /// Its network namespace: NAME (of /run/netns), /path or pid:N
    #[arg(value_parser = values::target)]
    target: String,
    /// Network to attach to
    #[arg(long, value_parser = values::name)]
    network: String,
    /// Name of the endpoint [default: made from target and network]
    #[arg(long, value_name = "EP", value_parser = values::name)]
    name: Option<String>,
    /// Address, at most one for each subnet [default: the next free one]
    #[arg(long = "ip", value_name = "IP")]
    ips: Vec<IpAddr>,
    /// MAC as aa:bb:cc:dd:ee:ff [default: made from the id]
    #[arg(long)]
    mac: Option<String>,
    /// MACs it may hold, its own included: more for a VM or a bridge with guests [default: 1]
    #[arg(long, value_name = "any|N")]
    macs: Option<Macs>,
    /// Device name inside [default: the first free of eth0, eth1, ...]
    #[arg(long, value_name = "NAME")]
    ifname: Option<String>,
    /// Publish a port at once: [HOSTIP:]HOSTPORT[-END]:PORT[-END][/tcp|udp]
    #[arg(long, value_name = "SPEC")]
    publish: Vec<PublishSpec>,
    /// Who may come to the published ports, repeatable: a prefix or an address [default: everybody]
    #[arg(long, value_name = "CIDR", value_parser = values::source, requires = "publish")]
    from: Vec<IpNet>,
}

/// `netd detach`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  netd detach api\n  netd detach box --network web")]
pub struct Detach {
    /// Name, id, unique prefix of the id, or a target with exactly one endpoint
    #[arg(value_name = "EP", value_parser = values::endpoint)]
    endpoint: String,
    /// Only the endpoint on this network
    #[arg(long, value_parser = values::name)]
    network: Option<String>,
}

/// Verbs on endpoints.
#[derive(Debug, Subcommand)]
pub enum Endpoint {
    /// List endpoints
    #[command(
        visible_alias = "list",
        after_help = "Example:\n  netd endpoint ls -o json"
    )]
    Ls,
    /// Show one endpoint: both ends of its veth, routes, neighbours, counters
    #[command(
        after_help = "Examples:\n  netd endpoint inspect api\n  netd endpoint inspect box --network web"
    )]
    Inspect {
        /// Name, id, unique prefix of the id, or a target with exactly one endpoint
        #[arg(value_name = "EP", value_parser = values::endpoint)]
        endpoint: String,
        /// Only the endpoint on this network
        #[arg(long, value_parser = values::name)]
        network: Option<String>,
    },
}

/// Attaches, and prints the endpoint's name.
pub async fn attach(verb: Attach, ctx: &Context) -> Outcome {
    let request = netd_api::Attach {
        target: verb.target,
        network: verb.network,
        name: verb.name,
        ips: verb.ips,
        mac: verb.mac,
        macs: verb.macs,
        ifname: verb.ifname,
        publish: super::publish::limited(verb.publish, &verb.from),
        owner: Some("cli".into()),
        ..netd_api::Attach::default()
    };
    let endpoint = ctx.client.attach(&request).await?;
    ctx.out.show(&endpoint, |e| e.name.clone())?;
    Ok(ExitCode::SUCCESS)
}

/// Detaches.
pub async fn detach(verb: Detach, ctx: &Context) -> Outcome {
    ctx.client
        .detach(&verb.endpoint, verb.network.as_deref())
        .await?;
    Ok(ExitCode::SUCCESS)
}

/// Runs a verb on endpoints.
pub async fn run(verb: Endpoint, ctx: &Context) -> Outcome {
    match verb {
        Endpoint::Ls => ctx
            .out
            .show(&ctx.client.endpoints().await?, |all| lines(all))?,
        Endpoint::Inspect { endpoint, network } => {
            let client = &ctx.client;
            let found = client.endpoint_details(&endpoint, network.as_deref());
            ctx.out.show(&found.await?, inspect::page)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A state in one word.
pub const fn state(state: EndpointState) -> &'static str {
    match state {
        EndpointState::Reserved => "reserved",
        EndpointState::Present => "present",
        EndpointState::Bound => "bound",
        EndpointState::Gone => "gone",
    }
}

fn lines(endpoints: &[Object]) -> String {
    table(
        &[
            "NAME",
            "ID",
            "NETWORK",
            "ADDRESSES",
            "STATE",
            "TARGET",
            "IFNAME",
            "PUBLISHED",
            "OWNER",
        ],
        &[],
        endpoints.iter().map(|e| {
            vec![
                e.name.clone(),
                e.id.clone(),
                e.network.clone(),
                list(&e.addresses),
                state(e.state).into(),
                e.target.clone(),
                e.ifname.clone(),
                list(e.published.iter().map(|p| &p.spec)),
                e.owner.clone(),
            ]
        }),
    )
}
