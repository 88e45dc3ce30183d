//! `netd network create|ls|inspect|set|rm`.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use ipnet::IpNet;
use netd_api::{Network as Object, NetworkCreate, NetworkKind, NetworkSet};

use super::error::Usage;
use super::masquerade::Flags;
use super::output::{fields, labels, list, table, yes};
use super::values::{self, Gateway};
use super::{Context, Outcome};

/// Verbs on networks.
#[derive(Debug, Subcommand)]
pub enum Network {
    /// Create a network; what is left out gets a default
    Create(Create),
    /// List networks
    #[command(
        visible_alias = "list",
        after_help = "Example:\n  netd network ls -o json"
    )]
    Ls,
    /// Show one network
    #[command(after_help = "Example:\n  netd network inspect web")]
    Inspect {
        /// Name of the network
        #[arg(value_parser = values::name)]
        name: String,
    },
    /// Change a network while it is in use
    Set(Set),
    /// Remove a network that has no endpoints
    #[command(
        after_help = "Example:\n  netd network rm web\n\nRefused while endpoints are attached: see `netd endpoint ls`."
    )]
    Rm {
        /// Name of the network
        #[arg(value_parser = values::name)]
        name: String,
    },
}

/// `--kind`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// An L2 segment with a gateway and masquerade
    Bridge,
}

/// `netd network create`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    netd network create web\n  \
    netd network create db --subnet 10.7.0.0/24 --subnet fd07::/64 --internal\n  \
    netd network create lab --subnet 10.8.0.0/24 --gateway 10.8.0.254 --ip-range 10.8.0.128/25")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an independent option"
)]
pub struct Create {
    /// Name: 1-63 letters, digits, '_', '.', '-'
    #[arg(value_parser = values::name)]
    name: String,
    /// What it is made of
    #[arg(long, value_enum, default_value = "bridge")]
    kind: Kind,
    /// Subnet, at most one of each family [default: the next free ones of both pools]
    #[arg(long = "subnet", value_name = "CIDR")]
    subnets: Vec<IpNet>,
    /// The node's address in a subnet, or none at all [default: the first of each subnet]
    #[arg(long = "gateway", value_name = "IP|none", value_parser = values::gateway)]
    gateways: Vec<Gateway>,
    /// Give addresses out of this part of a subnet only
    #[arg(long, value_name = "CIDR")]
    ip_range: Option<IpNet>,
    /// No way to the outside
    #[arg(long)]
    internal: bool,
    /// Leave the node with the endpoints' own addresses
    #[arg(long)]
    no_masquerade: bool,
    #[command(flatten)]
    masquerade: Flags,
    /// May talk to other networks that say so too
    #[arg(long)]
    no_isolation: bool,
    /// Let frames of any kind pass between endpoints, VLAN-tagged ones too, unseen what is inside
    #[arg(long)]
    any_ethertype: bool,
    /// MTU in bytes [default: the uplink's]
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u32>,
    /// Forget a learned MAC that says nothing for so long [default: 300]
    #[arg(long, value_name = "SECONDS")]
    aging: Option<u32>,
    /// Broadcast, multicast and unknown frames a second flooded for each switch port [default: 2000]
    #[arg(long, value_name = "FRAMES|off", value_parser = values::storm)]
    storm: Option<u32>,
    /// Label, repeatable
    #[arg(long = "label", value_name = "K=V", value_parser = values::label)]
    labels: Vec<(String, String)>,
}

/// `netd network set`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  netd network set seg --gateway 10.7.0.254 --gateway fd07::fe\n  \
    netd network set seg --aging 60 --storm off\n  \
    netd network set web --mtu 1400\n  \
    netd network set web --masquerade-profile strict --masquerade-ports 20000-29999\n\n\
    Options of masquerade are for new flows. --gateway gives a network that was created with --gateway none its gateway. Endpoints get a default route\n\
    by it, where they have none of the family; those of an --internal network do not."
)]
pub struct Set {
    /// Name of the network
    #[arg(value_parser = values::name)]
    name: String,
    /// The node's address in a subnet that has no gateway yet, at most one of each family
    #[arg(
        long = "gateway",
        value_name = "IP",
        required_unless_present_any = ["mtu", "aging", "storm", "masquerade_profile", "filtering", "masquerade_ports"]
    )]
    gateways: Vec<std::net::IpAddr>,
    /// MTU of the gateway and of all endpoints, inside and out
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u32>,
    /// Forget a learned MAC that says nothing for so long
    #[arg(long, value_name = "SECONDS")]
    aging: Option<u32>,
    /// Broadcast, multicast and unknown frames a second flooded for each switch port
    #[arg(long, value_name = "FRAMES|off", value_parser = values::storm)]
    storm: Option<u32>,
    #[command(flatten)]
    masquerade: Flags,
}

impl Create {
    fn request(self) -> Result<NetworkCreate, Usage> {
        let no_gateway = self.gateways.contains(&Gateway::None);
        let gateways: Vec<_> = self
            .gateways
            .iter()
            .filter_map(|g| match g {
                Gateway::Ip(ip) => Some(*ip),
                Gateway::None => None,
            })
            .collect();
        if no_gateway && !gateways.is_empty() {
            return Err(Usage(
                "--gateway none excludes gateway addresses: give one or the other".into(),
            ));
        }
        let masquerade = self.masquerade.options();
        Ok(NetworkCreate {
            name: self.name,
            kind: match self.kind {
                Kind::Bridge => NetworkKind::Bridge,
            },
            subnets: self.subnets,
            gateways: (!gateways.is_empty()).then_some(gateways),
            no_gateway,
            ip_range: self.ip_range,
            internal: self.internal,
            no_masquerade: self.no_masquerade,
            masquerade_profile: masquerade.profile,
            filtering: masquerade.filtering,
            masquerade_ports: masquerade.ports,
            no_isolation: self.no_isolation,
            any_ethertype: self.any_ethertype,
            mtu: self.mtu,
            aging_s: self.aging,
            storm: self.storm,
            labels: self.labels.into_iter().collect(),
            owner: Some("cli".into()),
        })
    }
}

/// Runs a verb on networks.
pub async fn run(verb: Network, ctx: &Context) -> Outcome {
    match verb {
        Network::Create(create) => {
            let network = ctx.client.network_create(&create.request()?).await?;
            ctx.out.show(&network, |n| n.name.clone())?;
        }
        Network::Ls => ctx
            .out
            .show(&ctx.client.networks().await?, |all| lines(all))?,
        Network::Inspect { name } => ctx.out.show(&ctx.client.network(&name).await?, one)?,
        Network::Set(set) => {
            let masquerade = set.masquerade.options();
            let request = NetworkSet {
                gateways: set.gateways,
                mtu: set.mtu,
                aging_s: set.aging,
                storm: set.storm,
                masquerade_profile: masquerade.profile,
                filtering: masquerade.filtering,
                masquerade_ports: masquerade.ports,
            };
            ctx.client.network_set(&set.name, &request).await?;
        }
        Network::Rm { name } => ctx.client.network_remove(&name).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn outside(n: &Object) -> &'static str {
    match (n.gateways.is_empty(), n.internal, n.masquerade) {
        (true, _, _) | (_, true, _) => "no",
        (_, _, true) => "masquerade",
        (_, _, false) => "routed",
    }
}

fn lines(networks: &[Object]) -> String {
    table(
        &[
            "NAME",
            "SUBNETS",
            "GATEWAYS",
            "OUTSIDE",
            "PROFILE",
            "MTU",
            "DEVICE",
            "ENDPOINTS",
            "OWNER",
        ],
        &[5, 7],
        networks.iter().map(|n| {
            vec![
                n.name.clone(),
                list(&n.subnets),
                list(&n.gateways),
                outside(n).into(),
                list(n.masquerade_profile),
                n.mtu.to_string(),
                n.device.clone().unwrap_or_else(|| "-".into()),
                n.endpoints.to_string(),
                n.owner.clone(),
            ]
        }),
    )
}

fn one(n: &Object) -> String {
    fields([
        ("name", n.name.clone()),
        ("id", n.id.to_string()),
        ("kind", format!("{:?}", n.kind).to_lowercase()),
        ("subnets", list(&n.subnets)),
        ("gateways", list(&n.gateways)),
        ("ip range", list(n.ip_range)),
        ("outside", outside(n).into()),
        ("profile", list(n.masquerade_profile)),
        ("filtering", list(n.filtering)),
        ("outside ports", list(n.masquerade_ports)),
        ("isolated", yes(n.isolation)),
        ("any ethertype", yes(n.any_ethertype)),
        ("mtu", n.mtu.to_string()),
        ("aging", format!("{} s", n.aging_s)),
        ("storm limit", storm(n.storm)),
        ("device", list(&n.device)),
        ("gateway mac", list(&n.gateway_mac)),
        ("endpoints", n.endpoints.to_string()),
        ("labels", labels(&n.labels)),
        ("owner", n.owner.clone()),
    ])
}

fn storm(frames: u32) -> String {
    match frames {
        0 => "off".into(),
        n => format!("{n} frames/s for each switch port"),
    }
}
