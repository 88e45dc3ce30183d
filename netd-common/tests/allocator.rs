//! The search for an outside port in ranges that fill up: how many ports are tried, and how often it is in
//! vain. Drawn from a fixed seed, so the figures are the same each time; they stand in
//! `docs/rfc-compliance.md`, and this holds the page to them.

use std::sync::LazyLock;

use netd_common::nat::{PortRange, TRIES, candidate};

/// Searches for each row.
const SEARCHES: u32 = 10_000;

/// Remote sockets that the ports which are in use talk to, each to one.
const REMOTES: u32 = 16;

/// Xorshift (Marsaglia 2003).
struct Draw(u32);

impl Draw {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.next()) * u64::from(n)) >> 32) as u32
    }
}

/// Ports in use, each with the remote socket it talks to.
struct Ports {
    range: PortRange,
    taken: Vec<Option<u32>>,
}

impl Ports {
    /// So many percent of a range, rounded down.
    fn filled(range: PortRange, percent: u32, draw: &mut Draw) -> Self {
        let size = u32::from(range.max - range.min) + 1;
        let mut taken = vec![None; 1 << 16];
        let mut left = size * percent / 100;
        while left > 0 {
            let port = usize::from(range.min) + draw.below(size) as usize;
            if taken[port].is_none() {
                taken[port] = Some(draw.below(REMOTES));
                left -= 1;
            }
        }
        Self { range, taken }
    }

    /// One search as the programs make it, by what they take for free; the tries it took.
    fn search(&self, wanted: u16, random: u32, free: impl Fn(Option<u32>) -> bool) -> Option<u32> {
        let is_free = |n: &u32| {
            let port = candidate(wanted, *n, random, self.range);
            assert!(self.range.has(port));
            free(self.taken[usize::from(port)])
        };
        (0..TRIES).find(is_free).map(|n| n + 1)
    }
}

/// What came of all searches of a row.
struct Figures {
    tries: Vec<u32>,
    refused: u32,
}

impl Figures {
    /// Sockets with ports of the upper class look for one; `balanced`: who finds none shares one that does not
    /// talk to the same remote socket yet.
    fn measure(ports: &Ports, balanced: bool, draw: &mut Draw) -> Self {
        let (mut tries, mut refused) = (Vec::new(), 0);
        for _ in 0..SEARCHES {
            let wanted = 1_024 + draw.below(64_512) as u16;
            let remote = draw.below(REMOTES);
            let mut found = ports.search(wanted, draw.next(), |port| port.is_none());
            if found.is_none() && balanced {
                let shared = ports.search(wanted, draw.next(), |port| port != Some(remote));
                found = shared.map(|n| TRIES + n);
            }
            match found {
                Some(n) => tries.push(n),
                None => refused += 1,
            }
        }
        tries.sort_unstable();
        Self { tries, refused }
    }

    fn mean(&self) -> f64 {
        let sum: u32 = self.tries.iter().sum();
        f64::from(sum) / f64::from((SEARCHES - self.refused).max(1))
    }

    /// So many of a thousand that found a port did within this many tries.
    fn within(&self, thousand: usize) -> u32 {
        let place = (self.tries.len() * thousand).div_ceil(1_000);
        self.tries
            .get(place.saturating_sub(1))
            .copied()
            .unwrap_or(0)
    }

    fn most(&self) -> u32 {
        self.tries.last().copied().unwrap_or(0)
    }

    /// Of a thousand.
    fn refused(&self) -> f64 {
        f64::from(self.refused) * 1_000.0 / f64::from(SEARCHES)
    }
}

const LARGE: PortRange = PortRange {
    min: 1_024,
    max: 65_535,
};
const SMALL: PortRange = PortRange {
    min: 20_000,
    max: 20_199,
};

/// Range, percent, balanced.
type Row = (PortRange, u32, bool, Figures);

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(all);

fn all() -> Vec<Row> {
    let mut draw = Draw(0x9e37_79b9);
    let mut rows = Vec::new();
    for range in [LARGE, SMALL] {
        for percent in [50, 90, 99, 100] {
            let ports = Ports::filled(range, percent, &mut draw);
            for balanced in [false, true] {
                let figures = Figures::measure(&ports, balanced, &mut draw);
                rows.push((range, percent, balanced, figures));
            }
        }
    }
    rows
}

fn line((range, percent, balanced, f): &Row) -> String {
    let profile = if *balanced { "balanced" } else { "strict" };
    let (mean, refused) = (f.mean(), f.refused());
    format!(
        "| {}-{} | {percent} % | {profile} | {mean:.1} | {} | {} | {refused:.1} |",
        range.min,
        range.max,
        f.within(990),
        f.most(),
    )
}

#[test]
fn searches_stay_within_their_bounds_as_a_range_fills_up() {
    for row in ROWS.iter() {
        println!("{}", line(row));
        let (range, percent, balanced, f) = row;
        let free = 1.0 - f64::from(*percent) / 100.0;
        let small = *range == SMALL;
        // A small range is walked: what is free is found. Of a large one 256 ports are drawn.
        let vain = match (percent, small) {
            (100, _) => 1_000.0,
            (_, true) => 0.0,
            (_, false) => 1_000.0 * (1.0 - free).powi(TRIES.cast_signed()),
        };
        let spread = 6.0 * (vain * (1_000.0 - vain) / f64::from(SEARCHES)).sqrt();
        if *balanced {
            assert_eq!(f.refused, 0, "it shares instead");
            assert!(f.most() <= TRIES + 16, "one in {REMOTES} ports is no help");
        } else {
            let off = (f.refused() - vain).abs();
            assert!(
                off <= spread + 0.001,
                "{} refused, {vain} expected",
                f.refused()
            );
            assert!(f.most() <= TRIES);
        }
        if *percent <= 90 {
            assert!(f.mean() <= 1.5 / free, "{}", f.mean());
            assert!(f64::from(f.within(990)) <= 7.0 / free, "{}", f.within(990));
        }
        if small {
            assert!(
                *balanced && *percent == 100 || f.most() <= 201,
                "{}",
                f.most()
            );
        }
    }
}

#[test]
fn the_page_has_these_figures() {
    let page = include_str!("../../docs/rfc-compliance.md");
    let there: Vec<&str> = page
        .lines()
        .filter(|l| l.starts_with("| 1024-") || l.starts_with("| 20000-"))
        .collect();
    let wanted: Vec<String> = ROWS.iter().map(line).collect();
    assert_eq!(there, wanted, "docs/rfc-compliance.md");
}
