//! The life of flows on real traffic: what ends them, what does not, and how many there may be.

#[path = "flows/ended.rs"]
mod ended;
#[path = "flows/limits.rs"]
mod limits;
#[path = "flows/many.rs"]
mod many;
