//! Packets through the loaded ELF: the real programs, loaded by the daemon's own data path, run by the
//! kernel on packets that are built here (`BPF_PROG_TEST_RUN`). Nothing is hooked on any device.
//!
//! | file | owns |
//! |---|---|
//! | `world` | a namespace with the devices, and the rows of the maps a daemon would have written |
//! | `pool` | loaded data paths, used again by the next case |
//! | `hosts` | who is who in it |
//! | `frame` | packets as values, and their bytes |
//! | `pieces`, `fragments` | datagrams cut up and put together, and the maps of fragments |
//! | `neighbour` | ARP packets and neighbour discovery messages |
//! | `run` | running a program on a packet, and what came of it |
//! | [`repro`] | cases of `netd repro`: a packet of another node, run again |
//! | `tap` | what a device's other end receives: the copies of a flood |
//! | `socket` | sockets of the node |
//! | `table`, `limits` | the flow table's raw entries, the counters beside it |
//! | `mappings` | the table of mappings |
//! | `learned` | raw entries of learned MACs and of what was flooded |
//! | `code` | a loaded program's instructions |
//! | [`fuzz`] | random frames through the programs, and what must hold |
//! | `drops` | the macro that declares a case which ends in a drop |
//!
//! ```no_run
//! use netd_tests::packet::{A, Flags, OUTSIDE, Packet, World};
//! World::both(|w, family| {
//!     let syn = Packet::tcp(&A, 20_100, &OUTSIDE, 80, Flags::SYN, family).to_gateway();
//!     let out = w.ep_out(&A, &syn);
//!     out.is(&syn.hop().from_uplink(20_100)).redirected();
//! });
//! ```

#![expect(
    clippy::missing_panics_doc,
    reason = "what goes wrong here fails a test: by a panic"
)]

mod code;
mod drops;
mod fragments;
mod frame;
pub mod fuzz;
mod hosts;
mod learned;
mod limits;
mod mappings;
pub mod neighbour;
mod pieces;
mod pool;
pub mod repro;
mod run;
mod socket;
mod table;
mod tap;
mod world;

pub use code::{code, maps_of};
pub use drops::DropCase;
pub use frame::{Flags, Kind, L4, Packet, checksums_are_right};
pub use hosts::{
    A, B, C, DENIED, Family, GATEWAY, GATEWAY2, Host, LOOPBACK, NODE, NODE_TWO, OUTSIDE,
    OUTSIDE_TWO, PORT_MAX, PORT_MIN,
};
pub use limits::Ending;
pub use pieces::{cut, id_of, join};
pub use run::{Action, Meta, Outcome, SENT_BY_NETD};
pub use socket::tcp_socket;
pub(crate) use table::Plain;
pub use table::{Entry, FlowTable, Half, uptime};
pub use tap::Tap;
pub use world::World;
