//! The text form of a case: one thing on each line, words between spaces, bytes in hexadecimal digits
//! (`-`: none of them). Lines that begin with `#` and empty ones are for readers; what stands before a route or
//! rule is kept as its words.

use std::fmt::{self, Write as _};
use std::str::{FromStr, SplitWhitespace};

use netd_common::reason::{DropReason, Hook};

use super::case::{Case, Device, Message, Run};
use crate::trace::End;

/// The first line: what it is, and the version of the form.
const HEAD: &str = "netd-repro 1";

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEAD}\nclock {}", self.clock)?;
        for d in &self.devices {
            write!(
                f,
                "device {} {} {} {}",
                d.ifindex,
                d.name,
                d.mtu,
                digits(&d.mac)
            )?;
            for (is, word) in flags(d) {
                if is {
                    write!(f, " {word}")?;
                }
            }
            f.write_char('\n')?;
        }
        for m in &self.messages {
            let kind = if m.is_rule { "rule" } else { "route" };
            writeln!(f, "# {}\n{kind} {}", m.words, digits(&m.bytes))?;
        }
        for (map, table) in &self.tables {
            if let Some(free) = table.free {
                writeln!(f, "map {map} {free}")?;
            }
            for (key, value) in &table.rows {
                writeln!(f, "row {map} {} {}", digits(key), digits(value))?;
            }
        }
        for run in &self.runs {
            let (hook, mark) = (run.hook.name(), run.mark);
            writeln!(
                f,
                "run {hook} {} {mark} {}",
                run.ifindex,
                digits(&run.frame)
            )?;
            writeln!(f, "ends {}", words(&run.end))?;
            match &run.out {
                Some(out) => writeln!(f, "frame {}", digits(out))?,
                None => writeln!(f, "frame varies")?,
            }
        }
        Ok(())
    }
}

fn flags(d: &Device) -> [(bool, &'static str); 4] {
    [
        (d.up, "up"),
        (d.forwards4, "forwards4"),
        (d.forwards6, "forwards6"),
        (d.speaks6, "speaks6"),
    ]
}

fn digits(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        "-".into()
    } else {
        netd_api::hex(bytes)
    }
}

fn words(end: &End) -> String {
    match end {
        End::Dropped(reason) => format!("dropped {}", reason.name()),
        End::Copied(to) => {
            let to: Vec<String> = to.iter().map(|d| format!(" {d}")).collect();
            format!("copied{}", to.concat())
        }
        End::Peer(d) => format!("peer {d}"),
        End::Received(d) => format!("received {d}"),
        End::Sent(d) => format!("sent {d}"),
        End::Waits => "waits".into(),
        End::Cut => "cut".into(),
        End::Next => "next".into(),
    }
}

/// What is wrong with a text, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line} of the case: {why}")]
pub struct TextError {
    line: usize,
    why: String,
}

impl FromStr for Case {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let mut case = Self::default();
        let (mut headed, mut remark) = (false, "");
        for (n, line) in text.lines().enumerate() {
            let line = line.trim();
            if let Some(words) = line.strip_prefix('#') {
                remark = words.trim();
            }
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let done = if headed {
                case.line(line, std::mem::take(&mut remark))
            } else if line == HEAD {
                headed = true;
                Ok(())
            } else {
                Err(format!("it begins with {line:?} and not with {HEAD:?}"))
            };
            done.map_err(|why| TextError { line: n + 1, why })?;
        }
        let last = text.lines().count();
        if case.runs.is_empty() {
            let why = "nothing is run".into();
            return Err(TextError { line: last, why });
        }
        Ok(case)
    }
}

/// The next word of a line.
fn word<'a>(words: &mut SplitWhitespace<'a>, what: &str) -> Result<&'a str, String> {
    words.next().ok_or_else(|| format!("{what} is missing"))
}

fn number<T: FromStr>(words: &mut SplitWhitespace<'_>, what: &str) -> Result<T, String> {
    let text = word(words, what)?;
    text.parse()
        .map_err(|_| format!("{what} {text:?} is no number, or too large"))
}

fn bytes(words: &mut SplitWhitespace<'_>, what: &str) -> Result<Vec<u8>, String> {
    let text = word(words, what)?;
    if text == "-" {
        return Ok(Vec::new());
    }
    let wrong = || format!("{what} is not an even number of hexadecimal digits");
    netd_api::unhex(text).ok_or_else(wrong)
}

fn end(words: &mut SplitWhitespace<'_>) -> Result<End, String> {
    Ok(match word(words, "the end")? {
        "dropped" => {
            let name = word(words, "the reason")?;
            let reason = DropReason::ALL.iter().find(|r| r.name() == name);
            End::Dropped(*reason.ok_or_else(|| format!("{name:?} is no drop reason"))?)
        }
        "copied" => {
            let mut to = Vec::new();
            for text in words.by_ref() {
                to.push(
                    text.parse()
                        .map_err(|_| format!("{text:?} is no ifindex"))?,
                );
            }
            End::Copied(to)
        }
        "peer" => End::Peer(number(words, "the ifindex")?),
        "received" => End::Received(number(words, "the ifindex")?),
        "sent" => End::Sent(number(words, "the ifindex")?),
        "waits" => End::Waits,
        "cut" => End::Cut,
        "next" => End::Next,
        other => return Err(format!("{other:?} is no end")),
    })
}

impl Case {
    /// `remark`: what stands before the line.
    fn line(&mut self, line: &str, remark: &str) -> Result<(), String> {
        let mut words = line.split_whitespace();
        let kind = word(&mut words, "the kind")?;
        match kind {
            "clock" => self.clock = number(&mut words, "the time")?,
            "device" => self.devices.push(device(&mut words)?),
            "route" | "rule" => self.messages.push(Message {
                is_rule: kind == "rule",
                words: remark.into(),
                bytes: bytes(&mut words, "the message")?,
            }),
            "map" => {
                let map = word(&mut words, "the map")?;
                let free = number(&mut words, "the room")?;
                self.tables.entry(map.into()).or_default().free = Some(free);
            }
            "row" => {
                let map = word(&mut words, "the map")?;
                let row = (
                    bytes(&mut words, "the key")?,
                    bytes(&mut words, "the value")?,
                );
                self.tables.entry(map.into()).or_default().rows.push(row);
            }
            "run" => {
                let name = word(&mut words, "the hook")?;
                let hook = Hook::ALL.iter().find(|h| h.name() == name);
                self.runs.push(Run {
                    hook: *hook.ok_or_else(|| format!("{name:?} is no hook"))?,
                    ifindex: number(&mut words, "the ifindex")?,
                    mark: number(&mut words, "the mark")?,
                    frame: bytes(&mut words, "the frame")?,
                    end: End::Next,
                    out: None,
                });
            }
            "ends" | "frame" => {
                let run = self.runs.last_mut();
                let run = run.ok_or_else(|| format!("{kind:?} before the first run"))?;
                if kind == "ends" {
                    run.end = end(&mut words)?;
                } else if line == "frame varies" {
                    words.next();
                } else {
                    run.out = Some(bytes(&mut words, "the frame")?);
                }
            }
            other => return Err(format!("{other:?} is nothing a case has")),
        }
        match words.next() {
            Some(more) => Err(format!("{more:?} is one word too many")),
            None => Ok(()),
        }
    }
}

fn device(words: &mut SplitWhitespace<'_>) -> Result<Device, String> {
    let mut device = Device {
        ifindex: number(words, "the ifindex")?,
        name: word(words, "the name")?.into(),
        mtu: number(words, "the MTU")?,
        mac: <[u8; 6]>::try_from(bytes(words, "the MAC")?).map_err(|_| "a MAC has six bytes")?,
        up: false,
        forwards4: false,
        forwards6: false,
        speaks6: false,
    };
    for flag in words {
        match flag {
            "up" => device.up = true,
            "forwards4" => device.forwards4 = true,
            "forwards6" => device.forwards6 = true,
            "speaks6" => device.speaks6 = true,
            other => return Err(format!("{other:?} is nothing a device has")),
        }
    }
    Ok(device)
}

#[cfg(test)]
mod tests;
