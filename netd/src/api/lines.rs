//! An answer that goes on: what a listener is told, one JSON object on each line, until either side ends it.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use netd_api::Told;

use crate::daemon::listen::Listener;

/// Bytes that are sent at once, about.
const CHUNK: usize = 64 << 10;

/// The answer. A client that does not read makes nobody wait but its own listener.
pub fn lines(listener: Listener) -> Response {
    let body = stream::unfold(listener, |mut listener| async move {
        let mut chunk = Vec::new();
        let mut next = listener.next().await;
        while let Some(told) = next {
            write(&mut chunk, &told);
            next = if chunk.len() < CHUNK {
                listener.ready()
            } else {
                None
            };
        }
        let chunk = Bytes::from(chunk);
        (!chunk.is_empty()).then_some((Ok::<_, Infallible>(chunk), listener))
    });
    (
        [(CONTENT_TYPE, "application/x-ndjson")],
        Body::from_stream(body),
    )
        .into_response()
}

fn write(chunk: &mut Vec<u8>, told: &Told) {
    let before = chunk.len();
    match serde_json::to_writer(&mut *chunk, told) {
        Ok(()) => chunk.push(b'\n'),
        // A type with string keys and numbers always has a JSON form.
        Err(_) => chunk.truncate(before),
    }
}
