//! The one place that touches the context of a socket hook: a process's call that names an address.

use aya_ebpf::Global;
use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie, bpf_set_retval};
use netd_common::addr::{Be16, V6};

/// The call goes on.
pub const ALLOW: i32 = 1;
/// The call fails.
const REFUSE: i32 = 0;
/// `-EADDRINUSE`
const EADDRINUSE: i32 = -98;

/// Cookie of the node's network namespace (`SO_NETNS_COOKIE`), set by the loader. No namespace has 0.
#[unsafe(no_mangle)]
static NETNS_COOKIE: Global<u64> = Global::new(0);

/// A call.
#[derive(Clone, Copy)]
pub struct Call {
    raw: *mut bpf_sock_addr,
}

/// Reads one field. Volatile: see `skb.rs`.
macro_rules! read {
    ($at:expr) => {
        // SAFETY: a field of the context the kernel called the program with, or of its socket.
        unsafe { core::ptr::read_volatile(&raw const $at) }
    };
}

/// Writes one field.
macro_rules! write {
    ($at:expr, $value:expr) => {
        // SAFETY: as above; the hook may write this field.
        unsafe { core::ptr::write_volatile(&raw mut $at, $value) }
    };
}

/// Four words as the kernel has them make an address.
#[inline(always)]
const fn of_words(words: [u32; 4]) -> V6 {
    // SAFETY: both are 16 plain bytes.
    unsafe { core::mem::transmute(words) }
}

#[inline(always)]
const fn words(addr: V6) -> [u32; 4] {
    // SAFETY: both are 16 plain bytes.
    unsafe { core::mem::transmute(addr) }
}

/// IPv4 in its 16-byte form.
#[inline(always)]
const fn mapped(v4: u32) -> V6 {
    of_words([0, 0, 0xffff_u32.to_be(), v4])
}

impl Call {
    /// Wraps the context of a socket hook.
    #[inline(always)]
    pub const fn new(raw: *mut bpf_sock_addr) -> Self {
        Self { raw }
    }

    /// Whether the socket is in the node's network namespace.
    #[inline(always)]
    pub fn is_of_the_node(self) -> bool {
        // SAFETY: `raw` is the context.
        let cookie = unsafe { bpf_get_netns_cookie(self.raw.cast()) };
        cookie == NETNS_COOKIE.load()
    }

    /// The socket's cookie.
    #[inline(always)]
    pub fn socket(self) -> u64 {
        // SAFETY: `raw` is the context.
        unsafe { bpf_get_socket_cookie(self.raw.cast()) }
    }

    /// The socket's IP protocol.
    #[inline(always)]
    pub fn protocol(self) -> u32 {
        read!((*self.raw).protocol)
    }

    /// The port that is named.
    #[inline(always)]
    pub fn port(self) -> Be16 {
        Be16((read!((*self.raw).user_port) as u16).to_ne_bytes())
    }

    /// The address that is named, on an IPv4 hook.
    #[inline(always)]
    pub fn addr4(self) -> V6 {
        mapped(read!((*self.raw).user_ip4))
    }

    /// The address that is named, on an IPv6 hook.
    #[inline(always)]
    pub fn addr6(self) -> V6 {
        of_words([
            read!((*self.raw).user_ip6[0]),
            read!((*self.raw).user_ip6[1]),
            read!((*self.raw).user_ip6[2]),
            read!((*self.raw).user_ip6[3]),
        ])
    }

    /// The source of an IPv4 datagram, as far as it is chosen.
    #[inline(always)]
    pub fn source4(self) -> V6 {
        mapped(read!((*self.raw).msg_src_ip4))
    }

    /// The source of an IPv6 datagram, as far as it is chosen.
    #[inline(always)]
    pub fn source6(self) -> V6 {
        of_words([
            read!((*self.raw).msg_src_ip6[0]),
            read!((*self.raw).msg_src_ip6[1]),
            read!((*self.raw).msg_src_ip6[2]),
            read!((*self.raw).msg_src_ip6[3]),
        ])
    }

    #[inline(always)]
    fn sk(self) -> *mut bpf_sock {
        read!((*self.raw).__bindgen_anon_1.sk)
    }

    /// The IPv4 address the socket is bound to.
    #[inline(always)]
    pub fn bound4(self) -> V6 {
        let sk = self.sk();
        mapped(read!((*sk).src_ip4))
    }

    /// The IPv6 address the socket is bound to.
    #[inline(always)]
    pub fn bound6(self) -> V6 {
        let sk = self.sk();
        of_words([
            read!((*sk).src_ip6[0]),
            read!((*sk).src_ip6[1]),
            read!((*sk).src_ip6[2]),
            read!((*sk).src_ip6[3]),
        ])
    }

    /// ifindex of the device the socket is bound to; 0: none.
    #[inline(always)]
    pub fn device(self) -> u32 {
        let sk = self.sk();
        read!((*sk).bound_dev_if)
    }

    /// The socket's mark (`SO_MARK`).
    #[inline(always)]
    pub fn mark(self) -> u32 {
        let sk = self.sk();
        read!((*sk).mark)
    }

    /// Names another address, on an IPv4 hook.
    #[inline(always)]
    pub fn set4(self, addr: V6, port: Be16) {
        let [_, _, _, v4] = words(addr);
        write!((*self.raw).user_ip4, v4);
        self.set_port(port);
    }

    /// Names another address, on an IPv6 hook.
    #[inline(always)]
    pub fn set6(self, addr: V6, port: Be16) {
        let [a, b, c, d] = words(addr);
        write!((*self.raw).user_ip6[0], a);
        write!((*self.raw).user_ip6[1], b);
        write!((*self.raw).user_ip6[2], c);
        write!((*self.raw).user_ip6[3], d);
        self.set_port(port);
    }

    #[inline(always)]
    fn set_port(self, port: Be16) {
        write!((*self.raw).user_port, u32::from(u16::from_ne_bytes(port.0)));
    }
}

/// Refuses a bind with `EADDRINUSE`.
#[inline(always)]
pub fn in_use() -> i32 {
    // SAFETY: a plain helper call. Where it fails the process gets EPERM.
    unsafe { bpf_set_retval(EADDRINUSE) };
    REFUSE
}
