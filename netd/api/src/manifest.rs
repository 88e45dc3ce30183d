//! What a file asks for as a whole, and what it takes to get there.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Attach, FloatingAdd, FlowLine, NetworkCreate, Owner, PublishSpec};

/// `POST /v1/plan` and `POST /v1/apply`: everything that one source asks for. The source owns what it
/// makes (`file:NAME`) and changes nothing else.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Manifest {
    /// Name of the source: what it makes is owned by `file:NAME`.
    pub name: String,
    /// Networks; `owner` is left out.
    pub networks: Vec<NetworkCreate>,
    /// Endpoints, each with a name; `owner` is left out.
    pub endpoints: Vec<Attach>,
    /// Further published ports, of endpoints that are there already or in `endpoints`.
    pub publishes: Vec<PublishOf>,
    /// Floating addresses, likewise; of an endpoint's the first is the one that its traffic leaves with. `owner` is
    /// left out.
    pub floating: Vec<FloatingAdd>,
    /// Remove what the source made and no longer asks for; else it is only told.
    pub prune: bool,
    /// Take objects over that have another owner; else they are refused.
    pub force: bool,
}

/// A published port of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PublishOf {
    /// Name of the endpoint.
    pub endpoint: String,
    /// Which port leads where.
    #[serde(flatten)]
    pub spec: PublishSpec,
}

/// What objects are called in plans and problems: `network web`, `endpoint api`, `publish 8080/tcp`.
pub mod object {
    use crate::PublishSpec;

    /// A network.
    #[must_use]
    pub fn network(name: &str) -> String {
        format!("network {name}")
    }

    /// An endpoint.
    #[must_use]
    pub fn endpoint(name: &str) -> String {
        format!("endpoint {name}")
    }

    /// A published port, by its outside half.
    #[must_use]
    pub fn publish(spec: &PublishSpec) -> String {
        format!("publish {}", spec.host)
    }

    /// A floating address.
    #[must_use]
    pub fn floating(address: std::net::IpAddr) -> String {
        format!("floating {address}")
    }
}

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It is made.
    Create,
    /// It is changed while it is in use.
    Change,
    /// It is removed and made anew: what is different cannot be changed in place.
    Remake,
    /// It is removed.
    Remove,
}

/// One field of an object that is different.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FieldChange {
    /// Its name.
    pub field: String,
    /// What it is; none: nothing.
    pub old: Option<String>,
    /// What it is to be; none: nothing, or not known yet.
    pub new: Option<String>,
}

/// What a plan does to one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlanLine {
    /// What is done.
    pub action: Action,
    /// To which object, see [`object`].
    pub object: String,
    /// What is different, field by field.
    pub fields: Vec<FieldChange>,
    /// Why it has to be made anew.
    pub why: Option<String>,
}

/// Answer of `POST /v1/plan` and `POST /v1/apply`: what is (to be) done; no lines: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// Who owns what is made.
    pub owner: Owner,
    /// What is done, in order: what goes, what changes, what comes.
    pub lines: Vec<PlanLine>,
    /// Objects of this owner that it no longer asks for and that stay, as `prune` was not given.
    pub left: Vec<String>,
    /// Live flows that this cuts.
    pub flows: Vec<FlowLine>,
}

/// What is wrong with one object of a [`Manifest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// The object, see [`object`].
    pub object: String,
    /// One line: what is wrong, why, and what to do.
    pub error: String,
}
