//! `netd repro`: a packet, and all that decided about it, as a Rust test.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use netd_api::{Repro as Answer, ReproRequest, TracePacket};

use super::error::Usage;
use super::pcap::{self, Frame};
use super::trace::PacketArgs;
use super::{Context, Outcome};

/// `netd repro`.
#[derive(Debug, Args)]
#[command(
    after_help = "AT and PACKET are those of `netd trace`. A file of `netd capture` says itself at which \
    hook each packet was seen:\nwithout AT its first dropped one is taken, or the one of --frame.\n\n\
    Examples:\n  netd repro --pcap api.pcapng -w dropped.rs\n  netd repro --pcap api.pcapng --frame 7\n  \
    netd repro box icmp 10.210.1.2\n\n\
    The test holds the frame, the rows of the maps, the devices and the routes that decided, and what was\n\
    decided. Addresses and MACs are those of this node."
)]
pub struct Repro {
    /// An endpoint, an uplink or a network, as for `netd trace`; without it a file of `netd capture` says it
    #[arg(value_name = "AT")]
    at: Option<String>,
    #[command(flatten)]
    packet: PacketArgs,
    /// Frame number N of the file, from 1
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    frame: Option<u32>,
    /// Write the test to this file
    #[arg(short, long, value_name = "FILE")]
    write: Option<PathBuf>,
}

/// What is asked, and the drop reason a capture has noted.
struct Asked {
    request: ReproRequest,
    captured: Option<(usize, String)>,
}

/// Asks, and writes the test.
pub async fn run(verb: Repro, ctx: &Context) -> Outcome {
    let asked = ask(&verb)?;
    let answer = ctx.client.repro(&asked.request).await?;
    if let Some((number, reason)) = &asked.captured
        && answer.reason.as_ref() != Some(reason)
    {
        bail!(
            "frame {number} was dropped as {reason} when it was captured, but with the rows of now it is not \
             ({}): there is nothing to reproduce any more",
            answer.verdict
        );
    }
    if let Some(file) = &verb.write {
        std::fs::write(file, &answer.source)
            .with_context(|| format!("cannot write {}", file.display()))?;
        ctx.out.show(&answer, |a| written(a, file))?;
    } else {
        ctx.out.show(&answer, |a| a.source.clone())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn written(answer: &Answer, file: &Path) -> String {
    format!(
        "{}: {}; the test is in {}\n",
        answer.packet,
        answer.verdict,
        file.display()
    )
}

fn ask(verb: &Repro) -> anyhow::Result<Asked> {
    let file = verb.packet.file()?;
    let file = match (file, verb.frame) {
        (None, Some(n)) => {
            return Err(Usage(format!("--frame {n}: of which file? Say --pcap FILE")).into());
        }
        (Some((_, Some(m))), Some(n)) => {
            return Err(Usage(format!("--pcap FILE:{m} and --frame {n}: say one of them")).into());
        }
        (file, n) => file.map(|(file, number)| (file, n.map(|n| n as usize).or(number))),
    };
    match (&verb.at, file) {
        (Some(at), Some((file, number))) => {
            let frame = pcap::find(&file, Some(number.unwrap_or(1)), |_| true)?;
            let frame = whole(&file, frame.context("a frame that is there")?)?;
            Ok(Asked {
                request: request(at, None, &frame),
                captured: None,
            })
        }
        (Some(at), None) => Ok(Asked {
            request: ReproRequest {
                at: at.clone(),
                hook: None,
                packet: verb.packet.read()?,
            },
            captured: None,
        }),
        (None, Some((file, number))) => seen(&file, number),
        (None, None) => {
            Err(Usage("say where the packet comes in: `netd repro AT PACKET`".into()).into())
        }
    }
}

fn request(at: &str, hook: Option<&str>, frame: &Frame) -> ReproRequest {
    ReproRequest {
        at: at.into(),
        hook: hook.map(Into::into),
        packet: TracePacket::Frame(netd_api::hex(&frame.bytes)),
    }
}

/// A frame of a file of `netd capture`.
fn seen(file: &Path, number: Option<usize>) -> anyhow::Result<Asked> {
    let shown = file.display();
    let frame = pcap::find(file, number, |frame| reason(frame).is_some())?;
    let Some(frame) = frame else {
        bail!(
            "{shown} has no packet that `netd capture` saw dropped: say which one it shall be by --frame N, \
             or where it comes in, as in `netd repro AT --pcap {shown}`"
        );
    };
    let interface = frame.interface.as_deref().unwrap_or_default();
    let hooked = interface
        .rsplit_once(':')
        .filter(|_| frame.comment.is_some());
    let Some((device, hook)) = hooked else {
        bail!(
            "frame {} of {shown} does not say at which hook it was seen, as those of `netd capture` do: say \
             where it comes in, as in `netd repro AT --pcap {shown}:{}`",
            frame.number,
            frame.number
        );
    };
    let (device, hook) = (device.to_owned(), hook.to_owned());
    let captured = reason(&frame).map(|reason| (frame.number, reason.to_owned()));
    let frame = whole(file, frame)?;
    Ok(Asked {
        request: request(&device, Some(&hook), &frame),
        captured,
    })
}

/// Why a frame was dropped, as its comment says: `HOOK: dropped: REASON; ..`.
fn reason(frame: &Frame) -> Option<&str> {
    let (_, rest) = frame.comment.as_deref()?.split_once(": dropped: ")?;
    rest.split([';', ' ']).next()
}

fn whole(file: &Path, frame: Frame) -> anyhow::Result<Frame> {
    if frame.bytes.len() < frame.len {
        bail!(
            "of the {} bytes of frame {} {} has {}: capture it again with a larger --snaplen",
            frame.len,
            frame.number,
            file.display(),
            frame.bytes.len()
        );
    }
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_captured_drop_is_read_from_its_comment() {
        let frame = |comment: &str| Frame {
            number: 1,
            bytes: vec![],
            len: 0,
            interface: None,
            comment: Some(comment.into()),
        };
        let drop = frame("ep_out: dropped: isolated; endpoint a; network web");
        assert_eq!(reason(&drop), Some("isolated"));
        assert_eq!(reason(&frame("xdp: dropped: denied")), Some("denied"));
        assert_eq!(reason(&frame("ep_out: redirected to up0")), None);
    }
}
