//! Health and metrics for the machine that watches: plain HTTP, no credential, local by default.

use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use hub_engine::Hub;

/// `/healthz`, `/readyz` and `/metrics`.
pub fn router(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(hub)
}

async fn ready(State(hub): State<Arc<Hub>>) -> impl IntoResponse {
    if hub.is_ready() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

/// The hub's numbers in the text format of Prometheus.
async fn metrics(State(hub): State<Arc<Hub>>) -> impl IntoResponse {
    let numbers = hub.numbers();
    let mut text = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, value: u64| {
        let _ = writeln!(
            text,
            "# HELP fleetyard_{name} {help}\n# TYPE fleetyard_{name} {kind}\nfleetyard_{name} {value}"
        );
    };
    metric("devices", "gauge", "Registered devices.", numbers.devices);
    metric("devices_enabled", "gauge", "Registered devices that may use the hub.", numbers.devices_enabled);
    metric("modules", "gauge", "Registered modules.", numbers.modules);
    metric("connections", "gauge", "Attached devices and modules.", numbers.connected);
    metric("commits_total", "counter", "Commits since the store was made.", numbers.commits);
    metric("store_bytes", "gauge", "Size of the store on disk.", numbers.store_bytes);
    metric("telemetry_messages_total", "counter", "Messages taken from devices.", numbers.telemetry_messages);
    metric(
        "reported_patches_total",
        "counter",
        "Reported patches taken from devices.",
        numbers.reported_patches,
    );
    metric("method_calls_total", "counter", "Direct methods begun.", numbers.method_calls);
    metric(
        "method_answers_ignored_total",
        "counter",
        "Method answers nobody waited for.",
        numbers.method_answers_ignored,
    );
    metric("queries_total", "counter", "Pages of queries answered.", numbers.queries);
    metric("index_bytes", "gauge", "Memory of the columns that answer queries.", numbers.index.bytes);
    metric("twins_packed_bytes", "gauge", "Memory of the twins that are packed.", numbers.index.twins_bytes);
    metric("index_paths", "gauge", "Paths with columns.", numbers.index.paths_indexed);
    metric(
        "index_paths_not_indexed",
        "gauge",
        "Paths without columns, since they took too much.",
        numbers.index.paths_not_indexed,
    );
    metric(
        "index_twins_not_indexed",
        "gauge",
        "Twins with more paths than have columns.",
        numbers.index.twins_marked,
    );
    metric("configurations", "gauge", "Configurations in force.", numbers.configurations);
    metric(
        "configurations_misfit_total",
        "counter",
        "Times that the configurations of a twin did not fit into it.",
        numbers.configurations_misfit,
    );
    metric(
        "configuration_repairs_total",
        "counter",
        "Twins that were not as their configurations want; more than 0 is a bug.",
        numbers.configuration_repairs,
    );
    metric("ready", "gauge", "Whether the hub takes writes.", u64::from(hub.is_ready()));
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}
