//! How long an attachment takes: the API call, and the call to the first packets, beside the floor
//! of netlink alone; all with namespaces made beforehand and nothing removed in between, because the
//! kernel takes devices and namespaces away in the background and that would be measured with it.

use std::fs;
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
use super::scale;
use super::scenario::Scenario;
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

/// Attaches namespaces to netd and by netlink alone, in turns (ABBA); without a lab by netlink alone.
pub fn measure(id: &LabId, lab: Option<&Lab>, options: &Options) -> Result<Attached> {
    let mut floor = Floor::new(Ns::create(&id.ns("floor"))?)?;
    let netd = lab.map(Netd::new).transpose()?;
    // All namespaces first: making one costs more than attaching it.
    let bare = (0..options.attach())
        .map(|n| Ns::create(&id.ns(&format!("f{n}"))))
        .collect::<Result<Vec<_>>>()?;
    let own = (0..options.attach())
        .filter_map(|n| netd.as_ref().map(|netd| netd.prepare(n)))
        .collect::<Result<Vec<_>>>()?;
    let mut result = Attached::default();
    for (n, bare) in bare.iter().enumerate() {
        let floor_first = n.is_multiple_of(2);
        if floor_first {
            result.floor_ms.push(ms(floor.attach(bare)?));
        }
        if let (Some(netd), Some(target)) = (&netd, own.get(n)) {
            let (call, traffic) = netd.attach(target)?;
            result.call_ms.push(ms(call));
            result.traffic_ms.push(ms(traffic));
        }
        if !floor_first {
            result.floor_ms.push(ms(floor.attach(bare)?));
        }
    }
    if let Some(netd) = &netd {
        result.rss_mib = netd.memory("VmRSS:")?;
        for target in &own {
            result.detach_ms.push(ms(netd.detach(target)?));
        }
        result.peak_rss_mib = netd.memory("VmHWM:")?;
    }
    Ok(result)
}

/// How long it takes to attach one more, all times in milliseconds in the order they were measured.
#[derive(Clone, Debug, Serialize)]
pub struct AtScale {
    /// Endpoints that were there before the first.
    pub endpoints: u32,
    /// From the API call to its answer.
    pub call_ms: Vec<f64>,
    /// From the API call to the first answered packet over IPv4 and over IPv6.
    pub traffic_ms: Vec<f64>,
}

impl AtScale {
    /// The call to traffic over that on the emptiest node.
    pub fn over(&self, least: &Self) -> Option<Estimate> {
        stats::ratio_of_medians(&self.traffic_ms, &least.traffic_ms)
    }
}

/// Attaches namespaces to the nodes with many endpoints, in turns.
pub fn at_scale(nodes: &[scale::Node], options: &Options) -> Result<Vec<AtScale>> {
    let nodes = nodes
        .iter()
        .filter(|node| node.scenario == Scenario::EndpointScale);
    let mut all = Vec::new();
    for node in nodes {
        let netd = Netd::new(&node.lab)?;
        let targets = (0..options.attach().div_ceil(2))
            .map(|n| netd.prepare(n))
            .collect::<Result<Vec<_>>>()?;
        let result = AtScale {
            endpoints: node.level,
            call_ms: Vec::new(),
            traffic_ms: Vec::new(),
        };
        all.push((netd, targets, result));
    }
    for n in 0..options.attach().div_ceil(2) as usize {
        for (netd, targets, result) in &mut all {
            if let Some(target) = targets.get(n) {
                let (call, traffic) = netd.attach(target)?;
                result.call_ms.push(ms(call));
                result.traffic_ms.push(ms(traffic));
            }
        }
        // The next time the other way round.
        all.reverse();
    }
    let mut results: Vec<AtScale> = all.into_iter().map(|(_, _, result)| result).collect();
    results.sort_by_key(|r| r.endpoints);
    Ok(results)
}

/// A namespace that is to be attached to netd.
struct Target {
    ns: Ns,
    endpoint: String,
    probe: Probe,
}

/// netd, and an endpoint of its network that answers the first packets of new ones.
struct Netd<'a> {
    lab: &'a Lab,
    runtime: Runtime,
    client: Client,
    servers: Vec<IpAddr>,
    _answering: Option<Worker>,
}

impl<'a> Netd<'a> {
    fn new(lab: &'a Lab) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let client = Client::new(lab.node.socket());
        let server = runtime.block_on(client.endpoint(SERVER, None))?;
        Ok(Self {
            lab,
            runtime,
            client,
            servers: server.addresses.iter().map(ipnet::IpNet::addr).collect(),
            _answering: answering(lab)?,
        })
    }

    fn prepare(&self, number: u32) -> Result<Target> {
        let ns = self.lab.namespace(&format!("n{number}"))?;
        let probe = Probe::new(&ns, &self.servers)?;
        Ok(Target {
            ns,
            endpoint: format!("bench-{number}"),
            probe,
        })
    }

    /// Attaches, and says how long the call and the call to traffic took.
    fn attach(&self, target: &Target) -> Result<(Duration, Duration)> {
        let request = Attach {
            target: target.ns.name().to_owned(),
            network: NETWORK.to_owned(),
            name: Some(target.endpoint.clone()),
            ..Attach::default()
        };
        let start = Instant::now();
        self.runtime.block_on(self.client.attach(&request))?;
        let call = start.elapsed();
        target
            .probe
            .exchange()
            .with_context(|| format!("the daemon's log:\n{}", self.lab.node.log()))?;
        Ok((call, start.elapsed()))
    }

    fn detach(&self, target: &Target) -> Result<Duration> {
        let start = Instant::now();
        self.runtime
            .block_on(self.client.detach(&target.endpoint, None))?;
        Ok(start.elapsed())
    }

    /// A line of the daemon's `/proc/PID/status`, in MiB.
    fn memory(&self, key: &str) -> Result<f64> {
        let path = format!("/proc/{}/status", self.lab.node.pid()?);
        let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let line = status.lines().find_map(|l| l.strip_prefix(key));
        let line = line.with_context(|| format!("no {key} in {path}"))?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib / 1024.0)
    }
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

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
