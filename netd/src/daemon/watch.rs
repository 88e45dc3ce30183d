//! What the daemon does without being asked: it follows the node's devices and passes the programs' log
//! lines on.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use netd_api::{EventKind, object};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{MissedTickBehavior, interval};

use super::core::{Core, Handle};
use super::pins;
use super::sockets::SOCKETS;
use crate::net::events::{self, Changes};
use crate::net::link::{self, Link};
use crate::net::route;
use crate::plan::Scope;

/// How often learned MACs that are old are looked for.
const COLLECT: Duration = Duration::from_secs(2);
/// How long to wait before watching again when the kernel's notices ended.
const RETRY: Duration = Duration::from_secs(1);

/// Starts all of it. Every `sweep` all is looked at, whatever the kernel told.
pub fn spawn(handle: &Handle, sweep: Duration) {
    tokio::spawn(follow(handle.clone()));
    tokio::spawn(pins::follow(handle.clone()));
    tokio::spawn(every(handle.clone(), COLLECT, Core::collect));
    tokio::spawn(every(handle.clone(), sweep, Core::sweep));
    if let Some(fd) = handle.log_fd() {
        tokio::spawn(log_lines(handle.clone(), fd));
    }
}

async fn follow(handle: Handle) {
    loop {
        let tell = |changes: Changes| handle.posted(move |core| core.node_changed(&changes));
        if let Err(e) = events::watch(tell).await {
            tracing::warn!("{e}; looking again");
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn every(handle: Handle, period: Duration, job: fn(&mut Core)) {
    let mut tick = interval(period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.tick().await;
    loop {
        tick.tick().await;
        handle.post(job);
    }
}

/// A descriptor the core keeps open as long as the process lives.
struct LogFd(RawFd);

impl AsRawFd for LogFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0
    }
}

impl AsFd for LogFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the core's thread owns the descriptor and ends after the runtime's tasks.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

async fn log_lines(handle: Handle, fd: RawFd) {
    // SAFETY: `LogFd` always gives the same descriptor, and the core's thread, which owns it, keeps
    // it open until the runtime's tasks have ended.
    let registered = unsafe { AsyncFd::register_with_interest(LogFd(fd), Interest::READABLE) };
    let fd = match registered {
        Ok(fd) => fd,
        Err(e) => return tracing::warn!("no log lines of the programs: {e}"),
    };
    loop {
        let Ok(mut ready) = fd.readable().await else {
            return;
        };
        let flushed = handle.call(|core| {
            core.node.datapath.log_flush();
            Ok(())
        });
        if flushed.await.is_err() {
            return;
        }
        ready.clear_ready();
    }
}

impl Core {
    /// Forgets MACs that were silent for too long.
    fn collect(&mut self) {
        match self.node.datapath.learned_collect() {
            Ok(0) => {}
            Ok(n) => tracing::debug!("{n} learned MACs forgotten"),
            Err(e) => tracing::warn!("{e}"),
        }
    }

    /// Follows what the kernel told.
    fn node_changed(&mut self, changes: &Changes) {
        if changes.all {
            return self.sweep();
        }
        let own = |d: &crate::plan::Device| changes.lost.contains(&d.ifindex);
        let (mut lost, mut settle) = (Vec::new(), false);
        if changes.node || self.actual.devices.values().any(own) {
            (lost, settle) = self.look_at_devices();
        }
        if !changes.unhooked.is_empty() {
            settle |= self.repair_hooks(Some(&changes.unhooked));
        }
        if settle {
            self.settle_onward(Scope::All);
            self.tell_repaired(&lost);
        }
        if changes.node {
            self.refresh_uplinks();
            self.refresh_locals();
        }
    }

    /// Compares everything that is there with what should be, and puts it right.
    pub(super) fn sweep(&mut self) {
        let unpinned = self.repair_pins();
        let (lost, mut settle) = self.look_at_devices();
        settle |= self.repair_hooks(None) || unpinned;
        if settle || self.problems.contains_key("state") {
            self.settle_onward(Scope::All);
            self.tell_repaired(&lost);
        }
        self.give_up_unfinished();
        self.refresh_uplinks();
        self.refresh_locals();
        self.name_those_before();
        if self.problems.contains_key(SOCKETS) {
            self.hook_sockets();
        }
        self.drop_former_programs(false);
        self.end_watching_of_nobody();
    }

    /// Compares the devices that are there with the ones that should be: those that are gone, and whether there is
    /// something to settle.
    fn look_at_devices(&mut self) -> (Vec<String>, bool) {
        let netlink = &mut self.node.netlink;
        let read = link::all(netlink).and_then(|links| Ok((links, route::addresses(netlink)?)));
        match read {
            Ok((links, addresses)) => {
                let lost = self.forget_lost(&links);
                let settle = self.repair_devices(&links, &addresses) || !lost.is_empty();
                (lost, settle)
            }
            Err(e) => {
                tracing::warn!("{e}");
                (Vec::new(), false)
            }
        }
    }

    /// Gateways whose devices somebody else had deleted, and that are whole again.
    fn tell_repaired(&self, lost: &[String]) {
        for network in self.desired.networks.values() {
            let ends = [network.outer(), network.inner()];
            let again = |name| self.actual.devices.contains_key(name);
            if ends.iter().any(|name| lost.contains(name)) && ends.iter().all(again) {
                let text = format!(
                    "network {}: the device {} of its gateway was deleted, and is made again",
                    network.name, ends[0]
                );
                self.tell(EventKind::Repaired, object::network(&network.name), text);
            }
        }
    }

    /// Forgets the devices that are gone; their names.
    fn forget_lost(&mut self, links: &[Link]) -> Vec<String> {
        let there = self.own_devices(links);
        let gone = |name: &String, ifindex: u32| {
            there.iter().all(|(n, d)| n != name || d.ifindex != ifindex)
        };
        let lost: Vec<String> = self
            .actual
            .devices
            .iter()
            .filter(|(name, d)| gone(name, d.ifindex))
            .map(|(name, _)| name.clone())
            .collect();
        for name in &lost {
            self.actual.devices.remove(name);
            // The kernel removed the hooks with the device; pins are left.
            let mut endpoints = self.desired.endpoints.values();
            if let Some(e) = endpoints.find(|e| e.device() == *name) {
                let text = format!("endpoint {} ({}) is gone with its device", e.name, e.id);
                self.tell(EventKind::Gone, object::endpoint(&e.name), text);
            }
            if self.actual.hooked.remove(name)
                && let Err(e) = self.node.datapath.unhook(name)
            {
                tracing::warn!("{e}");
            }
        }
        lost
    }
}
