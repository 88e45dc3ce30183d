//! How long an attachment takes: the API call, and the call to the first packets, beside the floor
//! of netlink alone; all with namespaces made beforehand and nothing removed in between, because the
//! kernel takes devices and namespaces away in the background and that would be measured with it.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use netd_api::{Attach, Client};
use serde::Serialize;
use tokio::runtime::Runtime;

use super::floor::Floor;
use super::node::{NETWORK, SERVER};
use super::options::Options;
use super::probe::Probe;
use super::stats::{self, Estimate};
use super::worker::Worker;
use crate::lab::Lab;
use crate::lab::names::LabId;
use crate::lab::netns::Ns;

/// All times in milliseconds, in the order they were measured.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Attached {
    /// Netlink alone.
    pub floor_ms: Vec<f64>,
    /// From the API call to its answer.
    pub call_ms: Vec<f64>,
    /// From the API call to the first answered packet over IPv4 and over IPv6.
    pub traffic_ms: Vec<f64>,
    /// From the API call that detaches to its answer.
    pub detach_ms: Vec<f64>,
    /// Resident memory of the daemon with all of them attached, in MiB.
    pub rss_mib: f64,
    /// The highest it ever was, in MiB.
    pub peak_rss_mib: f64,
}

impl Attached {
    /// The call to traffic over the floor.
    pub fn ratio(&self) -> Option<Estimate> {
        stats::ratio_of_medians(&self.traffic_ms, &self.floor_ms)
    }
}

/// Attaches namespaces to netd and by netlink alone, in turns (ABBA).
pub fn measure(id: &LabId, lab: &Lab, options: &Options) -> Result<Attached> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let client = Client::new(lab.node.socket());
    let server = runtime.block_on(client.endpoint(SERVER, None));
    let server = match server {
        Ok(server) => server,
        // `--path` may have left the traffic tests out: what is attached to then is made here.
        Err(_) => lab.endpoint(SERVER, &lab.network(NETWORK)?)?.info,
    };
    let _answering = answering(lab)?;
    let servers: Vec<IpAddr> = server.addresses.iter().map(ipnet::IpNet::addr).collect();
    let mut floor = Floor::new(Ns::create(&id.ns("floor"))?)?;
    let mut result = Attached::default();
    let spaces = (0..options.attach())
        .map(|n| {
            let bare = Ns::create(&id.ns(&format!("f{n}")))?;
            let ns = lab.namespace(&format!("n{n}"))?;
            let probe = Probe::new(&ns, &servers)?;
            Ok((bare, ns, probe))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut endpoints = Vec::new();
    for (n, (bare, ns, probe)) in spaces.iter().enumerate() {
        let mut netd = |result: &mut Attached| -> Result<()> {
            let name = format!("bench-{n}");
            let (call, traffic) =
                attach(&runtime, &client, ns, &name, probe).with_context(|| {
                    format!(
                        "attaching {}; the daemon's log:\n{}",
                        ns.name(),
                        lab.node.log()
                    )
                })?;
            result.call_ms.push(ms(call));
            result.traffic_ms.push(ms(traffic));
            endpoints.push(name);
            Ok(())
        };
        if n % 2 == 0 {
            result.floor_ms.push(ms(floor.attach(bare)?));
            netd(&mut result)?;
        } else {
            netd(&mut result)?;
            result.floor_ms.push(ms(floor.attach(bare)?));
        }
    }
    result.rss_mib = memory(lab, "VmRSS:")?;
    for name in endpoints {
        let start = Instant::now();
        runtime.block_on(client.detach(&name, None))?;
        result.detach_ms.push(ms(start.elapsed()));
    }
    result.peak_rss_mib = memory(lab, "VmHWM:")?;
    Ok(result)
}

/// The server's namespace must answer probes; where the load runs in it already, that does.
fn answering(lab: &Lab) -> Result<Option<Worker>> {
    let ns = Ns::open(&lab.id().ns(SERVER))?;
    let taken = ns.enter(|| Ok(std::net::UdpSocket::bind(("::", super::load::PORT)).is_err()))?;
    if taken {
        Ok(None)
    } else {
        Worker::start(&ns).map(Some)
    }
}

fn attach(
    runtime: &Runtime,
    client: &Client,
    ns: &Ns,
    name: &str,
    probe: &Probe,
) -> Result<(Duration, Duration)> {
    let request = Attach {
        target: ns.name().to_owned(),
        network: NETWORK.to_owned(),
        name: Some(name.to_owned()),
        ..Attach::default()
    };
    let start = Instant::now();
    runtime.block_on(client.attach(&request))?;
    let call = start.elapsed();
    probe.exchange()?;
    Ok((call, start.elapsed()))
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// A line of the daemon's `/proc/PID/status`, in MiB.
fn memory(lab: &Lab, key: &str) -> Result<f64> {
    let path = format!("/proc/{}/status", lab.node.pid()?);
    let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = status
        .lines()
        .find_map(|l| l.strip_prefix(key))
        .with_context(|| format!("no {key} in {path}"))?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
