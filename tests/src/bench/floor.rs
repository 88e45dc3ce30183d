//! The least an attachment can cost: the netlink calls alone, from one process - a veth pair into the
//! namespace, IPv4 and IPv6 addresses, up, default routes. Nothing is stored, checked or programmed.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::{AsRawFd as _, RawFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, setns};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

use crate::lab::netns::Ns;

/// ifindex of the device inside; 1 is the loopback device.
const INSIDE: u32 = 2;

/// A node that attaches namespaces by netlink alone.
pub struct Floor {
    node: Ns,
    socket: Socket,
    made: u32,
}

impl Floor {
    /// Opens the node's netlink socket, as a daemon would have it open.
    pub fn new(node: Ns) -> Result<Self> {
        let socket = node.enter(open)?;
        Ok(Self {
            node,
            socket,
            made: 0,
        })
    }

    /// Attaches the namespace with this path, and says how long it took.
    pub fn attach(&mut self, target: &Ns) -> Result<Duration> {
        self.made += 1;
        let number = self.made;
        let took = self.time(number, target)?;
        target
            .enter(|| check(number))
            .with_context(|| format!("{} is not attached", target.name()))?;
        Ok(took)
    }

    fn time(&self, number: u32, target: &Ns) -> Result<Duration> {
        let path = target.path();
        let (node, socket) = (&self.node, &self.socket);
        // The thread is in the node's namespace, as a daemon is, before the clock starts.
        node.enter(|| {
            let home = File::open("/proc/thread-self/ns/net")?;
            let start = Instant::now();
            let inside =
                File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
            request(socket, vec![veth(number, inside.as_raw_fd())]).context("veth pair")?;
            setns(&inside, CloneFlags::CLONE_NEWNET).context("cannot enter the namespace")?;
            let own = open();
            setns(&home, CloneFlags::CLONE_NEWNET).context("cannot leave the namespace")?;
            request(&own?, configure(number)).context("addresses and routes")?;
            Ok(start.elapsed())
        })
    }
}

fn open() -> Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE).context("cannot open a netlink socket")?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// Sends all messages at once and takes their acknowledgements.
fn request(socket: &Socket, messages: Vec<RouteNetlinkMessage>) -> Result<()> {
    let mut bytes = Vec::new();
    let mut open = messages.len();
    for (message, number) in messages.into_iter().zip(1..) {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        header.sequence_number = number;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let at = bytes.len();
        bytes.resize(at + message.buffer_len(), 0);
        message.serialize(&mut bytes[at..]);
    }
    socket.send(&bytes, 0)?;
    let mut answer = [0_u8; 4096];
    while open > 0 {
        let length = socket.recv(&mut &mut answer[..], 0)?;
        let mut rest = &answer[..length];
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)?;
            match message.payload {
                NetlinkPayload::Error(e) if e.code.is_some() => bail!("{}", e.to_io()),
                NetlinkPayload::Error(_) => open -= 1,
                _ => bail!("the kernel answered something else than an acknowledgement"),
            }
            rest = rest
                .get(message.header.length.next_multiple_of(4) as usize..)
                .unwrap_or_default();
        }
    }
    Ok(())
}

/// A veth pair: `fNUMBER` here and up, `eth0` in the namespace.
fn veth(number: u32, inside: RawFd) -> RouteNetlinkMessage {
    let mut peer = LinkMessage::default();
    peer.header.index = INSIDE;
    peer.attributes = vec![
        LinkAttribute::IfName("eth0".into()),
        LinkAttribute::NetNsFd(inside),
    ];
    let mut link = LinkMessage::default();
    up(&mut link);
    link.attributes = vec![
        LinkAttribute::IfName(format!("f{number}")),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    RouteNetlinkMessage::NewLink(link)
}

fn up(link: &mut LinkMessage) {
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
}

/// The addresses of an attachment; those of 0 are the gateway's.
fn addresses(number: u32) -> [IpAddr; 2] {
    let v4 = Ipv4Addr::from(0x0AD1_0001 + number);
    let v6 = Ipv6Addr::from((0xfd09_u128 << 112) + u128::from(number) + 1);
    [v4.into(), v6.into()]
}

/// A floor that does not attach would be no floor: the namespace must reach out from its addresses.
fn check(number: u32) -> Result<()> {
    let outside: [IpAddr; 2] = [
        Ipv4Addr::new(198, 51, 100, 1).into(),
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    ];
    for (own, outside) in addresses(number).into_iter().zip(outside) {
        let socket = UdpSocket::bind((own, 0))?;
        socket.connect((outside, 9))?;
    }
    Ok(())
}

/// Addresses, up, default routes of the device inside.
fn configure(number: u32) -> Vec<RouteNetlinkMessage> {
    let [v4, v6] = addresses(number);
    let [gateway4, gateway6] = addresses(0);
    let mut set = LinkMessage::default();
    set.header.index = INSIDE;
    up(&mut set);
    vec![
        address(v4, 16),
        address(v6, 64),
        RouteNetlinkMessage::SetLink(set),
        default_route(gateway4),
        default_route(gateway6),
    ]
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

fn address(address: IpAddr, prefix: u8) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = prefix;
    message.header.index = INSIDE;
    message.header.flags = AddressHeaderFlags::Nodad;
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
    ];
    RouteNetlinkMessage::NewAddress(message)
}

fn default_route(gateway: IpAddr) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(gateway);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Gateway(RouteAddress::from(gateway)),
        RouteAttribute::Oif(INSIDE),
    ];
    RouteNetlinkMessage::NewRoute(message)
}
