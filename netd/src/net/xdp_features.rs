//! What a driver says about XDP, by generic netlink's `netdev` family (Linux 6.3, commit d3d854fd6a1d).
//! Reads only.

use std::io;

use rtnetlink::sys::protocols::NETLINK_GENERIC;
use rtnetlink::sys::{Socket, SocketAddr};

/// `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY`, `CTRL_ATTR_FAMILY_ID`, `CTRL_ATTR_FAMILY_NAME` of
/// linux/genetlink.h.
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// `NETDEV_CMD_DEV_GET`, `NETDEV_A_DEV_IFINDEX`, `NETDEV_A_DEV_XDP_FEATURES` and
/// `NETDEV_XDP_ACT_BASIC` of linux/netdev.h.
const DEV_GET: u8 = 1;
const IFINDEX: u16 = 1;
const FEATURES: u16 = 3;
const BASIC: u64 = 1;

/// `NLM_F_REQUEST`, `NLMSG_ERROR`.
const REQUEST: u16 = 1;
const ERROR: u16 = 2;
/// `struct nlmsghdr` and `struct genlmsghdr`.
const HEADERS: usize = 16 + 4;

/// Whether the driver of a device can run XDP itself (native); none: the kernel does not tell.
pub fn native(ifindex: u32) -> Option<bool> {
    let mut socket = Socket::new(NETLINK_GENERIC).ok()?;
    socket.bind_auto().ok()?;
    socket.connect(&SocketAddr::new(0, 0)).ok()?;
    let family = ask(&socket, CONTROL, GET_FAMILY, FAMILY_NAME, b"netdev\0").ok()?;
    let id = attribute(&family, FAMILY_ID)?.first_chunk().copied()?;
    let device = ifindex.to_ne_bytes();
    let answer = ask(&socket, u16::from_ne_bytes(id), DEV_GET, IFINDEX, &device).ok()?;
    let features = attribute(&answer, FEATURES)?.first_chunk().copied()?;
    Some(u64::from_ne_bytes(features) & BASIC != 0)
}

/// Sends one request with one attribute; the attributes of its answer.
fn ask(socket: &Socket, family: u16, command: u8, kind: u16, value: &[u8]) -> io::Result<Vec<u8>> {
    let attribute = 4 + value.len();
    let length = HEADERS + attribute.next_multiple_of(4);
    let mut message = Vec::with_capacity(length);
    message.extend((length as u32).to_ne_bytes());
    message.extend(family.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend([0; 8]); // sequence and port: one question at a time
    message.extend([command, 1, 0, 0]);
    message.extend((attribute as u16).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(value);
    message.resize(length, 0);
    socket.send(&message, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let told = answer.get(4..6).map(|t| u16::from_ne_bytes([t[0], t[1]]));
    match told {
        Some(ERROR) | None => Err(io::ErrorKind::Unsupported.into()),
        Some(_) => Ok(answer.get(HEADERS..).unwrap_or_default().to_vec()),
    }
}

/// The value of an attribute.
fn attribute(mut rest: &[u8], wanted: u16) -> Option<&[u8]> {
    while let Some(&[a, b, c, d]) = rest.first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([a, b]));
        let value = rest.get(4..length)?;
        if u16::from_ne_bytes([c, d]) == wanted {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_device_has_no_native_xdp_where_the_kernel_tells() {
        assert_ne!(native(1), Some(true));
        assert_eq!(native(0x7fff_fff0), None);
    }

    #[test]
    fn attributes_are_found_behind_others_and_broken_ones_end_it() {
        let bytes = [5, 0, 1, 0, 7, 0, 0, 0, 6, 0, 2, 0, 1, 2, 0, 0];
        assert_eq!(attribute(&bytes, 2), Some(&[1, 2][..]));
        assert_eq!(attribute(&bytes, 3), None);
        assert_eq!(attribute(&[1, 0, 1, 0], 1), None);
        assert_eq!(attribute(&[9, 0, 1, 0], 1), None);
    }
}
