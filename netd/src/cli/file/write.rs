//! From what is there to TOML that asks for it.

use netd_api::{Attach, Manifest, NetworkCreate, PublishSpec};
use serde::Serialize;
use serde_json::Value as Json;
use toml::{Table, Value};

/// The file that asks for what a manifest asks for.
pub fn toml(manifest: &Manifest) -> anyhow::Result<String> {
    let mut networks = Table::new();
    for network in &manifest.networks {
        let table = given(network, &NetworkCreate::default(), &["name", "owner"])?;
        networks.insert(network.name.clone(), table.into());
    }
    let mut endpoints = Table::new();
    for endpoint in &manifest.endpoints {
        let skip = ["name", "owner", "publish"];
        let mut table = given(endpoint, &Attach::default(), &skip)?;
        if !endpoint.publish.is_empty() {
            let specs = endpoint.publish.iter().map(|s| published(s, None));
            table.insert("publish".into(), Value::Array(specs.collect()));
        }
        let name = endpoint.name.clone().unwrap_or_default();
        endpoints.insert(name, table.into());
    }
    let publishes = manifest.publishes.iter();
    let publishes: Vec<Value> = publishes
        .map(|p| published(&p.spec, Some(&p.endpoint)))
        .collect();
    let floating = manifest.floating.iter().map(|f| {
        let address = ("address".into(), f.address.to_string().into());
        Table::from_iter([("endpoint".into(), f.endpoint.clone().into()), address]).into()
    });
    let floating: Vec<Value> = floating.collect();
    let mut file = Table::new();
    if !manifest.name.is_empty() {
        file.insert("name".into(), manifest.name.clone().into());
    }
    for (key, table) in [("network", networks), ("endpoint", endpoints)] {
        if !table.is_empty() {
            file.insert(key.into(), table.into());
        }
    }
    for (key, list) in [("publish", publishes), ("floating", floating)] {
        if !list.is_empty() {
            file.insert(key.into(), list.into());
        }
    }
    Ok(toml::to_string(&file)?)
}

/// The fields of a request that are not what they are when nothing is said.
fn given<T: Serialize>(request: &T, default: &T, skip: &[&str]) -> anyhow::Result<Table> {
    let (request, default) = (
        serde_json::to_value(request)?,
        serde_json::to_value(default)?,
    );
    let mut table = Table::new();
    let Json::Object(fields) = request else {
        return Ok(table);
    };
    for (name, value) in fields {
        if !skip.contains(&name.as_str()) && default.get(&name) != Some(&value) {
            table.insert(name, Value::try_from(value)?);
        }
    }
    Ok(table)
}

fn published(spec: &PublishSpec, endpoint: Option<&str>) -> Value {
    if spec.from.is_empty() && endpoint.is_none() {
        return spec.to_string().into();
    }
    let mut table = Table::new();
    if let Some(endpoint) = endpoint {
        table.insert("endpoint".into(), endpoint.into());
    }
    table.insert("spec".into(), spec.to_string().into());
    if !spec.from.is_empty() {
        let from: Vec<Value> = spec.from.iter().map(|n| n.to_string().into()).collect();
        table.insert("from".into(), from.into());
    }
    table.into()
}
