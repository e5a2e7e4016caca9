//! Domain values to answers: pure, one direction.

pub mod explain;
pub mod retirement;
pub mod rollout;
pub mod watch;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hub_api::bulk::ExportItem;
use hub_api::configuration::QueriesTested;
use hub_api::event::Event as EventBody;
use hub_api::identity::{Authentication, Capabilities, Device, Module, SymmetricKey, X509Thumbprint};
use hub_api::job::{JobOverride, JobResponse, JobStatistics, JobTwin};
use hub_api::method::MethodRequest;
use hub_api::preview as api;
use hub_api::transfer::JobProperties;
use hub_api::twin::{TwinProperties, TwinPropertiesWrite, TwinWrite};
use hub_domain::actor::Actor;
use hub_domain::configuration::{Loss, Overridden};
use hub_domain::context::GatesOverride;
use hub_domain::event::{Event, EventKind, GatesOf};
use hub_domain::id::ConfigurationId;
use hub_domain::identity::{Authentication as Proof, SymmetricKeys};
use hub_domain::job::{JobAction, JobCounts, JobStatus};
use hub_domain::message::Message;
use hub_domain::method::MethodCall;
use hub_domain::transfer::{TransferKind, unsigned};
use hub_domain::twin::{PathChange, TwinPatch, TwinUpdate};
use hub_engine::configurations::preview::{PathPreview, Preview, PreviewFares, TwinPreview};
use hub_engine::configurations::{ConfigurationView, QueryFindings};
use hub_engine::jobs::Job;
use hub_engine::registry::IdentityView;
use hub_engine::status::HubStatus;
use hub_engine::transfers::Transfer;
use hub_engine::twins::TwinView;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::status::ApiError;

/// Both keys as text.
pub fn keys(keys: &SymmetricKeys) -> SymmetricKey {
    SymmetricKey {
        primary_key: Some(keys.primary.to_base64()),
        secondary_key: Some(keys.secondary.to_base64()),
    }
}

fn authentication(proof: &Proof) -> Authentication {
    let (primary, secondary) = match proof {
        Proof::SelfSigned { primary, secondary } => (primary.as_ref(), secondary.as_ref()),
        _ => (None, None),
    };
    Authentication {
        symmetric_key: Some(proof.keys().map(keys).unwrap_or_default()),
        x509_thumbprint: Some(X509Thumbprint {
            primary_thumbprint: primary.map(|print| print.as_str().into()),
            secondary_thumbprint: secondary.map(|print| print.as_str().into()),
        }),
        r#type: Some(proof.kind().into()),
    }
}

/// A job as it is now.
pub fn job(job: &Job) -> Result<JobResponse, ApiError> {
    let (spec, state) = (&job.spec, &job.state);
    let (mut call, mut twin, mut parameters, mut wait) = (None, None, None, None);
    match &spec.action {
        JobAction::CallMethod { call: asked, wait_for_devices } => {
            (call, wait) = (Some(method_request(asked)?), Some(*wait_for_devices));
        }
        JobAction::PatchTwin(update) => twin = Some(job_twin(update)),
        JobAction::Manage { management, wait_for_devices } => {
            parameters = Some(management.parameters()).filter(|parameters| !parameters.is_null());
            wait = Some(*wait_for_devices);
        }
        JobAction::Retire { request, wait_for_devices } => {
            parameters = Some(retirement::request(request)?);
            wait = Some(*wait_for_devices);
        }
        JobAction::RestoreTwin | JobAction::RestoreDevice => {}
    }
    let JobCounts { pending, running, succeeded, failed, cancelled } = state.counts;
    Ok(JobResponse {
        job_id: spec.id.to_string(),
        r#type: spec.action.kind().into(),
        status: state.status.as_str().into(),
        query_condition: spec.condition_text.clone(),
        listed_count: spec.listed.as_ref().map(|devices| devices.len() as u64),
        created_time: spec.created.to_string(),
        start_time: state.started.unwrap_or(spec.start).to_string(),
        end_time: state.ended.map(|at| at.to_string()),
        max_execution_time_in_seconds: spec.execution_max.as_secs(),
        cloud_to_device_method: call,
        update_twin: twin,
        parameters,
        wait_for_devices: wait,
        device_timeout_in_seconds: spec.device_timeout.map(|timeout| timeout.as_secs()),
        rollout: spec.rollout.as_ref().map(|rollout| rollout.to_json()),
        rollout_state: state.rollout.as_ref().map(|rollout| rollout.to_json()),
        gates: spec.gates.as_ref().map(|gates| gates.to_json()),
        gates_override: state.gates_override(spec).map(|GatesOverride { by, reason, at }| JobOverride {
            by: by.to_string(),
            reason,
            time: at.to_string(),
        }),
        undoes_job_id: spec.undoes.as_ref().map(ToString::to_string),
        asked_by: spec.asked_by.to_string(),
        failure_reason: state.failure.clone(),
        status_message: None,
        device_job_statistics: JobStatistics {
            device_count: state.counts.targets(),
            failed_count: failed,
            succeeded_count: succeeded,
            running_count: running,
            pending_count: pending,
            cancelled_count: cancelled,
        },
    })
}

/// An import or export job (S 3).
pub fn transfer(job: &Transfer) -> JobProperties {
    let Transfer { spec, state, percent } = job;
    let is_import = spec.kind == TransferKind::Import;
    let status = match state.status {
        JobStatus::Queued => "enqueued",
        status => status.as_str(),
    };
    JobProperties {
        job_id: Some(spec.id.to_string()),
        start_time_utc: Some(state.started.unwrap_or(spec.created).to_string()),
        end_time_utc: state.ended.map(|at| at.to_string()),
        r#type: Some(spec.kind.as_str().into()),
        status: Some(status.into()),
        progress: Some(*percent),
        input_blob_container_uri: spec.input.as_deref().map(|url| unsigned(url).into()),
        input_blob_name: is_import.then(|| spec.input_blob.clone()),
        output_blob_container_uri: Some(unsigned(&spec.output).into()),
        output_blob_name: (!is_import).then(|| spec.output_blob.clone()),
        exclude_keys_in_export: Some(spec.exclude_keys),
        storage_authentication_type: Some("keyBased".into()),
        failure_reason: state.failure.clone(),
        include_configurations: Some(spec.configurations.is_some()),
        configurations_blob_name: spec.configurations.clone(),
        done_count: state.ended.map(|_| state.counts.done),
        failed_count: state.ended.map(|_| state.counts.failed),
    }
}

/// What `/jobs/v2` has of an import or export job; clients then ask for the job itself (S 3).
pub fn transfer_stub(job: &Transfer) -> serde_json::Value {
    json!({ "jobId": job.spec.id.to_string(), "type": job.spec.kind.as_str(), "status": "unknown" })
}

fn method_request(call: &MethodCall) -> Result<MethodRequest, ApiError> {
    let seconds = |time: std::time::Duration| i64::try_from(time.as_secs()).ok();
    let payload = RawValue::from_string(call.payload.clone()).map_err(|error| {
        ApiError::bad(500_001, "ServerError", format!("a stored payload is not JSON: {error}"))
    })?;
    Ok(MethodRequest {
        method_name: Some(call.name.clone()),
        payload: Some(payload),
        response_timeout_in_seconds: seconds(call.response_timeout),
        connect_timeout_in_seconds: seconds(call.connect_timeout),
    })
}

fn job_twin(update: &TwinUpdate) -> JobTwin {
    let section = |patch: &Option<TwinPatch>| patch.as_ref().map(|patch| patch.object().clone().into());
    let properties = section(&update.desired).map(|desired| TwinPropertiesWrite { desired: Some(desired) });
    JobTwin { etag: Some("*".into()), twin: TwinWrite { tags: section(&update.tags), properties } }
}

/// What configurations would change.
pub fn preview(preview: &Preview) -> api::Preview {
    let text = |ids: &[ConfigurationId]| ids.iter().map(ToString::to_string).collect();
    let fares = |(id, fares): (&ConfigurationId, &PreviewFares)| {
        let PreviewFares { enter, leave, targeted, conflicts, waves, waiting } = fares.clone();
        let gates_waiting = (waiting.twins > 0).then(|| rollout::gates_waiting(&waiting));
        (id.to_string(), api::PreviewFares { enter, leave, targeted, conflicts, waves, gates_waiting })
    };
    let twin = |twin: &TwinPreview| api::TwinPreview {
        device_id: twin.id.device.to_string(),
        module_id: twin.id.module.as_ref().map(ToString::to_string),
        enters: text(&twin.enters),
        leaves: text(&twin.leaves),
        changes: twin.changes.iter().map(path_preview).collect(),
        conflicts: twin.conflicts.iter().map(conflict).collect(),
        error: twin.error.clone(),
    };
    api::Preview {
        looked_at: preview.looked_at,
        touched: preview.touched,
        changed: preview.changed,
        misfit: preview.misfit,
        configurations: preview.configurations.iter().map(fares).collect(),
        twins: preview.twins.iter().map(twin).collect(),
    }
}

fn path_preview(change: &PathPreview) -> api::PathPreview {
    api::PathPreview {
        path: format!("properties.desired.{}", change.path),
        from: change.from.clone(),
        to: change.to.clone(),
        by: change.by.as_ref().map(ToString::to_string),
    }
}

fn conflict(lost: &Overridden) -> api::Conflict {
    let winner = match &lost.loss {
        Loss::Outranked { by, .. } | Loss::Replaced { by } => Some(by.to_string()),
        Loss::NoDeploymentBelow => None,
    };
    api::Conflict {
        path: format!("properties.desired.{}", lost.path),
        value: lost.value.as_ref().clone(),
        configuration: lost.configuration.to_string(),
        winner,
    }
}

/// A configuration with its metrics.
pub fn configuration(view: &ConfigurationView) -> Value {
    let mut body = view.configuration.to_json();
    body["systemMetrics"]["results"] = json!(view.system);
    body["metrics"]["results"] = json!(view.custom);
    if let Some(waiting) = &view.waiting {
        body["gatesWaiting"] = json!(rollout::gates_waiting(waiting));
    }
    body
}

/// What a test of queries found.
pub fn query_findings(found: QueryFindings) -> QueriesTested {
    QueriesTested {
        target_condition_error: found.target_condition,
        custom_metric_query_errors: found.metrics,
    }
}

/// A device's registry entry.
pub fn device(view: &IdentityView) -> Device {
    let (identity, connection) = (&view.identity, &view.connection);
    Device {
        device_id: identity.id.device.to_string(),
        generation_id: identity.generation.clone(),
        etag: identity.etag().to_string(),
        connection_state: connection.state().into(),
        status: identity.status.as_str().into(),
        status_reason: identity.status_reason.clone(),
        connection_state_updated_time: connection.changed.to_string(),
        status_updated_time: identity.status_updated.to_string(),
        last_activity_time: connection.last_activity.to_string(),
        cloud_to_device_message_count: 0,
        authentication: authentication(&identity.authentication),
        capabilities: Capabilities { iot_edge: identity.edge },
        device_scope: identity.device_scope.clone(),
        parent_scopes: identity.parent_scopes.clone(),
    }
}

/// A line of an export (S 3).
pub fn export_item(view: &TwinView, with_keys: bool) -> ExportItem {
    let (identity, twin) = (&view.identity, &view.twin);
    let is_device = !identity.id.is_module();
    let mut authentication = authentication(&identity.authentication);
    if !with_keys {
        authentication.symmetric_key = Some(SymmetricKey::default());
    }
    ExportItem {
        id: identity.id.device.to_string(),
        module_id: identity.id.module.as_ref().map(ToString::to_string),
        etag: identity.etag().to_string(),
        status: is_device.then(|| identity.status.as_str().into()),
        status_reason: identity.status_reason.clone(),
        authentication,
        twin_etag: twin.etag().to_string(),
        tags: (!twin.tags.is_empty()).then(|| twin.tags.clone().into()),
        properties: TwinProperties {
            desired: twin.desired.to_service_json().into(),
            reported: twin.reported.to_service_json().into(),
        },
        capabilities: is_device.then_some(Capabilities { iot_edge: identity.edge }),
        device_scope: identity.device_scope.clone(),
        parent_scopes: identity.parent_scopes.clone(),
        managed_by: identity.managed_by.clone(),
    }
}

/// The same with its end, behind others.
pub fn export_line(view: &TwinView, with_keys: bool, text: &mut Vec<u8>) {
    line(&export_item(view, with_keys), text);
}

/// A value on a line of its own, behind others.
pub fn line(value: &impl serde::Serialize, text: &mut Vec<u8>) {
    serde_json::to_writer(&mut *text, value).expect("lines have text keys and go to memory");
    text.push(b'\n');
}

/// A module's registry entry.
pub fn module(view: &IdentityView) -> Module {
    let (identity, connection) = (&view.identity, &view.connection);
    Module {
        module_id: identity.id.module.as_ref().map(ToString::to_string).unwrap_or_default(),
        managed_by: identity.managed_by.clone(),
        device_id: identity.id.device.to_string(),
        generation_id: identity.generation.clone(),
        etag: identity.etag().to_string(),
        connection_state: connection.state().into(),
        connection_state_updated_time: connection.changed.to_string(),
        last_activity_time: connection.last_activity.to_string(),
        cloud_to_device_message_count: 0,
        authentication: authentication(&identity.authentication),
    }
}

/// The data of a server-sent event: one line.
pub fn event_data(data: &impl serde::Serialize) -> String {
    serde_json::to_string(data).expect("it has text keys and goes to memory")
}

/// One event.
pub fn event(event: Event) -> EventBody {
    let mut body = EventBody {
        source: event.kind.source().as_str().into(),
        time: event.time.to_string(),
        device_id: event.id.device.to_string(),
        module_id: event.id.module.as_ref().map(ToString::to_string),
        operation: event.kind.operation().map(String::from),
        system_properties: None,
        properties: None,
        body: None,
        actor: None,
        changes: None,
        more_changes: false,
        body_base64: None,
    };
    match event.kind {
        EventKind::Telemetry(message) => telemetry(&mut body, message),
        EventKind::Twin { body: change, actor: by, changes, .. } => {
            body.body = Some(change);
            // An older hub noted neither.
            body.changes = by.is_some().then(|| changes.paths.into_iter().map(path_change).collect());
            body.more_changes = changes.more;
            body.actor = by.as_ref().map(actor);
        }
        EventKind::Lifecycle { body: told, actor: by, .. } => {
            body.body = Some(told.document(&event.id));
            body.actor = by.as_ref().map(actor);
        }
        EventKind::Connection { .. } => {}
        EventKind::Override { gates_of, reason, closed, actor: by } => {
            let mut told = json!({ "reason": reason, "closed": closed });
            match gates_of {
                GatesOf::Job(id) => told["jobId"] = id.as_str().into(),
                GatesOf::Configuration(id) => told["configurationId"] = id.as_str().into(),
            }
            body.body = Some(told);
            body.actor = Some(actor(&by));
        }
    }
    body
}

fn actor(actor: &Actor) -> hub_api::event::Actor {
    hub_api::event::Actor { kind: actor.kind().into(), name: actor.name() }
}

fn path_change(change: PathChange) -> hub_api::event::Change {
    hub_api::event::Change {
        path: change.path,
        before: change.before.unwrap_or_default(),
        after: change.after.unwrap_or_default(),
        configuration: change.configuration.map(|id| id.to_string()),
    }
}

fn telemetry(event: &mut EventBody, message: Message) {
    let is_json =
        message.system_property("content-type").is_some_and(|kind| kind.starts_with("application/json"));
    match serde_json::from_slice(&message.body) {
        Ok(body) if is_json => event.body = Some(body),
        _ => event.body_base64 = Some(BASE64.encode(&message.body)),
    }
    event.system_properties = Some(message.system.into_iter().collect());
    event.properties = Some(message.properties.into_iter().collect());
}

/// The hub's numbers.
pub fn status(status: HubStatus, ready: bool) -> hub_api::status::Status {
    hub_api::status::Status {
        ready,
        version: status.version.into(),
        hostname: status.hostname,
        started_at: status.started.to_string(),
        now: status.now.to_string(),
        devices: status.devices,
        devices_enabled: status.devices_enabled,
        modules: status.modules,
        connected: status.connected,
        commits: status.commits,
        events_end: status.events_end.to_string(),
        store_bytes: status.store_bytes,
        telemetry_messages: status.telemetry_messages,
        reported_patches: status.reported_patches,
        method_calls: status.method_calls,
        method_answers_ignored: status.method_answers_ignored,
        queries: status.queries,
        index: hub_api::status::Index {
            bytes: status.index.bytes,
            twins_bytes: status.index.twins_bytes,
            paths_indexed: status.index.paths_indexed,
            paths_not_indexed: status.index.paths_not_indexed,
            twins_not_indexed: status.index.twins_marked,
            paths: status
                .index
                .paths
                .into_iter()
                .map(|path| hub_api::status::IndexPath {
                    path: path.path,
                    twins: path.rows,
                    bytes: path.bytes,
                    is_indexed: path.is_indexed,
                })
                .collect(),
        },
        configurations: status.configurations,
        configurations_misfit: status.configurations_misfit,
        configuration_repairs: status.configuration_repairs,
    }
}

/// An artifact.
pub fn artifact(artifact: &hub_domain::artifact::Artifact) -> hub_api::artifact::Artifact {
    hub_api::artifact::Artifact {
        sha256: artifact.digest.to_string(),
        name: artifact.name.clone(),
        bytes: artifact.bytes,
        added_at: artifact.added.to_string(),
    }
}
