//! Device-to-cloud messages: into the event log, durable before the device hears of it.

use std::sync::atomic::Ordering;

use hub_domain::event::{Event, EventKind};
use hub_domain::id::TwinId;
use hub_domain::message::Message;
use hub_index::Entry;

use crate::Hub;
use crate::access::Principal;
use crate::error::{Error, Result};

impl Hub {
    /// Takes messages from a device or module, each with what S 10.2 says the hub adds: in this order, in one commit, all
    /// of them or none.
    pub async fn telemetry_send(&self, who: &Principal, id: &TwinId, messages: Vec<Message>) -> Result<()> {
        who.must_act_as(id)?;
        let entry = self.index.get(id).ok_or_else(|| crate::error::not_found(id))?;
        let mut events = Vec::with_capacity(messages.len());
        for message in messages {
            message.check_size().map_err(|error| Error::TooLarge(error.to_string()))?;
            let kind = EventKind::Telemetry(stamped(message, who, &entry));
            events.push(Event { time: self.now(), id: id.clone(), kind });
        }
        for mut txn in self.attempts() {
            for event in &mut events {
                event.time = txn.now();
                txn.event(event);
            }
            if txn.commit().await? {
                self.counters.telemetry_messages.fetch_add(events.len() as u64, Ordering::Relaxed);
                return Ok(());
            }
        }
        Err(Error::Contended(id.clone()))
    }
}

/// The message with what the hub knows of its sender.
fn stamped(mut message: Message, who: &Principal, entry: &Entry) -> Message {
    let mut add = |name: &str, value: &str| message.system.push((name.into(), value.into()));
    add("iothub-connection-auth-generation-id", &entry.identity.generation);
    add("iothub-connection-auth-method", who.auth_method());
    if let Some(model) = &entry.twin.model_id {
        add("dt-dataschema", model);
    }
    message
}
