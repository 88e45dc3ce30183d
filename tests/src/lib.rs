//! netd's lab: simulated nodes made of network namespaces, the traffic that runs over them, the
//! demo, and the benchmark. The root-only suites in `suites/` are written against it.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use netd_tests::lab::Lab;
//! let lab = Lab::new("masquerade")?;
//! let web = lab.network("web")?;
//! let a = lab.endpoint("a", &web)?;
//! a.ping(lab.outside.v4())?;
//! let seen = a.tcp_source_seen_by(&lab.outside, 8080)?;
//! assert_eq!(seen.ip(), lab.node.v4());
//! # Ok(()) }
//! ```

pub mod bench;
pub mod demo;
pub mod differential;
pub mod lab;
pub mod packet;
