//! The log: lines on stderr. For the journal each begins with its priority and has nothing the journal adds
//! itself (sd-daemon(3)); for everybody else it has the time, and colours on a terminal.

use std::fmt;
use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;

use anyhow::Context as _;
use nix::sys::stat::fstat;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Says what is to be logged: a level, or a filter as of `tracing_subscriber`'s `EnvFilter`. A wrong one is
/// refused.
pub fn filter(asked: Option<&str>, verbose: bool) -> anyhow::Result<EnvFilter> {
    let default = if verbose { "info,netd=debug" } else { "info" };
    let asked = asked.filter(|a| !a.is_empty()).unwrap_or(default);
    EnvFilter::try_new(asked).with_context(|| {
        format!(
            "log filter {asked:?} is refused; give error, warn, info, debug or trace, or MODULE=LEVEL with commas"
        )
    })
}

/// Begins to log.
pub fn start(filter: EnvFilter) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false);
    // Whoever embeds the daemon may have set up a log of its own: then that one is used.
    let _ = if is_journal() {
        builder.with_ansi(false).event_format(Journal).try_init()
    } else {
        builder
            .with_ansi(std::io::stderr().is_terminal())
            .try_init()
    };
}

/// Whether stderr is the journal's: `JOURNAL_STREAM` names the device and inode of the socket systemd has
/// connected it to (systemd.exec(5)). A stderr that was redirected since is another one.
fn is_journal() -> bool {
    let Ok(stat) = fstat(std::io::stderr().as_fd()) else {
        return false;
    };
    std::env::var("JOURNAL_STREAM").is_ok_and(|said| names(&said, stat.st_dev, stat.st_ino))
}

fn names(said: &str, device: u64, inode: u64) -> bool {
    let number = |text: &str| text.parse::<u64>().ok();
    said.split_once(':')
        .is_some_and(|(d, i)| number(d) == Some(device) && number(i) == Some(inode))
}

/// `<PRIORITY>TEXT`.
struct Journal;

impl<S, N> FormatEvent<S, N> for Journal
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut to: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        ctx.field_format()
            .format_fields(Writer::new(&mut text), event)?;
        let priority = priority(*event.metadata().level());
        // The journal takes each line as an entry of its own.
        for line in text.lines() {
            writeln!(to, "<{priority}>{line}")?;
        }
        Ok(())
    }
}

/// As syslog(3) numbers them.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_for_the_journal_have_a_priority_and_neither_time_nor_colour() {
        let page = Page::default();
        let to = page.clone();
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter(Some("trace"), false).unwrap())
            .with_writer(move || to.clone())
            .with_ansi(false)
            .event_format(Journal)
            .finish();
        tracing::subscriber::with_default(log, || {
            tracing::error!("broken");
            tracing::warn!("two\nlines");
            tracing::info!(networks = 2, "ready");
            tracing::debug!("seen");
        });
        let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
        assert_eq!(
            text,
            "<3>broken\n<4>two\n<4>lines\n<6>ready networks=2\n<7>seen\n"
        );
    }

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        assert!(names("9:1234", 9, 1234));
        for other in ["9:1235", "8:1234", "9", "", "9:", "a:b", "9:1234:1"] {
            assert!(!names(other, 9, 1234), "{other}");
        }
    }

    #[test]
    fn a_filter_that_is_none_is_refused_in_one_line() {
        for good in [None, Some(""), Some("warn"), Some("info,netd=debug")] {
            filter(good, false).unwrap();
        }
        let e = format!("{:#}", filter(Some("netd=loud"), false).unwrap_err());
        assert!(e.contains("netd=loud") && !e.contains('\n'), "{e}");
    }
}
