//! Who is calling, and what he may do. A [`Principal`] comes only from here, so whoever holds one has been checked.

use std::fmt;
use std::sync::Arc;

use hub_domain::actor::Actor;
use hub_domain::id::TwinId;
use hub_domain::identity::{Authentication, Identity, Status};
use hub_domain::limits::TOKEN_SKEW;
use hub_domain::rights::Rights;
use hub_domain::sas::SasToken;
use hub_domain::time::Timestamp;

use crate::Hub;
use crate::error::{Error, Result};

/// What a connecting device shows.
#[derive(Clone, Copy)]
pub enum Credential<'a> {
    /// A shared access signature.
    Token(&'a str),
    /// The leaf certificate of its TLS connection, DER.
    Certificate(&'a [u8]),
}

/// Somebody who proved who he is.
#[derive(Clone, Debug)]
pub struct Principal {
    kind: Kind,
    expires: Option<Timestamp>,
}

#[derive(Clone, Debug)]
enum Kind {
    Policy { name: Arc<str>, rights: Rights },
    Identity(TwinId),
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Policy { name, .. } => write!(f, "policy '{name}'"),
            Kind::Identity(id) => write!(f, "device '{id}'"),
        }
    }
}

impl Principal {
    /// When a live connection must end; the allowance for clocks that differ is added already.
    pub fn expires(&self) -> Option<Timestamp> {
        self.expires
    }

    /// As whom he acts, for events.
    pub fn actor(&self) -> Actor {
        match &self.kind {
            Kind::Policy { name, .. } => Actor::Policy(name.clone()),
            Kind::Identity(id) => Actor::Device(id.clone()),
        }
    }

    /// Errs unless a policy gives these rights.
    pub(crate) fn must(&self, rights: Rights) -> Result<()> {
        match &self.kind {
            Kind::Policy { rights: mine, .. } if mine.allow(rights) => Ok(()),
            Kind::Policy { name, rights: mine } => Err(Error::Forbidden(format!(
                "Authorization rule '{name}' does not allow this: it gives {mine}, needed is {rights}"
            ))),
            Kind::Identity(id) => Err(Error::Forbidden(format!(
                "device '{id}' may not do this: a policy with {rights} is needed"
            ))),
        }
    }

    /// Errs unless this may read the registry: with the right to, or as a back end that works with twins.
    pub(crate) fn must_act_as(&self, id: &TwinId) -> Result<()> {
        match &self.kind {
            Kind::Identity(mine) if mine == id => Ok(()),
            Kind::Identity(mine) => Err(Error::Forbidden(format!("device '{mine}' may not act as '{id}'"))),
            Kind::Policy { .. } => self.must(Rights::DEVICE_CONNECT),
        }
    }

    /// How telemetry says who sent it (S 10.2): scope and type.
    pub fn auth_method(&self) -> &'static str {
        match self.kind {
            Kind::Policy { .. } => r#"{"scope":"hub","type":"sas","issuer":"iothub"}"#,
            Kind::Identity(_) if self.expires.is_some() => {
                r#"{"scope":"device","type":"sas","issuer":"iothub"}"#
            }
            Kind::Identity(_) => r#"{"scope":"device","type":"x509","issuer":"external"}"#,
        }
    }
}

impl Hub {
    /// Checks a device or module that connects: its own key's token, a policy's with `DeviceConnect`, or its certificate.
    pub fn authenticate_device(&self, id: &TwinId, credential: Credential<'_>) -> Result<Principal> {
        let entry = self.index.get(id).ok_or_else(|| {
            Error::Unauthenticated(format!(
                "IotHub '{}' does not contain the specified device '{id}'",
                self.hostname()
            ))
        })?;
        let principal = match credential {
            Credential::Token(text) => self.check_device_token(&entry.identity, text)?,
            Credential::Certificate(der) => self.check_certificate(&entry.identity, der)?,
        };
        if !self.is_enabled(&entry.identity) {
            return Err(Error::Disabled(id.clone()));
        }
        Ok(principal)
    }

    /// Checks a back end: a policy's token whose resource covers `path`, given as decoded segments.
    pub fn authenticate_service(&self, token: &str, path: &[&str]) -> Result<Principal> {
        let token = self.parse_token(token)?;
        let Some(name) = token.policy() else {
            return Err(Error::Unauthenticated(
                "the token names no policy (skn); a device's token does not open this".into(),
            ));
        };
        self.check_policy_token(&token, name, path)
    }

    /// Whether the identity may use the hub; a module is blocked with its device.
    pub(crate) fn is_enabled(&self, identity: &Identity) -> bool {
        let device = if identity.id.is_module() {
            self.index.get(&TwinId::device(identity.id.device.clone())).map(|entry| entry.identity.status)
        } else {
            Some(identity.status)
        };
        device == Some(Status::Enabled)
    }

    fn parse_token(&self, text: &str) -> Result<SasToken> {
        let token = SasToken::parse(text).map_err(|error| Error::Unauthenticated(error.to_string()))?;
        let host = token.host();
        let name = host
            .rsplit_once(':')
            .filter(|(_, port)| port.parse::<u16>().is_ok())
            .map_or(host, |(name, _)| name);
        if !self.config.hostnames.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return Err(Error::Unauthenticated(format!(
                "Hostname does not match: the token is for '{name}', this hub is '{}'",
                self.hostname()
            )));
        }
        if token.is_expired(self.clock.now()) {
            return Err(Error::Unauthenticated(format!("the token expired at {}", token.expiry())));
        }
        Ok(token)
    }

    fn check_policy_token(&self, token: &SasToken, name: &str, path: &[&str]) -> Result<Principal> {
        let policy = self.policies.get(name);
        let signed = policy
            .as_ref()
            .is_some_and(|p| token.is_signed_by(&p.primary) || token.is_signed_by(&p.secondary));
        let Some(policy) = policy.filter(|_| signed) else {
            return Err(Error::Unauthenticated(format!(
                "the token is not signed with a key of a policy '{name}'"
            )));
        };
        if !token.covers(path) {
            return Err(Error::Unauthenticated(format!("the token does not cover '/{}'", path.join("/"))));
        }
        let kind = Kind::Policy { name: policy.name.as_str().into(), rights: policy.rights };
        Ok(Principal { kind, expires: Some(token.expiry().plus(TOKEN_SKEW)) })
    }

    fn check_device_token(&self, identity: &Identity, text: &str) -> Result<Principal> {
        let token = self.parse_token(text)?;
        let id = &identity.id;
        let mut path = vec!["devices", id.device.as_str()];
        path.extend(id.module.iter().flat_map(|module| ["modules", module.as_str()]));
        if let Some(name) = token.policy() {
            let principal = self.check_policy_token(&token, name, &path)?;
            principal.must(Rights::DEVICE_CONNECT)?;
            return Ok(principal);
        }
        let signed = identity
            .authentication
            .keys()
            .is_some_and(|keys| token.is_signed_by(&keys.primary) || token.is_signed_by(&keys.secondary));
        if !signed || !token.covers(&path) {
            return Err(Error::Unauthenticated(format!(
                "Authentication failed for '{id}': the token is not signed with one of its keys, or is for another resource"
            )));
        }
        Ok(Principal { kind: Kind::Identity(id.clone()), expires: Some(token.expiry().plus(TOKEN_SKEW)) })
    }

    fn check_certificate(&self, identity: &Identity, der: &[u8]) -> Result<Principal> {
        let id = &identity.id;
        let Authentication::SelfSigned { primary, secondary } = &identity.authentication else {
            return Err(Error::Unauthenticated(format!("'{id}' does not authenticate with a certificate")));
        };
        if ![primary, secondary].into_iter().flatten().any(|print| print.is_of(der)) {
            return Err(Error::Unauthenticated(format!("Thumbprint does not match configuration of '{id}'")));
        }
        let now = self.clock.now().seconds();
        let valid = x509_parser::parse_x509_certificate(der).is_ok_and(|(_, certificate)| {
            let validity = certificate.validity();
            (validity.not_before.timestamp() - TOKEN_SKEW.as_secs() as i64..=validity.not_after.timestamp())
                .contains(&now)
        });
        if !valid {
            return Err(Error::Unauthenticated(format!(
                "the certificate of '{id}' is not valid at this time"
            )));
        }
        Ok(Principal { kind: Kind::Identity(id.clone()), expires: None })
    }
}
