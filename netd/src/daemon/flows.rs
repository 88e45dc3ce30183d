//! Flows as the API shows and ends them. The table itself is the data path's.

use std::net::IpAddr;

use ipnet::IpNet;
use netd_api::{EventKind, FlowFilter, FlowLine, Flushed, Proto};

use super::core::Core;
use super::error::Result;
use crate::datapath::FlowRecord;

impl Core {
    /// Ends the flows of endpoints, publishes and floating addresses that no longer exist: a daemon that was
    /// killed between removing their rows and ending their flows left them.
    pub(super) fn end_orphaned_flows(&mut self) {
        let desired = &self.desired;
        let floating = desired.floating.values().map(|f| f.address).collect();
        let gone = |number: u32| number != 0 && !desired.endpoints.contains_key(&number);
        let ended = self.node.datapath.flows_remove(&|f| {
            gone(f.endpoint)
                || gone(f.client)
                || (f.publish != 0 && !desired.publishes.contains_key(&f.publish))
                || f.lost_its_floating(&floating)
        });
        match ended {
            Ok(0) => {}
            Ok(n) => {
                let text = format!("{n} flows of removed endpoints and published ports ended");
                self.tell(EventKind::Removed, "flows", text);
            }
            Err(e) => tracing::warn!("{e}"),
        }
        let datapath = &mut self.node.datapath;
        let forgotten = datapath.flow_users().and_then(|users| {
            let mut gone = users.into_iter().filter(|n| gone(*n));
            gone.try_for_each(|n| datapath.flow_use_remove(n))
        });
        if let Err(e) = forgotten {
            tracing::warn!("{e}");
        }
    }

    /// Flows that fit a filter.
    pub fn list_flows(&self, filter: &FlowFilter) -> Result<Vec<FlowLine>> {
        let endpoint = self.wanted_endpoint(filter.endpoint.as_deref())?;
        let flows = self.node.datapath.flows()?;
        let fit = flows.iter().filter(|f| fits(f, filter, endpoint));
        Ok(fit.map(|f| self.show_flow(f)).collect())
    }

    /// Ends the flows that fit a filter.
    pub fn flush_flows(&mut self, filter: &FlowFilter) -> Result<Flushed> {
        let endpoint = self.wanted_endpoint(filter.endpoint.as_deref())?;
        let flows = self
            .node
            .datapath
            .flows_remove(&|f| fits(f, filter, endpoint))?;
        if flows > 0 {
            self.tell(
                EventKind::Removed,
                "flows",
                format!("{flows} flows flushed"),
            );
        }
        Ok(Flushed { flows })
    }

    /// The number of the endpoint that a filter names.
    pub(super) fn wanted_endpoint(&self, named: Option<&str>) -> Result<Option<u32>> {
        Ok(named
            .map(|e| self.desired.endpoint(e, None))
            .transpose()?
            .map(|e| e.number))
    }

    pub(super) fn show_flow(&self, f: &FlowRecord) -> FlowLine {
        FlowLine {
            kind: f.kind.name().to_owned(),
            proto: Proto::from_number(f.proto)
                .map_or_else(|| f.proto.to_string(), |p| p.name().into()),
            state: f.state.to_owned(),
            endpoint: self.endpoint_name(f.endpoint),
            client: self.endpoint_name(f.client),
            publish: self.desired.publishes.get(&f.publish).map(|p| p.spec.host),
            src: f.src.0,
            sport: f.src.1,
            dst: f.dst.0,
            dport: f.dst.1,
            nat_src: f.nat_src.0,
            nat_sport: f.nat_src.1,
            nat_dst: f.nat_dst.0,
            nat_dport: f.nat_dst.1,
            packets: f.original.0,
            bytes: f.original.1,
            reply_packets: f.reply.0,
            reply_bytes: f.reply.1,
            idle_s: f.idle_ns / 1_000_000_000,
            expires_s: f.expires_ns / 1_000_000_000,
        }
    }
}

/// Whether a flow fits, by what it was before translation or what it is after.
fn fits(f: &FlowRecord, filter: &FlowFilter, endpoint: Option<u32>) -> bool {
    let is = |wanted: Option<IpNet>, a: (IpAddr, u16), b: (IpAddr, u16)| {
        wanted.is_none_or(|net| net.contains(&a.0) || net.contains(&b.0))
    };
    let ports = [f.src.1, f.dst.1, f.nat_src.1, f.nat_dst.1];
    endpoint.is_none_or(|n| f.endpoint == n || f.client == n)
        && filter.proto.is_none_or(|p| p.number() == f.proto)
        && is(filter.src, f.src, f.nat_src)
        && is(filter.dst, f.dst, f.nat_dst)
        && filter.port.is_none_or(|p| ports.contains(&p))
}

#[cfg(test)]
mod tests {
    use netd_common::maps::FlowKind;

    use super::*;

    /// 10.0.0.2:4000 of endpoint 7 to 203.0.113.9:80, masqueraded as 192.0.2.1:5000.
    fn flow() -> FlowRecord {
        let at = |ip: &str, port| (ip.parse().unwrap(), port);
        FlowRecord {
            kind: FlowKind::Masquerade,
            proto: 6,
            endpoint: 7,
            network: 1,
            publish: 0,
            client: 8,
            src: at("10.0.0.2", 4000),
            dst: at("203.0.113.9", 80),
            nat_src: at("192.0.2.1", 5000),
            nat_dst: at("203.0.113.9", 80),
            original: (1, 60),
            reply: (0, 0),
            state: "syn_sent",
            idle_ns: 0,
            expires_ns: 1,
        }
    }

    #[test]
    fn a_filter_fits_before_or_after_translation_and_all_of_it_must() {
        for (endpoint, wanted) in [
            (None, true),
            (Some(7), true),
            (Some(8), true),
            (Some(9), false),
        ] {
            assert_eq!(fits(&flow(), &FlowFilter::default(), endpoint), wanted);
        }
        for (query, wanted) in [
            (r#"{"proto":"tcp"}"#, true),
            (r#"{"proto":"udp"}"#, false),
            (r#"{"src":"10.0.0.2"}"#, true),
            (r#"{"src":"10.0.0.9/24"}"#, true),
            (r#"{"src":"192.0.2.1"}"#, true),
            (r#"{"src":"203.0.113.9"}"#, false),
            (r#"{"src":"::/0"}"#, false),
            (r#"{"dst":"203.0.113.0/24"}"#, true),
            (r#"{"dst":"10.0.0.0/8"}"#, false),
            (r#"{"port":4000}"#, true),
            (r#"{"port":5000}"#, true),
            (r#"{"port":80}"#, true),
            (r#"{"port":81}"#, false),
            (r#"{"port":80,"src":"10.0.0.3"}"#, false),
        ] {
            let filter: FlowFilter = serde_json::from_str(query).unwrap();
            assert_eq!(fits(&flow(), &filter, None), wanted, "{query}");
        }
    }

    #[test]
    fn a_flow_by_a_floating_address_ends_when_that_is_none_any_more() {
        let all = ["192.0.2.1", "2001:db8::1"].map(|ip| ip.parse().unwrap());
        let all = std::collections::BTreeSet::from(all);
        let none = std::collections::BTreeSet::new();
        // Out with 192.0.2.1, and in by it.
        let out = FlowRecord {
            kind: FlowKind::Floating,
            ..flow()
        };
        let into = FlowRecord {
            src: out.dst,
            dst: out.nat_src,
            nat_src: out.dst,
            nat_dst: out.src,
            ..out.clone()
        };
        for flow in [out, into] {
            assert!(!flow.lost_its_floating(&all), "{flow:?}");
            assert!(flow.lost_its_floating(&none), "{flow:?}");
        }
        assert!(!flow().lost_its_floating(&none), "another kind");
    }

    #[test]
    fn a_flow_that_was_called_fits_by_either_side() {
        let published = FlowRecord {
            nat_dst: ("10.0.0.2".parse().unwrap(), 8080),
            ..flow()
        };
        let dst = Some(netd_api::address_or_prefix("10.0.0.2").unwrap());
        let filter = FlowFilter {
            dst,
            ..FlowFilter::default()
        };
        assert!(fits(&published, &filter, None) && !fits(&flow(), &filter, None));
        let port = Some(8080);
        assert!(fits(
            &published,
            &FlowFilter {
                port,
                ..FlowFilter::default()
            },
            None
        ));
    }
}
