//! Edge devices: an edge deployment brought into one device's module twins by hand (S 8.2), and the identities of the
//! modules that the edge agent is to run, which come and go with whatever tells it so. Modules that a person made stay.

use std::collections::BTreeSet;

use hub_domain::configuration::{ConfigurationError, Content, ContentKind, EDGE_AGENT, Problem, edge_agent};
use hub_domain::id::{DeviceId, ModuleId, TwinId};
use hub_domain::rights::Rights;
use hub_domain::twin::{Twin, TwinUpdate};
use hub_domain::version::Precondition;
use hub_index::Entry;
use serde_json::Value;

use crate::Hub;
use crate::access::Principal;
use crate::error::{Error, Result};
use crate::registry::{EDGE_RUNTIME, put_edge_module};
use crate::transact::Txn;

impl Hub {
    /// Writes an edge deployment's sections into the module twins of one edge device, once. Modules that are missing are
    /// registered in the same commit. Configurations that target the device have the last word, as on every write.
    ///
    /// # Errors
    /// [`Error::Configuration`] if `content` is none for edge devices, or the device is none.
    pub async fn configuration_content_apply(
        &self,
        who: &Principal,
        device: &DeviceId,
        content: &Content,
    ) -> Result<()> {
        who.must(Rights::REGISTRY_WRITE)?;
        let refusal = |text: String| Error::from(ConfigurationError::new(Problem::Content, text));
        let Content::Edge(sections) = content else {
            let [given, wanted] = [content.kind(), ContentKind::Edge].map(ContentKind::field);
            return Err(refusal(format!("{given} cannot be applied to a device by hand; expected {wanted}")));
        };
        let owner = TwinId::device(device.clone());
        let agent = edge_agent(device.clone());
        for mut txn in self.attempts_by(&who.actor()) {
            // The commit fails if the device is deleted or stops to be an edge device before.
            if !txn.identity_entry(&owner)?.identity.edge {
                let problem = "is no edge device; expected one with capabilities.iotEdge true";
                return Err(refusal(format!("device '{device}' {problem}")));
            }
            let former = self.index.get(&agent);
            for (module, section) in sections {
                let id = TwinId::module(device.clone(), module.clone());
                let (update, mode) = section.to_write();
                match self.index.get(&id) {
                    Some(_) => {
                        drop(self.put_twin_update(&mut txn, &id, &update, mode, &Precondition::None)?)
                    }
                    None => txn.put_module(&id, &update)?,
                }
            }
            let current = txn.current(&agent);
            if let Some((former, current)) = former.zip(current.as_ref()) {
                txn.delete_modules_not_to_run(&agent, &former.twin, &current.twin, |id| {
                    sections.contains_key(id)
                })?;
            }
            for module in current.iter().flat_map(|agent| modules_to_run(&agent.twin)) {
                let module = ModuleId::parse(module).map_err(|error| {
                    refusal(format!("{EDGE_AGENT}: modules: '{module}' is no name of a module: {error}"))
                })?;
                let id = TwinId::module(device.clone(), module);
                if txn.current(&id).is_none() {
                    txn.put_module(&id, &TwinUpdate::default())?;
                }
            }
            if txn.commit().await? {
                return Ok(());
            }
        }
        Err(Error::Contended(owner))
    }
}

impl Txn<'_> {
    /// Registers the modules that this edge agent is to run and that are not there. What cannot be registered is said in
    /// the log and left out: one bad name must not keep a deployment from the others.
    pub(super) fn put_modules_to_run(&mut self, agent: &TwinId, twin: &Twin) {
        for name in modules_to_run(twin) {
            let registered = match ModuleId::parse(name) {
                Ok(module) => {
                    let id = TwinId::module(agent.device.clone(), module);
                    if self.current(&id).is_some() {
                        Ok(())
                    } else {
                        self.put_module(&id, &TwinUpdate::default())
                    }
                }
                Err(error) => Err(Error::Invalid(error.to_string())),
            };
            if let Err(error) = registered {
                tracing::warn!(%agent, module = name, %error, "a module of a deployment cannot be registered");
            }
        }
    }

    /// Deletes the modules that this edge agent was to run and is not any more: those that came with a deployment. `keep`
    /// says which stay all the same.
    pub(super) fn delete_modules_not_to_run(
        &mut self,
        agent: &TwinId,
        former: &Twin,
        now: &Twin,
        keep: impl Fn(&ModuleId) -> bool,
    ) -> Result<()> {
        let (before, after) = (modules_to_run(former), modules_to_run(now));
        let dropped = before.difference(&after).filter(|name| !name.starts_with('$'));
        for module in dropped.filter_map(|name| ModuleId::parse(name).ok()).filter(|module| !keep(module)) {
            let id = TwinId::module(agent.device.clone(), module);
            let is_ours = |entry: &Entry| entry.identity.managed_by.as_deref() == Some(EDGE_RUNTIME);
            if self.current(&id).is_some() && self.hub.index.get(&id).is_some_and(|entry| is_ours(&entry)) {
                self.hub.put_deleted(self, &id, &Precondition::None)?;
            }
        }
        Ok(())
    }

    /// Registers one module, if there is room.
    fn put_module(&mut self, id: &TwinId, update: &TwinUpdate) -> Result<()> {
        self.hub.check_module_room(self, &id.device)?;
        // Tied to the device's identity, so that it cannot be deleted under a new module. If it is new itself, it is so
        // already.
        let _ = self.identity_entry(&TwinId::device(id.device.clone()));
        put_edge_module(self, id, update)
    }
}

/// The modules in an edge agent's desired properties. The hub's own are listed there without the `$` of their names.
fn modules_to_run(agent: &Twin) -> BTreeSet<&str> {
    let listed = |list: &str| agent.desired.values.get(list).and_then(Value::as_object);
    let system = listed("systemModules").into_iter().flatten().filter_map(|(name, _)| match name.as_str() {
        "edgeAgent" => Some(EDGE_AGENT),
        "edgeHub" => Some("$edgeHub"),
        _ => None,
    });
    listed("modules").into_iter().flatten().map(|(name, _)| name.as_str()).chain(system).collect()
}
