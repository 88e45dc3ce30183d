//! Frames out of a capture file: pcap, or pcapng as Wireshark and `netd capture` write it.

use std::path::Path;

use anyhow::{Context as _, bail};

use super::capture::pcapng::{COMMENT, ETHERNET, INTERFACE, NAME, PACKET, SECTION, SIMPLE};

/// A frame of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Its number, from 1.
    pub number: usize,
    /// Its bytes, as far as they were captured.
    pub bytes: Vec<u8>,
    /// Bytes of all of it.
    pub len: usize,
    /// Name of the interface, if the file says it. `netd capture` writes `DEVICE:HOOK`.
    pub interface: Option<String>,
    /// The comment, if it has one. `netd capture` writes `HOOK: VERDICT..`.
    pub comment: Option<String>,
}

/// The first frame of a capture file that is wanted; `number`: that one, from 1.
pub fn find(
    file: &Path,
    number: Option<usize>,
    wanted: impl Fn(&Frame) -> bool,
) -> anyhow::Result<Option<Frame>> {
    let shown = file.display();
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {shown}"))?;
    let all = frames(&bytes).with_context(|| format!("{shown} cannot be read as a capture"))?;
    let count = all.len();
    for (at, found) in (1..).zip(all) {
        if number.is_some_and(|n| n != at) {
            continue;
        }
        if found.link != ETHERNET {
            if number.is_some() {
                let link = found.link;
                bail!("frame {at} of {shown} is not Ethernet but of link type {link}");
            }
            continue;
        }
        let frame = Frame {
            number: at,
            bytes: found.bytes.to_vec(),
            len: found.len,
            interface: found.interface,
            comment: found.comment,
        };
        if number.is_some() || wanted(&frame) {
            return Ok(Some(frame));
        }
    }
    match number {
        Some(number) => bail!("{shown} has {count} frames and no number {number}"),
        None => Ok(None),
    }
}

/// Frame number `number`, from 1, of a capture file.
pub fn frame(file: &Path, number: usize) -> anyhow::Result<Vec<u8>> {
    let found = find(file, Some(number), |_| true)?;
    Ok(found.context("a frame that is there")?.bytes)
}

/// A frame as the file has it.
struct Record<'a> {
    link: u16,
    bytes: &'a [u8],
    len: usize,
    interface: Option<String>,
    comment: Option<String>,
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

    /// The text of an option between two offsets.
    fn option(&self, mut at: usize, end: usize, wanted: u16) -> anyhow::Result<Option<String>> {
        while at + 4 <= end {
            let (code, len) = (self.u16(at)?, usize::from(self.u16(at + 2)?));
            let value = self.part(at + 4, len)?;
            if code == 0 {
                break;
            }
            if code == wanted {
                return Ok(Some(String::from_utf8_lossy(value).into_owned()));
            }
            at += 4 + len.next_multiple_of(4);
        }
        Ok(None)
    }

    fn part(&self, at: usize, len: usize) -> anyhow::Result<&'a [u8]> {
        let end = at.checked_add(len).context("a length that cannot be")?;
        self.bytes.get(at..end).context("it ends too early")
    }
}

/// All frames with their link types.
fn frames(bytes: &[u8]) -> anyhow::Result<Vec<Record<'_>>> {
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

fn pcap<'a>(r: &Reader<'a>) -> anyhow::Result<Vec<Record<'a>>> {
    // The upper bits say how long a frame check sequence is.
    let link = (r.u32(20)? & 0xffff) as u16;
    let mut all = Vec::new();
    let mut at = 24;
    while at < r.bytes.len() {
        let len = r.u32(at + 8)? as usize;
        all.push(Record {
            link,
            bytes: r.part(at + 16, len)?,
            len: r.u32(at + 12)? as usize,
            interface: None,
            comment: None,
        });
        at += 16 + len;
    }
    Ok(all)
}

fn pcapng(bytes: &[u8]) -> anyhow::Result<Vec<Record<'_>>> {
    let mut r = Reader { bytes, big: false };
    let (mut all, mut links): (Vec<Record<'_>>, Vec<(u16, Option<String>)>) =
        (Vec::new(), Vec::new());
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
        // The length stands at the end once more.
        let end = at + len - 4;
        let mut push = |n: usize, bytes, len: u32, comment| {
            let known = links.get(n).cloned();
            let (link, interface) = known.context("a frame of no interface")?;
            all.push(Record {
                link,
                bytes,
                len: len as usize,
                interface,
                comment,
            });
            anyhow::Ok(())
        };
        match kind {
            INTERFACE => links.push((r.u16(at + 8)?, r.option(at + 16, end, NAME)?)),
            PACKET => {
                let captured = r.u32(at + 20)? as usize;
                let bytes = r.part(at + 28, captured)?;
                let options = (at + 28).saturating_add(captured.next_multiple_of(4));
                let comment = r.option(options, end, COMMENT)?;
                push(r.u32(at + 8)? as usize, bytes, r.u32(at + 24)?, comment)?;
            }
            SIMPLE => {
                let (room, len) = (len.saturating_sub(16), r.u32(at + 8)?);
                push(0, r.part(at + 12, room.min(len as usize))?, len, None)?;
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
            block(PACKET, &packet(0, b"first")),
            block(5, &[0; 8]),
            block(PACKET, &packet(1, b"cooked")),
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

    #[test]
    fn interface_and_comment_of_a_frame_are_read() {
        let option = |code: u16, text: &str| {
            let mut bytes = [code.to_le_bytes(), (text.len() as u16).to_le_bytes()].concat();
            bytes.extend(text.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let head = [&[0x4d, 0x3c, 0x2b, 0x1a][..], &[1, 0, 0, 0], &[0xff; 8]].concat();
        let interface = [
            &[1, 0, 0, 0, 0, 0, 0, 0][..],
            &option(9, "x"),
            &option(NAME, "up0:xdp"),
        ];
        let packet = |comment: &str| {
            let (len, whole) = (5u32.to_le_bytes(), 99u32.to_le_bytes());
            let bytes = [&[0; 12][..], &len, &whole, b"frame\0\0\0"].concat();
            [bytes, option(2, "abcd"), option(COMMENT, comment)].concat()
        };
        let file = [
            block(SECTION, &head),
            block(INTERFACE, &interface.concat()),
            block(PACKET, &packet("xdp: passed")),
            block(PACKET, &packet("xdp: dropped: denied")),
        ];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dump");
        std::fs::write(&path, file.concat()).unwrap();
        let dropped = |f: &Frame| f.comment.as_deref().is_some_and(|c| c.contains("dropped"));
        let found = find(&path, None, dropped).unwrap().unwrap();
        assert_eq!((found.number, found.len), (2, 99));
        assert_eq!(found.bytes, b"frame");
        assert_eq!(found.interface.as_deref(), Some("up0:xdp"));
        assert_eq!(find(&path, None, |_| false).unwrap(), None);
        assert_eq!(find(&path, Some(1), |_| false).unwrap().unwrap().number, 1);
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
