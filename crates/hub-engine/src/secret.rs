//! A random secret of this hub, made once and kept in the store: it signs paging tokens and links to artifacts.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use hub_store::txn::Txn;
use hub_store::{Store, tables};
use sha2::Sha256;

use crate::clock::random_bytes;
use crate::error::{Error, Result};

const NAME: &str = "secret";

/// See the module.
pub(crate) struct Secret([u8; 32]);

impl Secret {
    /// Reads the secret, or makes it at the first start.
    pub(crate) async fn load(store: &Arc<dyn Store>) -> Result<Self> {
        loop {
            if let Some(text) = tables::meta::get(&**store, NAME).await? {
                let bytes = BASE64.decode(text).unwrap_or_default();
                let secret =
                    bytes.try_into().map_err(|_| Error::Internal("the stored secret is damaged".into()))?;
                return Ok(Self(secret));
            }
            let mut txn = Txn::new(store.clone());
            txn.put_meta(NAME, &BASE64.encode(random_bytes::<32>()));
            txn.commit().await?;
        }
    }

    /// A signature over parts, each with its length, so that no two lists of parts look alike.
    pub(crate) fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}
