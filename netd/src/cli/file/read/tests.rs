//! Files that are read, and everything that is wrong with others.

use super::*;

const GOOD: &str = r#"
name = "shop"

[network.web]
subnets = ["10.80.0.0/24"]
storm = 0
labels = { tier = "front" }

[endpoint.api]
target = "box"
network = "web"
macs = "any"
publish = ["8080:80", { spec = "8443:443/tcp", from = ["192.0.2.7/24", "2001:db8::1"] }]

[[publish]]
endpoint = "other"
spec = "[2001:db8::2]:53:53/udp"

[[floating]]
endpoint = "api"
address = "2001:db8::9"
"#;

fn wrong(text: &str) -> Vec<String> {
    let e = Source::parse(text, "f.toml", "f").unwrap_err();
    e.downcast_ref::<Listed>().unwrap().0.clone()
}

#[test]
fn a_file_becomes_requests_with_the_lines_they_stand_in() {
    let source = Source::parse(GOOD, "f.toml", "f").unwrap();
    let m = &source.manifest;
    assert_eq!(m.name, "shop");
    assert_eq!(
        (m.networks[0].name.as_str(), m.networks[0].storm),
        ("web", Some(0))
    );
    let api = &m.endpoints[0];
    assert_eq!((api.name.as_deref(), api.publish.len()), (Some("api"), 2));
    let from: Vec<String> = api.publish[1]
        .from
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(from, ["192.0.2.0/24", "2001:db8::1/128"]);
    assert_eq!(m.publishes[0].endpoint, "other");
    assert_eq!(source.place("network web"), "f.toml:4");
    assert_eq!(source.place("endpoint api"), "f.toml:9");
    assert_eq!(source.place("publish 8443/tcp"), "f.toml:13");
    assert_eq!(source.place("publish [2001:db8::2]:53/udp"), "f.toml:15");
    assert_eq!(m.floating[0].endpoint, "api");
    assert_eq!(source.place("floating 2001:db8::9"), "f.toml:19");
    assert_eq!(source.place("network other"), "f.toml");
    let unnamed = Source::parse("", "dir/f.toml", "f").unwrap();
    assert_eq!(unnamed.manifest.name, "f");
}

#[test]
fn what_is_written_is_read_back_the_same() {
    let manifest = Source::parse(GOOD, "f.toml", "f").unwrap().manifest;
    let text = super::super::write::toml(&manifest).unwrap();
    let again = Source::parse(&text, "f.toml", "other").unwrap().manifest;
    assert_eq!(again, manifest, "{text}");
}

#[test]
fn everything_that_is_wrong_is_told_with_its_line() {
    let text = r#"names = "x"
[network.web]
subnetz = ["10.80.0.0/24"]
[network.db]
name = "other"
[network.c]
mtu = "large"
subnets = ["10.80.0/24"]
[endpoint.api]
target = "../box"
publish = ["80", 7, { spec = "80:80", from = ["x"] }]
[endpoint.b]
owner = "cli"
[endpoint]
c = 1
[[publish]]
spec = "80:80"
[[publish]]
endpoint = "a"
"#;
    let wrong = wrong(&text.replace("[endpoint]\nc = 1\n", ""));
    for (line, why) in [
        (1, "no \"names\" in a file"),
        (3, "network web: unknown field `subnetz`"),
        (5, "network db: name cannot be given"),
        (7, "network c: invalid type"),
        (9, "relative path"),
        (9, "endpoint api: it names no network"),
        (11, "publish spec \"80\""),
        (11, "endpoint api: "),
        (11, "from \"x\""),
        (13, "endpoint b: owner cannot be given"),
        (14, "publish: it names no endpoint"),
        (16, "missing field `spec`"),
    ] {
        let start = format!("f.toml:{line}: ");
        assert!(
            wrong
                .iter()
                .any(|w| w.starts_with(&start) && w.contains(why)),
            "{line} {why}: {wrong:#?}"
        );
    }
    assert_eq!(wrong.len(), 12, "{wrong:#?}");
    assert!(wrong.iter().all(|w| !w.contains('\n')), "{wrong:#?}");
}

#[test]
fn what_is_no_toml_is_told_with_its_line() {
    let one = wrong("[network.web]\nstorm = = 1\n");
    assert!(
        one.len() == 1 && one[0].starts_with("f.toml:2: "),
        "{one:?}"
    );
    let one = wrong("[network.web]\n[network.web]\n");
    assert!(one[0].starts_with("f.toml:2: "), "{one:?}");
    let one = wrong("network = 1");
    assert!(one[0].contains("[network.NAME]"), "{one:?}");
    let e = Source::parse("", "-", "").unwrap_err();
    assert!(e.to_string().contains("name ="), "{e}");
}
