//! What changes on the node, told by the kernel: links, addresses, routes, rules, TC filters.
//!
//! The kernel tells without waiting for anybody: when a reader is too slow, notices are lost and the next read
//! ends with `ENOBUFS` (netlink(7)). Then everything may have changed, and that is what is told.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use rtnetlink::packet_core::{NetlinkDeserializable, NetlinkHeader};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::{Socket, protocols::NETLINK_ROUTE};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

use super::netlink::for_each_message;
use super::{NetError, Result, link};

/// Changes come in bursts: this long they are gathered.
const GATHER: Duration = Duration::from_millis(30);
/// The longest datagram of the kernel.
const LONGEST: usize = 64 * 1024;
/// `RTNLGRP_*` of links, TC, and addresses, routes, rules and settings of both families.
const GROUPS: [u32; 10] = [1, 4, 5, 7, 8, 9, 11, 19, 24, 25];
/// With this environment variable nothing is told but that everything may have changed, once. For tests alone:
/// what the sweep finds by itself.
pub const DEAF: &str = "NETD_DEAF";

/// What happened since the last time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Devices of netd that are gone or were taken down, by ifindex.
    pub lost: BTreeSet<u32>,
    /// Devices that lost a TC filter or a qdisc, by ifindex.
    pub unhooked: BTreeSet<u32>,
    /// Something else changed: uplinks may have.
    pub node: bool,
    /// Anything may have changed: nobody looked, or notices were lost.
    pub all: bool,
}

/// Whether a device name is one netd makes.
pub fn is_made_name(name: &str) -> bool {
    ["nde", "ndi", "nd-"]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

fn note(changes: &mut Changes, message: &RouteNetlinkMessage) {
    match (message, link::read(message)) {
        (RouteNetlinkMessage::DelLink(_), Some(l)) if is_made_name(&l.name) => {
            changes.lost.insert(l.ifindex);
        }
        // Its own devices coming up are no news to the daemon.
        (RouteNetlinkMessage::NewLink(_), Some(l)) if is_made_name(&l.name) => {
            if !l.up {
                changes.lost.insert(l.ifindex);
            }
        }
        (
            RouteNetlinkMessage::DelTrafficFilter(m) | RouteNetlinkMessage::DelQueueDiscipline(m),
            _,
        ) => {
            changes.unhooked.insert(m.header.index.cast_unsigned());
        }
        (
            RouteNetlinkMessage::NewTrafficFilter(_) | RouteNetlinkMessage::NewQueueDiscipline(_),
            _,
        ) => {}
        _ => changes.node = true,
    }
}

/// Takes in what a datagram tells.
fn read(changes: &mut Changes, datagram: &[u8]) {
    for_each_message(datagram, |header: NetlinkHeader, body| {
        match RouteNetlinkMessage::deserialize(&header, body) {
            Ok(message) => note(changes, &message),
            // Something changed, whatever it was.
            Err(_) => changes.node = true,
        }
    });
}

/// Takes in what one read of the socket gave; whether there may be more.
fn took(changes: &mut Changes, got: nix::Result<&[u8]>) -> Result<bool> {
    match got {
        Ok(datagram) => read(changes, datagram),
        Err(Errno::ENOBUFS) => changes.all = true,
        Err(Errno::EINTR) => {}
        Err(Errno::EAGAIN) => return Ok(false),
        Err(e) => return Err(NetError::io("the kernel's notices ended", e.into())),
    }
    Ok(true)
}

fn open() -> io::Result<AsyncFd<Socket>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.set_non_blocking(true)?;
    for group in GROUPS {
        socket.add_membership(group)?;
    }
    // SAFETY: the socket owns its descriptor, always the same, and keeps it open as long as it lives.
    unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)
}

/// Calls `tell` with what changed, for ever, and waits for it each time; first that anything may have. An error
/// means that the kernel's socket ended.
pub async fn watch<F: Future<Output = ()>>(mut tell: impl FnMut(Changes) -> F) -> Result<()> {
    let socket = open().map_err(|e| NetError::io("cannot watch the node's devices", e))?;
    let first = Changes {
        all: true,
        ..Changes::default()
    };
    tell(first).await;
    if std::env::var_os(DEAF).is_some() {
        std::future::pending::<()>().await;
    }
    let mut buffer = vec![0; LONGEST];
    let mut changes = Changes::default();
    let mut due: Option<Instant> = None;
    loop {
        let wake = due.unwrap_or_else(|| Instant::now() + Duration::from_hours(1));
        tokio::select! {
            ready = socket.readable() => {
                let failed = |e| NetError::io("the kernel's notices ended", e);
                let mut ready = ready.map_err(failed)?;
                let fd = socket.as_raw_fd();
                let got = recv(fd, &mut buffer, MsgFlags::MSG_DONTWAIT);
                let got = got.map(|n| buffer.get(..n).unwrap_or_default());
                if !took(&mut changes, got)? {
                    ready.clear_ready();
                }
                if changes != Changes::default() {
                    due.get_or_insert_with(|| Instant::now() + GATHER);
                }
            }
            () = sleep_until(wake), if due.is_some() => {
                due = None;
                if changes.all {
                    tracing::warn!("notices of the kernel were lost: everything is looked at");
                }
                tell(std::mem::take(&mut changes)).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
    use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
    use rtnetlink::packet_route::tc::TcMessage;

    use super::*;

    fn datagram(messages: Vec<RouteNetlinkMessage>) -> Vec<u8> {
        let one = |message| {
            let payload = NetlinkPayload::from(message);
            let mut message = NetlinkMessage::new(NetlinkHeader::default(), payload);
            message.finalize();
            let mut bytes = vec![0; message.buffer_len().next_multiple_of(4)];
            message.serialize(&mut bytes);
            bytes
        };
        messages.into_iter().flat_map(one).collect()
    }

    fn link(name: &str, index: u32, up: bool) -> LinkMessage {
        let mut m = LinkMessage::default();
        m.header.index = index;
        if up {
            m.header.flags = LinkFlags::Up;
        }
        m.attributes.push(LinkAttribute::IfName(name.into()));
        m
    }

    fn told(messages: Vec<RouteNetlinkMessage>) -> Changes {
        let mut changes = Changes::default();
        assert!(took(&mut changes, Ok(&datagram(messages))).unwrap());
        changes
    }

    #[test]
    fn own_devices_that_come_are_no_news_and_those_that_go_or_go_down_are() {
        let new = RouteNetlinkMessage::NewLink;
        assert_eq!(told(vec![new(link("nde1", 5, true))]), Changes::default());
        let went = told(vec![
            new(link("nd-web", 6, false)),
            RouteNetlinkMessage::DelLink(link("ndiweb", 7, true)),
        ]);
        assert_eq!((went.lost, went.node), ([6, 7].into(), false));
        assert!(told(vec![new(link("eth0", 2, true))]).node);
    }

    #[test]
    fn filters_and_qdiscs_that_go_are_told_by_their_device() {
        let mut m = TcMessage::default();
        m.header.index = 3;
        let gone = [
            RouteNetlinkMessage::DelTrafficFilter(m.clone()),
            RouteNetlinkMessage::DelQueueDiscipline(m.clone()),
        ];
        for message in gone {
            let changes = told(vec![message]);
            assert_eq!((changes.unhooked, changes.node), ([3].into(), false));
        }
        let come = told(vec![RouteNetlinkMessage::NewTrafficFilter(m)]);
        assert_eq!(come, Changes::default());
    }

    #[test]
    fn lost_notices_are_a_change_of_everything_and_no_end() {
        let mut changes = Changes::default();
        assert!(took(&mut changes, Err(Errno::ENOBUFS)).unwrap());
        assert!(changes.all);
        let mut changes = Changes::default();
        assert!(!took(&mut changes, Err(Errno::EAGAIN)).unwrap());
        assert_eq!(changes, Changes::default());
        assert!(took(&mut changes, Err(Errno::EBADF)).is_err());
    }
}
