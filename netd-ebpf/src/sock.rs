//! `netd_sock_*`: calls of the node's own processes, on a cgroup. A call to a published port goes to the
//! endpoint instead, by the node's routes and the gateway; what names the peer to the process names
//! the address that was called. A bind that would take a published port is refused. Changes addresses
//! in calls alone: no packet passes here.
//!
//! The programs are preemptible, unlike those on devices: nothing of theirs is in per-CPU maps.

use netd_common::addr::{Be16, V6};
use netd_common::maps::{Called, CalledKey, Publish, PublishKey};
use netd_common::sock::{self, Bind};

use crate::call::{ALLOW, Call, in_use};
use crate::family::Net;
use crate::maps::{CALLED, HELD, PUBLISH};

/// `connect` of an IPv4 socket.
#[inline(always)]
pub fn connect4(call: Call) -> i32 {
    if call.is_of_the_node() {
        let lead = lead(call, call.addr4(), || sock::is_loopback(call.bound4()));
        if let Some(to) = lead {
            call.set4(to.addr, to.port);
        }
    }
    ALLOW
}

/// `connect` of an IPv6 socket, which may name an IPv4 address.
#[inline(always)]
pub fn connect6(call: Call) -> i32 {
    if call.is_of_the_node() {
        let addr = call.addr6();
        let bound = || {
            sock::is_loopback(if sock::is_v4(addr) {
                call.bound4()
            } else {
                call.bound6()
            })
        };
        if let Some(to) = lead(call, addr, bound) {
            call.set6(to.addr, to.port);
        }
    }
    ALLOW
}

/// `sendto`, `sendmsg` with an IPv4 destination.
#[inline(always)]
pub fn sendmsg4(call: Call) -> i32 {
    if call.is_of_the_node() {
        let bound = || sock::is_loopback(call.bound4()) || sock::is_loopback(call.source4());
        if let Some(to) = lead(call, call.addr4(), bound) {
            call.set4(to.addr, to.port);
        }
    }
    ALLOW
}

/// `sendto`, `sendmsg` with an IPv6 destination; the kernel hands a mapped IPv4 one to [`sendmsg4`].
#[inline(always)]
pub fn sendmsg6(call: Call) -> i32 {
    if call.is_of_the_node() {
        let bound = || sock::is_loopback(call.bound6()) || sock::is_loopback(call.source6());
        if let Some(to) = lead(call, call.addr6(), bound) {
            call.set6(to.addr, to.port);
        }
    }
    ALLOW
}

/// `recvfrom`, `recvmsg`, `getpeername` of an IPv4 socket.
#[inline(always)]
pub fn name4(call: Call) -> i32 {
    if call.is_of_the_node()
        && let Some(called) = called(call, call.addr4())
    {
        call.set4(called.addr, called.port);
    }
    ALLOW
}

/// The same of an IPv6 socket.
#[inline(always)]
pub fn name6(call: Call) -> i32 {
    if call.is_of_the_node()
        && let Some(called) = called(call, call.addr6())
    {
        call.set6(called.addr, called.port);
    }
    ALLOW
}

/// `bind` of an IPv4 socket.
#[inline(always)]
pub fn bind4(call: Call) -> i32 {
    if call.is_of_the_node() && takes(call, call.addr4()) {
        return in_use();
    }
    ALLOW
}

/// `bind` of an IPv6 socket.
#[inline(always)]
pub fn bind6(call: Call) -> i32 {
    if call.is_of_the_node() && takes(call, call.addr6()) {
        return in_use();
    }
    ALLOW
}

/// The endpoint port a call to `addr` leads to. `bound`: whether the socket sends from a loopback
/// address, which no packet to an endpoint may have; then the call goes where it would without netd.
#[inline(always)]
fn lead(call: Call, addr: V6, bound: impl FnOnce() -> bool) -> Option<&'static Publish> {
    let proto = sock::proto(call.protocol())?;
    let port = call.port();
    // Most calls end here: nothing is published on this port.
    if !HELD.get(sock::held_index(proto, port))?.of(addr) {
        return None;
    }
    let addr = sock::destination(addr);
    let publish = published(addr, port, proto)?;
    // A socket bound to a device would look for the endpoint behind that device.
    if !is_of_the_node(addr) || bound() || call.device() != 0 {
        return None;
    }
    note(
        call,
        publish,
        &Called {
            addr,
            port,
            pad: [0; 2],
        },
    );
    Some(publish)
}

#[inline(always)]
fn published(addr: V6, port: Be16, proto: u8) -> Option<&'static Publish> {
    let mut key = PublishKey::new(addr, port, proto);
    // SAFETY: a map value stays readable for the run of the program.
    if let Some(publish) = unsafe { PUBLISH.get(&key) } {
        return Some(publish);
    }
    key.addr = sock::every(addr);
    // SAFETY: as above.
    unsafe { PUBLISH.get(&key) }
}

/// Whether an address is the node's: what is published on every address must not catch calls to other
/// hosts.
#[inline(always)]
fn is_of_the_node(addr: V6) -> bool {
    sock::is_loopback(addr) || addr.is_local()
}

/// Remembers what the process called the endpoint. An entry that is right already is only read.
#[inline(always)]
#[expect(
    clippy::collapsible_if,
    reason = "LLVM turns a chain of conditions into flags that the verifier takes for arithmetic on pointers"
)]
fn note(call: Call, publish: &Publish, called: &Called) {
    let key = CalledKey {
        cookie: call.socket(),
        addr: publish.addr,
        port: publish.port,
        pad: [0; 6],
    };
    // SAFETY: a map value stays readable for the run of the program; entries are replaced, not changed.
    if let Some(now) = unsafe { CALLED.get(&key) } {
        if now.addr == called.addr && now.port == called.port {
            return;
        }
    }
    // The oldest entries make room; one that cannot be made leaves the endpoint's own name.
    let _ = CALLED.insert(&key, called, 0);
}

/// What the process called the endpoint port it gets an answer from.
#[inline(always)]
fn called(call: Call, addr: V6) -> Option<&'static Called> {
    let key = CalledKey {
        cookie: call.socket(),
        addr,
        port: call.port(),
        pad: [0; 6],
    };
    // SAFETY: a map value stays readable for the run of the program.
    unsafe { CALLED.get(&key) }
}

/// Whether a bind would take a port that is published, or just being published. The daemon's own
/// sockets, which try whether it is free, are let through.
#[inline(always)]
fn takes(call: Call, addr: V6) -> bool {
    let port = call.port();
    let Some(proto) = sock::proto(call.protocol()) else {
        return false;
    };
    // Port 0: the kernel chooses, after this.
    if port.get() == 0 {
        return false;
    }
    let Some(held) = HELD.get(sock::held_index(proto, port)) else {
        return false;
    };
    let taken = match sock::bind(held, addr) {
        Bind::Free => false,
        Bind::Taken => true,
        Bind::Ask => published(addr, port, proto).is_some(),
    };
    taken && call.mark() != sock::PROBE_MARK
}
