//! What must hold of each run, whatever the frame was. Read by `netd_fuzz::read`, not by netd.

use netd_common::reason::{DropReason, Hook, REASONS};
use netd_common::tuple::proto;
use netd_fuzz::case::{At, Case};
use netd_fuzz::cast::{Cast, Who};
use netd_fuzz::host::{allowed, as_right};
use netd_fuzz::read::{self, Ip};

use super::super::run::Action;
use super::super::world::World;
use super::fast::Run;
use super::scene::{LIMITED, PUBLISHED, Scene};
use super::tally::Met;

/// Judges a run.
pub fn judge(world: &World, scene: Scene, case: &Case, run: &Run) -> Result<Met, String> {
    let (action, reason) = verdict(run, case)?;
    let cast = Cast::new();
    let met = (run.hook, action, reason);
    if reason.is_some() {
        if action == Action::Redirect {
            told(&cast, case, run)?;
        }
        return Ok(met);
    }
    if run.hook == Hook::Xdp {
        return unchanged(case, run).map(|()| met);
    }
    if let At::EpOut(n) = case.at {
        let who = &cast.endpoints[usize::from(n)];
        if !(scene.learns() && n == 1) {
            allowed(who, &case.frame).map_err(|e| format!("an endpoint sent {e}"))?;
        }
    }
    match action {
        // Copies were sent, of the frame as it came.
        Action::Drop => flooded(&cast, case)?,
        Action::Next => stays(&cast, case, run)?,
        Action::Redirect => leaves(world, scene, &cast, case, run)?,
    }
    Ok(met)
}

/// One counter, raised by this packet, that fits what the program answered, which fits the hook.
fn verdict(run: &Run, case: &Case) -> Result<(Action, Option<DropReason>), String> {
    let fragment = read::ip(&case.frame).is_some_and(|ip| ip.fragment);
    // The one that has waited longest may be given up for this one, and is counted apart: as too many
    // when it has waited less than 2 s, which is a matter of how fast the cases come.
    let given_up = |(index, packets, _): &(usize, u64, u64)| {
        let reason = DropReason::from_code((index % REASONS as usize) as u8);
        let waited = matches!(
            reason,
            Some(DropReason::FragTimeout | DropReason::FragLimit)
        );
        fragment && *packets == 1 && waited
    };
    let mut counted = run.counted.clone();
    if counted.len() == 2
        && let Some(at) = counted.iter().position(given_up)
    {
        counted.remove(at);
    }
    let [(index, packets, bytes)] = counted[..] else {
        return Err(format!("counted {:?}", run.counted));
    };
    let length = bytes == case.frame.len() as u64 || bytes == run.out.len() as u64;
    let (hook, code) = (index / REASONS as usize, index % REASONS as usize);
    if packets != 1 || !length || hook != run.hook as usize {
        return Err(format!(
            "counted {:?}, is {} bytes",
            run.counted,
            case.frame.len()
        ));
    }
    let reason = match code {
        0 => None,
        code => {
            Some(DropReason::from_code(code as u8).ok_or_else(|| format!("counted as {code}"))?)
        }
    };
    // XDP_DROP, TC_ACT_SHOT.
    let dropped = if run.hook == Hook::Xdp { 1 } else { 2 };
    let action = match (run.hook, run.answer) {
        (Hook::EpOut | Hook::GwOut | Hook::UpIn, 7) => Action::Redirect,
        (Hook::UpIn | Hook::UpOut, -1) | (Hook::Xdp, 2) => Action::Next,
        (_, answer) if answer == dropped => Action::Drop,
        (hook, answer) => return Err(format!("{} answered {answer}", hook.name())),
    };
    // Copies of a flood; a fragment that waits is one, too.
    let copied = fragment || matches!(run.hook, Hook::EpOut | Hook::GwOut);
    match (action, reason) {
        (Action::Drop, None) if !copied => Err("dropped, counted as passed".into()),
        // Its sender is told: see there.
        (Action::Redirect, Some(_)) if matches!(run.hook, Hook::EpOut | Hook::UpIn) => {
            Ok((action, reason))
        }
        (Action::Next | Action::Redirect, Some(r)) => {
            Err(format!("{action:?}, counted as {}", r.name()))
        }
        _ => Ok((action, reason)),
    }
}

/// An ICMP error about a packet that died, back to who sent it, from the node, with the packet as it came.
fn told(cast: &Cast, case: &Case, run: &Run) -> Result<(), String> {
    let asked = read::ip(&case.frame).ok_or("an answer to what is no whole packet")?;
    let answer = read::ip(&run.out).ok_or("an answer that is no whole packet")?;
    let ours = cast.gateways.iter().chain(&cast.node);
    if !ours.into_iter().any(|who| is(who, &answer.src)) || answer.dst != asked.src {
        return Err(format!("from {:?} to {:?}", answer.src, answer.dst));
    }
    if run.out[..6] != case.frame[6..12] || run.out[6..12] != case.frame[..6] {
        return Err("an answer to another MAC".into());
    }
    if asked.later || asked.is_error(&case.frame) || !answer.is_error(&run.out) {
        return Err("an answer that is no error, or to one".into());
    }
    let (header, l4) = (answer.header_error(&run.out), answer.l4_error(&run.out));
    if (header, l4) != (0, Some(0)) {
        return Err(format!("an answer is wrong by {header} and {l4:?}"));
    }
    let quote = &run.out[answer.l4 + 8..answer.end];
    if quote.len() < 28.min(asked.end - 14) || !case.frame[14..].starts_with(quote) {
        return Err("an answer quotes another packet".into());
    }
    Ok(())
}

fn unchanged(case: &Case, run: &Run) -> Result<(), String> {
    if run.out == case.frame {
        Ok(())
    } else {
        Err("changed, and must not be".into())
    }
}

/// Floods are for groups, and for MACs that nobody of the network has.
fn flooded(cast: &Cast, case: &Case) -> Result<(), String> {
    if read::ip(&case.frame).is_some_and(|ip| ip.fragment) {
        return Ok(());
    }
    let to = &case.frame[..6];
    let network = match case.at {
        At::EpOut(2) | At::GwOut(1) => 1,
        _ => 0,
    };
    let here = if network == 0 {
        &cast.endpoints[..2]
    } else {
        &cast.endpoints[2..]
    };
    let known = here
        .iter()
        .chain([&cast.gateways[network]])
        .any(|w| w.mac == to);
    let link_only = to[..5] == [1, 0x80, 0xc2, 0, 0] && (1..16).contains(&to[5]);
    if known || link_only {
        Err(format!("flooded to {to:02x?}"))
    } else {
        Ok(())
    }
}

/// The destination a stack would route by, read as loosely as a stack might.
fn destination(frame: &[u8]) -> Option<&[u8]> {
    match read::ethertype(frame)? {
        0x0800 => frame.get(30..34),
        0x86dd => frame.get(38..54),
        _ => None,
    }
}

fn is(who: &Who, address: &[u8]) -> bool {
    who.v4 == address || who.v6 == address
}

fn any(list: &[Who], address: &[u8]) -> bool {
    list.iter().any(|who| is(who, address))
}

/// To the stack, or out to the wire.
fn stays(cast: &Cast, case: &Case, run: &Run) -> Result<(), String> {
    if run.out != case.frame {
        as_right(&case.frame, &run.out)?;
    }
    match case.at {
        At::UpIn => {
            let for_us = case.frame[..6] == cast.node[0].mac;
            let to = destination(&run.out);
            if for_us && to.is_some_and(|to| any(&cast.endpoints, to)) {
                return Err("the stack may route it to an endpoint".into());
            }
        }
        At::UpOut => {
            // What netd can read it must translate.
            if let Some(ip) = read::ip(&run.out)
                && ip.ports(&run.out).is_some()
                && any(&cast.endpoints, &ip.src)
            {
                return Err("an endpoint's own address leaves".into());
            }
        }
        At::EpOut(_) | At::GwOut(_) | At::Xdp => {}
    }
    Ok(())
}

/// To another device.
fn leaves(world: &World, scene: Scene, cast: &Cast, case: &Case, run: &Run) -> Result<(), String> {
    // What the node's own stack sends to a network is not looked into.
    if matches!(case.at, At::GwOut(_)) && run.out == case.frame {
        return Ok(());
    }
    let (before, after) = (read::ip(&case.frame), read::ip(&run.out));
    if read::ethertype(&run.out) == Some(0x0806) && run.out.len() >= 42 {
        return Ok(());
    }
    let Some(after) = after else {
        return Err(format!("a runt of {} bytes is sent on", run.out.len()));
    };
    if run.out == case.frame {
        return match case.at {
            At::UpIn => Err("from outside to a device as it is".into()),
            _ => Ok(()),
        };
    }
    if is_answer(&case.frame, before.as_ref(), &run.out, &after) {
        return match after.l4_error(&run.out) {
            Some(0) => Ok(()),
            other => Err(format!("an advertisement is wrong by {other:?}")),
        };
    }
    let before = before.ok_or("sent on, though no whole packet")?;
    as_right(&case.frame, &run.out)?;
    if before.ttl < 2 || after.ttl != before.ttl - 1 {
        return Err(format!("time to live {} became {}", before.ttl, after.ttl));
    }
    let to_endpoint = cast.endpoints.iter().position(|who| is(who, &after.dst));
    match (case.at, to_endpoint) {
        (At::UpIn, Some(_)) => admitted(world, cast, case, &before),
        // Somebody behind `B`, who has begun the flow.
        (At::UpIn, None) if scene.learns() && in_first_network(&after.dst) => {
            admitted(world, cast, case, &before)
        }
        (At::UpIn, None) => Err(format!("sent back out, to {:x?}", after.dst)),
        (At::EpOut(_), None) if any(&cast.endpoints, &after.src) => {
            Err("an endpoint's own address leaves".into())
        }
        (At::EpOut(n), Some(to)) => {
            let same_network = (n == 2) == (to == 2);
            let called = any(&cast.node, &before.dst) || any(&cast.gateways, &before.dst);
            if same_network || called || before.dst != after.dst {
                Ok(())
            } else {
                Err("to an endpoint of another network".into())
            }
        }
        _ => Ok(()),
    }
}

/// In the network of `A` and `B`: `10.1.0.0/24` or `fd00:1::/64`.
fn in_first_network(address: &[u8]) -> bool {
    address.starts_with(&[10, 1, 0]) || address.starts_with(&[0xfd, 0, 0, 1, 0, 0, 0, 0])
}

fn is_answer(frame: &[u8], before: Option<&Ip>, out: &[u8], after: &Ip) -> bool {
    let asked = before.is_some_and(|ip| ip.v6 && frame.get(ip.l4) == Some(&135));
    asked && after.v6 && out.get(after.l4) == Some(&136)
}

/// From outside to an endpoint: on a flow, or by a published port.
fn admitted(world: &World, cast: &Cast, case: &Case, ip: &Ip) -> Result<(), String> {
    // It follows its first one, which is judged.
    if ip.later {
        return Ok(());
    }
    if ip.is_error(&case.frame) {
        return quotes_a_flow(world, case, ip);
    }
    let (sport, dport) = match ip.first_ports(&case.frame) {
        Some(ports) => ports,
        // Others are known by their addresses alone.
        None if !matches!(
            ip.proto,
            proto::TCP | proto::UDP | proto::ICMP | proto::ICMPV6
        ) =>
        {
            (0, 0)
        }
        None => return Err("without ports to an endpoint".into()),
    };
    let Some(flow) = world.flow_of(&ip.src, &ip.dst, sport, dport, ip.proto) else {
        return Err("from outside to an endpoint, of no flow".into());
    };
    if !flow.begun_outside {
        return Ok(());
    }
    let published = any(&cast.node, &ip.dst) || any(&cast.gateways, &ip.dst);
    let allowed = dport == PUBLISHED || (dport == LIMITED && is(&cast.outside[1], &ip.src));
    if published && allowed {
        Ok(())
    } else {
        Err(format!("port {dport} is not published for {:?}", ip.src))
    }
}

/// An ICMP error from outside to an endpoint: about a packet of a flow, sent to who is said to complain of it.
fn quotes_a_flow(world: &World, case: &Case, ip: &Ip) -> Result<(), String> {
    let Some((inner, (sport, dport))) = ip.quoted(&case.frame) else {
        return Err("an error about nothing, to an endpoint".into());
    };
    let flow = world.flow_of(&inner.dst, &inner.src, dport, sport, inner.proto);
    if flow.is_some() && inner.src == ip.dst {
        Ok(())
    } else {
        Err("an error about no flow, to an endpoint".into())
    }
}
