//! The calls and their `OpenAPI` document (3.1) from one and the same registration: what a call takes and answers
//! is read off its function, so neither can differ from the other.

use std::collections::BTreeMap;

use axum::Router;
use axum::handler::Handler;
use axum::http::StatusCode;
use axum::routing::{MethodFilter, MethodRouter, on};
use axum::{Json, http::Method};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::answer::{Body, Named, Params, Refusal};
use super::caller::Asked;
use super::lines::Lines;
use crate::daemon::Handle;

/// One call in the document, as it is put together.
pub struct Operation<'a> {
    schemas: &'a mut SchemaGenerator,
    path: &'a str,
    parameters: Vec<Value>,
    body: Option<Value>,
    responses: Map<String, Value>,
}

/// What a call takes.
pub trait Takes {
    /// Adds it.
    fn describe(to: &mut Operation<'_>);
}

/// What a call answers.
pub trait Answers {
    /// Adds it.
    fn describe(to: &mut Operation<'_>);
}

impl Takes for Asked {
    fn describe(_: &mut Operation<'_>) {}
}

impl<T: JsonSchema> Takes for Named<T> {
    fn describe(to: &mut Operation<'_>) {
        let name = to.path.split(['{', '}']).nth(1).unwrap_or_default();
        let schema = to.schemas.subschema_for::<T>();
        let parameter = json!({"name": name, "in": "path", "required": true, "schema": schema});
        to.parameters.push(parameter);
    }
}

impl<T: JsonSchema> Takes for Params<T> {
    fn describe(to: &mut Operation<'_>) {
        // Its fields are the parameters.
        let schema = T::json_schema(to.schemas);
        let required = schema.get("required").and_then(Value::as_array);
        let required = required.cloned().unwrap_or_default();
        let fields = schema.get("properties").and_then(Value::as_object);
        for (name, field) in fields.into_iter().flatten() {
            let must = required.iter().any(|r| r == name);
            let parameter = json!({"name": name, "in": "query", "required": must, "schema": field});
            to.parameters.push(parameter);
        }
    }
}

impl<T: JsonSchema> Takes for Body<T> {
    fn describe(to: &mut Operation<'_>) {
        let schema = to.schemas.subschema_for::<T>();
        let content = json!({"application/json": {"schema": schema}});
        to.body = Some(json!({"required": true, "content": content}));
    }
}

impl<T: JsonSchema> Answers for Result<Json<T>, Refusal> {
    fn describe(to: &mut Operation<'_>) {
        let schema = to.schemas.subschema_for::<T>();
        let content = json!({"application/json": {"schema": schema}});
        let response = json!({"description": "Done.", "content": content});
        to.responses.insert("200".into(), response);
    }
}

impl Answers for Result<StatusCode, Refusal> {
    fn describe(to: &mut Operation<'_>) {
        let response = json!({"description": "Done; there is no body."});
        to.responses.insert("204".into(), response);
    }
}

impl<T: JsonSchema> Answers for Result<Lines<T>, Refusal> {
    fn describe(to: &mut Operation<'_>) {
        let schema = to.schemas.subschema_for::<T>();
        let content = json!({"application/x-ndjson": {"schema": schema}});
        let said = "A stream that goes on: JSON objects of this schema, one on each line.";
        let response = json!({"description": said, "content": content});
        to.responses.insert("200".into(), response);
    }
}

/// A function that is a call. `I`: what it takes.
pub trait Described<I> {
    /// Adds it.
    fn describe(to: &mut Operation<'_>);
}

macro_rules! described {
    ($($taken:ident),*) => {
        impl<F, R, $($taken),*> Described<($($taken,)*)> for F
        where
            F: Fn($($taken),*) -> R,
            R: Future,
            R::Output: Answers,
            $($taken: Takes,)*
        {
            fn describe(to: &mut Operation<'_>) {
                $($taken::describe(to);)*
                R::Output::describe(to);
            }
        }
    };
}

described!(A);
described!(A, B);
described!(A, B, C);

/// All calls.
pub struct Calls {
    router: BTreeMap<String, MethodRouter<Handle>>,
    schemas: SchemaGenerator,
    paths: Map<String, Value>,
}

impl Calls {
    /// None yet.
    pub fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|s| {
            s.definitions_path = "/components/schemas".into();
            s.meta_schema = None;
        });
        Self {
            router: BTreeMap::new(),
            schemas: settings.into_generator(),
            paths: Map::new(),
        }
    }

    /// Adds a call. `summary`: what it does, in a few words.
    #[must_use]
    pub fn call<H, T, I>(mut self, method: &Method, path: &str, handler: H, summary: &str) -> Self
    where
        H: Handler<T, Handle> + Described<I>,
        T: 'static,
    {
        let mut operation = Operation {
            schemas: &mut self.schemas,
            path,
            parameters: vec![],
            body: None,
            responses: Map::new(),
        };
        H::describe(&mut operation);
        let mut described = Map::new();
        described.insert("summary".into(), summary.into());
        described.insert("operationId".into(), id(method, path).into());
        if !operation.parameters.is_empty() {
            described.insert("parameters".into(), operation.parameters.into());
        }
        if let Some(body) = operation.body {
            described.insert("requestBody".into(), body);
        }
        let mut responses = operation.responses;
        for (status, component) in [("4XX", "Refused"), ("5XX", "Failed")] {
            let reference = json!({"$ref": format!("#/components/responses/{component}")});
            responses.insert(status.into(), reference);
        }
        described.insert("responses".into(), responses.into());

        let of_path = self.paths.entry(path).or_insert_with(|| json!({}));
        of_path[method.as_str().to_ascii_lowercase()] = described.into();
        // Only methods that HTTP itself has are asked for here.
        if let Ok(filter) = MethodFilter::try_from(method.clone()) {
            let routes = self.router.remove(path).unwrap_or_default();
            self.router
                .insert(path.to_owned(), routes.merge(on(filter, handler)));
        }
        self
    }

    /// The calls as a router, and as a document.
    pub fn finish(mut self) -> (Router<Handle>, Value) {
        let error = self.schemas.subschema_for::<netd_api::Error>();
        let response = |said: &str| {
            json!({
                "description": said,
                "content": {"application/json": {"schema": error}},
            })
        };
        let responses = json!({
            "Refused": response(
                "The caller's fault: 400 makes no sense, 403 may not, 404 is not there, 405 wrong method, \
                 408 too slow, 409 collides with what is there, 413 too large."
            ),
            "Failed": response("The node's fault; 503: too many listen already."),
        });
        let document = json!({
            "openapi": "3.1.0",
            "info": {
                "title": "netd",
                "version": env!("CARGO_PKG_VERSION"),
                "description": "HTTP and JSON on a Unix socket (netd.sock in the daemon's run directory), for root. \
                                See docs/api.md.",
                "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
            },
            "servers": [{"url": "http://netd", "description": "The name of the host does not matter."}],
            "paths": self.paths,
            "components": {
                "schemas": self.schemas.take_definitions(true),
                "responses": responses,
            },
        });
        let mut router = Router::new();
        for (path, routes) in self.router {
            router = router.route(&path, routes);
        }
        (router, document)
    }
}

/// `get_networks`, `delete_networks_name`.
fn id(method: &Method, path: &str) -> String {
    let words = path.trim_start_matches("/v1/");
    let words = words.replace(['{', '}'], "").replace(['/', '.'], "_");
    format!("{}_{words}", method.as_str().to_ascii_lowercase())
}
