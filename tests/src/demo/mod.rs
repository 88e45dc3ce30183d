//! The demo: netd's main job in a lab on this machine, shown by real tools.

mod checks;
mod drawing;
mod node_checks;
mod show;

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::lab::{AttachMode, Endpoint, Lab, Network};

/// How the demo is to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Leave the lab up.
    pub keep: bool,
    /// No colours.
    pub plain: bool,
    /// How netd hooks its TC programs.
    pub attach_mode: AttachMode,
    /// The netd binary; none: the one beside this program, or the one that was built.
    pub netd: Option<PathBuf>,
}

/// What the demo is made of.
struct Scene {
    lab: Lab,
    network: Network,
    endpoints: Vec<Endpoint>,
    /// Port of the endpoints' servers.
    port: u16,
    /// Where it is published on the node.
    published: u16,
}

/// Runs the demo; true if every line worked.
pub fn run(options: &Options) -> Result<bool> {
    let mut builder = Lab::builder("demo")
        .quiet()
        .attach_mode(options.attach_mode);
    if let Some(netd) = &options.netd {
        builder = builder.netd(netd.clone());
    }
    let scene = build(builder.build()?)?;
    let status: netd_api::Status = scene.lab.node.netd_json(&["status"])?;
    println!(
        "netd {} on Linux {}: hooks by {}, XDP {}\n\
         A node with three endpoints on network {}, and a host outside. a publishes a port.\n",
        status.version,
        status.kernel,
        status.attach_mode,
        status.uplinks.first().map_or("off", |u| u.xdp.as_str()),
        scene.network.name,
    );
    let lines = checks::run(&scene);
    println!("{}", show::table(&lines, options.plain));
    let node = node_checks::run(&scene, &status.attach_mode);
    println!("{}", show::node_table(&node, options.plain));
    println!("{}", drawing::draw(&scene)?);
    let failed = lines.iter().filter(|l| l.failure.is_some()).count()
        + node.iter().filter(|l| !l.holds).count();
    if failed > 0 {
        println!("--- log of netd ---\n{}---", scene.lab.node.log());
        println!("{}", scene.lab.node.netd_ok(&["stats"]).unwrap_or_default());
        println!("{failed} of {} lines failed", lines.len() + node.len());
    } else {
        println!("all {} lines work", lines.len() + node.len());
    }
    if options.keep {
        keep(scene);
    }
    Ok(failed == 0)
}

fn build(lab: Lab) -> Result<Scene> {
    let (port, published) = (80, 8080);
    let network = lab.network("web")?;
    let endpoints = ["a", "b", "c"]
        .iter()
        .map(|name| lab.endpoint(name, &network))
        .collect::<Result<Vec<_>>>()?;
    for spec in [
        format!("{published}:{port}/tcp"),
        format!("{published}:{port}/udp"),
    ] {
        lab.publish("a", &spec)
            .with_context(|| format!("cannot publish {spec}"))?;
    }
    // The numbers of endpoints are part of what is shown.
    let network = lab.inspect_network(&network.name)?;
    Ok(Scene {
        lab,
        network,
        endpoints,
        port,
        published,
    })
}

fn keep(scene: Scene) {
    let node = &scene.lab.node;
    let netd = node.netd_command(&[]).get_program().display().to_string();
    let netd = format!("{netd} --socket {}", node.socket().display());
    println!("\nThe lab stays up. Enter it:");
    let hosts = [&scene.lab.outside, &**node];
    for host in hosts
        .into_iter()
        .chain(scene.endpoints.iter().map(|e| &**e))
    {
        let path = host.ns.path().display().to_string();
        println!("  nsenter --net={path} sh");
    }
    println!("Ask its netd:\n  {netd} endpoint ls\n  {netd} stats");
    println!("Remove it:\n  cargo xtask clean --all    # or: netd-lab clean --all");
    scene.lab.keep();
}
