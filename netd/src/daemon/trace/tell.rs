//! What is said of a packet that has been run: steps of each program, and one sentence.

use netd_api::{Trace, TraceProgram, hex};
use netd_common::reason::Hook;

use super::{Part, Prepared};
use crate::trace::{End, end, steps, summary};

impl Prepared {
    /// What `netd trace` says. `(copied, live)`: flow entries.
    pub(super) fn tell(self, parts: &[Part], (copied, live): (u32, u32)) -> Trace {
        let programs = parts.iter().map(|p| TraceProgram {
            program: format!("netd_{}", p.hook.name()),
            device: self.names.device(p.ifindex),
            steps: steps(&self.names, p.hook, p.ifindex, &p.frame, &p.seen),
            frame: hex(&p.seen.frame),
        });
        let programs = programs.collect();
        let (passes, reason, verdict) = self.verdict(parts);
        let mut remarks = self.remarks;
        if copied < live {
            remarks.push(format!(
                "of {live} flow entries the {copied} with an address of this packet were looked at: a port \
                 that another flow has may look free"
            ));
        }
        Trace {
            at: self.at,
            packet: summary(&self.frame).text,
            frame: hex(&self.frame),
            remarks,
            programs,
            passes,
            reason,
            verdict,
        }
    }

    /// Whether it passes, why not, and one sentence.
    pub fn verdict(&self, parts: &[Part]) -> (bool, Option<String>, String) {
        let Some(last) = parts.last() else {
            return (false, None, "no program has seen it".into());
        };
        let text = summary(&last.seen.frame).text;
        let names = &self.names;
        let answers = last.frame.get(..12) != last.seen.frame.get(..12)
            && matches!(end(&last.seen), End::Peer(d) | End::Sent(d) if d == last.ifindex);
        let sentence = match end(&last.seen) {
            End::Dropped(reason) => {
                let text = format!("dropped by netd_{}: {}", last.hook.name(), reason.name());
                return (false, Some(reason.name().into()), text);
            }
            End::Copied(to) if to.is_empty() => {
                return (
                    false,
                    None,
                    "reaches nobody: there is no other switch port".into(),
                );
            }
            End::Copied(to) => {
                let to: Vec<String> = to.iter().map(|d| names.behind(*d)).collect();
                format!("flooded to {}", to.join(", "))
            }
            End::Peer(to) | End::Sent(to) if answers => {
                format!("answered to {}: {text}", names.behind(to))
            }
            End::Peer(to) => format!("reaches {} as {text}", names.behind(to)),
            End::Received(from) => {
                format!(
                    "reaches the node's stack, by {}, as {text}",
                    names.device(from)
                )
            }
            End::Sent(out) => format!("leaves by {} as {text}", names.device(out)),
            End::Cut => "is cut to fragments, each of which goes on by itself".into(),
            End::Waits => {
                "waits for the first fragment of its datagram, and goes where that goes".into()
            }
            End::Next if last.hook == Hook::UpOut => {
                format!("leaves by {} as {text}", names.device(last.ifindex))
            }
            End::Next => format!("goes on to the node's stack as {text}"),
        };
        (true, None, sentence)
    }
}
