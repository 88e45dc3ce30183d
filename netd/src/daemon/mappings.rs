//! Mappings as the API shows them. The table itself is the data path's.

use netd_api::{Filtering, MappingFilter, MappingLine, Profile, Proto};

use super::core::Core;
use super::error::Result;
use crate::datapath::{Filter, MappingRecord};

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;

impl Core {
    /// Mappings that fit a filter, by endpoint, protocol and inside socket.
    pub fn list_mappings(&self, filter: &MappingFilter) -> Result<Vec<MappingLine>> {
        let endpoint = self.wanted_endpoint(filter.endpoint.as_deref())?;
        let network = filter.network.as_deref().map(|n| self.desired.network(n));
        let network = network.transpose()?.map(|n| n.number);
        let all = self.node.datapath.mappings()?;
        let fit = all.iter().filter(|m| {
            endpoint.is_none_or(|n| m.endpoint == n)
                && network.is_none_or(|n| m.network == n)
                && filter.proto.is_none_or(|p| m.proto == p.number())
                && filter
                    .port
                    .is_none_or(|p| [m.inside.1, m.outside.1].contains(&p))
        });
        let mut lines: Vec<MappingLine> = fit.map(|m| self.show_mapping(m)).collect();
        lines
            .sort_by_cached_key(|l| (l.endpoint.clone(), l.proto.clone(), l.inside, l.inside_port));
        Ok(lines)
    }

    fn show_mapping(&self, m: &MappingRecord) -> MappingLine {
        MappingLine {
            proto: Proto::from_number(m.proto)
                .map_or_else(|| m.proto.to_string(), |p| p.name().into()),
            endpoint: self.endpoint_name(m.endpoint),
            network: (m.network != 0).then(|| self.network_name(m.network).to_owned()),
            inside: m.inside.0,
            inside_port: m.inside.1,
            outside: m.outside.0,
            outside_port: m.outside.1,
            profile: if m.strict {
                Profile::Strict
            } else {
                Profile::Balanced
            },
            filtering: match m.filter {
                Filter::Any => Filtering::EndpointIndependent,
                Filter::Address => Filtering::Address,
                Filter::AddressAndPort => Filtering::AddressPort,
            },
            state: m.state.to_owned(),
            flows: m.flows,
            age_s: m.age_ns / SECOND,
            expires_s: m.expires_ns / SECOND,
        }
    }
}
