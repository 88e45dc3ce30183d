//! A blocking rtnetlink socket: several requests in one `send`, then their acknowledgements. It
//! stays in the namespace it was opened in, whatever its thread does later.

use std::io;
use std::os::fd::AsRawFd;

use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::answer::{Answer, Asked};
use super::{NetError, Result};
use crate::failpoint;

/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// Attribute of an extended acknowledgement with the kernel's words (`NLMSGERR_ATTR_MSG`).
const ATTR_MSG: u16 = 1;
/// Message types every netlink family has.
pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;
/// How often a list is asked for that changes while it is read.
const DUMPS: usize = 8;
/// Flag of an acknowledgement that carries attributes.
const NLM_F_ACK_TLVS: u16 = 0x200;

/// One request of a batch.
pub struct Request {
    /// The message.
    pub message: RouteNetlinkMessage,
    /// `NLM_F_*` beyond `REQUEST` and `ACK`.
    pub flags: u16,
    /// What it does, in words, for errors.
    pub what: String,
    /// Error numbers that count as done.
    pub fine: Vec<i32>,
}

impl Request {
    /// A request.
    pub fn new(message: RouteNetlinkMessage, flags: u16, what: impl Into<String>) -> Self {
        Self {
            message,
            flags,
            what: what.into(),
            fine: Vec::new(),
        }
    }

    /// The same, where this error number counts as done, too.
    #[must_use]
    pub fn or(mut self, errno: i32) -> Self {
        self.fine.push(errno);
        self
    }
}

/// The socket.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> Result<Self> {
        let open = || -> io::Result<Socket> {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            socket.set_ext_ack(true)?;
            socket.set_cap_ack(true)?;
            nix::sys::socket::setsockopt(
                &unsafe_borrow(&socket),
                nix::sys::socket::sockopt::ReceiveTimeout,
                &nix::sys::time::TimeVal::new(10, 0),
            )?;
            Ok(socket)
        };
        let socket = open().map_err(|e| NetError::io("cannot open a netlink socket", e))?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    fn serialize(&mut self, message: RouteNetlinkMessage, flags: u16, out: &mut Vec<u8>) {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let start = out.len();
        out.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut out[start..]);
    }

    fn send(&self, bytes: &[u8]) -> Result<()> {
        self.socket
            .send(bytes, 0)
            .map(drop)
            .map_err(|e| NetError::io("cannot send on a netlink socket", e))
    }

    fn receive(&self) -> Result<Vec<u8>> {
        loop {
            match self.socket.recv_from_full() {
                Ok((bytes, _)) => return Ok(bytes),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(NetError::io("cannot read from a netlink socket", e)),
            }
        }
    }

    /// Sends all requests at once and waits for every answer; the first refusal is the error. The
    /// kernel goes on after a refusal.
    pub fn batch(&mut self, requests: Vec<Request>) -> Result<()> {
        if requests.is_empty() {
            return Ok(());
        }
        let first = self.sequence + 1;
        let mut bytes = Vec::with_capacity(1024);
        let mut waiting = Vec::with_capacity(requests.len());
        for request in requests {
            self.serialize(request.message, request.flags | NLM_F_ACK, &mut bytes);
            waiting.push(Some((request.what, request.fine)));
        }
        failpoint::step("changing devices, addresses or routes");
        self.send(&bytes)?;
        let mut left = waiting.len();
        let mut refused = None;
        while left > 0 {
            for_each_message(&self.receive()?, |header, body| {
                let index = header.sequence_number.wrapping_sub(first) as usize;
                if header.message_type != NLMSG_ERROR {
                    return;
                }
                let Some((what, fine)) = waiting.get_mut(index).and_then(Option::take) else {
                    return;
                };
                left -= 1;
                let code = body.first_chunk().map_or(0, |c| i32::from_ne_bytes(*c));
                if code != 0 && !fine.contains(&-code) && refused.is_none() {
                    refused = Some(NetError::Netlink {
                        what,
                        source: io::Error::from_raw_os_error(-code),
                        hint: words(header.flags, body),
                    });
                }
            });
        }
        refused.map_or(Ok(()), Err)
    }

    /// Asks for one object; none: the kernel has none (any refusal).
    pub fn get(&mut self, message: RouteNetlinkMessage) -> Result<Option<RouteNetlinkMessage>> {
        let got = self.ask(message, Asked::One)?;
        Ok(got.and_then(|all| all.into_iter().next()))
    }

    /// Asks for all objects of a kind; as often as it takes until none of them changed while they were listed.
    pub fn dump(&mut self, message: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>> {
        for _ in 1..DUMPS {
            if let Some(all) = self.ask(message.clone(), Asked::All)? {
                return Ok(all);
            }
        }
        if let Some(all) = self.ask(message, Asked::All)? {
            return Ok(all);
        }
        Err(NetError::io(
            format!("what the kernel lists changed each of {DUMPS} times while it was read"),
            io::Error::from_raw_os_error(libc::EAGAIN),
        ))
    }

    fn ask(
        &mut self,
        message: RouteNetlinkMessage,
        asked: Asked,
    ) -> Result<Option<Vec<RouteNetlinkMessage>>> {
        let mut bytes = Vec::new();
        let flags = match asked {
            Asked::One => 0,
            Asked::All => NLM_F_DUMP,
        };
        self.serialize(message, flags, &mut bytes);
        self.send(&bytes)?;
        let mut answer = Answer::new(self.sequence, asked);
        while !answer.is_done() {
            answer.take(&self.receive()?);
        }
        answer.end()
    }
}

/// A borrow of the socket's descriptor for `nix`.
fn unsafe_borrow(socket: &Socket) -> std::os::fd::BorrowedFd<'_> {
    // SAFETY: the descriptor is open as long as `socket` lives, which the lifetime says.
    unsafe { std::os::fd::BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}

/// Calls `f` with the header and the body of every message of a datagram.
pub(super) fn for_each_message(mut bytes: &[u8], mut f: impl FnMut(NetlinkHeader, &[u8])) {
    while let Some((head, _)) = bytes.split_first_chunk::<HEADER>() {
        let word =
            |at: usize| u32::from_ne_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let length = word(0) as usize;
        let Some(body) = bytes.get(HEADER..length) else {
            return;
        };
        let mut header = NetlinkHeader::default();
        header.length = word(0);
        header.message_type = u16::from_ne_bytes([head[4], head[5]]);
        header.flags = u16::from_ne_bytes([head[6], head[7]]);
        header.sequence_number = word(8);
        header.port_number = word(12);
        f(header, body);
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

/// The kernel's own words in an extended acknowledgement (its request is cut to the header).
fn words(flags: u16, body: &[u8]) -> String {
    let mut rest = body
        .get(4 + HEADER..)
        .filter(|_| flags & NLM_F_ACK_TLVS != 0)
        .unwrap_or_default();
    while let Some((head, _)) = rest.split_first_chunk::<4>() {
        let length = u16::from_ne_bytes([head[0], head[1]]) as usize;
        let kind = u16::from_ne_bytes([head[2], head[3]]);
        let Some(value) = rest.get(4..length) else {
            break;
        };
        if kind == ATTR_MSG {
            let text = String::from_utf8_lossy(value);
            return format!(" ({})", text.trim_end_matches('\0').trim());
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtnetlink::packet_route::link::LinkMessage;

    #[test]
    fn the_loopback_device_is_found_and_an_unknown_one_is_not() {
        let mut netlink = Netlink::open().unwrap();
        let mut ask = LinkMessage::default();
        ask.header.index = 1;
        let got = netlink
            .get(RouteNetlinkMessage::GetLink(ask.clone()))
            .unwrap();
        assert!(matches!(got, Some(RouteNetlinkMessage::NewLink(l)) if l.header.index == 1));
        ask.header.index = 0x7fff_fff0;
        assert!(
            netlink
                .get(RouteNetlinkMessage::GetLink(ask))
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn a_refused_request_of_a_batch_is_named() {
        let mut netlink = Netlink::open().unwrap();
        let mut link = LinkMessage::default();
        link.header.index = 0x7fff_fff0;
        let request = || {
            Request::new(
                RouteNetlinkMessage::DelLink(link.clone()),
                0,
                "delete nothing",
            )
        };
        let e = netlink.batch(vec![request(), request()]).unwrap_err();
        assert!(e.to_string().starts_with("delete nothing: "), "{e}");
        let errno = e.errno().unwrap();
        netlink
            .batch(vec![request().or(errno), request().or(errno)])
            .unwrap();
    }

    #[test]
    fn words_of_the_kernel_are_read() {
        let mut body = vec![0; 20];
        body.extend([9, 0, 1, 0, b'o', b'o', b'p', b's', 0, 0, 0, 0]);
        assert_eq!(words(NLM_F_ACK_TLVS, &body), " (oops)");
        assert_eq!(words(0, &body), "");
        assert_eq!(words(NLM_F_ACK_TLVS, &body[..22]), "");
    }
}
