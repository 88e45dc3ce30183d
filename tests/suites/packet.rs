//! Packets through the loaded ELF: verdict, bytes out and counters of every program.

#[path = "packet/guard.rs"]
mod guard;
#[path = "packet/load.rs"]
mod load;
#[path = "packet/masquerade.rs"]
mod masquerade;
#[path = "packet/neighbour.rs"]
mod neighbour;
#[path = "packet/published.rs"]
mod published;
#[path = "packet/route.rs"]
mod route;
#[path = "packet/stack.rs"]
mod stack;
#[path = "packet/state.rs"]
mod state;
#[path = "packet/switch.rs"]
mod switch;
