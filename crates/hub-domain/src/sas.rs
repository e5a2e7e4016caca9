//! Shared access signature tokens: parse, verify, and what they cover (D 7.1, S 1.2).
//!
//! The signature is made over the resource text exactly as it stands in the token, so that text is
//! kept raw; it is decoded only to compare it with the resource that is asked for.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::Sha256;

use crate::limits::{KEY_BYTES_MAX, KEY_BYTES_MIN, TOKEN_BYTES_MAX, TOKEN_SKEW};
use crate::time::Timestamp;

const SCHEME: &str = "SharedAccessSignature";

/// A symmetric key: base64 text of 16 to 64 bytes. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct SymmetricKey(Vec<u8>);

impl SymmetricKey {
    /// Decodes base64; errs with what is wrong.
    pub fn parse(text: &str) -> Result<Self, SasError> {
        let bytes = BASE64.decode(text.trim()).map_err(|_| SasError("the key is not valid base64".into()))?;
        Self::from_bytes(bytes)
    }

    /// Takes the bytes of a key.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, SasError> {
        if !(KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&bytes.len()) {
            return Err(SasError(format!(
                "the key has {} bytes, allowed are {KEY_BYTES_MIN} to {KEY_BYTES_MAX}",
                bytes.len()
            )));
        }
        Ok(Self(bytes))
    }

    /// The key as base64 text.
    pub fn to_base64(&self) -> String {
        BASE64.encode(&self.0)
    }

    fn mac(&self, message: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(message.as_bytes());
        mac
    }

    /// The base64 signature of `message` under this key.
    pub fn sign(&self, message: &str) -> String {
        BASE64.encode(self.mac(message).finalize().into_bytes())
    }
}

impl SymmetricKey {
    /// Whether `signature`, in base64, is this key's of `message`. Takes the same time whatever the answer.
    pub fn verifies(&self, message: &str, signature: &str) -> bool {
        BASE64.decode(signature).is_ok_and(|bytes| self.mac(message).verify_slice(&bytes).is_ok())
    }
}

impl fmt::Debug for SymmetricKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SymmetricKey(…)")
    }
}

/// Why a token or key could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SasError(String);

impl fmt::Display for SasError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SasError {}

/// A token as presented: parsed, not yet verified.
#[derive(Clone, Debug)]
pub struct SasToken {
    raw_resource: String,
    raw_expiry: String,
    signature: Vec<u8>,
    host: String,
    path: Vec<String>,
    expiry: Timestamp,
    policy: Option<String>,
}

impl SasToken {
    /// Parses `SharedAccessSignature sr=…&sig=…&se=…[&skn=…]`, fields in any order.
    pub fn parse(text: &str) -> Result<Self, SasError> {
        let err = |problem: &str| Err(SasError(format!("the token is not valid: {problem}")));
        if text.len() > TOKEN_BYTES_MAX {
            return err("it is too long");
        }
        let Some(fields) = text.strip_prefix(SCHEME).and_then(|rest| rest.strip_prefix(' ')) else {
            return err("it does not begin with 'SharedAccessSignature '");
        };
        let (mut resource, mut signature, mut expiry, mut policy) = (None, None, None, None);
        for field in fields.trim().split('&') {
            let (name, value) = field.split_once('=').unwrap_or((field, ""));
            match name {
                "sr" => resource = Some(value),
                "sig" => signature = Some(value),
                "se" => expiry = Some(value),
                "skn" => policy = Some(value),
                _ => {}
            }
        }
        let (Some(resource), Some(signature), Some(expiry)) = (resource, signature, expiry) else {
            return err("one of sr, sig and se is missing");
        };
        let Some(signature) = decode(signature).and_then(|text| BASE64.decode(text).ok()) else {
            return err("sig is not base64");
        };
        let Ok(seconds) = expiry.parse::<i64>() else {
            return err("se is not a whole number of seconds since 1970");
        };
        let Some(decoded) = decode(resource) else {
            return err("sr is not UTF-8");
        };
        let mut segments = decoded.split('/').map(str::to_string);
        let host = segments.next().unwrap_or_default();
        let mut path: Vec<String> = segments.filter(|segment| !segment.is_empty()).collect();
        // Very old SDKs sign `…/api-version=…` as part of the resource.
        path.retain(|segment| !segment.starts_with("api-version="));
        let Some(policy) = policy.map_or(Some(String::new()), decode) else {
            return err("skn is not UTF-8");
        };
        Ok(Self {
            raw_resource: resource.to_string(),
            raw_expiry: expiry.to_string(),
            signature,
            host,
            path,
            expiry: Timestamp::from_seconds(seconds),
            policy: Some(policy).filter(|policy| !policy.is_empty()),
        })
    }

    /// The policy that signed it; `None` if a device or module key did.
    pub fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }

    /// The host part of the resource, as signed, with its port if it has one.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// When it ends.
    pub fn expiry(&self) -> Timestamp {
        self.expiry
    }

    /// Whether it is over, with the allowance for clocks that differ.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now > self.expiry.plus(TOKEN_SKEW)
    }

    /// Whether `key` signed it. Takes the same time whatever the answer.
    pub fn is_signed_by(&self, key: &SymmetricKey) -> bool {
        let message = format!("{}\n{}", self.raw_resource, self.raw_expiry);
        key.mac(&message).verify_slice(&self.signature).is_ok()
    }

    /// Whether its resource is `path` or one above it, by whole segments: `devices/d1` does not cover
    /// `devices/d10`. Ids are case-sensitive, collection names are not.
    pub fn covers(&self, path: &[&str]) -> bool {
        self.path.len() <= path.len()
            && self.path.iter().zip(path).enumerate().all(|(at, (mine, asked))| {
                if at % 2 == 0 { mine.eq_ignore_ascii_case(asked) } else { mine == asked }
            })
    }
}

fn decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(|text| text.into_owned())
}

/// Makes a token for `resource` (`host/devices/d1`, not yet encoded), valid until `expiry`.
pub fn make_token(resource: &str, key: &SymmetricKey, expiry: Timestamp, policy: Option<&str>) -> String {
    let resource = utf8_percent_encode(resource, NON_ALPHANUMERIC).to_string();
    let signature = key.sign(&format!("{resource}\n{}", expiry.seconds()));
    let signature = utf8_percent_encode(&signature, NON_ALPHANUMERIC);
    let mut token = format!("{SCHEME} sr={resource}&sig={signature}&se={}", expiry.seconds());
    if let Some(policy) = policy {
        token.push_str("&skn=");
        token.push_str(policy);
    }
    token
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SymmetricKey {
        SymmetricKey::parse("a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=").expect("a key")
    }

    #[test]
    fn official_vectors_verify() {
        let vectors = [
            ("localhost%2Fdevices%2Fd1", 1795223482, "+L/Gx7MYKLWpT8SvQ9EL2GWJLsd6QV7ElmD9l20HdKg="),
            ("localhost%3A18883%2Fdevices%2Fd1", 1795223528, "2V73I/o9LB/7w00ZAWdj1MZwPFSqr5uOlfcZv91gAhU="),
            ("127.0.0.1/devices/d1", 1795224031, "6fszKbEjc8AW6oK7l5U0K6PzAAg4pKX1BoqicdTEMVo="),
        ];
        for (resource, expiry, signature) in vectors {
            for signature in
                [signature.to_string(), utf8_percent_encode(signature, NON_ALPHANUMERIC).to_string()]
            {
                let text = format!("SharedAccessSignature se={expiry}&sig={signature}&sr={resource}&skn=");
                let token = SasToken::parse(&text).expect(&text);
                assert!(token.is_signed_by(&key()), "{text}");
                assert!(token.covers(&["devices", "d1"]) && token.covers(&["devices", "d1", "modules", "m"]));
                assert!(!token.covers(&["devices", "d10"]) && !token.covers(&["devices"]));
                assert_eq!(token.policy(), None);
            }
        }
    }

    #[test]
    fn made_tokens_verify_and_forged_ones_do_not() {
        let at = Timestamp::from_seconds(1000);
        let text = make_token("hub.local", &key(), at, Some("service"));
        let token = SasToken::parse(&text).expect(&text);
        assert!(token.is_signed_by(&key()));
        assert_eq!(token.policy(), Some("service"));
        assert!(token.covers(&["twins", "d1"]));
        assert!(
            !token.is_expired(Timestamp::from_seconds(1300))
                && token.is_expired(Timestamp::from_seconds(1301))
        );
        let forged = SasToken::parse(&text.replace("se=1000", "se=9999999999")).expect("parses");
        assert!(!forged.is_signed_by(&key()));
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "",
            "Bearer x",
            "SharedAccessSignature",
            "SharedAccessSignature sr=a",
            "SharedAccessSignature sr=a&sig=%%%&se=1",
            "SharedAccessSignature sr=a&sig=YQ==&se=x",
            "SharedAccessSignature sr=%ff&sig=YQ==&se=1",
            "SharedAccessSignature sr=a&sig=YQ==&se=99999999999999999999",
        ] {
            assert!(SasToken::parse(bad).is_err(), "{bad}");
        }
        assert!(SymmetricKey::parse("c2hvcnQ=").is_err());
        assert!(SymmetricKey::parse("!").is_err());
    }
}
