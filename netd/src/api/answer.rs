//! Answers: JSON, and errors as [`netd_api::Error`] with the status their fault deserves.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

use crate::daemon::error::ServiceError;
use crate::model::Fault;

/// A request that was not fulfilled.
#[derive(Debug)]
pub struct Refusal {
    status: StatusCode,
    line: String,
    problems: Vec<netd_api::Problem>,
}

impl Refusal {
    /// The caller may not.
    pub fn forbidden(line: &str) -> Self {
        Self::of(StatusCode::FORBIDDEN, line)
    }

    /// The request makes no sense.
    pub fn bad(line: impl Into<String>) -> Self {
        Self::of(StatusCode::BAD_REQUEST, line)
    }

    /// Any other.
    pub fn of(status: StatusCode, line: impl Into<String>) -> Self {
        Self {
            status,
            line: line.into(),
            problems: vec![],
        }
    }
}

impl From<ServiceError> for Refusal {
    fn from(e: ServiceError) -> Self {
        let status = match e.fault {
            Some(Fault::Bad) => StatusCode::BAD_REQUEST,
            Some(Fault::Missing) => StatusCode::NOT_FOUND,
            Some(Fault::Conflict) => StatusCode::CONFLICT,
            None => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if e.fault.is_none() {
            tracing::error!("{}", e.line);
        }
        Self {
            status,
            line: e.line,
            problems: e.problems,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let error = self.line.replace('\n', " ");
        let problems = self.problems;
        let body = netd_api::Error { error, problems };
        (self.status, Json(body)).into_response()
    }
}

/// A JSON body, whatever the content type says.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let bytes = Bytes::from_request(request, state)
            .await
            .map_err(|e| Refusal::bad(format!("the body was not read: {}", e.body_text())))?;
        serde_json::from_slice(&bytes)
            .map(Self)
            .map_err(|e| Refusal::bad(format!("the body is not the JSON this call takes: {e}")))
    }
}

/// A query string.
pub struct Params<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let query = Query::<T>::from_request_parts(parts, state).await;
        query
            .map(|Query(value)| Self(value))
            .map_err(|e: QueryRejection| {
                Refusal::bad(format!("the query is refused: {}", e.body_text()))
            })
    }
}

/// A part of the path.
pub struct Named<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(value)| Self(value))
            .map_err(|e: PathRejection| {
                Refusal::bad(format!("the path is refused: {}", e.body_text()))
            })
    }
}
