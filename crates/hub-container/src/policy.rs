//! What the operator allows, and how a URL becomes a container under it. Whatever is not named is refused.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::error::{ContainerError, Result};
use crate::folder::Folder;
use crate::remote::Remote;
use crate::{Container, Place};

/// A store in the net that may be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreRule {
    /// A host, over TLS unless the rule says `http://`. Without a port, the scheme's own.
    Host {
        /// Whether TLS is needed.
        tls: bool,
        /// In lower case.
        host: String,
        /// Where it listens.
        port: u16,
    },
    /// A bucket of the S3 store of the settings.
    Bucket(String),
}

impl StoreRule {
    /// From `host`, `host:port`, `https://host`, `http://host:port` or `s3://bucket`.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(bucket) = text.strip_prefix("s3://") {
            let plain = !bucket.is_empty() && !bucket.contains(['/', '?', '#', '@', ' ']);
            return plain.then(|| Self::Bucket(bucket.to_owned()));
        }
        let text = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
        let url = Url::parse(&text).ok()?;
        let plain = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let tls = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let anonymous = url.username().is_empty() && url.password().is_none();
        let host = url.host_str().filter(|host| !host.is_empty() && !host.contains('*'))?;
        let port = url.port_or_known_default()?;
        (plain && anonymous).then(|| Self::Host { tls, host: host.to_ascii_lowercase(), port })
    }

    fn allows(&self, url: &Url) -> bool {
        match self {
            Self::Host { tls, host, port } => {
                url.scheme() == if *tls { "https" } else { "http" }
                    && url.host_str() == Some(host)
                    && url.port_or_known_default() == Some(*port)
            }
            Self::Bucket(bucket) => url.scheme() == "s3" && url.host_str() == Some(bucket),
        }
    }
}

/// The one S3 store that the hub has keys for.
#[derive(Clone, Default)]
pub struct S3Settings {
    /// Its URL; empty for AWS itself.
    pub endpoint: String,
    /// Its region.
    pub region: String,
    /// The name of the key.
    pub access_key_id: String,
    /// The key.
    pub secret_access_key: String,
}

impl std::fmt::Debug for S3Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "S3Settings({:?}, {:?}, keys not shown)", self.endpoint, self.region)
    }
}

/// What may be opened. The default allows nothing.
#[derive(Clone, Debug)]
pub struct ContainerPolicy {
    /// Containers may be this folder and folders below it; an absolute path.
    pub folder: Option<PathBuf>,
    /// Containers may be on these.
    pub stores: Vec<StoreRule>,
    /// For `s3:` URLs.
    pub s3: S3Settings,
    /// How long a place may be silent.
    pub timeout: Duration,
}

impl Default for ContainerPolicy {
    fn default() -> Self {
        let timeout = Duration::from_secs(60);
        Self { folder: None, stores: Vec::new(), s3: S3Settings::default(), timeout }
    }
}

fn refused<T>(text: impl Into<String>) -> Result<T> {
    Err(ContainerError::Refused(text.into()))
}

impl ContainerPolicy {
    /// Opens the container that a URL names. Nothing is read or sent yet.
    pub fn open(&self, text: &str) -> Result<Container> {
        let Ok(url) = Url::parse(text.trim()) else {
            return refused(
                "the container is not a URL: expected file:, https: with an access signature, or s3:",
            );
        };
        let place = match url.scheme() {
            "file" => Place::Folder(self.folder(&url)?),
            "http" | "https" => {
                self.must_allow(&url)?;
                Place::Remote(Remote::azure(&url, self.timeout)?)
            }
            "s3" => {
                self.must_allow(&url)?;
                Place::Remote(Remote::s3(&url, &self.s3, self.timeout)?)
            }
            other => {
                return refused(format!(
                    "containers with '{other}:' are not known: expected file:, https: or s3:"
                ));
            }
        };
        Ok(Container { place, timeout: self.timeout })
    }

    fn folder(&self, url: &Url) -> Result<Folder> {
        let Some(root) = &self.folder else {
            return refused(
                "containers that are folders are not allowed: the setting bulk.folder names none",
            );
        };
        if url.query().is_some()
            || url.fragment().is_some()
            || url.host_str().is_some_and(|host| host != "localhost")
        {
            return refused("a file: URL of a container has a path only, such as file:///var/lib/bulk/fleet");
        }
        match url.to_file_path() {
            Ok(path) => Folder::new(root, &path),
            Err(()) => refused("the file: URL of the container has no absolute path"),
        }
    }

    fn must_allow(&self, url: &Url) -> Result<()> {
        if !url.username().is_empty() || url.password().is_some() {
            return refused("the URL of a container has no user name or password");
        }
        if self.stores.iter().any(|rule| rule.allows(url)) {
            return Ok(());
        }
        let host = url.host_str().unwrap_or_default();
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        refused(format!(
            "the container is at {}://{host}{port}, which the setting bulk.stores does not allow",
            url.scheme()
        ))
    }
}

#[cfg(test)]
mod tests;
