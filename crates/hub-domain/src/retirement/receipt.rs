//! The proof by which a device says that it erased itself: signed with its own key over a text that both sides make.
//! The format is described in docs/retirement.md and must stay as it is: devices in the field speak it.

use std::fmt;

use serde_json::{Value, json};

use crate::id::DeviceId;
use crate::identity::SymmetricKeys;
use crate::limits::RECEIPT_FIELD_CHARS_MAX;
use crate::time::Timestamp;

/// The first line of the signed text: what is signed, and in which format.
const RECEIPT_FORMAT: &str = "fleetyard-erase-receipt-1";

/// A receipt whose signature was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// By the device's own clock, in the device's own spelling: RFC 3339.
    pub erased_at: String,
    /// What the hub gave the device for this one call.
    pub nonce: String,
    /// Base64 of the HMAC-SHA256 of [`Receipt::text`].
    pub signature: String,
}

/// Why an answer proves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptError(String);

impl fmt::Display for ReceiptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the device gave no valid receipt: {}", self.0)
    }
}

impl std::error::Error for ReceiptError {}

impl Receipt {
    /// The text that is signed: format, device, time and nonce, with a line feed between them.
    pub fn text(device: &DeviceId, erased_at: &str, nonce: &str) -> String {
        format!("{RECEIPT_FORMAT}\n{device}\n{erased_at}\n{nonce}")
    }

    /// The receipt in a device's answer, which is JSON: `{"receipt":{"deviceId","erasedAt","nonce","signature"}}`.
    pub fn check(
        answer: &str,
        device: &DeviceId,
        nonce: &str,
        keys: Option<&SymmetricKeys>,
    ) -> Result<Self, ReceiptError> {
        let wrong = |problem: &str| Err(ReceiptError(problem.into()));
        let Ok(answer) = serde_json::from_str::<Value>(answer) else {
            return wrong("its answer is not JSON");
        };
        let Some(receipt) = answer.get("receipt").and_then(Value::as_object) else {
            return wrong("its answer has no object 'receipt'");
        };
        let field = |name: &str| {
            let text = receipt.get(name).and_then(Value::as_str);
            let text = text.filter(|text| text.len() <= RECEIPT_FIELD_CHARS_MAX);
            text.ok_or_else(|| {
                ReceiptError(format!(
                    "receipt.{name} is not a text of at most {RECEIPT_FIELD_CHARS_MAX} characters"
                ))
            })
        };
        let (of, erased_at) = (field("deviceId")?, field("erasedAt")?);
        let (given, signature) = (field("nonce")?, field("signature")?);
        if of != device.as_str() {
            return wrong("receipt.deviceId is not this device");
        }
        if given != nonce {
            return wrong("receipt.nonce is not the one that it was given");
        }
        if Timestamp::parse(erased_at).is_none() {
            return wrong("receipt.erasedAt is no time; expected one like 2030-12-31T23:59:59Z");
        }
        let Some(keys) = keys else {
            return wrong("it has no key of its own with which a receipt could be signed");
        };
        let text = Receipt::text(device, erased_at, nonce);
        if ![&keys.primary, &keys.secondary].iter().any(|key| key.verifies(&text, signature)) {
            return wrong(
                "receipt.signature is not made with one of its keys over this device, time and nonce",
            );
        }
        Ok(Self { erased_at: erased_at.into(), nonce: nonce.into(), signature: signature.into() })
    }
}

/// The payload of an erase method with the nonce in it. Errs if there is no place for it.
pub fn with_nonce(payload: &str, nonce: &str) -> Result<String, String> {
    match serde_json::from_str(payload) {
        Ok(Value::Null) => Ok(json!({ "nonce": nonce }).to_string()),
        Ok(Value::Object(object)) if object.contains_key("nonce") => {
            Err("eraseMethod.payload has a member 'nonce', which is the hub's to give".into())
        }
        Ok(Value::Object(mut object)) => {
            object.insert("nonce".into(), nonce.into());
            Ok(Value::Object(object).to_string())
        }
        _ => Err("eraseMethod.payload must be a JSON object, since the hub adds the member 'nonce'".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sas::SymmetricKey;

    fn keys() -> SymmetricKeys {
        let key = |fill| SymmetricKey::from_bytes(vec![fill; 32]).expect("a key");
        SymmetricKeys { primary: key(1), secondary: key(2) }
    }

    fn device() -> DeviceId {
        DeviceId::parse("pump-17").expect("an id")
    }

    const AT: &str = "2026-05-04T08:15:30Z";

    fn answer(signature: &str) -> Value {
        json!({ "freed": 12, "receipt": { "deviceId": "pump-17", "erasedAt": AT, "nonce": "n1", "signature": signature } })
    }

    #[test]
    fn either_key_of_the_device_signs() {
        let text = Receipt::text(&device(), AT, "n1");
        assert_eq!(text, "fleetyard-erase-receipt-1\npump-17\n2026-05-04T08:15:30Z\nn1");
        for key in [keys().primary, keys().secondary] {
            let signature = key.sign(&text);
            let receipt = Receipt::check(&answer(&signature).to_string(), &device(), "n1", Some(&keys()));
            assert_eq!(
                receipt.expect("valid"),
                Receipt { erased_at: AT.into(), nonce: "n1".into(), signature }
            );
        }
    }

    #[test]
    fn everything_else_proves_nothing() {
        let good = answer(&keys().primary.sign(&Receipt::text(&device(), AT, "n1")));
        let foreign = SymmetricKey::from_bytes(vec![3; 32]).expect("a key");
        let check = |answer: Value, part: &str| {
            let error = Receipt::check(&answer.to_string(), &device(), "n1", Some(&keys())).expect_err(part);
            assert!(error.to_string().contains(part), "{error}");
        };
        let with = |name: &str, value: Value| {
            let mut changed = good.clone();
            changed["receipt"][name] = value;
            changed
        };
        check(Value::Null, "no object 'receipt'");
        check(json!({ "receipt": "yes" }), "no object 'receipt'");
        check(json!([good]), "no object 'receipt'");
        check(with("deviceId", json!("pump-18")), "not this device");
        check(with("nonce", json!("n0")), "not the one");
        check(with("erasedAt", json!("yesterday")), "no time");
        check(with("erasedAt", json!("2026-05-04T08:15:31Z")), "signature");
        check(with("erasedAt", json!(5)), "receipt.erasedAt is not a text");
        check(with("signature", json!("")), "signature");
        check(with("signature", json!("***")), "signature");
        check(
            with("signature", json!("x".repeat(RECEIPT_FIELD_CHARS_MAX + 1))),
            "receipt.signature is not a text",
        );
        check(answer(&foreign.sign(&Receipt::text(&device(), AT, "n1"))), "signature");
        let not_json = Receipt::check("{", &device(), "n1", Some(&keys())).expect_err("not JSON");
        assert!(not_json.to_string().contains("not JSON"), "{not_json}");
        let keyless = Receipt::check(&good.to_string(), &device(), "n1", None).expect_err("no key");
        assert!(keyless.to_string().contains("no key of its own"), "{keyless}");
    }

    #[test]
    fn the_nonce_is_added_to_objects() {
        assert_eq!(with_nonce("null", "n"), Ok("{\"nonce\":\"n\"}".into()));
        assert_eq!(with_nonce("{\"deep\":true}", "n"), Ok("{\"deep\":true,\"nonce\":\"n\"}".into()));
        for bad in ["[]", "1", "\"x\"", "{\"nonce\":null}", "{"] {
            assert!(with_nonce(bad, "n").is_err(), "{bad}");
        }
    }
}
