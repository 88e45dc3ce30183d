//! `netd events`.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use netd_api::{By, Event, EventLine, EventsFrom};

use super::output::print;
use super::until::Until;
use super::{Context, Outcome, told};

/// `netd events`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  netd events\n  netd events --since 0 --no-wait\n  netd events -o json --count 1\n\n\
        Ctrl-C ends it. Each event has a number, counted from 1 with the start of the daemon; the last 4096 are\n\
        kept. docs/api.md says what there is."
)]
pub struct Events {
    /// The events after this one too, as far as they are kept; 0: all of those
    #[arg(long, value_name = "N")]
    since: Option<u64>,
    /// End after so many events
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End with what there is instead of waiting for more
    #[arg(long, requires = "since")]
    no_wait: bool,
}

/// Shows what changes until it is ended.
pub async fn run(verb: Events, ctx: &Context) -> Outcome {
    let from = EventsFrom {
        since: verb.since,
        wait: !verb.no_wait,
    };
    let mut until = Until::new()?;
    let mut stream = ctx.client.events(&from).await?;
    if from.wait {
        eprintln!("netd: watching, Ctrl-C ends it");
    }
    let mut events = 0;
    while verb.count.is_none_or(|n| events < n) {
        let next = tokio::select! {
            next = stream.next::<EventLine>() => next,
            () = until.ended() => return Ok(ExitCode::SUCCESS),
        };
        let line = match next {
            Some(Ok(line)) => line,
            Some(Err(why)) => bail!("{why}"),
            None if from.wait => bail!("the daemon has stopped"),
            None => break,
        };
        if ctx.out.is_json() {
            print(&(serde_json::to_string(&line)? + "\n"));
        } else {
            print(&(text(&line) + "\n"));
        }
        events += u64::from(matches!(line, EventLine::Event(_)));
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for people.
fn text(line: &EventLine) -> String {
    match line {
        EventLine::Event(event) => self::event(event),
        EventLine::Lost(lost) => format!("{} events are missing here", lost.lost),
    }
}

fn event(event: &Event) -> String {
    let by = match &event.by {
        By::Netd => String::new(),
        by @ By::Caller(_) => format!("; by {by}"),
    };
    let kind = event.kind.name();
    let time = told::clock(event.time_ns);
    format!("{} {time} {kind:<8} {}{by}", event.number, event.text)
}

#[cfg(test)]
mod tests {
    use netd_api::{Caller, EventKind, LostEvents};

    use super::*;

    #[test]
    fn a_line_says_what_and_by_whom() {
        let mut event = Event {
            number: 12,
            time_ns: 1_001_000,
            kind: EventKind::Removed,
            object: "network web".into(),
            owner: None,
            by: By::Caller(Caller {
                uid: Some(0),
                pid: Some(7),
                command: Some("netd".into()),
            }),
            text: "network web removed".into(),
        };
        let said = text(&EventLine::Event(event.clone()));
        assert!(
            said.starts_with("12 ")
                && said.ends_with(".001001 removed  network web removed; by uid 0 pid 7 (netd)"),
            "{said}"
        );
        event.by = By::Netd;
        assert!(text(&EventLine::Event(event)).ends_with(" network web removed"));
        let lost = EventLine::Lost(LostEvents { lost: 5 });
        assert_eq!(text(&lost), "5 events are missing here");
    }
}
