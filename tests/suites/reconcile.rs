//! What others take away, change or get in the way of while the daemon runs: found by what the kernel tells and
//! by the sweep alone, put right, or named in `netd status`.

#[path = "reconcile/foreign.rs"]
mod foreign;
#[path = "reconcile/start.rs"]
mod start;
#[path = "reconcile/taken.rs"]
mod taken;
#[path = "reconcile/uplink.rs"]
mod uplink;

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use netd_api::Status;
use netd_tests::lab::{AttachMode, Endpoint, Host, Lab, wait};

/// Nothing is told: what is found, the sweep finds.
const DEAF: (&str, &str) = ("NETD_DEAF", "1");

/// How the daemon is to find things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// By what the kernel tells: the sweep comes too late.
    Told,
    /// By the sweep: nothing is told.
    Swept,
}

/// A node with two endpoints, one of which is published.
struct Scene {
    lab: Lab,
    a: Endpoint,
    b: Endpoint,
}

impl Scene {
    fn new(name: &str, mode: AttachMode, found: Found) -> Result<Self> {
        let sweep = match found {
            Found::Told => 3600,
            Found::Swept => 1,
        };
        let lab = Lab::builder(name)
            .attach_mode(mode)
            .config(&format!("sweep = {sweep}\n"))
            .without_daemon()
            .build()?;
        if found == Found::Swept {
            let (name, value) = DEAF;
            lab.node
                .reconfigure(|o| o.env.push((name.into(), value.into())));
        }
        lab.node.start()?;
        let web = lab.network("web")?;
        let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
        lab.publish("a", "8080:80/udp")?;
        let scene = Self { lab, a, b };
        scene.works()?;
        Ok(scene)
    }

    /// How often the daemon has said something so far.
    fn said(&self, text: &str) -> usize {
        self.lab.node.log().matches(text).count()
    }

    /// Does something to the node and waits until the daemon has said that it saw it, and has done all it does
    /// about it.
    fn seen(&self, text: &str, fault: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
        let before = self.said(text);
        fault(&self.lab).with_context(|| format!("what is to bring about {text:?}"))?;
        wait::until(&format!("{text:?} in the daemon's log"), || {
            Ok((self.said(text) > before).then_some(()))
        })?;
        self.status().map(drop)
    }

    /// The same, and then everything is as it was.
    fn repaired(&self, text: &str, fault: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
        self.seen(text, fault)?;
        let problems = self.status()?.problems;
        ensure!(problems.is_empty(), "after {text:?}: {problems:?}");
        self.works().with_context(|| format!("after {text:?}"))
    }

    /// The daemon answers one after the other: what it was doing is done.
    fn status(&self) -> Result<Status> {
        self.lab.node.netd_json(&["status"])
    }

    /// New traffic of every kind.
    fn works(&self) -> Result<()> {
        let (node, outside) = (&self.lab.node, &self.lab.outside);
        for v6 in [false, true] {
            let at = |host: &Host, port| {
                let ip: IpAddr = if v6 { host.v6() } else { host.v4() };
                SocketAddr::new(ip, port)
            };
            let echo = |from: &Host, server: &Host, listen: SocketAddr, to: SocketAddr| {
                from.udp_echo(server, listen, to, 100)
                    .with_context(|| format!("{} to {to}", from.name))
            };
            let (out, inside, here) = (at(outside, 9000), at(&self.a, 80), at(node, 8080));
            echo(&self.b, &self.a, inside, inside)?;
            echo(node, &self.a, inside, inside)?;
            let seen = echo(&self.a, outside, out, out)?;
            ensure!(seen.ip() == here.ip(), "{seen} is not the node");
            let seen = echo(outside, &self.a, inside, here)?;
            ensure!(seen.ip() == out.ip(), "{seen} is not the outside");
        }
        Ok(())
    }
}
