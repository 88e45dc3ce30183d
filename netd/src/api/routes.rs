//! The calls of the API, one line each: path, body and query in, the core's answer out.

use std::net::IpAddr;
use std::sync::LazyLock;

use axum::http::{Method, StatusCode, Uri};
use axum::{Json, Router};
use netd_api::{
    Attach, CaptureOf, Endpoint, EndpointDetails, EventLine, EventsFrom, FdbLine, Floating,
    FloatingAdd, FlowFilter, FlowLine, Flushed, HostSpec, Manifest, MappingFilter, MappingLine,
    MonitorFilter, Network, NetworkCreate, NetworkSet, Plan, PublishSpec, Published, Repro,
    ReproRequest, StatLine, Status, Told, Trace, TraceRequest,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::answer::{Body, Named, Params, Refusal};
use super::caller::Asked;
use super::document::Calls;
use super::lines::{Lines, lines};
use crate::daemon::Handle;
use crate::daemon::core::Core;
use crate::daemon::{self, inspect, listen};

type Answer<T> = Result<Json<T>, Refusal>;

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct InNetwork {
    network: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct OfEndpoint {
    endpoint: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct OfOwner {
    owner: Option<String>,
}

/// All calls.
fn calls() -> Calls {
    let (get, post) = (Method::GET, Method::POST);
    let (patch, delete) = (Method::PATCH, Method::DELETE);
    Calls::new()
        .call(&get, "/v1/status", status, "The daemon at a glance")
        .call(&get, "/v1/stats", stats, "Packets passed and dropped")
        .call(&get, "/v1/networks", networks, "All networks")
        .call(&post, "/v1/networks", create_network, "Make a network")
        .call(&get, "/v1/networks/{name}", network, "One network")
        .call(
            &patch,
            "/v1/networks/{name}",
            set_network,
            "Change a network in use",
        )
        .call(
            &delete,
            "/v1/networks/{name}",
            remove_network,
            "Remove a network",
        )
        .call(&get, "/v1/endpoints", endpoints, "All endpoints")
        .call(&post, "/v1/endpoints", attach, "Attach a workload")
        .call(&get, "/v1/endpoints/{ep}", endpoint, "One endpoint")
        .call(&delete, "/v1/endpoints/{ep}", detach, "Detach an endpoint")
        .call(
            &get,
            "/v1/endpoints/{ep}/inspect",
            inspect,
            "An endpoint from both sides",
        )
        .call(
            &post,
            "/v1/endpoints/{ep}/publish",
            publish,
            "Publish ports",
        )
        .call(&get, "/v1/published", published, "All published ports")
        .call(
            &post,
            "/v1/unpublish",
            unpublish,
            "Take published ports back",
        )
        .call(&get, "/v1/floating", floating, "All floating IPs")
        .call(&post, "/v1/floating", add_floating, "Add a floating IP")
        .call(
            &delete,
            "/v1/floating/{address}",
            remove_floating,
            "Remove a floating IP",
        )
        .call(&get, "/v1/flows", flows, "Tracked conversations")
        .call(&delete, "/v1/flows", flush_flows, "End flows")
        .call(&get, "/v1/mappings", mappings, "Outside ports in use")
        .call(&get, "/v1/fdb", fdb, "Forwarding entries")
        .call(
            &post,
            "/v1/trace",
            trace,
            "Where a packet would go, and why",
        )
        .call(&post, "/v1/repro", repro, "A packet as a test")
        .call(&get, "/v1/monitor", monitor, "Flows and drops as they come")
        .call(&get, "/v1/capture", capture, "Packets as they come")
        .call(&get, "/v1/events", events, "What has changed, and by whom")
        .call(&post, "/v1/plan", plan, "What applying would do")
        .call(&post, "/v1/apply", apply, "Make what a source asks for")
        .call(&get, "/v1/export", export, "What is there, to be applied")
        .call(&get, "/v1/openapi.json", openapi, "This document")
}

/// The `OpenAPI` document of all calls.
pub static DOCUMENT: LazyLock<Value> = LazyLock::new(|| calls().finish().1);

/// All calls as a router.
pub fn router(handle: Handle) -> Router {
    let (router, _) = calls().finish();
    router
        .fallback(no_path)
        .method_not_allowed_fallback(no_method)
        .with_state(handle)
}

async fn no_path(uri: Uri) -> Refusal {
    let path = uri.path();
    let line = if path.starts_with("/v1/") {
        format!("there is no call {path}; GET /v1/openapi.json has all there are")
    } else {
        format!("there is no call {path}: this netd speaks version 1 alone, /v1/..")
    };
    Refusal::of(StatusCode::NOT_FOUND, line)
}

async fn no_method(method: Method, uri: Uri) -> Refusal {
    let line = format!("{} does not take {method}", uri.path());
    Refusal::of(StatusCode::METHOD_NOT_ALLOWED, line)
}

/// Each call answers the same to everybody: there is nothing to ask the daemon for.
async fn openapi(_: Asked) -> Answer<Value> {
    Ok(Json(DOCUMENT.clone()))
}

async fn status(Asked(h): Asked) -> Answer<Status> {
    Ok(Json(h.call(Core::status).await?))
}

async fn stats(Asked(h): Asked) -> Answer<Vec<StatLine>> {
    Ok(Json(h.call(|core| core.stats()).await?))
}

async fn networks(Asked(h): Asked) -> Answer<Vec<Network>> {
    Ok(Json(h.call(|core| Ok(core.list_networks())).await?))
}

async fn create_network(Asked(h): Asked, Body(request): Body<NetworkCreate>) -> Answer<Network> {
    Ok(Json(
        h.call(move |core| core.create_network(&request)).await?,
    ))
}

async fn network(Asked(h): Asked, Named(name): Named<String>) -> Answer<Network> {
    Ok(Json(h.call(move |core| core.get_network(&name)).await?))
}

async fn set_network(
    Asked(h): Asked,
    Named(name): Named<String>,
    Body(request): Body<NetworkSet>,
) -> Answer<Network> {
    Ok(Json(
        h.call(move |core| core.set_network(&name, &request))
            .await?,
    ))
}

async fn remove_network(
    Asked(h): Asked,
    Named(name): Named<String>,
) -> Result<StatusCode, Refusal> {
    h.call(move |core| core.remove_network(&name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn endpoints(Asked(h): Asked) -> Answer<Vec<Endpoint>> {
    Ok(Json(h.call(|core| Ok(core.list_endpoints())).await?))
}

async fn attach(Asked(h): Asked, Body(request): Body<Attach>) -> Answer<Endpoint> {
    Ok(Json(h.call(move |core| core.attach(&request)).await?))
}

async fn endpoint(
    Asked(h): Asked,
    Named(ep): Named<String>,
    Params(on): Params<InNetwork>,
) -> Answer<Endpoint> {
    Ok(Json(
        h.call(move |core| core.get_endpoint(&ep, on.network.as_deref()))
            .await?,
    ))
}

async fn inspect(
    Asked(h): Asked,
    Named(ep): Named<String>,
    Params(on): Params<InNetwork>,
) -> Answer<EndpointDetails> {
    Ok(Json(inspect::details(&h, ep, on.network).await?))
}

async fn detach(
    Asked(h): Asked,
    Named(ep): Named<String>,
    Params(on): Params<InNetwork>,
) -> Result<StatusCode, Refusal> {
    h.call(move |core| core.detach(&ep, on.network.as_deref()))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn publish(
    Asked(h): Asked,
    Named(ep): Named<String>,
    Body(specs): Body<Vec<PublishSpec>>,
) -> Answer<Vec<Published>> {
    Ok(Json(h.call(move |core| core.publish(&ep, &specs)).await?))
}

async fn published(Asked(h): Asked, Params(of): Params<OfEndpoint>) -> Answer<Vec<Published>> {
    Ok(Json(
        h.call(move |core| core.list_published(of.endpoint.as_deref()))
            .await?,
    ))
}

async fn unpublish(
    Asked(h): Asked,
    Body(hosts): Body<Vec<HostSpec>>,
) -> Result<StatusCode, Refusal> {
    h.call(move |core| core.unpublish(&hosts)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn floating(Asked(h): Asked) -> Answer<Vec<Floating>> {
    Ok(Json(h.call(|core| Ok(core.list_floating())).await?))
}

async fn add_floating(Asked(h): Asked, Body(request): Body<FloatingAdd>) -> Answer<Floating> {
    Ok(Json(h.call(move |core| core.add_floating(&request)).await?))
}

async fn remove_floating(
    Asked(h): Asked,
    Named(address): Named<IpAddr>,
) -> Result<StatusCode, Refusal> {
    h.call(move |core| core.remove_floating(address)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn flows(Asked(h): Asked, Params(filter): Params<FlowFilter>) -> Answer<Vec<FlowLine>> {
    Ok(Json(h.call(move |core| core.list_flows(&filter)).await?))
}

async fn mappings(
    Asked(h): Asked,
    Params(filter): Params<MappingFilter>,
) -> Answer<Vec<MappingLine>> {
    Ok(Json(h.call(move |core| core.list_mappings(&filter)).await?))
}

async fn flush_flows(Asked(h): Asked, Params(filter): Params<FlowFilter>) -> Answer<Flushed> {
    Ok(Json(h.call(move |core| core.flush_flows(&filter)).await?))
}

async fn fdb(Asked(h): Asked, Params(on): Params<InNetwork>) -> Answer<Vec<FdbLine>> {
    Ok(Json(
        h.call(move |core| core.list_fdb(on.network.as_deref()))
            .await?,
    ))
}

async fn trace(Asked(h): Asked, Body(request): Body<TraceRequest>) -> Answer<Trace> {
    Ok(Json(daemon::trace::trace(&h, request).await?))
}

async fn repro(Asked(h): Asked, Body(request): Body<ReproRequest>) -> Answer<Repro> {
    Ok(Json(daemon::repro::repro(&h, request).await?))
}

async fn monitor(
    Asked(h): Asked,
    Params(filter): Params<MonitorFilter>,
) -> Result<Lines<Told>, Refusal> {
    Ok(lines(listen::monitor(&h, filter).await?))
}

async fn capture(Asked(h): Asked, Params(of): Params<CaptureOf>) -> Result<Lines<Told>, Refusal> {
    Ok(lines(listen::capture(&h, of).await?))
}

async fn events(
    Asked(h): Asked,
    Params(from): Params<EventsFrom>,
) -> Result<Lines<EventLine>, Refusal> {
    Ok(lines(h.events().read(&from)?))
}

async fn plan(Asked(h): Asked, Body(manifest): Body<Manifest>) -> Answer<Plan> {
    Ok(Json(h.call(move |core| core.plan_file(&manifest)).await?))
}

async fn apply(Asked(h): Asked, Body(manifest): Body<Manifest>) -> Answer<Plan> {
    Ok(Json(h.call(move |core| core.apply_file(&manifest)).await?))
}

async fn export(Asked(h): Asked, Params(of): Params<OfOwner>) -> Answer<Manifest> {
    Ok(Json(
        h.call(move |core| Ok(core.export(of.owner.as_deref())))
            .await?,
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::body::Body as Bytes;
    use axum::extract::Request;
    use http_body_util::BodyExt as _;
    use hyper::service::Service as _;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    const METHODS: [&str; 7] = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"];

    /// `METHOD PATH` of every call in the document.
    fn documented() -> BTreeSet<String> {
        let paths = DOCUMENT["paths"].as_object().unwrap();
        let of = |(path, methods): (&String, &Value)| {
            let methods = methods.as_object().unwrap().keys();
            methods
                .map(|m| format!("{} {path}", m.to_ascii_uppercase()))
                .collect::<Vec<_>>()
        };
        paths.iter().flat_map(of).collect()
    }

    /// Asks a router whose daemon is gone.
    async fn asked(method: &str, path: &str) -> (StatusCode, Value) {
        let path = path.replace("{address}", "192.0.2.9");
        let path = path.replace(['{', '}'], "");
        let request = Request::builder().method(method).uri(&path);
        let request = request.body(Bytes::empty()).unwrap();
        let app = TowerToHyperService::new(router(Handle::of_nobody()));
        let answer = app.call(request).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        if body.is_empty() {
            return (status, Value::Null);
        }
        let body = serde_json::from_slice(&body);
        (
            status,
            body.unwrap_or_else(|e| panic!("{method} {path}: {e}")),
        )
    }

    #[tokio::test]
    async fn the_router_takes_what_the_document_has_and_nothing_else() {
        let documented = documented();
        assert!(documented.len() > 30, "{documented:?}");
        for path in DOCUMENT["paths"].as_object().unwrap().keys() {
            for method in METHODS {
                let (status, body) = asked(method, path).await;
                let taken = status != StatusCode::METHOD_NOT_ALLOWED;
                let call = format!("{method} {path}");
                assert_eq!(taken, documented.contains(&call), "{call}: {body}");
                assert_ne!(status, StatusCode::NOT_FOUND, "{call}: {body}");
                if status != StatusCode::OK {
                    assert!(body["error"].is_string(), "{call}: {body}");
                }
            }
        }
        for (path, why) in [
            ("/v1/nothing", "openapi.json"),
            ("/v2/status", "version 1"),
            ("/status", "version 1"),
            ("/", "version 1"),
        ] {
            let (status, body) = asked("GET", path).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{path}");
            assert!(body["error"].as_str().unwrap().contains(why), "{body}");
        }
    }

    #[test]
    fn the_crate_of_the_types_lists_what_the_document_has() {
        let mut listed = BTreeSet::new();
        for line in include_str!("../../api/src/lib.rs").lines() {
            let Some(cell) = line
                .strip_prefix("//! | ")
                .and_then(|l| l.split(" | ").next())
            else {
                continue;
            };
            // `GET`, `DELETE /v1/networks/{name}`: both are of that path.
            let mut methods = Vec::new();
            for word in cell.split('`').skip(1).step_by(2) {
                let (method, path) = word.split_once(' ').unwrap_or((word, ""));
                if METHODS.contains(&method) {
                    methods.push(method);
                }
                if path.starts_with("/v1/") {
                    listed.extend(methods.drain(..).map(|m| format!("{m} {path}")));
                }
            }
        }
        assert_eq!(listed, documented());
    }

    #[test]
    fn others_read_the_document_as_what_it_says() {
        let text = serde_json::to_string(&*DOCUMENT).unwrap();
        let read = oas3::from_json(&text).unwrap();
        read.validate_version().unwrap();
        let operations = read.operations();
        let found: BTreeSet<String> = operations
            .map(|(path, method, _)| format!("{method} {path}"))
            .collect();
        assert_eq!(found, documented());

        // Every reference leads somewhere, and every call has its errors.
        let mut references = Vec::new();
        refer(&DOCUMENT, &mut references);
        assert!(references.len() > 100, "{}", references.len());
        for reference in references {
            let at = reference.strip_prefix('#').unwrap();
            assert!(DOCUMENT.pointer(at).is_some(), "{reference}");
        }
        let operations = DOCUMENT["paths"].as_object().unwrap().values();
        for operation in operations.flat_map(|p| p.as_object().unwrap().values()) {
            let responses = operation["responses"].as_object().unwrap();
            let keys: Vec<&str> = responses.keys().map(String::as_str).collect();
            assert!(
                keys == ["200", "4XX", "5XX"] || keys == ["204", "4XX", "5XX"],
                "{operation}"
            );
        }
        let error = &DOCUMENT["components"]["schemas"]["Error"];
        assert_eq!(error["required"], serde_json::json!(["error"]));
    }

    fn refer(value: &Value, to: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(reference)) = fields.get("$ref") {
                    to.push(reference.clone());
                }
                fields.values().for_each(|v| refer(v, to));
            }
            Value::Array(items) => items.iter().for_each(|v| refer(v, to)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}
