//! Tries what the kernel's network can, in a namespace of a thread that ends with it: nothing of it is
//! ever seen by anybody.

use nix::sched::{CloneFlags, unshare};

use super::link::{self, End};
use super::{NetError, Netlink, Result};

/// Runs `f` in a fresh network namespace that goes with it.
pub fn run<T: Send>(f: impl FnOnce() -> T + Send) -> Result<T> {
    let ran = std::thread::scope(|scope| {
        let inside = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(|e| NetError::io("cannot make a network namespace", e.into()))?;
            Ok(f())
        });
        inside.join()
    });
    ran.unwrap_or_else(|_| Err(NetError::Decode("a thread in a namespace died".into())))
}

/// Makes a veth pair.
pub fn veth() -> Result<()> {
    let end = |name| End {
        name,
        mac: None,
        mtu: 1_500,
        netns: None,
        up: false,
    };
    Netlink::open()?.batch(vec![link::veth(&end("try0"), &end("try1"))])
}
