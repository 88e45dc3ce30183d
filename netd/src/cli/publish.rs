//! `netd publish`, `netd unpublish` and `netd published`.

use std::process::ExitCode;

use clap::Args;
use ipnet::IpNet;
use netd_api::{HostSpec, PublishSpec, Published};

use super::output::table;
use super::{Context, Outcome, output, values};

/// `netd publish`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    netd publish api 8080:80                     on every address of the node, IPv4 and IPv6\n  \
                                                 (or on publish.addresses of the configuration)\n  \
    netd publish api 192.0.2.1:5353:53/udp       on one address\n  \
    netd publish api '[2001:db8::1]:8080:80'     on one IPv6 address\n  \
    netd publish api 8000-8009:80-89             a range\n  \
    netd publish api 0:80                        on any free port, which is printed\n  \
    netd publish api 8080:80 --from 192.0.2.0/24 --from 2001:db8::/32    for these sources alone")]
pub struct Publish {
    /// Endpoint: name, id, unique prefix of the id, or a target with exactly one
    #[arg(value_name = "EP", value_parser = values::endpoint)]
    endpoint: String,
    /// [HOSTIP:|[HOSTIP6]:]HOSTPORT[-END]:PORT[-END][/tcp|udp]
    #[arg(value_name = "SPEC", required = true)]
    specs: Vec<PublishSpec>,
    /// Who may come to these ports, repeatable: a prefix or an address [default: everybody]
    #[arg(long, value_name = "CIDR", value_parser = values::source)]
    from: Vec<IpNet>,
}

/// `netd unpublish`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  netd unpublish 8080\n  netd unpublish 192.0.2.1:5353/udp")]
pub struct Unpublish {
    /// The outside half of what was published: [HOSTIP:|[HOSTIP6]:]HOSTPORT[-END][/tcp|udp]
    #[arg(value_name = "HOSTSPEC", required = true)]
    specs: Vec<HostSpec>,
}

/// `netd published`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  netd published\n  netd published api -o json")]
pub struct List {
    /// Only of this endpoint
    #[arg(value_name = "EP", value_parser = values::endpoint)]
    endpoint: Option<String>,
}

/// The same specs, for these sources.
pub fn limited(mut specs: Vec<PublishSpec>, from: &[IpNet]) -> Vec<PublishSpec> {
    for spec in &mut specs {
        spec.from = from.to_vec();
    }
    specs
}

/// Publishes, and prints each mapping with the port it got.
pub async fn publish(verb: Publish, ctx: &Context) -> Outcome {
    let specs = limited(verb.specs, &verb.from);
    let published = ctx.client.publish(&verb.endpoint, &specs).await?;
    ctx.out.show(&published, |all| {
        all.iter().map(|p| p.spec.to_string() + "\n").collect()
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Takes published ports back.
pub async fn unpublish(verb: Unpublish, ctx: &Context) -> Outcome {
    ctx.client.unpublish(&verb.specs).await?;
    Ok(ExitCode::SUCCESS)
}

/// Lists published ports.
pub async fn list(verb: List, ctx: &Context) -> Outcome {
    let published = ctx.client.published(verb.endpoint.as_deref()).await?;
    ctx.out.show(&published, |all| lines(all))?;
    Ok(ExitCode::SUCCESS)
}

fn range(first: u16, last: u16) -> String {
    if first == last {
        first.to_string()
    } else {
        format!("{first}-{last}")
    }
}

fn lines(published: &[Published]) -> String {
    table(
        &[
            "HOST ADDRESS",
            "HOST PORT",
            "PROTO",
            "ENDPOINT",
            "PORT",
            "NETWORK",
            "FROM",
        ],
        &[],
        published.iter().map(|p| {
            let host = &p.spec.host;
            vec![
                host.host_ip
                    .map_or_else(|| "any".into(), |ip| ip.to_string()),
                range(host.host_port, host.host_end),
                host.proto.to_string(),
                p.endpoint.clone(),
                range(p.spec.port, p.spec.end),
                p.network.clone(),
                if p.spec.from.is_empty() {
                    "any".into()
                } else {
                    output::list(&p.spec.from)
                },
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_shown_by_half() {
        let one = |spec: &str| Published {
            endpoint: "api".into(),
            network: "web".into(),
            spec: spec.parse().unwrap(),
            owner: "cli".into(),
        };
        let text = lines(&[one("8000-8009:80-89"), one("[::1]:53:5353/udp")]);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .map(|l| l.split_whitespace().collect())
            .collect();
        assert_eq!(
            rows[1],
            ["any", "8000-8009", "tcp", "api", "80-89", "web", "any"]
        );
        assert_eq!(rows[2], ["::1", "53", "udp", "api", "5353", "web", "any"]);
    }
}
