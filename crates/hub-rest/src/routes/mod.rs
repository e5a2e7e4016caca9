//! All routes, in one table that the router and the OpenAPI document are both made from.

mod artifacts;
mod bulk;
mod configurations;
mod devices;
mod digital_twins;
mod events;
mod explain;
mod jobs;
mod methods;
mod modules;
mod ours;
mod preview;
mod queries;
mod retirement;
mod rollouts;
mod streams;
mod transfers;
mod twins;
mod watch;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, get, post};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use hub_engine::Hub;
use hub_engine::tasks::{TaskKind, Tasks};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::auth::Caller;
use crate::config::{BODY_DROPPED_BYTES_MAX, BODY_TIMEOUT, JSON_BODY_BYTES_MAX};
use crate::listener::Peer;
use crate::openapi;
use crate::status::ApiError;
use crate::websocket::{self, WebSocketUpgrade};

/// What handlers share.
pub(crate) type Shared = Arc<Hub>;
/// What a handler answers.
pub(crate) type Answer = Result<Response, ApiError>;

/// A path with its operations.
pub(crate) struct Route {
    /// In axum's spelling, which is also OpenAPI's.
    pub(crate) path: &'static str,
    /// Method, and what it does in a few words.
    pub(crate) operations: &'static [(&'static str, &'static str)],
    /// Whether it needs no credential of a back end.
    pub(crate) open: bool,
    handler: fn() -> MethodRouter<Shared>,
}

const fn route(
    path: &'static str,
    operations: &'static [(&'static str, &'static str)],
    handler: fn() -> MethodRouter<Shared>,
) -> Route {
    Route { path, operations, open: false, handler }
}

/// The table.
pub(crate) const ROUTES: &[Route] = &[
    route(
        "/devices",
        &[("get", "List devices"), ("post", "Create, update or delete up to 100 identities")],
        || get(devices::list).post(bulk::devices),
    ),
    route("/devices/query", &[("post", "Answer a page of a query over twins")], queries::handlers),
    route(
        "/devices/keys/regenerate",
        &[("post", "Make new keys for up to 100 identities")],
        bulk::keys_handlers,
    ),
    route(
        "/devices/{id}",
        &[("get", "Read a device"), ("put", "Create or update a device"), ("delete", "Delete a device")],
        devices::handlers,
    ),
    route("/devices/{id}/modules", &[("get", "List the modules of a device")], || get(modules::list)),
    route(
        "/devices/{id}/modules/{mid}",
        &[("get", "Read a module"), ("put", "Create or update a module"), ("delete", "Delete a module")],
        modules::handlers,
    ),
    route("/statistics/devices", &[("get", "Count devices")], || get(devices::statistics)),
    route("/statistics/service", &[("get", "Count connections")], || get(devices::connections)),
    route(
        "/twins/{id}",
        &[("get", "Read a twin"), ("patch", "Merge into a twin"), ("put", "Replace sections of a twin")],
        twins::device_handlers,
    ),
    route(
        "/twins/{id}/modules/{mid}",
        &[
            ("get", "Read a module's twin"),
            ("patch", "Merge into a module's twin"),
            ("put", "Replace sections of a module's twin"),
        ],
        twins::module_handlers,
    ),
    route("/twins/{id}/methods", &[("post", "Call a method of a device")], methods::device_handlers),
    route(
        "/twins/{id}/modules/{mid}/methods",
        &[("post", "Call a method of a module")],
        methods::module_handlers,
    ),
    route(
        "/digitaltwins/{id}",
        &[("get", "Read a digital twin"), ("patch", "Write properties of a digital twin")],
        digital_twins::handlers,
    ),
    route(
        "/digitaltwins/{id}/commands/{command}",
        &[("post", "Call a command")],
        digital_twins::command_handlers,
    ),
    route(
        "/digitaltwins/{id}/components/{component}/commands/{command}",
        &[("post", "Call a command of a component")],
        digital_twins::component_command_handlers,
    ),
    route("/configurations", &[("get", "List configurations")], || get(configurations::list)),
    route(
        "/configurations/testQueries",
        &[("post", "Say what is wrong with a condition and metrics")],
        configurations::test_handlers,
    ),
    route(
        "/configurations/{id}",
        &[
            ("get", "Read a configuration"),
            ("put", "Create or update a configuration"),
            ("delete", "Delete a configuration"),
        ],
        configurations::handlers,
    ),
    route(
        "/devices/{id}/applyConfigurationContent",
        &[("post", "Write an edge deployment into a device's modules")],
        configurations::apply_handlers,
    ),
    route("/jobs", &[("get", "List import and export jobs")], || get(transfers::list)),
    route("/jobs/create", &[("post", "Create an import or export job")], transfers::create_handlers),
    route(
        "/jobs/{id}",
        &[("get", "Read an import or export job"), ("delete", "Cancel an import or export job")],
        transfers::handlers,
    ),
    route("/jobs/v2/query", &[("get", "List jobs")], || get(jobs::list)),
    route("/jobs/v2/{id}", &[("get", "Read a job"), ("put", "Create a job")], jobs::handlers),
    route("/jobs/v2/{id}/cancel", &[("post", "Cancel a job")], jobs::cancel_handlers),
    route("/api/jobs/preview", &[("post", "Say what a job would do")], || post(rollouts::preview)),
    route("/api/jobs/{id}/waiting", &[("get", "Count devices by what they wait for")], || {
        get(rollouts::waiting)
    }),
    route("/api/jobs/{id}/devices", &[("get", "List the targets of a job")], || get(jobs::targets)),
    route("/api/jobs/{id}/devices/{device}", &[("get", "Read a target of a job, and the job")], || {
        get(jobs::target)
    }),
    route(
        "/api/jobs/{id}/devices/{device}/modules/{mid}",
        &[("get", "Read a module that is a target of a job, and the job")],
        || get(jobs::module_target),
    ),
    route(
        "/api/jobs/{id}/rollout",
        &[
            ("get", "Say how far a rollout came, and how wrong its forecast was"),
            ("post", "Pause, resume, approve, abort or roll back a rollout"),
        ],
        rollouts::handlers,
    ),
    route(
        "/api/configurations/{id}/rollout",
        &[("post", "Pause, resume, approve, abort or roll back the rollout of a configuration")],
        || post(configurations::decide),
    ),
    route(
        "/api/context",
        &[("get", "Where devices report facts, and named windows and places"), ("put", "Replace that")],
        rollouts::context_handlers,
    ),
    route("/api/status", &[("get", "The hub in numbers")], || get(ours::status)),
    Route {
        path: "/api/health",
        operations: &[("get", "Whether the hub can do its work")],
        open: true,
        handler: || get(ours::health),
    },
    Route {
        path: "/api/openapi.json",
        operations: &[("get", "This document")],
        open: true,
        handler: || get(openapi::document),
    },
    route(
        "/api/configurations/preview",
        &[("post", "Say what writing or removing configurations would change")],
        || post(preview::preview),
    ),
    route("/api/devices/{id}/explain", &[("get", "Say why a twin is as it is")], || get(explain::device)),
    route(
        "/api/devices/{id}/modules/{mid}/explain",
        &[("get", "Say why a module's twin is as it is")],
        || get(explain::module),
    ),
    route(
        "/api/devices/{id}/everything",
        &[("get", "All that is known about a device, a line each")],
        || get(retirement::everything),
    ),
    route("/api/devices/{id}/retire", &[("post", "Retire a device")], retirement::retire_handlers),
    route(
        "/api/devices/{id}/replace",
        &[("post", "Put another device or other hardware in the place of a device")],
        retirement::replace_handlers,
    ),
    route("/api/retired", &[("get", "List retired devices")], || get(retirement::list)),
    route(
        "/api/retired/{id}",
        &[("get", "Read a retired device"), ("delete", "Erase what is archived of a device")],
        retirement::one_handlers,
    ),
    route(
        "/api/retired/{id}/restore",
        &[("post", "Bring a retired device back")],
        retirement::restore_handlers,
    ),
    route("/api/retired/{id}/release", &[("post", "Set the id of an erased device free")], || {
        post(retirement::release)
    }),
    route("/api/events", &[("get", "Events as server-sent events, from a position on")], || {
        get(events::stream)
    }),
    route(
        "/api/queries/watch",
        &[("get", "The rows of a query, then those that enter, change and leave, as server-sent events")],
        || get(watch::stream),
    ),
    route(
        "/api/import",
        &[("post", "Create, update or delete identities by a stream of lines")],
        streams::import_handlers,
    ),
    route("/api/export", &[("get", "All identities with their twins, a line each")], || get(streams::export)),
    route(
        "/api/artifacts",
        &[("get", "List artifacts"), ("post", "Store a file once by its content")],
        artifacts::handlers,
    ),
    route("/api/artifacts/{digest}", &[("delete", "Remove an artifact")], artifacts::one_handlers),
    route(
        "/api/artifacts/{digest}/grants",
        &[("post", "Make a link to an artifact")],
        artifacts::grant_handlers,
    ),
    Route {
        path: "/api/artifacts/{digest}/content",
        operations: &[("get", "Fetch an artifact by its link, whole or in ranges")],
        open: true,
        handler: || get(artifacts::content),
    },
    route("/api/policies", &[("get", "List policies")], || get(ours::policies)),
    route("/api/policies/{name}", &[("get", "Read a policy with its keys")], || get(ours::policy)),
    route("/api/policies/{name}/rotate", &[("post", "Give a policy new keys")], ours::rotate_handlers),
];

/// Operations of the service that this hub does not have yet, and what they are called in the answer.
pub(crate) const NOT_YET: &[(&str, &str)] = &[
    ("/devices/{id}/commands", "The queue of cloud-to-device messages"),
    ("/messages/{*rest}", "Cloud-to-device feedback"),
];

/// The router over both tables.
pub(crate) fn router(hub: Shared, tasks: Tasks, websockets: mpsc::Sender<WebSocketUpgrade>) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        router = router.route(route.path, (route.handler)());
    }
    for (path, operation) in NOT_YET {
        let answer = move |_: Caller| async move { ApiError::not_yet(operation) };
        router = router.route(path, any(answer));
    }
    let upgrade =
        move |State(_): State<Shared>, request: Request| upgrade(tasks.clone(), websockets.clone(), request);
    router
        .route("/$iothub/websocket", get(upgrade))
        .fallback(|| async { ApiError::bad(404_000, "GenericNotFound", "there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            ApiError::bad(405_000, "GenericMethodNotAllowed", "this path knows no such method")
        })
        .with_state(hub)
}

async fn upgrade(tasks: Tasks, websockets: mpsc::Sender<WebSocketUpgrade>, mut request: Request) -> Answer {
    let response = websocket::switching(request.headers())?;
    let peer = request.extensions().get::<Peer>().cloned();
    let Some(Peer { address: peer, certificate, .. }) = peer else {
        return Err(ApiError::bad(500_001, "ServerError", "the connection is not known"));
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tasks.spawn(TaskKind::Connection, async move {
        match upgraded.await {
            Ok(upgraded) => {
                let io = Box::new(TokioIo::new(upgraded));
                let _ = websockets.send(WebSocketUpgrade { io, peer, certificate }).await;
            }
            Err(error) => tracing::debug!(%error, "a WebSocket upgrade failed"),
        }
    });
    Ok(response)
}

/// A body within its limits of size and time.
pub(crate) struct Json(pub(crate) Bytes);

impl<S: Send + Sync> FromRequest<S> for Json {
    type Rejection = ApiError;

    async fn from_request(request: Request<Body>, _: &S) -> Result<Self, ApiError> {
        let read = timeout(BODY_TIMEOUT, read_body(request.into_body())).await;
        read.map_err(|_| ApiError::bad(400_024, "RequestTimedOut", "the body did not come in time"))?
            .map(Self)
    }
}

/// Reads a body. The rest of one that is too large is read and dropped, since a client that still sends reads no answer.
async fn read_body(body: Body) -> Result<Bytes, ApiError> {
    let mut chunks = body.into_data_stream();
    let (mut kept, mut bytes) = (BytesMut::new(), 0usize);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| ApiError::invalid("the body ended early"))?;
        bytes += chunk.len();
        if bytes <= JSON_BODY_BYTES_MAX {
            kept.extend_from_slice(&chunk);
        } else if bytes <= BODY_DROPPED_BYTES_MAX {
            kept = BytesMut::new();
        } else {
            break;
        }
    }
    if bytes > JSON_BODY_BYTES_MAX {
        let text = format!("the body is larger than {JSON_BODY_BYTES_MAX} bytes");
        return Err(ApiError::bad(413_000, "GenericRequestEntityTooLarge", text));
    }
    Ok(kept.freeze())
}

/// A body of JSON that is text already.
pub(crate) fn json_text(status: StatusCode, text: String) -> Response {
    (status, [(axum::http::header::CONTENT_TYPE, "application/json; charset=utf-8")], text).into_response()
}

/// A body as JSON, with the quoted version tag if there is one.
pub(crate) fn json<T: serde::Serialize>(status: StatusCode, body: &T, etag: Option<&str>) -> Response {
    let text = serde_json::to_string(body).expect("bodies have text keys and go to memory");
    let mut response = json_text(status, text);
    if let Some(Ok(etag)) = etag.map(|etag| format!("\"{etag}\"").parse()) {
        response.headers_mut().insert(axum::http::header::ETAG, etag);
    }
    response
}
