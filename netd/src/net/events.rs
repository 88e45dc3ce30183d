//! What changes on the node, told by the kernel: links, addresses, routes.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::StreamExt;
use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::MulticastGroup;
use tokio::time::{Instant, sleep_until};

use super::{NetError, Result, link};

/// Changes come in bursts: this long they are gathered.
const GATHER: Duration = Duration::from_millis(30);

/// What happened since the last time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Devices of netd that are gone, by ifindex.
    pub gone: BTreeSet<u32>,
    /// Something else changed: uplinks may have.
    pub node: bool,
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
            changes.gone.insert(l.ifindex);
        }
        // Its own devices coming up are no news to the daemon.
        (RouteNetlinkMessage::NewLink(_), Some(l)) if is_made_name(&l.name) => {}
        _ => changes.node = true,
    }
}

/// Calls `tell` with what changed, for ever; an error means that the kernel's socket ended.
pub async fn watch(mut tell: impl FnMut(Changes)) -> Result<()> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
    ];
    let (connection, _handle, mut messages) = rtnetlink::new_multicast_connection(&groups)
        .map_err(|e| NetError::io("cannot watch the node's devices", e))?;
    let task = tokio::spawn(connection);
    let mut changes = Changes::default();
    let mut due: Option<Instant> = None;
    loop {
        let wake = due.unwrap_or_else(|| Instant::now() + Duration::from_hours(1));
        tokio::select! {
            message = messages.next() => {
                let Some((message, _)) = message else { break };
                if let NetlinkPayload::InnerMessage(message) = &message.payload {
                    note(&mut changes, message);
                    if changes != Changes::default() {
                        due.get_or_insert_with(|| Instant::now() + GATHER);
                    }
                }
            }
            () = sleep_until(wake), if due.is_some() => {
                due = None;
                tell(std::mem::take(&mut changes));
            }
        }
    }
    task.abort();
    Err(NetError::io(
        "the kernel's notices ended",
        std::io::ErrorKind::UnexpectedEof.into(),
    ))
}
