//! The rows of sessions.

use hub_domain::id::TwinId;
use hub_domain::session::{Family, StoredSession, Subscriptions};
use serde::{Deserialize, Serialize};

use super::{encode as encode_record, field, format_of, name, parse, time, unknown_format};
use crate::keys::RowKey;
use crate::{Bytes, Key, StoreError};

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct V1 {
    /// Family and whether it was granted QoS 1.
    subscriptions: Vec<(String, bool)>,
    changed: i64,
    last_activity: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attached: Option<u64>,
}

/// The row of `session`.
pub fn encode(session: &StoredSession) -> Bytes {
    let subscriptions = session.subscriptions;
    let enabled = Family::ALL.into_iter().filter(|family| subscriptions.has(*family));
    let record = V1 {
        subscriptions: enabled
            .map(|family| (family.as_str().to_owned(), subscriptions.is_at_least_once(family)))
            .collect(),
        changed: session.changed.ticks(),
        last_activity: session.last_activity.ticks(),
        attached: session.attached,
    };
    encode_record(1, &record)
}

/// The session at `key`, and whose it is.
pub fn decode(key: &Key, row: &[u8]) -> Result<(TwinId, StoredSession), StoreError> {
    let id = name(key, |key| match key {
        RowKey::Session(id) => Some(id),
        _ => None,
    })?;
    let record: V1 = match format_of(key, row)? {
        (1, json) => parse(key, json)?,
        (other, _) => return Err(unknown_format(key, other, 1)),
    };
    let mut subscriptions = Subscriptions::default();
    for (family, at_least_once) in &record.subscriptions {
        subscriptions =
            subscriptions.with(field(key, "subscriptions", Family::parse(family))?, *at_least_once);
    }
    let session = StoredSession {
        subscriptions,
        changed: time(record.changed),
        last_activity: time(record.last_activity),
        attached: record.attached,
    };
    Ok((id, session))
}
