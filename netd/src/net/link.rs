//! Devices: building requests, and reading what is there.

use netd_common::addr::Mac;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute,
    LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};

use super::{NetError, Netlink, Request, Result};

/// A device as the kernel tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its ifindex.
    pub ifindex: u32,
    /// Its alias.
    pub alias: Option<String>,
    /// L3 MTU in bytes.
    pub mtu: u32,
    /// Its MAC; zero: it has none.
    pub mac: Mac,
    /// Administratively up.
    pub up: bool,
    /// The loopback device.
    pub loopback: bool,
    /// One end of a veth pair.
    pub veth: bool,
}

/// One end of a veth that is to be made.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its MAC; none: the kernel's choice.
    pub mac: Option<Mac>,
    /// Its MTU.
    pub mtu: u32,
    /// Descriptor of the namespace it goes to; none: here.
    pub netns: Option<std::os::fd::RawFd>,
    /// Up at once. Only the first end may be: the kernel refuses it for the peer (ENOTCONN).
    pub up: bool,
}

impl End<'_> {
    fn message(&self) -> LinkMessage {
        let mut m = LinkMessage::default();
        m.attributes.push(LinkAttribute::IfName(self.name.into()));
        m.attributes.push(LinkAttribute::Mtu(self.mtu));
        m.attributes
            .extend(self.mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
        m.attributes.extend(self.netns.map(LinkAttribute::NetNsFd));
        if self.up {
            m.header.flags = LinkFlags::Up;
            m.header.change_mask = LinkFlags::Up;
        }
        m
    }
}

/// Makes a veth pair.
pub fn veth(first: &End<'_>, second: &End<'_>) -> Request {
    let mut m = first.message();
    m.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(second.message()))),
    ]));
    let what = format!("cannot make the veth {} - {}", first.name, second.name);
    Request::new(
        RouteNetlinkMessage::NewLink(m),
        NLM_F_CREATE | NLM_F_EXCL,
        what,
    )
}

/// A change of a device, by name.
pub struct Set {
    message: LinkMessage,
    name: String,
}

impl Set {
    /// Of the device of that name.
    pub fn new(name: &str) -> Self {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.into()));
        Self {
            message,
            name: name.into(),
        }
    }

    /// Administratively up.
    #[must_use]
    pub fn up(mut self) -> Self {
        self.message.header.flags |= LinkFlags::Up;
        self.message.header.change_mask |= LinkFlags::Up;
        self
    }

    /// Administratively down.
    #[must_use]
    pub fn down(mut self) -> Self {
        self.message.header.change_mask |= LinkFlags::Up;
        self
    }

    /// Its alias.
    #[must_use]
    pub fn alias(mut self, alias: String) -> Self {
        self.message.attributes.push(LinkAttribute::IfAlias(alias));
        self
    }

    /// Its MTU.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.message.attributes.push(LinkAttribute::Mtu(mtu));
        self
    }

    /// Its MAC.
    #[must_use]
    pub fn mac(mut self, mac: Mac) -> Self {
        self.message
            .attributes
            .push(LinkAttribute::Address(mac.to_vec()));
        self
    }

    /// How it makes its IPv6 link-local address: from the MAC (modified EUI-64), or not at all.
    #[must_use]
    pub fn link_local(mut self, from_mac: bool) -> Self {
        let mode = if from_mac {
            In6AddrGenMode::Eui64
        } else {
            In6AddrGenMode::None
        };
        let inet6 = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(mode)]);
        self.message
            .attributes
            .push(LinkAttribute::AfSpecUnspec(vec![inet6]));
        self
    }

    /// The request.
    pub fn request(self) -> Request {
        let what = format!("cannot set up device {}", self.name);
        Request::new(RouteNetlinkMessage::SetLink(self.message), 0, what)
    }
}

/// Deletes a device, and a veth's peer with it. One that is gone already is fine.
pub fn delete(name: &str, ifindex: u32) -> Request {
    let mut m = LinkMessage::default();
    m.header.index = ifindex;
    Request::new(
        RouteNetlinkMessage::DelLink(m),
        0,
        format!("cannot delete device {name}"),
    )
    .or(libc::ENODEV)
}

/// ifindex of a device in the calling thread's namespace; none: not there.
pub fn ifindex(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

/// ifindex of a device that must be there.
pub fn must_ifindex(name: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(name)
        .map_err(|e| NetError::io(format!("device {name}"), e.into()))
}

/// All devices of the socket's namespace.
pub fn all(netlink: &mut Netlink) -> Result<Vec<Link>> {
    let mut ask = LinkMessage::default();
    ask.attributes
        .push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let links = netlink.dump(RouteNetlinkMessage::GetLink(ask))?;
    Ok(links.iter().filter_map(read).collect())
}

/// A device of an answer or an event.
pub fn read(message: &RouteNetlinkMessage) -> Option<Link> {
    let (RouteNetlinkMessage::NewLink(m) | RouteNetlinkMessage::DelLink(m)) = message else {
        return None;
    };
    let mut link = Link {
        name: String::new(),
        ifindex: m.header.index,
        alias: None,
        mtu: 0,
        mac: [0; 6],
        up: m.header.flags.contains(LinkFlags::Up),
        loopback: m.header.flags.contains(LinkFlags::Loopback),
        veth: false,
    };
    for attribute in &m.attributes {
        if let LinkAttribute::IfName(name) = attribute {
            link.name.clone_from(name);
        } else if let LinkAttribute::IfAlias(alias) = attribute {
            link.alias = Some(alias.clone());
        } else if let LinkAttribute::Mtu(mtu) = attribute {
            link.mtu = *mtu;
        } else if let LinkAttribute::Address(mac) = attribute {
            link.mac = Mac::try_from(mac.as_slice()).unwrap_or_default();
        } else if let LinkAttribute::LinkInfo(infos) = attribute {
            link.veth = infos.contains(&LinkInfo::Kind(InfoKind::Veth));
        }
    }
    Some(link)
}
