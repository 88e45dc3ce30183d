//! What is changed in a valid frame: mostly one thing, and mostly one that a parser looks at.

use fastrand::Rng;

use crate::build::sum;
use crate::case::Case;
use crate::cast::Cast;
use crate::read::{self, L3};

/// Values that parsers get wrong.
const CORNERS: [u8; 8] = [0, 1, 4, 5, 0x7f, 0x80, 0xfe, 0xff];

/// A valid frame, or one that was until up to four things were changed.
pub fn case(rng: &mut Rng, cast: &Cast) -> Case {
    let mut case = crate::generate::valid(rng, cast);
    let changes = match rng.u8(..8) {
        0..=1 => 0,
        2..=5 => 1,
        6 => 2,
        _ => 4,
    };
    for _ in 0..changes {
        change(rng, cast, &mut case);
    }
    // Mistakes that hide behind a wrong checksum would never be met.
    if changes > 0 && rng.u8(..4) != 0 {
        reseal(&mut case.frame);
    }
    case
}

/// Changes one thing.
pub fn change(rng: &mut Rng, cast: &Cast, case: &mut Case) {
    let frame = &mut case.frame;
    match rng.u8(..20) {
        0 => set(frame, rng.usize(..80), rng.u8(..)),
        1 => set(frame, rng.usize(..80), *rng.choice(&CORNERS).expect("some")),
        2 => flip(rng, frame),
        3 => truncate(rng, frame),
        4 => frame.extend(std::iter::repeat_n(0xee, rng.usize(1..64))),
        5 => wrap(rng, frame),
        6 => destination(rng, cast, frame),
        7 => {
            let mac = cast.any(rng).mac;
            put(frame, 6, &mac);
            if rng.u8(..4) == 0 {
                set(frame, 6, rng.u8(..));
            }
        }
        8 => addresses(rng, cast, frame),
        9 => length(rng, frame),
        10 => set(frame, L3, rng.u8(..)),
        11 => fragment(rng, frame),
        12 => ttl(rng, frame),
        13 => protocol(rng, frame),
        14..=16 => layer4(rng, cast, frame),
        17 => remove(rng, frame),
        18 => repeat(rng, frame),
        _ => case.gso = if rng.bool() { rng.u16(1..1500) } else { 0 },
    }
}

fn set(frame: &mut [u8], at: usize, value: u8) {
    if let Some(byte) = frame.get_mut(at) {
        *byte = value;
    }
}

fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(to) = frame.get_mut(at..at + bytes.len()) {
        to.copy_from_slice(bytes);
    }
}

fn flip(rng: &mut Rng, frame: &mut [u8]) {
    if let Some(byte) = rng.choice(frame) {
        *byte ^= 1 << rng.u8(..8);
    }
}

fn truncate(rng: &mut Rng, frame: &mut Vec<u8>) {
    // A device gives no frame shorter than its own header.
    if frame.len() > L3 {
        let short = frame.len().min(100);
        frame.truncate(rng.usize(L3..=short));
    }
}

/// Behind a VLAN tag, two of them, or LLC and SNAP.
fn wrap(rng: &mut Rng, frame: &mut Vec<u8>) {
    let tags: [&[u8]; 6] = [
        &[0x81, 0, 0, 0],
        &[0x81, 0, 0, 5],
        &[0x88, 0xa8, 0, 0],
        &[0x81, 0, 0, 0, 0x81, 0, 0, 0],
        &[0x81, 0, 0x20, 0, 0x81, 0, 0, 7],
        &[0x00, 0x40, 0xaa, 0xaa, 3, 0, 0, 0],
    ];
    if frame.len() >= 12 {
        let tag = *rng.choice(&tags).expect("some");
        frame.splice(12..12, tag.iter().copied());
    }
}

fn destination(rng: &mut Rng, cast: &Cast, frame: &mut [u8]) {
    let mac = match rng.u8(..8) {
        0 => [0xff; 6],
        1 => [1, 0x80, 0xc2, 0, 0, rng.u8(..17)],
        2 => [1, 0, 0x5e, 0, 0, rng.u8(..)],
        3 => [0x33, 0x33, 0, 0, 0, rng.u8(..3)],
        4 => [2, 9, 9, 9, 9, rng.u8(..)],
        _ => cast.any(rng).mac,
    };
    put(frame, 0, &mac);
}

fn addresses(rng: &mut Rng, cast: &Cast, frame: &mut [u8]) {
    let source = rng.bool();
    let who = cast.any(rng);
    let v4 = [
        who.v4,
        [127, 0, 0, 1],
        [255; 4],
        [0; 4],
        [224, 0, 0, 5],
        [169, 254, 1, 1],
        [240, 1, 1, 1],
        [192, 0, 2, 77],
        [10, 1, 0, 99],
    ];
    let mut one = [0; 16];
    one[15] = 1;
    let mut mapped = [0; 16];
    mapped[10..12].copy_from_slice(&[0xff; 2]);
    mapped[12..].copy_from_slice(&who.v4);
    let mut group = one;
    group[..2].copy_from_slice(&[0xff, 2]);
    let mut link = one;
    link[..2].copy_from_slice(&[0xfe, 0x80]);
    let v6 = [who.v6, [0; 16], one, mapped, group, link];
    // Addresses that mean something come more often than the others together.
    let at = |rng: &mut Rng, len: usize| if rng.bool() { 0 } else { rng.usize(..len) };
    match read::ethertype(frame) {
        Some(0x0800) => {
            let a = v4[at(rng, v4.len())];
            put(frame, if source { L3 + 12 } else { L3 + 16 }, &a);
        }
        Some(0x86dd) => {
            let a = v6[at(rng, v6.len())];
            put(frame, if source { L3 + 8 } else { L3 + 24 }, &a);
        }
        Some(0x0806) => put(frame, if source { 28 } else { 38 }, &v4[at(rng, v4.len())]),
        _ => {}
    }
}

/// The IP header's length field.
fn length(rng: &mut Rng, frame: &mut [u8]) {
    let at = match read::ethertype(frame) {
        Some(0x0800) => L3 + 2,
        Some(0x86dd) => L3 + 4,
        _ => return,
    };
    let Some(old) = frame.get(at..at + 2) else {
        return;
    };
    let old = u16::from_be_bytes([old[0], old[1]]);
    let new = match rng.u8(..6) {
        0 => 0,
        1 => rng.u16(..60),
        2 => 0xffff,
        3 => old.wrapping_add(1),
        4 => old.wrapping_sub(1),
        _ => old.wrapping_sub(rng.u16(..30)),
    };
    put(frame, at, &new.to_be_bytes());
}

fn fragment(rng: &mut Rng, frame: &mut [u8]) {
    if read::ethertype(frame) == Some(0x0800) {
        let word = match rng.u8(..4) {
            0 => 0x2000,
            1 => 0x2001 + rng.u16(..200),
            2 => 1 + rng.u16(..0x1fff),
            _ => rng.u16(..),
        };
        put(frame, L3 + 6, &word.to_be_bytes());
    }
}

fn ttl(rng: &mut Rng, frame: &mut [u8]) {
    let value = *rng.choice(&[0, 1, 2, 64, 255]).expect("some");
    match read::ethertype(frame) {
        Some(0x0800) => set(frame, L3 + 8, value),
        Some(0x86dd) => set(frame, L3 + 7, value),
        _ => {}
    }
}

fn protocol(rng: &mut Rng, frame: &mut [u8]) {
    let some = [
        0, 1, 2, 4, 6, 17, 41, 43, 44, 50, 51, 58, 59, 60, 132, 136, 255,
    ];
    let value = *rng.choice(&some).expect("some");
    match read::ethertype(frame) {
        Some(0x0800) => set(frame, L3 + 9, value),
        Some(0x86dd) => set(frame, L3 + 6, value),
        _ => {}
    }
}

/// Ports, flags, lengths, types.
fn layer4(rng: &mut Rng, cast: &Cast, frame: &mut [u8]) {
    let Some(ip) = read::ip(frame) else {
        return;
    };
    let at = ip.l4;
    match rng.u8(..6) {
        0 => put(frame, at, &cast.port(rng).to_be_bytes()),
        1 => put(frame, at + 2, &cast.port(rng).to_be_bytes()),
        2 => set(frame, at + 13, rng.u8(..)),
        3 => set(frame, at + 12, rng.u8(..)),
        4 => put(frame, at + 4, &rng.u16(..64).to_be_bytes()),
        _ => set(frame, at + rng.usize(..20), rng.u8(..)),
    }
}

fn remove(rng: &mut Rng, frame: &mut Vec<u8>) {
    if frame.len() > L3 + 8 {
        let at = rng.usize(L3..frame.len() - 8);
        frame.drain(at..at + rng.usize(1..8));
    }
}

fn repeat(rng: &mut Rng, frame: &mut Vec<u8>) {
    if frame.len() > L3 + 8 {
        let at = rng.usize(L3..frame.len() - 8);
        let chunk = frame[at..at + 8].to_vec();
        frame.splice(at..at, chunk);
    }
}

/// Makes the checksums right again, where there still are some.
pub fn reseal(frame: &mut [u8]) {
    let Some(ip) = read::ip(frame) else {
        return;
    };
    if !ip.v6 {
        put(frame, L3 + 10, &[0, 0]);
        let check = !sum(&frame[L3..ip.l4], 0);
        put(frame, L3 + 10, &check.to_be_bytes());
    }
    let Some(error) = ip.l4_error(frame) else {
        return;
    };
    let field = ip.l4
        + match ip.proto {
            6 => 16,
            17 => 6,
            _ => 2,
        };
    // The field takes back what the sum is too much.
    let old = u16::from_be_bytes([frame[field], frame[field + 1]]);
    let mut new = u32::from(old) + u32::from(!error);
    new = (new & 0xffff) + (new >> 16);
    let new = if ip.proto == 17 && new == 0 {
        0xffff
    } else {
        new
    };
    put(frame, field, &(new as u16).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resealed_frames_are_right() {
        let cast = Cast::new();
        let mut sealed = 0;
        for seed in 0..20_000 {
            let mut rng = Rng::with_seed(seed);
            let mut case = crate::generate::valid(&mut rng, &cast);
            change(&mut rng, &cast, &mut case);
            reseal(&mut case.frame);
            let Some(ip) = read::ip(&case.frame) else {
                continue;
            };
            assert_eq!(ip.header_error(&case.frame), 0, "{case}");
            if let Some(error) = ip.l4_error(&case.frame) {
                sealed += 1;
                assert_eq!(error, 0, "{case}");
            }
        }
        assert!(sealed > 5_000, "{sealed}");
    }
}
