//! All the traffic there is, on a node of two networks.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use netd_tests::lab::{AttachMode, Endpoint, Host, Lab, wait};

use super::denied;
use super::numbered::{self, Account, Talk};
use super::streams::{self, Way};

/// Bytes of most datagrams, and how many go a second, each way, in each of six conversations.
const SMALL: (usize, u64) = (64, 3_500);
/// The same of datagrams that are sent in three fragments.
const FRAGMENTED: (usize, u64) = (4_000, 100);
/// Denied by the configuration.
const DENIED: &str = "192.0.2.66";

/// The node: `a` and `b` on a network, `c` on another, a port of `a` published.
pub struct Scene {
    pub lab: Lab,
    a: Endpoint,
    b: Endpoint,
    c: Endpoint,
}

/// The traffic while it runs.
pub struct Load<'a> {
    made: &'a AtomicU64,
    denied: &'a AtomicU64,
    broken: &'a AtomicBool,
}

/// What became of it.
pub struct Report {
    accounts: Vec<Account>,
    streams: Vec<Result<()>>,
    leaked: Vec<(&'static str, u64)>,
}

impl Scene {
    pub fn new(name: &str, mode: AttachMode) -> Result<Self> {
        let lab = Lab::builder(name)
            .attach_mode(mode)
            .config(&format!("deny = [\"{DENIED}/32\"]\n"))
            .build()?;
        lab.outside.ip(&format!(
            "addr add {DENIED}/24 dev {}\n",
            lab.outside.device
        ))?;
        let (web, other) = (lab.network("web")?, lab.network("other")?);
        let (a, b) = (lab.endpoint("a", &web)?, lab.endpoint("b", &web)?);
        let c = lab.endpoint("c", &other)?;
        for spec in ["8080:80/udp", "8081:81/udp", "8090-8092:90-92/tcp"] {
            lab.publish("a", spec)?;
        }
        Ok(Self { lab, a, b, c })
    }

    /// Runs `script` while traffic of every kind goes on.
    pub fn under_load(&self, script: impl FnOnce(&Load<'_>) -> Result<()>) -> Result<Report> {
        let talks = self.talks()?;
        let ways = self.ways(9_100)?;
        let long = self.ways(9_200)?;
        let long = long.iter().map(Way::connect).collect::<Result<Vec<_>>>()?;
        let probes = self.probes()?;
        let (stop, made, denied) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let broken = AtomicBool::new(false);
        let begin = Instant::now();
        thread::scope(|scope| {
            let talking = numbered::start(scope, talks, &stop);
            let mut streams = vec![scope.spawn(|| {
                let done = streams::churn(&ways, &stop, &made);
                broken.fetch_or(done.is_err(), Ordering::Release);
                done
            })];
            for (client, server) in long {
                for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
                    let stop = &stop;
                    let sending = scope.spawn(move || streams::send(from, stop));
                    streams.push(scope.spawn(move || {
                        let got = streams::receive(to)?;
                        let sent = sending.join().map_err(|_| anyhow!("a sender panicked"))??;
                        ensure!(got == sent, "{got} of {sent} bytes came");
                        Ok(())
                    }));
                }
            }
            for probe in &probes {
                let (stop, denied) = (&stop, &denied);
                streams
                    .push(scope.spawn(move || denied::send(&probe.from, probe.to, stop, denied)));
            }
            let load = Load {
                made: &made,
                denied: &denied,
                broken: &broken,
            };
            let done = load.goes_on().and_then(|()| script(&load));
            stop.store(true, Ordering::Relaxed);
            let took = begin.elapsed();
            let accounts = talking.join();
            let join = |s: thread::ScopedJoinHandle<'_, Result<()>>| match s.join() {
                Ok(done) => done,
                Err(_) => bail!("a thread panicked"),
            };
            let streams = streams.into_iter().map(join).collect();
            let leaked = probes.iter().map(|p| Ok((p.name, denied::leaked(&p.at)?)));
            let report = Report {
                accounts: accounts?,
                streams,
                leaked: leaked.collect::<Result<_>>()?,
            };
            let each_way = |way: &str| {
                let all = report.accounts.iter().filter(|a| a.name.ends_with(way));
                u128::from(all.map(|a| a.sent).sum::<u64>()) * 1000 / took.as_millis().max(1)
            };
            println!(
                "{:.1} s: {} datagrams a second there, {} back; {} connections; {} denied datagrams",
                took.as_secs_f64(),
                each_way("there"),
                each_way("back"),
                made.load(Ordering::Relaxed),
                denied.load(Ordering::Relaxed),
            );
            // What was lost may be why the rest failed.
            if let (Err(e), Err(lost)) = (&done, report.whole()) {
                bail!("{e:#}; {lost:#}");
            }
            done.map(|()| report)
        })
    }

    /// Of each kind and family a conversation of numbered datagrams.
    fn talks(&self) -> Result<Vec<Talk>> {
        let (node, outside) = (&self.lab.node, &self.lab.outside);
        let mut all = Vec::new();
        let mut add = |name: &str,
                       from: (&Host, IpAddr),
                       with: (&Host, IpAddr, u16),
                       to: (IpAddr, u16),
                       shape| {
            let from = from.0.udp_bind(from.1, 0)?;
            let with = with.0.udp_bind(with.1, with.2)?;
            all.push(Talk::new(name, from, with, to.into(), shape)?);
            Ok::<_, anyhow::Error>(())
        };
        for v6 in [false, true] {
            let of = |host: &Host| if v6 { host.v6() } else { host.v4() };
            let (a, b, out, node) = (of(&self.a), of(&self.b), of(outside), of(node));
            let family = if v6 { "IPv6" } else { "IPv4" };
            let name = |what: &str| format!("{what}, {family},");
            add(
                &name("same node"),
                (&self.b, b),
                (&self.a, a, 7000),
                (a, 7000),
                SMALL,
            )?;
            add(
                &name("masquerade"),
                (&self.b, b),
                (outside, out, 7001),
                (out, 7001),
                SMALL,
            )?;
            add(
                &name("published"),
                (outside, out),
                (&self.a, a, 80),
                (node, 8080),
                SMALL,
            )?;
            add(
                &name("masquerade in fragments"),
                (&self.b, b),
                (outside, out, 7002),
                (out, 7002),
                FRAGMENTED,
            )?;
            add(
                &name("published in fragments"),
                (outside, out),
                (&self.a, a, 81),
                (node, 8081),
                FRAGMENTED,
            )?;
        }
        Ok(all)
    }

    /// Of each kind and family a way for TCP, on ports of one purpose: 9000, 9100 or 9200.
    fn ways(&self, first: u16) -> Result<Vec<Way<'_>>> {
        let (node, outside) = (&self.lab.node, &self.lab.outside);
        // Of each purpose a port of its own: 8090, 8091 and 8092 lead to 90, 91 and 92.
        let purpose = (first - 9_000) / 100;
        let (outer, inner) = (8_090 + purpose, 90 + purpose);
        let mut all = Vec::new();
        for v6 in [false, true] {
            let of = |host: &Host| if v6 { host.v6() } else { host.v4() };
            let (a, out, node) = (of(&self.a), of(outside), of(node));
            for (name, from, to, with, at, port) in [
                (
                    "same node",
                    &*self.b,
                    SocketAddr::new(a, first),
                    &*self.a,
                    a,
                    first,
                ),
                (
                    "masquerade",
                    &*self.b,
                    SocketAddr::new(out, first),
                    outside,
                    out,
                    first,
                ),
                (
                    "published",
                    outside,
                    SocketAddr::new(node, outer),
                    &*self.a,
                    a,
                    inner,
                ),
            ] {
                all.push(Way {
                    name: name.into(),
                    from,
                    to,
                    at: with.tcp_listen(at, port)?,
                });
            }
        }
        Ok(all)
    }

    fn probes(&self) -> Result<Vec<Probe>> {
        let (node, outside) = (&self.lab.node, &self.lab.outside);
        let denied: IpAddr = DENIED.parse()?;
        let isolated = |name, from: IpAddr, to: IpAddr| -> Result<Probe> {
            Ok(Probe {
                name,
                from: self.c.udp_bind(from, 0)?,
                to: (to, 7100).into(),
                at: self.a.udp_bind(to, 7100)?,
            })
        };
        Ok(vec![
            isolated("another network, IPv4", self.c.v4(), self.a.v4())?,
            isolated("another network, IPv6", self.c.v6(), self.a.v6())?,
            Probe {
                name: "a denied source",
                from: outside.udp_bind(denied, 0)?,
                to: (node.v4(), 7101).into(),
                at: node.udp_bind(node.v4(), 7101)?,
            },
        ])
    }

    /// New flows of each kind, and a published port that stays held.
    pub fn new_flows_work(&self) -> Result<()> {
        for way in self.ways(9_000)? {
            let (client, server) = way.connect()?;
            streams::talk(&client, &server).with_context(|| way.name.clone())?;
        }
        Ok(())
    }

    /// Takes a program off the uplink: a link ends with its pin. False: no link has this name.
    pub fn unhook(&self, program: &str) -> Result<bool> {
        let device = &self.lab.node.device;
        for generation in std::fs::read_dir(self.lab.node.bpf_dir())? {
            let pin = generation?.path().join("links").join(device).join(program);
            if pin.exists() {
                std::fs::remove_file(pin)?;
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A sender whose datagrams must not arrive.
struct Probe {
    name: &'static str,
    from: std::net::UdpSocket,
    to: SocketAddr,
    at: std::net::UdpSocket,
}

impl Load<'_> {
    /// Waits for a few more new connections.
    pub fn goes_on(&self) -> Result<()> {
        self.more(self.made, 12, "new connections")
    }

    /// Waits for a few more denied datagrams.
    pub fn denied_goes_on(&self) -> Result<()> {
        self.more(self.denied, 100, "denied datagrams")
    }

    fn more(&self, count: &AtomicU64, by: u64, what: &str) -> Result<()> {
        let goal = count.load(Ordering::Acquire) + by;
        wait::until(what, || {
            // What is broken is reported at the end.
            let over = self.broken.load(Ordering::Acquire);
            Ok((over || count.load(Ordering::Acquire) >= goal).then_some(()))
        })
    }
}

impl Report {
    /// Nothing was lost, cut off or let through.
    pub fn whole(&self) -> Result<()> {
        let lost = self.accounts.iter().filter(|a| a.lost > 0);
        let mut wrong: Vec<String> = lost.map(|a| format!("lost, {a}")).collect();
        let silent = self.accounts.iter().filter(|a| a.sent == 0);
        wrong.extend(silent.map(|a| format!("nothing was sent, {}", a.name)));
        let broken = self.streams.iter().filter_map(|s| s.as_ref().err());
        wrong.extend(broken.map(|e| format!("{e:#}")));
        let leaked = self.leaked.iter().filter(|(_, count)| *count > 0);
        wrong.extend(leaked.map(|(name, count)| format!("let through, {name}: {count}")));
        ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    }
}

/// The pins of all links, with their inodes. A filter has none.
pub fn links(lab: &Lab) -> Result<Vec<(PathBuf, u64)>> {
    let mut found = Vec::new();
    let mut dirs = vec![lab.node.bpf_dir()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                dirs.push(path);
                continue;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with("netd_") && !name.ends_with("_filter") {
                found.push((path, entry.metadata()?.ino()));
            }
        }
    }
    found.sort();
    Ok(found)
}
