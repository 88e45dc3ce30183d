//! The machine a run happened on, and how quiet it was: recorded beside every figure.

use std::fs;
use std::time::Duration;

use nix::unistd::{SysconfVar, sysconf};
use serde::Serialize;

/// What a run happened on.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Kernel release.
    pub kernel: String,
    /// CPU model.
    pub cpu: String,
    /// CPUs online.
    pub cpus: usize,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Clock source.
    pub clock: String,
}

impl Machine {
    /// Reads it.
    pub fn read() -> Self {
        let text = |path: &str| {
            fs::read_to_string(path)
                .unwrap_or_default()
                .trim()
                .to_owned()
        };
        let field = |text: &str, key: &str| {
            text.lines()
                .find_map(|l| l.strip_prefix(key))
                .map(|l| l.trim_start_matches([':', ' ', '\t']).to_owned())
                .unwrap_or_default()
        };
        let memory = field(&text("/proc/meminfo"), "MemTotal");
        Self {
            kernel: text("/proc/sys/kernel/osrelease"),
            cpu: field(&text("/proc/cpuinfo"), "model name"),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory
                .split(' ')
                .next()
                .and_then(|n| n.parse::<u64>().ok())
                .unwrap_or(0)
                / 1024,
            clock: text("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        }
    }
}

/// The 1-minute load average.
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|l| l.parse().ok())
        .unwrap_or(0.0)
}

/// CPU time so far, in clock ticks: (all, idle, stolen) of each CPU.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CpuTimes(Vec<(u64, u64, u64)>);

impl CpuTimes {
    /// Reads `/proc/stat`.
    pub fn read() -> Self {
        Self::parse(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        let cpus = text
            .lines()
            .filter(|l| l.starts_with("cpu") && !l.starts_with("cpu "));
        Self(
            cpus.map(|line| {
                let ticks: Vec<u64> = line
                    .split(' ')
                    .skip(1)
                    .filter_map(|n| n.parse().ok())
                    .collect();
                let at = |i: usize| ticks.get(i).copied().unwrap_or(0);
                // user nice system idle iowait irq softirq steal; guest time is part of user.
                (ticks.iter().take(8).sum(), at(3) + at(4), at(7))
            })
            .collect(),
        )
    }

    /// CPU time that the CPUs `used` spent at work since `before`, the hypervisor's share excepted. In
    /// clock ticks of the kernel, so only fit for times that are long beside one (mostly 10 ms).
    pub fn worked_since(&self, before: &Self, used: &[usize]) -> Duration {
        let pairs = self.0.iter().zip(&before.0).enumerate();
        let work = |(all, idle, stolen): (u64, u64, u64)| all.saturating_sub(idle + stolen);
        let ticks: u64 = pairs
            .filter(|(cpu, _)| used.contains(cpu))
            .map(|(_, (now, then))| work(*now).saturating_sub(work(*then)))
            .sum();
        Duration::from_nanos(ticks * 1_000_000_000 / ticks_per_second())
    }

    /// How disturbed the time since `before` was, for a load that ran on the CPUs `used`.
    pub fn since(&self, before: &Self, used: &[usize]) -> Disturbance {
        let mut all = (0, 0);
        let mut others = (0, 0);
        for (cpu, (now, then)) in self.0.iter().zip(&before.0).enumerate() {
            let total = now.0.saturating_sub(then.0);
            all = (all.0 + total, all.1 + now.2.saturating_sub(then.2));
            if !used.contains(&cpu) {
                let idle = now.1.saturating_sub(then.1);
                others = (others.0 + total, others.1 + total.saturating_sub(idle));
            }
        }
        Disturbance {
            steal_pct: percent(all),
            others_pct: (others.0 > 0).then(|| percent(others)),
        }
    }
}

/// Clock ticks of `/proc/stat` in a second.
fn ticks_per_second() -> u64 {
    let known = sysconf(SysconfVar::CLK_TCK).ok().flatten();
    known
        .and_then(|n| u64::try_from(n).ok())
        .filter(|n| *n > 0)
        .unwrap_or(100)
}

#[expect(clippy::cast_precision_loss, reason = "clock ticks of one run")]
fn percent((whole, part): (u64, u64)) -> f64 {
    if whole == 0 {
        0.0
    } else {
        100.0 * part as f64 / whole as f64
    }
}

/// How disturbed a cell was.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Disturbance {
    /// Time the hypervisor gave to others, percent of all CPU time.
    pub steal_pct: f64,
    /// How busy the CPUs were that the load did not use; none when it used all.
    pub others_pct: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_load_and_steal_are_told_apart_from_the_load_itself() {
        let before = CpuTimes::parse(
            "cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\nintr 1\n",
        );
        let after = CpuTimes::parse("cpu0 40 0 50 0 0 0 10 0 0 0\ncpu1 15 0 5 70 5 0 0 5 15 0\n");
        let d = after.since(&before, &[0]);
        assert!((d.steal_pct - 2.5).abs() < 1e-9, "{d:?}");
        assert!((d.others_pct.unwrap() - 25.0).abs() < 1e-9, "{d:?}");
        assert_eq!(after.since(&before, &[0, 1]).others_pct, None);
        // 40 + 50 + 10 ticks on the first CPU, 15 + 5 on the second.
        let tick = Duration::from_nanos(1_000_000_000 / ticks_per_second());
        assert_eq!(after.worked_since(&before, &[0]), tick * 100);
        assert_eq!(after.worked_since(&before, &[0, 0]), tick * 100);
        assert_eq!(after.worked_since(&before, &[0, 1]), tick * 120);
    }

    #[test]
    fn this_machine_has_cpus() {
        assert_eq!(CpuTimes::read().0.len(), Machine::read().cpus);
    }
}
