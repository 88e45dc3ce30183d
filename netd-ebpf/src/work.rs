//! The packet at hand and all that is made from it, in one per-CPU value: it does not fit the 512
//! bytes of stack, and what is read back from a map is, to the verifier, any value at all, so that
//! the paths that lead here become one again.

use core::mem::zeroed;

use aya_ebpf::bindings::{bpf_fib_lookup, bpf_redir_neigh};
use netd_common::addr::{Mac, V6};
use netd_common::maps::fragment::{Frag, FragKey};
use netd_common::maps::{Flow, Mapping, PublishKey};
use netd_common::reason::DropReason;
use netd_common::tuple::Tuple;
use netd_common::wire::icmp_error::Quote;
use netd_common::wire::nd::ADVERT_LEN;
use netd_common::wire::{Fragment, Ip, Packet};

use crate::L3;
use crate::answer::Reply;
use crate::family::Net;
use crate::flows::Hop;
use crate::mapping::Found;
use crate::skb::Skb;
use crate::sockets::Key;
use crate::wish::Wish;

/// Value of `WORK4` and `WORK6`.
#[repr(C)]
pub struct Work<A> {
    /// The packet.
    pub packet: Packet<A>,
    /// What it turns into and where it goes.
    pub hop: Hop<A>,
    /// The flow that is asked for.
    pub wish: Wish<A>,
    /// The entry that is written.
    pub flow: Flow<A>,
    /// The tuple that is tried.
    pub to: Tuple<A>,
    /// Its reverse, the key of the replies.
    pub key: Tuple<A>,
    /// The key of the mapping that the caller's socket has, or gets.
    pub inside: Tuple<A>,
    /// The key of an outside socket: of that mapping, or of one that is called.
    pub outside: Tuple<A>,
    /// The key of the mapping that is called.
    pub callee: Tuple<A>,
    /// The row that is written.
    pub mapping: Mapping<A>,
    /// How the search for its port ended.
    pub found: Found,
    /// Which mappings are held for the flow in the making: `flow_flags`.
    pub held: u32,
    /// 1: the mapping of who begins it was made for it.
    pub made: u32,
    /// The published port that is looked for.
    pub publish: PublishKey,
    /// The node's socket that is looked for: not on the stack, the search is deep in a call chain.
    pub socket: Key<A>,
    /// Where the search for a free port starts.
    pub random: u32,
    /// How it ended.
    pub reserved: u32,
    /// Where the packet stands in its datagram.
    pub fragment: Fragment,
    /// The datagram.
    pub datagram: FragKey<A>,
    /// Its owner, as `maps::fragment` counts them.
    pub owner: u32,
    /// What is written about it.
    pub frag: Frag,
    /// The datagram that has to give place.
    pub replaced: FragKey<A>,
    /// The fragment that has waited last.
    pub token: u64,
    /// The packet that an ICMP error quotes.
    pub quote: Quote<A>,
    /// Of a packet that is dropped: the MTU it is too big for, or what the routing table said of it.
    pub detail: u32,
    /// What its sender is told.
    pub reply: Reply<A>,
    /// What a neighbour solicitation is answered with.
    pub answer: Answer,
    /// The answer as a frame.
    pub frame: [u8; ADVERT_LEN],
    /// The question to the routing table.
    pub fib: bpf_fib_lookup,
    /// Its answer.
    pub neigh: bpf_redir_neigh,
}

/// The answer to a neighbour solicitation.
#[repr(C)]
pub struct Answer {
    /// The address that was asked for.
    pub target: V6,
    /// Who has it.
    pub mac: Mac,
    /// 1: it is the gateway's, a router's.
    pub router: u16,
}

/// This CPU's value. Programs on one CPU do not interrupt each other: softirq and transmit run with
/// bottom halves off.
#[inline(always)]
pub fn get<A: Net>() -> Result<&'static mut Work<A>, DropReason> {
    let work = A::work().ok_or(DropReason::Helper)?;
    // SAFETY: a per-CPU map value, valid for the run of the program. Each run takes references to
    // fields it is not writing through another at the same time.
    Ok(unsafe { &mut *work })
}

/// Reads the IP header.
#[inline(always)]
pub fn ip<A: Net>(skb: Skb) -> Result<&'static Ip<A>, DropReason> {
    read_ip::<A>(skb)?;
    Ok(&get::<A>()?.packet.ip)
}

#[inline(never)]
fn read_ip<A: Net>(skb: Skb) -> Result<(), DropReason> {
    skb.pull(A::HEADERS);
    get::<A>()?.packet.ip = A::parse(&skb, L3)?;
    Ok(())
}

/// Reads the L4 header behind the IP header that [`ip`] has read.
#[inline(always)]
pub fn packet<A: Net>(skb: Skb) -> Result<&'static Packet<A>, DropReason> {
    read_l4::<A>(skb)?;
    Ok(&get::<A>()?.packet)
}

#[inline(never)]
fn read_l4<A: Net>(skb: Skb) -> Result<(), DropReason> {
    let work = get::<A>()?;
    let ip = work.packet.ip;
    work.packet = Packet::parse(&skb, ip)?;
    Ok(())
}

/// Reads where the fragment that [`ip`] has read stands in its datagram.
#[inline(never)]
pub fn fragment<A: Net>(skb: Skb) -> Result<(), DropReason> {
    let work = get::<A>()?;
    let ip = work.packet.ip;
    skb.pull(u32::from(ip.l4) + 20);
    work.fragment = A::fragment(&skb, L3, &ip)?;
    work.fragment.check(ip.proto)
}

/// Reads the L4 header of a first fragment.
#[inline(never)]
pub fn first<A: Net>(skb: Skb) -> Result<(), DropReason> {
    let work = get::<A>()?;
    let ip = work.packet.ip;
    work.packet = Packet::first(&skb, ip)?;
    Ok(())
}

/// All zero, for the kernel's structures.
#[inline(always)]
pub fn blank<T: Copy>() -> T {
    // SAFETY: only used for the kernel's plain integers and unions of them.
    unsafe { zeroed() }
}
