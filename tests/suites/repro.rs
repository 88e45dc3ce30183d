//! `netd repro`: a packet of a node that runs is told with all that decided about it, and ends elsewhere as it
//! did there.

#[path = "repro/captured.rs"]
mod captured;
#[path = "repro/cases.rs"]
mod cases;
