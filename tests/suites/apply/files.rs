//! A file's life: made, told what would be done, changed, pruned, exported, deleted.

use std::net::SocketAddr;

use anyhow::Result;
use netd_api::{Action, Endpoint, FlowLine, Network, Plan, Published};
use netd_tests::lab::Host;
use netd_tests::lab::traffic::Proto;
use serde_json::Value;

use super::{SHOP, Scene};

fn done(plan: &Plan) -> Vec<(Action, &str)> {
    let lines = plan.lines.iter();
    lines.map(|l| (l.action, l.object.as_str())).collect()
}

#[test]
fn a_file_is_made_real_changed_pruned_and_deleted() -> Result<()> {
    let scene = Scene::new("apply", &["a", "b"])?;
    let node = &scene.lab.node;
    let file = scene.file("shop.toml", SHOP)?;
    let before = scene.state()?;
    let planned = node.netd(&["plan", "-f", &file])?;
    assert_eq!(planned.code, Some(3), "{planned:?}");
    for text in [
        "+ network web\n",
        "+ endpoint a\n",
        "+ publish 8080/tcp\n",
        "to be created: 4",
    ] {
        assert!(planned.stdout.contains(text), "{text}: {}", planned.stdout);
    }
    assert_eq!(scene.state()?, before, "a plan changes nothing");
    let plan = scene.apply(&file)?;
    assert_eq!((plan.lines.len(), plan.owner.as_str()), (4, "file:shop"));
    let (a, b) = (scene.host("a")?, scene.host("b")?);
    a.ping(b.v4())?;
    b.ping(a.v6())?;
    for to in [scene.lab.outside.v4(), scene.lab.outside.v6()] {
        a.ping(to)?;
    }
    let server = a.serve_source(Proto::Tcp, 80)?;
    for ip in [node.v4(), node.v6()] {
        scene
            .lab
            .outside
            .ask_source(Proto::Tcp, (ip, 8080).into())?;
    }
    drop(server);
    // The same again is nothing at all, whoever asks.
    let planned = node.netd(&["plan", "-f", &file, "--prune"])?;
    assert_eq!(
        (planned.code, planned.stdout.as_str()),
        (Some(0), "nothing to do\n")
    );
    assert_eq!(node.netd_ok(&["apply", "-f", &file])?, "nothing to do\n");
    // Options change in place; what left the file is told, and goes with --prune.
    let ids = |node: &netd_tests::lab::node::Node| -> Result<Vec<(String, u32)>> {
        let all: Vec<Endpoint> = node.netd_json(&["endpoint", "ls"])?;
        Ok(all.into_iter().map(|e| (e.id, e.ifindex)).collect())
    };
    let before = ids(node)?;
    let changed = SHOP
        .replace(
            "fd80::/64\"]",
            "fd80::/64\"]\nmtu = 1400\nstorm = 7\nno_masquerade = true",
        )
        .replace("publish = [\"8080:80\"]", "publish = [\"8081:80\"]");
    let file = scene.file("shop.toml", &changed)?;
    let told = node.netd_ok(&["apply", "-f", &file])?;
    for text in [
        "~ network web\n",
        "mtu: 1500 -> 1400",
        "storm: 2000 -> 7",
        "masquerade: true -> false",
        "+ publish 8081/tcp",
        "publish 8080/tcp is no longer asked for and stays",
    ] {
        assert!(told.contains(text), "{text}: {told}");
    }
    assert_eq!(ids(node)?, before, "no device was made anew");
    let web: Network = node.netd_json(&["network", "inspect", "web"])?;
    assert_eq!((web.mtu, web.storm, web.masquerade), (1400, 7, false));
    let shown = a.ok("ip", &["-o", "link", "show", "eth0"])?;
    assert!(shown.contains("mtu 1400"), "{shown}");
    a.ping(b.v4())?;
    let plan = scene.apply(&file)?;
    assert_eq!(done(&plan), [(Action::Remove, "publish 8080/tcp")]);
    let published: Vec<Published> = node.netd_json(&["published"])?;
    assert_eq!(published.len(), 1);
    let told = node.netd_ok(&["delete", "-f", &file])?;
    assert!(told.contains("removed: 4"), "{told}");
    assert_eq!(
        node.netd_json::<Value>(&["network", "ls"])?,
        Value::Array(vec![])
    );
    assert_eq!(node.netd_ok(&["delete", "-f", &file])?, "nothing to do\n");
    Ok(())
}

#[test]
fn what_cannot_change_in_place_is_made_anew_and_the_plan_says_why() -> Result<()> {
    let scene = Scene::new("apply-anew", &["a", "b"])?;
    let node = &scene.lab.node;
    scene.apply(&scene.file("shop.toml", SHOP)?)?;
    let text = SHOP.replace(
        "network = \"web\"\npublish",
        "network = \"web\"\nmac = \"02:00:00:00:00:77\"\npublish",
    );
    let file = scene.file("shop.toml", &text)?;
    let before = scene.host("a")?;
    let told = node.netd(&["plan", "-f", &file])?.stdout;
    assert!(
        told.contains("-+ endpoint a (made anew: mac cannot be changed in place)"),
        "{told}"
    );
    assert!(told.contains("-> 02:00:00:00:00:77"), "{told}");
    let plan = scene.apply(&file)?;
    assert_eq!(
        done(&plan),
        [
            (Action::Remake, "endpoint a"),
            (Action::Remake, "publish 8080/tcp")
        ]
    );
    let (a, b) = (scene.host("a")?, scene.host("b")?);
    assert_eq!((a.v4(), a.device.as_str()), (before.v4(), "eth0"));
    a.ping(b.v4())?;
    let server = a.serve_source(Proto::Tcp, 80)?;
    scene
        .lab
        .outside
        .ask_source(Proto::Tcp, (node.v4(), 8080).into())?;
    drop(server);
    // Another subnet: the network and all on it.
    let text = text.replace("10.80.0.0/24", "10.81.0.0/24");
    let plan = scene.apply(&scene.file("shop.toml", &text)?)?;
    assert!(
        plan.lines.iter().all(|l| l.action == Action::Remake),
        "{plan:?}"
    );
    assert_eq!(plan.lines.len(), 4);
    let (a, b) = (scene.host("a")?, scene.host("b")?);
    assert!(a.v4().to_string().starts_with("10.81.0."), "{}", a.v4());
    a.ping(b.v4())?;
    a.ping(b.v6())?;
    a.ping(scene.lab.outside.v4())?;
    // A namespace that was made anew under the same name.
    let ns = a.ns.name().to_owned();
    netd_tests::lab::netns::remove(&ns)?;
    netd_tests::lab::netns::Ns::create(&ns)?;
    let plan = scene.apply(&scene.file("shop.toml", &text)?)?;
    let why = plan.lines[0].why.clone().unwrap_or_default();
    assert!(why.contains("another namespace"), "{plan:?}");
    scene.host("a")?.ping(b.v4())
}

#[test]
fn a_gateway_comes_to_a_network_in_use() -> Result<()> {
    let scene = Scene::new("apply-gateway", &["a", "b"])?;
    let text = SHOP.replace(
        "publish = [\"8080:80\"]",
        "ips = [\"10.80.0.8\", \"fd80::8\"]",
    ) + "ips = [\"10.80.0.9\", \"fd80::9\"]\n";
    let without = text.replace("fd80::/64\"]", "fd80::/64\"]\nno_gateway = true");
    scene.apply(&scene.file("shop.toml", &without)?)?;
    let a = scene.host("a")?;
    a.ping_fails(scene.lab.outside.v4())?;
    let plan = scene.apply(&scene.file("shop.toml", &text)?)?;
    assert!(
        plan.lines.iter().all(|l| l.action == Action::Change),
        "{plan:?}"
    );
    for to in [scene.lab.outside.v4(), scene.lab.outside.v6()] {
        a.ping(to)?;
    }
    Ok(())
}

#[test]
fn what_is_exported_is_applied_as_nothing() -> Result<()> {
    let scene = Scene::new("apply-export", &["a", "b", "c"])?;
    let node = &scene.lab.node;
    scene.apply(&scene.file("shop.toml", SHOP)?)?;
    // Others have objects too, with everything that can be asked for.
    scene.lab.network_with(
        "db",
        &[
            "--masquerade-profile",
            "strict",
            "--masquerade-ports",
            "20000-30000",
            "--no-isolation",
            "--storm",
            "off",
            "--mtu",
            "1400",
            "--any-ethertype",
            "--ip-range",
            "10.82.0.128/25",
            "--subnet",
            "10.82.0.0/24",
            "--label",
            "a=b",
        ],
    )?;
    scene
        .lab
        .network_with("seg", &["--gateway", "none", "--internal"])?;
    let c = &scene.spaces[2];
    node.netd_ok(&[
        "attach",
        c.name(),
        "--network",
        "db",
        "--name",
        "c",
        "--macs",
        "any",
        "--publish",
        "0:80",
        "--from",
        "192.0.2.0/24",
    ])?;
    node.netd_ok(&["publish", "a", "9000-9009:90-99/udp"])?;
    for owner in [None, Some("cli"), Some("file:shop")] {
        let mut verb = vec!["export"];
        verb.extend(owner.iter().flat_map(|o| ["--owner", o]));
        let text = node.netd_ok(&verb)?;
        let file = scene.file("again.toml", &text)?;
        let said = node.netd(&["plan", "-f", &file, "--prune"])?;
        assert_eq!(
            (said.code, said.stdout.as_str()),
            (Some(0), "nothing to do\n"),
            "{text}\n{said:?}"
        );
    }
    let text = node.netd_ok(&["export", "--owner", "file:shop"])?;
    assert!(
        text.contains("name = \"shop\"") && !text.contains("[network.db]"),
        "{text}"
    );
    // The whole of it, elsewhere: the same comes out.
    let all = node.netd_ok(&["export"])?;
    let file = scene.file("node.toml", &all)?;
    node.netd_ok(&["apply", "-f", &file, "--force"])?;
    let again = node.netd_ok(&["export"])?;
    assert_eq!(again, all);
    node.netd_ok(&["delete", "-f", &file])?;
    node.netd_ok(&["apply", "-f", &file])?;
    assert_eq!(
        node.netd_ok(&["export", "--owner", "file:node"])?,
        format!("name = \"node\"\n\n{all}")
    );
    let json: netd_api::Manifest = node.netd_json(&["export"])?;
    assert_eq!((json.networks.len(), json.endpoints.len()), (3, 3));
    Ok(())
}

#[test]
fn floating_addresses_of_a_file_are_its_endpoints_and_change_hands_with_it() -> Result<()> {
    let scene = Scene::new("apply-floating", &["a", "b"])?;
    let node = &scene.lab.node;
    let floats = ["192.0.2.77", "2001:db8:1::77"];
    let shop = |endpoint: &str| {
        let float = |address| {
            format!("\n[[floating]]\nendpoint = \"{endpoint}\"\naddress = \"{address}\"\n")
        };
        SHOP.to_owned() + &floats.map(float).concat()
    };
    scene.apply(&scene.file("shop.toml", &shop("a"))?)?;
    let (a, b) = (scene.host("a")?, scene.host("b")?);
    let outside = &scene.lab.outside;
    let is_of = |host: &Host| -> Result<()> {
        for float in floats {
            let to = SocketAddr::new(float.parse()?, 7000);
            let _server = host.serve_source(Proto::Tcp, 7000)?;
            outside.ask_source(Proto::Tcp, to)?;
        }
        Ok(())
    };
    is_of(&a)?;
    let server = a.tcp_listen(a.v4(), 7001)?;
    let cut = SocketAddr::new(floats[0].parse()?, 7001);
    let _client = outside.tcp_connect(cut)?;
    let _accepted = server.accept()?;

    let text = node.netd_ok(&["export", "--owner", "file:shop"])?;
    let said = node.netd(&["plan", "-f", &scene.file("again.toml", &text)?])?;
    assert_eq!(said.stdout, "nothing to do\n", "{said:?}");

    let plan = scene.apply(&scene.file("shop.toml", &shop("b"))?)?;
    assert_eq!(plan.lines.len(), 2, "{plan:?}");
    assert!(
        plan.flows.iter().any(|f| f.dport == 7001),
        "the plan names the flows that it cuts: {plan:?}"
    );
    is_of(&b)?;
    let flows: Vec<FlowLine> = node.netd_json(&["flow", "ls"])?;
    assert!(flows.iter().all(|f| f.dport != 7001), "{flows:?}");

    // One that somebody has added is not the file's.
    let mine = node.netd_ok(&["export", "--owner", "file:shop"])?;
    node.netd_ok(&["floating", "add", "192.0.2.78", "a"])?;
    assert_eq!(node.netd_ok(&["export", "--owner", "file:shop"])?, mine);
    let plan = scene.apply(&scene.file("shop.toml", SHOP)?)?;
    assert_eq!(plan.lines.len(), 2, "{plan:?}");
    let left: Vec<netd_api::Floating> = node.netd_json(&["floating", "ls"])?;
    assert_eq!(left.len(), 1, "{left:?}");
    Ok(())
}
