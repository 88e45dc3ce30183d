//! The client: one method for each call of the API, over the daemon's Unix socket.
//!
//! It owns the wire (connect, HTTP/1.1, percent-encoding, JSON) and turns what can go wrong into one
//! line each. A request makes a connection of its own, so a client stays usable when the daemon is
//! restarted between two calls.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::stream::{Connection, Stream};
use crate::{
    Attach, CaptureOf, Endpoint, EndpointDetails, EventsFrom, FdbLine, Floating, FloatingAdd,
    FlowFilter, FlowLine, Flushed, HostSpec, Manifest, MappingFilter, MappingLine, MonitorFilter,
    Network, NetworkCreate, NetworkSet, Plan, Problem, PublishSpec, Published, Repro, ReproRequest,
    StatLine, Status, Trace, TraceRequest,
};

/// Everything but RFC 3986's unreserved characters is encoded in a path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Why a call did not succeed. The text of each is one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens on the socket.
    #[error(
        "no netd daemon answers on {socket} ({cause}): start one with `netd daemon`, or name the right socket with --socket"
    )]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What the kernel said; part of the text, so not a `source` that would repeat it.
        cause: io::Error,
    },
    /// The socket is not for this user.
    #[error("permission denied on {socket}: netd serves root alone, run this as root (sudo)")]
    Permission {
        /// The socket.
        socket: PathBuf,
    },
    /// The daemon refused the request or failed at it.
    #[error("{message}")]
    Api {
        /// HTTP status: 4xx is the caller's fault, 5xx the node's.
        status: u16,
        /// The daemon's own line.
        message: String,
        /// Of a [`Manifest`]: what is wrong with each object.
        problems: Vec<Problem>,
    },
    /// The conversation broke off, or the answer is not netd's.
    #[error("{request} on {socket} failed: {why}")]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// Method and path.
        request: String,
        /// What happened.
        why: String,
    },
}

/// Result of a call.
pub type Result<T> = std::result::Result<T, ClientError>;

/// A client of one daemon.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
    trace: Option<fn(&str)>,
}

impl Default for Client {
    fn default() -> Self {
        Self::new(Self::DEFAULT_SOCKET)
    }
}

impl Client {
    /// Where the daemon of the default instance listens.
    pub const DEFAULT_SOCKET: &'static str = "/run/netd/netd.sock";

    /// A client of the daemon on `socket`. Nothing is opened yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            trace: None,
        }
    }

    /// The same client, which tells `trace` each request and the status it got.
    #[must_use]
    pub fn with_trace(self, trace: fn(&str)) -> Self {
        Self {
            trace: Some(trace),
            ..self
        }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET /v1/status`.
    pub async fn status(&self) -> Result<Status> {
        self.get("/v1/status").await
    }

    /// `GET /v1/stats`.
    pub async fn stats(&self) -> Result<Vec<StatLine>> {
        self.get("/v1/stats").await
    }

    /// `GET /v1/networks`.
    pub async fn networks(&self) -> Result<Vec<Network>> {
        self.get("/v1/networks").await
    }

    /// `POST /v1/networks`.
    pub async fn network_create(&self, network: &NetworkCreate) -> Result<Network> {
        self.post("/v1/networks", network).await
    }

    /// `GET /v1/networks/{name}`.
    pub async fn network(&self, name: &str) -> Result<Network> {
        self.get(&format!("/v1/networks/{}", segment(name))).await
    }

    /// `PATCH /v1/networks/{name}`.
    pub async fn network_set(&self, name: &str, set: &NetworkSet) -> Result<Network> {
        let path = format!("/v1/networks/{}", segment(name));
        self.send(Method::PATCH, &path, set).await
    }

    /// `DELETE /v1/networks/{name}`.
    pub async fn network_remove(&self, name: &str) -> Result<()> {
        self.delete(&format!("/v1/networks/{}", segment(name)))
            .await
    }

    /// `GET /v1/endpoints`.
    pub async fn endpoints(&self) -> Result<Vec<Endpoint>> {
        self.get("/v1/endpoints").await
    }

    /// `POST /v1/endpoints`.
    pub async fn attach(&self, attach: &Attach) -> Result<Endpoint> {
        self.post("/v1/endpoints", attach).await
    }

    /// `GET /v1/endpoints/{ep}`; `network` narrows a target that has several.
    pub async fn endpoint(&self, endpoint: &str, network: Option<&str>) -> Result<Endpoint> {
        self.get(&endpoint_path(endpoint, network)).await
    }

    /// `GET /v1/endpoints/{ep}/inspect`; `network` narrows a target that has several.
    pub async fn endpoint_details(
        &self,
        endpoint: &str,
        network: Option<&str>,
    ) -> Result<EndpointDetails> {
        let path = format!("/v1/endpoints/{}/inspect", segment(endpoint));
        self.get(&with_query(&path, &[("network", network)])).await
    }

    /// `DELETE /v1/endpoints/{ep}`; `network` narrows a target that has several.
    pub async fn detach(&self, endpoint: &str, network: Option<&str>) -> Result<()> {
        self.delete(&endpoint_path(endpoint, network)).await
    }

    /// `POST /v1/endpoints/{ep}/publish`.
    pub async fn publish(&self, endpoint: &str, specs: &[PublishSpec]) -> Result<Vec<Published>> {
        self.post(
            &format!("/v1/endpoints/{}/publish", segment(endpoint)),
            specs,
        )
        .await
    }

    /// `GET /v1/published`, of one endpoint or all.
    pub async fn published(&self, endpoint: Option<&str>) -> Result<Vec<Published>> {
        self.get(&with_query("/v1/published", &[("endpoint", endpoint)]))
            .await
    }

    /// `POST /v1/unpublish`.
    pub async fn unpublish(&self, specs: &[HostSpec]) -> Result<()> {
        self.post("/v1/unpublish", specs).await
    }

    /// `GET /v1/floating`.
    pub async fn floating(&self) -> Result<Vec<Floating>> {
        self.get("/v1/floating").await
    }

    /// `POST /v1/floating`.
    pub async fn floating_add(&self, request: &FloatingAdd) -> Result<Floating> {
        self.post("/v1/floating", request).await
    }

    /// `DELETE /v1/floating/{address}`.
    pub async fn floating_remove(&self, address: IpAddr) -> Result<()> {
        let address = address.to_string();
        self.delete(&format!("/v1/floating/{}", segment(&address)))
            .await
    }

    /// `GET /v1/flows`.
    pub async fn flows(&self, filter: &FlowFilter) -> Result<Vec<FlowLine>> {
        self.get(&with_query("/v1/flows", filter)).await
    }

    /// `DELETE /v1/flows`.
    pub async fn flows_flush(&self, filter: &FlowFilter) -> Result<Flushed> {
        self.delete(&with_query("/v1/flows", filter)).await
    }

    /// `GET /v1/mappings`.
    pub async fn mappings(&self, filter: &MappingFilter) -> Result<Vec<MappingLine>> {
        self.get(&with_query("/v1/mappings", filter)).await
    }

    /// `GET /v1/fdb`, of one network or all.
    pub async fn fdb(&self, network: Option<&str>) -> Result<Vec<FdbLine>> {
        self.get(&with_query("/v1/fdb", &[("network", network)]))
            .await
    }

    /// `POST /v1/repro`.
    pub async fn repro(&self, request: &ReproRequest) -> Result<Repro> {
        self.post("/v1/repro", request).await
    }

    /// `POST /v1/trace`.
    pub async fn trace(&self, request: &TraceRequest) -> Result<Trace> {
        self.post("/v1/trace", request).await
    }

    /// `GET /v1/monitor`: what happens from now on.
    pub async fn monitor(&self, filter: &MonitorFilter) -> Result<Stream> {
        self.stream(&with_query("/v1/monitor", filter)).await
    }

    /// `GET /v1/events`: what has changed, and by whom.
    pub async fn events(&self, from: &EventsFrom) -> Result<Stream> {
        self.stream(&with_query("/v1/events", from)).await
    }

    /// `GET /v1/capture`: the packets of an endpoint, a network or an uplink from now on.
    pub async fn capture(&self, of: &CaptureOf) -> Result<Stream> {
        self.stream(&with_query("/v1/capture", of)).await
    }

    /// An answer that goes on. It is there when the daemon has done what it takes.
    async fn stream(&self, path: &str) -> Result<Stream> {
        let method = Method::GET;
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|cause| self.refused(cause))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.broken(&method, path, &e))?;
        // What breaks the connection also breaks the answer.
        let connection = Connection(tokio::spawn(async move { drop(connection.await) }));
        let request = Request::builder()
            .method(&method)
            .uri(path)
            .header(HOST, "netd")
            .body(Full::new(Bytes::new()))
            .map_err(|e| self.broken(&method, path, &e))?;
        let broke = |e: hyper::Error| {
            self.broken(
                &method,
                path,
                &format!("the daemon broke off ({e}): see its log"),
            )
        };
        let response = sender.send_request(request).await.map_err(broke)?;
        let status = response.status();
        if let Some(trace) = self.trace {
            trace(&format!("{method} {path} -> {status}"));
        }
        if status.is_success() {
            return Ok(Stream::new(response.into_body(), connection));
        }
        let body = response.into_body().collect().await.map_err(broke)?;
        Err(refusal(&method, path, status, &body.to_bytes()))
    }

    /// `POST /v1/plan`: what [`Client::apply`] would do.
    pub async fn plan(&self, manifest: &Manifest) -> Result<Plan> {
        self.post("/v1/plan", manifest).await
    }

    /// `POST /v1/apply`.
    pub async fn apply(&self, manifest: &Manifest) -> Result<Plan> {
        self.post("/v1/apply", manifest).await
    }

    /// `GET /v1/export`, of one owner or all.
    pub async fn export(&self, owner: Option<&str>) -> Result<Manifest> {
        self.get(&with_query("/v1/export", &[("owner", owner)]))
            .await
    }

    async fn get<A: DeserializeOwned>(&self, path: &str) -> Result<A> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    async fn delete<A: DeserializeOwned>(&self, path: &str) -> Result<A> {
        self.call(Method::DELETE, path, Bytes::new()).await
    }

    async fn post<B: Serialize + ?Sized, A: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
    ) -> Result<A> {
        self.send(Method::POST, path, body).await
    }

    async fn send<B: Serialize + ?Sized, A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &B,
    ) -> Result<A> {
        let body = serde_json::to_vec(body).map_err(|e| self.broken(&method, path, &e))?;
        self.call(method, path, body.into()).await
    }

    async fn call<A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<A> {
        let (status, body) = self.exchange(&method, path, body).await?;
        if let Some(trace) = self.trace {
            trace(&format!("{method} {path} -> {status}"));
        }
        if !status.is_success() {
            return Err(refusal(&method, path, status, &body));
        }
        // An empty body is the answer "nothing", which serde knows as null.
        let json: &[u8] = if body.is_empty() { b"null" } else { &body };
        serde_json::from_slice(json).map_err(|e| {
            self.broken(
                &method,
                path,
                &format!(
                    "the answer is not what this netd expects ({e}): are both of one version?"
                ),
            )
        })
    }

    async fn exchange(
        &self,
        method: &Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes)> {
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|cause| self.refused(cause))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.broken(method, path, &e))?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "netd")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|e| self.broken(method, path, &e))?;
        let answer = async move {
            let response = sender.send_request(request).await?;
            let status = response.status();
            let body = response.into_body().collect().await?.to_bytes();
            Ok::<_, hyper::Error>((status, body))
            // `sender` is dropped here, which ends `connection` below.
        };
        // What breaks the connection also fails the answer, so its own result says nothing new.
        let (answer, _) = tokio::join!(answer, connection);
        answer.map_err(|e| {
            self.broken(
                method,
                path,
                &format!("the daemon broke off ({e}): see its log"),
            )
        })
    }

    fn refused(&self, cause: io::Error) -> ClientError {
        let socket = self.socket.clone();
        if cause.kind() == io::ErrorKind::PermissionDenied {
            ClientError::Permission { socket }
        } else {
            ClientError::Unreachable { socket, cause }
        }
    }

    fn broken(&self, method: &Method, path: &str, why: &dyn std::fmt::Display) -> ClientError {
        ClientError::Broken {
            socket: self.socket.clone(),
            request: format!("{method} {path}"),
            why: why.to_string(),
        }
    }
}

/// The error of an answer that is not 2xx.
fn refusal(method: &Method, path: &str, status: StatusCode, body: &[u8]) -> ClientError {
    let error = serde_json::from_slice(body).unwrap_or_else(|_| crate::Error {
        error: format!("the daemon answered {status} to {method} {path}"),
        problems: Vec::new(),
    });
    ClientError::Api {
        status: status.as_u16(),
        message: error.error,
        problems: error.problems,
    }
}

fn segment(text: &str) -> impl std::fmt::Display {
    utf8_percent_encode(text, SEGMENT)
}

fn endpoint_path(endpoint: &str, network: Option<&str>) -> String {
    with_query(
        &format!("/v1/endpoints/{}", segment(endpoint)),
        &[("network", network)],
    )
}

/// `path?query`; what is `None` is left out, and an empty query altogether.
fn with_query<Q: Serialize + ?Sized>(path: &str, query: &Q) -> String {
    // The filters are flat structs and pairs of strings, which always have a query form.
    match serde_urlencoded::to_string(query) {
        Ok(query) if !query.is_empty() => format!("{path}?{query}"),
        _ => path.to_owned(),
    }
}
