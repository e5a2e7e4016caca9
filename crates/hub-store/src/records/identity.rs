//! The rows of devices and modules.

use hub_domain::identity::{Authentication, Identity, Status, SymmetricKeys, Thumbprint};
use hub_domain::sas::SymmetricKey;
use serde::{Deserialize, Serialize};

use super::{encode as encode_record, field, format_of, name, parse, time, unknown_format};
use crate::keys::RowKey;
use crate::{Bytes, Key, StoreError};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct V1<A> {
    generation: String,
    etag: u64,
    status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status_reason: Option<String>,
    status_updated: i64,
    authentication: A,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    managed_by: Option<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    edge: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    device_scope: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parent_scopes: Vec<String>,
}

/// Keys in base64, thumbprints in hexadecimal digits.
#[derive(Serialize)]
#[serde(rename_all = "camelCase", tag = "type")]
enum AuthenticationV1 {
    Sas { primary: String, secondary: String },
    SelfSigned { primary: Option<String>, secondary: Option<String> },
    CertificateAuthority,
    None,
}

/// Any of them as it is read: to be told apart while it is parsed, each would be copied. No text in it has escapes.
#[derive(Deserialize)]
struct AuthenticationIn<'r> {
    #[serde(rename = "type")]
    kind: &'r str,
    #[serde(borrow)]
    primary: Option<&'r str>,
    #[serde(borrow)]
    secondary: Option<&'r str>,
}

/// The row of `identity`.
pub fn encode(identity: &Identity) -> Bytes {
    let digits = |thumbprint: &Option<Thumbprint>| thumbprint.as_ref().map(|print| print.as_str().to_owned());
    let authentication = match &identity.authentication {
        Authentication::Sas(keys) => {
            AuthenticationV1::Sas { primary: keys.primary.to_base64(), secondary: keys.secondary.to_base64() }
        }
        Authentication::SelfSigned { primary, secondary } => {
            AuthenticationV1::SelfSigned { primary: digits(primary), secondary: digits(secondary) }
        }
        Authentication::CertificateAuthority => AuthenticationV1::CertificateAuthority,
        Authentication::None => AuthenticationV1::None,
    };
    let record = V1 {
        generation: identity.generation.clone(),
        etag: identity.etag_counter,
        status: identity.status.as_str().to_owned(),
        status_reason: identity.status_reason.clone(),
        status_updated: identity.status_updated.ticks(),
        authentication,
        managed_by: identity.managed_by.clone(),
        edge: identity.edge,
        device_scope: identity.device_scope.clone(),
        parent_scopes: identity.parent_scopes.clone(),
    };
    encode_record(1, &record)
}

/// The identity at `key`.
pub fn decode(key: &Key, row: &[u8]) -> Result<Identity, StoreError> {
    let id = name(key, |key| match key {
        RowKey::Identity(id) | RowKey::RetiredIdentity(id) => Some(id),
        _ => None,
    })?;
    let record: V1<AuthenticationIn<'_>> = match format_of(key, row)? {
        (1, json) => parse(key, json)?,
        (other, _) => return Err(unknown_format(key, other, 1)),
    };
    Ok(Identity {
        id,
        generation: record.generation,
        etag_counter: record.etag,
        status: field(key, "status", Status::parse(&record.status))?,
        status_reason: record.status_reason,
        status_updated: time(record.status_updated),
        authentication: authentication(key, record.authentication)?,
        managed_by: record.managed_by,
        edge: record.edge,
        device_scope: record.device_scope,
        parent_scopes: record.parent_scopes,
    })
}

fn authentication(key: &Key, record: AuthenticationIn<'_>) -> Result<Authentication, StoreError> {
    let invalid = || StoreError::corrupt(key, "its field authentication is not valid");
    let secret =
        |text: Option<&str>| text.and_then(|text| SymmetricKey::parse(text).ok()).ok_or_else(invalid);
    let thumbprint = |digits: Option<&str>| {
        digits.map(|digits| Thumbprint::parse(digits).map_err(|_| invalid())).transpose()
    };
    let AuthenticationIn { kind, primary, secondary } = record;
    Ok(match kind {
        "sas" => {
            Authentication::Sas(SymmetricKeys { primary: secret(primary)?, secondary: secret(secondary)? })
        }
        "selfSigned" => {
            Authentication::SelfSigned { primary: thumbprint(primary)?, secondary: thumbprint(secondary)? }
        }
        "certificateAuthority" => Authentication::CertificateAuthority,
        "none" => Authentication::None,
        _ => return Err(invalid()),
    })
}
