//! Who is connected. There are so many connections at most; when one more comes, the one goes that has been
//! without a request for longest. Only connections with a request in progress keep their places, so that any number
//! of idle and slow clients keeps nobody out.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::extract::connect_info::ConnectInfo;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use netd_api::Caller;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use super::answer::Refusal;
use super::{caller, lines, request};

/// Connections at a time, where the process may have twice as many open files.
const CONNECTIONS: u64 = 2_048;
/// Answers that go on, at a time.
const STREAMS: usize = 64;
/// Bytes of the head of a request: path, query and headers.
const HEAD: usize = 64 << 10;
/// Pause after the kernel refused a connection: for want of files or memory.
const REFUSED: Duration = Duration::from_millis(100);

/// One connection.
struct Connection {
    /// When it was last seen, by a count.
    seen: u64,
    /// A request is in progress.
    busy: bool,
    /// Ends it when it is dropped.
    _end: oneshot::Sender<()>,
}

#[derive(Default)]
struct All {
    connections: BTreeMap<u64, Connection>,
    count: u64,
}

impl All {
    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// The connection that has been without a request for longest.
    fn idlest(&self) -> Option<u64> {
        let idle = self.connections.iter().filter(|(_, c)| !c.busy);
        idle.min_by_key(|(_, c)| c.seen).map(|(id, _)| *id)
    }
}

/// All connections.
pub struct Connections {
    all: Mutex<All>,
    /// A connection has ended, or a request has.
    changed: Notify,
    streams: Arc<Semaphore>,
}

impl Default for Connections {
    fn default() -> Self {
        Self {
            all: Mutex::default(),
            changed: Notify::new(),
            streams: Arc::new(Semaphore::new(STREAMS)),
        }
    }
}

/// A connection's own place.
struct Place {
    id: u64,
    of: Arc<Connections>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.all().connections.remove(&self.id);
        self.of.changed.notify_waiters();
    }
}

/// A request in progress.
struct Busy {
    id: u64,
    of: Arc<Connections>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.of.mark(self.id, false);
        self.of.changed.notify_waiters();
    }
}

impl Connections {
    fn all(&self) -> MutexGuard<'_, All> {
        // A panic elsewhere has left the list whole.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self, id: u64, busy: bool) {
        let mut all = self.all();
        let seen = all.next();
        if let Some(connection) = all.connections.get_mut(&id) {
            (connection.seen, connection.busy) = (seen, busy);
        }
    }

    /// A place for a connection, as soon as there is one.
    async fn place(self: &Arc<Self>, most: usize) -> (Place, oneshot::Receiver<()>) {
        loop {
            let changed = self.changed.notified();
            let placed = self.try_place(most);
            match placed {
                Some(placed) => return placed,
                None => changed.await,
            }
        }
    }

    fn try_place(self: &Arc<Self>, most: usize) -> Option<(Place, oneshot::Receiver<()>)> {
        let mut all = self.all();
        if all.connections.len() >= most {
            let idlest = all.idlest()?;
            all.connections.remove(&idlest);
        }
        let (end, ended) = oneshot::channel();
        let id = all.next();
        let connection = Connection {
            seen: id,
            busy: false,
            _end: end,
        };
        all.connections.insert(id, connection);
        let of = Arc::clone(self);
        Some((Place { id, of }, ended))
    }

    fn busy(self: &Arc<Self>, id: u64) -> Busy {
        self.mark(id, true);
        let of = Arc::clone(self);
        Busy { id, of }
    }

    /// Waits until no request is in progress, but no longer than this.
    pub async fn finish(&self, longest: Duration) {
        let finished = async {
            loop {
                let changed = self.changed.notified();
                if self.all().connections.values().all(|c| !c.busy) {
                    return;
                }
                changed.await;
            }
        };
        // Who does not read its answer to the end has had the time to.
        let _ = tokio::time::timeout(longest, finished).await;
    }
}

/// Accepts and serves, for ever.
pub async fn serve(listener: UnixListener, connections: Arc<Connections>, app: Router) {
    let most = most();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let (place, ended) = connections.place(most).await;
                tokio::spawn(one(stream, place, ended, app.clone()));
            }
            Err(e) => {
                tracing::warn!("API: a connection was not accepted: {e}");
                tokio::time::sleep(REFUSED).await;
            }
        }
    }
}

/// How many connections the process may have: its other files need room, too.
fn most() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(1_024, |(soft, hard)| {
        let raised = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
        if raised.is_ok() { hard } else { soft }
    });
    usize::try_from((files / 2).clamp(1, CONNECTIONS)).unwrap_or(1)
}

async fn one(stream: UnixStream, place: Place, ended: oneshot::Receiver<()>, app: Router) {
    let who = caller::of(&stream);
    let (id, connections) = (place.id, Arc::clone(&place.of));
    let service = service_fn(move |request: Request<Incoming>| {
        answer(
            request,
            who.clone(),
            id,
            Arc::clone(&connections),
            app.clone(),
        )
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(request::READ)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        // How it ended is the client's business.
        _ = served => {}
        // Another one needed the place.
        _ = ended => {}
    }
    drop(place);
}

async fn answer(
    request: Request<Incoming>,
    who: Caller,
    id: u64,
    connections: Arc<Connections>,
    app: Router,
) -> Result<Response, Infallible> {
    let mut request = match request::read(request).await {
        Ok(request) => request,
        Err(refusal) => return Ok(refusal.into_response()),
    };
    request.extensions_mut().insert(ConnectInfo(who));
    // From here on the client waits for netd, not netd for the client.
    let busy = connections.busy(id);
    let response = TowerToHyperService::new(app);
    let response = hyper::service::Service::call(&response, request).await?;
    if response.headers().get(CONTENT_TYPE) != Some(&lines::TYPE) {
        return Ok(response);
    }
    let Ok(permit) = Arc::clone(&connections.streams).try_acquire_owned() else {
        let line = format!("{STREAMS} clients listen already; end one of them");
        return Ok(Refusal::of(StatusCode::SERVICE_UNAVAILABLE, line).into_response());
    };
    Ok(held(response, busy, permit))
}

/// The answer that keeps its place until it is over.
fn held(response: Response, busy: Busy, permit: OwnedSemaphorePermit) -> Response {
    let held = (busy, permit);
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _held = &held;
            frame
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_been_idle_for_longest_makes_room_and_who_waits_for_an_answer_does_not() {
        let all = Arc::new(Connections::default());
        let mut first = all.try_place(3).unwrap();
        let mut second = all.try_place(3).unwrap();
        let mut third = all.try_place(3).unwrap();
        let busy = all.busy(first.0.id);
        // The second is the one that said nothing for longest.
        drop(all.busy(third.0.id));
        let fourth = all.try_place(3).unwrap();
        assert!(
            second
                .1
                .try_recv()
                .is_err_and(|e| e == oneshot::error::TryRecvError::Closed)
        );
        assert!(
            third
                .1
                .try_recv()
                .is_err_and(|e| e == oneshot::error::TryRecvError::Empty)
        );
        let others = [all.busy(third.0.id), all.busy(fourth.0.id)];
        assert!(all.try_place(3).is_none(), "all of them wait for answers");
        drop(others);
        drop(busy);
        drop(all.busy(third.0.id));
        drop(all.busy(fourth.0.id));
        let _fifth = all.try_place(3).unwrap();
        assert!(
            first
                .1
                .try_recv()
                .is_err_and(|e| e == oneshot::error::TryRecvError::Closed)
        );
        assert_eq!(all.all().connections.len(), 3);
    }

    #[tokio::test]
    async fn a_connection_that_ends_makes_room_for_one_that_waits() {
        let all = Arc::new(Connections::default());
        let (place, _ended) = all.try_place(1).unwrap();
        let busy = all.busy(place.id);
        let of = Arc::clone(&all);
        let waiting = tokio::spawn(async move { of.place(1).await.0.id });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop((busy, place));
        assert!(waiting.await.unwrap() > 0);
        all.finish(Duration::MAX).await;
    }
}
