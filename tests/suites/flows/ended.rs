//! What ends flows: `flow flush`, `unpublish`, `detach` - theirs, and no others.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use netd_tests::both_modes;
use netd_tests::lab::{AttachMode, Endpoint, Host, Lab, Network, wait};

/// A conversation that goes both ways as often as it is asked to.
enum Talk {
    Tcp(TcpStream, TcpStream),
    /// Client, server, and where the server sees the client.
    Udp(UdpSocket, UdpSocket, SocketAddr),
}

impl Talk {
    /// Opens a connection from `client` to `to`, which leads to `listen` on `server`.
    fn tcp(client: &Host, to: SocketAddr, server: &Host, listen: SocketAddr) -> Result<Self> {
        let listener = server.tcp_listen(listen.ip(), listen.port())?;
        let stream = client.tcp_connect(to)?;
        Ok(Self::Tcp(stream, listener.accept()?.0))
    }

    /// The same over UDP; the server's socket is given, as it serves several clients.
    fn udp(client: &Host, to: SocketAddr, server: &UdpSocket) -> Result<Self> {
        let any: IpAddr = if to.is_ipv4() {
            [0u8; 4].into()
        } else {
            [0u8; 16].into()
        };
        let socket = client.udp_bind(any, 0)?;
        socket.connect(to)?;
        socket.send(b"hello")?;
        let (_, from) = server
            .recv_from(&mut [0; 8])
            .context("hello did not arrive")?;
        let talk = Self::Udp(socket, server.try_clone()?, from);
        talk.go_on()?;
        Ok(talk)
    }

    /// A word there and back.
    fn go_on(&self) -> Result<()> {
        let mut got = [0; 4];
        match self {
            Self::Tcp(client, server) => {
                let (mut client, mut server) = (client, server);
                client.write_all(b"ping")?;
                server.read_exact(&mut got)?;
                server.write_all(b"pong")?;
                client.read_exact(&mut got)?;
            }
            Self::Udp(client, server, from) => {
                client.send(b"ping")?;
                let (_, again) = server.recv_from(&mut got)?;
                ensure!(again == *from, "it was {from}, and now is {again}");
                server.send_to(b"pong", from)?;
                ensure!(client.recv(&mut got)? == 4);
            }
        }
        Ok(())
    }

    /// The outside says something, and is told that nobody knows this conversation: by a reset, or by
    /// an ICMP error.
    fn is_cut(&self, outside_is_client: bool) -> Result<()> {
        match self {
            Self::Tcp(client, server) => {
                let mut outside = if outside_is_client { client } else { server };
                // The reset may be here already: an acknowledgement of what was last said was late, too.
                let told = outside.write_all(b"late");
                let told = told.and_then(|()| outside.read(&mut [0; 4]));
                let reset = matches!(&told, Err(e) if e.kind() == ErrorKind::ConnectionReset);
                ensure!(reset, "no reset: {told:?}");
            }
            Self::Udp(client, server, _) if outside_is_client => {
                client.set_read_timeout(Some(Duration::from_millis(100)))?;
                wait::until("an ICMP error", || {
                    let _ = client.send(b"late");
                    let told = client.recv(&mut [0; 8]);
                    let refused = |e: &io::Error| e.kind() == ErrorKind::ConnectionRefused;
                    Ok(told.err().filter(refused).map(drop))
                })?;
                server.set_nonblocking(true)?;
                ensure!(server.recv(&mut [0; 8]).is_err(), "it still arrives");
                server.set_nonblocking(false)?;
            }
            // The outside's socket serves many and is told nothing.
            Self::Udp(..) => {}
        }
        Ok(())
    }
}

fn flows(lab: &Lab, filter: &[&str]) -> Result<Vec<netd_api::FlowLine>> {
    lab.node.netd_json(&[&["flow", "ls"], filter].concat())
}

/// A lab with endpoint `a`, and conversations of one family and every kind: in by two published ports of
/// the same endpoint port, in by a port of a range, and out.
struct Scene {
    lab: Lab,
    web: Network,
    a: Endpoint,
    talks: Vec<(&'static str, Talk)>,
    _servers: Vec<UdpSocket>,
}

impl Scene {
    fn new(name: &str, mode: AttachMode, v6: bool) -> Result<Self> {
        let lab = Lab::in_mode(name, mode)?;
        let web = lab.network("web")?;
        let a = lab.endpoint("a", &web)?;
        let b = lab.endpoint("b", &web)?;
        for spec in ["8080:80", "8081:80", "8100-8109:90-99"] {
            lab.publish("a", spec)?;
            lab.publish("a", &format!("{spec}/udp"))?;
        }
        lab.publish("b", "9090:80")?;
        lab.publish("b", "9090:80/udp")?;
        let ip = |host: &Host| if v6 { host.v6() } else { host.v4() };
        let (node, outside) = (ip(&lab.node), lab.outside.clone());
        let at = SocketAddr::new;
        let mut talks = Vec::new();
        let mut servers = Vec::new();
        for (name, port, server, inside) in [
            ("8080", 8080, &a, 80),
            ("8081", 8081, &a, 80),
            ("8105", 8105, &a, 95),
            ("9090", 9090, &b, 80),
        ] {
            let listen = at(ip(server), inside);
            let tcp = Talk::tcp(&outside, at(node, port), server, listen)?;
            talks.push((name, tcp));
            let known = servers
                .iter()
                .find(|s: &&UdpSocket| s.local_addr().ok() == Some(listen));
            let socket = match known {
                Some(socket) => socket.try_clone()?,
                None => server.udp_bind(listen.ip(), listen.port())?,
            };
            talks.push((name, Talk::udp(&outside, at(node, port), &socket)?));
            servers.push(socket);
        }
        let there = outside.udp_bind(ip(&outside), 7000)?;
        for (name, client) in [("out of a", &a), ("out of b", &b)] {
            let to = at(ip(&outside), 7000);
            talks.push((name, Talk::tcp(client, to, &outside, to)?));
            talks.push((name, Talk::udp(client, to, &there)?));
        }
        servers.push(there);
        let scene = Self {
            lab,
            web,
            a,
            talks,
            _servers: servers,
        };
        scene.only_cut(&[], &[])?;
        Ok(scene)
    }

    /// These conversations are cut, others are `over` since before, and all that are left go on.
    fn only_cut(&self, cut: &[&str], over: &[&str]) -> Result<()> {
        for (name, talk) in self
            .talks
            .iter()
            .filter(|(name, _)| !cut.contains(name) && !over.contains(name))
        {
            talk.go_on()
                .with_context(|| format!("{name} does not go on"))?;
        }
        // Cut ones may be told so by the other side: they come last.
        for (name, talk) in self.talks.iter().filter(|(name, _)| cut.contains(name)) {
            talk.is_cut(!name.starts_with("out"))
                .with_context(|| format!("{name} is not cut"))?;
        }
        Ok(())
    }

    /// The same of what is there again at once: a connection is cut, while a datagram to a published port
    /// begins a new conversation with the same server.
    fn only_connections_cut(&self, cut: &[&str], over: &[&str]) -> Result<()> {
        let talks = self.talks.iter().filter(|(name, _)| !over.contains(name));
        let (cut, going): (Vec<_>, Vec<_>) = talks
            .filter(|(name, talk)| {
                let told_nothing = name.starts_with("out") && matches!(talk, Talk::Udp(..));
                !(told_nothing && cut.contains(name))
            })
            .partition(|(name, talk)| cut.contains(name) && matches!(talk, Talk::Tcp(..)));
        for (name, talk) in going {
            talk.go_on()
                .with_context(|| format!("{name} does not go on"))?;
        }
        for (name, talk) in cut {
            talk.is_cut(!name.starts_with("out"))
                .with_context(|| format!("{name} is not cut"))?;
        }
        Ok(())
    }
}

fn unpublish_ends_exactly_the_flows_that_came_in_by_it(mode: AttachMode) -> Result<()> {
    for v6 in [false, true] {
        let scene = Scene::new("unpublish-flows", mode, v6)?;
        let node = &scene.lab.node;
        node.netd_ok(&["unpublish", "8081", "8081/udp"])?;
        scene.only_cut(&["8081"], &[])?;
        node.netd_ok(&["unpublish", "8100-8109", "8100-8109/udp"])?;
        scene.only_cut(&["8105"], &["8081"])?;
        // Published again, the old conversations stay over and new ones begin.
        scene.lab.publish("a", "8081:80")?;
        scene.only_cut(&[], &["8081", "8105"])?;
        let left = flows(&scene.lab, &["--endpoint", "a"])?;
        let by_8080 = left
            .iter()
            .filter(|f| f.publish.is_some_and(|p| p.host_port == 8080));
        assert_eq!(by_8080.count(), 2, "{left:?}");
    }
    Ok(())
}

fn detach_ends_exactly_the_flows_of_its_endpoint(mode: AttachMode) -> Result<()> {
    for v6 in [false, true] {
        let scene = Scene::new("detach-flows", mode, v6)?;
        scene.lab.node.netd_ok(&["detach", "a"])?;
        scene.only_cut(&["8080", "8081", "8105", "out of a"], &[])?;
        let left = flows(&scene.lab, &[])?;
        assert!(
            left.iter().all(|f| f.endpoint.as_deref() == Some("b")),
            "{left:?}"
        );
        // Whoever gets the address next inherits nothing.
        let ns = scene.lab.namespace("next")?;
        let address = scene.a.v4().to_string();
        let next = scene
            .lab
            .attach(&ns, "next", &scene.web, &["--ip", &address])?;
        assert_eq!(next.v4(), scene.a.v4());
        assert!(flows(&scene.lab, &["--endpoint", "next"])?.is_empty());
    }
    Ok(())
}

/// What tells a flow from every other.
fn identity(f: &netd_api::FlowLine) -> (String, SocketAddr, SocketAddr) {
    let at = SocketAddr::new;
    (f.proto.clone(), at(f.src, f.sport), at(f.dst, f.dport))
}

/// Applies a file, which cuts exactly the flows that its plan names; how many those are.
fn applied(lab: &Lab, text: &str) -> Result<usize> {
    let file = lab.dir().join("scene.toml").display().to_string();
    std::fs::write(&file, text)?;
    let ids = |flows: &[netd_api::FlowLine]| {
        let mut ids: Vec<_> = flows.iter().map(identity).collect();
        ids.sort();
        ids
    };
    let before = flows(lab, &[])?;
    let verb = ["-o", "json", "plan", "-f", &file, "--prune", "--force"];
    let said = lab.node.netd(&verb)?;
    ensure!(said.code == Some(3), "{said:?}");
    let plan: netd_api::Plan = serde_json::from_str(&said.stdout)?;
    ensure!(
        ids(&flows(lab, &[])?) == ids(&before),
        "a plan cuts nothing"
    );
    lab.node
        .netd_ok(&["apply", "-f", &file, "--prune", "--force"])?;
    let after = ids(&flows(lab, &[])?);
    let gone: Vec<_> = ids(&before)
        .into_iter()
        .filter(|id| !after.contains(id))
        .collect();
    ensure!(
        ids(&plan.flows) == gone,
        "planned {:?}, cut {gone:?}",
        plan.flows
    );
    Ok(gone.len())
}

#[test]
fn the_flows_a_plan_names_are_exactly_those_that_are_cut() -> Result<()> {
    for v6 in [false, true] {
        let scene = Scene::new("planned-flows", AttachMode::Auto, v6)?;
        let lab = &scene.lab;
        let all = format!("name = \"s\"\n{}", lab.node.netd_ok(&["export"])?);
        assert_eq!(applied(lab, &all)?, 0, "another owner cuts nothing");
        scene.only_cut(&[], &[])?;
        let ports = ["\"8081:80/tcp\"", "\"8081:80/udp\""];
        ensure!(ports.iter().all(|p| all.contains(p)), "{all}");
        let less = ports.iter().fold(all.clone(), |t, p| {
            t.replace(&format!("{p},"), "").replace(p, "")
        });
        assert_eq!(applied(lab, &less)?, 2);
        scene.only_cut(&["8081"], &[])?;
        // Who may come changes: it is another publish.
        let range = "\"8100-8109:90-99/tcp\"";
        let limited = format!("{{ spec = {range}, from = [\"192.0.2.0/24\", \"2001:db8::/32\"] }}");
        ensure!(less.contains(range), "{less}");
        assert_eq!(applied(lab, &less.replace(range, &limited))?, 1);
        // An endpoint that is made anew loses its own, and nobody else.
        let mac = format!("mac = \"{}\"", scene.a.info.mac);
        ensure!(less.contains(&mac), "{less}");
        let anew = less.replace(&mac, "mac = \"02:00:00:00:00:77\"");
        assert_eq!(applied(lab, &anew)?, 5);
        scene.only_connections_cut(&["8080", "8105", "out of a"], &["8081"])?;
    }
    Ok(())
}

both_modes! {
    unpublish_ends_exactly_the_flows_that_came_in_by_it;
    detach_ends_exactly_the_flows_of_its_endpoint;
}

#[test]
fn flush_ends_what_its_filters_name_and_says_how_many() -> Result<()> {
    let scene = Scene::new("flush", AttachMode::Auto, false)?;
    let (lab, a) = (&scene.lab, &scene.a);
    let count = |filter: &[&str]| -> Result<usize> { Ok(flows(lab, filter)?.len()) };
    let (a4, node4) = (a.v4().to_string(), lab.node.v4().to_string());
    let subnet = scene
        .web
        .subnets
        .iter()
        .find(|s| s.addr().is_ipv4())
        .context("no subnet")?;
    let subnet = subnet.to_string();
    // Twelve conversations: three published ports of a, one of b, two outward; by TCP and by UDP.
    assert_eq!(count(&[])?, 12);
    assert_eq!(count(&["--endpoint", "a"])?, 8);
    assert_eq!(count(&["--endpoint", "a", "--proto", "udp"])?, 4);
    assert_eq!(count(&["--dst", &a4])?, 6, "behind the translation");
    assert_eq!(count(&["--dst", &node4])?, 8, "before it");
    assert_eq!(count(&["--src", &node4])?, 4, "masqueraded");
    assert_eq!(count(&["--src", &subnet])?, 4);
    assert_eq!(count(&["--dst", &subnet, "--port", "95"])?, 2);
    assert_eq!(count(&["--port", "8105"])?, 2);
    assert_eq!(count(&["--src", "::/0"])?, 0);
    let flush = |filter: &[&str]| lab.node.netd_ok(&[&["flow", "flush"], filter].concat());
    assert_eq!(flush(&["--port", "1"])?.trim(), "0 flows ended");
    assert_eq!(
        flush(&["--port", "8105", "--proto", "tcp"])?.trim(),
        "1 flow ended"
    );
    assert_eq!(count(&[])?, 11);
    let answer: netd_api::Flushed =
        lab.node
            .netd_json(&["flow", "flush", "--endpoint", "a", "--src", &node4])?;
    assert_eq!(answer.flows, 2);
    assert_eq!(count(&[])?, 9);
    assert_eq!(flush(&[])?.trim(), format!("{} flows ended", 9));
    assert_eq!(count(&[])?, 0);
    let refused = lab.node.netd(&["flow", "flush", "--src", "a"])?;
    assert_eq!(refused.code, Some(2), "{refused:?}");
    Ok(())
}
