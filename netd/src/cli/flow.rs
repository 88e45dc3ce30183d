//! `netd flow ls|flush` and `netd fdb ls`.

use std::net::IpAddr;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use ipnet::IpNet;
use netd_api::{FdbLine, FlowFilter, FlowLine, Proto};

use super::output::{table, yes};
use super::{Context, Outcome, values};

/// Verbs on flows.
#[derive(Debug, Subcommand)]
pub enum Flow {
    /// List flows; all options that are given must fit
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  netd flow ls\n  netd flow ls --endpoint api --proto tcp --port 443"
    )]
    Ls(Filter),
    /// End flows: their next packet begins anew; without options, all of them
    #[command(
        after_help = "Examples:\n  netd flow flush --endpoint api\n  netd flow flush --proto udp --port 53\n  netd flow flush --dst 198.51.100.0/24"
    )]
    Flush(Filter),
}

/// Verbs on forwarding entries.
#[derive(Debug, Subcommand)]
pub enum Fdb {
    /// List forwarding entries
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  netd fdb ls\n  netd fdb ls --network web"
    )]
    Ls {
        /// Only of this network
        #[arg(long, value_parser = values::name)]
        network: Option<String>,
    },
}

/// Protocols that have flows.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum FlowProto {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
    /// ICMP echo
    Icmp,
    /// `ICMPv6` echo
    Icmpv6,
}

impl From<FlowProto> for Proto {
    fn from(proto: FlowProto) -> Self {
        match proto {
            FlowProto::Tcp => Self::Tcp,
            FlowProto::Udp => Self::Udp,
            FlowProto::Sctp => Self::Sctp,
            FlowProto::Icmp => Self::Icmp,
            FlowProto::Icmpv6 => Self::Icmpv6,
        }
    }
}

/// Which flows.
#[derive(Debug, Args)]
pub struct Filter {
    /// Of this endpoint, calling or called: name or id
    #[arg(long, value_name = "EP", value_parser = values::endpoint)]
    endpoint: Option<String>,
    /// Of this protocol
    #[arg(long)]
    proto: Option<FlowProto>,
    /// With this source address or prefix, before or after translation
    #[arg(long, value_name = "IP[/LEN]", value_parser = netd_api::address_or_prefix)]
    src: Option<IpNet>,
    /// With this destination address or prefix, before or after translation
    #[arg(long, value_name = "IP[/LEN]", value_parser = netd_api::address_or_prefix)]
    dst: Option<IpNet>,
    /// With this port (echo: identifier) on any side, before or after translation
    #[arg(long, value_name = "N")]
    port: Option<u16>,
}

impl From<Filter> for FlowFilter {
    fn from(f: Filter) -> Self {
        Self {
            endpoint: f.endpoint,
            proto: f.proto.map(Proto::from),
            src: f.src,
            dst: f.dst,
            port: f.port,
        }
    }
}

/// Runs a verb on flows.
pub async fn flow(verb: Flow, ctx: &Context) -> Outcome {
    match verb {
        Flow::Ls(filter) => ctx
            .out
            .show(&ctx.client.flows(&filter.into()).await?, |all| flows(all))?,
        Flow::Flush(filter) => {
            let flushed = ctx.client.flows_flush(&filter.into()).await?;
            let plural = if flushed.flows == 1 { "" } else { "s" };
            ctx.out
                .show(&flushed, |f| format!("{} flow{plural} ended", f.flows))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs a verb on forwarding entries.
pub async fn fdb(verb: Fdb, ctx: &Context) -> Outcome {
    let Fdb::Ls { network } = verb;
    ctx.out
        .show(&ctx.client.fdb(network.as_deref()).await?, |all| {
            entries(all)
        })?;
    Ok(ExitCode::SUCCESS)
}

/// Which of a flow's two numbers beside an address is shown, and how.
#[derive(Clone, Copy)]
pub(super) enum Number {
    /// A port.
    Port,
    /// An echo identifier, which belongs to the asking side.
    Echo,
    /// None: the asked side of an echo.
    Nothing,
}

/// An address with its number.
pub(super) fn side((ip, number): (IpAddr, u16), kind: Number) -> String {
    match kind {
        Number::Port => std::net::SocketAddr::new(ip, number).to_string(),
        Number::Echo => format!("{ip} id {number}"),
        Number::Nothing => ip.to_string(),
    }
}

/// One half of a flow, with an arrow where translation changes it.
fn half(before: (IpAddr, u16), after: (IpAddr, u16), kind: Number) -> String {
    let shown = side(before, kind);
    if before == after {
        shown
    } else {
        format!("{shown} => {}", side(after, kind))
    }
}

/// A table of flows.
pub(super) fn flows(flows: &[FlowLine]) -> String {
    table(
        &[
            "PROTO",
            "STATE",
            "KIND",
            "ENDPOINT",
            "SOURCE",
            "DESTINATION",
            "PACKETS",
            "BYTES",
            "REPLIES",
            "REPLY BYTES",
            "IDLE",
            "EXPIRES",
        ],
        &[6, 7, 8, 9, 10, 11],
        flows.iter().map(|f| {
            let (source, destination) = if f.proto.starts_with("icmp") {
                (Number::Echo, Number::Nothing)
            } else {
                (Number::Port, Number::Port)
            };
            vec![
                f.proto.clone(),
                f.state.clone(),
                f.kind.clone(),
                f.endpoint.clone().unwrap_or_else(|| "-".into()),
                half((f.src, f.sport), (f.nat_src, f.nat_sport), source),
                half((f.dst, f.dport), (f.nat_dst, f.nat_dport), destination),
                f.packets.to_string(),
                f.bytes.to_string(),
                f.reply_packets.to_string(),
                f.reply_bytes.to_string(),
                format!("{}s", f.idle_s),
                format!("{}s", f.expires_s),
            ]
        }),
    )
}

fn entries(entries: &[FdbLine]) -> String {
    table(
        &[
            "NETWORK", "MAC", "DEVICE", "KIND", "ENDPOINT", "STATIC", "AGE",
        ],
        &[6],
        entries.iter().map(|e| {
            vec![
                e.network.clone(),
                e.mac.clone(),
                e.device.clone(),
                e.kind.clone(),
                e.endpoint.clone().unwrap_or_else(|| "-".into()),
                yes(e.fixed),
                e.age_s.map_or_else(|| "-".into(), |age| format!("{age}s")),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_shows_what_translation_changed_and_only_that() {
        let line = FlowLine {
            kind: "masquerade".into(),
            proto: "tcp".into(),
            state: "established".into(),
            endpoint: Some("api".into()),
            client: None,
            publish: None,
            src: "10.210.0.2".parse().unwrap(),
            sport: 40000,
            dst: "2001:db8::1".parse().unwrap(),
            dport: 443,
            nat_src: "192.0.2.1".parse().unwrap(),
            nat_sport: 1024,
            nat_dst: "2001:db8::1".parse().unwrap(),
            nat_dport: 443,
            packets: 1,
            bytes: 2,
            reply_packets: 3,
            reply_bytes: 4,
            idle_s: 5,
            expires_s: 6,
        };
        let echo = FlowLine {
            proto: "icmp".into(),
            dport: 0,
            nat_dport: 0,
            ..line.clone()
        };
        let text = flows(&[echo]);
        assert!(
            text.contains("10.210.0.2 id 40000 => 192.0.2.1 id 1024  2001:db8::1  "),
            "{text}"
        );
        let text = flows(&[line]);
        assert!(
            text.contains("10.210.0.2:40000 => 192.0.2.1:1024  [2001:db8::1]:443  "),
            "{text}"
        );
    }
}
