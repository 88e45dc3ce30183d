//! TCP: long transfers, whose bytes are compared, and connections that begin all the time.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use netd_tests::lab::Host;
use netd_tests::lab::wait::PATIENCE;

/// Bytes of a write.
const CHUNK: usize = 16 * 1024;
/// Between two writes, and between two new connections: there is to be something left of the machine.
const PAUSE: Duration = Duration::from_millis(4);
/// Connections that are kept for a later word.
const KEPT: usize = 24;

/// Sends numbered words until `stop`; how many bytes.
pub fn send(mut stream: TcpStream, stop: &AtomicBool) -> Result<u64> {
    let mut number = 0u64;
    let mut chunk = vec![0; CHUNK];
    while !stop.load(Ordering::Relaxed) {
        for word in chunk.as_chunks_mut::<8>().0 {
            *word = number.to_be_bytes();
            number += 1;
        }
        stream.write_all(&chunk).context("a long transfer")?;
        thread::sleep(PAUSE);
    }
    stream.shutdown(std::net::Shutdown::Write)?;
    Ok(number * 8)
}

/// Receives them to the end; how many bytes.
pub fn receive(mut stream: TcpStream) -> Result<u64> {
    let mut number = 0u64;
    let mut chunk = vec![0; CHUNK];
    let mut have = 0;
    loop {
        let got = stream.read(&mut chunk[have..]).context("a long transfer")?;
        if got == 0 {
            ensure!(have == 0, "it ends within a word");
            return Ok(number * 8);
        }
        have += got;
        let whole = have - have % 8;
        for word in chunk[..whole].as_chunks::<8>().0 {
            ensure!(
                *word == number.to_be_bytes(),
                "other bytes at {}",
                number * 8
            );
            number += 1;
        }
        chunk.copy_within(whole..have, 0);
        have -= whole;
    }
}

/// One word there and back.
pub fn talk(client: &TcpStream, server: &TcpStream) -> Result<()> {
    for (mut from, mut to) in [(client, server), (server, client)] {
        let mut got = [0; 5];
        from.write_all(b"alive")?;
        to.read_exact(&mut got)?;
        ensure!(&got == b"alive", "got something else");
    }
    Ok(())
}

/// Somebody who calls, what the one called is called by, and where that one listens.
pub struct Way<'a> {
    /// In words.
    pub name: String,
    /// Who calls.
    pub from: &'a Host,
    /// Whom.
    pub to: SocketAddr,
    /// Where it arrives.
    pub at: TcpListener,
}

impl Way<'_> {
    /// A new connection, both ends.
    pub fn connect(&self) -> Result<(TcpStream, TcpStream)> {
        let client = self.from.tcp_connect(self.to);
        let client = client.with_context(|| self.name.clone())?;
        // Bounded: whoever connects is accepted.
        let (server, _) = self.at.accept()?;
        server.set_nodelay(true)?;
        server.set_read_timeout(Some(PATIENCE))?;
        server.set_write_timeout(Some(PATIENCE))?;
        Ok((client, server))
    }
}

/// Makes connections one after the other until `stop`, on each way in turn; each says a word when it is new and
/// one when it goes, many others later. How many.
pub fn churn(ways: &[Way<'_>], stop: &AtomicBool, made: &AtomicU64) -> Result<()> {
    let mut kept = VecDeque::new();
    for way in ways.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let (client, server) = way.connect()?;
        talk(&client, &server).with_context(|| format!("a new connection, {}", way.name))?;
        kept.push_back((&way.name, client, server));
        if kept.len() > KEPT {
            last_word(kept.pop_front())?;
        }
        made.fetch_add(1, Ordering::Release);
        thread::sleep(PAUSE);
    }
    kept.into_iter().try_for_each(|c| last_word(Some(c)))
}

fn last_word(connection: Option<(&String, TcpStream, TcpStream)>) -> Result<()> {
    let Some((name, client, server)) = connection else {
        return Ok(());
    };
    talk(&client, &server).with_context(|| format!("a connection that was made before, {name}"))
}
