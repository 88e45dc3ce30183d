//! A client of the API (stub).
/// Client.
pub struct Client;
/// Error.
#[derive(Debug, thiserror::Error)]
#[error("stub")]
pub struct ClientError;
