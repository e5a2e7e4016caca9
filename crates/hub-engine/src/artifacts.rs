//! Firmware images: stored once by their content, listed by name, fetched by devices through links that expire.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use bytes::Bytes;
use futures_util::Stream;
use hmac::Mac;
use hub_domain::artifact::{Artifact, Digest};
use hub_domain::limits::ARTIFACT_NAME_CHARS_MAX;
use hub_domain::rights::Rights;
use hub_domain::time::Timestamp;
use hub_store::{PageLen, keys, tables};

use crate::Hub;
use crate::access::Principal;
use crate::config::GRANT_LIFETIME_MAX;
use crate::error::{Error, Result};

/// Leave to fetch one artifact until a set time; the pair is the whole credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// When it ends.
    pub expires: Timestamp,
    /// Cannot be guessed.
    pub signature: String,
}

impl Hub {
    /// Stores a file once by its content. Adding the same content again only gives it the new name.
    pub async fn artifact_add(
        &self,
        who: &Principal,
        name: &str,
        content: impl Stream<Item = std::io::Result<Bytes>> + Send + Unpin,
    ) -> Result<Artifact> {
        who.must(Rights::REGISTRY_WRITE)?;
        let chars = name.chars().count();
        if chars == 0 || chars > ARTIFACT_NAME_CHARS_MAX || name.chars().any(char::is_control) {
            return Err(Error::Invalid(format!(
                "an artifact's name needs 1 to {ARTIFACT_NAME_CHARS_MAX} characters, none of them a control character"
            )));
        }
        let blob = self.blobs.add(content).await.map_err(blob_error)?;
        let artifact =
            Artifact { digest: blob.digest, name: name.into(), bytes: blob.bytes, added: self.clock.now() };
        for mut txn in self.attempts() {
            txn.rows().put_artifact(&artifact);
            if txn.commit().await? {
                return Ok(artifact);
            }
        }
        Err(Error::Throttled("artifacts are being changed by many at once; try again".into()))
    }

    /// All artifacts, in the order of their digests.
    pub async fn artifact_list(&self, who: &Principal) -> Result<Vec<Artifact>> {
        who.must(Rights::REGISTRY_READ)?;
        let mut all = Vec::new();
        let mut rest = Some(keys::artifacts());
        while let Some(range) = rest {
            let page = tables::artifacts::page(&*self.store, range, PageLen::MAX).await?;
            all.extend(page.entries.into_iter().map(|(artifact, _)| artifact));
            rest = page.rest;
        }
        Ok(all)
    }

    /// Removes an artifact. Devices that fetch it now may still finish.
    pub async fn artifact_remove(&self, who: &Principal, digest: &Digest) -> Result<()> {
        who.must(Rights::REGISTRY_WRITE)?;
        for mut txn in self.attempts() {
            if txn.rows().artifact(digest).await?.is_none() {
                return Err(Error::ArtifactNotFound(digest.clone()));
            }
            txn.rows().delete_artifact(digest);
            if txn.commit().await? {
                return self.blobs.remove(digest).await.map(drop).map_err(blob_error);
            }
        }
        Err(Error::Throttled("artifacts are being changed by many at once; try again".into()))
    }

    /// Leave for a device to fetch an artifact without other credentials, for `lifetime` from now.
    pub async fn artifact_grant(
        &self,
        who: &Principal,
        digest: &Digest,
        lifetime: Duration,
    ) -> Result<Grant> {
        who.must(Rights::SERVICE_CONNECT)?;
        if lifetime.is_zero() || lifetime > GRANT_LIFETIME_MAX {
            let days = GRANT_LIFETIME_MAX.as_secs() / 86_400;
            return Err(Error::Invalid(format!(
                "expiresInSeconds must be more than 0 and at most {days} days"
            )));
        }
        self.artifact(digest).await?;
        let expires = Timestamp::from_seconds(self.clock.now().plus(lifetime).seconds());
        let signature = BASE64.encode(self.grant_mac(digest, expires).finalize().into_bytes());
        Ok(Grant { expires, signature })
    }

    /// Opens an artifact for whoever shows a grant for it.
    pub async fn artifact_open(
        &self,
        digest: &Digest,
        expires: Timestamp,
        signature: &str,
    ) -> Result<(Artifact, tokio::fs::File)> {
        let refused = |text: &str| Err(Error::Unauthenticated(text.into()));
        let signed = BASE64
            .decode(signature)
            .is_ok_and(|mac| self.grant_mac(digest, expires).verify_slice(&mac).is_ok());
        if !signed {
            return refused("the link to this artifact is not one that this hub made");
        }
        if self.clock.now() > expires {
            return refused("the link to this artifact has expired; ask for a new one");
        }
        let artifact = self.artifact(digest).await?;
        let file = self.blobs.get(digest).await.map_err(blob_error)?;
        let (file, _) =
            file.ok_or_else(|| Error::Internal(format!("the file of artifact {digest} is gone")))?;
        Ok((artifact, file))
    }

    async fn artifact(&self, digest: &Digest) -> Result<Artifact> {
        tables::artifacts::get(&*self.store, digest)
            .await?
            .ok_or_else(|| Error::ArtifactNotFound(digest.clone()))
    }

    fn grant_mac(&self, digest: &Digest, expires: Timestamp) -> hmac::Hmac<sha2::Sha256> {
        self.secret.mac(&[b"artifact", digest.as_str().as_bytes(), expires.seconds().to_string().as_bytes()])
    }
}

fn blob_error(error: hub_store::blobs::BlobError) -> Error {
    use hub_store::blobs::BlobError;
    match error {
        BlobError::TooLarge { .. } => Error::TooLarge(error.to_string()),
        BlobError::Cut { .. } => Error::Invalid(error.to_string()),
        other => Error::Unavailable(other.to_string()),
    }
}
