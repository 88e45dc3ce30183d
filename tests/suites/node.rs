//! Node and endpoints reach each other, and the node's own traffic and settings stay its own.

use std::net::SocketAddr;

use anyhow::Result;
use netd_tests::both_modes;
use netd_tests::lab::topology::forward_policy;
use netd_tests::lab::{AttachMode, ForeignHook, Lab, Proto, Side, kernel_at_least};

fn node_and_endpoint_reach_each_other(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("node", mode)?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    let node = &*lab.node;
    for (v6, addr) in [(false, a.v4()), (true, a.v6())] {
        let gateway = web.gateway(v6)?;
        node.ping(addr)?;
        a.ping(gateway)?;
        for proto in Proto::ALL {
            assert_eq!(node.source_seen_by(proto, &a, addr, 8080)?.ip(), gateway);
            assert_eq!(a.source_seen_by(proto, node, gateway, 8080)?.ip(), addr);
        }
        let (to_ep, to_gw) = (SocketAddr::new(addr, 9000), SocketAddr::new(gateway, 9000));
        node.bulk_tcp(&a, to_ep, to_ep, 4)?;
        a.bulk_tcp(node, to_gw, to_gw, 4)?;
        node.udp_echo(&a, to_ep, to_ep, 8000)?;
        a.udp_echo(node, to_gw, to_gw, 8000)?;
    }
    Ok(())
}

fn an_endpoint_reaches_every_address_of_the_node(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("node-addresses", mode)?;
    let (web, db) = (lab.network("web")?, lab.network("db")?);
    let a = lab.endpoint("a", &web)?;
    for (to, from) in [(lab.node.v4(), a.v4()), (lab.node.v6(), a.v6())] {
        a.ping(to)?;
        for proto in Proto::ALL {
            assert_eq!(a.source_seen_by(proto, &lab.node, to, 8080)?.ip(), from);
        }
    }
    assert_ne!(db.gateways, web.gateways);
    Ok(())
}

fn a_foreign_program_on_the_uplink_sees_every_node_packet(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("foreign", mode)?;
    let hooks: &[ForeignHook] = match mode {
        AttachMode::Tcx => &[ForeignHook::Tcx, ForeignHook::Clsact],
        AttachMode::Clsact | AttachMode::Auto => &[ForeignHook::Clsact],
    };
    let (node, outside) = (&*lab.node, &lab.outside);
    for hook in hooks {
        let (rx, tx) = (
            lab.foreign(Side::Ingress, *hook)?,
            lab.foreign(Side::Egress, *hook)?,
        );
        let wire = node.capture(&node.device)?;
        for (to, proto) in [
            (outside.v4(), Proto::Tcp),
            (outside.v6(), Proto::Udp),
            (outside.v6(), Proto::Tcp),
        ] {
            node.ping_with(to, &["-c", "10", "-i", "0.002"])?;
            node.source_seen_by(proto, outside, to, 8080)?;
        }
        for to in [node.v4(), node.v6()] {
            outside.source_seen_by(Proto::Tcp, node, to, 8081)?;
        }
        let frames = wire.drain()?;
        let sent = frames.iter().filter(|f| f.outgoing).count() as u64;
        let received = frames.len() as u64 - sent;
        assert!(sent > 40 && received > 40, "{sent} {received}");
        // The closing segments of the last connection may still pass between the two counts.
        assert!(
            tx.packets()? >= sent,
            "{hook:?}: it saw {} of {sent} packets sent",
            tx.packets()?
        );
        assert!(
            rx.packets()? >= received,
            "{hook:?}: it saw {} of {received} packets received",
            rx.packets()?
        );
    }
    Ok(())
}

fn everything_works_while_the_node_forwards_nothing(mode: AttachMode) -> Result<()> {
    let lab = Lab::in_mode("forward-drop", mode)?;
    let Some(policy) = forward_policy(&lab.node) else {
        println!("SKIP: iptables");
        return Ok(());
    };
    assert_eq!(policy, "DROP");
    let web = lab.network("web")?;
    let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
    lab.publish("a", "8080:80")?;
    for (v6, peer, outside) in [
        (false, b.v4(), lab.outside.v4()),
        (true, b.v6(), lab.outside.v6()),
    ] {
        a.ping(peer)?;
        a.ping(web.gateway(v6)?)?;
        a.ping(outside)?;
        let _server = a.serve_source(Proto::Tcp, 80)?;
        let node = if v6 { lab.node.v6() } else { lab.node.v4() };
        assert_eq!(
            lab.outside
                .ask_source(Proto::Tcp, SocketAddr::new(node, 8080))?
                .ip(),
            outside
        );
    }
    lab.assert_untouched()
}

both_modes! {
    node_and_endpoint_reach_each_other;
    an_endpoint_reaches_every_address_of_the_node;
    a_foreign_program_on_the_uplink_sees_every_node_packet;
    everything_works_while_the_node_forwards_nothing;
}

#[test]
fn settings_rules_and_bridges_of_the_node_are_untouched() -> Result<()> {
    let lab = Lab::new("untouched")?;
    let web = lab.network("web")?;
    let a = lab.endpoint("a", &web)?;
    lab.publish("a", "8080:80")?;
    a.ping(lab.outside.v4())?;
    lab.assert_untouched()?;
    lab.node.netd_ok(&["detach", "a"])?;
    lab.node.netd_ok(&["network", "rm", "web"])?;
    lab.assert_untouched()?;
    lab.node.cleanup(&[])?.success()?;
    lab.assert_untouched()
}

#[test]
fn the_newest_hooks_of_the_kernel_are_used() -> Result<()> {
    let lab = Lab::new("auto")?;
    let status: netd_api::Status = lab.node.netd_json(&["status"])?;
    assert_eq!(
        status.attach_mode,
        if kernel_at_least(6, 6) {
            "tcx"
        } else {
            "clsact"
        }
    );
    Ok(())
}
