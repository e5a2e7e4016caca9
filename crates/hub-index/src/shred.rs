//! Takes a twin apart into cells, and writes those that differ from the former ones.
//! Which cells a row has must depend on its entry alone, not on the way that led there.

use std::collections::BTreeMap;
use std::sync::Arc;

use hub_domain::id::ConfigurationId;
use hub_domain::identity::Identity;
use hub_domain::twin::{ConfigurationStatus, Properties};
use serde_json::{Map, Value};

use crate::cell::Cell;
use crate::entry::{Entry, Live};
use crate::limits::Limits;
use crate::paths::{self, PathId, Paths};

type Object = Map<String, Value>;
type Configurations = BTreeMap<ConfigurationId, ConfigurationStatus>;

/// What takes the cells of rows.
pub trait Cells {
    /// Writes a cell.
    fn set(&mut self, id: PathId, position: u16, cell: Cell<'_>, paths: &mut Paths, limits: &Limits);

    /// Notes that the cells of a row say too little.
    fn mark(&mut self, position: u16);
}

/// Writes the cells of one row.
pub struct Shredder<'s, C> {
    pub paths: &'s mut Paths,
    pub cells: &'s mut C,
    pub position: u16,
    pub limits: &'s Limits,
}

impl<C: Cells> Shredder<'_, C> {
    /// Brings the cells from those of `old` to those of `new`; `None` has none.
    pub fn write(&mut self, old: Option<&Entry>, new: Option<&Entry>) {
        self.identity(old, new);
        if let (Some(old), Some(new)) = (old, new)
            && Arc::ptr_eq(&old.twin, &new.twin)
        {
            return;
        }
        let model: fn(&Entry) -> &str = |entry| entry.twin.model_id.as_deref().unwrap_or_default();
        self.text_of(paths::MODEL_ID, old.map(model), new.map(model));
        self.members(paths::TAGS, old.map(|entry| &entry.twin.tags), new.map(|entry| &entry.twin.tags));
        let desired: fn(&Entry) -> &Properties = |entry| &entry.twin.desired;
        self.section(paths::DESIRED, paths::DESIRED_VERSION, old.map(desired), new.map(desired));
        let reported: fn(&Entry) -> &Properties = |entry| &entry.twin.reported;
        self.section(paths::REPORTED, paths::REPORTED_VERSION, old.map(reported), new.map(reported));
        let none = BTreeMap::new();
        let former = old.map_or(&none, |entry| &entry.twin.configurations);
        self.configurations(former, new.map_or(&none, |entry| &entry.twin.configurations));
    }

    fn section(
        &mut self,
        values: PathId,
        version: PathId,
        old: Option<&Properties>,
        new: Option<&Properties>,
    ) {
        self.members(values, old.map(|section| &section.values), new.map(|section| &section.values));
        let number = |section: Option<&Properties>| {
            section.map_or(Cell::Absent, |section| Cell::Number(section.version as f64))
        };
        self.put_changed(version, number(old), number(new));
    }

    fn identity(&mut self, old: Option<&Entry>, new: Option<&Entry>) {
        match (old, new) {
            (None, Some(new)) => self.new_identity(&new.identity, &new.live),
            (Some(old), new) if new.is_none_or(|new| !Arc::ptr_eq(&old.identity, &new.identity)) => {
                self.fields(Some(&old.identity), new.map(|new| &*new.identity));
                if new.is_none() {
                    self.put(paths::CONNECTION_STATE, Cell::Absent);
                }
            }
            _ => {}
        }
    }

    /// The cells of an identity that has none yet.
    pub fn new_identity(&mut self, identity: &Identity, live: &Live) {
        self.fields(None, Some(identity));
        self.put(paths::CONNECTION_STATE, Cell::Text(live.connection().state()));
    }

    fn fields(&mut self, old: Option<&Identity>, new: Option<&Identity>) {
        type Field = fn(&Identity) -> Option<&str>;
        let fields: [(PathId, Field); 4] = [
            (paths::STATUS, |identity| Some(identity.status.as_str())),
            (paths::STATUS_REASON, |identity| identity.status_reason.as_deref()),
            (paths::AUTHENTICATION_TYPE, |identity| Some(identity.authentication.kind())),
            (paths::MODULE_ID, |identity| identity.id.module.as_ref().map(|module| module.as_str())),
        ];
        for (id, field) in fields {
            self.text_of(id, old.and_then(field), new.and_then(field));
        }
        let edge = |identity: Option<&Identity>| match identity {
            Some(identity) if !identity.id.is_module() => Cell::Bool(identity.edge),
            _ => Cell::Absent,
        };
        self.put_changed(paths::EDGE, edge(old), edge(new));
    }

    /// The cells of the configurations that are listed.
    pub fn configurations(&mut self, old: &Configurations, new: &Configurations) {
        for (id, status) in new.iter().filter(|(id, status)| old.get(id) != Some(status)) {
            self.put_child(paths::CONFIGURATIONS, id.as_str(), Cell::Text(status.as_str()));
        }
        for id in old.keys().filter(|id| !new.contains_key(*id)) {
            self.put_child(paths::CONFIGURATIONS, id.as_str(), Cell::Absent);
        }
    }

    fn put_child(&mut self, parent: PathId, name: &str, cell: Cell<'_>) {
        let child = match cell {
            Cell::Absent => self.paths.child(parent, name),
            _ => self.paths.child_or_new(parent, name, self.limits),
        };
        match child {
            Some(child) => {
                self.put(child, cell);
                self.paths.release(child);
            }
            None if cell != Cell::Absent => self.cells.mark(self.position),
            None => {}
        }
    }

    /// The path of a member; if there are too many, the row is marked.
    fn child_or_mark(&mut self, parent: PathId, name: &str) -> Option<PathId> {
        let child = self.paths.child_or_new(parent, name, self.limits);
        if child.is_none() {
            self.cells.mark(self.position);
        }
        child
    }

    /// Everything below a path.
    fn members(&mut self, parent: PathId, old: Option<&Object>, new: Option<&Object>) {
        for (name, value) in new.into_iter().flatten() {
            let former = old.and_then(|old| old.get(name));
            if former == Some(value) {
                continue;
            }
            if let Some(child) = self.child_or_mark(parent, name) {
                self.value(child, former, Some(value));
            }
        }
        for (name, former) in old.into_iter().flatten() {
            if new.is_none_or(|new| !new.contains_key(name))
                && let Some(child) = self.paths.child(parent, name)
            {
                self.value(child, Some(former), None);
            }
        }
    }

    fn value(&mut self, id: PathId, old: Option<&Value>, new: Option<&Value>) {
        let is_object = |value: Option<&Value>| value.is_some_and(Value::is_object);
        // What is above comes before what is below, and goes after it, so that no path is forgotten in between.
        if new.is_some() && !(is_object(old) && is_object(new)) {
            self.put(id, new.map_or(Cell::Absent, |new| Cell::of(new, self.limits.text_bytes_max)));
        }
        let (old, object) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
        if old.is_some() || object.is_some() {
            self.members(id, old, object);
        }
        if new.is_none() {
            self.put(id, Cell::Absent);
            self.paths.release(id);
        }
    }

    fn text_of(&mut self, id: PathId, old: Option<&str>, new: Option<&str>) {
        if old != new {
            self.put(id, new.map_or(Cell::Absent, |text| Cell::text(text, self.limits.text_bytes_max)));
        }
    }

    fn put_changed(&mut self, id: PathId, old: Cell<'_>, new: Cell<'_>) {
        if old != new {
            self.put(id, new);
        }
    }

    /// Writes a cell.
    pub fn put(&mut self, id: PathId, cell: Cell<'_>) {
        if self.paths.is_indexed(id) {
            self.cells.set(id, self.position, cell, self.paths, self.limits);
        }
    }
}
