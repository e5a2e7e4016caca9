//! The index against a plain map, and its counters.

use std::collections::BTreeMap;

use hub_domain::identity::{Authentication, Identity};
use hub_domain::query::{Aggregation, QUERY_GROUPS_MAX, TooManyGroups};
use hub_domain::time::Timestamp;
use hub_domain::twin::Stamp;
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

/// A change of a twin that is not packed yet.
pub(crate) fn twin_change(id: TwinId, twin: Arc<Twin>) -> Change {
    let packed = PackedTwin::new(&twin);
    Change::Twin(id, twin, packed)
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
                    index.apply(version, &[Change::Identity(identity(&id, status)), twin_change(id.clone(), twin)]);
                    model.insert(id, (status, version));
                }
                (1, true) => {
                    index.apply(version, &[Change::Identity(identity(&id, status))]);
                    model.entry(id).and_modify(|row| row.0 = status);
                }
                (2, true) => {
                    index.apply(version, &[twin_change(id.clone(), twin)]);
                    model.entry(id).and_modify(|row| row.1 = version);
                }
                (2, false) => index.apply(version, &[twin_change(id, twin)]),
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

fn put(index: &Index, number: u64, reported: serde_json::Map<String, serde_json::Value>) {
    let id = TwinId::parse(&format!("d{number}"), None).expect("an id");
    let mut twin = Twin::new(Timestamp::NEVER);
    twin.reported.replace(&reported, &Stamp::reported(Timestamp::NEVER));
    let identity = identity(&id, Status::Enabled);
    index.apply(number + 1, &[Change::Identity(identity), twin_change(id, Arc::new(twin))]);
}

#[test]
fn twins_with_thousands_of_paths_of_their_own_are_found_and_take_bounded_memory() {
    let (index, twins, paths) = (Index::default(), 5, 5000);
    let path = |number: u64, path: u64| format!("p{number}x{path}");
    for number in 0..twins {
        put(&index, number, (0..paths).map(|at| (path(number, at), at.into())).collect());
    }
    let memory = index.memory(0);
    // The first has columns for all of its paths, the second for some.
    assert_eq!(memory.twins_marked, twins - 1);
    assert!((paths..limits::INDEX_PATHS_MAX as u64 + 100).contains(&memory.paths_indexed), "{memory:?}");
    assert!(memory.bytes < 8 << 20, "{memory:?}");
    for (number, at) in [(0, 0), (1, 0), (1, paths - 1), (twins - 1, paths - 1)] {
        let text = format!("SELECT * FROM devices WHERE properties.reported.{} = {at}", path(number, at));
        let query = Query::parse(&text).expect("a query");
        let mut selection = index.select(Source::Devices, query.condition(), [], None);
        assert_eq!(selection.count_some(), Some(1), "{text}");
    }
    for number in 0..twins {
        index.apply(100, &[Change::Deleted(TwinId::parse(&format!("d{number}"), None).expect("an id"))]);
    }
    assert_eq!(index.memory(0), Memory::default());
}

#[test]
fn grouping_by_a_path_that_is_never_the_same_ends_with_words() {
    let index = Index::default();
    for number in 0..=QUERY_GROUPS_MAX as u64 {
        put(&index, number, [("serial".to_owned(), format!("SN-{number}").into())].into_iter().collect());
    }
    let text =
        "SELECT properties.reported.serial, COUNT() AS n FROM devices GROUP BY properties.reported.serial";
    let query = Query::parse(text).expect("a query");
    let mut aggregation = Aggregation::new(&query);
    let mut selection = index.select(Source::Devices, query.condition(), query.read_paths(), None);
    let refused = loop {
        match selection.aggregate_some(&mut aggregation) {
            Ok(true) => {}
            Ok(false) => panic!("more groups than may be"),
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, TooManyGroups);
    assert_eq!(aggregation.finish().len(), QUERY_GROUPS_MAX);
}

#[test]
fn scans_go_on_after_an_id() {
    let index = Index::default();
    for device in 0..5 {
        let id = id(device, 0);
        let twin = Arc::new(Twin::new(Timestamp::NEVER));
        index.apply(1, &[Change::Identity(identity(&id, Status::Enabled)), twin_change(id, twin)]);
    }
    let first = index.scan(Source::Devices, None, 2);
    let rest = index.scan(Source::Devices, Some(first[1].id()), 10);
    let names: Vec<_> = first.iter().chain(&rest).map(|entry| entry.id().to_string()).collect();
    assert_eq!(names, ["d0", "d1", "d2", "d3", "d4"]);
}
