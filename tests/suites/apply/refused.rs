//! What is refused: everything that is wrong, each with its line, and nothing done.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use anyhow::Result;

use super::{SHOP, Scene};

/// A file that is refused with exactly these lines of what is wrong, and changes nothing.
fn refused(scene: &Scene, verb: &[&str], text: &str, wrong: &[&str]) -> Result<()> {
    let before = scene.state()?;
    let file = scene.file("bad.toml", text)?;
    for verb in verb {
        let said = scene.lab.node.netd(&[verb, "-f", &file])?;
        assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{said:?}");
        let lines: Vec<&str> = said.stderr.lines().collect();
        assert_eq!(lines.len(), wrong.len(), "{said:?}");
        for (line, wrong) in lines.iter().zip(wrong) {
            let start = format!("netd: {file}");
            assert!(line.starts_with(&start), "{line}");
            let rest = &line[start.len()..];
            let mut words = wrong.split(' ');
            assert!(
                words.all(|w| rest.contains(w)),
                "{wrong:?} is not in {rest:?}"
            );
        }
    }
    assert_eq!(scene.state()?, before);
    Ok(())
}

#[test]
fn each_object_that_is_wrong_is_named_with_its_line() -> Result<()> {
    let scene = Scene::new("apply-bad", &["a", "b"])?;
    let both = ["plan", "apply"];
    refused(
        &scene,
        &both,
        "[network.web]\nsubnetz = 1\n\n[endpoint.x]\nnetwork = \"web\"\n",
        &[":2: subnetz", ":4: endpoint x: empty"],
    )?;
    refused(&scene, &both, "[network.web]\nstorm =\n", &[":2:"])?;
    let text = format!(
        "{SHOP}\n[network.low]\nsubnets = [\"10.80.0.128/25\"]\n\n[endpoint.c]\ntarget = \"nowhere-at-all\"\nnetwork = \"web\"\n\n\
         [endpoint.d]\ntarget = \"@a\"\nnetwork = \"none\"\n\n[[publish]]\nendpoint = \"b\"\nspec = \"8080:81\"\n"
    );
    refused(
        &scene,
        &both,
        &text,
        &[
            ":16: network low: overlaps web's",
            ":19: endpoint c: nowhere-at-all netd ns add",
            ":23: endpoint d: no network \"none\"",
            ":27: publish 8080/tcp: published already endpoint a",
        ],
    )?;
    // A process of the node has the port.
    let busy = scene.lab.node.tcp_listen(scene.lab.node.v4(), 8080)?;
    refused(
        &scene,
        &both,
        SHOP,
        &["publish 8080/tcp: has this port open"],
    )?;
    drop(busy);
    let said = scene
        .lab
        .node
        .netd(&["apply", "-f", "/nowhere/at/all.toml"])?;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("/nowhere/at/all.toml"), "{said:?}");
    assert_eq!(scene.lab.node.netd(&["apply"])?.code, Some(2));
    Ok(())
}

#[test]
fn objects_of_others_are_never_changed_unless_forced() -> Result<()> {
    let scene = Scene::new("apply-foreign", &["a", "b"])?;
    let node = &scene.lab.node;
    let subnets = ["--subnet", "10.80.0.0/24", "--subnet", "fd80::/64"];
    scene.lab.network_with("web", &subnets)?;
    let changed = SHOP.replace("[network.web]\n", "[network.web]\nstorm = 9\n");
    let both = ["plan", "apply"];
    refused(
        &scene,
        &both,
        &changed,
        &[":4: network web: belongs to cli --force"],
    )?;
    // It is used as it is, and not taken along.
    let file = scene.file("shop.toml", SHOP)?;
    scene.apply(&file)?;
    let told = node.netd_ok(&["delete", "-f", &file])?;
    assert!(told.contains("removed: 3"), "{told}");
    node.netd_ok(&["network", "inspect", "web"])?;
    let file = scene.file("shop.toml", &changed)?;
    node.netd_ok(&["apply", "-f", &file, "--force"])?;
    let web = scene.lab.inspect_network("web")?;
    assert_eq!((web.storm, web.owner.as_str()), (9, "file:shop"));
    // Somebody's endpoint keeps the network from going.
    let ns = scene.lab.namespace("other")?;
    node.netd_ok(&["attach", ns.name(), "--network", "web", "--name", "other"])?;
    let said = node.netd(&["delete", "-f", &file])?;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.stderr.contains("other") && said.stderr.lines().count() == 1,
        "{said:?}"
    );
    scene.host("a")?.ping(scene.host("b")?.v4())
}

#[test]
fn a_body_that_is_too_large_or_no_manifest_is_refused() -> Result<()> {
    let scene = Scene::new("apply-body", &[])?;
    let node = &scene.lab.node;
    let ask = |path: &str, length: usize, body: &[u8]| -> Result<String> {
        let mut stream = UnixStream::connect(node.socket())?;
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: netd\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes())?;
        // The server may answer, and close, before all of it is written.
        let _ = stream.write_all(body);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        Ok(answer)
    };
    for path in ["/v1/plan", "/v1/apply"] {
        let large = vec![b' '; (8 << 20) + 1];
        let answer = ask(path, large.len(), &large)?;
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
        for (body, status) in [
            (&b"[]"[..], 400),
            (b"{\"name\":\"x\",\"nets\":[]}", 400),
            (b"{\"name\":\"\"}", 400),
            (b"{\"name\":\"x\"}", 200),
        ] {
            let answer = ask(path, body.len(), body)?;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")),
                "{answer}"
            );
        }
    }
    Ok(())
}
