//! Configurations that come as lines: created, or replaced as an operator would.

use std::sync::Arc;

use hub_domain::actor::Actor;
use hub_domain::limits::CONFIGURATIONS_MAX;
use hub_domain::version::Precondition;

use super::contended;
use crate::Hub;
use crate::error::{Error, Result};
use crate::line_format::ConfigurationItem;

impl Hub {
    /// Creates a configuration, or replaces one. One that is so already stays untouched, whatever its etag: an import that
    /// was cut off meets its own work again.
    pub(crate) async fn configuration_import(&self, item: &ConfigurationItem) -> Result<()> {
        let ConfigurationItem { spec, precondition } = item;
        for mut txn in self.attempts() {
            let set = txn.configurations();
            let configuration = match set.get(&spec.id) {
                Some(former) if former.spec() == spec => return Ok(()),
                Some(_) if *precondition == Precondition::None => {
                    return Err(Error::ConfigurationExists(spec.id.clone()));
                }
                Some(former) if !precondition.holds(&former.etag()) => return Err(Error::PreconditionFailed),
                Some(former) => {
                    let editable = self.config.configuration_content_editable;
                    former.update(spec.clone(), editable, txn.now())?.signed(&Actor::Hub)
                }
                None if set.len() >= CONFIGURATIONS_MAX => return Err(Error::TooManyConfigurations),
                None => self.new_configuration(&Actor::Hub, spec.clone(), txn.now()).await?,
            };
            txn.put_configuration(&spec.id, Some(Arc::new(configuration)));
            if txn.commit().await? {
                return Ok(());
            }
        }
        Err(contended(&spec.id))
    }
}
