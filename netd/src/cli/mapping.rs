//! `netd mapping ls`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use netd_api::{MappingFilter, MappingLine, Proto};

use super::flow::{FlowProto, Number, side};
use super::output::table;
use super::{Context, Outcome, values};

/// Verbs on mappings.
#[derive(Debug, Subcommand)]
pub enum Mapping {
    /// List mappings; all options that are given must fit
    #[command(
        visible_alias = "list",
        after_help = "Examples:\n  netd mapping ls\n  netd mapping ls --endpoint api --proto udp"
    )]
    Ls(Filter),
}

/// Which mappings.
#[derive(Debug, Args)]
pub struct Filter {
    /// Of this endpoint: name or id
    #[arg(long, value_name = "EP", value_parser = values::endpoint)]
    endpoint: Option<String>,
    /// Of the endpoints of this network
    #[arg(long, value_parser = values::name)]
    network: Option<String>,
    /// Of this protocol
    #[arg(long)]
    proto: Option<FlowProto>,
    /// With this inside or outside port (echo: identifier)
    #[arg(long, value_name = "N")]
    port: Option<u16>,
}

impl From<Filter> for MappingFilter {
    fn from(f: Filter) -> Self {
        Self {
            endpoint: f.endpoint,
            network: f.network,
            proto: f.proto.map(Proto::from),
            port: f.port,
        }
    }
}

/// Runs a verb on mappings.
pub async fn mapping(verb: Mapping, ctx: &Context) -> Outcome {
    let Mapping::Ls(filter) = verb;
    ctx.out
        .show(&ctx.client.mappings(&filter.into()).await?, |all| {
            lines(all)
        })?;
    Ok(ExitCode::SUCCESS)
}

fn lines(all: &[MappingLine]) -> String {
    table(
        &[
            "PROTO",
            "NETWORK",
            "ENDPOINT",
            "INSIDE",
            "OUTSIDE",
            "PROFILE",
            "FILTERING",
            "STATE",
            "FLOWS",
            "AGE",
            "EXPIRES",
        ],
        &[8, 9, 10],
        all.iter().map(|m| {
            let kind = if m.proto.starts_with("icmp") {
                Number::Echo
            } else {
                Number::Port
            };
            let none = || "-".to_owned();
            vec![
                m.proto.clone(),
                m.network.clone().unwrap_or_else(none),
                m.endpoint.clone().unwrap_or_else(none),
                side((m.inside, m.inside_port), kind),
                side((m.outside, m.outside_port), kind),
                m.profile.to_string(),
                m.filtering.to_string(),
                m.state.clone(),
                m.flows.to_string(),
                format!("{}s", m.age_s),
                format!("{}s", m.expires_s),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use netd_api::{Filtering, Profile};

    use super::*;

    #[test]
    fn a_mapping_shows_both_of_its_sockets_and_when_its_port_is_free() {
        let line = MappingLine {
            proto: "udp".into(),
            endpoint: Some("api".into()),
            network: Some("web".into()),
            inside: "fd80::2".parse().unwrap(),
            inside_port: 5_000,
            outside: "2001:db8::1".parse().unwrap(),
            outside_port: 6_000,
            profile: Profile::Strict,
            filtering: Filtering::Address,
            state: "quarantine".into(),
            flows: 0,
            age_s: 61,
            expires_s: 119,
        };
        let shown = lines(&[line]);
        let words: Vec<&str> = shown.lines().last().unwrap().split_whitespace().collect();
        let wanted = [
            "udp",
            "web",
            "api",
            "[fd80::2]:5000",
            "[2001:db8::1]:6000",
            "strict",
            "address",
            "quarantine",
            "0",
            "61s",
            "119s",
        ];
        assert_eq!(words, wanted);
    }
}
