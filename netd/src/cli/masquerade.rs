//! Options of masquerade, the same for a network and for the daemon.

use clap::{Args, ValueEnum};
use netd_api::MasqueradePorts;

use crate::model::masquerade::Options;

/// `--masquerade-profile`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Profile {
    /// One outside port for each inside port, never shared: refuses when ports are gone
    Strict,
    /// The same while there is room, then flows to different places share ports
    Balanced,
}

/// `--filtering`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Filtering {
    /// From anybody
    EndpointIndependent,
    /// From addresses that were talked to
    Address,
    /// From addresses and ports that were talked to
    AddressPort,
}

/// What `netd network create`, `netd network set` and `netd daemon` take.
#[derive(Debug, Args)]
pub struct Flags {
    /// How masquerade gives out outside ports [default: the daemon's, which is balanced]
    #[arg(long, value_enum, value_name = "PROFILE")]
    masquerade_profile: Option<Profile>,
    /// From whom an outside port in use takes packets [default: the daemon's, which is address for strict
    /// networks and address-port for balanced ones]
    #[arg(long, value_enum, value_name = "FILTERING")]
    filtering: Option<Filtering>,
    /// Outside ports masquerade may take [default: the daemon's, which are 1024-65535]
    #[arg(long, value_name = "FIRST-LAST")]
    masquerade_ports: Option<MasqueradePorts>,
}

impl Flags {
    /// As the model has them.
    pub fn options(&self) -> Options {
        Options {
            profile: self.masquerade_profile.map(|p| match p {
                Profile::Strict => netd_api::Profile::Strict,
                Profile::Balanced => netd_api::Profile::Balanced,
            }),
            filtering: self.filtering.map(|f| match f {
                Filtering::EndpointIndependent => netd_api::Filtering::EndpointIndependent,
                Filtering::Address => netd_api::Filtering::Address,
                Filtering::AddressPort => netd_api::Filtering::AddressPort,
            }),
            ports: self.masquerade_ports,
        }
    }
}
