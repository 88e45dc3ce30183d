//! What the programs note while a packet is traced: one short record for each decision, in the order in
//! which they fall. The numbers are raw (an ifindex, a code); user space has the packet and the maps and
//! says the rest in words.

use bytemuck::{Pod, Zeroable};

macro_rules! points {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal;)+) => {
        /// Where a note was taken.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #[repr(u32)]
        pub enum Point {
            $($(#[$doc])* $variant = $code,)+
        }

        impl Point {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The name in output.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// From the number in a note.
            pub const fn from_code(code: u32) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

points! {
    /// The program ends. `a`: the [`Hook`](crate::reason::Hook), `b`: the drop reason, 0 for none.
    Verdict = 1, "verdict";
    /// Goes on in another program. `a`: its [`Stage`](crate::stage::Stage).
    Stage = 2, "stage";
    /// The source MAC is not the endpoint's own. `b`: a [`source`].
    Source = 3, "source";
    /// The source address is not the endpoint's first one, and is allowed. `a`: 1: another of its own;
    /// 0: that of a guest behind it.
    Address = 4, "address";
    /// `FDB` has the destination MAC. `a`: ifindex, `b`: [`HostKind`](crate::maps::HostKind).
    Fdb = 5, "fdb";
    /// `LEARNED` has the destination MAC. `a`: ifindex.
    Learned = 6, "learned";
    /// Nobody is known to have the destination MAC.
    Unknown = 7, "unknown";
    /// A copy for each switch port but the one it came from. `a`: how many switch ports there are.
    Flood = 8, "flood";
    /// A copy of the flood: it is not made, only noted. `a`: ifindex, `b`: 1: to the stack behind it.
    Copy = 9, "copy";
    /// A question of ARP (`a`: 4) or neighbour discovery (6) for an address netd knows: answered.
    Answer = 10, "answer";
    /// The flow table has the packet's tuple. `a`: [`FlowKind`](crate::maps::FlowKind),
    /// `b`: [`Dir`](crate::maps::Dir).
    Flow = 11, "flow";
    /// The flow table does not have it.
    NoFlow = 12, "no_flow";
    /// `HOST4` or `HOST6` has the destination. `a`: number of the endpoint, `b`: of the network.
    Host = 13, "host";
    /// The routing table's answer. `a`: what `bpf_fib_lookup` returned, `b`: the ifindex it names.
    Fib = 14, "fib";
    /// `PUBLISH` has the destination. `a`: number of the publish, `b`: of the endpoint.
    Publish = 15, "publish";
    /// Of the node's own sockets one has this conversation: the packet is not for the published port.
    Socket = 16, "socket";
    /// The outside port tried first is taken. `a`: the port, `b`: a [`taken`].
    Taken = 17, "taken";
    /// A flow was made. `a`: [`FlowKind`](crate::maps::FlowKind), `b`: its source port on the other side.
    Begun = 18, "begun";
    /// Addresses, ports and checksums are written. `a`: routers it has passed, 0 or 1.
    Rewrite = 19, "rewrite";
    /// To the other end of a veth, in another namespace. `a`: ifindex of this end.
    Peer = 20, "peer";
    /// Up the node's stack. `a`: ifindex of the device it is received from.
    Receive = 21, "receive";
    /// Out of a device. `a`: ifindex.
    Send = 22, "send";
    /// Out of a device, the next hop's MAC resolved by the kernel. `a`: ifindex.
    Neigh = 23, "neigh";
    /// For an address of the node.
    Node = 24, "node";
    /// A fragment that waits for the first one of its datagram.
    Waits = 25, "waits";
    /// It is dropped, and has become the error by which its sender is told.
    Told = 26, "told";
    /// `FLOAT` has the destination. `a`: number of the endpoint, `b`: of the network.
    Float = 27, "float";
    /// It is cut to fragments, each of which goes on by itself. `a`: bytes of payload of each.
    Cut = 28, "cut";
}

/// How a source MAC that is not the endpoint's own was taken.
pub mod source {
    /// It was known here.
    pub const KNOWN: u32 = 0;
    /// It was learned with this frame.
    pub const LEARNED: u32 = 1;
    /// It was known behind another switch port, and has moved here with this frame.
    pub const MOVED: u32 = 2;
    /// There is no room to learn it: frames to it are flooded.
    pub const FORGOTTEN: u32 = 3;
}

/// Why an outside port cannot be had.
pub mod taken {
    /// A flow has it towards the same remote socket.
    pub const FLOW: u32 = 0;
    /// It is published, or the node's own.
    pub const HELD: u32 = 1;
}

/// One note. Integers in the machine's order.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Note {
    /// [`Point`].
    pub point: u32,
    /// By the point.
    pub a: u32,
    /// By the point.
    pub b: u32,
}

/// How many notes are kept. A flood makes one for each switch port; of more than fit the last stays, which
/// is the verdict.
pub const NOTES: usize = 512;

/// The one value of `TRACE`: the notes of a run.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Pod, Zeroable)]
pub struct Trace {
    /// Notes taken, also those that did not fit.
    pub count: u32,
    /// The first of them.
    pub notes: [Note; NOTES],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_point_has_a_code_and_a_name_of_its_own() {
        let mut names = std::collections::BTreeSet::new();
        for (i, point) in Point::ALL.iter().enumerate() {
            assert_eq!(*point as usize, i + 1);
            assert_eq!(Point::from_code(*point as u32), Some(*point));
            assert!(names.insert(point.name()), "{}: twice", point.name());
        }
        assert_eq!(Point::from_code(0), None, "an empty note is none");
        assert_eq!(Point::from_code(Point::ALL.len() as u32 + 1), None);
    }
}
