//! From TOML to what is asked for. Everything that is wrong is found, each with its line.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;

use anyhow::Context as _;
use ipnet::IpNet;
use netd_api::{Attach, FloatingAdd, Manifest, NetworkCreate, PublishOf, PublishSpec, object};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use super::super::{error::Listed, values};

/// Bytes of a file, as of the body of a request.
const LONGEST: u64 = 1 << 20;

/// A file that was read.
#[derive(Debug)]
pub struct Source {
    /// What it asks for.
    pub manifest: Manifest,
    /// How it is called in messages.
    path: String,
    /// Lines of objects.
    lines: BTreeMap<String, usize>,
}

impl Source {
    /// Reads a file; `-` is standard input.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display().to_string();
        let mut text = String::new();
        let (stem, read) = if shown == "-" {
            let input = std::io::stdin().lock();
            (
                String::new(),
                input.take(LONGEST + 1).read_to_string(&mut text),
            )
        } else {
            let file = std::fs::File::open(path).with_context(|| format!("cannot open {shown}"))?;
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            (
                stem.into_owned(),
                file.take(LONGEST + 1).read_to_string(&mut text),
            )
        };
        read.with_context(|| format!("cannot read {shown}"))?;
        if text.len() as u64 > LONGEST {
            anyhow::bail!("{shown} is larger than {LONGEST} bytes; divide it");
        }
        Self::parse(&text, &shown, &stem)
    }

    /// Reads text; `stem` is its name where it gives none.
    pub fn parse(text: &str, path: &str, stem: &str) -> anyhow::Result<Self> {
        let mut reader = Reader {
            text,
            wrong: Vec::new(),
            lines: BTreeMap::new(),
            manifest: Manifest {
                name: stem.into(),
                ..Manifest::default()
            },
        };
        match DeTable::parse(text) {
            Ok(table) => reader.file(table.into_inner()),
            Err(e) => reader.error(&e, None),
        }
        if reader.wrong.is_empty() && reader.manifest.name.is_empty() {
            reader.wrong.push((
                1,
                "standard input has no name: begin it with name = \"..\"".into(),
            ));
        }
        reader.wrong.sort();
        if !reader.wrong.is_empty() {
            let line = |(line, what): &(usize, String)| format!("{path}:{line}: {what}");
            return Err(Listed(reader.wrong.iter().map(line).collect()).into());
        }
        Ok(Self {
            manifest: reader.manifest,
            path: path.into(),
            lines: reader.lines,
        })
    }

    /// Where an object is asked for: the file, with the line where that is known.
    pub fn place(&self, object: &str) -> String {
        match self.line(object) {
            Some(line) => format!("{}:{line}", self.path),
            None => self.path.clone(),
        }
    }

    /// The line an object stands in.
    pub fn line(&self, object: &str) -> Option<usize> {
        self.lines.get(object).copied()
    }
}

struct Reader<'a> {
    text: &'a str,
    wrong: Vec<(usize, String)>,
    lines: BTreeMap<String, usize>,
    manifest: Manifest,
}

type Value<'a> = Spanned<DeValue<'a>>;

/// What a table has, as it stands in the file: where, its key, its value.
fn in_order(table: DeTable<'_>) -> Vec<(usize, String, Value<'_>)> {
    let entry = |(key, value): (Spanned<_>, _)| {
        let key: Spanned<toml::de::DeString<'_>> = key;
        (key.span().start, key.get_ref().to_string(), value)
    };
    let mut all: Vec<_> = table.into_iter().map(entry).collect();
    all.sort_by_key(|(at, ..)| *at);
    all
}

/// A floating address.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Float {
    endpoint: String,
    address: IpAddr,
}

/// A published port with its endpoint, or without.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Published {
    endpoint: Option<String>,
    spec: String,
    #[serde(default)]
    from: Vec<String>,
}

impl<'a> Reader<'a> {
    fn line(&self, offset: usize) -> usize {
        let before = self.text.get(..offset).unwrap_or_default();
        before.matches('\n').count() + 1
    }

    fn note(&mut self, offset: usize, what: impl Into<String>) {
        let line = self.line(offset);
        self.wrong.push((line, what.into().replace('\n', " ")));
    }

    fn error(&mut self, e: &toml::de::Error, object: Option<(&str, usize)>) {
        let offset = e.span().map(|s| s.start);
        let offset = offset.or(object.map(|(_, o)| o)).unwrap_or_default();
        let of = object.map_or_else(String::new, |(object, _)| format!("{object}: "));
        self.note(offset, format!("{of}{}", e.message()));
    }

    fn file(&mut self, table: DeTable<'a>) {
        for (at, name, value) in in_order(table) {
            match name.as_str() {
                "name" => {
                    if let Some(name) = self.take::<String>(value, "name", at) {
                        self.manifest.name = name;
                    }
                }
                "network" => self.each(value, &name, at, Self::network),
                "endpoint" => self.each(value, &name, at, Self::endpoint),
                "publish" => self.publishes(value, at),
                "floating" => self.floating(value, at),
                _ => self.note(
                    at,
                    format!(
                        "there is no {name:?} in a file; it has name, [network.NAME], [endpoint.NAME], [[publish]] and [[floating]]"
                    ),
                ),
            }
        }
    }

    fn take<T: DeserializeOwned>(&mut self, value: Value<'a>, of: &str, at: usize) -> Option<T> {
        match T::deserialize(ValueDeserializer::from(value)) {
            Ok(value) => Some(value),
            Err(e) => {
                self.error(&e, Some((of, at)));
                None
            }
        }
    }

    /// Every `[KIND.NAME]`.
    fn each(
        &mut self,
        value: Value<'a>,
        kind: &str,
        at: usize,
        read: fn(&mut Self, String, usize, DeTable<'a>),
    ) {
        let DeValue::Table(table) = value.into_inner() else {
            return self.note(at, format!("{kind} is written [{kind}.NAME]"));
        };
        for (at, name, value) in in_order(table) {
            match value.into_inner() {
                DeValue::Table(table) => read(self, name, at, table),
                _ => self.note(at, format!("{kind} {name} is written [{kind}.{name}]")),
            }
        }
    }

    /// What a table may not say: the section's own name and the file's owner are that.
    fn refuse_given(&mut self, object: &str, table: &DeTable<'a>) -> bool {
        let given = table
            .iter()
            .find(|(key, _)| matches!(&**key.get_ref(), "name" | "owner"));
        let Some((key, _)) = given else { return false };
        let (at, key) = (key.span().start, key.get_ref().to_string());
        let what = match key.as_str() {
            "name" => "its name stands in the brackets",
            _ => "its owner is this file",
        };
        self.note(at, format!("{object}: {key} cannot be given: {what}"));
        true
    }

    fn network(&mut self, name: String, at: usize, table: DeTable<'a>) {
        let object = object::network(&name);
        let line = self.line(at);
        self.lines.insert(object.clone(), line);
        if self.refuse_given(&object, &table) {
            return;
        }
        let value = Spanned::new(at..at, DeValue::Table(table));
        if let Some(network) = self.take::<NetworkCreate>(value, &object, at) {
            self.manifest
                .networks
                .push(NetworkCreate { name, ..network });
        }
    }

    fn endpoint(&mut self, name: String, at: usize, table: DeTable<'a>) {
        let object = object::endpoint(&name);
        let line = self.line(at);
        self.lines.insert(object.clone(), line);
        if self.refuse_given(&object, &table) {
            return;
        }
        let mut rest = DeTable::new();
        let mut publish = Vec::new();
        for (key, value) in table {
            if key.get_ref() == "publish" {
                publish = self.specs(value, &object, key.span().start);
            } else {
                rest.insert(key, value);
            }
        }
        let value = Spanned::new(at..at, DeValue::Table(rest));
        let Some(endpoint) = self.take::<Attach>(value, &object, at) else {
            return;
        };
        if let Err(e) = values::target(&endpoint.target) {
            self.note(at, format!("{object}: target {:?}: {e}", endpoint.target));
        }
        if endpoint.network.is_empty() {
            self.note(at, format!("{object}: it names no network"));
        }
        self.manifest.endpoints.push(Attach {
            name: Some(name),
            publish,
            ..endpoint
        });
    }

    /// `publish = ["8080:80", { spec = "8443:443", from = ["192.0.2.0/24"] }]`.
    fn specs(&mut self, value: Value<'a>, object: &str, at: usize) -> Vec<PublishSpec> {
        let DeValue::Array(items) = value.into_inner() else {
            self.note(at, format!("{object}: publish is a list of specs"));
            return vec![];
        };
        let mut specs = Vec::new();
        for item in items {
            let at = item.span().start;
            let published = match item.get_ref() {
                DeValue::String(spec) => Some(Published {
                    endpoint: None,
                    spec: spec.to_string(),
                    from: vec![],
                }),
                _ => self.take::<Published>(item, object, at),
            };
            if let Some(p) = published {
                specs.extend(self.spec(&p, object, at));
            }
        }
        specs
    }

    fn spec(&mut self, published: &Published, object: &str, at: usize) -> Option<PublishSpec> {
        let mut spec = match published.spec.parse::<PublishSpec>() {
            Ok(spec) => spec,
            Err(e) => {
                self.note(at, format!("{object}: {e}"));
                return None;
            }
        };
        for text in &published.from {
            match values::source(text) {
                Ok(net) => spec.from.push(IpNet::trunc(&net)),
                Err(e) => self.note(at, format!("{object}: from {text:?}: {e}")),
            }
        }
        let line = self.line(at);
        // Of two that are the same the later one is wrong.
        self.lines.insert(object::publish(&spec), line);
        Some(spec)
    }

    /// `[[floating]]`, likewise.
    fn floating(&mut self, value: Value<'a>, at: usize) {
        let DeValue::Array(items) = value.into_inner() else {
            return self.note(at, "floating is written [[floating]]");
        };
        for item in items {
            let at = item.span().start;
            if let Some(Float { endpoint, address }) = self.take(item, "floating", at) {
                let line = self.line(at);
                self.lines.insert(object::floating(address), line);
                self.manifest.floating.push(FloatingAdd {
                    address,
                    endpoint,
                    owner: None,
                });
            }
        }
    }

    /// `[[publish]]`, of endpoints that need not be the file's own.
    fn publishes(&mut self, value: Value<'a>, at: usize) {
        let DeValue::Array(items) = value.into_inner() else {
            return self.note(at, "publish is written [[publish]]");
        };
        for item in items {
            let at = item.span().start;
            let Some(published) = self.take::<Published>(item, "publish", at) else {
                continue;
            };
            let Some(endpoint) = published.endpoint.clone() else {
                self.note(at, "publish: it names no endpoint");
                continue;
            };
            if let Some(spec) = self.spec(&published, "publish", at) {
                self.manifest.publishes.push(PublishOf { endpoint, spec });
            }
        }
    }
}

#[cfg(test)]
mod tests;
