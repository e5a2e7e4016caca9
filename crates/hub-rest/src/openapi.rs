//! The OpenAPI 3.1 document, made from the same table as the router and from the types of the bodies.

use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};
use utoipa::{PartialSchema, ToSchema};

use crate::routes::ROUTES;

fn schema<T: ToSchema + PartialSchema>(into: &mut Map<String, Value>) {
    let mut all = vec![(T::name().into_owned(), T::schema())];
    T::schemas(&mut all);
    for (name, schema) in all {
        into.insert(name, serde_json::to_value(schema).unwrap_or_default());
    }
}

fn schemas() -> Map<String, Value> {
    let mut all = Map::new();
    let into = &mut all;
    schema::<hub_api::identity::Device>(into);
    schema::<hub_api::identity::Module>(into);
    schema::<hub_api::identity::IdentityWrite>(into);
    schema::<hub_api::identity::RegistryStatistics>(into);
    schema::<hub_api::identity::ServiceStatistics>(into);
    schema::<hub_api::bulk::ImportItem>(into);
    schema::<hub_api::transfer::JobProperties>(into);
    schema::<hub_api::transfer::ImportErrorLine>(into);
    schema::<hub_api::bulk::ImportResult>(into);
    schema::<hub_api::bulk::ExportItem>(into);
    schema::<hub_api::bulk::BulkResult>(into);
    schema::<hub_api::bulk::KeysRegenerate>(into);
    schema::<hub_api::bulk::KeysRegenerated>(into);
    schema::<hub_api::twin::Twin>(into);
    schema::<hub_api::twin::TwinWrite>(into);
    schema::<hub_api::twin::PatchStep>(into);
    schema::<hub_api::method::MethodRequest>(into);
    schema::<hub_api::method::MethodResponse>(into);
    schema::<hub_api::query::QueryRequest>(into);
    schema::<hub_api::job::JobRequest>(into);
    schema::<hub_api::job::JobResponse>(into);
    schema::<hub_api::job::JobTarget>(into);
    schema::<hub_api::rollout::RolloutDecision>(into);
    schema::<hub_api::rollout::JobWaiting>(into);
    schema::<hub_api::rollout::DryRunRequest>(into);
    schema::<hub_api::rollout::DryRun>(into);
    schema::<hub_api::preview::PreviewRequest>(into);
    schema::<hub_api::preview::Preview>(into);
    schema::<hub_api::configuration::Configuration>(into);
    schema::<hub_api::configuration::ConfigurationWrite>(into);
    schema::<hub_api::configuration::QueriesTest>(into);
    schema::<hub_api::configuration::QueriesTested>(into);
    schema::<hub_api::status::Status>(into);
    schema::<hub_api::status::Health>(into);
    schema::<hub_api::explain::TwinExplanation>(into);
    schema::<hub_api::retirement::RetireRequest>(into);
    schema::<hub_api::retirement::RestoreRequest>(into);
    schema::<hub_api::retirement::ReplaceRequest>(into);
    schema::<hub_api::retirement::Retirement>(into);
    schema::<hub_api::retirement::Replaced>(into);
    schema::<hub_api::retirement::KnownPart>(into);
    schema::<hub_api::event::Event>(into);
    schema::<hub_api::event::StreamEnd>(into);
    schema::<hub_api::watch::WatchedRow>(into);
    schema::<hub_api::watch::WatchReady>(into);
    schema::<hub_api::artifact::Artifact>(into);
    schema::<hub_api::artifact::GrantRequest>(into);
    schema::<hub_api::artifact::Grant>(into);
    schema::<hub_api::policy::Policy>(into);
    schema::<hub_api::policy::RotateRequest>(into);
    schema::<hub_api::error::ErrorBody>(into);
    all
}

/// What an operation takes and gives, as names of schemas; an empty name is a body without a schema or none.
fn bodies(method: &str, path: &str) -> (&'static str, &'static str) {
    match (method, path) {
        ("get", "/devices") => ("", "Device[]"),
        ("post", "/devices") => ("ImportItem[]", "BulkResult"),
        ("post", "/devices/query") => ("QueryRequest", ""),
        ("post", "/devices/keys/regenerate") => ("KeysRegenerate", "KeysRegenerated"),
        ("get", "/devices/{id}") => ("", "Device"),
        ("put", "/devices/{id}") => ("IdentityWrite", "Device"),
        ("get", "/devices/{id}/modules") => ("", "Module[]"),
        ("get", "/devices/{id}/modules/{mid}") => ("", "Module"),
        ("put", "/devices/{id}/modules/{mid}") => ("IdentityWrite", "Module"),
        ("get", "/statistics/devices") => ("", "RegistryStatistics"),
        ("get", "/statistics/service") => ("", "ServiceStatistics"),
        ("patch" | "put", "/twins/{id}" | "/twins/{id}/modules/{mid}") => ("TwinWrite", "Twin"),
        ("post", "/twins/{id}/methods" | "/twins/{id}/modules/{mid}/methods") => {
            ("MethodRequest", "MethodResponse")
        }
        ("get", "/twins/{id}" | "/twins/{id}/modules/{mid}") => ("", "Twin"),
        ("patch", "/digitaltwins/{id}") => ("PatchStep[]", ""),
        ("get", "/configurations") => ("", "Configuration[]"),
        ("get", "/configurations/{id}") => ("", "Configuration"),
        ("put", "/configurations/{id}") => ("ConfigurationWrite", "Configuration"),
        ("post", "/configurations/testQueries") => ("QueriesTest", "QueriesTested"),
        ("post", "/devices/{id}/applyConfigurationContent") => ("ConfigurationContent", ""),
        ("get", "/jobs") => ("", "JobProperties[]"),
        ("post", "/jobs/create") => ("JobProperties", "JobProperties"),
        ("get", "/jobs/{id}") => ("", "JobProperties"),
        ("get", "/jobs/v2/query") => ("", "JobResponse[]"),
        ("get", "/jobs/v2/{id}") | ("post", "/jobs/v2/{id}/cancel") => ("", "JobResponse"),
        ("put", "/jobs/v2/{id}") => ("JobRequest", "JobResponse"),
        ("post", "/api/jobs/preview") => ("DryRunRequest", "DryRun"),
        ("get", "/api/jobs/{id}/waiting") => ("", "JobWaiting"),
        ("get", "/api/jobs/{id}/devices/{device}" | "/api/jobs/{id}/devices/{device}/modules/{mid}") => {
            ("", "JobTarget")
        }
        ("post", "/api/jobs/{id}/rollout") => ("RolloutDecision", "JobResponse"),
        ("post", "/api/configurations/{id}/rollout") => ("RolloutDecision", "Configuration"),
        ("post", "/api/configurations/preview") => ("PreviewRequest", "Preview"),
        ("get", "/api/devices/{id}/explain" | "/api/devices/{id}/modules/{mid}/explain") => {
            ("", "TwinExplanation")
        }
        ("get", "/api/devices/{id}/everything") => ("", "KnownPart"),
        ("post", "/api/devices/{id}/retire") => ("RetireRequest", "Retirement"),
        ("post", "/api/devices/{id}/replace") => ("ReplaceRequest", "Replaced"),
        ("get", "/api/retired") => ("", "Retirement[]"),
        ("get" | "delete", "/api/retired/{id}") | ("post", "/api/retired/{id}/release") => ("", "Retirement"),
        ("post", "/api/retired/{id}/restore") => ("RestoreRequest", "Device"),
        ("get", "/api/status") => ("", "Status"),
        ("get", "/api/health") => ("", "Health"),
        ("post", "/api/import") => ("ImportItem", "ImportResult"),
        ("get", "/api/export") => ("", "ExportItem"),
        ("get", "/api/artifacts") => ("", "Artifact[]"),
        ("post", "/api/artifacts") => ("", "Artifact"),
        ("post", "/api/artifacts/{digest}/grants") => ("GrantRequest", "Grant"),
        ("get", "/api/policies") => ("", "Policy[]"),
        ("get", "/api/policies/{name}") => ("", "Policy"),
        ("post", "/api/policies/{name}/rotate") => ("RotateRequest", "Policy"),
        _ => ("", ""),
    }
}

fn reference(name: &str) -> Value {
    let reference = |name: &str| json!({ "$ref": format!("#/components/schemas/{name}") });
    match name.strip_suffix("[]") {
        _ if name.is_empty() => json!({}),
        Some(item) => json!({ "type": "array", "items": reference(item) }),
        None => reference(name),
    }
}

fn operation(method: &str, path: &str, summary: &str, open: bool) -> Value {
    let (takes, gives) = bodies(method, path);
    let names = path.split(['{', '}']).skip(1).step_by(2);
    let parameters: Vec<Value> = names
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    let mut operation = json!({
        "summary": summary,
        "parameters": parameters,
        "responses": {
            "200": { "description": "Done.", "content": { "application/json": { "schema": reference(gives) } } },
            "default": { "description": "An error; its name is in the header iothub-errorcode.", "content": { "application/json": { "schema": reference("ErrorBody") } } },
        },
    });
    if !takes.is_empty() {
        operation["requestBody"] =
            json!({ "content": { "application/json": { "schema": reference(takes) } } });
    }
    if open {
        operation["security"] = json!([]);
    }
    operation
}

fn build() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let operations = route.operations.iter();
        let operations = operations.map(|(method, summary)| {
            (method.to_string(), operation(method, route.path, summary, route.open))
        });
        paths.insert(route.path.into(), Value::Object(operations.collect()));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Fleetyard",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Routes outside of /api need the query parameter api-version, any date.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "sas": {
                    "type": "apiKey", "in": "header", "name": "Authorization",
                    "description": "SharedAccessSignature sr=…&sig=…&se=…&skn=… of a shared access policy.",
                },
            },
        },
        "security": [{ "sas": [] }],
    })
}

/// The document.
pub async fn document() -> impl IntoResponse {
    (StatusCode::OK, [(header::CONTENT_TYPE, "application/json; charset=utf-8")], build().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described_and_every_reference_leads_somewhere() {
        let document = build();
        for route in ROUTES {
            for (method, _) in route.operations {
                let operation = &document["paths"][route.path][method];
                assert!(
                    operation["summary"].as_str().is_some_and(|text| !text.is_empty()),
                    "{method} {}",
                    route.path
                );
            }
        }
        let text = document.to_string();
        for (at, _) in text.match_indices("#/components/schemas/") {
            let name = text[at + 21..].split('"').next().expect("a name");
            assert!(document["components"]["schemas"].get(name).is_some(), "{name} is not described");
        }
    }
}
