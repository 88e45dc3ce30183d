//! The answer to one question on a netlink socket, datagram by datagram. Pure: what the kernel says goes in,
//! what it comes to is asked for at the end.

use std::io;

use rtnetlink::packet_core::{NLM_F_DUMP_INTR, NetlinkDeserializable, NetlinkHeader};
use rtnetlink::packet_route::RouteNetlinkMessage;

use super::netlink::{NLMSG_DONE, NLMSG_ERROR, for_each_message};
use super::{NetError, Result};

/// What was asked for: one object, or all of a kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asked {
    One,
    All,
}

/// What has come so far.
pub(super) struct Answer {
    sequence: u32,
    asked: Asked,
    messages: Vec<RouteNetlinkMessage>,
    done: bool,
    interrupted: bool,
    refused: Option<i32>,
    wrong: Option<String>,
}

impl Answer {
    /// To the question with this sequence number.
    pub fn new(sequence: u32, asked: Asked) -> Self {
        Self {
            sequence,
            asked,
            messages: Vec::new(),
            done: false,
            interrupted: false,
            refused: None,
            wrong: None,
        }
    }

    /// Whether nothing more comes.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// A datagram. What belongs to another question is left over from one that was given up.
    pub fn take(&mut self, datagram: &[u8]) {
        for_each_message(datagram, |header, body| {
            if header.sequence_number == self.sequence && !self.done {
                self.message(&header, body);
            }
        });
    }

    fn message(&mut self, header: &NetlinkHeader, body: &[u8]) {
        // What was listed changed meanwhile: some of it may be missing, or there twice (Linux 3.1, commit
        // 670dc2833d14). The flag may be on any part.
        self.interrupted |= self.asked == Asked::All && header.flags & NLM_F_DUMP_INTR != 0;
        if matches!(header.message_type, NLMSG_ERROR | NLMSG_DONE) {
            self.done = true;
            let code = body.first_chunk().map_or(0, |c| i32::from_ne_bytes(*c));
            self.refused = Some(-code).filter(|code| *code > 0);
            return;
        }
        match RouteNetlinkMessage::deserialize(header, body) {
            Ok(message) => self.messages.push(message),
            Err(e) => self.wrong = Some(e.to_string()),
        }
        self.done |= self.asked == Asked::One;
    }

    /// What it comes to; none: it was interrupted, and has to be asked for again. One object the kernel
    /// refuses is one it has not; of a list, what it refuses is not known to be empty.
    pub fn end(self) -> Result<Option<Vec<RouteNetlinkMessage>>> {
        if let Some(wrong) = self.wrong {
            return Err(NetError::Decode(wrong));
        }
        if self.asked == Asked::One {
            return Ok(Some(self.messages));
        }
        match self.refused {
            // A kernel without this family, or this kind, has none of it.
            None | Some(libc::EOPNOTSUPP | libc::EAFNOSUPPORT) => {}
            // Also a way to say that it was interrupted.
            Some(libc::EINTR | libc::EAGAIN) => return Ok(None),
            Some(code) => {
                let why = io::Error::from_raw_os_error(code);
                return Err(NetError::io("the kernel refuses a list", why));
            }
        }
        Ok(Some(self.messages).filter(|_| !self.interrupted))
    }
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::{NLM_F_MULTIPART, NetlinkMessage, NetlinkPayload};
    use rtnetlink::packet_route::link::LinkMessage;

    use super::*;

    fn link(index: u32, sequence: u32, flags: u16) -> Vec<u8> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        let mut header = NetlinkHeader::default();
        (header.sequence_number, header.flags) = (sequence, flags);
        let payload = NetlinkPayload::from(RouteNetlinkMessage::NewLink(link));
        let mut message = NetlinkMessage::new(header, payload);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    fn end(kind: u16, code: i32, sequence: u32, flags: u16) -> Vec<u8> {
        let mut bytes = 20u32.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend(0u32.to_ne_bytes());
        bytes.extend(code.to_ne_bytes());
        bytes
    }

    fn answer(asked: Asked, datagrams: &[Vec<u8>]) -> (bool, Result<Option<usize>>) {
        let mut answer = Answer::new(7, asked);
        for datagram in datagrams {
            answer.take(datagram);
        }
        (
            answer.is_done(),
            answer.end().map(|all| all.map(|a| a.len())),
        )
    }

    const PART: u16 = NLM_F_MULTIPART;

    #[test]
    fn a_list_is_whole_when_its_end_has_come_and_strangers_do_not_count() {
        let parts = [link(1, 7, PART), link(9, 6, PART), link(2, 7, PART)];
        assert!(!answer(Asked::All, &parts).0);
        let whole = [&parts[..], &[end(NLMSG_DONE, 0, 7, PART)]].concat();
        let (done, got) = answer(Asked::All, &whole);
        assert_eq!((done, got.unwrap()), (true, Some(2)));
        let in_one = [whole.concat()];
        assert_eq!(answer(Asked::All, &in_one).1.unwrap(), Some(2));
    }

    #[test]
    fn a_list_that_was_interrupted_anywhere_is_asked_for_again() {
        for interrupted in 0..3 {
            let flags = |n| PART | if n == interrupted { NLM_F_DUMP_INTR } else { 0 };
            let all = [
                link(1, 7, flags(0)),
                link(2, 7, flags(1)),
                end(NLMSG_DONE, 0, 7, flags(2)),
            ];
            let (done, got) = answer(Asked::All, &all);
            assert!(done && got.unwrap().is_none(), "part {interrupted}");
        }
        for code in [-libc::EINTR, -libc::EAGAIN] {
            let all = [link(1, 7, PART), end(NLMSG_DONE, code, 7, PART)];
            assert!(answer(Asked::All, &all).1.unwrap().is_none());
        }
    }

    #[test]
    fn a_list_that_is_refused_is_not_an_empty_one() {
        for kind in [NLMSG_ERROR, NLMSG_DONE] {
            let all = [link(1, 7, PART), end(kind, -libc::ENOBUFS, 7, 0)];
            let (done, got) = answer(Asked::All, &all);
            assert!(done && got.is_err());
        }
        let none = [end(NLMSG_ERROR, -libc::EAFNOSUPPORT, 7, 0)];
        assert_eq!(answer(Asked::All, &none).1.unwrap(), Some(0));
    }

    #[test]
    fn one_object_is_there_or_not() {
        assert_eq!(answer(Asked::One, &[link(1, 7, 0)]).1.unwrap(), Some(1));
        let refused = [end(NLMSG_ERROR, -libc::ENODEV, 7, 0)];
        let (done, got) = answer(Asked::One, &refused);
        assert_eq!((done, got.unwrap()), (true, Some(0)));
    }
}
