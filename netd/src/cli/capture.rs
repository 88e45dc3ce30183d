//! `netd capture`.

mod filter;
pub(super) mod pcapng;

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use netd_api::{CaptureOf, Told, ToldPacket, unhex};
use tokio::time::interval;

use super::output::print;
use super::until::Until;
use super::{Context, Outcome, told};
use filter::Filter;
use pcapng::{Record, Writer};

/// `netd capture`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  netd capture api\n  netd capture web tcp port 443 and not host 192.0.2.7\n  \
        netd capture up0 -w up0.pcapng --count 1000\n  netd capture api -w - | wireshark -k -i -\n\n\
        FILTER in the words of tcpdump: host, net, port, portrange, src, dst, tcp, udp, sctp, icmp, icmp6, \
        arp, ip, ip6,\nand, or, not, parentheses. Addresses and ports fit before or after translation.\n\n\
        A packet is shown once for each hook it comes to, as it came; its comment says what became of it.\n\
        Ctrl-C ends it."
)]
pub struct Capture {
    /// An endpoint, a network or an uplink
    #[arg(value_name = "EP|NETWORK|UPLINK")]
    target: String,
    /// Which packets
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
    /// Write pcapng to this file; `-`: to stdout
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// End after so many packets
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Bytes of each packet
    #[arg(long, value_name = "N", default_value_t = CaptureOf::default_snaplen(),
          value_parser = clap::value_parser!(u32).range(1..=16_384))]
    snaplen: u32,
}

/// Where packets go.
enum Sink {
    File(Box<Writer<BufWriter<Box<dyn Write>>>>),
    Lines,
    Json,
}

/// Captures until it is ended.
pub async fn run(verb: Capture, ctx: &Context) -> Outcome {
    let filter =
        Filter::parse(&verb.filter.join(" ")).map_err(|e| anyhow::anyhow!("filter: {e}"))?;
    let of = CaptureOf {
        target: verb.target,
        snaplen: verb.snaplen,
    };
    if verb.write.as_ref().is_some_and(|f| f.as_os_str() == "-") && io::stdout().is_terminal() {
        bail!("pcapng on a terminal cannot be read: give -w a file, or pipe it to a program");
    }
    let mut until = Until::new()?;
    let mut stream = ctx.client.capture(&of).await?;
    let mut sink = open(verb.write, of.snaplen, ctx.out.is_json())?;
    eprintln!("netd: capturing, Ctrl-C ends it");
    let (mut packets, mut lost, mut missing) = (0u64, 0u64, 0u64);
    let mut second = interval(Duration::from_secs(1));
    let ended = loop {
        let next = tokio::select! {
            next = stream.next::<Told>() => next,
            _ = second.tick() => {
                sink.flush()?;
                continue;
            }
            () = until.ended() => break Ok(()),
        };
        match next {
            Some(Ok(Told::Lost { events })) => {
                lost += events;
                missing += events;
                sink.lost(events);
            }
            Some(Ok(told)) => {
                if let Told::Packet(packet) = &told
                    && filter.takes(packet)
                {
                    sink.put(&told, packet, std::mem::take(&mut missing))?;
                    packets += 1;
                }
            }
            Some(Err(why)) => break Err(why),
            None => break Err("the daemon has stopped".into()),
        }
        if verb.count.is_some_and(|n| packets >= n) {
            break Ok(());
        }
    };
    sink.flush()?;
    eprintln!("netd: {packets} packets captured, {lost} events lost");
    match ended {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(why) => bail!("{why}"),
    }
}

fn open(file: Option<PathBuf>, snaplen: u32, json: bool) -> anyhow::Result<Sink> {
    let to: Box<dyn Write> = match file {
        None if json => return Ok(Sink::Json),
        None => return Ok(Sink::Lines),
        Some(file) if file.as_os_str() == "-" => Box::new(io::stdout()),
        Some(file) => {
            let made = File::create(&file);
            Box::new(made.with_context(|| format!("cannot write {}", file.display()))?)
        }
    };
    let writer = Writer::new(BufWriter::new(to), snaplen).context("cannot write the capture")?;
    Ok(Sink::File(Box::new(writer)))
}

impl Sink {
    fn put(&mut self, told: &Told, packet: &ToldPacket, missing: u64) -> anyhow::Result<()> {
        match self {
            Self::Json => print(&(serde_json::to_string(told)? + "\n")),
            Self::Lines => print(&(told::line(told) + "\n")),
            Self::File(writer) => {
                let bytes = unhex(packet.frame.as_deref().unwrap_or_default()).unwrap_or_default();
                let record = Record {
                    interface: &format!("{}:{}", packet.device, packet.hook),
                    outbound: matches!(packet.hook.as_str(), "ep_in" | "up_out"),
                    time_ns: packet.time_ns,
                    bytes: &bytes,
                    len: packet.len,
                    comment: &comment(packet),
                    missing,
                };
                writer.write(&record).context("cannot write the capture")?;
            }
        }
        Ok(())
    }

    /// A line at the place where events are missing; a file has their number with the next packet.
    fn lost(&self, events: u64) {
        if matches!(self, Self::Lines) {
            print(&(told::line(&Told::Lost { events }) + "\n"));
        }
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        match self {
            Self::File(writer) => writer.flush().context("cannot write the capture"),
            Self::Lines | Self::Json => Ok(()),
        }
    }
}

/// What became of a packet, for its comment.
fn comment(packet: &ToldPacket) -> String {
    let mut text = format!("{}: {}", packet.hook, packet.verdict);
    for (what, value) in [
        (": ", &packet.reason),
        (" to ", &packet.to_device),
        ("; endpoint ", &packet.endpoint),
        ("; network ", &packet.network),
    ] {
        if let Some(value) = value {
            text.push_str(what);
            text.push_str(value);
        }
    }
    if let Some(nat) = &packet.nat {
        let (before, after) = (told::ends(&packet.ends), told::ends(nat));
        text += "; NAT ";
        text += &before;
        text += " -> ";
        text += &after;
    }
    text
}

#[cfg(test)]
mod tests {
    use netd_api::Ends;

    use super::*;

    #[test]
    fn a_comment_says_hook_verdict_reason_and_both_tuples() {
        let ends = Ends {
            src: "10.0.0.5".parse().ok(),
            sport: Some(4000),
            dst: "1.1.1.1".parse().ok(),
            dport: Some(443),
        };
        let mut packet = ToldPacket {
            time_ns: 0,
            hook: "ep_out".into(),
            device: "nde1".into(),
            endpoint: Some("api".into()),
            network: Some("web".into()),
            verdict: "redirected".into(),
            reason: None,
            to_device: Some("up0".into()),
            proto: "tcp".into(),
            nat: Some(Ends {
                src: "192.0.2.2".parse().ok(),
                sport: Some(5000),
                ..ends.clone()
            }),
            ends,
            len: 60,
            vlan: None,
            frame: None,
        };
        assert_eq!(
            comment(&packet),
            "ep_out: redirected to up0; endpoint api; network web; NAT 10.0.0.5:4000 > 1.1.1.1:443 -> \
             192.0.2.2:5000 > 1.1.1.1:443"
        );
        packet.verdict = "dropped".into();
        packet.reason = Some("isolated".into());
        (packet.to_device, packet.nat) = (None, None);
        assert_eq!(
            comment(&packet),
            "ep_out: dropped: isolated; endpoint api; network web"
        );
    }
}
