//! Which veth is whose peer, in all namespaces that have a name, the node's own, and those that hold a
//! peer of theirs. Reads the kernel itself, so it works without a daemon and for veths of others.

use std::path::Path;

use netd_api::Endpoint;
use serde::Serialize;

use super::list::{Identity, target_path};
use crate::net::survey::{Survey, processes};

/// What the node's own namespace is called where it has no name.
pub const NODE: &str = "(node)";

/// A veth of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Veth {
    /// Device name.
    pub name: String,
    /// ifindex.
    pub ifindex: u32,
    /// The other end.
    pub peer: Peer,
}

/// The other end of a veth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// Device name; none: not found.
    pub name: Option<String>,
    /// ifindex in its own namespace.
    pub ifindex: u32,
    /// Its namespace: a name, `(node)` for the node's own without a name, `pid:N` for one that only
    /// processes hold; none: nobody known holds it.
    pub namespace: Option<String>,
}

/// Namespaces that can be looked into, with what they are called.
pub struct Spaces {
    survey: Survey,
    named: Vec<(Identity, String)>,
    unnamed: Option<Vec<(Identity, String)>>,
}

impl Spaces {
    /// Reads the node's own namespace, the named ones and those of endpoints. None: that takes root.
    pub fn read<'a>(
        here: Identity,
        named: impl Iterator<Item = (Identity, &'a str, &'a Path)>,
        endpoints: &[Endpoint],
    ) -> Option<Self> {
        let mut survey = Survey::default();
        survey.add_here().ok()?;
        let mut names = Vec::new();
        for (id, name, path) in named {
            // One that just went is no peer to name.
            if survey.add(path).is_ok() {
                names.push((id, name.to_owned()));
            }
        }
        for e in endpoints {
            let _ = survey.add(&target_path(&e.target));
        }
        names.push((here, NODE.to_owned()));
        Some(Self {
            survey,
            named: names,
            unnamed: None,
        })
    }

    /// The veths of a namespace; none: it was not read.
    pub fn veths(&mut self, id: Identity) -> Option<Vec<Veth>> {
        let found = self.survey.veths(id)?;
        let veths = found.into_iter().map(|(veth, peer)| Veth {
            name: veth.name,
            ifindex: veth.ifindex,
            peer: Peer {
                name: peer.name,
                ifindex: peer.ifindex,
                namespace: peer.namespace.and_then(|id| self.called(id)),
            },
        });
        Some(veths.collect())
    }

    fn called(&mut self, id: Identity) -> Option<String> {
        let of = |list: &[(Identity, String)]| {
            let found = list.iter().find(|(i, _)| *i == id);
            found.map(|(_, name)| name.clone())
        };
        of(&self.named).or_else(|| {
            of(self.unnamed.get_or_insert_with(|| {
                let all = processes().into_iter();
                all.filter_map(|(pid, path)| {
                    Some((super::list::identity(&path)?, format!("pid:{pid}")))
                })
                .collect()
            }))
        })
    }
}
