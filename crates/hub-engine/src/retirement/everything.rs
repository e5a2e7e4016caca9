//! Everything that the hub knows of one device, page by page: registry, twins, what applies to it, what became of it in
//! jobs, where it came from, and what is kept of its events. It shows keys only to who may write them.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use hub_domain::configuration::Configuration;
use hub_domain::event::{Event, Position};
use hub_domain::id::{DeviceId, TwinId};
use hub_domain::retirement::Predecessor;
use hub_domain::rights::Rights;
use hub_store::tables;
use serde_json::Value;

use super::RetiredView;
use crate::Hub;
use crate::access::Principal;
use crate::config::EVENT_SCAN_ROWS_MAX;
use crate::error::{Error, Result};
use crate::events::EventFilter;
use crate::twins::TwinView;

/// One thing that is known.
#[derive(Clone, Debug)]
pub enum Part {
    /// The device or a module with its twin.
    Twin(TwinView),
    /// The record of its retirement with its last documents.
    Retired(Box<RetiredView>),
    /// A device in whose place it came.
    Predecessor(Predecessor),
    /// A configuration that applies to it or a module.
    Configuration(Arc<Configuration>),
    /// What became of it in a job.
    JobRecord(Value),
    /// Something that happened.
    Event(Position, Event),
}

enum Stage {
    JobRecords(Option<String>),
    Events(Option<Position>),
    Over,
}

/// See the module.
pub struct Everything {
    hub: Arc<Hub>,
    who: Principal,
    device: DeviceId,
    known: VecDeque<Part>,
    stage: Stage,
}

impl Hub {
    /// Begins to tell everything about a device in the registry or a retired one. Keys are for those who may write them.
    pub async fn everything(
        self: &Arc<Self>,
        who: &Principal,
        device: &DeviceId,
        with_keys: bool,
    ) -> Result<Everything> {
        who.must(if with_keys { Rights::REGISTRY_WRITE } else { Rights::REGISTRY_READ })?;
        who.must(Rights::SERVICE_CONNECT)?;
        let id = TwinId::device(device.clone());
        let mut known = VecDeque::new();
        if let Some(entry) = self.index.get(&id) {
            let modules = self.index.modules_of(device);
            let ids: BTreeSet<_> = std::iter::once(&entry)
                .chain(&modules)
                .flat_map(|one| one.twin.configurations.keys().cloned())
                .collect();
            known.extend(std::iter::once(&entry).chain(&modules).map(|one| Part::Twin(TwinView::of(one))));
            let set = self.configurations.current();
            known.extend(ids.iter().filter_map(|id| set.get(id).cloned().map(Part::Configuration)));
        }
        match self.retired_get(who, device).await {
            Ok(view) => known.push_back(Part::Retired(Box::new(view))),
            Err(Error::RetirementNotFound(_)) if !known.is_empty() => {}
            Err(Error::RetirementNotFound(device)) => return Err(Error::DeviceNotFound(device)),
            Err(error) => return Err(error),
        }
        let predecessors = tables::retired::predecessors(&*self.store, device).await?;
        known.extend(predecessors.into_iter().map(Part::Predecessor));
        let stage = Stage::JobRecords(None);
        Ok(Everything { hub: self.clone(), who: who.clone(), device: device.clone(), known, stage })
    }
}

impl Everything {
    /// The next parts, perhaps none of them; `None` after the last.
    pub async fn page(&mut self) -> Result<Option<Vec<Part>>> {
        if !self.known.is_empty() {
            return Ok(Some(self.known.drain(..).collect()));
        }
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::JobRecords(token) => {
                // Ids have no backslash; a quote is escaped by one.
                let id = self.device.as_str().replace('\'', "\\'");
                let text = format!("SELECT * FROM devices.jobs WHERE deviceId = '{id}'");
                let page = self.hub.query(&self.who, &text, None, token.as_deref()).await?;
                let records = page.values().into_iter().map(Part::JobRecord).collect();
                self.stage = match page.continuation {
                    Some(token) => Stage::JobRecords(Some(token)),
                    None => Stage::Events(None),
                };
                Ok(Some(records))
            }
            Stage::Events(after) => {
                let filter = EventFilter { sources: Vec::new(), device: Some(self.device.clone()) };
                let page = self.hub.events_read(&self.who, &filter, after, EVENT_SCAN_ROWS_MAX).await;
                let page = match page {
                    // Removed while it was read: go on with what is kept.
                    Err(Error::PositionGone { oldest }) => {
                        self.stage = Stage::Events(Some(oldest));
                        return Ok(Some(Vec::new()));
                    }
                    page => page?,
                };
                if !page.at_end {
                    self.stage = Stage::Events(Some(page.reached));
                }
                let events = page.events.into_iter();
                Ok(Some(events.map(|(position, event)| Part::Event(position, event)).collect()))
            }
            Stage::Over => Ok(None),
        }
    }
}
