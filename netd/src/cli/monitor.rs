//! `netd monitor`.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::Args;
use netd_api::{MonitorFilter, Told};
use tokio::time::{MissedTickBehavior, interval};

use super::output::print;
use super::until::Until;
use super::{Context, Outcome, told, values};

/// `netd monitor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  netd monitor\n  netd monitor --endpoint api --flows\n  \
        netd monitor --drops --reason isolated\n  netd monitor -o json --count 100\n\n\
        Ctrl-C ends it. docs/drops.md says of each reason what it means and what to do."
)]
pub struct Monitor {
    /// Only what concerns this endpoint: name or id
    #[arg(long, value_name = "EP", value_parser = values::endpoint)]
    endpoint: Option<String>,
    /// Only what concerns this network
    #[arg(long, value_name = "N", value_parser = values::name)]
    network: Option<String>,
    /// Only packets that are dropped and flows that are refused
    #[arg(long, conflicts_with = "flows")]
    drops: bool,
    /// Only flows: opened, closed, refused
    #[arg(long)]
    flows: bool,
    /// Only drops for this reason
    #[arg(long, value_name = "R")]
    reason: Option<String>,
    /// End after so many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Lines a second at most, the rest is counted; 0: all of them. JSON has all of them
    #[arg(long, value_name = "N", default_value_t = 100)]
    rate: u64,
}

/// Shows what happens until it is ended.
pub async fn run(verb: Monitor, ctx: &Context) -> Outcome {
    let filter = MonitorFilter {
        endpoint: verb.endpoint,
        network: verb.network,
        drops: verb.drops,
        flows: verb.flows,
        reason: verb.reason,
    };
    let mut until = Until::new()?;
    let mut stream = ctx.client.monitor(&filter).await?;
    eprintln!("netd: watching, Ctrl-C ends it");
    let mut totals = Totals::default();
    let mut pace = Pace::new(if ctx.out.is_json() { 0 } else { verb.rate });
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let ended = loop {
        let next = tokio::select! {
            next = stream.next::<Told>() => next,
            _ = second.tick() => {
                rest(&mut pace);
                continue;
            }
            () = until.ended() => break Ok(()),
        };
        let told = match next {
            Some(Ok(told)) => told,
            Some(Err(why)) => break Err(why),
            None => break Err("the daemon has stopped".into()),
        };
        totals.add(&told);
        if ctx.out.is_json() {
            print(&(serde_json::to_string(&told)? + "\n"));
        } else if pace.may() {
            print(&(told::line(&told) + "\n"));
        }
        if verb.count.is_some_and(|n| totals.events() >= n) {
            break Ok(());
        }
    };
    rest(&mut pace);
    eprintln!("netd: {}", totals.text());
    match ended {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(why) => bail!("{why}"),
    }
}

fn rest(pace: &mut Pace) {
    let more = pace.next_second();
    if more > 0 {
        print(&format!("... {more} more\n"));
    }
}

/// How many lines a person is shown.
#[derive(Debug)]
struct Pace {
    rate: u64,
    shown: u64,
    held: u64,
}

impl Pace {
    /// `rate` lines a second; 0: any number.
    const fn new(rate: u64) -> Self {
        Self {
            rate,
            shown: 0,
            held: 0,
        }
    }

    /// Whether a line is shown; else it is counted.
    const fn may(&mut self) -> bool {
        if self.rate == 0 || self.shown < self.rate {
            self.shown += 1;
            true
        } else {
            self.held += 1;
            false
        }
    }

    /// A second is over: how many were not shown in it.
    const fn next_second(&mut self) -> u64 {
        self.shown = 0;
        std::mem::replace(&mut self.held, 0)
    }
}

/// What there was, shown or not.
#[derive(Debug, Default)]
struct Totals {
    opened: u64,
    closed: u64,
    refused: u64,
    dropped: u64,
    lost: u64,
}

impl Totals {
    fn add(&mut self, told: &Told) {
        match told {
            Told::Opened(_) => self.opened += 1,
            Told::Closed(_) => self.closed += 1,
            Told::Refused(_) => self.refused += 1,
            Told::Dropped(_) | Told::Packet(_) => self.dropped += 1,
            Told::Lost { events } => self.lost += events,
        }
    }

    /// All but the lost ones.
    const fn events(&self) -> u64 {
        self.opened + self.closed + self.refused + self.dropped
    }

    fn text(&self) -> String {
        format!(
            "{} flows opened, {} closed, {} refused, {} packets dropped; {} events lost",
            self.opened, self.closed, self.refused, self.dropped, self.lost
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_gets_so_many_lines_a_second_and_the_number_of_the_others() {
        let mut pace = Pace::new(3);
        let shown = (0..10).filter(|_| pace.may()).count();
        assert_eq!((shown, pace.next_second(), pace.next_second()), (3, 7, 0));
        assert!(pace.may());
        let mut all = Pace::new(0);
        assert!((0..1000).all(|_| all.may()));
        assert_eq!(all.next_second(), 0);
    }

    #[test]
    fn totals_count_every_event_once_and_lost_ones_apart() {
        let mut totals = Totals::default();
        totals.add(&Told::Lost { events: 5 });
        assert_eq!(totals.events(), 0);
        assert!(totals.text().ends_with("5 events lost"));
    }
}
