//! Finding objects by what a person types.

use super::records::{Endpoint, Network};
use super::{Desired, ModelError};

/// The normal form of a target: `NAME` for `/run/netns/NAME`, else as it is.
pub fn normal_target(target: &str) -> &str {
    ["/run/netns/", "/var/run/netns/"]
        .iter()
        .find_map(|dir| target.strip_prefix(dir))
        .filter(|name| !name.is_empty() && !name.contains('/'))
        .unwrap_or(target)
}

impl Desired {
    /// The network of that name.
    pub fn network(&self, name: &str) -> Result<&Network, ModelError> {
        self.networks
            .values()
            .find(|n| n.name == name)
            .ok_or_else(|| {
                let names: Vec<&str> = self.networks.values().map(|n| n.name.as_str()).collect();
                let hint = match names.as_slice() {
                    [] => "; make one with `netd network create`".to_owned(),
                    names => format!("; there is {}", names.join(", ")),
                };
                ModelError::Missing {
                    what: "network",
                    name: name.into(),
                    hint,
                }
            })
    }

    /// The endpoint meant by its name, its id, a target that has exactly one, or a unique prefix of
    /// the id: tried in this order, so that an id never hides a name. With `network` only that
    /// network's endpoints count.
    pub fn endpoint(&self, text: &str, network: Option<&str>) -> Result<&Endpoint, ModelError> {
        let network = network.map(|n| self.network(n)).transpose()?;
        let all = || {
            self.endpoints
                .values()
                .filter(|e| network.is_none_or(|n| e.network == n.number))
        };
        if let Some(e) = all()
            .find(|e| e.name == text)
            .or_else(|| all().find(|e| e.id == text))
        {
            return Ok(e);
        }
        let target = normal_target(text);
        let by_target: Vec<&Endpoint> = all().filter(|e| e.target == target).collect();
        let by_prefix: Vec<&Endpoint> = all()
            .filter(|e| !text.is_empty() && e.id.starts_with(text))
            .collect();
        for found in [by_target, by_prefix] {
            match found.as_slice() {
                [] => {}
                [one] => return Ok(one),
                many => return Err(self.ambiguous(text, many)),
            }
        }
        let on = network.map_or_else(String::new, |n| format!(" on network {}", n.name));
        let hint = format!("{on}; `netd endpoint ls` lists all");
        Err(ModelError::Missing {
            what: "endpoint",
            name: text.into(),
            hint,
        })
    }

    fn ambiguous(&self, text: &str, many: &[&Endpoint]) -> ModelError {
        let list: Vec<String> = many
            .iter()
            .map(|e| {
                let network = self
                    .networks
                    .get(&e.network)
                    .map_or("?", |n| n.name.as_str());
                format!("{} ({}, network {network})", e.name, e.id)
            })
            .collect();
        ModelError::Ambiguous {
            name: text.into(),
            list: list.join(", "),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::model::desired::tests::{empty, endpoint, network};

    #[test]
    fn an_endpoint_is_found_by_name_id_target_or_unique_prefix() {
        let mut d = empty();
        let web = network(&mut d, "web", &["10.0.0.0/24"]);
        let db = network(&mut d, "db", &["10.0.1.0/24"]);
        let one = endpoint(&mut d, "a", web, &[]);
        let two = endpoint(&mut d, "b", web, &[]);
        let three = endpoint(&mut d, "c", db, &[]);
        for (n, id, target) in [
            (one, "aaaa00000001", "ns1"),
            (two, "aaaa00000002", "/proc/1/ns/net"),
            (three, "bbbb00000003", "ns1"),
        ] {
            let ep = d.endpoints.get_mut(&n).unwrap();
            (ep.id, ep.target) = (id.into(), target.into());
        }
        let found = |text: &str, net: Option<&str>| d.endpoint(text, net).map(|e| e.number);
        assert_eq!(found("a", None), Ok(one));
        assert_eq!(found("aaaa00000002", None), Ok(two));
        assert_eq!(found("bb", None), Ok(three));
        assert_eq!(found("/proc/1/ns/net", None), Ok(two));
        assert_eq!(found("ns1", Some("db")), Ok(three));
        assert_eq!(found("/run/netns/ns1", Some("web")), Ok(one));
        let e = found("ns1", None).unwrap_err().to_string();
        assert!(
            e.contains("a (aaaa00000001, network web)")
                && e.contains("c (bbbb00000003, network db)"),
            "{e}"
        );
        assert!(
            found("aaaa", None)
                .unwrap_err()
                .to_string()
                .contains("several")
        );
        assert!(
            found("zz", None)
                .unwrap_err()
                .to_string()
                .contains("no endpoint \"zz\"")
        );
        assert!(
            found("a", Some("db"))
                .unwrap_err()
                .to_string()
                .contains("on network db")
        );
        assert!(found("", None).is_err());
        assert!(
            d.endpoint("a", Some("nope"))
                .unwrap_err()
                .to_string()
                .contains("there is web, db")
        );
    }
}
