//! Rows of `FROM`: who may come to a publish.

use aya::maps::MapError;
use aya::maps::lpm_trie::Key;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netd_common::addr::{Addr, V4};
use netd_common::maps::{FromKey, Source, name};

use super::Datapath;
use super::error::{Error, Result, chain};
use super::table::Raw;
use crate::failpoint;

fn error(op: &'static str) -> impl Fn(MapError) -> Error {
    move |e| {
        if let MapError::SyscallError(s) = &e
            && s.io_error.raw_os_error() == Some(libc::ENOSPC)
        {
            return Error::Full { map: name::FROM };
        }
        Error::Map {
            map: name::FROM,
            op,
            why: chain(&e),
        }
    }
}

fn key(publish: u32, net: IpNet) -> Key<Raw<Source>> {
    let key = match net.trunc() {
        IpNet::V4(n) => FromKey::new(publish, n.addr().octets(), n.prefix_len()),
        IpNet::V6(n) => FromKey::new(publish, n.addr().octets(), n.prefix_len()),
    };
    Key::new(key.prefix_len, Raw(key.source))
}

/// A prefix as the map has it; none: no row of netd's.
fn net(key: &Key<Raw<Source>>) -> Option<(u32, IpNet)> {
    let source = key.data().0;
    let len = FromKey {
        prefix_len: key.prefix_len(),
        source,
    }
    .len();
    let net = if source.family == 4 {
        Ipv4Net::new(V4::from_16(source.addr).into(), len).map(IpNet::V4)
    } else {
        Ipv6Net::new(source.addr.into(), len).map(IpNet::V6)
    };
    Some((source.publish, net.ok()?))
}

impl Datapath {
    /// Lets sources come to a publish on a network.
    pub fn from_set(&mut self, (publish, net): (u32, IpNet), network: u32) -> Result<()> {
        failpoint::step(name::FROM);
        self.from
            .insert(&key(publish, net), network, 0)
            .map_err(error("insert"))
    }

    /// Takes that back, there or not.
    pub fn from_remove(&mut self, (publish, net): (u32, IpNet)) -> Result<()> {
        failpoint::step(name::FROM);
        match self.from.remove(&key(publish, net)) {
            Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
            Err(MapError::SyscallError(s)) if s.io_error.raw_os_error() == Some(libc::ENOENT) => {
                Ok(())
            }
            Err(e) => Err(error("remove")(e)),
        }
    }

    /// All of them, with the publishes' networks.
    pub fn from(&self) -> Result<Vec<((u32, IpNet), u32)>> {
        let mut all = Vec::new();
        for key in self.from.keys() {
            let key = key.map_err(error("dump"))?;
            let network = self.from.get(&key, 0).map_err(error("look-up"))?;
            all.extend(net(&key).map(|n| (n, network)));
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_read_back_as_they_were_written() {
        for text in [
            "0.0.0.0/0",
            "192.0.2.0/24",
            "192.0.2.9/32",
            "::/0",
            "2001:db8::/32",
            "::1/128",
        ] {
            let written: IpNet = text.parse().unwrap();
            assert_eq!(net(&key(7, written)), Some((7, written)), "{text}");
        }
        let host: IpNet = "192.0.2.9/24".parse().unwrap();
        assert_eq!(net(&key(7, host)), Some((7, host.trunc())));
    }
}
