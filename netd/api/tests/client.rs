//! The client against a real HTTP server on a temporary Unix socket: what goes over the wire, and
//! what a person reads when it fails.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::IntoResponse;
use netd_api::{Attach, Client, ClientError, FlowFilter, MappingFilter, NetworkCreate, Proto};
use tempfile::TempDir;
use tokio::net::UnixListener;

/// What the server saw: `METHOD uri body`.
type Seen = Arc<Mutex<Vec<String>>>;

struct Server {
    seen: Seen,
    client: Client,
    _dir: TempDir,
}

/// A server that gives every request the same answer.
fn serve(status: StatusCode, answer: &'static str) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("netd.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let seen = Seen::default();
    let app = Router::new()
        .fallback(
            move |State(seen): State<Seen>, method: Method, uri: Uri, body: Bytes| async move {
                let body = String::from_utf8(body.to_vec()).unwrap();
                seen.lock()
                    .unwrap()
                    .push(format!("{method} {uri} {body}").trim().to_owned());
                (status, answer).into_response()
            },
        )
        .with_state(seen.clone());
    tokio::spawn(async move { axum::serve(listener, app).await });
    Server {
        seen,
        client: Client::new(socket),
        _dir: dir,
    }
}

impl Server {
    fn saw(&self) -> String {
        self.seen.lock().unwrap().pop().expect("a request arrived")
    }
}

#[tokio::test]
async fn lists_are_read_and_paths_are_the_documented_ones() {
    let s = serve(StatusCode::OK, "[]");
    assert!(s.client.networks().await.unwrap().is_empty());
    assert_eq!(s.saw(), "GET /v1/networks");
    assert!(s.client.endpoints().await.unwrap().is_empty());
    assert_eq!(s.saw(), "GET /v1/endpoints");
    assert!(s.client.stats().await.unwrap().is_empty());
    assert_eq!(s.saw(), "GET /v1/stats");
    assert!(s.client.published(None).await.unwrap().is_empty());
    assert_eq!(s.saw(), "GET /v1/published");
    assert!(s.client.published(Some("web 1")).await.unwrap().is_empty());
    assert_eq!(s.saw(), "GET /v1/published?endpoint=web+1");
    assert!(s.client.fdb(Some("n1")).await.unwrap().is_empty());
    assert_eq!(s.saw(), "GET /v1/fdb?network=n1");
    assert!(
        s.client
            .publish("web", &["0:80".parse().unwrap()])
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        s.saw(),
        r#"POST /v1/endpoints/web/publish [{"host_ip":null,"host_port":0,"host_end":0,"proto":"tcp","port":80,"end":80,"from":[]}]"#
    );
}

#[tokio::test]
async fn path_parts_and_queries_are_encoded() {
    let s = serve(StatusCode::NO_CONTENT, "");
    s.client
        .detach("/run/netns/a b", Some("n&1"))
        .await
        .unwrap();
    assert_eq!(
        s.saw(),
        "DELETE /v1/endpoints/%2Frun%2Fnetns%2Fa%20b?network=n%261"
    );
    s.client.detach("pid:12", None).await.unwrap();
    assert_eq!(s.saw(), "DELETE /v1/endpoints/pid%3A12");
    s.client.network_remove("a?b").await.unwrap();
    assert_eq!(s.saw(), "DELETE /v1/networks/a%3Fb");
    s.client
        .unpublish(&["[::1]:53/udp".parse().unwrap()])
        .await
        .unwrap();
    assert_eq!(
        s.saw(),
        r#"POST /v1/unpublish [{"host_ip":"::1","host_port":53,"host_end":53,"proto":"udp"}]"#
    );
}

#[tokio::test]
async fn a_flow_filter_is_a_query_of_what_was_given() {
    let s = serve(StatusCode::OK, r#"{"flows":3}"#);
    assert_eq!(
        s.client
            .flows_flush(&FlowFilter::default())
            .await
            .unwrap()
            .flows,
        3
    );
    assert_eq!(s.saw(), "DELETE /v1/flows");
    let filter = FlowFilter {
        endpoint: Some("a".into()),
        proto: Some(Proto::Udp),
        src: netd_api::address_or_prefix("2001:db8::1/32").ok(),
        dst: None,
        port: Some(53),
    };
    s.client.flows_flush(&filter).await.unwrap();
    assert_eq!(
        s.saw(),
        "DELETE /v1/flows?endpoint=a&proto=udp&src=2001%3Adb8%3A%3A%2F32&port=53"
    );
}

#[tokio::test]
async fn a_mapping_filter_is_a_query_of_what_was_given() {
    let s = serve(StatusCode::OK, "[]");
    let filter = MappingFilter {
        endpoint: None,
        network: Some("web".into()),
        proto: Some(Proto::Tcp),
        port: Some(9),
    };
    assert_eq!(s.client.mappings(&filter).await.unwrap(), []);
    assert_eq!(s.saw(), "GET /v1/mappings?network=web&proto=tcp&port=9");
}

#[tokio::test]
async fn an_error_of_the_api_is_shown_as_it_is() {
    let s = serve(
        StatusCode::CONFLICT,
        r#"{"error":"network \"a\" is there already: take another name"}"#,
    );
    let e = s
        .client
        .network_create(&NetworkCreate::default())
        .await
        .unwrap_err();
    assert!(matches!(e, ClientError::Api { status: 409, .. }));
    assert_eq!(
        e.to_string(),
        "network \"a\" is there already: take another name"
    );
}

#[tokio::test]
async fn an_error_without_the_api_s_body_names_the_request() {
    let s = serve(StatusCode::BAD_GATEWAY, "<html>");
    let e = s.client.attach(&Attach::default()).await.unwrap_err();
    assert_eq!(
        e.to_string(),
        "the daemon answered 502 Bad Gateway to POST /v1/endpoints"
    );
}

#[tokio::test]
async fn an_answer_that_is_not_the_api_s_is_refused() {
    let s = serve(StatusCode::OK, "hello");
    let e = s.client.status().await.unwrap_err();
    assert!(matches!(e, ClientError::Broken { .. }), "{e:?}");
    assert!(!e.to_string().contains('\n'));
}

#[tokio::test]
async fn a_missing_daemon_is_one_line_that_names_socket_and_command() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("no.sock");
    let e = Client::new(&socket).status().await.unwrap_err();
    assert!(matches!(e, ClientError::Unreachable { .. }), "{e:?}");
    let text = e.to_string();
    assert!(
        text.contains(socket.to_str().unwrap()) && text.contains("`netd daemon`"),
        "{text}"
    );
    assert!(!text.contains('\n'));
}

#[tokio::test]
async fn a_daemon_that_breaks_off_is_told_from_a_missing_one() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("netd.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    let e = Client::new(&socket).status().await.unwrap_err();
    assert!(matches!(e, ClientError::Broken { .. }), "{e:?}");
}
