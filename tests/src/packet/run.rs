//! Running a program on a packet. Every run says what came of it and what was counted for it: a run
//! that is checked must have raised exactly one counter by one.

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};
use netd_common::answer::is_told;
use netd_common::reason::{DropReason, Hook};

use super::frame::{Packet, checksums_are_right};
use super::hosts::{Host, NODE};
use super::world::World;

/// `sizeof(struct __sk_buff)` and the offsets of the fields a caller may set (`<linux/bpf.h>`).
const SKB: usize = 192;
const SKB_MARK: usize = 8;
const SKB_IFINDEX: usize = 40;
const SKB_GSO_SEGS: usize = 164;
const SKB_GSO_SIZE: usize = 176;

/// The mark on what netd's programs send out of a device (`netd-ebpf`'s `verdict`).
pub const SENT_BY_NETD: u32 = 0x6e64_0001;

/// Room for what a program adds.
const ROOM: usize = 512;

/// What a program told the kernel to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// On to the next program (`TCX_NEXT`, `XDP_PASS`).
    Next,
    /// Away with it.
    Drop,
    /// To another device, or up the stack.
    Redirect,
}

/// What came of one run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The hook.
    pub hook: Hook,
    /// The verdict.
    pub action: Action,
    /// The packet as the program left it.
    pub bytes: Vec<u8>,
    /// Its mark.
    pub mark: u32,
    /// What was counted: reason (`None`: passed), packets, bytes.
    pub counted: Vec<(Hook, Option<DropReason>, u64, u64)>,
    given: Vec<u8>,
}

/// What a packet brings along besides its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Meta {
    /// Its mark.
    pub mark: u32,
    /// Payload bytes of a segment; 0: no GSO.
    pub gso_size: u32,
}

impl World {
    /// Runs a TC program on a frame, as if it were on a device.
    pub fn tc(&mut self, hook: Hook, device: &str, meta: Meta, frame: &[u8]) -> Outcome {
        let ctx = self.context(device, meta);
        let mut ctx_out = [0u8; SKB];
        let mut bytes = vec![0; frame.len() + ROOM];
        let before = self.loaded.datapath.stats().expect("counters");
        let result = self
            .program(hook)
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut bytes),
                ctx_in: Some(&ctx),
                ctx_out: Some(&mut ctx_out),
                ..TestRunOptions::new()
            })
            .unwrap_or_else(|e| panic!("{} did not run: {e:?}", hook.name()));
        bytes.truncate(result.data_size_out as usize);
        let action = match result.return_value.cast_signed() {
            -1 => Action::Next,
            2 => Action::Drop,
            7 => Action::Redirect,
            other => panic!("{} answered {other}", hook.name()),
        };
        let mut mark = [0; 4];
        mark.copy_from_slice(&ctx_out[SKB_MARK..SKB_MARK + 4]);
        Outcome {
            hook,
            action,
            bytes,
            mark: u32::from_ne_bytes(mark),
            counted: self.counted_since(&before),
            given: frame.to_vec(),
        }
    }

    /// Nanoseconds a TC program takes for a frame, the mean of so many runs. A packet that is rewritten is
    /// run once: the second run would meet what the first has made of it.
    pub fn time(&mut self, hook: Hook, device: &str, frame: &[u8], repeat: u32) -> f64 {
        let ctx = self.context(device, Meta::default());
        let result = self.program(hook).test_run(TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&ctx),
            repeat,
            ..TestRunOptions::new()
        });
        result.expect("the program runs").duration.as_secs_f64() * 1e9
    }

    pub(super) fn context(&self, device: &str, meta: Meta) -> [u8; SKB] {
        let mut ctx = [0u8; SKB];
        let mut field = |at: usize, value: u32| {
            ctx[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        };
        field(SKB_MARK, meta.mark);
        field(SKB_IFINDEX, self.index(device));
        field(SKB_GSO_SIZE, meta.gso_size);
        field(SKB_GSO_SEGS, u32::from(meta.gso_size > 0) * 2);
        ctx
    }

    pub(super) fn program(&mut self, hook: Hook) -> &mut SchedClassifier {
        let name = format!("netd_{}", hook.name());
        let program = self.loaded.datapath.ebpf().program_mut(&name);
        program
            .and_then(|p| p.try_into().ok())
            .unwrap_or_else(|| panic!("{name} is no TC program"))
    }

    /// Runs `netd_xdp` on a frame.
    pub fn xdp(&mut self, frame: &[u8]) -> Outcome {
        let mut bytes = vec![0; frame.len() + ROOM];
        let before = self.loaded.datapath.stats().expect("counters");
        let program = self.loaded.datapath.ebpf().program_mut("netd_xdp");
        let program: &mut Xdp = program
            .and_then(|p| p.try_into().ok())
            .expect("netd_xdp is an XDP program");
        let result = program
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut bytes),
                ..TestRunOptions::new()
            })
            .expect("netd_xdp runs");
        bytes.truncate(result.data_size_out as usize);
        let action = match result.return_value {
            1 => Action::Drop,
            2 => Action::Next,
            other => panic!("netd_xdp answered {other}"),
        };
        Outcome {
            hook: Hook::Xdp,
            action,
            bytes,
            mark: 0,
            counted: self.counted_since(&before),
            given: frame.to_vec(),
        }
    }

    fn counted_since(
        &self,
        before: &[(Hook, Option<DropReason>, u64, u64)],
    ) -> Vec<(Hook, Option<DropReason>, u64, u64)> {
        let now = self.loaded.datapath.stats().expect("counters");
        now.into_iter()
            .map(|(hook, reason, packets, bytes)| {
                let old = before.iter().find(|b| (b.0, b.1) == (hook, reason));
                let (p, b) = old.map_or((0, 0), |o| (o.2, o.3));
                (hook, reason, packets - p, bytes - b)
            })
            .filter(|c| (c.2, c.3) != (0, 0))
            .collect()
    }

    /// A packet leaves an endpoint.
    pub fn ep_out(&mut self, from: &Host, packet: &Packet) -> Outcome {
        self.ep_out_raw(from, &packet.bytes())
    }

    /// A frame leaves an endpoint.
    pub fn ep_out_raw(&mut self, from: &Host, frame: &[u8]) -> Outcome {
        self.tc(Hook::EpOut, from.device, Meta::default(), frame)
    }

    /// A frame comes from the node, out of a gateway's inner end.
    pub fn gw_out(&mut self, gateway: &Host, frame: &[u8]) -> Outcome {
        self.tc(Hook::GwOut, gateway.device, Meta::default(), frame)
    }

    /// A packet comes in from the outside.
    pub fn up_in(&mut self, packet: &Packet) -> Outcome {
        let packet = packet.clone().to_mac(NODE.mac);
        self.tc(Hook::UpIn, NODE.device, Meta::default(), &packet.bytes())
    }

    /// A packet of the node's stack goes out.
    pub fn up_out(&mut self, packet: &Packet) -> Outcome {
        let packet = packet.clone().from_mac(NODE.mac);
        self.tc(Hook::UpOut, NODE.device, Meta::default(), &packet.bytes())
    }
}

impl Outcome {
    /// The packet went to the next program, and was counted so.
    #[track_caller]
    pub fn passed(&self) -> &Self {
        self.ended(Action::Next, None)
    }

    /// It was sent on, and counted as passed.
    #[track_caller]
    pub fn redirected(&self) -> &Self {
        self.ended(Action::Redirect, None)
    }

    /// Copies of it were sent, itself is gone, and it was counted as passed.
    #[track_caller]
    pub fn copied(&self) -> &Self {
        self.ended(Action::Drop, None)
    }

    /// It died for this reason; where that is told to senders, its sender may have been told.
    #[track_caller]
    pub fn dropped(&self, reason: DropReason) -> &Self {
        if self.action == Action::Redirect && is_told(self.hook, reason as u8) {
            return self.answered(reason);
        }
        self.ended(Action::Drop, Some(reason))
    }

    /// It died for this reason, and its sender is told.
    #[track_caller]
    pub fn answered(&self, reason: DropReason) -> &Self {
        let wanted = vec![(self.hook, Some(reason), 1, self.given.len() as u64)];
        assert_eq!(
            (self.action, &self.counted),
            (Action::Redirect, &wanted),
            "verdict and counters of {:02x?}",
            self.given
        );
        self
    }

    /// It died for this reason, and nobody is told.
    #[track_caller]
    pub fn silent(&self, reason: DropReason) -> &Self {
        self.ended(Action::Drop, Some(reason))
    }

    #[track_caller]
    fn ended(&self, action: Action, reason: Option<DropReason>) -> &Self {
        // An answer to a solicitation is counted with the length it got.
        let wanted = vec![(self.hook, reason, 1, self.bytes.len() as u64)];
        assert_eq!(
            (self.action, &self.counted),
            (action, &wanted),
            "verdict and counters of {:02x?}",
            self.given
        );
        self
    }

    /// It left as this packet, byte for byte.
    #[track_caller]
    pub fn is(&self, packet: &Packet) -> &Self {
        self.is_bytes(&packet.bytes());
        if packet.padding == 0 {
            assert_eq!(checksums_are_right(&self.bytes), Ok(()));
        }
        self
    }

    /// It left as this frame, byte for byte.
    #[track_caller]
    pub fn is_bytes(&self, frame: &[u8]) -> &Self {
        assert_eq!(hex(&self.bytes), hex(frame), "the frame (left: got)");
        self
    }

    /// It left as it came.
    #[track_caller]
    pub fn unchanged(&self) -> &Self {
        self.is_bytes(&self.given)
    }

    /// The source port, or identifier, of a packet without options and extension headers.
    pub fn sport(&self) -> u16 {
        let v6 = self.bytes[12..14] == [0x86, 0xdd];
        let l4 = if v6 { 54 } else { 34 };
        let icmp = matches!(self.bytes[if v6 { 20 } else { 23 }], 1 | 58);
        let at = if icmp { l4 + 4 } else { l4 };
        u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]])
    }
}

/// Bytes in lines of 16, so that a difference can be seen.
fn hex(bytes: &[u8]) -> Vec<String> {
    let line = |line: &[u8]| {
        let bytes: Vec<String> = line.iter().map(|b| format!("{b:02x}")).collect();
        bytes.join(" ")
    };
    bytes.chunks(16).map(line).collect()
}
