//! Requests to domain values: pure, one direction.

pub mod retirement;
pub mod rollout;

use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::IF_MATCH;
use hub_api::bulk::ImportItem;
use hub_api::identity::{Authentication, IdentityWrite};
use hub_api::job::{JobRequest, JobTwin};
use hub_api::method::MethodRequest;
use hub_api::query::QueryRequest;
use hub_api::transfer::JobProperties;
use hub_api::twin::{TwinPropertiesWrite, TwinWrite};
use hub_domain::configuration::{ConfigurationSpec, Content};
use hub_domain::id::{ConfigurationId, DeviceId, IdError, JobId, TwinId};
use hub_domain::identity::{AuthenticationSpec, IdentitySpec, Status};
use hub_domain::job::{JobAction, Management, NewJob, RETIRE};
use hub_domain::method::MethodCall;
use hub_domain::query::QUERY_TEXT_CHARS_MAX;
use hub_domain::time::Timestamp;
use hub_domain::transfer::TransferKind;
use hub_domain::twin::{SectionRecord, TwinPatch, TwinRecord, TwinUpdate};
use hub_domain::version::Precondition;
use hub_engine::bulk::{self, BulkAction};
use hub_engine::configurations::preview::PreviewRequest;
use hub_engine::transfers::NewTransfer;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::{CONTAINER_URL_BYTES_MAX, PREVIEW_TWINS_DEFAULT, PREVIEW_TWINS_MAX};
use crate::status::ApiError;

impl From<IdError> for ApiError {
    fn from(error: IdError) -> Self {
        ApiError::invalid(error.to_string())
    }
}

/// A body that is a JSON object. Looked at first, since the derived readers take a list of the members as well.
pub fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    match body.trim_ascii_start().first() {
        Some(b'{') => read(body),
        Some(_) => Err(ApiError::bad(400_006, "IotHubFormatError", "the body is not a JSON object")),
        None => Err(ApiError::bad(400_005, "ArgumentNull", "the body is empty; a JSON object is expected")),
    }
}

/// A body that is a JSON object, or empty where everything in it is optional.
pub fn json_or_none<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, ApiError> {
    if body.trim_ascii().is_empty() { Ok(T::default()) } else { json(body) }
}

/// A body that is a JSON array.
pub fn json_list<T: DeserializeOwned>(body: &[u8]) -> Result<Vec<T>, ApiError> {
    read(body)
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let wrong = |text: String| ApiError::bad(400_006, "IotHubFormatError", text);
    // Looked at first, since members that are not known are passed over without a look at their bytes.
    let text = std::str::from_utf8(body).map_err(|error| wrong(format!("the body is not UTF-8: {error}")))?;
    serde_json::from_str(text).map_err(|error| wrong(format!("the body is not as expected: {error}")))
}

/// What a query is written in.
pub enum Asked {
    /// The query language.
    Text(String),
    /// The JSON query of the first edition.
    Document(Value),
}

/// The query of a body, or that for devices with `tags`.
pub fn query(body: &[u8], tags: Option<&str>) -> Result<Asked, ApiError> {
    if let Some(tags) = tags {
        if !body.trim_ascii().is_empty() {
            return Err(ApiError::invalid(
                "the parameter tags and a body are two queries: leave one of them out",
            ));
        }
        return Ok(Asked::Document(tags.split(',').collect()));
    }
    if body.trim_ascii_start().starts_with(b"[") {
        let tags: Vec<String> = json_list(body)?;
        if tags.is_empty() {
            let text = "the body is an empty list; expected the tags that devices must carry, or an object";
            return Err(ApiError::bad(400_006, "IotHubFormatError", text));
        }
        return Ok(Asked::Document(tags.into()));
    }
    let request: QueryRequest = json(body)?;
    let QueryRequest { query, filter, project, aggregate, sort } = &request;
    let is_document = [filter, project, aggregate, sort].iter().any(|member| member.is_some());
    match query {
        Some(_) if is_document => {
            Err(ApiError::invalid("'query' stands alone: leave out filter, project, aggregate and sort"))
        }
        Some(text) => Ok(Asked::Text(text.clone())),
        None => match read(body)? {
            Value::Object(mut document) if document.len() > usize::from(document.contains_key("query")) => {
                document.remove("query");
                Ok(Asked::Document(Value::Object(document)))
            }
            _ => Err(ApiError::bad(400_005, "ArgumentNull", "the body has no member 'query'")),
        },
    }
}

/// The ids of a path.
pub fn twin_id(device: &str, module: Option<&str>) -> Result<TwinId, ApiError> {
    Ok(TwinId::parse(device, module)?)
}

/// The id of a device's path.
pub fn device_id(device: &str) -> Result<DeviceId, ApiError> {
    Ok(DeviceId::parse(device)?)
}

/// The text of a header that decides what is done: never passed over because it cannot be read or is there twice.
pub fn header<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(ApiError::invalid(format!("the header {name} is there more than once")));
    }
    let text = value.to_str().map_err(|_| ApiError::invalid(format!("the header {name} is not ASCII text")));
    text.map(Some)
}

/// The `If-Match` header.
pub fn precondition(headers: &HeaderMap) -> Result<Precondition, ApiError> {
    header(headers, IF_MATCH.as_str()).map(Precondition::parse)
}

/// The id in a body must be that of the path, if it is given.
pub fn same_id(what: &str, path: &str, body: Option<&str>) -> Result<(), ApiError> {
    match body.filter(|body| *body != path) {
        Some(body) => {
            Err(ApiError::invalid(format!("{what} '{body}' in the body is not '{path}' of the path")))
        }
        None => Ok(()),
    }
}

fn status(text: Option<&str>) -> Result<Option<Status>, ApiError> {
    let parse = |text: &str| {
        let known = Status::parse(&text.to_ascii_lowercase());
        known.ok_or_else(|| {
            ApiError::invalid(format!("status '{text}' is not known; expected enabled or disabled"))
        })
    };
    text.map(parse).transpose()
}

fn authentication(given: Option<Authentication>) -> AuthenticationSpec {
    let given = given.unwrap_or_default();
    let (keys, prints) = (given.symmetric_key.unwrap_or_default(), given.x509_thumbprint.unwrap_or_default());
    AuthenticationSpec {
        kind: given.r#type,
        primary_key: keys.primary_key,
        secondary_key: keys.secondary_key,
        primary_thumbprint: prints.primary_thumbprint,
        secondary_thumbprint: prints.secondary_thumbprint,
    }
}

/// A device's body as what the caller wants.
pub fn device(body: IdentityWrite) -> Result<IdentitySpec, ApiError> {
    Ok(IdentitySpec {
        status: status(body.status.as_deref())?,
        status_reason: body.status_reason,
        authentication: authentication(body.authentication),
        managed_by: None,
        edge: body.capabilities.unwrap_or_default().iot_edge,
        device_scope: body.device_scope,
        parent_scopes: body.parent_scopes.unwrap_or_default(),
    })
}

/// A module's body as what the caller wants.
pub fn module(body: IdentityWrite) -> IdentitySpec {
    IdentitySpec {
        authentication: authentication(body.authentication),
        managed_by: body.managed_by,
        ..IdentitySpec::default()
    }
}

fn patch(what: &str, value: Value) -> Result<TwinPatch, ApiError> {
    TwinPatch::from_value(value).map_err(|error| ApiError::invalid(format!("{what}: {error}")))
}

/// A twin write; sections that are missing or null stay as they are.
pub fn twin_update(body: TwinWrite) -> Result<TwinUpdate, ApiError> {
    let given = |value: Option<Value>| value.filter(|value| !value.is_null());
    let desired = given(body.properties.unwrap_or_default().desired);
    Ok(TwinUpdate {
        tags: given(body.tags).map(|tags| patch("tags", tags)).transpose()?,
        desired: desired.map(|desired| patch("properties.desired", desired)).transpose()?,
    })
}

/// A method's request.
pub fn method(body: MethodRequest) -> Result<MethodCall, ApiError> {
    let name =
        body.method_name.ok_or_else(|| ApiError::bad(400_005, "ArgumentNull", "methodName is missing"))?;
    // What is below zero is out of range like what is too large.
    let seconds = |given: Option<i64>| given.map(|seconds| u64::try_from(seconds).unwrap_or(u64::MAX));
    let (response, connect) =
        (seconds(body.response_timeout_in_seconds), seconds(body.connect_timeout_in_seconds));
    let payload = body.payload.map(|payload| payload.get().to_string());
    MethodCall::new(&name, payload, response, connect).map_err(|error| ApiError::invalid(error.to_string()))
}

/// The name of a job's path.
pub fn job_id(id: &str) -> Result<JobId, ApiError> {
    Ok(JobId::parse(id)?)
}

/// An import or export job's request (S 3).
pub fn transfer(body: JobProperties) -> Result<NewTransfer, ApiError> {
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let container = |field: &str, url: Option<String>| match given(url) {
        Some(url) if url.len() > CONTAINER_URL_BYTES_MAX => {
            Err(ApiError::invalid(format!("{field} is longer than {CONTAINER_URL_BYTES_MAX} bytes")))
        }
        Some(url) => Ok(url),
        None => Err(missing(field)),
    };
    let kind = given(body.r#type).ok_or_else(|| missing("type"))?;
    let kind = TransferKind::parse(&kind).ok_or_else(|| {
        ApiError::invalid(format!("type '{kind}' cannot be created here; expected import or export"))
    })?;
    match given(body.storage_authentication_type).as_deref() {
        None => {}
        Some(kind) if kind.eq_ignore_ascii_case("keyBased") => {}
        Some(kind) if kind.eq_ignore_ascii_case("identityBased") => {
            let text = "this hub has no identity in a cloud: use keyBased and a URL with an access signature";
            return Err(ApiError::bad(400_032, "ManagedIdentityNotEnabled", text));
        }
        Some(other) => {
            let text = format!("storageAuthenticationType '{other}' is not known; expected keyBased");
            return Err(ApiError::invalid(text));
        }
    }
    let input = (kind == TransferKind::Import)
        .then(|| container("inputBlobContainerUri", body.input_blob_container_uri))
        .transpose()?;
    let name = |name: Option<String>, default: &str| given(name).unwrap_or_else(|| default.to_owned());
    let configurations = body.include_configurations.unwrap_or(false);
    Ok(NewTransfer {
        kind,
        input,
        input_blob: name(body.input_blob_name, "devices.txt"),
        output: container("outputBlobContainerUri", body.output_blob_container_uri)?,
        output_blob: name(body.output_blob_name, "devices.txt"),
        exclude_keys: body.exclude_keys_in_export.unwrap_or(false),
        configurations: configurations.then(|| name(body.configurations_blob_name, "configurations.txt")),
    })
}

fn missing(what: &str) -> ApiError {
    ApiError::bad(400_005, "ArgumentNull", format!("{what} is missing"))
}

/// What a job does to each target.
fn job_action(body: &mut JobRequest) -> Result<JobAction, ApiError> {
    let kind = body.r#type.as_deref().ok_or_else(|| missing("type"))?;
    let wait_for_devices = body.wait_for_devices.unwrap_or(false);
    Ok(match kind.to_ascii_lowercase().as_str() {
        "scheduleupdatetwin" => {
            JobAction::PatchTwin(job_twin(body.update_twin.take().ok_or_else(|| missing("updateTwin"))?)?)
        }
        "scheduledevicemethod" => {
            let call = body.cloud_to_device_method.take();
            let call = method(call.ok_or_else(|| missing("cloudToDeviceMethod"))?)?;
            JobAction::CallMethod { call, wait_for_devices }
        }
        known if known.eq_ignore_ascii_case(RETIRE) => {
            let request = retirement::parameters(body.parameters.take())?;
            JobAction::Retire { request, wait_for_devices }
        }
        _ => {
            let parameters = body.parameters.take().unwrap_or_default();
            let management = Management::parse(kind, &parameters).ok_or_else(|| {
                let ours = Management::KINDS.join(", ");
                let text = format!(
                    "type '{kind}' is not known; there are scheduleDeviceMethod, scheduleUpdateTwin, {RETIRE}, {ours}"
                );
                ApiError::bad(400_000, "GenericBadRequest", text)
            })?;
            let management = management.map_err(|error| ApiError::invalid(error.to_string()))?;
            JobAction::Manage { management, wait_for_devices }
        }
    })
}

/// A job's request.
pub fn job(id: &str, mut body: JobRequest) -> Result<NewJob, ApiError> {
    same_id("jobId", id, body.job_id.as_deref())?;
    let action = job_action(&mut body)?;
    let roll_back = body.roll_back.take().map(|mut undo| job_action(&mut undo)).transpose()?;
    let start = body.start_time.as_deref().filter(|text| !text.is_empty()).map(|text| {
        let parsed = Timestamp::parse(text);
        parsed.ok_or_else(|| {
            ApiError::invalid(format!(
                "startTime '{text}' is no time; expected one like 2030-12-31T23:59:59Z"
            ))
        })
    });
    let (condition, listed) = match (body.query_condition, body.devices) {
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid("queryCondition and devices exclude each other: give one of them"));
        }
        (None, None) => return Err(missing("queryCondition")),
        (Some(condition), None) => (condition, None),
        (None, Some(ids)) => {
            let ids = ids.iter().map(|id| device_id(id)).collect::<Result<_, _>>()?;
            ("*".to_owned(), Some(ids))
        }
    };
    if condition.chars().nth(QUERY_TEXT_CHARS_MAX).is_some() {
        // To this alone of what is wrong with a condition the service answers so (S 6).
        let text =
            format!("queryCondition is too long: at most {QUERY_TEXT_CHARS_MAX} characters are allowed");
        return Err(ApiError::bad(412_001, "PreconditionFailed", text));
    }
    // What is below zero is out of range like zero.
    let seconds = |seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    Ok(NewJob {
        id: job_id(id)?,
        action,
        condition,
        listed,
        start: start.transpose()?,
        execution_max: body.max_execution_time_in_seconds.map(seconds),
        device_timeout: body.device_timeout_in_seconds.map(seconds),
        rollout: rollout::policy(body.rollout)?,
        gates: rollout::gates(body.gates)?,
        roll_back,
    })
}

fn job_twin(body: JobTwin) -> Result<TwinUpdate, ApiError> {
    match body.etag.as_deref().map(|etag| etag.trim_matches('"')) {
        Some("*") => twin_update(body.twin),
        _ => Err(ApiError::invalid(
            "Missing or invalid etag for job type ScheduleUpdateTwin: updateTwin.etag must be \"*\"",
        )),
    }
}

/// The name of a configuration's path.
pub fn configuration_id(id: &str) -> Result<ConfigurationId, ApiError> {
    Ok(ConfigurationId::parse(id)?)
}

/// A configuration's body.
pub fn configuration(id: &str, body: &Value) -> Result<ConfigurationSpec, ApiError> {
    Ok(ConfigurationSpec::parse(configuration_id(id)?, body).map_err(hub_engine::Error::from)?)
}

/// What a configuration writes.
pub fn configuration_content(body: &Value) -> Result<Content, ApiError> {
    Ok(Content::parse(body).map_err(hub_engine::Error::from)?)
}

/// What a dry run of configurations is asked about.
pub fn preview(body: hub_api::preview::PreviewRequest) -> Result<PreviewRequest, ApiError> {
    let put = body.configurations.iter().map(|configuration| {
        let id = configuration["id"].as_str();
        let id = id.ok_or_else(|| ApiError::bad(400_005, "ArgumentNull", "a configuration has no id"))?;
        let spec = ConfigurationSpec::parse(ConfigurationId::parse(id)?, configuration);
        spec.map_err(|error| ApiError::from(hub_engine::Error::from(error)))
    });
    let remove = body.remove.iter().map(|id| Ok(ConfigurationId::parse(id)?));
    let shown_max = body.top.unwrap_or(PREVIEW_TWINS_DEFAULT);
    if shown_max > PREVIEW_TWINS_MAX {
        return Err(ApiError::invalid(format!("top is {shown_max}, it may be at most {PREVIEW_TWINS_MAX}")));
    }
    Ok(PreviewRequest {
        put: put.collect::<Result<_, ApiError>>()?,
        remove: remove.collect::<Result<_, ApiError>>()?,
        shown_max,
    })
}

/// One item of a bulk request (S 2.5, 3).
pub fn bulk_item(item: ImportItem) -> Result<bulk::BulkItem, ApiError> {
    let id = twin_id(&item.id, item.module_id.as_deref().filter(|module| !module.is_empty()))?;
    let given = item.import_mode.as_deref().unwrap_or("createOrUpdate");
    let mode = given.to_ascii_lowercase();
    let with_etag = mode.ends_with("ifmatchetag");
    let demand = |field: &str, etag: &Option<String>| match Precondition::parse(etag.as_deref()) {
        _ if !with_etag => Ok(Precondition::Exists),
        Precondition::None => {
            Err(ApiError::bad(400_005, "ArgumentNull", format!("{field} is missing, which {given} compares")))
        }
        demand => Ok(demand),
    };
    let precondition = || demand("eTag", &item.etag);
    // A twin's etag in a device mode is compared whenever it is given (S 3).
    let twin_precondition = match item.twin_etag.as_deref() {
        Some(etag) if !mode.starts_with("create") || with_etag => Precondition::parse(Some(etag)),
        _ => Precondition::Exists,
    };
    let properties =
        TwinPropertiesWrite { desired: item.properties.and_then(|properties| properties.desired) };
    let twin = twin_update(TwinWrite { tags: item.tags, properties: Some(properties) })?;
    let spec = || -> Result<IdentitySpec, ApiError> {
        Ok(IdentitySpec {
            status: status(item.status.as_deref())?,
            status_reason: item.status_reason.clone(),
            authentication: authentication(item.authentication.clone()),
            managed_by: item.managed_by.clone(),
            edge: item.capabilities.clone().unwrap_or_default().iot_edge,
            device_scope: item.device_scope.clone(),
            parent_scopes: item.parent_scopes.clone().unwrap_or_default(),
        })
    };
    let action = match mode.as_str() {
        "create" => BulkAction::Create { spec: spec()?, twin },
        "update" | "updateifmatchetag" => {
            BulkAction::Update { spec: spec()?, twin, precondition: precondition()?, twin_precondition }
        }
        // What is there matches no etag that is not given.
        "createorupdateifmatchetag" if precondition().is_err() => BulkAction::Create { spec: spec()?, twin },
        "createorupdate" | "createorupdateifmatchetag" => BulkAction::CreateOrUpdate {
            spec: spec()?,
            twin,
            precondition: precondition()?,
            twin_precondition,
        },
        "delete" | "deleteifmatchetag" => BulkAction::Delete { precondition: precondition()? },
        "updatetwin" | "updatetwinifmatchetag" => {
            BulkAction::UpdateTwin { twin, precondition: demand("twinETag", &item.twin_etag)? }
        }
        _ => return Err(unknown_mode(given)),
    };
    Ok(bulk::BulkItem { id, action, record: None })
}

/// The modes of S 3, in lower case.
const IMPORT_MODES: [&str; 9] = [
    "create",
    "update",
    "updateifmatchetag",
    "createorupdate",
    "createorupdateifmatchetag",
    "delete",
    "deleteifmatchetag",
    "updatetwin",
    "updatetwinifmatchetag",
];

fn unknown_mode(given: &str) -> ApiError {
    ApiError::invalid(format!(
        "importMode '{given}' is not known; expected create, update, createOrUpdate, delete or updateTwin, or one of the last four or update with IfMatchETag"
    ))
}

/// Checks the name of an import mode.
pub fn import_mode(given: &str) -> Result<(), ApiError> {
    let known = IMPORT_MODES.contains(&given.to_ascii_lowercase().as_str());
    if known { Ok(()) } else { Err(unknown_mode(given)) }
}

/// A line that holds a JSON object.
pub fn line<T: DeserializeOwned>(text: &[u8]) -> Result<T, ApiError> {
    let wrong = |problem: String| ApiError::bad(400_006, "IotHubFormatError", problem);
    let text = std::str::from_utf8(text).map_err(|error| wrong(format!("the line is not UTF-8: {error}")))?;
    serde_json::from_str(text).map_err(|error| {
        let text = error.to_string();
        let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
        wrong(format!("the line is not as expected at column {}: {what}", error.column()))
    })
}

/// A line of an import, and `mode` for one that says none; an error tells whose line it is, as far as it can be read.
pub fn import_line(text: &[u8], mode: Option<&str>) -> Result<bulk::BulkItem, ((String, String), ApiError)> {
    let mut item: ImportItem = line(text).map_err(|error| (Default::default(), error))?;
    if item.import_mode.is_none() {
        item.import_mode = mode.map(String::from);
    }
    let name = bulk_name(&item);
    import_item(item).map_err(|error| (name, error))
}

/// Device and module, as an item names them.
pub fn bulk_name(item: &ImportItem) -> (String, String) {
    (item.id.clone(), item.module_id.clone().unwrap_or_default())
}

/// The item of a line, with what the line records of the twin.
fn import_item(mut item: ImportItem) -> Result<bulk::BulkItem, ApiError> {
    let mut record = TwinRecord::default();
    if let Some(properties) = &mut item.properties {
        if let Some(Value::Object(desired)) = &mut properties.desired {
            record.desired = SectionRecord::take(desired);
        }
        if let Some(mut reported) = properties.reported.take().filter(|value| !value.is_null()) {
            if let Value::Object(reported) = &mut reported {
                record.reported = SectionRecord::take(reported);
            }
            record.reported_values = Some(patch("properties.reported", reported)?);
        }
    }
    let record = Some(Box::new(record)).filter(|record| **record != TwinRecord::default());
    Ok(bulk::BulkItem { record, ..bulk_item(item)? })
}
