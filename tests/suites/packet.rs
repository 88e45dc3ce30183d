//! Packets through the loaded ELF: verdict, bytes out and counters of every program.

#[path = "packet/allocator.rs"]
mod allocator;
#[path = "packet/answers.rs"]
mod answers;
#[path = "packet/clash.rs"]
mod clash;
#[path = "packet/connection.rs"]
mod connection;
#[path = "packet/floating.rs"]
mod floating;
#[path = "packet/fragments.rs"]
mod fragments;
#[path = "packet/guard.rs"]
mod guard;
#[path = "packet/hairpin.rs"]
mod hairpin;
#[path = "packet/headers.rs"]
mod headers;
#[path = "packet/hygiene.rs"]
mod hygiene;
#[path = "packet/icmp.rs"]
mod icmp;
#[path = "packet/isolation.rs"]
mod isolation;
#[path = "packet/learning.rs"]
mod learning;
#[path = "packet/limits.rs"]
mod limits;
#[path = "packet/load.rs"]
mod load;
#[path = "packet/mapping.rs"]
mod mapping;
#[path = "packet/masquerade.rs"]
mod masquerade;
#[path = "packet/neighbour.rs"]
mod neighbour;
#[path = "packet/published.rs"]
mod published;
#[path = "packet/quoted.rs"]
mod quoted;
#[path = "packet/reasons.rs"]
mod reasons;
#[path = "packet/repro.rs"]
mod repro;
#[path = "packet/reproduced.rs"]
mod reproduced;
#[path = "packet/route.rs"]
mod route;
#[path = "packet/split.rs"]
mod split;
#[path = "packet/stack.rs"]
mod stack;
#[path = "packet/state.rs"]
mod state;
#[path = "packet/storm.rs"]
mod storm;
#[path = "packet/switch.rs"]
mod switch;
#[path = "packet/timeouts.rs"]
mod timeouts;
#[path = "packet/trace.rs"]
mod trace;
#[path = "packet/watch.rs"]
mod watch;
#[path = "packet/wire.rs"]
mod wire;
