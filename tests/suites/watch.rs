//! Watching live traffic: what is told is what happened, and traffic does not notice.

#[path = "watch/capture.rs"]
mod capture;
#[path = "watch/monitor.rs"]
mod monitor;
#[path = "watch/swap.rs"]
mod swap;
