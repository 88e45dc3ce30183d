//! Whether a port of the node is free, and who has it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;

use netd_common::sock::PROBE_MARK;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
};

/// Whether a TCP or UDP port can be bound on an address: a real socket is bound for a moment.
pub fn probe(udp: bool, ip: IpAddr, port: u16) -> io::Result<()> {
    let family = if ip.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let kind = if udp {
        SockType::Datagram
    } else {
        SockType::Stream
    };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    // The socket hooks let it through. Without the right to set it, there are none of netd's.
    let _ = setsockopt(&fd, sockopt::Mark, &PROBE_MARK);
    if ip.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    if !udp {
        // Connections that linger must not count; a listener still does.
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    }
    bind(
        fd.as_raw_fd(),
        &SockaddrStorage::from(SocketAddr::new(ip, port)),
    )?;
    Ok(())
}

/// The ports the kernel gives to sockets that ask for none (`ip_local_port_range`, read only).
pub fn ephemeral() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    text.ok()
        .and_then(|text| range(&text))
        // The kernel's default.
        .unwrap_or(32_768..=60_999)
}

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut ends = text.split_whitespace().map(str::parse);
    Some(ends.next()?.ok()?..=ends.next()?.ok()?)
}

/// The process that has a port open, as `name (pid N)`; none: not found.
pub fn holder(udp: bool, port: u16) -> Option<String> {
    let tables = if udp {
        ["udp", "udp6"]
    } else {
        ["tcp", "tcp6"]
    };
    let inode = tables.iter().find_map(|table| {
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{table}")).ok()?;
        text.lines()
            .skip(1)
            .find_map(|line| inode_of(line, udp, port).map(str::to_owned))
    })?;
    let wanted = format!("socket:[{inode}]");
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name
            .to_str()
            .filter(|n| n.bytes().all(|b| b.is_ascii_digit()))
        else {
            continue;
        };
        let Ok(fds) = std::fs::read_dir(entry.path().join("fd")) else {
            continue;
        };
        let mut links = fds
            .flatten()
            .filter_map(|fd| std::fs::read_link(fd.path()).ok());
        if links.any(|link| link.to_str() == Some(&wanted)) {
            let comm = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (pid {pid})", comm.trim()));
        }
    }
    None
}

/// The socket inode of a line of `/proc/net/tcp` and its kin, when it holds that local port: a
/// listener of TCP (state 0A), any socket of UDP.
fn inode_of(line: &str, udp: bool, port: u16) -> Option<&str> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, local) = fields.get(1)?.rsplit_once(':')?;
    let holds = u16::from_str_radix(local, 16).ok()? == port && (udp || *fields.get(3)? == "0A");
    fields.get(9).copied().filter(|_| holds)
}

/// Random bytes of the kernel.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    // SAFETY: the pointer and the length describe `bytes`, which lives across the call.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
    // Up to 256 bytes come whole once the kernel's generator is seeded (getrandom(2)).
    if usize::try_from(got) == Ok(N) {
        Ok(bytes)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_somebody_listens_on_is_not_free_and_its_holder_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let e = probe(false, addr.ip(), addr.port()).unwrap_err();
        assert_eq!(e.raw_os_error(), Some(libc::EADDRINUSE));
        assert!(probe(false, IpAddr::from([0, 0, 0, 0]), addr.port()).is_err());
        let who = holder(false, addr.port()).unwrap();
        assert!(
            who.contains(&format!("pid {}", std::process::id())),
            "{who}"
        );
        drop(listener);
        probe(false, addr.ip(), addr.port()).unwrap();
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(probe(true, addr.ip(), udp.local_addr().unwrap().port()).is_err());
    }

    #[test]
    fn an_address_that_is_not_the_nodes_cannot_be_bound() {
        let e = probe(true, IpAddr::from([203, 0, 113, 77]), 9).unwrap_err();
        assert_eq!(e.raw_os_error(), Some(libc::EADDRNOTAVAIL));
    }

    #[test]
    fn the_range_of_ephemeral_ports_is_read() {
        assert_eq!(range("32768\t60999\n"), Some(32_768..=60_999));
        for bad in ["", "1", "1 x", "70000 80000"] {
            assert_eq!(range(bad), None, "{bad:?}");
        }
        assert!(!ephemeral().is_empty());
    }

    #[test]
    fn random_bytes_differ() {
        assert_ne!(random::<16>().unwrap(), random::<16>().unwrap());
    }
}
