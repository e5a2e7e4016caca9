//! A row of `devices.retired`: the device's last document, with what is known of its retirement.
//! It never shows a key: documents of twins have none.

use serde_json::{Value, json};

use super::Retirement;
use crate::identity::Identity;
use crate::query::{Datum, Path, Row};
use crate::twin::{Connection, Twin, TwinDocument};

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct RetiredRow(Value);

impl RetiredRow {
    /// The row of an archived device.
    pub fn new(retirement: &Retirement, identity: &Identity, twin: &Twin) -> Self {
        let mut document = retirement.document(identity, twin);
        let mut shown = json!({
            "time": retirement.at.to_string(),
            "by": retirement.by.to_string(),
            "restorableUntil": retirement.restorable_until.to_string(),
        });
        if let Some(reason) = &retirement.reason {
            shown["reason"] = reason.as_str().into();
        }
        if let Some(successor) = &retirement.replaced_by {
            shown["replacedBy"] = successor.as_str().into();
        }
        document["retirement"] = shown;
        Self(document)
    }
}

impl Row for RetiredRow {
    fn get<'a>(&'a self, path: &Path) -> Datum<'a> {
        Datum::in_document(&self.0, path)
    }

    fn document(&self) -> Value {
        self.0.clone()
    }
}

impl Retirement {
    /// The last document of the device or one of its modules: what is archived, and what the digest of an erasure is over.
    pub fn document(&self, identity: &Identity, twin: &Twin) -> Value {
        let last_activity = self.last_activity;
        let connection = if identity.id.is_module() {
            Connection::NEVER
        } else {
            Connection { last_activity, ..Connection::NEVER }
        };
        TwinDocument { identity, twin, connection }.to_json()
    }
}
