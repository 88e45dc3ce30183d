//! Devices, addresses, settings, hooks and pins that somebody takes away.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use netd_api::{Endpoint as Object, EndpointState};
use netd_tests::lab::topology::UPLINK;
use netd_tests::lab::{AttachMode, Lab, kernel_at_least, netns};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::Signal;

use super::{Found, Scene};

const GATEWAY: &str = "nd-web";

/// The inner end of the only gateway.
fn inner(lab: &Lab) -> Result<String> {
    let all = lab.node.devices()?;
    all.into_iter()
        .find(|d| d.starts_with("ndi"))
        .context("no inner end")
}

fn devices(mode: AttachMode, found: Found) -> Result<()> {
    let scene = Scene::new("devices", mode, found)?;
    let gateway = scene.lab.inspect_network("web")?;
    scene.repaired("the device nd-web of its gateway was deleted", |lab| {
        lab.node.ip(&format!("link del {GATEWAY}"))
    })?;
    scene.repaired("gateway of network web: a device is down", |lab| {
        lab.node.ip(&format!("link set {GATEWAY} down"))
    })?;
    scene.repaired("gateway of network web: a device is down", |lab| {
        lab.node.ip(&format!("link set {} down", inner(lab)?))
    })?;
    for v6 in [false, true] {
        let ip = gateway.gateway(v6)?;
        let len = if v6 { 64 } else { 24 };
        scene.repaired("gateway of network web: the address", |lab| {
            lab.node.ip(&format!("addr del {ip}/{len} dev {GATEWAY}"))
        })?;
    }
    scene.repaired("gateway of network web: its MTU", |lab| {
        lab.node.ip(&format!("link set {GATEWAY} mtu 1300"))
    })?;
    scene.repaired("gateway of network web: its MAC", |lab| {
        lab.node
            .ip(&format!("link set {GATEWAY} address 02:00:00:00:00:77"))
    })?;
    for family in ["ipv4", "ipv6"] {
        scene.repaired(&format!("{family} forwarding of ndi"), |lab| {
            let path = format!("/proc/sys/net/{family}/conf/{}/forwarding", inner(lab)?);
            lab.node.ns.enter(|| Ok(fs::write(path, "0")?))
        })?;
    }
    let device = &scene.a.info.device;
    scene.repaired(&format!("device {device} was taken down"), |lab| {
        lab.node.ip(&format!("link set {device} down"))
    })?;
    let name = scene.lab.id().ns("b");
    scene.seen("is gone with its device", |_| {
        scene.b.ns.ip(&format!("link del {}", scene.b.device))
    })?;
    let b: Object = scene.lab.node.netd_json(&["endpoint", "inspect", "b"])?;
    ensure!(b.state == EndpointState::Gone, "{b:?}");
    let problems = scene.status()?.problems;
    ensure!(
        problems.iter().any(|p| p.contains("`netd detach b`")),
        "{problems:?}"
    );
    scene.lab.node.netd_ok(&["detach", "b"])?;
    netns::remove(&name)
}

fn hooks(mode: AttachMode, found: Found) -> Result<()> {
    let scene = Scene::new("hooks", mode, found)?;
    let endpoint = scene.a.info.device.clone();
    let lost = |device: &str| format!("{device} lost its hooks");
    for device in [UPLINK.to_owned(), endpoint, inner(&scene.lab)?] {
        match mode {
            AttachMode::Clsact => {
                scene.repaired(&lost(&device), |lab| {
                    let del = ["qdisc", "del", "dev", &device, "clsact"];
                    lab.node.ok("tc", &del).map(drop)
                })?;
                scene.repaired(&lost(&device), |lab| {
                    let del = ["filter", "del", "dev", &device, "ingress"];
                    lab.node.ok("tc", &del).map(drop)
                })?;
            }
            AttachMode::Tcx | AttachMode::Auto => {
                scene.repaired(&lost(&device), |lab| {
                    Ok(fs::remove_dir_all(pins_of(lab, &device))?)
                })?;
            }
        }
    }
    Ok(())
}

/// Where the hooks of a device are pinned.
pub fn pins_of(lab: &Lab, device: &str) -> std::path::PathBuf {
    let links = find(&lab.node.bpf_dir(), "links");
    links.unwrap_or_default().join(device)
}

/// A directory of this name below another one.
pub fn find(dir: &std::path::Path, name: &str) -> Option<std::path::PathBuf> {
    let entries = fs::read_dir(dir).ok()?.flatten();
    entries.map(|e| e.path()).find_map(|path| {
        if path.file_name().is_some_and(|n| n == name) {
            return Some(path);
        }
        path.is_dir().then(|| find(&path, name)).flatten()
    })
}

/// Names of all that is pinned.
fn pins(lab: &Lab) -> Vec<String> {
    fn walk(dir: &std::path::Path, all: &mut Vec<String>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            all.push(entry.path().display().to_string());
            walk(&entry.path(), all);
        }
    }
    let mut all = Vec::new();
    walk(&lab.node.bpf_dir(), &mut all);
    all.sort();
    all
}

fn wiped(mode: AttachMode, found: Found) -> Result<()> {
    let scene = Scene::new("wiped", mode, found)?;
    let before = pins(&scene.lab);
    let text = "maps were pinned no more";
    scene.repaired(text, |lab| {
        let maps = find(&lab.node.bpf_dir(), "maps").context("no pins")?;
        Ok(fs::remove_dir_all(maps.parent().context("no parent")?)?)
    })?;
    ensure!(pins(&scene.lab) == before, "not all is pinned again");
    scene.repaired(text, |lab| {
        Ok(umount2(&lab.node.bpf_dir(), MntFlags::MNT_DETACH)?)
    })?;
    ensure!(pins(&scene.lab) == before, "not all is pinned again");
    // The next daemon finds the flows of this one in the maps that were pinned again.
    let flows = || Ok::<u32, anyhow::Error>(scene.status()?.flows);
    let many = flows()?;
    scene.lab.node.restart(Signal::SIGKILL)?;
    ensure!(
        flows()? == many && many > 0,
        "{many} flows became {}",
        flows()?
    );
    scene.works()
}

macro_rules! found {
    ($($name:ident;)+) => {$(
        mod $name {
            use super::super::Found;
            use netd_tests::lab::AttachMode;

            #[test]
            fn told_over_tcx() -> anyhow::Result<()> {
                super::tcx(super::$name, Found::Told)
            }

            #[test]
            fn swept_over_tcx() -> anyhow::Result<()> {
                super::tcx(super::$name, Found::Swept)
            }

            #[test]
            fn told_over_clsact() -> anyhow::Result<()> {
                super::$name(AttachMode::Clsact, Found::Told)
            }

            #[test]
            fn swept_over_clsact() -> anyhow::Result<()> {
                super::$name(AttachMode::Clsact, Found::Swept)
            }
        }
    )+};
}

fn tcx(test: fn(AttachMode, Found) -> Result<()>, found: Found) -> Result<()> {
    if !kernel_at_least(6, 6) {
        println!("SKIP: TCX needs Linux 6.6");
        return Ok(());
    }
    test(AttachMode::Tcx, found)
}

found! {
    hooks;
    wiped;
}

#[test]
fn devices_are_put_in_order_when_that_is_told() -> Result<()> {
    devices(AttachMode::Auto, Found::Told)
}

#[test]
fn devices_are_put_in_order_by_the_sweep() -> Result<()> {
    devices(AttachMode::Auto, Found::Swept)
}
