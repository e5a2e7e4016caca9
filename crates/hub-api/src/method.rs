//! Direct methods (S 5). Payloads are kept as the text they came in: devices get the bytes that the caller sent.
//! Times come as JSON numbers from the SDKs and as numeric texts from the Azure CLI.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// A call.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MethodRequest {
    /// Case-sensitive.
    pub method_name: Option<String>,
    /// Any JSON; `null` if missing. At most 128 KB.
    #[serde(default, deserialize_with = "raw")]
    #[schema(value_type = Option<Object>)]
    pub payload: Option<Box<RawValue>>,
    /// Seconds that the device has to answer: 5 to 300, 30 if missing.
    #[serde(default, deserialize_with = "seconds")]
    pub response_timeout_in_seconds: Option<i64>,
    /// Seconds to wait for an offline device: 0 to 300, 0 if missing.
    #[serde(default, deserialize_with = "seconds")]
    pub connect_timeout_in_seconds: Option<i64>,
}

/// What the device answered.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct MethodResponse {
    /// The device's own status.
    pub status: i32,
    /// Any JSON.
    #[schema(value_type = Object)]
    pub payload: Box<RawValue>,
}

/// `null` is a payload like any other, so it must not become `None`.
fn raw<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected whole seconds, as a number or as a text of digits")]
    enum Seconds {
        Number(i64),
        Text(String),
    }
    match Option::<Seconds>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Seconds::Number(number)) => Ok(Some(number)),
        Some(Seconds::Text(text)) => {
            text.trim().parse().map(Some).map_err(|_| {
                serde::de::Error::custom(format!("expected whole seconds, got the text {text:?}"))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_numbers_or_texts_and_payloads_keep_their_bytes() {
        let parse = |text: &str| serde_json::from_str::<MethodRequest>(text);
        let call = parse(r#"{"methodName":"m","payload":{ "a" :1.50},"responseTimeoutInSeconds":"5"}"#)
            .expect("a call");
        assert_eq!(call.payload.expect("a payload").get(), r#"{ "a" :1.50}"#);
        assert_eq!((call.response_timeout_in_seconds, call.connect_timeout_in_seconds), (Some(5), None));
        let null = parse(r#"{"payload":null,"connectTimeoutInSeconds":7}"#).expect("a call");
        assert_eq!(null.payload.expect("a payload").get(), "null");
        assert_eq!(null.connect_timeout_in_seconds, Some(7));
        for bad in ["\"soon\"", "1.5", "[]", "true"] {
            assert!(parse(&format!(r#"{{"responseTimeoutInSeconds":{bad}}}"#)).is_err(), "{bad}");
        }
    }
}
