//! Device-to-cloud messages: into the event log, durable before the device hears of it.

use std::sync::atomic::Ordering;

use hub_domain::event::{Event, EventKind};
use hub_domain::id::TwinId;
use hub_domain::message::Message;

use crate::Hub;
use crate::access::Principal;
use crate::error::{Error, Result};

impl Hub {
    /// Takes a message from a device or module, with what S 10.2 says the hub adds.
    pub async fn telemetry_send(&self, who: &Principal, id: &TwinId, mut message: Message) -> Result<()> {
        who.must_act_as(id)?;
        message.check_size().map_err(|error| Error::TooLarge(error.to_string()))?;
        let entry = self.index.get(id).ok_or_else(|| crate::error::not_found(id))?;
        let mut add = |name: &str, value: &str| message.system.push((name.into(), value.into()));
        add("iothub-connection-auth-generation-id", &entry.identity.generation);
        add("iothub-connection-auth-method", who.auth_method());
        if let Some(model) = &entry.twin.model_id {
            add("dt-dataschema", model);
        }
        for mut txn in self.attempts() {
            let event =
                Event { time: txn.now(), id: id.clone(), kind: EventKind::Telemetry(message.clone()) };
            txn.event(&event);
            if txn.commit().await? {
                self.counters.telemetry_messages.fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
        }
        Err(Error::Contended(id.clone()))
    }
}
