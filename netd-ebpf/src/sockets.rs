//! What the node itself holds: published ports, and sockets of its own processes.

use core::ffi::c_void;

use aya_ebpf::bindings::{BPF_F_CURRENT_NETNS, bpf_sock, bpf_sock_tuple};
use aya_ebpf::helpers::generated::{bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp};
use netd_common::flow::begins;
use netd_common::maps::Publish;
use netd_common::sock::held_index;
use netd_common::tuple::Tuple;
use netd_common::wire::{L4, Packet};

use crate::family::Net;
use crate::maps::{HELD, PUBLISH};
use crate::skb::Skb;
use crate::work::{self, Work};

/// `bpf_sock.state` of a listening TCP socket.
const TCP_LISTEN: u32 = 10;

/// The published port a packet is for that begins a conversation, or may.
#[inline(always)]
pub fn published<A: Net>(p: &Packet<A>) -> Option<&'static Publish> {
    match p.l4 {
        L4::Tcp(flags) if begins(flags) => find(&p.tuple),
        L4::Udp => find(&p.tuple),
        L4::Tcp(_) | L4::EchoRequest | L4::EchoReply | L4::Icmp(_) | L4::Other | L4::Fragment => {
            None
        }
    }
}

/// The published port a packet is for that may begin a conversation, of that very address.
#[inline(always)]
pub fn published_there<A: Net>(p: &Packet<A>) -> Option<&'static Publish> {
    match p.l4 {
        L4::Tcp(flags) if begins(flags) => {}
        L4::Udp => {}
        L4::Tcp(_) | L4::EchoRequest | L4::EchoReply | L4::Icmp(_) | L4::Other | L4::Fragment => {
            return None;
        }
    }
    if !served(&p.tuple) {
        return None;
    }
    there(&p.tuple)
}

/// Whether a packet is for a port of the node that is published, on whichever address.
#[inline(always)]
pub fn serves<A: Net>(p: &Packet<A>) -> bool {
    match p.l4 {
        // A fragment's ports are known by now.
        L4::Tcp(_) | L4::Udp | L4::Fragment => served(&p.tuple),
        L4::EchoRequest | L4::EchoReply | L4::Icmp(_) | L4::Other => false,
    }
}

/// Most ports are nobody's: this look-up is an array's.
#[inline(always)]
fn served<A: Net>(t: &Tuple<A>) -> bool {
    match HELD.get(held_index(t.proto, t.dport)) {
        Some(held) => held.of(A::ZERO.to_16()),
        None => false,
    }
}

/// The published port at `t.dst`:`t.dport`, of that very address or of all. The key is in the work
/// value: the search for a port is deep in a call chain.
#[inline(always)]
fn find<A: Net>(t: &Tuple<A>) -> Option<&'static Publish> {
    if !served(t) {
        return None;
    }
    if let Some(publish) = there(t) {
        return Some(publish);
    }
    let key = &mut work::get::<A>().ok()?.publish;
    key.addr = A::ZERO.to_16();
    // SAFETY: a map value stays readable for the run of the program.
    unsafe { PUBLISH.get(&*key) }
}

/// The published port at `t.dst`:`t.dport`, of that very address.
#[inline(always)]
fn there<A: Net>(t: &Tuple<A>) -> Option<&'static Publish> {
    let key = &mut work::get::<A>().ok()?.publish;
    // Field by field: as a whole it would be made on the stack first.
    key.addr = t.dst.to_16();
    key.port = t.dport;
    key.proto = t.proto;
    key.pad = 0;
    // SAFETY: a map value stays readable for the run of the program.
    unsafe { PUBLISH.get(&*key) }
}

/// Whether the flow that `Work::wish` asks for cannot have the outside socket that gets the replies
/// `Work::key`: it is a published port, belongs to a socket of the node (the node's own flow has its own
/// port to itself; a client's port is no port of the node), or is that of the caller itself, so that the
/// answers would be taken for the questions.
#[inline(always)]
pub fn held<A: Net>(skb: Skb) -> bool {
    core::hint::black_box(A::held(skb.raw())) != 0
}

/// [`held`], behind its global function.
#[inline(always)]
pub fn is_held<A: Net>(skb: Skb) -> u64 {
    let Ok(Work {
        packet, wish, key, ..
    }) = work::get::<A>()
    else {
        return 1;
    };
    if *key == packet.tuple {
        return 1;
    }
    if wish.keeps {
        return 0;
    }
    match packet.l4 {
        L4::Tcp(_) | L4::Udp => {}
        L4::EchoRequest | L4::EchoReply | L4::Icmp(_) | L4::Other | L4::Fragment => return 0,
    }
    let own = wish.own(packet, key.dport);
    u64::from(find(key).is_some() || (!own && owner(skb, packet.l4, key) != Owner::Nobody))
}

/// Whether `reply`, the answer to a datagram of the node, would be taken for one to a published port.
/// The kernel gives sockets such ports without asking. Connections of TCP, and connected sockets of
/// UDP, are recognised when the answer comes.
#[inline(always)]
pub fn looks_published<A: Net>(l4: L4, reply: &Tuple<A>) -> bool {
    l4 == L4::Udp && find(reply).is_some()
}

/// Who would get a packet with a tuple on the node.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// No socket.
    Nobody,
    /// A socket that takes packets from anybody.
    Listener,
    /// A socket of exactly this conversation.
    Connected,
}

/// Finds the node's socket for an incoming packet with tuple `t`.
#[inline(always)]
pub fn owner<A: Net>(skb: Skb, l4: L4, t: &Tuple<A>) -> Owner {
    let Ok(work) = work::get::<A>() else {
        return Owner::Nobody;
    };
    // Field by field: as a whole it would be made on the stack first.
    work.socket.src = t.src;
    work.socket.dst = t.dst;
    work.socket.sport = t.sport.0;
    work.socket.dport = t.dport.0;
    let tuple = (&raw mut work.socket).cast::<bpf_sock_tuple>();
    let size = size_of::<Key<A>>() as u32;
    let netns = i64::from(BPF_F_CURRENT_NETNS).cast_unsigned();
    let tcp = matches!(l4, L4::Tcp(_));
    // SAFETY: `raw` is the program's context; `socket` has the layout of `bpf_sock_tuple` for its family.
    let sock: *mut bpf_sock = unsafe {
        if tcp {
            bpf_skc_lookup_tcp(skb.raw().cast(), tuple, size, netns, 0)
        } else {
            bpf_sk_lookup_udp(skb.raw().cast(), tuple, size, netns, 0)
        }
    };
    if sock.is_null() {
        return Owner::Nobody;
    }
    // SAFETY: not null, and held until released below.
    let connected = unsafe {
        if tcp {
            (*sock).state != TCP_LISTEN
        } else {
            (*sock).dst_port != 0
        }
    };
    // SAFETY: the reference the look-up took.
    unsafe { bpf_sk_release(sock.cast::<c_void>()) };
    if connected {
        Owner::Connected
    } else {
        Owner::Listener
    }
}

/// The same for what may be no protocol of sockets.
#[inline(always)]
pub fn owner_of<A: Net>(skb: Skb, l4: L4, t: &Tuple<A>) -> Owner {
    match l4 {
        L4::Tcp(_) | L4::Udp => owner(skb, l4, t),
        L4::EchoRequest | L4::EchoReply | L4::Icmp(_) | L4::Other | L4::Fragment => Owner::Nobody,
    }
}

/// `bpf_sock_tuple` for one family.
#[repr(C)]
pub struct Key<A> {
    src: A,
    dst: A,
    sport: [u8; 2],
    dport: [u8; 2],
}
