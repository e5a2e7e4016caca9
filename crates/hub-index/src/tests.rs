//! The index against a plain map, and its counters.

use std::collections::BTreeMap;

use hub_domain::identity::{Authentication, Identity};
use hub_domain::time::Timestamp;
use proptest::prelude::*;

use super::*;

fn identity(id: &TwinId, status: Status) -> Arc<Identity> {
    Arc::new(Identity {
        id: id.clone(),
        generation: "1".into(),
        etag_counter: 1,
        status,
        status_reason: None,
        status_updated: Timestamp::NEVER,
        authentication: Authentication::None,
        managed_by: None,
        edge: false,
        device_scope: None,
        parent_scopes: Vec::new(),
    })
}

fn id(device: u8, module: u8) -> TwinId {
    let module = (module > 0).then(|| format!("m{module}"));
    TwinId::parse(&format!("d{device}"), module.as_deref()).expect("an id")
}

proptest! {
    #[test]
    fn agrees_with_a_plain_map(steps in prop::collection::vec((0u8..5, 0u8..3, 0u8..4), 0..60)) {
        let index = Index::default();
        let mut model: BTreeMap<TwinId, (Status, u64)> = BTreeMap::new();
        for (version, (device, module, action)) in (1u64..).zip(steps) {
            let id = id(device, module);
            let twin = Arc::new(Twin::new(Timestamp::from_seconds(version as i64)));
            let status = if version % 2 == 0 { Status::Enabled } else { Status::Disabled };
            let known = model.contains_key(&id);
            match (action, known) {
                (0 | 1, false) => {
                    index.apply(version, &[Change::Identity(identity(&id, status)), Change::Twin(id.clone(), twin)]);
                    model.insert(id, (status, version));
                }
                (1, true) => {
                    index.apply(version, &[Change::Identity(identity(&id, status))]);
                    model.entry(id).and_modify(|row| row.0 = status);
                }
                (2, true) => {
                    index.apply(version, &[Change::Twin(id.clone(), twin)]);
                    model.entry(id).and_modify(|row| row.1 = version);
                }
                (2, false) => index.apply(version, &[Change::Twin(id, twin)]),
                _ => {
                    index.apply(version, &[Change::Deleted(id.clone())]);
                    model.remove(&id);
                }
            }
        }
        for source in [Source::Devices, Source::Modules] {
            let expected: Vec<_> = model.iter().filter(|(id, _)| id.is_module() == (source == Source::Modules)).collect();
            let found = index.scan(source, None, 1000);
            prop_assert_eq!(found.len(), expected.len());
            for (entry, (id, (status, version))) in found.iter().zip(expected) {
                prop_assert_eq!((entry.id(), entry.identity.status, entry.twin_version), (id, *status, *version));
            }
        }
        let devices: Vec<_> = model.iter().filter(|(id, _)| !id.is_module()).collect();
        let counts = Counts {
            devices: devices.len() as u64,
            enabled: devices.iter().filter(|(_, (status, _))| *status == Status::Enabled).count() as u64,
            modules: (model.len() - devices.len()) as u64,
        };
        prop_assert_eq!(index.counts(), counts);
        for device in 0..5 {
            let device = id(device, 0).device;
            let expected = model.keys().filter(|id| id.is_module() && id.device == device).count();
            prop_assert_eq!(index.modules_of(&device).len(), expected);
        }
    }
}

#[test]
fn scans_go_on_after_an_id() {
    let index = Index::default();
    for device in 0..5 {
        let id = id(device, 0);
        let twin = Arc::new(Twin::new(Timestamp::NEVER));
        index.apply(1, &[Change::Identity(identity(&id, Status::Enabled)), Change::Twin(id, twin)]);
    }
    let first = index.scan(Source::Devices, None, 2);
    let rest = index.scan(Source::Devices, Some(first[1].id()), 10);
    let names: Vec<_> = first.iter().chain(&rest).map(|entry| entry.id().to_string()).collect();
    assert_eq!(names, ["d0", "d1", "d2", "d3", "d4"]);
}
