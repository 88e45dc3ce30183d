//! An answer that goes on: what a listener is told, one JSON object on each line, until either side ends it.

use std::convert::Infallible;
use std::marker::PhantomData;

use axum::body::{Body, Bytes};
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use netd_api::{EventLine, Told};
use serde::Serialize;

use crate::daemon::events::Reader;
use crate::daemon::listen::Listener;

/// Bytes that are sent at once, about.
const CHUNK: usize = 64 << 10;

/// The content type of such an answer.
pub const TYPE: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// An answer of lines of one type.
pub struct Lines<T>(Body, PhantomData<T>);

impl<T> IntoResponse for Lines<T> {
    fn into_response(self) -> Response {
        ([(CONTENT_TYPE, TYPE)], self.0).into_response()
    }
}

/// Where lines come from.
pub trait Source: Send + 'static {
    /// A line.
    type Line: Serialize + Send;

    /// The next line; `None`: the end.
    fn next(&mut self) -> impl Future<Output = Option<Self::Line>> + Send;

    /// The next line if there is one at once.
    fn ready(&mut self) -> Option<Self::Line>;
}

impl Source for Listener {
    type Line = Told;

    async fn next(&mut self) -> Option<Told> {
        self.next().await
    }

    fn ready(&mut self) -> Option<Told> {
        self.ready()
    }
}

impl Source for Reader {
    type Line = EventLine;

    async fn next(&mut self) -> Option<EventLine> {
        self.next().await
    }

    fn ready(&mut self) -> Option<EventLine> {
        self.ready()
    }
}

/// The answer. A client that does not read makes nobody wait but its own source.
pub fn lines<S: Source>(source: S) -> Lines<S::Line> {
    let body = stream::unfold(source, |mut source| async move {
        let mut chunk = Vec::new();
        let mut next = source.next().await;
        while let Some(line) = next {
            write(&mut chunk, &line);
            next = if chunk.len() < CHUNK {
                source.ready()
            } else {
                None
            };
        }
        let chunk = Bytes::from(chunk);
        (!chunk.is_empty()).then_some((Ok::<_, Infallible>(chunk), source))
    });
    Lines(Body::from_stream(body), PhantomData)
}

fn write<T: Serialize>(chunk: &mut Vec<u8>, line: &T) {
    let before = chunk.len();
    match serde_json::to_writer(&mut *chunk, line) {
        Ok(()) => chunk.push(b'\n'),
        // A type with string keys and numbers always has a JSON form.
        Err(_) => chunk.truncate(before),
    }
}
