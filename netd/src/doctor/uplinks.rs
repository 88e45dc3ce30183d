//! Checks of uplinks: addresses, MTUs, and who else is hooked on them. Pure.

use super::Check;
use super::facts::{Facts, Uplink};
use super::judge::{NOTHING_RUNS, missing, note, ok, unseen};

/// All checks of uplinks.
pub(super) fn judge(f: &Facts, all: &mut Vec<Check>) {
    let found = match &f.uplinks {
        Err(why) => return all.push(unseen("uplinks", why)),
        Ok(found) => found,
    };
    if found.is_empty() {
        all.push(note(
            "uplinks",
            "none: the node has no default route",
            "networks have no outside",
            "add a default route, or give --uplink",
        ));
    }
    for u in found {
        uplink(u, found.len(), all);
    }
    mtus(f, found, all);
}

fn uplink(u: &Uplink, count: usize, all: &mut Vec<Check>) {
    let name = format!("uplink {}", u.name);
    if !u.there {
        return all.push(missing(
            &name,
            "there is no such device",
            NOTHING_RUNS,
            "name another one with --uplink, or make it first",
        ));
    }
    let lacks = match (u.v4, u.v6) {
        (true, true) => None,
        (true, false) => Some("IPv6"),
        (false, true) => Some("IPv4"),
        (false, false) => Some("IPv4 or IPv6"),
    };
    all.push(match lacks {
        None => ok(&name, &format!("IPv4 and IPv6, MTU {}", u.mtu)),
        Some(family) => note(
            &name,
            format!("no {family} address, MTU {}", u.mtu),
            &format!("no {family} from networks to the outside"),
            "give it an address of the family, where that is wanted",
        ),
    });
    if let Some(why) = &u.hidden {
        all.push(unseen(&format!("hooks of {}", u.name), why));
        return;
    }
    let hooks = format!("hooks of {}", u.name);
    if u.foreign_xdp.is_empty() && u.foreign_tc.is_empty() {
        all.push(ok(&hooks, "no programs of others"));
    }
    if !u.foreign_tc.is_empty() {
        all.push(note(
            &hooks,
            format!("foreign: {}", u.foreign_tc.join(", ")),
            "they see what netd leaves to the node, after netd; by clsact the lower priority is first",
            "nothing, as long as they do not end the chain before netd",
        ));
    }
    all.push(if u.foreign_xdp.is_empty() {
        xdp(u)
    } else {
        note(
            &format!("XDP of {}", u.name),
            format!("foreign: {}", u.foreign_xdp.join(", ")),
            "netd's cannot be hooked: the deny list has no effect, and the uplink may be refused",
            "take it off, or run the daemon with --xdp off",
        )
    });
    let filter = format!("rp_filter of {}", u.name);
    all.push(match u.rp_filter {
        0 => ok(&filter, "off"),
        2 => ok(&filter, "loose"),
        _ if count < 2 => ok(&filter, "strict"),
        _ => note(
            &filter,
            "strict, and there are several uplinks",
            "what comes in by another uplink than its answer leaves by is dropped by the kernel",
            &format!("sysctl net.ipv4.conf.{}.rp_filter=2", u.name),
        ),
    });
}

fn mtus(f: &Facts, uplinks: &[Uplink], all: &mut Vec<Check>) {
    let least = uplinks.iter().filter(|u| u.there).map(|u| u.mtu).min();
    let (Some(least), Ok(daemon)) = (least, &f.daemon) else {
        return;
    };
    for n in daemon
        .networks
        .iter()
        .filter(|n| n.outside && n.mtu > least)
    {
        all.push(note(
            &format!("MTU of network {}", n.name),
            format!("{}, an uplink has {least}", n.mtu),
            "larger packets to the outside are dropped",
            &format!("make the network with --mtu {least}"),
        ));
    }
}

/// In which mode the daemon would hook XDP.
fn xdp(u: &Uplink) -> Check {
    let name = format!("XDP of {}", u.name);
    match (u.veth, u.native) {
        (true, _) => ok(
            &name,
            "generic: native on a veth takes its other end's offloads",
        ),
        (false, Some(true)) => ok(&name, "native: the driver can"),
        (false, None) => ok(&name, "native if the driver can, else generic"),
        (false, Some(false)) => note(
            &name,
            "generic: the driver cannot run it itself",
            "what XDP drops has cost an allocation before",
            "nothing, or a network card with native XDP",
        ),
    }
}
