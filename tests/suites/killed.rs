//! The daemon is killed at the steps of everything that changes its state: its next start has the old state
//! or the new one, whole, and nothing else is left of either.

#[path = "killed/rows.rs"]
mod rows;
#[path = "killed/state.rs"]
mod state;

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use netd_api::{Endpoint, EndpointState, Status};
use netd_tests::lab::netns::{self, Ns};
use netd_tests::lab::{Lab, wait};
use state::State;

/// Where the daemon is told when to die.
const VARIABLE: &str = "NETD_FAILPOINT";
/// More steps than anything has.
const MOST: u64 = 100_000;
/// How many steps of each command are tried.
const SOME: u64 = 5;
/// Environment variable that has every step tried.
const EVERY: &str = "NETD_KILL_EVERY_STEP";

struct Scene {
    lab: Lab,
    spaces: Vec<Ns>,
    /// UDP ports that are published in one state and free in the other.
    ports: &'static [&'static str],
}

impl Scene {
    /// A node whose daemon can be told to die, and namespaces.
    fn new(name: &str, spaces: &[&str], ports: &'static [&'static str]) -> Result<Self> {
        let lab = Lab::builder(name).without_daemon().build()?;
        let file = lab.dir().join("steps").display().to_string();
        lab.node
            .reconfigure(|o| o.env.push((VARIABLE.into(), file)));
        lab.node.start()?;
        let spaces = spaces.iter().map(|n| lab.namespace(n));
        let spaces = spaces.collect::<Result<Vec<_>>>()?;
        for space in &spaces {
            // Attaching does that and detaching leaves it: it is the namespace's own.
            space.ip("link set lo up")?;
        }
        Ok(Self { lab, spaces, ports })
    }

    fn file(&self) -> PathBuf {
        self.lab.dir().join("steps")
    }

    /// Words of a command, with `@a` for the namespace `a`.
    fn words(&self, command: &str) -> Vec<String> {
        let word = |w: &str| match w.strip_prefix('@') {
            Some(name) => self.lab.id().ns(name),
            None => w.to_owned(),
        };
        command.split_whitespace().map(word).collect()
    }

    fn netd(&self, command: &str) -> Result<netd_tests::lab::process::Output> {
        let words = self.words(command);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.lab.node.netd(&words)
    }

    /// Runs commands, apart by ` ; `, that must succeed.
    fn must(&self, commands: &str) -> Result<()> {
        for command in commands.split(" ; ") {
            self.netd(command)?.success()?;
        }
        Ok(())
    }

    /// Writes a file in which `@a` is the namespace `a`; its path.
    fn write(&self, name: &str, text: &str) -> Result<String> {
        let mut text = text.to_owned();
        for space in &self.spaces {
            let short = space.name().rsplit('-').next().unwrap_or_default();
            text = text.replace(&format!("\"@{short}\""), &format!("{:?}", space.name()));
        }
        let path = self.lab.dir().join(name);
        std::fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    fn state(&self) -> Result<State> {
        state::of(&self.lab, &self.spaces, self.ports)
    }

    /// Waits until the node is in one of these states; which. What is deleted goes in the background.
    fn is(&self, states: &[&State]) -> Result<usize> {
        let last = RefCell::new(State::new());
        wait::until("a whole state", || {
            let now = self.state()?;
            let found = states.iter().position(|s| **s == now);
            *last.borrow_mut() = now;
            Ok(found)
        })
        .with_context(|| {
            let last = last.borrow();
            let all = states.iter().map(|s| state::difference(s, &last));
            all.collect::<Vec<_>>().join("or\n")
        })
    }

    /// Has the daemon die at its `at`th step from now on; the file by which it is told.
    fn arm(&self, at: u64) -> Result<File> {
        std::fs::write(self.file(), at.to_string())?;
        Ok(OpenOptions::new().read(true).open(self.file())?)
    }

    /// Ends that: what is left of the steps, and the one it died at. No step is counted any more.
    fn disarm(&self, mut file: File) -> Result<(u64, Option<String>)> {
        std::fs::remove_file(self.file())?;
        // Somebody may be counting just now: then the text is short for a moment, or the end is near.
        let dead = self.netd("status")?.code != Some(0);
        wait::until("the count", || {
            let mut text = String::new();
            file.rewind()?;
            file.read_to_string(&mut text)?;
            let (left, step) = match text.split_once(' ') {
                Some((left, step)) => (left, Some(step.to_owned())),
                None => (text.as_str(), None),
            };
            let left = left.parse::<u64>().ok();
            Ok(left.filter(|_| dead == step.is_some()).map(|l| (l, step)))
        })
    }

    /// Runs a command with the daemon dying at its `at`th step; at which it did, none: it did not.
    fn dies_at(&self, at: u64, command: &str) -> Result<Option<String>> {
        let file = self.arm(at)?;
        let said = self.netd(command)?;
        let (_, step) = self.disarm(file)?;
        if step.is_some() {
            self.lab.node.wait_stopped()?;
        } else {
            said.success()?;
        }
        Ok(step)
    }

    /// Kills the daemon at steps of a command and, from what that leads to, of the one back.
    fn sweep(&self, forth: &str, back: &str) -> Result<()> {
        let old = self.state()?;
        self.must(forth)?;
        let new = self.state()?;
        ensure!(old != new, "{forth} changes nothing that is looked at");
        self.must(back)?;
        self.is(&[&old])
            .with_context(|| format!("after {forth} and {back}"))?;
        self.one_way(forth, back, [&old, &new])?;
        self.must(forth)?;
        self.is(&[&new]).with_context(|| forth.to_owned())?;
        self.one_way(back, forth, [&new, &old])
    }

    /// How many steps a command has; it is run for that.
    fn steps_of(&self, command: &str) -> Result<u64> {
        let file = self.arm(MOST)?;
        self.must(command)?;
        Ok(MOST - self.disarm(file)?.0)
    }

    /// Begins and ends in the first state; `command` leads to the second and `back` from there.
    fn one_way(&self, command: &str, back: &str, states: [&State; 2]) -> Result<()> {
        let steps = self.steps_of(command)?;
        self.is(&[states[1]]).with_context(|| command.to_owned())?;
        let mut is = 1;
        let mut seen = [0; 2];
        for at in chosen(steps) {
            if is == 1 {
                self.must(back)?;
                self.is(&[states[0]]).with_context(|| back.to_owned())?;
            }
            let Some(step) = self.dies_at(at, command)? else {
                is = 1;
                break;
            };
            let here = || format!("`{command}`, killed at its step {at} of {steps}: {step}");
            self.lab.node.start().with_context(here)?;
            is = self.is(&states).with_context(here)?;
            seen[is] += 1;
        }
        println!(
            "{command}: {steps} steps; then old {}, new {}",
            seen[0], seen[1]
        );
        // Before anything is done there is the old state, before the answer the new one.
        ensure!(seen.iter().all(|n| *n > 0), "{command}: {seen:?}");
        if is == 1 {
            self.must(back)?;
        }
        self.is(&[states[0]]).map(drop)
    }
}

/// The steps to die at: all of them if [`EVERY`] is set, else some, the first and the last among them.
fn chosen(steps: u64) -> Vec<u64> {
    let stride = if std::env::var_os(EVERY).is_some() {
        1
    } else {
        steps.div_ceil(SOME)
    };
    let stride = usize::try_from(stride.max(1)).unwrap_or(1);
    let mut all: Vec<u64> = (1..=steps).step_by(stride).collect();
    if all.last() != Some(&steps) {
        all.push(steps);
    }
    all
}

#[test]
fn while_a_network_is_made_or_removed() -> Result<()> {
    let scene = Scene::new("killed-network", &[], &[])?;
    scene.must("network create other")?;
    let create = "network create web --subnet 10.90.0.0/24 --subnet fd90::/64 --mtu 1400";
    scene.sweep(create, "network rm web")
}

#[test]
fn while_a_network_in_use_is_set() -> Result<()> {
    let scene = Scene::new("killed-set", &["a"], &[])?;
    let make = "network create web --subnet 10.90.0.0/24 --subnet fd90::/64 --gateway none \
                --masquerade-profile balanced";
    let attach =
        "attach @a --network web --name a --mac 02:00:00:00:00:0a --ip 10.90.0.7 --ip fd90::7";
    scene.must(make)?;
    scene.must(attach)?;
    scene.sweep(
        "network set web --storm 9 --mtu 1400 --masquerade-profile strict",
        "network set web --storm 2000 --mtu 1500 --masquerade-profile balanced",
    )
}

#[test]
fn while_a_network_in_use_gets_a_gateway() -> Result<()> {
    let scene = Scene::new("killed-gateway", &["a"], &[])?;
    let make = "network create web --subnet 10.90.0.0/24 --subnet fd90::/64 --gateway none";
    let attach =
        "attach @a --network web --name a --mac 02:00:00:00:00:0a --ip 10.90.0.7 --ip fd90::7";
    scene.must(make)?;
    scene.must(attach)?;
    // A gateway comes and does not go again: all is made anew for that.
    let old = scene.state()?;
    let set = "network set web --gateway 10.90.0.1 --gateway fd90::1";
    let back = format!("detach a ; network rm web ; {make} ; {attach}");
    scene.must(set)?;
    let new = scene.state()?;
    scene.must(&back)?;
    scene.one_way(set, &back, [&old, &new])
}

#[test]
fn while_a_floating_address_is_added_or_removed() -> Result<()> {
    let scene = Scene::new("killed-floating", &["a"], &[])?;
    scene.must("network create web --subnet 10.90.0.0/24 --subnet fd90::/64")?;
    scene.must("attach @a --network web --name a --mac 02:00:00:00:00:0a")?;
    for address in ["192.0.2.77", "2001:db8:1::77"] {
        let (add, rm) = (
            format!("floating add {address} a"),
            format!("floating rm {address}"),
        );
        scene.sweep(&add, &rm)?;
    }
    Ok(())
}

#[test]
fn while_an_endpoint_with_ports_is_attached_or_detached() -> Result<()> {
    let scene = Scene::new("killed-attach", &["a", "b"], &["8080", "8081"])?;
    scene.must("network create web --subnet 10.90.0.0/24 --subnet fd90::/64")?;
    scene.must("attach @b --network web --name b --mac 02:00:00:00:00:0b")?;
    let attach = "attach @a --network web --name a --mac 02:00:00:00:00:0a --ip 10.90.0.7 --ip fd90::7 \
                  --publish 8080:80/udp --publish 8081:81/udp";
    scene.sweep(attach, "detach a")
}

#[test]
fn while_ports_are_published_or_unpublished() -> Result<()> {
    let scene = Scene::new("killed-publish", &["a"], &["8080", "8090", "8091", "8092"])?;
    scene.must("network create web --subnet 10.90.0.0/24 --subnet fd90::/64")?;
    scene.must("attach @a --network web --name a --mac 02:00:00:00:00:0a")?;
    scene.sweep(
        "publish a 8080:80/udp 8090-8092:90-92/udp",
        "unpublish 8080/udp 8090-8092/udp",
    )
}

#[test]
fn while_a_file_is_applied() -> Result<()> {
    files("killed-apply", NEW)
}

#[test]
fn while_a_network_is_made_anew_with_its_endpoints() -> Result<()> {
    files("killed-anew", &OLD.replace("10.80.0.", "10.82.0."))
}

#[test]
fn an_endpoint_of_a_file_whose_namespace_goes_meanwhile_is_gone_and_comes_again() -> Result<()> {
    let scene = Scene::new("killed-lost", &["a", "b", "c", "s"], &[])?;
    let node = &scene.lab.node;
    let apply = format!("apply -f {}", scene.write("old.toml", OLD)?);
    // Behind the commit nothing is made yet.
    let mut before = String::new();
    for at in 1.. {
        let step = scene.dies_at(at, &apply)?.context("it is over")?;
        if before == "storing" {
            break;
        }
        before = step;
        node.start()?;
    }
    let name = scene.lab.id().ns("b");
    netns::remove(&name)?;
    node.start()?;
    let states = || -> Result<Vec<(String, EndpointState)>> {
        let all: Vec<Endpoint> = node.netd_json(&["endpoint", "ls"])?;
        Ok(all.into_iter().map(|e| (e.name, e.state)).collect())
    };
    let with = |b| {
        let all = [
            ("a", EndpointState::Bound),
            ("b", b),
            ("s", EndpointState::Bound),
        ];
        all.map(|(name, state)| (name.to_owned(), state))
    };
    assert_eq!(states()?, with(EndpointState::Gone));
    let status: Status = node.netd_json(&["status"])?;
    let only = |p: &String| p.starts_with("endpoint b is gone");
    assert!(status.problems.iter().all(only), "{status:?}");
    scene.must("attach @c --network web --name c ; publish a 9090:90 ; detach c")?;
    Ns::create(&name)?;
    scene.must(&apply)?;
    assert_eq!(states()?, with(EndpointState::Bound));
    Ok(())
}

/// Goes from one file to another and back.
fn files(name: &str, new: &str) -> Result<()> {
    let scene = Scene::new(name, &["a", "b", "c", "s"], &["8080", "8081"])?;
    let apply = |name, text| -> Result<String> {
        Ok(format!("apply -f {} --prune", scene.write(name, text)?))
    };
    let (old, new) = (apply("old.toml", OLD)?, apply("new.toml", new)?);
    scene.must(&old)?;
    scene.sweep(&new, &old)
}

/// Two endpoints on a network, one with a published port.
const OLD: &str = r#"
name = "shop"

[network.web]
subnets = ["10.80.0.0/24", "fd80::/64"]
mtu = 1500

[endpoint.a]
target = "@a"
network = "web"
ips = ["10.80.0.2", "fd80::2"]
mac = "02:00:00:00:00:0a"
publish = ["8080:80/udp"]

[endpoint.b]
target = "@b"
network = "web"
ips = ["10.80.0.3", "fd80::3"]
mac = "02:00:00:00:00:0b"

[endpoint.s]
target = "@s"
network = "web"
ips = ["10.80.0.9", "fd80::9"]
mac = "02:00:00:00:00:09"
"#;

/// The network gets another MTU, which `s` follows, `a` is made anew with another port, `b` goes, others come,
/// with a network.
const NEW: &str = r#"
name = "shop"

[network.web]
subnets = ["10.80.0.0/24", "fd80::/64"]
mtu = 1400
storm = 9

[network.db]
subnets = ["10.81.0.0/24"]

[endpoint.a]
target = "@a"
network = "web"
ips = ["10.80.0.2", "fd80::2"]
mac = "02:00:00:00:01:0a"
publish = ["8080:80/udp", "8081:81/udp"]

[endpoint.s]
target = "@s"
network = "web"
ips = ["10.80.0.9", "fd80::9"]
mac = "02:00:00:00:00:09"

[endpoint.c]
target = "@c"
network = "web"
ips = ["10.80.0.4", "fd80::4"]
mac = "02:00:00:00:00:0c"

[endpoint.d]
target = "@b"
network = "db"
ips = ["10.81.0.4"]
mac = "02:00:00:00:00:0d"
"#;
