//! Connection strings of policies and the tokens made from them (S 1.1, 1.2). No code shared with the server, so that a
//! mistake in one shows in the other.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;

use crate::error::{Error, Result};

/// How long a token is good; each request brings a new one.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
/// What need not be escaped in a token and in a segment of a path.
pub const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A policy's name and key on a hub.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Name without port.
    pub host: String,
    /// `name` or `name:port`, as in a URL.
    pub authority: String,
    policy: String,
    key: Vec<u8>,
}

impl Credential {
    /// Reads `HostName=…;SharedAccessKeyName=…;SharedAccessKey=…`.
    pub fn parse(text: &str) -> Result<Credential> {
        let field = |wanted: &str| {
            text.trim().split(';').find_map(|part| {
                let (name, value) = part.split_once('=')?;
                name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().to_string())
            })
        };
        let needed = |name: &str| {
            field(name).filter(|value| !value.is_empty()).ok_or_else(|| {
                Error::usage(format!(
                    "the connection string has no {name}; expected is HostName=…;SharedAccessKeyName=…;SharedAccessKey=…"
                ))
            })
        };
        let authority = needed("HostName")?;
        if field("DeviceId").is_some() {
            return Err(Error::usage(
                "this is the connection string of a device; commands need one of a policy: fleetyard connection-string",
            ));
        }
        let policy = needed("SharedAccessKeyName")?;
        let key = BASE64
            .decode(needed("SharedAccessKey")?)
            .map_err(|_| Error::usage("the SharedAccessKey in the connection string is not base64"))?;
        Ok(Credential { host: host_of(&authority).to_string(), authority, policy, key })
    }

    /// A token for the whole hub, good for an hour from now.
    pub fn token(&self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.token_until((now + TOKEN_LIFETIME).as_secs())
    }

    fn token_until(&self, expiry: u64) -> String {
        let resource = utf8_percent_encode(&self.host, ESCAPED).to_string();
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("a key of any length will do");
        mac.update(format!("{resource}\n{expiry}").as_bytes());
        let signature = BASE64.encode(mac.finalize().into_bytes());
        let signature = utf8_percent_encode(&signature, ESCAPED);
        let policy = utf8_percent_encode(&self.policy, ESCAPED);
        format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn={policy}")
    }
}

/// The name in `name`, `name:port`, `[::1]` and `[::1]:port`.
fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_hosts_with_and_without_port() {
        for (authority, host) in [
            ("localhost", "localhost"),
            ("hub.example.com:8443", "hub.example.com"),
            ("[::1]:443", "::1"),
            ("[::1]", "::1"),
        ] {
            let text = format!(
                "HostName={authority};SharedAccessKeyName=service;SharedAccessKey=c2VjcmV0c2VjcmV0MTIzNA=="
            );
            let credential = Credential::parse(&text).expect("a valid connection string");
            assert_eq!((credential.host.as_str(), credential.authority.as_str()), (host, authority));
        }
    }

    #[test]
    fn refuses_what_lacks_something_and_never_shows_the_key() {
        for (text, expected) in [
            ("", "HostName"),
            ("HostName=a;SharedAccessKey=c2VjcmV0", "SharedAccessKeyName"),
            ("HostName=a;SharedAccessKeyName=b;SharedAccessKey=", "SharedAccessKey"),
            ("HostName=a;SharedAccessKeyName=b;SharedAccessKey=*secret*", "not base64"),
            ("HostName=a;DeviceId=d;SharedAccessKey=c2VjcmV0", "of a device"),
        ] {
            let Err(error) = Credential::parse(text) else { panic!("{text} was taken") };
            assert!(error.message.contains(expected), "{text}: {error}");
            assert!(!error.message.contains("secret"), "{error}");
        }
    }

    #[test]
    fn signs_as_the_reference_does() {
        // Made with Python: base64(hmac_sha256(b64decode(key), b"hub.test\n1800000000")).
        let text = "HostName=hub.test;SharedAccessKeyName=service;SharedAccessKey=MDEyMzQ1Njc4OWFiY2RlZg==";
        let token = Credential::parse(text).expect("a valid connection string").token_until(1_800_000_000);
        assert_eq!(
            token,
            "SharedAccessSignature sr=hub.test&sig=Dw43%2F3Eco1hOz%2BpBO3qH1xPCuB3ij3kdO%2FF2xmXk7aE%3D&se=1800000000&skn=service"
        );
    }
}
