//! `netd trace`: where a packet would go, and why.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use netd_api::{PacketSpec, Trace as Answer, TracePacket, TraceRequest, TraceStep};

use super::error::Usage;
use super::{Context, Outcome, hints, pcap};

/// `netd trace AT PACKET`.
#[derive(Debug, Args)]
#[command(after_help = "A packet in words (quote `>` for the shell):\n  \
    tcp|udp [SOURCE[:PORT] >] DESTINATION:PORT   icmp [SOURCE >] DESTINATION\n  \
    arp|nd who-has ADDRESS [tell ADDRESS]\n\
    and behind it any of: flags S|SA|A|F|R.. (TCP; S), len N (payload bytes), ttl N, id N (echo),\n\
    from MAC, to MAC. What is not said is the sender's own.\n\n\
    Examples:\n  netd trace box tcp 1.1.1.1:443\n  \
    netd trace box 'tcp 10.210.0.2:1234 > [2001:db8::1]:443 flags SA'\n  \
    netd trace box --pcap dump.pcapng:7\n  \
    netd trace up0 'tcp 203.0.113.9:4000 > 192.0.2.2:8080'     from outside\n  \
    netd trace web icmp 10.210.0.2                             from the node, by network web\n\n\
    Nothing is sent, counted or changed: the programs run on copies of the maps.\n\
    Exit status: 0 it would pass, 1 it would be dropped (or the request failed), 2 wrong usage.")]
pub struct Trace {
    /// An endpoint that sends the packet, an uplink it comes in by, or a network the node sends it to;
    /// `endpoint:NAME`, `uplink:NAME`, `network:NAME` where a name is two of these
    #[arg(value_name = "AT")]
    at: String,
    #[command(flatten)]
    packet: PacketArgs,
}

/// A packet on the command line.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub struct PacketArgs {
    /// The packet in words
    #[arg(value_name = "PACKET", num_args = 1..)]
    words: Vec<String>,
    /// A frame of a capture file (pcap or pcapng, Ethernet): the first one, or number N
    #[arg(long, value_name = "FILE[:N]")]
    pcap: Option<String>,
    /// A whole Ethernet frame in hexadecimal digits
    #[arg(long, value_name = "DIGITS")]
    hex: Option<String>,
}

impl PacketArgs {
    /// The capture file and the number of the frame, if the packet is one of a file.
    pub fn file(&self) -> anyhow::Result<Option<(PathBuf, Option<usize>)>> {
        self.pcap.as_deref().map(file_and_number).transpose()
    }

    /// What the daemon is asked.
    pub fn read(&self) -> anyhow::Result<TracePacket> {
        if let Some(digits) = &self.hex {
            return Ok(TracePacket::Frame(digits.clone()));
        }
        if let Some((file, number)) = self.file()? {
            let frame = pcap::frame(&file, number.unwrap_or(1))?;
            return Ok(TracePacket::Frame(netd_api::hex(&frame)));
        }
        let spec: PacketSpec = self
            .words
            .join(" ")
            .parse()
            .map_err(|e| Usage(format!("{e}")))?;
        Ok(TracePacket::Words(spec))
    }
}

/// `FILE` or `FILE:N`; a file whose own name ends so is found.
fn file_and_number(text: &str) -> anyhow::Result<(PathBuf, Option<usize>)> {
    let whole = PathBuf::from(text);
    match text.rsplit_once(':') {
        Some((file, number)) if !whole.exists() => match number.parse() {
            Ok(number) if number > 0 => Ok((file.into(), Some(number))),
            _ => Err(Usage(format!(
                "--pcap {text:?}: {number:?} is no number of a frame, which begin at 1"
            ))
            .into()),
        },
        _ => Ok((whole, None)),
    }
}

/// Asks, prints, and exits with what would become of the packet.
pub async fn run(verb: Trace, ctx: &Context) -> Outcome {
    let request = TraceRequest {
        at: verb.at,
        packet: verb.packet.read()?,
    };
    let answer = ctx.client.trace(&request).await?;
    ctx.out.show(&answer, text)?;
    Ok(if answer.passes {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn text(t: &Answer) -> String {
    let mut lines = vec![t.packet.clone(), format!("from {}", t.at)];
    lines.extend(t.remarks.iter().map(|remark| format!("note: {remark}")));
    for program in &t.programs {
        lines.push(format!("\n{} on {}", program.program, program.device));
        let step = |s: &TraceStep| format!("  {:<8} {}", s.point, s.text);
        lines.extend(program.steps.iter().map(step));
    }
    let hint = t.reason.as_deref().map(hints::of);
    let hint = hint.map(|hint| format!(": {hint} (docs/drops.md)"));
    lines.push(format!("\n{}{}\n", t.verdict, hint.unwrap_or_default()));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use netd_api::TraceProgram;

    use super::*;

    #[test]
    fn a_drop_is_told_with_its_way_and_what_to_do() {
        let answer = Answer {
            at: "endpoint a on network web".into(),
            packet: "udp 10.0.0.2:1 > 10.1.0.2:2".into(),
            frame: String::new(),
            remarks: vec!["made up".into()],
            programs: vec![TraceProgram {
                program: "netd_ep_out".into(),
                device: "nde1".into(),
                steps: vec![TraceStep {
                    point: "host".into(),
                    text: "HOST: there".into(),
                }],
                frame: String::new(),
            }],
            passes: false,
            reason: Some("isolated".into()),
            verdict: "dropped by netd_ep_out: isolated".into(),
        };
        let text = text(&answer);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2], "note: made up");
        assert_eq!(lines[4], "netd_ep_out on nde1");
        assert_eq!(lines[5], "  host     HOST: there");
        assert!(
            lines[7].starts_with("dropped by netd_ep_out: isolated: the destination is on another")
        );
        assert!(text.contains("docs/drops.md"), "{text}");
    }

    #[test]
    fn a_frame_of_a_file_is_named_by_its_number() {
        let read = |t: &str| file_and_number(t).map(|(f, n)| (f.display().to_string(), n));
        assert_eq!(read("dump.pcap").unwrap(), ("dump.pcap".into(), None));
        assert_eq!(read("dump.pcap:7").unwrap(), ("dump.pcap".into(), Some(7)));
        assert!(
            read("dump.pcap:0")
                .unwrap_err()
                .to_string()
                .contains("begin at 1")
        );
        assert!(read("dump.pcap:x").unwrap_err().is::<Usage>());
    }
}
