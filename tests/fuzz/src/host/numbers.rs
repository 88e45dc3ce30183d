//! Arithmetic on numbers taken from any bytes.

use bytemuck::Zeroable;
use netd_common::addr::V4;
use netd_common::checksum::{self, Delta};
use netd_common::flow::{self, State, Timeouts, life, note, seen, tcp_state};
use netd_common::maps::{Flow, flow_flags};
use netd_common::nat::{PortRange, TRIES, candidate};
use netd_common::storm;

use crate::build::sum;

/// Numbers from an input; behind its end they are zero.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let n = N.min(self.0.len());
        out[..n].copy_from_slice(&self.0[..n]);
        self.0 = &self.0[n..];
        out
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take())
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }
}

pub fn check(input: &[u8]) -> Result<(), String> {
    let mut n = Numbers(input);
    checksums(&mut n, input)?;
    states(&mut n)?;
    lives(&mut n)?;
    ports(&mut n)?;
    bucket(&mut n)
}

fn checksums(n: &mut Numbers, input: &[u8]) -> Result<(), String> {
    let of = checksum::of(input);
    let plain = (!sum(input, 0)).to_be_bytes();
    if of != plain {
        return Err(format!("checksum {of:02x?}, is {plain:02x?}"));
    }
    let (old, new): ([u8; 8], [u8; 8]) = (n.take(), n.take());
    let rest: [u8; 8] = n.take();
    let before = checksum::of(&[old, rest].concat());
    let after = checksum::of(&[new, rest].concat());
    let got = Delta::new().remove(old).add(new).apply(before);
    if !checksum::same(got, after) {
        return Err(format!("updated to {got:02x?}, is {after:02x?}"));
    }
    Ok(())
}

fn states(n: &mut Numbers) -> Result<(), String> {
    let (mut sides, flags): ([u8; 2], [u8; 8]) = ([0; 2], n.take());
    let mut over = false;
    for (at, flags) in flags.into_iter().enumerate() {
        let side = usize::from(flags >> 7) ^ (at & 1);
        let before = sides[side];
        sides[side] = note(before, flags);
        if sides[side] & before != before {
            return Err("something was forgotten".into());
        }
        let state = tcp_state(sides[0], sides[1]);
        // What is over stays over: a new connection begins with empty sides.
        if over && state != State::Closed {
            return Err(format!("{state:?} after the end"));
        }
        over = state == State::Closed;
        let reset = (sides[0] | sides[1]) & seen::RST != 0;
        let both = sides[0] & sides[1] & seen::FIN != 0;
        if over != (reset || both) {
            return Err(format!("{state:?} of {sides:?}"));
        }
        if flow::begins(flags) && flags & 0x17 != 0x02 {
            return Err(format!("{flags:#x} begins"));
        }
    }
    Ok(())
}

fn lives(n: &mut Numbers) -> Result<(), String> {
    let mut halves = [Flow::<V4>::zeroed(), Flow::<V4>::zeroed()];
    let proto: [u8; 1] = n.take();
    for half in &mut halves {
        half.to.proto = [1, 6, 17, 58, 132, proto[0]][usize::from(proto[0]) % 6];
        half.last_seen = n.u64() >> 1;
        half.created = n.u64() >> 1;
        half.packets = n.u64();
        half.flags = n.u16() as u8;
        half.seen = (n.u16() & 15) as u8;
    }
    let now = n.u64() >> 1;
    let [original, reply] = halves;
    let t = Timeouts::DEFAULT;
    let l = life(&original, &reply, now, &t);
    let strict = original.flags & flow_flags::STRICT != 0;
    let most = t.of(original.to.proto, l.state, strict);
    let idle = now.saturating_sub(original.last_seen.max(reply.last_seen));
    if l.idle != idle || l.left != most.saturating_sub(idle) {
        return Err(format!("{l:?}, idle {idle} of {most}"));
    }
    if most < t.shortest(original.to.proto) {
        return Err(format!("{:?} ends before the shortest", l.state));
    }
    let _ = (
        flow::is_pair(&original, &reply),
        flow::is_left_over(&original, now),
        flow::recount((original.packets, reply.packets), now, None),
    );
    Ok(())
}

fn ports(n: &mut Numbers) -> Result<(), String> {
    let (a, b) = (n.u16(), n.u16());
    let range = PortRange {
        min: a.min(b),
        max: a.max(b),
    };
    let (wanted, random) = (n.u16(), n.u32());
    let attempt = n.u32() % TRIES;
    let port = candidate(wanted, attempt, random, range);
    if !range.has(port) {
        return Err(format!("{port} is not in {range:?}"));
    }
    if candidate(wanted, 0, random, range) != wanted && range.has(wanted) {
        return Err("the own port is not tried first".into());
    }
    let _ = candidate(wanted, attempt, random, PortRange::NONE);
    Ok(())
}

/// A token bucket: what it gives is never more than it holds.
fn bucket(n: &mut Numbers) -> Result<(), String> {
    let (full, now, rate) = (n.u64() >> 1, n.u64() >> 1, n.u32());
    match storm::take(full, now, rate) {
        Some(next) if next < now || next < full => Err(format!("{next}: time runs back")),
        Some(next) if next - now > 1_000_000_000 => Err("more than it holds".into()),
        None if full <= now => Err("empty when full".into()),
        Some(_) | None => Ok(()),
    }
}
