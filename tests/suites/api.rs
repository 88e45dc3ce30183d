//! The API beside its calls: what is told of them, and what clients cannot do to it.

#[path = "api/clients.rs"]
mod clients;
#[path = "api/events.rs"]
mod events;
#[path = "api/logs.rs"]
mod logs;
