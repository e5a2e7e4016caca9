//! The digital twin view: properties with their acknowledgements, written by JSON Patch, and commands (S 13).

use std::num::NonZeroU64;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get, post};
use hub_domain::method::MethodCall;
use hub_domain::twin::{Metadata, Twin, TwinPatch, TwinUpdate, WriteMode};
use hub_engine::Principal;
use serde::Deserialize;
use serde_json::{Map, Value, json as object};

use super::{Answer, Json, Shared, json};
use crate::auth::Caller;
use crate::extract::{Path, Query};
use crate::from_wire;
use crate::status::ApiError;

pub fn handlers() -> MethodRouter<Shared> {
    get(read).patch(write)
}

pub fn command_handlers() -> MethodRouter<Shared> {
    post(
        |State(hub): State<Shared>,
         Caller(who): Caller,
         Path((id, command)): Path<(String, String)>,
         query: Query<Timeouts>,
         Json(body): Json| async move {
            call(hub, who, &id, command, query.0, &body).await.map_err(ApiError::nested)
        },
    )
}

pub fn component_command_handlers() -> MethodRouter<Shared> {
    post(
        |State(hub): State<Shared>,
         Caller(who): Caller,
         Path((id, component, command)): Path<(String, String, String)>,
         query: Query<Timeouts>,
         Json(body): Json| async move {
            call(hub, who, &id, format!("{component}*{command}"), query.0, &body)
                .await
                .map_err(ApiError::nested)
        },
    )
}

async fn read(State(hub): State<Shared>, Caller(who): Caller, Path(id): Path<String>) -> Answer {
    let view = hub.twin_get(&who, &from_wire::twin_id(&id, None)?)?;
    let mut document = level(&view.twin.desired.values, &view.twin.reported.values, &view.twin, &[]);
    document.insert("$dtId".into(), id.into());
    if let Some(Value::Object(metadata)) = document.get_mut("$metadata") {
        metadata.insert("$model".into(), view.twin.model_id.as_deref().unwrap_or_default().into());
    }
    Ok(json(StatusCode::OK, &document, Some(view.twin.etag().as_str())))
}

fn is_component(value: &Value) -> bool {
    value.get("__t").is_some_and(|kind| kind == "c")
}

/// Root or component: what is reported, else what is desired, and in `$metadata` how far the device has acknowledged.
fn level(
    desired: &Map<String, Value>,
    reported: &Map<String, Value>,
    twin: &Twin,
    path: &[&str],
) -> Map<String, Value> {
    let (mut document, mut metadata) = (Map::new(), Map::new());
    let names: std::collections::BTreeSet<&String> =
        desired.keys().chain(reported.keys()).filter(|name| *name != "__t").collect();
    for name in names {
        let (wanted, got) = (desired.get(name), reported.get(name));
        if [wanted, got].into_iter().flatten().any(is_component) && path.is_empty() {
            let empty = Map::new();
            let section = |value: Option<&'_ Value>| {
                value.and_then(Value::as_object).cloned().unwrap_or_else(|| empty.clone())
            };
            document.insert(
                name.clone(),
                Value::Object(level(&section(wanted), &section(got), twin, &[name.as_str()])),
            );
            continue;
        }
        let acknowledged = got
            .and_then(Value::as_object)
            .filter(|object| object.contains_key("ac") && object.contains_key("value"));
        let value = acknowledged.map(|object| &object["value"]).or(got);
        document.extend(value.map(|value| (name.clone(), value.clone())));
        metadata
            .insert(name.clone(), Value::Object(property_metadata(wanted, acknowledged, twin, path, name)));
    }
    document.insert("$metadata".into(), Value::Object(metadata));
    document
}

fn property_metadata(
    wanted: Option<&Value>,
    acknowledged: Option<&Map<String, Value>>,
    twin: &Twin,
    path: &[&str],
    name: &str,
) -> Map<String, Value> {
    let node = |root: &Metadata| {
        path.iter().chain([&name]).try_fold(root.clone(), |node, key| node.children.get(*key).cloned())
    };
    let mut metadata = Map::new();
    if let Some(wanted) = wanted {
        metadata.insert("desiredValue".into(), wanted.clone());
        let version = node(&twin.desired.metadata).and_then(|node| node.stamp.version).map(NonZeroU64::get);
        metadata.insert("desiredVersion".into(), version.into());
    }
    for (from, to) in [("ac", "ackCode"), ("av", "ackVersion"), ("ad", "ackDescription")] {
        metadata.extend(
            acknowledged.and_then(|object| object.get(from)).map(|value| (to.to_string(), value.clone())),
        );
    }
    let time = node(&twin.reported.metadata)
        .or_else(|| node(&twin.desired.metadata))
        .map(|node| node.stamp.at.to_string());
    metadata.insert("lastUpdateTime".into(), time.into());
    metadata
}

#[derive(Deserialize)]
struct Operation {
    op: String,
    path: String,
    value: Option<Value>,
}

/// A JSON Patch as a merge patch of the desired properties.
fn merge_patch(operations: Vec<Operation>) -> Result<Value, ApiError> {
    let wrong = |code: u32, name: &'static str, text: String| Err(ApiError::bad(code, name, text));
    let mut patch = Map::new();
    for Operation { op, path, value } in operations {
        let value = match (op.as_str(), value) {
            ("add" | "replace", Some(value)) => marked(value),
            ("remove", _) => Value::Null,
            ("add" | "replace", None) => {
                let text = format!("operation '{op}' of '{path}' needs a value that is not null");
                return wrong(400_505, "InvalidDigitalTwinJsonPatch", text);
            }
            _ => {
                return wrong(
                    400_505,
                    "InvalidDigitalTwinJsonPatch",
                    format!("operation '{op}' is not add, replace or remove"),
                );
            }
        };
        let names: Vec<&str> =
            path.strip_prefix('/').map(|path| path.split('/').collect()).unwrap_or_default();
        match names[..] {
            [property] if !property.is_empty() => drop(patch.insert(property.into(), value)),
            [component, property] if !component.is_empty() && !property.is_empty() => {
                let slot = patch.entry(component).or_insert_with(|| object!({ "__t": "c" }));
                match slot.as_object_mut() {
                    Some(slot) => drop(slot.insert(property.into(), value)),
                    None => {
                        return wrong(
                            400_507,
                            "InvalidDigitalTwinPatch",
                            format!("'{component}' is written twice"),
                        );
                    }
                }
            }
            _ => {
                let text = format!("path '{path}' is not /property or /component/property");
                return wrong(400_508, "InvalidDigitalTwinPatchPath", text);
            }
        }
    }
    Ok(Value::Object(patch))
}

/// A whole component comes with an empty `$metadata`; the twin marks components in another way.
fn marked(value: Value) -> Value {
    match value {
        Value::Object(mut members) if members.contains_key("$metadata") => {
            members.remove("$metadata");
            members.insert("__t".into(), "c".into());
            Value::Object(members)
        }
        other => other,
    }
}

async fn write(
    State(hub): State<Shared>,
    Caller(who): Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Json(body): Json,
) -> Answer {
    let operations: Vec<Operation> = serde_json::from_slice(&body).map_err(|error| {
        ApiError::bad(
            400_505,
            "InvalidDigitalTwinJsonPatch",
            format!("the body is not a JSON Patch: {error}"),
        )
    })?;
    let patch = TwinPatch::from_value(merge_patch(operations)?)
        .map_err(|error| ApiError::invalid(error.to_string()))?;
    let update = TwinUpdate { tags: None, desired: Some(patch) };
    let twin_id = from_wire::twin_id(&id, None)?;
    let view = hub
        .twin_update(&who, &twin_id, &update, WriteMode::Patch, &from_wire::precondition(&headers)?)
        .await?;
    let mut response = StatusCode::ACCEPTED.into_response();
    let headers = response.headers_mut();
    headers.extend(
        format!("\"{}\"", view.twin.etag()).parse().ok().map(|etag: HeaderValue| (header::ETAG, etag)),
    );
    headers
        .extend(format!("/digitaltwins/{id}").parse().ok().map(|path: HeaderValue| (header::LOCATION, path)));
    Ok(response)
}

#[derive(Deserialize)]
pub struct Timeouts {
    #[serde(rename = "connectTimeoutInSeconds")]
    connect: Option<u64>,
    #[serde(rename = "responseTimeoutInSeconds")]
    response: Option<u64>,
}

async fn call(
    hub: Shared,
    who: Principal,
    id: &str,
    name: String,
    timeouts: Timeouts,
    body: &[u8],
) -> Answer {
    let id = from_wire::twin_id(id, None)?;
    let payload = std::str::from_utf8(body).map_err(|_| ApiError::invalid("the body is not UTF-8"))?.trim();
    if !payload.is_empty() {
        serde_json::from_str::<serde::de::IgnoredAny>(payload).map_err(|error| {
            ApiError::bad(400_506, "InvalidDigitalTwinPayload", format!("the body is not JSON: {error}"))
        })?;
    }
    // A component's command has a '*' between the two names, which is legal in a method's name.
    let call = MethodCall::new(&name, Some(payload.into()), timeouts.response, timeouts.connect);
    let result =
        hub.method_call(&who, &id, call.map_err(|error| ApiError::invalid(error.to_string()))?).await?;
    let kind = (header::CONTENT_TYPE, "application/json; charset=utf-8".to_string());
    let status = (HeaderName::from_static("x-ms-command-statuscode"), result.status.to_string());
    Ok((StatusCode::OK, [kind, status], result.payload).into_response())
}
