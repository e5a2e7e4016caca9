//! The engine's errors in HTTP's words: one table without a wildcard, and the bodies as the SDKs parse them (S 1.6).

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hub_domain::configuration::Problem;
use hub_engine::Error;
use hub_engine::clock::{Clock, SystemClock, random_bytes};
use serde_json::{Value, json};

/// An error as a route answers it.
#[derive(Debug)]
pub struct ApiError {
    status: u16,
    code: u32,
    name: &'static str,
    message: String,
    shape: Shape,
}

/// The two shapes of error bodies (S 1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// `ErrorCode:Name;text`: everywhere but.
    Text,
    /// A JSON text within: direct methods and digital twin commands.
    Nested,
}

impl ApiError {
    /// 400 with a code of the catalogue.
    pub fn bad(code: u32, name: &'static str, message: impl Into<String>) -> Self {
        Self { status: (code / 1000) as u16, code, name, message: message.into(), shape: Shape::Text }
    }

    /// 400: something in the request breaks a rule.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::bad(400_004, "ArgumentInvalid", message)
    }

    /// 404: an operation of the service that this hub does not have yet.
    pub fn not_yet(operation: &str) -> Self {
        Self::bad(404_013, "FeatureNotSupported", format!("{operation} is not supported by this hub yet"))
    }

    /// In the shape of direct methods.
    pub fn nested(mut self) -> Self {
        self.shape = Shape::Nested;
        self
    }

    /// The error's name, for items of bulk results.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The number of the error, for lines of a log.
    pub fn code(&self) -> u32 {
        self.code
    }

    /// Its words, for items of bulk results.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// The number and the name of an error, without a wildcard.
pub fn code(error: &Error) -> (u32, &'static str) {
    match error {
        Error::Unauthenticated(_) => (401_003, "IotHubUnauthorized"),
        Error::Forbidden(_) => (401_002, "IotHubUnauthorizedAccess"),
        Error::Disabled(_) => (403_012, "DeviceDisabled"),
        Error::DeviceNotFound(_) => (404_001, "DeviceNotFound"),
        Error::ModuleNotFound(_) => (404_010, "ModuleNotFound"),
        Error::PolicyNotFound(_) | Error::ArtifactNotFound(_) => (404_000, "GenericNotFound"),
        Error::RetirementNotFound(_) => (404_000, "GenericNotFound"),
        Error::Retired { .. } => (409_000, "DeviceRetired"),
        Error::Conflict(_) => (409_000, "GenericConflict"),
        Error::Gone(_) => (410_000, "GenericGone"),
        Error::ConfigurationNotFound(_) => (404_301, "ConfigurationNotFound"),
        Error::ConfigurationExists(_) => (409_401, "ConfigurationAlreadyExists"),
        Error::TooManyConfigurations => (413_101, "ConfigurationCountLimitExceeded"),
        Error::Configuration(error) => match error.problem {
            Problem::Field => (400_004, "ArgumentInvalid"),
            Problem::Content => (400_402, "InvalidConfigurationContent"),
            Problem::ImmutableContent => (400_403, "CannotModifyImmutableConfigurationContent"),
            Problem::TargetCondition => (400_401, "InvalidConfigurationTargetCondition"),
            Problem::MetricQuery => (400_404, "InvalidConfigurationCustomMetricsQuery"),
        },
        Error::JobNotFound(_) => (404_002, "JobNotFound"),
        Error::JobTargetNotFound { .. } => (404_000, "GenericNotFound"),
        Error::JobExists(_) => (409_104, "JobAlreadyExists"),
        Error::JobOver { .. } => (409_000, "GenericConflict"),
        Error::TooManyTransfers => (403_003, "JobQuotaExceeded"),
        Error::Container(_) => (400_008, "BlobContainerValidationError"),
        Error::DeviceExists(_) => (409_001, "DeviceAlreadyExists"),
        Error::ModuleExists(_) => (409_301, "ModuleAlreadyExistsOnDevice"),
        Error::PreconditionFailed => (412_001, "PreconditionFailed"),
        Error::Invalid(_) | Error::InvalidContinuation => (400_004, "ArgumentInvalid"),
        Error::TooLarge(_) => (413_001, "MessageTooLarge"),
        Error::TooManyModules(_) => (413_003, "TooManyModulesOnDevice"),
        Error::TooManyDevices(_) => (413_002, "TooManyDevices"),
        Error::DeviceOffline { .. } => (404_103, "DeviceNotOnline"),
        Error::DeviceGone => (404_104, "DeviceConnectionClosedRemotely"),
        Error::TimedOut { .. } => (504_101, "GatewayTimeout"),
        Error::TooManyCalls(_) => (403_800, "DeviceMaximumInflightMethodExceeded"),
        Error::Throttled(_) => (429_001, "ThrottlingException"),
        Error::PositionGone { .. } => (410_000, "GenericGone"),
        Error::Contended(_) => (503_005, "ServerBusy"),
        Error::Unavailable(_) => (503_001, "ServiceUnavailable"),
        Error::Internal(_) => (500_001, "ServerError"),
    }
}

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        let (code, name) = code(&error);
        if let Error::Internal(text) = &error {
            tracing::error!(text, "a request ended with an internal error");
        }
        Self { status: (code / 1000) as u16, code, name, message: error.to_string(), shape: Shape::Text }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A new id by which an answer can be found again.
pub fn request_id() -> String {
    hex(&random_bytes::<16>())
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let now = SystemClock.now();
        let stamp = now.to_string();
        let (date, time) = (stamp.get(..10).unwrap_or_default(), stamp.get(11..19).unwrap_or_default());
        let mut parts = date.split('-');
        let (year, month, day) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        let tracking = format!("{}-G:0-TimeStamp:{month}/{day}/{year} {time}", request_id());
        let body: Value = match self.shape {
            Shape::Text => json!({
                "Message": format!("ErrorCode:{};{}", self.name, self.message),
                "ExceptionMessage": format!("Tracking ID:{tracking}"),
            }),
            Shape::Nested => {
                let inner = json!({
                    "errorCode": self.code, "trackingId": tracking, "message": self.message, "timestampUtc": stamp,
                });
                json!({ "Message": inner.to_string(), "ExceptionMessage": "" })
            }
        };
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, json_body(&body)).into_response();
        let headers = response.headers_mut();
        headers.insert(HeaderName::from_static("iothub-errorcode"), HeaderValue::from_static(self.name));
        if self.status == 429 || self.status == 503 {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
        }
        response
    }
}

/// A JSON body with the content type that the service sends.
pub fn json_body(body: &Value) -> impl IntoResponse + use<> {
    ([(header::CONTENT_TYPE, "application/json; charset=utf-8")], body.to_string())
}
