//! Azure blob storage and S3 over HTTP, through one well-kept crate. Redirects are not followed: a store that is allowed must
//! not be able to lead elsewhere.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::buffered::BufWriter;
use object_store::client::{HttpClient, HttpConnector};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectMeta, ObjectStore, ObjectStoreExt, RetryConfig};
use tokio::io::AsyncWriteExt;
use url::{Host, Url};

use crate::BlobInfo;
use crate::error::{ContainerError, Result, redacted};
use crate::name::BlobName;
use crate::policy::S3Settings;
use crate::stream::Chunks;

/// Size of the parts of a blob that is larger than one.
pub const PART_BYTES: usize = 8 * 1024 * 1024;
/// Parts on their way at once.
pub const PARTS_IN_FLIGHT_MAX: usize = 2;
/// How often a request that failed for a passing reason is sent again.
pub const REQUEST_RETRIES_MAX: usize = 3;

/// A container of a store, and the folder in it before every blob's name.
#[derive(Debug)]
pub(crate) struct Remote {
    store: Arc<dyn ObjectStore>,
    prefix: String,
}

impl Remote {
    /// `https://account.blob.core.windows.net/container[/folder]?signature`; at an address instead of a name, the account
    /// is the first part of the path, as emulators have it.
    pub(crate) fn azure(url: &Url, timeout: Duration) -> Result<Self> {
        let query = url.query().unwrap_or_default();
        if !query.split('&').any(|pair| pair.starts_with("sig=") && pair.len() > 4) {
            let text = "the URL of the container has no access signature: expected '?sv=…&sig=…' behind it";
            return Err(ContainerError::Refused(text.into()));
        }
        let mut parts = path_parts(url);
        let mut endpoint = url.clone();
        endpoint.set_query(None);
        endpoint.set_fragment(None);
        endpoint.set_path("");
        let is_address = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            _ => true,
        };
        let mut endpoint = endpoint.as_str().trim_end_matches('/').to_owned();
        if is_address {
            if parts.len() < 2 {
                let text = "the URL of the container has no account and container in its path";
                return Err(ContainerError::Refused(text.into()));
            }
            endpoint = format!("{endpoint}/{}", parts.remove(0));
        }
        if parts.is_empty() {
            return Err(ContainerError::Refused("the URL names no container".into()));
        }
        let container = parts.remove(0);
        let store = MicrosoftAzureBuilder::new()
            .with_account("account")
            .with_endpoint(endpoint)
            .with_container_name(container)
            .with_config(AzureConfigKey::SasKey, query)
            .with_allow_http(url.scheme() == "http")
            .with_retry(retries(timeout))
            .with_http_connector(Connector)
            .build();
        Self::new(store.map(|store| Arc::new(store) as _), &parts)
    }

    /// `s3://bucket[/folder]`
    pub(crate) fn s3(url: &Url, settings: &S3Settings, timeout: Duration) -> Result<Self> {
        if url.query().is_some() || url.fragment().is_some() {
            let text = "an s3: URL of a container has no query: its keys are in the settings";
            return Err(ContainerError::Refused(text.into()));
        }
        if settings.access_key_id.is_empty() || settings.secret_access_key.is_empty() {
            let text =
                "an s3: container needs the settings bulk.s3_access_key_id and bulk.s3_secret_access_key";
            return Err(ContainerError::Refused(text.into()));
        }
        let mut store = AmazonS3Builder::new()
            .with_bucket_name(url.host_str().unwrap_or_default())
            .with_region(&settings.region)
            .with_access_key_id(&settings.access_key_id)
            .with_secret_access_key(&settings.secret_access_key)
            .with_allow_http(settings.endpoint.starts_with("http://"))
            .with_retry(retries(timeout))
            .with_http_connector(Connector);
        if !settings.endpoint.is_empty() {
            store = store.with_endpoint(&settings.endpoint).with_virtual_hosted_style_request(false);
        }
        Self::new(store.build().map(|store| Arc::new(store) as _), &path_parts(url))
    }

    fn new(store: object_store::Result<Arc<dyn ObjectStore>>, folder: &[String]) -> Result<Self> {
        let store = store.map_err(|error| {
            ContainerError::Refused(format!("the container cannot be used: {}", redacted(&error.to_string())))
        })?;
        let prefix = folder.iter().map(|part| format!("{part}/")).collect();
        Ok(Self { store, prefix })
    }

    fn path(&self, name: &BlobName) -> Result<Path> {
        let path = Path::parse(format!("{}{name}", self.prefix));
        path.map_err(|error| ContainerError::Refused(format!("blob name '{name}' cannot be used: {error}")))
    }

    pub(crate) async fn info(&self, name: &BlobName) -> Result<BlobInfo> {
        let found = self.store.head(&self.path(name)?).await;
        found.map(|meta| info(&meta)).map_err(|error| ContainerError::store(name.as_str(), &error))
    }

    pub(crate) async fn read(&self, name: &BlobName) -> Result<(BlobInfo, Chunks)> {
        let found = self.store.get(&self.path(name)?).await;
        let found = found.map_err(|error| ContainerError::store(name.as_str(), &error))?;
        let (info, name) = (info(&found.meta), name.clone());
        let failed = move |error| std::io::Error::other(ContainerError::store(name.as_str(), &error));
        Ok((info, found.into_stream().map_err(failed).boxed()))
    }

    pub(crate) fn write(&self, name: &BlobName) -> Result<Box<Upload>> {
        let writer = BufWriter::with_capacity(self.store.clone(), self.path(name)?, PART_BYTES);
        Ok(Box::new(Upload { writer: writer.with_max_concurrency(PARTS_IN_FLIGHT_MAX) }))
    }
}

fn path_parts(url: &Url) -> Vec<String> {
    let parts = url.path_segments().into_iter().flatten().filter(|part| !part.is_empty());
    parts.map(|part| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned()).collect()
}

fn info(meta: &ObjectMeta) -> BlobInfo {
    let version = meta.e_tag.clone().unwrap_or_else(|| meta.last_modified.to_rfc3339());
    BlobInfo { bytes: meta.size, version }
}

fn retries(timeout: Duration) -> RetryConfig {
    let backoff = BackoffConfig {
        init_backoff: Duration::from_millis(100).min(timeout),
        max_backoff: Duration::from_secs(5).min(timeout),
        base: 2.0,
    };
    RetryConfig { backoff, max_retries: REQUEST_RETRIES_MAX, retry_timeout: timeout }
}

/// Makes HTTP clients. They know no timeout: what is silent too long is left by whoever waits for it, see `limited`.
#[derive(Debug)]
struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        // Another part of the program may have named the same one before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("fleetyard/", env!("CARGO_PKG_VERSION")))
            .build();
        let client =
            client.map_err(|error| object_store::Error::Generic { store: "HTTP", source: error.into() })?;
        Ok(HttpClient::new(client))
    }
}

/// A blob that is sent in parts.
pub(crate) struct Upload {
    writer: BufWriter,
}

impl Upload {
    pub(crate) async fn write(&mut self, name: &BlobName, bytes: Bytes) -> Result<()> {
        self.writer.put(bytes).await.map_err(|error| ContainerError::store(name.as_str(), &error))
    }

    pub(crate) async fn finish(&mut self, name: &BlobName) -> Result<()> {
        self.writer.shutdown().await.map_err(|error| ContainerError::io(name.as_str(), &error))
    }

    pub(crate) async fn abort(&mut self, name: &BlobName) -> Result<()> {
        self.writer.abort().await.map_err(|error| ContainerError::store(name.as_str(), &error))
    }
}
