//! The clsact qdisc of an uplink: removed when nobody uses it any more.

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage};

use super::{Netlink, Request, Result};

fn message(ifindex: u32, parent: TcHandle) -> TcMessage {
    let mut m = TcMessage::default();
    m.header.index = ifindex.cast_signed();
    m.header.parent = parent;
    m
}

/// Removes the clsact qdisc of a device unless it holds a filter of anybody.
pub fn remove_empty_clsact(netlink: &mut Netlink, device: &str, ifindex: u32) -> Result<()> {
    for minor in [TcHandle::MIN_INGRESS, TcHandle::MIN_EGRESS] {
        let side = TcHandle {
            major: TcHandle::CLSACT.major,
            minor,
        };
        let ask = RouteNetlinkMessage::GetTrafficFilter(message(ifindex, side));
        if !netlink.dump(ask)?.is_empty() {
            return Ok(());
        }
    }
    let mut m = message(ifindex, TcHandle::CLSACT);
    m.header.handle = TcHandle {
        major: TcHandle::CLSACT.major,
        minor: 0,
    };
    m.attributes.push(TcAttribute::Kind("clsact".into()));
    let what = format!("cannot remove the clsact qdisc of {device}");
    let gone = Request::new(RouteNetlinkMessage::DelQueueDiscipline(m), 0, what).or(libc::ENOENT);
    netlink.batch(vec![gone])
}
