//! All identities with their twins, page by page in the order of their ids: devices, then modules.
//! Each entry is as it was at one moment; two entries may be from different ones.

use std::sync::Arc;

use hub_domain::rights::Rights;
use hub_index::Source;
use tokio::sync::OwnedSemaphorePermit;

use crate::Hub;
use crate::access::Principal;
use crate::config::{EXPORT_PAGE_ENTRIES, EXPORTS_AT_ONCE_MAX};
use crate::error::{Error, Result};
use crate::twins::TwinView;

/// An export under way.
pub struct Export {
    hub: Arc<Hub>,
    source: Option<Source>,
    after: Option<hub_domain::id::TwinId>,
    with_modules: bool,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Hub {
    /// Begins an export. Keys are for those who may write them.
    pub fn export(self: &Arc<Self>, who: &Principal, with_keys: bool, with_modules: bool) -> Result<Export> {
        who.must(if with_keys { Rights::REGISTRY_WRITE } else { Rights::REGISTRY_READ })?;
        let permit = self.streams.exports.clone().try_acquire_owned().map_err(|_| {
            Error::Throttled(format!(
                "{EXPORTS_AT_ONCE_MAX} exports are running, no more at once are allowed"
            ))
        })?;
        Ok(Export { with_modules, _permit: Some(permit), ..self.export_all() })
    }

    /// All identities, for whoever has the right already.
    pub(crate) fn export_all(self: &Arc<Self>) -> Export {
        let source = Some(Source::Devices);
        Export { hub: self.clone(), source, after: None, with_modules: true, _permit: None }
    }
}

impl Export {
    /// The next entries, one at least; `None` after the last.
    pub fn page(&mut self) -> Option<Vec<TwinView>> {
        while let Some(source) = self.source {
            let entries = self.hub.index.scan(source, self.after.as_ref(), EXPORT_PAGE_ENTRIES);
            if let Some(last) = entries.last() {
                self.after = Some(last.id().clone());
                return Some(entries.iter().map(|entry| TwinView::of(entry)).collect());
            }
            self.after = None;
            self.source = match source {
                Source::Devices if self.with_modules => Some(Source::Modules),
                _ => None,
            };
        }
        None
    }
}
