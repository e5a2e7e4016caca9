//! Direct methods: a request to a live device and its answer. Never stored (S 5, D 5).

use std::fmt;
use std::time::Duration;

use crate::limits::{
    METHOD_CONNECT_MAX, METHOD_NAME_CHARS_MAX, METHOD_PAYLOAD_BYTES_MAX, METHOD_RESPONSE_DEFAULT,
    METHOD_RESPONSE_MAX, METHOD_RESPONSE_MIN,
};

/// A checked request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodCall {
    /// Case-sensitive.
    pub name: String,
    /// JSON text, passed on byte for byte; `null` if the caller gave none.
    pub payload: String,
    /// How long the device has to answer.
    pub response_timeout: Duration,
    /// How long to wait for an offline device first.
    pub connect_timeout: Duration,
}

/// What a device answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodResult {
    /// The device's own status.
    pub status: i32,
    /// JSON text; `null` if the device gave none.
    pub payload: String,
}

impl MethodResult {
    /// Whether the device says that it did it.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// What is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MethodError(String);

impl fmt::Display for MethodError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for MethodError {}

impl MethodCall {
    /// Checks a request. Times are in seconds; `payload` is JSON text.
    pub fn new(
        name: &str,
        payload: Option<String>,
        response_seconds: Option<u64>,
        connect_seconds: Option<u64>,
    ) -> Result<Self, MethodError> {
        check_name(name)?;
        let payload = payload.filter(|text| !text.is_empty()).unwrap_or_else(|| "null".into());
        if payload.len() > METHOD_PAYLOAD_BYTES_MAX {
            return Err(MethodError(format!(
                "the payload has {} bytes, at most {METHOD_PAYLOAD_BYTES_MAX} are allowed",
                payload.len()
            )));
        }
        let response_timeout = response_seconds.map_or(METHOD_RESPONSE_DEFAULT, Duration::from_secs);
        within("responseTimeoutInSeconds", response_timeout, METHOD_RESPONSE_MIN, METHOD_RESPONSE_MAX)?;
        let connect_timeout = Duration::from_secs(connect_seconds.unwrap_or(0));
        within("connectTimeoutInSeconds", connect_timeout, Duration::ZERO, METHOD_CONNECT_MAX)?;
        Ok(Self { name: name.into(), payload, response_timeout, connect_timeout })
    }
}

/// Printable ASCII less the separators that HTTP excludes from tokens (D 5.2); the name is part of a topic.
fn check_name(name: &str) -> Result<(), MethodError> {
    let chars = name.chars().count();
    if chars == 0 || chars > METHOD_NAME_CHARS_MAX {
        return Err(MethodError(format!(
            "methodName has {chars} characters, it needs 1 to {METHOD_NAME_CHARS_MAX}"
        )));
    }
    match name.chars().find(|c| !c.is_ascii_graphic() || "$()<>@,;:\\\"/[]?={}#+%".contains(*c)) {
        Some(c) => Err(MethodError(format!(
            "methodName contains {c:?}; allowed are ASCII letters, digits and the marks ! & ' * - . ^ _ ` | ~"
        ))),
        None => Ok(()),
    }
}

fn within(what: &str, value: Duration, min: Duration, max: Duration) -> Result<(), MethodError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(MethodError(format!("{what} must be within [{}; {}].", min.as_secs(), max.as_secs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_checked() {
        let call = MethodCall::new("thermostat*reboot", None, None, None).expect("valid");
        assert_eq!((call.payload.as_str(), call.response_timeout), ("null", Duration::from_secs(30)));
        let refused = |name: &str, payload: Option<String>, response, connect| {
            MethodCall::new(name, payload, response, connect).expect_err("must be refused").to_string()
        };
        assert!(refused("", None, None, None).contains("methodName"));
        assert!(refused("a b", None, None, None).contains("' '"));
        assert!(refused("a/b", None, None, None).contains("'/'"));
        assert!(refused("ü", None, None, None).contains("methodName"));
        assert!(refused("a", Some("x".repeat(131_073)), None, None).contains("131072"));
        assert_eq!(refused("a", None, Some(4), None), "responseTimeoutInSeconds must be within [5; 300].");
        assert_eq!(refused("a", None, Some(301), None), "responseTimeoutInSeconds must be within [5; 300].");
        assert_eq!(refused("a", None, None, Some(301)), "connectTimeoutInSeconds must be within [0; 300].");
    }
}
