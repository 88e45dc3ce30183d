//! Bulk transfers of this process's own sockets, checked byte by byte.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail};

use super::host::Host;
use super::wait::PATIENCE;

/// A stream of bytes both ends can make: a 64-bit xorshift.
struct Bytes(u64);

impl Bytes {
    fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            let bytes = self.0.to_le_bytes();
            for (to, from) in chunk.iter_mut().zip(bytes) {
                *to = from;
            }
        }
    }
}

const CHUNK: usize = 64 * 1024;
const SEED: u64 = 0x6e65_7464_6c61_6221;

/// Sends `megabytes` over a connection; the caller's other end runs [`receive`].
pub fn send(stream: &mut TcpStream, megabytes: usize) -> Result<()> {
    let mut bytes = Bytes(SEED);
    let mut buffer = vec![0; CHUNK];
    for _ in 0..megabytes * 1024 * 1024 / CHUNK {
        bytes.fill(&mut buffer);
        stream.write_all(&buffer).context("cannot send")?;
    }
    Ok(())
}

/// Receives what [`send`] sent; fails at the first byte that is not the one sent.
pub fn receive(stream: &mut TcpStream, megabytes: usize) -> Result<()> {
    let mut bytes = Bytes(SEED);
    let (mut buffer, mut expected) = (vec![0; CHUNK], vec![0; CHUNK]);
    for i in 0..megabytes * 1024 * 1024 / CHUNK {
        stream.read_exact(&mut buffer).context("cannot receive")?;
        bytes.fill(&mut expected);
        if buffer != expected {
            bail!(
                "the {CHUNK} bytes from {} on are not what was sent",
                i * CHUNK
            );
        }
    }
    Ok(())
}

impl Host {
    /// Listens on `server`, connects from here to `to`, and sends `megabytes` both ways at once.
    pub fn bulk_tcp(
        &self,
        server: &Host,
        listen: SocketAddr,
        to: SocketAddr,
        megabytes: usize,
    ) -> Result<()> {
        let listener = server.tcp_listen(listen.ip(), listen.port())?;
        let mut here = self.tcp_connect(to)?;
        let (mut there, _) = listener.accept()?;
        there.set_read_timeout(Some(PATIENCE))?;
        there.set_write_timeout(Some(PATIENCE))?;
        let (mut here_in, mut there_in) = (here.try_clone()?, there.try_clone()?);
        thread::scope(|scope| {
            let tasks = [
                scope.spawn(move || send(&mut here, megabytes)),
                scope.spawn(move || send(&mut there, megabytes)),
                scope.spawn(move || receive(&mut here_in, megabytes).context("from the server")),
                scope.spawn(move || receive(&mut there_in, megabytes).context("from the client")),
            ];
            for task in tasks {
                task.join().map_err(|_| anyhow!("a transfer panicked"))??;
            }
            Ok(())
        })
    }

    /// One datagram there and back, of `len` bytes; the answer must be the question.
    pub fn udp_echo(
        &self,
        server: &Host,
        listen: SocketAddr,
        to: SocketAddr,
        len: usize,
    ) -> Result<SocketAddr> {
        let serving = server.udp_bind(listen.ip(), listen.port())?;
        let any: IpAddr = if to.is_ipv4() {
            [0u8; 4].into()
        } else {
            [0u8; 16].into()
        };
        let asking = self.udp_bind(any, 0)?;
        let mut sent = vec![0; len];
        Bytes(SEED).fill(&mut sent);
        asking
            .send_to(&sent, to)
            .with_context(|| format!("cannot send {len} bytes to {to}"))?;
        let mut buffer = vec![0; 65536];
        let (got, from) = serving
            .recv_from(&mut buffer)
            .context("the server got nothing")?;
        if buffer.get(..got) != Some(&sent[..]) {
            bail!("the server got other bytes than the {len} sent");
        }
        serving.send_to(&sent, from)?;
        let (got, answered) = asking
            .recv_from(&mut buffer)
            .context("the client got no answer")?;
        if answered != to || buffer.get(..got) != Some(&sent[..]) {
            bail!("the client got {got} bytes from {answered}, not the {len} sent to {to}");
        }
        Ok(from)
    }
}
