//! Options of masquerade: what a network asks for over what the daemon says, and what the node's ports
//! have to do with it.

use netd_api::{Filtering, MasqueradePorts, Profile};
use netd_common::maps::SILENT;
use serde::{Deserialize, Serialize};

use super::{ModelError, Network};

/// What a network or the daemon asks for; what is left out comes from the daemon, else is a default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Profile.
    pub profile: Option<Profile>,
    /// Filtering.
    pub filtering: Option<Filtering>,
    /// Outside ports.
    pub ports: Option<MasqueradePorts>,
}

impl Options {
    /// These, and `others` where they do not say.
    #[must_use]
    pub fn or(self, others: Self) -> Self {
        Self {
            profile: self.profile.or(others.profile),
            filtering: self.filtering.or(others.filtering),
            ports: self.ports.or(others.ports),
        }
    }

    /// The profile of a network with these options.
    pub fn profile(self) -> Profile {
        self.profile.unwrap_or_default()
    }

    /// The filtering of a network with these options.
    pub fn filtering(self) -> Filtering {
        self.filtering.unwrap_or(self.profile().filtering())
    }

    /// The outside ports of a network with these options.
    pub fn ports(self) -> MasqueradePorts {
        self.ports.unwrap_or_default()
    }

    /// The first of the options that is asked for, for an error: its name and value.
    fn first(self) -> Option<(&'static str, String)> {
        let profile = self.profile.map(|p| ("masquerade profile", p.to_string()));
        let ports = self.ports.map(|p| ("masquerade ports", p.to_string()));
        profile
            .or_else(|| self.filtering.map(|f| ("filtering", f.to_string())))
            .or(ports)
    }
}

/// Refuses options of masquerade for a network that has none.
pub(super) fn check(network: &Network, asked: Options) -> Result<(), ModelError> {
    let Some((what, value)) = asked.first() else {
        return Ok(());
    };
    let why = match (network.internal, network.masquerade) {
        (true, _) => "the network is internal, so its traffic does not leave",
        (_, false) => "the network's traffic is not masqueraded",
        (false, true) => return Ok(()),
    };
    Err(ModelError::Value {
        what,
        value,
        why: why.into(),
    })
}

/// The ports of masquerade at which the node keeps quiet towards strangers: those the daemon's options and
/// the networks ask for, and the default ones where a strict network uses them. In order, apart.
pub fn silent<'a>(
    daemon: Options,
    networks: impl Iterator<Item = &'a Network>,
) -> Vec<MasqueradePorts> {
    let of = |network: &'a Network| {
        let options = network.options.or(daemon);
        let strict = options.profile() == Profile::Strict;
        let ports = options
            .ports
            .or(strict.then_some(MasqueradePorts::DEFAULT))?;
        network.masquerades().then_some(ports)
    };
    let mut all: Vec<_> = networks.filter_map(of).chain(daemon.ports).collect();
    all.sort_unstable();
    let mut out: Vec<MasqueradePorts> = Vec::new();
    for ports in all {
        let joined = out.last().and_then(|last| {
            let adjoins = u32::from(ports.first()) <= u32::from(last.last()) + 1;
            let end = last.last().max(ports.last());
            adjoins.then(|| MasqueradePorts::new(last.first(), end).ok())?
        });
        match (joined, out.last_mut()) {
            (Some(joined), Some(last)) => *last = joined,
            _ => out.push(ports),
        }
    }
    out
}

/// Refuses a change after which there are more separate ranges than the programs compare a port with. Were
/// there too many before, as other options of the daemon may have it, what leaves them or makes them fewer is
/// fine.
pub fn check_silent<'a>(
    daemon: Options,
    before: impl Iterator<Item = &'a Network>,
    after: impl Iterator<Item = &'a Network>,
) -> Result<(), ModelError> {
    let ranges = silent(daemon, after);
    let before = silent(daemon, before);
    if ranges.len() <= SILENT || ranges.len() < before.len() || ranges == before {
        return Ok(());
    }
    Err(too_many(&ranges))
}

/// What is wrong with more separate ranges than there is room for.
pub fn too_many(ranges: &[MasqueradePorts]) -> ModelError {
    let list: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    ModelError::Value {
        what: "masquerade ports",
        value: list.join(", "),
        why: format!(
            "a node can have {SILENT} separate ranges, its networks' and the daemon's together; choose ports next to one of the others"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::desired::tests::{empty, network};

    fn ports(text: &str) -> Option<MasqueradePorts> {
        text.parse().ok()
    }

    fn with(f: impl FnOnce(&mut Options)) -> Options {
        let mut options = Options::default();
        f(&mut options);
        options
    }

    fn net(options: Options) -> Network {
        let mut d = empty();
        let number = network(&mut d, "web", &["10.1.0.0/24"]);
        Network {
            options,
            ..d.networks[&number].clone()
        }
    }

    #[test]
    fn what_a_network_does_not_say_the_daemon_does_and_else_the_profile() {
        let none = Options::default();
        assert_eq!(
            (none.profile(), none.filtering(), none.ports()),
            (
                Profile::Balanced,
                Filtering::AddressPort,
                MasqueradePorts::DEFAULT
            )
        );
        let strict = with(|o| o.profile = Some(Profile::Strict));
        assert_eq!(none.or(strict).filtering(), Filtering::Address);
        let daemon = Options {
            profile: Some(Profile::Strict),
            filtering: Some(Filtering::AddressPort),
            ports: ports("2000-3000"),
        };
        assert_eq!(none.or(daemon), daemon);
        let own = Options {
            profile: Some(Profile::Balanced),
            filtering: Some(Filtering::EndpointIndependent),
            ports: ports("4000-4999"),
        };
        assert_eq!(own.or(daemon), own);
        let one = with(|o| o.ports = ports("4000-4999"));
        assert_eq!(
            one.or(daemon),
            Options {
                ports: one.ports,
                ..daemon
            }
        );
    }

    #[test]
    fn the_node_is_silent_where_somebody_asked_for_ports_and_for_strict_networks() {
        let none = Options::default();
        let strict = with(|o| o.profile = Some(Profile::Strict));
        let span = |text: &str| with(|o| o.ports = ports(text));
        let both = |text: &str| Options {
            ports: ports(text),
            ..strict
        };
        for (daemon, networks, wanted) in [
            (none, vec![none, none], vec![]),
            (span("20-30"), vec![], vec!["20-30"]),
            (none, vec![strict, none], vec!["1024-65535"]),
            (strict, vec![none], vec!["1024-65535"]),
            (strict, vec![], vec![]),
            (none, vec![both("20-30"), none], vec!["20-30"]),
            (both("20-30"), vec![none], vec!["20-30"]),
            (
                span("40-50"),
                vec![span("20-30"), span("25-35")],
                vec!["20-35", "40-50"],
            ),
            (
                none,
                vec![span("20-30"), span("31-31"), span("33-33")],
                vec!["20-31", "33-33"],
            ),
            (none, vec![span("20-60"), span("30-40")], vec!["20-60"]),
            (
                none,
                vec![span("9-65535"), span("65535-65535")],
                vec!["9-65535"],
            ),
            (
                none,
                vec![strict, span("20-30"), span("1000-1023")],
                vec!["20-30", "1000-65535"],
            ),
        ] {
            let networks: Vec<Network> = networks.into_iter().map(net).collect();
            let found = silent(daemon, networks.iter());
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found, wanted);
        }
        // A network that is not masqueraded asks for nothing.
        for change in [
            |n: &mut Network| n.masquerade = false,
            |n: &mut Network| n.gateways.clear(),
        ] {
            let mut off = net(strict);
            change(&mut off);
            assert!(silent(none, [off].iter()).is_empty());
        }
    }

    #[test]
    fn more_separate_ranges_than_there_is_room_for_are_refused() {
        let span = |n: u32| with(|o| o.ports = ports(&format!("{}-{}", n * 100, n * 100 + 9)));
        let all: Vec<Network> = (1..=5).map(|n| net(span(n))).collect();
        let four = || all[..4].iter();
        let none = || [].iter();
        assert_eq!(check_silent(Options::default(), none(), four()), Ok(()));
        assert_eq!(check_silent(span(3), none(), four()), Ok(()));
        for (daemon, before, after) in [
            (span(5), none(), four()),
            (Options::default(), four(), all.iter()),
            (span(9), four(), all.iter()),
        ] {
            let e = check_silent(daemon, before, after).unwrap_err().to_string();
            assert!(
                e.contains("100-109, 200-209") && e.contains("4 separate"),
                "{e}"
            );
        }
        // The daemon's options are to blame: what makes it no worse is no longer in the way.
        assert_eq!(check_silent(span(9), four(), four()), Ok(()));
        assert_eq!(check_silent(span(9), four(), all[..2].iter()), Ok(()));
    }
}
