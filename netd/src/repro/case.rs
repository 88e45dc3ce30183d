//! A case: what must be there, what is run, and how that must end.

use netd_common::addr::Mac;
use netd_common::reason::Hook;

use crate::datapath::Tables;
use crate::trace::End;

/// A device of the node, as far as routing and the programs look at it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "four settings of a device that have nothing to do with each other"
)]
pub struct Device {
    /// Its ifindex, which rows name.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// L3 MTU in bytes.
    pub mtu: u32,
    /// Its MAC; all zero: it has none.
    pub mac: Mac,
    /// Administratively up.
    pub up: bool,
    /// `net.ipv4.conf.NAME.forwarding`
    pub forwards4: bool,
    /// `net.ipv6.conf.NAME.forwarding`
    pub forwards6: bool,
    /// IPv6 is on.
    pub speaks6: bool,
}

/// A message of rtnetlink that makes a route or a rule as the node had it: payload of `RTM_NEWROUTE` or
/// `RTM_NEWRULE`, header and attributes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// A rule, not a route.
    pub is_rule: bool,
    /// In words, for readers alone.
    pub words: String,
    /// The message.
    pub bytes: Vec<u8>,
}

/// A program run on a frame, and how that ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Run {
    /// Whose program.
    pub hook: Hook,
    /// The device it is hooked on.
    pub ifindex: u32,
    /// The packet's mark.
    pub mark: u32,
    /// The frame.
    pub frame: Vec<u8>,
    /// How it ended.
    pub end: End,
    /// The frame as it left the program; none: it is another in each run (a port that is drawn by lot).
    pub out: Option<Vec<u8>>,
}

/// A case.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Case {
    /// The node's monotonic clock when the rows were read, in ns: their times are of that clock.
    pub clock: u64,
    /// Devices.
    pub devices: Vec<Device>,
    /// Rules and routes.
    pub messages: Vec<Message>,
    /// Rows.
    pub tables: Tables,
    /// What is run, in order.
    pub runs: Vec<Run>,
}
