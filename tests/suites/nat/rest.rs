//! Ports that were freed: with the strict profile they rest for 120 seconds, during which their own socket alone
//! has them (RFC 6888 REQ-8); with the balanced one they are free at once.

use anyhow::{Result, ensure};
use netd_common::mapping::QUARANTINE;
use netd_tests::lab::{Endpoint, Lab, wait};

use crate::{Side, talk, two_hosts};

/// Connections that are over go after as short a while as can be set.
const SHORT: &str = "[flows]\ntcp_transitory = 5\ntcp_closing = 5\ntcp_closed = 1\n";

/// Two ports of each: one that rests, and one whose rest is over.
const PORTS: [u16; 2] = [5600, 5601];

/// The outside port of a connection from `port` that is opened, used and closed.
fn passing(lab: &Lab, inside: &Endpoint, side: Side, port: u16) -> Result<u16> {
    // A server port of its own: the last one may remember the connection of before.
    let listener = lab.outside.tcp_listen(side.one, 0)?;
    let client = inside.tcp_connect_from(port, listener.local_addr()?)?;
    let (server, seen) = listener.accept()?;
    talk(&client, &server)?;
    // Who closes first has to wait before the port can be used again: not the endpoint.
    server.shutdown(std::net::Shutdown::Both)?;
    ensure!(std::io::Read::read(&mut &client, &mut [0])? == 0);
    Ok(seen.port())
}

/// Waits until no flow is left.
fn forgotten(lab: &Lab) -> Result<()> {
    wait::until("the connections to be forgotten", || {
        let flows: Vec<netd_api::FlowLine> =
            lab.node.netd_json(&["flow", "ls", "--proto", "tcp"])?;
        Ok(flows.is_empty().then_some(()))
    })
}

#[test]
fn a_freed_port_rests_in_a_strict_network_and_is_free_at_once_in_a_balanced_one() -> Result<()> {
    let lab = Lab::builder("nat-rest").config(SHORT).build()?;
    let sides = two_hosts(&lab)?;
    let strict = lab.network_with("strict", &["--masquerade-profile", "strict"])?;
    let balanced = lab.network("balanced")?;
    let (a, b) = (lab.endpoint("a", &strict)?, lab.endpoint("b", &strict)?);
    let (c, d) = (lab.endpoint("c", &balanced)?, lab.endpoint("d", &balanced)?);
    let free = PORTS.map(|port| port + 100);
    for side in sides {
        for port in PORTS {
            assert_eq!(passing(&lab, &a, side, port)?, port);
        }
        for port in free {
            assert_eq!(passing(&lab, &c, side, port)?, port);
        }
    }
    forgotten(&lab)?;
    let [rests, rested] = PORTS;
    for side in sides {
        for port in free {
            assert_eq!(passing(&lab, &d, side, port)?, port, "it is free");
        }
        ensure!(passing(&lab, &b, side, rests)? != rests, "it is not free");
        assert_eq!(passing(&lab, &a, side, rests)?, rests, "its own again");
    }
    // Nobody waits 120 seconds for it: the rows are made older by that, one of each family.
    assert_eq!(lab.node.age_resting(rested, QUARANTINE)?, 2);
    wait::until("a port that has rested to be free", || {
        Ok((!lab.node.maps_port(rested)?).then_some(()))
    })?;
    for side in sides {
        assert_eq!(passing(&lab, &b, side, rested)?, rested, "it has rested");
    }
    Ok(())
}
