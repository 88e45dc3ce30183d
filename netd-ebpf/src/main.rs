//! netd's eBPF programs: one entry for each hook. The decisions are `netd_common`'s; what is here
//! moves bytes, calls helpers and touches maps.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]
#![expect(
    missing_docs,
    reason = "the entry macros make undocumented items; the entries themselves are documented"
)]
#![expect(
    clippy::needless_borrows_for_generic_args,
    reason = "a map key by value is one more copy on a small stack"
)]
#![expect(
    clippy::needless_pass_by_value,
    reason = "the entry macros hand the context over by value"
)]

mod answer;
mod atomic;
mod call;
mod datagram;
mod ending;
mod endpoint;
mod family;
mod fib;
mod floating;
mod flows;
mod fragment;
mod gateway;
mod global;
mod icmp;
mod learn;
mod limits;
mod mapping;
mod maps;
mod meter;
mod neighbour;
mod options;
mod planted;
mod publish;
mod reserve;
mod rewrite;
mod route;
mod skb;
mod sock;
mod sockets;
mod split;
mod sum;
mod switch;
mod trace;
mod uplink;
mod verdict;
mod waiting;
mod watch;
mod wish;
mod work;
mod xdp;

use aya_ebpf::EbpfContext;
use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::macros::{cgroup_sock_addr, classifier, xdp};
use aya_ebpf::programs::{SockAddrContext, TcContext, XdpContext};
use aya_log_ebpf::debug;
use netd_common::reason::{DropReason, Hook};
use netd_common::stage::Stage;
use netd_common::trace::Point;
use netd_common::wire::{ETH_LEN, Window};

use crate::call::Call;
use crate::maps::STAGES;
use crate::skb::Skb;
use crate::trace::trace;
use crate::verdict::{Verdict, count, finish};

/// Offset of the IP header.
const L3: usize = ETH_LEN;

/// TC ingress of an endpoint's node-side device.
#[classifier]
pub fn netd_ep_out(ctx: TcContext) -> i32 {
    let skb = Skb::new(ctx.skb.skb);
    watch::arrives(skb, Hook::EpOut);
    end(&ctx, Hook::EpOut, Verdict::of(endpoint::out(skb)))
}

/// TC egress of an endpoint's node-side device.
#[classifier]
pub fn netd_ep_in(ctx: TcContext) -> i32 {
    let skb = Skb::new(ctx.skb.skb);
    watch::arrives(skb, Hook::EpIn);
    end(&ctx, Hook::EpIn, Verdict::of(endpoint::r#in(skb)))
}

/// TC ingress of a gateway pair's inner end.
#[classifier]
pub fn netd_gw_out(ctx: TcContext) -> i32 {
    let skb = Skb::new(ctx.skb.skb);
    watch::arrives(skb, Hook::GwOut);
    end(&ctx, Hook::GwOut, Verdict::of(gateway::out(skb)))
}

/// TC ingress of an uplink.
#[classifier]
pub fn netd_up_in(ctx: TcContext) -> i32 {
    let skb = Skb::new(ctx.skb.skb);
    watch::arrives(skb, Hook::UpIn);
    end(&ctx, Hook::UpIn, uplink::r#in(skb))
}

/// TC egress of an uplink.
#[classifier]
pub fn netd_up_out(ctx: TcContext) -> i32 {
    let skb = Skb::new(ctx.skb.skb);
    watch::arrives(skb, Hook::UpOut);
    end(&ctx, Hook::UpOut, uplink::out(skb))
}

/// Goes on from `netd_ep_out`.
#[classifier]
pub fn netd_ep_new(ctx: TcContext) -> i32 {
    let skb = Skb::new(ctx.skb.skb);
    follow(&ctx, Hook::EpOut, Verdict::of(endpoint::new(skb)))
}

/// Goes on from `netd_up_in`.
#[classifier]
pub fn netd_up_new(ctx: TcContext) -> i32 {
    follow(&ctx, Hook::UpIn, uplink::new(Skb::new(ctx.skb.skb)))
}

/// Goes on from `netd_up_out`.
#[classifier]
pub fn netd_up_own(ctx: TcContext) -> i32 {
    follow(&ctx, Hook::UpOut, uplink::own(Skb::new(ctx.skb.skb)))
}

/// Goes on from `netd_ep_out`, with a fragment.
#[classifier]
pub fn netd_ep_frag(ctx: TcContext) -> i32 {
    let skb = Skb::new(ctx.skb.skb);
    skb.set_first(false);
    follow(&ctx, Hook::EpOut, fragment::out(skb))
}

/// Goes on from `netd_up_in`, with a fragment.
#[classifier]
pub fn netd_up_frag(ctx: TcContext) -> i32 {
    let skb = Skb::new(ctx.skb.skb);
    skb.set_first(false);
    follow(&ctx, Hook::UpIn, fragment::r#in(skb))
}

/// Goes on from `netd_up_out`, with a fragment.
#[classifier]
pub fn netd_own_frag(ctx: TcContext) -> i32 {
    let skb = Skb::new(ctx.skb.skb);
    skb.set_first(false);
    follow(&ctx, Hook::UpOut, fragment::own(skb))
}

/// Ends the way of a first fragment that goes on: the others of its datagram follow it.
#[classifier]
pub fn netd_frag_first(ctx: TcContext) -> i32 {
    let skb = Skb::new(ctx.skb.skb);
    let verdict = fragment::first(skb);
    let reason = verdict.dropped();
    let hook = Hook::from_code(skb.hook() as u8).unwrap_or(Hook::EpOut);
    watch::ends(
        skb,
        hook,
        if reason.is_none() {
            Verdict::acts(skb.action())
        } else {
            verdict
        },
    );
    say(&ctx, hook, reason);
    count(hook, reason.and_then(DropReason::from_code), skb.len());
    match reason {
        None => skb.action(),
        Some(_) => verdict.action(),
    }
}

/// [`end`], where the packet may be a first fragment.
#[inline(always)]
fn follow(ctx: &TcContext, hook: Hook, verdict: Verdict) -> i32 {
    let skb = Skb::new(ctx.skb.skb);
    if skb.is_first() {
        let slot = verdict.slot();
        if slot.is_none() && verdict.dropped().is_none() {
            skb.set_action(verdict.action());
            // SAFETY: as in `end`.
            unsafe { STAGES.tail_call(ctx, Stage::First as u32) };
        }
        if let Some(slot) = slot {
            trace(Point::Stage, slot, 0);
            // SAFETY: as in `end`.
            unsafe { STAGES.tail_call(ctx, slot) };
        }
    } else if hook == Hook::EpOut && skb.is_later() {
        match verdict.slot() {
            Some(slot) => {
                trace(Point::Stage, slot, 0);
                // SAFETY: as in `end`.
                unsafe { STAGES.tail_call(ctx, slot) };
            }
            None if verdict.dropped().is_none() => {
                fragment::passed();
            }
            None => {}
        }
    }
    end(ctx, hook, verdict)
}

/// Goes on from `netd_ep_out`, `netd_up_in` and `netd_up_out`.
#[classifier]
pub fn netd_icmp(ctx: TcContext) -> i32 {
    let skb = Skb::new(ctx.skb.skb);
    let hook = Hook::from_code(skb.hook() as u8).unwrap_or(Hook::EpOut);
    end(&ctx, hook, icmp::translate(skb, hook))
}

/// Goes on from `netd_ep_new`.
#[classifier]
pub fn netd_ep_float(ctx: TcContext) -> i32 {
    let skb = Skb::new(ctx.skb.skb);
    follow(&ctx, Hook::EpOut, Verdict::of(floating::from_endpoint(skb)))
}

/// Goes on from `netd_up_in` and `netd_up_new`.
#[classifier]
pub fn netd_up_float(ctx: TcContext) -> i32 {
    follow(
        &ctx,
        Hook::UpIn,
        floating::from_outside(Skb::new(ctx.skb.skb)),
    )
}

/// Goes on from `netd_up_out` and `netd_up_own`.
#[classifier]
pub fn netd_own_float(ctx: TcContext) -> i32 {
    follow(
        &ctx,
        Hook::UpOut,
        floating::from_node(Skb::new(ctx.skb.skb)),
    )
}

/// Goes on in another program, or counts the verdict and turns it into the TC action. The tail call is
/// made here, in the entry, where nothing is on the stack but the entry's own frame.
#[inline(always)]
fn end(ctx: &TcContext, hook: Hook, verdict: Verdict) -> i32 {
    let skb = Skb::new(ctx.skb.skb);
    let verdict = match verdict.slot() {
        None => verdict,
        Some(slot) => {
            trace(Point::Stage, slot, 0);
            skb.set_hook(hook);
            // SAFETY: the map holds programs of this type; control comes back only if one is missing.
            unsafe { STAGES.tail_call(ctx, slot) };
            Verdict::of(Err(DropReason::Helper))
        }
    };
    if let Some(reason) = verdict.dropped()
        && netd_common::answer::is_told(hook, reason)
    {
        skb.set_hook(hook);
        skb.set_reason(reason);
        // SAFETY: as above. The packet ends there; if the program is missing, here.
        unsafe { STAGES.tail_call(ctx, Stage::Answer as u32) };
    }
    watch::ends(skb, hook, verdict);
    say(ctx, hook, verdict.dropped());
    finish(hook, skb.len(), verdict)
}

/// Goes on from where a packet died of which its sender is told.
#[classifier]
pub fn netd_answer(ctx: TcContext) -> i32 {
    let skb = Skb::new(ctx.skb.skb);
    let reason = skb.reason();
    let hook = Hook::from_code(skb.hook() as u8).unwrap_or(Hook::EpOut);
    if split::is_wanted(skb, hook, reason) {
        trace(Point::Stage, Stage::Split as u32, 0);
        // SAFETY: as in `end`.
        unsafe { STAGES.tail_call(&ctx, Stage::Split as u32) };
    }
    let bytes = skb.len();
    let told = answer::tell(skb, hook, reason);
    let verdict = Verdict::drop_by(reason);
    watch::ends(skb, hook, verdict);
    say(&ctx, hook, Some(reason));
    let dropped = finish(hook, bytes, verdict);
    told.sent().unwrap_or(dropped)
}

/// Goes on from where an IPv4 packet was too big for its exit, and may be cut.
#[classifier]
pub fn netd_split(ctx: TcContext) -> i32 {
    let skb = Skb::new(ctx.skb.skb);
    let bytes = skb.len();
    let verdict = split::cut(skb);
    watch::ends(skb, Hook::EpOut, verdict);
    say(&ctx, Hook::EpOut, verdict.dropped());
    finish(Hook::EpOut, bytes, verdict)
}

/// Hooked nowhere: the daemon runs it on a list of flows that are to end. Answers how many ended.
#[classifier]
pub fn netd_flow_end(ctx: TcContext) -> i32 {
    ending::list(Skb::new(ctx.skb.skb))
}

/// XDP on an uplink.
#[xdp]
pub fn netd_xdp(ctx: XdpContext) -> u32 {
    watch::arrives_xdp(&ctx);
    let frame = xdp::Frame::new(&ctx);
    match xdp::judge(&frame) {
        Ok(()) => {
            watch::ends_xdp(0);
            count(Hook::Xdp, None, frame.len());
            XDP_PASS
        }
        Err(reason) => {
            watch::ends_xdp(reason as u8);
            say(&ctx, Hook::Xdp, Some(reason as u8));
            count(Hook::Xdp, Some(reason), frame.len());
            XDP_DROP
        }
    }
}

/// The socket hooks: `NAME, hook, function;` makes the program NAME.
macro_rules! socket_hooks {
    ($($name:ident, $hook:ident, $function:ident;)+) => {$(
        #[cgroup_sock_addr($hook)]
        pub fn $name(ctx: SockAddrContext) -> i32 {
            sock::$function(Call::new(ctx.sock_addr))
        }
    )+};
}

socket_hooks! {
    netd_sock_conn4, connect4, connect4;
    netd_sock_conn6, connect6, connect6;
    netd_sock_send4, sendmsg4, sendmsg4;
    netd_sock_send6, sendmsg6, sendmsg6;
    netd_sock_recv4, recvmsg4, name4;
    netd_sock_recv6, recvmsg6, name6;
    netd_sock_peer4, getpeername4, name4;
    netd_sock_peer6, getpeername6, name6;
    netd_sock_bind4, bind4, bind4;
    netd_sock_bind6, bind6, bind6;
}

/// A log line for a drop: only `netd daemon -v` loads the programs with it. User space adds the names.
#[inline(always)]
fn say<C: EbpfContext>(ctx: &C, hook: Hook, dropped: Option<u8>) {
    if let Some(reason) = dropped {
        debug!(ctx, "drop: hook {} reason {}", hook as u8, reason);
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Never reached: the verifier refuses a program with a loop that does not end.
    loop {}
}

/// Helpers such as `bpf_loop` and `bpf_redirect_peer` are open to GPL programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
