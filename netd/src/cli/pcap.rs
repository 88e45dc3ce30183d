//! One frame out of a capture file: pcap, or pcapng as Wireshark and `netd capture` write it.

use std::path::Path;

use anyhow::{Context as _, bail};

/// `LINKTYPE_ETHERNET`
const ETHERNET: u16 = 1;
/// Blocks of pcapng (draft-ietf-opsawg-pcapng section 4).
const SECTION: u32 = 0x0a0d_0d0a;
const INTERFACE: u32 = 1;
const SIMPLE: u32 = 3;
const ENHANCED: u32 = 6;

/// Frame number `number`, from 1, of a capture file.
pub fn frame(file: &Path, number: usize) -> anyhow::Result<Vec<u8>> {
    let shown = file.display();
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {shown}"))?;
    let frames = frames(&bytes).with_context(|| format!("{shown} cannot be read as a capture"))?;
    let count = frames.len();
    match frames.into_iter().nth(number - 1) {
        Some((ETHERNET, frame)) => Ok(frame.to_vec()),
        Some((link, _)) => {
            bail!("frame {number} of {shown} is not Ethernet but of link type {link}")
        }
        None => bail!("{shown} has {count} frames and no number {number}"),
    }
}

/// Reads integers in the byte order of the file.
struct Reader<'a> {
    bytes: &'a [u8],
    big: bool,
}

impl<'a> Reader<'a> {
    fn u32(&self, at: usize) -> anyhow::Result<u32> {
        let bytes = *self
            .part(at, 4)?
            .first_chunk()
            .context("it ends too early")?;
        Ok(if self.big {
            u32::from_be_bytes(bytes)
        } else {
            u32::from_le_bytes(bytes)
        })
    }

    fn u16(&self, at: usize) -> anyhow::Result<u16> {
        let bytes = *self
            .part(at, 2)?
            .first_chunk()
            .context("it ends too early")?;
        Ok(if self.big {
            u16::from_be_bytes(bytes)
        } else {
            u16::from_le_bytes(bytes)
        })
    }

    fn part(&self, at: usize, len: usize) -> anyhow::Result<&'a [u8]> {
        let end = at.checked_add(len).context("a length that cannot be")?;
        self.bytes.get(at..end).context("it ends too early")
    }
}

/// All frames with their link types.
fn frames(bytes: &[u8]) -> anyhow::Result<Vec<(u16, &[u8])>> {
    match bytes.first_chunk::<4>() {
        Some([0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1]) => {
            pcap(&Reader { bytes, big: false })
        }
        Some([0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d]) => {
            pcap(&Reader { bytes, big: true })
        }
        Some([0x0a, 0x0d, 0x0d, 0x0a]) => pcapng(bytes),
        _ => bail!("it begins as neither pcap nor pcapng does"),
    }
}

fn pcap<'a>(r: &Reader<'a>) -> anyhow::Result<Vec<(u16, &'a [u8])>> {
    // The upper bits say how long a frame check sequence is.
    let link = (r.u32(20)? & 0xffff) as u16;
    let mut all = Vec::new();
    let mut at = 24;
    while at < r.bytes.len() {
        let len = r.u32(at + 8)? as usize;
        all.push((link, r.part(at + 16, len)?));
        at += 16 + len;
    }
    Ok(all)
}

fn pcapng(bytes: &[u8]) -> anyhow::Result<Vec<(u16, &[u8])>> {
    let mut r = Reader { bytes, big: false };
    let (mut all, mut links) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < bytes.len() {
        let kind = r.u32(at)?;
        if kind == SECTION {
            // Each section has a byte order and interfaces of its own.
            r.big = r.part(at + 8, 4)? == [0x1a, 0x2b, 0x3c, 0x4d];
            links.clear();
        }
        let len = r.u32(at + 4)? as usize;
        if len < 12 {
            bail!("a block of {len} bytes at offset {at}");
        }
        r.part(at, len)?;
        let link = |n: usize| links.get(n).copied().context("a frame of no interface");
        match kind {
            INTERFACE => links.push(r.u16(at + 8)?),
            ENHANCED => {
                let interface = r.u32(at + 8)? as usize;
                let frame = r.part(at + 28, r.u32(at + 20)? as usize)?;
                all.push((link(interface)?, frame));
            }
            SIMPLE => {
                let room = len.saturating_sub(16);
                let frame = r.part(at + 12, room.min(r.u32(at + 8)? as usize))?;
                all.push((link(0)?, frame));
            }
            _ => {}
        }
        at += len;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut body = body.to_vec();
        body.resize(body.len().next_multiple_of(4), 0);
        let len = (body.len() as u32 + 12).to_le_bytes();
        [&kind.to_le_bytes()[..], &len, &body, &len].concat()
    }

    fn ng() -> Vec<u8> {
        let head = [&[0x4d, 0x3c, 0x2b, 0x1a][..], &[1, 0, 0, 0], &[0xff; 8]].concat();
        let interface = [1, 0, 0, 0, 0, 0, 0, 0];
        let other = [113, 0, 0, 0, 0, 0, 0, 0];
        let packet = |interface: u8, bytes: &[u8]| {
            let len = (bytes.len() as u32).to_le_bytes();
            [&[interface, 0, 0, 0][..], &[0; 8], &len, &len, bytes].concat()
        };
        [
            block(SECTION, &head),
            block(INTERFACE, &interface),
            block(INTERFACE, &other),
            block(ENHANCED, &packet(0, b"first")),
            block(5, &[0; 8]),
            block(ENHANCED, &packet(1, b"cooked")),
            block(SIMPLE, &[&[3, 0, 0, 0][..], b"sim"].concat()),
        ]
        .concat()
    }

    fn old(big: bool) -> Vec<u8> {
        let n = |v: u32| {
            if big {
                v.to_be_bytes()
            } else {
                v.to_le_bytes()
            }
        };
        let mut bytes = [n(0xa1b2_c3d4), n(0x0002_0004), n(0), n(0), n(65_535), n(1)].concat();
        for frame in [&b"first"[..], b"second"] {
            let len = n(frame.len() as u32);
            bytes.extend([&n(0)[..], &n(0), &len, &len, frame].concat());
        }
        bytes
    }

    #[test]
    fn frames_are_counted_from_one_in_both_formats() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("dump");
        for bytes in [old(false), old(true), ng()] {
            std::fs::write(&file, bytes).unwrap();
            assert_eq!(frame(&file, 1).unwrap(), b"first");
            let e = frame(&file, 9).unwrap_err().to_string();
            assert!(e.contains("no number 9"), "{e}");
        }
        assert_eq!(frame(&file, 3).unwrap(), b"sim");
        let e = frame(&file, 2).unwrap_err().to_string();
        assert!(e.contains("link type 113"), "{e}");
        std::fs::write(&file, b"text").unwrap();
        let e = format!("{:#}", frame(&file, 1).unwrap_err());
        assert!(e.contains("neither pcap nor pcapng"), "{e}");
    }

    proptest! {
        #[test]
        fn damaged_files_are_refused_and_nothing_panics(which in 0usize..3, at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
            let mut bytes = [old(false), old(true), ng()][which].clone();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes.truncate(cut.index(bytes.len()) + 1);
            let _ = frames(&bytes);
        }
    }
}
