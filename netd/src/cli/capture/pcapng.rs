//! Packets as pcapng (draft-ietf-opsawg-pcapng, sections 4.1 to 4.3): one section, an interface for each hook
//! of each device, time in nanoseconds, and what became of each packet as its comment.

use std::io::{self, Write};

/// Type of a section's head, the same in both byte orders.
pub const SECTION: u32 = 0x0a0d_0d0a;
/// Type of an interface's block.
pub const INTERFACE: u32 = 1;
/// Type of a packet's block without time and interface; netd writes none.
pub const SIMPLE: u32 = 3;
/// Type of a packet's block.
pub const PACKET: u32 = 6;
/// Tells the byte order.
const MAGIC: u32 = 0x1a2b_3c4d;
/// `LINKTYPE_ETHERNET`.
pub const ETHERNET: u16 = 1;

/// Option of all blocks: words about them.
pub const COMMENT: u16 = 1;
/// Option of an interface: its name.
pub const NAME: u16 = 2;
/// Options: of a section, of an interface, of a packet.
const APPLICATION: u16 = 4;
const RESOLUTION: u16 = 9;
const FLAGS: u16 = 2;
const DROPPED: u16 = 4;

/// Bits of a packet's flags: which way it went through its interface.
const INBOUND: u32 = 1;
const OUTBOUND: u32 = 2;

/// A packet to write.
pub struct Record<'a> {
    /// `DEVICE:HOOK`.
    pub interface: &'a str,
    /// Whether the hook sees what leaves the device, not what it receives.
    pub outbound: bool,
    /// Nanoseconds since 1970.
    pub time_ns: u64,
    /// Its first bytes.
    pub bytes: &'a [u8],
    /// Bytes of all of it.
    pub len: u32,
    /// What became of it.
    pub comment: &'a str,
    /// Packets that are missing before it.
    pub missing: u64,
}

/// A file that is being written.
pub struct Writer<W: Write> {
    to: W,
    snaplen: u32,
    interfaces: Vec<String>,
}

impl<W: Write> Writer<W> {
    /// Begins it.
    pub fn new(mut to: W, snaplen: u32) -> io::Result<Self> {
        let mut body = Vec::new();
        body.extend(MAGIC.to_ne_bytes());
        body.extend(1u16.to_ne_bytes());
        body.extend(0u16.to_ne_bytes());
        // The section's length: not known.
        body.extend(u64::MAX.to_ne_bytes());
        let application = concat!("netd ", env!("CARGO_PKG_VERSION"));
        option(&mut body, APPLICATION, application.as_bytes());
        end(&mut body);
        block(&mut to, SECTION, &body)?;
        Ok(Self {
            to,
            snaplen,
            interfaces: Vec::new(),
        })
    }

    /// Writes a packet, and before the first one of an interface the interface.
    pub fn write(&mut self, record: &Record<'_>) -> io::Result<()> {
        let known = self.interfaces.iter().position(|i| i == record.interface);
        let interface = match known {
            Some(interface) => interface,
            None => self.interface(record.interface)?,
        };
        let mut body = Vec::with_capacity(record.bytes.len() + 128);
        body.extend((interface as u32).to_ne_bytes());
        body.extend(((record.time_ns >> 32) as u32).to_ne_bytes());
        body.extend((record.time_ns as u32).to_ne_bytes());
        body.extend((record.bytes.len() as u32).to_ne_bytes());
        body.extend(record.len.to_ne_bytes());
        body.extend(record.bytes);
        pad(&mut body);
        let way = if record.outbound { OUTBOUND } else { INBOUND };
        option(&mut body, FLAGS, &way.to_ne_bytes());
        if record.missing > 0 {
            option(&mut body, DROPPED, &record.missing.to_ne_bytes());
        }
        option(&mut body, COMMENT, record.comment.as_bytes());
        end(&mut body);
        block(&mut self.to, PACKET, &body)
    }

    fn interface(&mut self, name: &str) -> io::Result<usize> {
        let mut body = Vec::new();
        body.extend(ETHERNET.to_ne_bytes());
        body.extend(0u16.to_ne_bytes());
        body.extend(self.snaplen.to_ne_bytes());
        option(&mut body, NAME, name.as_bytes());
        // 10^-9 seconds.
        option(&mut body, RESOLUTION, &[9]);
        end(&mut body);
        block(&mut self.to, INTERFACE, &body)?;
        self.interfaces.push(name.into());
        Ok(self.interfaces.len() - 1)
    }

    /// Hands on what was written.
    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn pad(body: &mut Vec<u8>) {
    body.resize(body.len().next_multiple_of(4), 0);
}

fn option(body: &mut Vec<u8>, code: u16, value: &[u8]) {
    // Longer ones are not made here.
    let value = &value[..value.len().min(usize::from(u16::MAX))];
    body.extend(code.to_ne_bytes());
    body.extend((value.len() as u16).to_ne_bytes());
    body.extend(value);
    pad(body);
}

fn end(body: &mut Vec<u8>) {
    body.extend([0; 4]);
}

fn block(to: &mut impl Write, kind: u32, body: &[u8]) -> io::Result<()> {
    let len = (body.len() as u32 + 12).to_ne_bytes();
    to.write_all(&kind.to_ne_bytes())?;
    to.write_all(&len)?;
    to.write_all(body)?;
    to.write_all(&len)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks of a file: type and body.
    fn blocks(mut file: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let word = |b: &[u8]| u32::from_ne_bytes(b[..4].try_into().unwrap());
        let mut all = Vec::new();
        while !file.is_empty() {
            let (kind, len) = (word(file), word(&file[4..]) as usize);
            assert_eq!(len % 4, 0);
            assert_eq!(
                word(&file[len - 4..]) as usize,
                len,
                "the length stands at both ends"
            );
            all.push((kind, file[8..len - 4].to_vec()));
            file = &file[len..];
        }
        all
    }

    #[test]
    fn each_interface_stands_once_before_its_first_packet() {
        let mut file = Vec::new();
        let mut writer = Writer::new(&mut file, 96).unwrap();
        for (interface, bytes) in [
            ("up0:xdp", &[1u8, 2, 3][..]),
            ("nde1:ep_out", &[]),
            ("up0:xdp", &[4]),
        ] {
            let record = Record {
                interface,
                outbound: false,
                time_ns: 0x1_0000_0002,
                bytes,
                len: 1500,
                comment: "dropped: isolated",
                missing: 7,
            };
            writer.write(&record).unwrap();
        }
        let blocks = blocks(&file);
        let kinds: Vec<u32> = blocks.iter().map(|b| b.0).collect();
        assert_eq!(
            kinds,
            [SECTION, INTERFACE, PACKET, INTERFACE, PACKET, PACKET]
        );
        let packet = &blocks[2].1;
        let word = |at: usize| u32::from_ne_bytes(packet[at..at + 4].try_into().unwrap());
        assert_eq!([0, 4, 8, 12, 16].map(word), [0, 1, 2, 3, 1500]);
        assert_eq!(packet[20..24], [1, 2, 3, 0]);
        let text = String::from_utf8_lossy(packet);
        assert!(text.contains("dropped: isolated"));
        let id = u32::from_ne_bytes(blocks[5].1[..4].try_into().unwrap());
        assert_eq!(id, 0, "the third packet is the first interface's again");
    }
}
