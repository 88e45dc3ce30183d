//! The node's own processes and published ports. Clients are processes of their own, in the node's
//! namespace and cgroup: the hooks look at both.

#[path = "sockets/bind.rs"]
mod bind;
#[path = "sockets/call.rs"]
mod call;
#[path = "sockets/life.rs"]
mod life;
#[path = "sockets/reach.rs"]
mod reach;
