//! `netd floating add|ls|rm`.

use std::net::IpAddr;
use std::process::ExitCode;

use clap::Subcommand;
use netd_api::{Floating as Object, FloatingAdd};

use super::output::{list, table, yes};
use super::{Context, Outcome, values};

/// Verbs on floating IPs.
#[derive(Debug, Subcommand)]
pub enum Floating {
    /// Give an outside address to an endpoint, one to one
    #[command(after_help = "Examples:\n  \
        netd floating add 192.0.2.10 api\n  \
        netd floating add 2001:db8::10 api\n\n\
        Packets to ADDR go to the endpoint, whatever their port; what it sends to the outside leaves with ADDR.\n\
        An endpoint may have several: it sends with the first of each family. The uplink whose subnet ADDR is in\n\
        answers for it; the node need not, and must not, have it. Ports published on ADDR come first.")]
    Add {
        /// The address
        #[arg(value_name = "ADDR")]
        address: IpAddr,
        /// Endpoint: name, id, unique prefix of the id, or a target with exactly one
        #[arg(value_name = "EP", value_parser = values::endpoint)]
        endpoint: String,
    },
    /// List floating IPs
    #[command(
        visible_alias = "list",
        after_help = "Example:\n  netd floating ls -o json\n\n\
        OUTGOING: what the endpoint sends to the outside leaves with this one."
    )]
    Ls,
    /// Take a floating IP back; its flows end
    #[command(after_help = "Example:\n  netd floating rm 192.0.2.10")]
    Rm {
        /// The address
        #[arg(value_name = "ADDR")]
        address: IpAddr,
    },
}

/// Runs a verb on floating IPs.
pub async fn run(verb: Floating, ctx: &Context) -> Outcome {
    match verb {
        Floating::Add { address, endpoint } => {
            let request = FloatingAdd {
                address,
                endpoint,
                owner: Some("cli".into()),
            };
            let floating = ctx.client.floating_add(&request).await?;
            ctx.out.show(&floating, |f| f.address.to_string())?;
        }
        Floating::Ls => ctx
            .out
            .show(&ctx.client.floating().await?, |all| lines(all))?,
        Floating::Rm { address } => ctx.client.floating_remove(address).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn lines(floating: &[Object]) -> String {
    table(
        &[
            "ADDRESS", "ENDPOINT", "NETWORK", "INSIDE", "OUTGOING", "UPLINK", "OWNER",
        ],
        &[],
        floating.iter().map(|f| {
            vec![
                f.address.to_string(),
                f.endpoint.clone(),
                f.network.clone(),
                list(f.inside),
                yes(f.outgoing),
                list(&f.uplink),
                f.owner.clone(),
            ]
        }),
    )
}
