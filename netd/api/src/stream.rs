//! An answer that goes on: one JSON object on each line.

use std::collections::VecDeque;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

/// The longest line that is waited for: a captured packet in hexadecimal digits fits many times.
const LONGEST: usize = 1 << 20;

/// The lines of an answer as they come. Dropping it ends the answer.
pub struct Stream {
    body: Incoming,
    lines: VecDeque<Vec<u8>>,
    begun: Vec<u8>,
    // The connection lives as long as this.
    _connection: Connection,
}

/// The task that drives a connection.
pub(crate) struct Connection(pub tokio::task::JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Stream {
    pub(crate) fn new(body: Incoming, connection: Connection) -> Self {
        Self {
            body,
            lines: VecDeque::new(),
            begun: Vec::new(),
            _connection: connection,
        }
    }

    /// The next line; `None`: the daemon has ended the answer. `Err`: one line that says what broke.
    /// When the future is dropped nothing is lost.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Option<Result<T, String>> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(serde_json::from_slice(&line).map_err(|e| {
                    format!("a line is not what this netd expects ({e}): are both of one version?")
                }));
            }
            match self.body.frame().await? {
                Err(e) => return Some(Err(format!("the daemon broke off ({e}): see its log"))),
                Ok(frame) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    for byte in data {
                        if byte == b'\n' {
                            self.lines.push_back(std::mem::take(&mut self.begun));
                        } else {
                            self.begun.push(byte);
                        }
                    }
                    if self.begun.len() > LONGEST {
                        return Some(Err("the daemon sends a line without end".into()));
                    }
                }
            }
        }
    }
}
