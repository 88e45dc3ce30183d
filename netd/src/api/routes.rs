//! The calls of the API, one line each: path, body and query in, the core's answer out.

use std::net::IpAddr;

use axum::extract::Path;
use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use netd_api::{
    Attach, CaptureOf, Endpoint, EndpointDetails, EventsFrom, FdbLine, Floating, FloatingAdd,
    FlowFilter, FlowLine, Flushed, HostSpec, Manifest, MappingFilter, MappingLine, MonitorFilter,
    Network, NetworkCreate, NetworkSet, Plan, PublishSpec, Published, Repro, ReproRequest,
    StatLine, Status, Trace, TraceRequest,
};
use serde::Deserialize;

use super::answer::{Body, Params, Refusal};
use super::caller::Asked;
use super::lines::lines;
use crate::daemon::Handle;
use crate::daemon::core::Core;
use crate::daemon::{self, inspect, listen};

type Answer<T> = Result<Json<T>, Refusal>;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct InNetwork {
    network: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OfEndpoint {
    endpoint: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OfOwner {
    owner: Option<String>,
}

/// All calls.
pub fn router(handle: Handle) -> Router {
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/stats", get(stats))
        .route("/v1/networks", get(networks).post(create_network))
        .route(
            "/v1/networks/{name}",
            get(network).patch(set_network).delete(remove_network),
        )
        .route("/v1/endpoints", get(endpoints).post(attach))
        .route("/v1/endpoints/{ep}", get(endpoint).delete(detach))
        .route("/v1/endpoints/{ep}/inspect", get(inspect))
        .route("/v1/endpoints/{ep}/publish", post(publish))
        .route("/v1/published", get(published))
        .route("/v1/unpublish", post(unpublish))
        .route("/v1/floating", get(floating).post(add_floating))
        .route("/v1/floating/{address}", delete(remove_floating))
        .route("/v1/flows", get(flows).delete(flush_flows))
        .route("/v1/mappings", get(mappings))
        .route("/v1/fdb", get(fdb))
        .route("/v1/trace", post(trace))
        .route("/v1/repro", post(repro))
        .route("/v1/monitor", get(monitor))
        .route("/v1/capture", get(capture))
        .route("/v1/events", get(events))
        .route("/v1/plan", post(plan))
        .route("/v1/apply", post(apply))
        .route("/v1/export", get(export))
        .fallback(no_path)
        .method_not_allowed_fallback(no_method)
        .with_state(handle)
}

async fn no_path(uri: Uri) -> Refusal {
    Refusal::of(
        StatusCode::NOT_FOUND,
        format!("there is no call {}", uri.path()),
    )
}

async fn no_method(method: Method, uri: Uri) -> Refusal {
    let line = format!("{} does not take {method}", uri.path());
    Refusal::of(StatusCode::METHOD_NOT_ALLOWED, line)
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

async fn network(Asked(h): Asked, Path(name): Path<String>) -> Answer<Network> {
    Ok(Json(h.call(move |core| core.get_network(&name)).await?))
}

async fn set_network(
    Asked(h): Asked,
    Path(name): Path<String>,
    Body(request): Body<NetworkSet>,
) -> Answer<Network> {
    Ok(Json(
        h.call(move |core| core.set_network(&name, &request))
            .await?,
    ))
}

async fn remove_network(Asked(h): Asked, Path(name): Path<String>) -> Result<StatusCode, Refusal> {
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
    Path(ep): Path<String>,
    Params(on): Params<InNetwork>,
) -> Answer<Endpoint> {
    Ok(Json(
        h.call(move |core| core.get_endpoint(&ep, on.network.as_deref()))
            .await?,
    ))
}

async fn inspect(
    Asked(h): Asked,
    Path(ep): Path<String>,
    Params(on): Params<InNetwork>,
) -> Answer<EndpointDetails> {
    Ok(Json(inspect::details(&h, ep, on.network).await?))
}

async fn detach(
    Asked(h): Asked,
    Path(ep): Path<String>,
    Params(on): Params<InNetwork>,
) -> Result<StatusCode, Refusal> {
    h.call(move |core| core.detach(&ep, on.network.as_deref()))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn publish(
    Asked(h): Asked,
    Path(ep): Path<String>,
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
    Path(address): Path<IpAddr>,
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
) -> Result<Response, Refusal> {
    Ok(lines(listen::monitor(&h, filter).await?))
}

async fn capture(Asked(h): Asked, Params(of): Params<CaptureOf>) -> Result<Response, Refusal> {
    Ok(lines(listen::capture(&h, of).await?))
}

async fn events(Asked(h): Asked, Params(from): Params<EventsFrom>) -> Result<Response, Refusal> {
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
