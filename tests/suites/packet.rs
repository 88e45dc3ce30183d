//! Packets through the loaded ELF: verdict, bytes out and counters of every program.

#[path = "packet/load.rs"]
mod load;
