//! The same traffic over netd and over kernel bridge, routing and netfilter: the same outcome, save for the
//! differences that are listed with their reasons.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use fastrand::Rng;
use netd_tests::differential::{Probe, Sides, TALKS, Who, differences};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Probes of the ordinary suite.
const PROBES: u16 = 1_500;
/// Where they come from.
const SEED: u64 = 4;

/// All that a packet sets off runs on the CPU that sends it: so what was sent later comes later.
fn on_one_cpu() -> Result<()> {
    let mut one = CpuSet::new();
    one.set(0)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &one)?)
}

#[test]
fn crafted_packets_end_the_same() -> Result<()> {
    on_one_cpu()?;
    let sides = Sides::new("differential")?;
    let mut sockets = Vec::new();
    for side in [&sides.kernel, &sides.netd] {
        for who in Who::ALL {
            for any in ["0.0.0.0", "::"] {
                let host = side.host(who);
                sockets.push(host.udp_bind(any.parse::<std::net::IpAddr>()?, 80).ok());
            }
        }
    }
    let mut rng = Rng::with_seed(SEED);
    let (mut unexplained, mut equal) = (BTreeMap::new(), 0);
    let mut met = BTreeSet::new();
    for n in 0..PROBES {
        let probe = Probe::make(&mut rng, 10_000 + n);
        let kernel = sides.kernel.run(&probe, u32::from(n))?;
        let netd = sides.netd.run(&probe, u32::from(n))?;
        if kernel == netd {
            equal += 1;
            continue;
        }
        match differences::ALL
            .iter()
            .find(|d| (d.is)(&probe, &kernel, &netd))
        {
            Some(known) => {
                met.insert(known.name);
            }
            None => {
                unexplained.insert(probe.to_string(), (kernel, netd));
            }
        }
    }
    println!("{equal} of {PROBES} probes ended the same, seed {SEED}");
    for (probe, (kernel, netd)) in &unexplained {
        println!("{probe}\n  kernel: {kernel}\n  netd:   {netd}");
    }
    assert!(
        unexplained.is_empty(),
        "{} probes differ for no known reason",
        unexplained.len()
    );
    let all: BTreeSet<&str> = differences::ALL.iter().map(|d| d.name).collect();
    assert_eq!(
        met, all,
        "a difference that does not occur any more is none"
    );
    assert!(equal * 2 > PROBES, "most end the same");
    Ok(())
}

#[test]
fn conversations_end_the_same() -> Result<()> {
    let sides = Sides::new("differential-talks")?;
    for (name, talk) in TALKS {
        for v6 in [false, true] {
            let kernel = talk(&sides.kernel, v6)?;
            let netd = talk(&sides.netd, v6)?;
            assert_eq!(kernel, netd, "{name} (left: kernel, right: netd)");
        }
    }
    Ok(())
}
