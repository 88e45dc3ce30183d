//! Reading the body of a request: all of it, before anything is done. It takes no longer and gets no larger than
//! is said here.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::answer::Refusal;

/// How long a client may take to send the head of a request, and how long to send its body.
pub const READ: Duration = Duration::from_secs(10);
/// Bytes of a body: a file with ten thousand published ports has two million.
pub const BODY: usize = 8 << 20;
/// Bytes of a body that anybody may send at any time; larger ones come a few at a time.
const SMALL: usize = 64 << 10;
/// Larger bodies at a time.
const LARGE: usize = 8;

/// Places for larger bodies.
static PLACES: Semaphore = Semaphore::const_new(LARGE);

/// The request with its body in memory.
pub async fn read(request: Request<Incoming>) -> Result<Request, Refusal> {
    let (head, body) = request.into_parts();
    let bytes = whole(body).await?;
    Ok(Request::from_parts(head, Body::from(bytes)))
}

async fn whole(mut body: Incoming) -> Result<Bytes, Refusal> {
    let mut bytes = Vec::new();
    let mut place = None;
    let mut left = READ;
    loop {
        let began = tokio::time::Instant::now();
        let Ok(frame) = timeout(left, body.frame()).await else {
            let line = format!(
                "the body did not come within {} seconds; send it at once",
                READ.as_secs()
            );
            return Err(Refusal::of(StatusCode::REQUEST_TIMEOUT, line));
        };
        left = left.saturating_sub(began.elapsed());
        let frame = match frame {
            None => return Ok(bytes.into()),
            Some(Ok(frame)) => frame,
            Some(Err(e)) => return Err(Refusal::bad(format!("the body was not read: {e}"))),
        };
        if let Some(data) = frame.data_ref() {
            bytes.extend_from_slice(data);
        }
        if bytes.len() > BODY {
            let line = format!("the body has more than {BODY} bytes; ask for less at a time");
            return Err(Refusal::of(StatusCode::PAYLOAD_TOO_LARGE, line));
        }
        if bytes.len() > SMALL && place.is_none() {
            // Waiting for one's turn is nobody's slowness.
            place = PLACES.acquire().await.ok();
        }
    }
}
