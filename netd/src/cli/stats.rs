//! `netd stats`.

use std::process::ExitCode;

use clap::Args;
use netd_api::StatLine;
use netd_common::reason::Hook;

use super::output::table;
use super::{Context, Outcome, hints};

/// `netd stats`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  netd stats\n  netd stats -o json\n\n\
    Hooks, from the endpoint's point of view:\n  \
    ep_out  what leaves an endpoint          ep_in   what reaches it through the node's stack\n  \
    gw_out  node -> endpoint                 up_in   outside -> node\n  \
    up_out  node -> outside                  xdp     the uplink, before everything else\n\n\
    `pass` counts what a hook let through or left to the node; each drop has a reason.")]
pub struct Stats {}

/// Prints the counters: drops first, so that they are seen, then what passed.
pub async fn run(ctx: &Context) -> Outcome {
    ctx.out.show(&ctx.client.stats().await?, |all| lines(all))?;
    Ok(ExitCode::SUCCESS)
}

/// Position of a hook in the table; one this version does not know comes last.
fn place(hook: &str) -> usize {
    Hook::ALL
        .iter()
        .position(|h| h.name() == hook)
        .unwrap_or(Hook::ALL.len())
}

fn lines(stats: &[StatLine]) -> String {
    let mut stats: Vec<&StatLine> = stats.iter().collect();
    stats.sort_by_key(|s| {
        (
            s.reason.is_none(),
            place(&s.hook),
            std::cmp::Reverse(s.packets),
        )
    });
    table(
        &["HOOK", "VERDICT", "REASON", "PACKETS", "BYTES", "HINT"],
        &[3, 4],
        stats.into_iter().map(|s| {
            vec![
                s.hook.clone(),
                s.verdict.clone(),
                s.reason.clone().unwrap_or_else(|| "-".into()),
                s.packets.to_string(),
                s.bytes.to_string(),
                s.reason.as_deref().map_or("", hints::of).into(),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(hook: &str, reason: Option<&str>, packets: u64) -> StatLine {
        StatLine {
            hook: hook.into(),
            verdict: if reason.is_some() { "drop" } else { "pass" }.into(),
            reason: reason.map(Into::into),
            packets,
            bytes: packets * 100,
        }
    }

    #[test]
    fn drops_come_first_in_the_order_of_hooks_and_each_has_a_hint() {
        let text = lines(&[
            line("ep_out", None, 1000),
            line("xdp", Some("denied"), 9),
            line("ep_out", Some("isolated"), 1),
            line("ep_out", Some("spoofed_ip"), 2),
            line("up_in", None, 5),
        ]);
        let rows: Vec<Vec<&str>> = text
            .lines()
            .skip(1)
            .map(|l| l.split_whitespace().collect())
            .collect();
        let order: Vec<_> = rows.iter().map(|r| (r[0], r[2])).collect();
        assert_eq!(
            order,
            [
                ("ep_out", "spoofed_ip"),
                ("ep_out", "isolated"),
                ("xdp", "denied"),
                ("ep_out", "-"),
                ("up_in", "-")
            ]
        );
        assert_eq!(rows[0][3..5], ["2", "200"]);
        assert!(
            rows[..3].iter().all(|r| r.len() > 7),
            "a drop without a hint: {text}"
        );
        assert!(
            rows[3..].iter().all(|r| r.len() == 5),
            "a pass with a hint: {text}"
        );
    }
}
