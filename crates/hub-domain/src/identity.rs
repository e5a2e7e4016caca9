//! The registry's entries: a device or one of its modules, and how it proves who it is (S 2).
//!
//! Only shapes and their rules. Keys are made elsewhere, since randomness is an argument here.

use std::fmt;

use crate::id::TwinId;
use crate::limits::STATUS_REASON_CHARS_MAX;
use crate::sas::SymmetricKey;
use crate::time::Timestamp;
use crate::version::Etag;

/// Whether an identity may use the hub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Status {
    /// It may.
    #[default]
    Enabled,
    /// It may not: connections are refused and ended.
    Disabled,
}

impl Status {
    /// `enabled` or `disabled`.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Enabled => "enabled",
            Status::Disabled => "disabled",
        }
    }

    /// From `enabled` or `disabled`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "enabled" => Some(Status::Enabled),
            "disabled" => Some(Status::Disabled),
            _ => None,
        }
    }
}

/// Two keys, either of which verifies, so that one can be changed while the other is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymmetricKeys {
    /// The first key.
    pub primary: SymmetricKey,
    /// The second key.
    pub secondary: SymmetricKey,
}

/// A certificate's SHA-1 (40) or SHA-256 (64) hex digits, upper case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thumbprint(String);

impl Thumbprint {
    /// Checks length and digits; case does not matter.
    pub fn parse(text: &str) -> Result<Self, IdentityError> {
        let hex = text.trim();
        if !matches!(hex.len(), 40 | 64) || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(IdentityError(format!(
                "thumbprint '{text}' is not valid: expected 40 (SHA-1) or 64 (SHA-256) hexadecimal digits"
            )));
        }
        Ok(Self(hex.to_ascii_uppercase()))
    }

    /// The digits, upper case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a certificate (DER) has this thumbprint.
    pub fn is_of(&self, certificate: &[u8]) -> bool {
        let digest: Vec<u8> = match self.0.len() {
            40 => <sha1::Sha1 as sha1::Digest>::digest(certificate).to_vec(),
            _ => <sha2::Sha256 as sha2::Digest>::digest(certificate).to_vec(),
        };
        let hex: String = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        hex == self.0
    }
}

/// How an identity proves who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Tokens signed with one of two keys.
    Sas(SymmetricKeys),
    /// Certificates known by their thumbprint; their chain is not looked at.
    SelfSigned {
        /// The first certificate.
        primary: Option<Thumbprint>,
        /// The second certificate.
        secondary: Option<Thumbprint>,
    },
    /// Certificates signed by a registered authority (kept, not yet accepted for connections).
    CertificateAuthority,
    /// Cannot connect.
    None,
}

impl Authentication {
    /// The name on the wire: `sas`, `selfSigned`, `certificateAuthority` or `none`.
    pub fn kind(&self) -> &'static str {
        match self {
            Authentication::Sas(_) => "sas",
            Authentication::SelfSigned { .. } => "selfSigned",
            Authentication::CertificateAuthority => "certificateAuthority",
            Authentication::None => "none",
        }
    }

    /// The keys, if it uses keys.
    pub fn keys(&self) -> Option<&SymmetricKeys> {
        match self {
            Authentication::Sas(keys) => Some(keys),
            _ => None,
        }
    }
}

/// The registry's entry for a device or a module.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// Whose.
    pub id: TwinId,
    /// New at every creation, so that a re-created id can be told from the former one. Decimal digits.
    pub generation: String,
    /// The number within the etag; changes at each write.
    pub etag_counter: u64,
    /// Devices only; a module is blocked with its device.
    pub status: Status,
    /// Why, in the operator's words.
    pub status_reason: Option<String>,
    /// When the status changed last.
    pub status_updated: Timestamp,
    /// How it proves who it is.
    pub authentication: Authentication,
    /// Who looks after a module; free text.
    pub managed_by: Option<String>,
    /// Whether the device is an edge gateway.
    pub edge: bool,
    /// The edge scope that it defines or belongs to.
    pub device_scope: Option<String>,
    /// The scopes above it.
    pub parent_scopes: Vec<String>,
}

impl Identity {
    /// The version tag.
    pub fn etag(&self) -> Etag {
        Etag::of_identity(self.etag_counter)
    }
}

/// What is wrong with the fields of an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentityError(String);

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for IdentityError {}

/// What a caller says of an identity's authentication: keys or thumbprints may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthenticationSpec {
    /// `sas`, `selfSigned`, `certificateAuthority`, `none`; missing means: by what else is given.
    pub kind: Option<String>,
    /// Base64.
    pub primary_key: Option<String>,
    /// Base64.
    pub secondary_key: Option<String>,
    /// Hex.
    pub primary_thumbprint: Option<String>,
    /// Hex.
    pub secondary_thumbprint: Option<String>,
}

impl AuthenticationSpec {
    /// The authentication it asks for. `fresh` are two new keys for when keys are wanted and none are given.
    pub fn resolve(&self, fresh: SymmetricKeys) -> Result<Authentication, IdentityError> {
        let text = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        let thumbprint = |field: &Option<String>| text(field).map(|hex| Thumbprint::parse(&hex)).transpose();
        let (primary, secondary) =
            (thumbprint(&self.primary_thumbprint)?, thumbprint(&self.secondary_thumbprint)?);
        let default = if primary.is_some() || secondary.is_some() { "selfSigned" } else { "sas" };
        match text(&self.kind).as_deref().unwrap_or(default) {
            "sas" => self.resolve_keys(fresh).map(Authentication::Sas),
            "selfSigned" if primary.is_none() => Err(IdentityError(
                "authentication type selfSigned needs x509Thumbprint.primaryThumbprint".into(),
            )),
            "selfSigned" => Ok(Authentication::SelfSigned { primary, secondary }),
            "certificateAuthority" => Ok(Authentication::CertificateAuthority),
            "none" => Ok(Authentication::None),
            other => Err(IdentityError(format!(
                "authentication type '{other}' is not known; expected sas, selfSigned, certificateAuthority or none"
            ))),
        }
    }

    fn resolve_keys(&self, fresh: SymmetricKeys) -> Result<SymmetricKeys, IdentityError> {
        let key = |name: &str, text: &str| {
            SymmetricKey::parse(text).map_err(|error| IdentityError(format!("symmetricKey.{name}: {error}")))
        };
        let given = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        match (given(&self.primary_key), given(&self.secondary_key)) {
            (None, None) => Ok(fresh),
            (Some(primary), Some(secondary)) => Ok(SymmetricKeys {
                primary: key("primaryKey", &primary)?,
                secondary: key("secondaryKey", &secondary)?,
            }),
            _ => Err(IdentityError("symmetricKey needs both primaryKey and secondaryKey, or neither".into())),
        }
    }
}

/// The fields of an identity that a caller may write; the rest is the hub's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdentitySpec {
    /// Enabled if missing.
    pub status: Option<Status>,
    /// At most [`STATUS_REASON_CHARS_MAX`] characters.
    pub status_reason: Option<String>,
    /// How it shall prove who it is.
    pub authentication: AuthenticationSpec,
    /// Modules: who looks after it.
    pub managed_by: Option<String>,
    /// Devices: whether it is an edge gateway.
    pub edge: bool,
    /// Devices: the edge scope it belongs to.
    pub device_scope: Option<String>,
    /// Devices: scopes above it.
    pub parent_scopes: Vec<String>,
}

/// What the hub itself adds when an identity is written.
#[derive(Clone, Debug)]
pub struct Stamps {
    /// The present.
    pub now: Timestamp,
    /// A number never used for this id before.
    pub etag_counter: u64,
    /// Two new random keys, used only if keys are wanted and none are given.
    pub fresh_keys: SymmetricKeys,
}

impl IdentitySpec {
    fn check(&self) -> Result<(), IdentityError> {
        match self.status_reason.as_deref().map(|reason| reason.chars().count()) {
            Some(chars) if chars > STATUS_REASON_CHARS_MAX => Err(IdentityError(format!(
                "statusReason has {chars} characters, at most {STATUS_REASON_CHARS_MAX} are allowed"
            ))),
            _ => Ok(()),
        }
    }

    /// The identity that this creates.
    pub fn create(&self, id: TwinId, stamps: &Stamps) -> Result<Identity, IdentityError> {
        self.check()?;
        let generation = stamps.now.ticks().to_string();
        let own_scope = self.edge.then(|| format!("ms-azure-iot-edge://{}-{generation}", id.device));
        let (device_scope, parent_scopes) = match (own_scope, &self.device_scope) {
            (Some(own), _) => (Some(own), self.parent_scopes.clone()),
            (None, Some(parent)) => (Some(parent.clone()), vec![parent.clone()]),
            (None, None) => (None, Vec::new()),
        };
        Ok(Identity {
            id,
            etag_counter: stamps.etag_counter,
            status: self.status.unwrap_or_default(),
            status_reason: self.status_reason.clone(),
            status_updated: Timestamp::NEVER,
            authentication: self.authentication.resolve(stamps.fresh_keys.clone())?,
            managed_by: self.managed_by.clone(),
            edge: self.edge,
            device_scope,
            parent_scopes,
            generation,
        })
    }

    /// The identity after a full replacement of what a caller may write.
    pub fn update(&self, current: &Identity, stamps: &Stamps) -> Result<Identity, IdentityError> {
        let created = self.create(current.id.clone(), stamps)?;
        let status_changed = created.status != current.status;
        let keeps_scope = current.edge && created.edge;
        Ok(Identity {
            generation: current.generation.clone(),
            status_updated: if status_changed { stamps.now } else { current.status_updated },
            device_scope: if keeps_scope {
                current.device_scope.clone()
            } else {
                created.device_scope.clone()
            },
            ..created
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(fill: u8) -> SymmetricKey {
        SymmetricKey::from_bytes(vec![fill; 32]).expect("a key")
    }

    fn fresh() -> SymmetricKeys {
        SymmetricKeys { primary: key(1), secondary: key(2) }
    }

    #[test]
    fn authentication_is_resolved_from_what_is_given() {
        let some = |text: &str| Some(text.to_string());
        let hex = "a".repeat(40);
        let spec = AuthenticationSpec::default();
        assert_eq!(spec.resolve(fresh()), Ok(Authentication::Sas(fresh())));
        let thumbs = AuthenticationSpec { primary_thumbprint: some(&hex), ..spec.clone() };
        assert_eq!(thumbs.resolve(fresh()).expect("thumbprints").kind(), "selfSigned");
        let one_key = AuthenticationSpec { primary_key: some(&key(3).to_base64()), ..spec.clone() };
        assert!(one_key.resolve(fresh()).is_err());
        for (kind, good) in
            [("none", true), ("certificateAuthority", true), ("selfSigned", false), ("magic", false)]
        {
            let spec = AuthenticationSpec { kind: some(kind), ..spec.clone() };
            assert_eq!(spec.resolve(fresh()).is_ok(), good, "{kind}");
        }
    }

    #[test]
    fn thumbprints_match_certificates() {
        let print = Thumbprint::parse("a9993e364706816aba3e25717850c26c9cd0d89d").expect("SHA-1 of abc");
        assert!(print.is_of(b"abc") && !print.is_of(b"abd"));
        assert!(Thumbprint::parse("xyz").is_err());
    }

    #[test]
    fn an_update_keeps_generation_and_notes_a_new_status() {
        let id = TwinId::parse("d1", None).expect("an id");
        let stamps = |seconds, etag_counter| Stamps {
            now: Timestamp::from_seconds(seconds),
            etag_counter,
            fresh_keys: fresh(),
        };
        let spec = IdentitySpec::default();
        let first = spec.create(id, &stamps(100, 1)).expect("created");
        assert_eq!(first.status_updated, Timestamp::NEVER);
        let off = IdentitySpec { status: Some(Status::Disabled), ..spec };
        let second = off.update(&first, &stamps(200, 2)).expect("updated");
        assert_eq!(
            (second.generation, second.status_updated),
            (first.generation, Timestamp::from_seconds(200))
        );
        let long = IdentitySpec { status_reason: Some("x".repeat(129)), ..off };
        assert!(long.create(TwinId::parse("d2", None).expect("an id"), &stamps(1, 1)).is_err());
    }
}
