//! What the demo shows about the node itself: nothing of its own was touched.

use anyhow::{Result, ensure};

use super::Scene;
use crate::lab::topology::forward_policy;
use crate::lab::untouched::check_no_bridge;
use crate::lab::{ForeignHook, Side};

/// One line of the second table.
pub struct NodeLine {
    /// What is claimed.
    pub claim: &'static str,
    /// What was found.
    pub found: String,
    /// Whether it holds.
    pub holds: bool,
}

pub(super) fn run(scene: &Scene, attach_mode: &str) -> Vec<NodeLine> {
    let lab = &scene.lab;
    let node = &lab.node;
    let policy = match forward_policy(node) {
        Some(policy) => NodeLine {
            claim: "all of this with iptables -P FORWARD DROP",
            found: format!("FORWARD policy is {policy}"),
            holds: policy == "DROP",
        },
        None => NodeLine {
            claim: "all of this with iptables -P FORWARD DROP",
            found: "no iptables here: nothing is filtered".into(),
            holds: true,
        },
    };
    vec![
        policy,
        claim(
            "no netfilter rule made",
            "none",
            lab.before().check_netfilter(node),
        ),
        claim("no kernel bridge", "none", check_no_bridge(node)),
        claim(
            "global and uplink sysctls untouched",
            &format!("{} compared, none differs", lab.before().sysctls()),
            lab.before().check_sysctls(node),
        ),
        foreign(scene, attach_mode),
    ]
}

fn claim(claim: &'static str, found: &str, result: Result<()>) -> NodeLine {
    match result {
        Ok(()) => NodeLine {
            claim,
            found: found.to_owned(),
            holds: true,
        },
        Err(e) => NodeLine {
            claim,
            found: format!("{e:#}"),
            holds: false,
        },
    }
}

/// A program hooked behind netd's on the uplink must see the node's own packets, both ways.
fn foreign(scene: &Scene, attach_mode: &str) -> NodeLine {
    const PINGS: u64 = 10;
    let claim = "foreign programs on the uplink see every node packet";
    let lab = &scene.lab;
    let hook = if attach_mode == "tcx" {
        ForeignHook::Tcx
    } else {
        ForeignHook::Clsact
    };
    if hook == ForeignHook::Clsact && lab.node.run("tc", &["-V"]).is_err() {
        return NodeLine {
            claim,
            found: "not tried: no tc here".into(),
            holds: true,
        };
    }
    let count = || {
        let (rx, tx) = (
            lab.foreign(Side::Ingress, hook)?,
            lab.foreign(Side::Egress, hook)?,
        );
        let pings = PINGS.to_string();
        lab.node
            .ping_with(lab.outside.v4(), &["-c", &pings, "-i", "0.01", "-W", "5"])?;
        let (rx, tx) = (rx.packets()?, tx.packets()?);
        ensure!(
            rx >= PINGS && tx >= PINGS,
            "of {PINGS} pings it saw {tx} go and {rx} answered"
        );
        Ok(format!("{PINGS} pings: {tx} seen going, {rx} coming"))
    };
    match count() {
        Ok(found) => NodeLine {
            claim,
            found,
            holds: true,
        },
        Err(e) => NodeLine {
            claim,
            found: format!("{e:#}"),
            holds: false,
        },
    }
}
