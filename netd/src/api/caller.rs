//! Who is at the other end of a connection, and whether it may call: the one place that says so.

use std::convert::Infallible;

use axum::extract::connect_info::ConnectInfo;
use axum::extract::{FromRequestParts, Request};
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use netd_api::Caller;
use tokio::net::UnixStream;

use super::answer::Refusal;
use crate::daemon::Handle;

/// Who has connected, as the kernel noted it then.
pub fn of(stream: &UnixStream) -> Caller {
    let Ok(peer) = stream.peer_cred() else {
        return Caller::default();
    };
    let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok());
    // A process of another pid namespace has the number 0 here.
    let pid = pid.filter(|pid| *pid != 0);
    let command = pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok());
    Caller {
        uid: Some(peer.uid()),
        pid,
        command: command.map(|name| name.trim_end().to_owned()),
    }
}

/// Answers those who may not call.
pub async fn may_call(
    ConnectInfo(caller): ConnectInfo<Caller>,
    request: Request,
    next: Next,
) -> Response {
    if caller.uid == Some(0) {
        return next.run(request).await;
    }
    Refusal::forbidden("only root may use netd's API; use sudo").into_response()
}

/// The daemon, asked in the caller's name.
pub struct Asked(pub Handle);

impl FromRequestParts<Handle> for Asked {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, handle: &Handle) -> Result<Self, Infallible> {
        let caller = parts.extensions.get::<ConnectInfo<Caller>>();
        let caller = caller.map(|ConnectInfo(c)| c.clone()).unwrap_or_default();
        Ok(Self(handle.in_the_name_of(caller)))
    }
}
