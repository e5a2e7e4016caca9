//! The index against the plain evaluator: random twins that come, change and go, and random queries over them.
//! Bounds are so small that a handful of twins meets all forms of columns. `FLEETYARD_INDEX_CASES` sets how many cases
//! there are; each asks several queries.

use std::collections::BTreeMap;
use std::sync::Arc;

use hub_domain::identity::{Authentication, Identity, Status};
use hub_domain::query::{Aggregation, Query, TopRows, testing};
use hub_domain::time::Timestamp;
use hub_domain::twin::{Properties, Stamp};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::tests::twin_change;
use super::*;

/// Cases if nobody asks for more: some ten thousand queries, in seconds.
const CASES_DEFAULT: u32 = 1500;
/// Rows that an ordered query keeps here.
const TOP_ROWS: usize = 7;

fn cases() -> u32 {
    std::env::var("FLEETYARD_INDEX_CASES").ok().map_or(CASES_DEFAULT, |text| text.parse().expect("a number"))
}

/// Random queries that are none of these are passed over; a long run passes over more of them than the default allows.
fn config() -> ProptestConfig {
    let default = ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() };
    ProptestConfig { max_local_rejects: u32::MAX, ..default }
}

fn id(device: u8, module: bool) -> TwinId {
    TwinId::parse(&format!("d{device}"), module.then_some("m")).expect("an id")
}

fn identity(id: &TwinId, flavour: u8) -> Identity {
    Identity {
        id: id.clone(),
        generation: "1".into(),
        etag_counter: u64::from(flavour),
        status: if flavour.is_multiple_of(2) { Status::Enabled } else { Status::Disabled },
        status_reason: (flavour.is_multiple_of(3)).then(|| "a".repeat(usize::from(flavour))),
        status_updated: Timestamp::from_seconds(i64::from(flavour)),
        authentication: if flavour.is_multiple_of(4) {
            Authentication::CertificateAuthority
        } else {
            Authentication::None
        },
        managed_by: None,
        edge: flavour.is_multiple_of(5),
        device_scope: None,
        parent_scopes: Vec::new(),
    }
}

/// Values that meet the constants of random queries.
fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        6 => (-3i64..30).prop_map(Value::from),
        2 => (-3i64..4).prop_map(|number| Value::from(number as f64 / 2.0)),
        6 => select(vec!["", "a", "b", "12", "it's", "status", "a longer text"]).prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => Just(json!(-0.0)),
        1 => Just(json!(9007199254740993u64)),
        1 => any::<String>().prop_map(Value::from),
    ];
    scalar.prop_recursive(2, 8, 3, |element| {
        prop_oneof![
            1 => vec(element.clone(), 0..3).prop_map(Value::Array),
            3 => object_of(element).prop_map(Value::Object),
        ]
    })
}

fn object_of(value: impl Strategy<Value = Value>) -> impl Strategy<Value = serde_json::Map<String, Value>> {
    let name = prop_oneof![
        12 => select(vec!["a", "b", "c", "status"]),
        1 => select(vec!["GROUP", "from", "my key", "1", "]", "", "ß"])
    ];
    btree_map(name, value, 0..4)
        .prop_map(|members| members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn twin() -> impl Strategy<Value = Twin> {
    let section = || object_of(value());
    (section(), section(), section(), 0u8..4).prop_map(|(tags, desired, reported, flavour)| {
        let mut twin = Twin::new(Timestamp::from_seconds(1));
        let properties = |values, stamp: Stamp| {
            let mut properties = Properties::new(stamp.clone());
            properties.replace(&values, &stamp);
            properties
        };
        twin.tags = tags;
        twin.desired = properties(desired, Stamp::desired(Timestamp::from_seconds(2), 2));
        twin.reported = properties(reported, Stamp::reported(Timestamp::from_seconds(3)));
        twin.model_id = (flavour == 1).then(|| "a".into());
        if flavour >= 2 {
            let status =
                [ConfigurationStatus::Applied, ConfigurationStatus::Targeted][usize::from(flavour % 2)];
            twin.configurations.insert(ConfigurationId::parse("a").expect("an id"), status);
        }
        twin
    })
}

#[derive(Clone, Debug)]
enum Step {
    Put(TwinId, Twin, u8),
    Twin(TwinId, Twin),
    Patch(TwinId, serde_json::Map<String, Value>),
    Identity(TwinId, u8),
    Delete(TwinId),
    Connect(TwinId, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let id = || (0u8..24, prop::bool::weighted(0.2)).prop_map(|(device, module)| id(device, module));
    prop_oneof![
        8 => (id(), twin(), any::<u8>()).prop_map(|(id, twin, flavour)| Step::Put(id, twin, flavour)),
        2 => (id(), twin()).prop_map(|(id, twin)| Step::Twin(id, twin)),
        3 => (id(), object_of(value())).prop_map(|(id, patch)| Step::Patch(id, patch)),
        1 => (id(), any::<u8>()).prop_map(|(id, flavour)| Step::Identity(id, flavour)),
        2 => id().prop_map(Step::Delete),
        1 => (id(), any::<bool>()).prop_map(|(id, connected)| Step::Connect(id, connected)),
    ]
}

fn limits() -> impl Strategy<Value = Limits> {
    let small = (
        2usize..9,
        0usize..3,
        1usize..5,
        prop_oneof![2usize..12, Just(1000)],
        prop_oneof![2000usize..20_000, Just(1 << 30)],
        prop_oneof![1usize..8, Just(256)],
        prop_oneof![0usize..3, Just(1000)],
    );
    small.prop_map(
        |(
            chunk_rows_max,
            sparse_cells_max,
            narrow_codes_max,
            paths_max,
            bytes_max,
            text_bytes_max,
            open_twins_max,
        )| Limits {
            chunk_rows_max,
            sparse_cells_max,
            narrow_codes_max,
            paths_max,
            bytes_max,
            text_bytes_max,
            open_twins_max,
        },
    )
}

/// Terms as people write them, over paths that twins have.
fn usual_query() -> impl Strategy<Value = Query> {
    let path = || {
        select(vec![
            "tags.a",
            "tags.b",
            "tags.status",
            "tags.a.b",
            "properties.desired.a",
            "properties.reported.a",
            "properties.reported.b",
            "properties.reported.a.a",
            "properties.reported.$version",
            "properties.desired.$metadata.a.$lastUpdated",
            "connectionState",
            "status",
            "statusReason",
            "version",
            "capabilities.iotEdge",
            "configurations.a.status",
            "moduleId",
            "deviceId",
            "tags.nobody",
        ])
    };
    let constant = || {
        select(vec![
            "'a'",
            "'b'",
            "''",
            "'Connected'",
            "'enabled'",
            "'Applied'",
            "0",
            "1",
            "2",
            "1.5",
            "-1",
            "12",
            "20",
            "true",
            "null",
            "'12'",
            "9007199254740992",
        ])
    };
    let operator = select(vec!["=", "=", "!=", "<", "<=", ">", ">="]);
    let function = select(vec!["IS_DEFINED", "IS_NULL", "IS_NUMBER", "IS_STRING", "IS_OBJECT", "IS_ARRAY"]);
    let term = prop_oneof![
        8 => (path(), operator.clone(), constant())
            .prop_map(|(path, operator, constant)| format!("{path} {operator} {constant}")),
        1 => (constant(), operator.clone(), path())
            .prop_map(|(constant, operator, path)| format!("{constant} {operator} {path}")),
        2 => (path(), select(vec!["IN", "NIN"]), vec(constant(), 0..4))
            .prop_map(|(path, word, list)| format!("{path} {word} [{}]", list.join(", "))),
        2 => (function, path()).prop_map(|(function, path)| format!("{function}({path})")),
        1 => (path(), constant()).prop_map(|(path, constant)| format!("ARRAY_CONTAINS({path}, {constant})")),
        1 => path().prop_map(|path| format!("STARTSWITH({path}, 'a')")),
        1 => (path(), operator, path()).prop_map(|(left, operator, right)| format!("{left} {operator} {right}")),
        1 => (path(), constant()).prop_map(|(path, constant)| format!("LENGTH({path}) + 1 > {constant}")),
    ];
    let condition = term.prop_recursive(3, 8, 3, |operand| {
        prop_oneof![
            3 => vec(operand.clone(), 2..4).prop_map(|operands| format!("({})", operands.join(" AND "))),
            2 => vec(operand.clone(), 2..4).prop_map(|operands| format!("({})", operands.join(" OR "))),
            2 => operand.prop_map(|operand| format!("NOT ({operand})")),
        ]
    });
    let groups = vec(path(), 0..3).prop_map(|mut keys| {
        keys.sort_unstable();
        keys.dedup();
        keys
    });
    let shape = prop_oneof![
        2 => Just(("SELECT *".to_owned(), String::new())),
        1 => Just(("SELECT COUNT() AS n".to_owned(), String::new())),
        1 => (path(), path(), any::<bool>()).prop_map(|(first, second, down)| {
            let order = format!(" ORDER BY {first}, {second}{}", if down { " DESC" } else { "" });
            ("SELECT *".to_owned(), order)
        }),
        3 => (groups, path(), path()).prop_map(|(keys, first, second)| {
            let columns = keys.iter().enumerate().map(|(index, key)| format!("{key} AS k{index}, "));
            let select = format!(
                "SELECT {}COUNT() AS n, AVG({first}) AS a, SUM({second}) AS s, MIN({first}) AS l, MAX({second}) AS m",
                columns.collect::<String>()
            );
            let group = if keys.is_empty() { String::new() } else { format!(" GROUP BY {}", keys.join(", ")) };
            (select, group)
        }),
    ];
    let source = select(vec!["devices", "devices", "devices", "devices.modules"]);
    (shape, source, condition).prop_map(|((select, rest), source, condition)| {
        let text = format!("{select} FROM {source} WHERE {condition}{rest}");
        Query::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
    })
}

fn query() -> impl Strategy<Value = Query> {
    let any = testing::query().prop_filter("of twins", |query| source(query).is_some());
    prop_oneof![2 => usual_query(), 1 => any]
}

fn source(query: &Query) -> Option<Source> {
    match query.source() {
        hub_domain::query::Source::Devices => Some(Source::Devices),
        hub_domain::query::Source::DeviceModules => Some(Source::Modules),
        hub_domain::query::Source::DeviceJobs | hub_domain::query::Source::RetiredDevices => None,
    }
}

type Model = BTreeMap<TwinId, Arc<Entry>>;

/// Takes the step in the index, and notes in the model what the entry must be now.
fn take(index: &Index, model: &mut Model, version: u64, step: &Step) {
    let now = Timestamp::from_seconds(version as i64);
    let known = |id: &TwinId| model.get(id).cloned();
    let (id, changes) = match step {
        Step::Put(id, twin, flavour) => {
            let identity = Arc::new(identity(id, *flavour));
            (id, vec![Change::Identity(identity), twin_change(id.clone(), Arc::new(twin.clone()))])
        }
        Step::Twin(id, twin) => (id, vec![twin_change(id.clone(), Arc::new(twin.clone()))]),
        Step::Patch(id, patch) => {
            let Some(entry) = known(id) else { return };
            let mut twin = Twin::clone(&entry.twin);
            twin.reported.merge(patch, &Stamp::reported(now));
            (id, vec![twin_change(id.clone(), Arc::new(twin))])
        }
        Step::Identity(id, flavour) if model.contains_key(id) => {
            (id, vec![Change::Identity(Arc::new(identity(id, *flavour)))])
        }
        Step::Identity(..) => return,
        Step::Delete(id) => (id, vec![Change::Deleted(id.clone())]),
        Step::Connect(id, connected) => {
            if let Some(entry) = known(id) {
                index.set_connected(id, &entry.live, *connected, now);
            }
            return;
        }
    };
    index.apply(version, &changes);
    match index.get(id) {
        Some(entry) => model.insert(id.clone(), entry),
        None => model.remove(id),
    };
}

/// What the plain evaluator answers, twin by twin, and how many rows match.
fn plain(query: &Query, model: &Model) -> (Vec<String>, usize) {
    let is_module = source(query) == Some(Source::Modules);
    let rows = model.values().filter(|entry| entry.id().is_module() == is_module);
    let rows: Vec<_> = rows.filter(|entry| query.matches(&entry.document())).collect();
    let answer = if query.is_aggregate() {
        let mut aggregation = Aggregation::new(query);
        rows.iter().for_each(|entry| aggregation.add(&entry.document()).expect("few groups"));
        aggregation.finish().into_iter().map(|row| row.to_string()).collect()
    } else if query.is_ordered() {
        let mut keyed: Vec<_> =
            rows.iter().map(|entry| (query.sort_key(&entry.document()), entry.id())).collect();
        keyed.sort();
        keyed.into_iter().take(TOP_ROWS).map(|(_, id)| id.to_string()).collect()
    } else {
        rows.iter().map(|entry| entry.id().to_string()).collect()
    };
    (answer, rows.len())
}

fn start<'q>(index: &Index, query: &'q Query, after: Option<&TwinId>) -> Selection<'q> {
    index.select(source(query).expect("of twins"), query.condition(), query.read_paths(), after)
}

fn ids(mut selection: Selection<'_>, rows_max: usize) -> Vec<TwinId> {
    let mut ids = Vec::new();
    while ids.len() < rows_max {
        match selection.next() {
            Next::Found(row) => ids.push(row.id().clone()),
            Next::Pause => {}
            Next::End => break,
        }
    }
    ids
}

/// What the index answers.
fn indexed(query: &Query, index: &Index) -> (Vec<String>, usize) {
    let mut counting = start(index, query, None);
    let mut count = 0;
    while let Some(some) = counting.count_some() {
        count += some;
    }
    let mut selection = start(index, query, None);
    let answer = if query.is_aggregate() {
        let mut aggregation = Aggregation::new(query);
        while selection.aggregate_some(&mut aggregation).expect("few groups") {}
        aggregation.finish().into_iter().map(|row| row.to_string()).collect()
    } else if query.is_ordered() {
        let mut top = TopRows::new(TOP_ROWS);
        while selection.order_some(query, &mut top) {}
        top.finish().iter().map(|entry| entry.id().to_string()).collect()
    } else {
        // In pages, each from where the former one ended.
        let mut all = ids(selection, 3);
        while all.len().is_multiple_of(3)
            && let Some(last) = all.last().cloned()
        {
            match ids(start(index, query, Some(&last)), 3) {
                page if page.is_empty() => break,
                page => all.extend(page),
            }
        }
        all.iter().map(TwinId::to_string).collect()
    };
    (answer, count as usize)
}

/// An index that was filled at once with what the other came to row by row.
fn loaded(limits: Limits, model: &Model) -> Index {
    let index = Index::with_limits(limits);
    for source in [Source::Devices, Source::Modules] {
        let of_source = |entry: &&Arc<Entry>| entry.id().is_module() == (source == Source::Modules);
        let entries: Vec<_> = model.values().filter(of_source).collect();
        for some in entries.chunks(limits.chunk_rows_max + 1) {
            let mut loading = index.prepare(source);
            for entry in some {
                let row = StoredRow {
                    identity: (Identity::clone(&entry.identity), entry.identity_version),
                    twin: (entry.packed.as_bytes(), entry.twin_version),
                    session: None,
                };
                loading.push(row).expect("a packed twin");
            }
            index.load(loading.finish());
        }
    }
    for entry in model.values().filter(|entry| entry.live.connection().connected) {
        let row = index.get(entry.id()).expect("it was loaded");
        index.set_connected(entry.id(), &row.live, true, Timestamp::NEVER);
    }
    index
}

/// The accounts are those of the columns that there are, and no path or chunk is left behind.
fn check_accounts(index: &Index, model: &Model) {
    let state = index.read();
    let chunks = || state.devices.chunks().iter().chain(state.modules.chunks());
    assert_eq!(chunks().map(|chunk| chunk.len()).sum::<usize>(), model.len());
    assert!(chunks().all(|chunk| (1..=index.limits.chunk_rows_max).contains(&chunk.len())));
    let mut columns: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (id, column) in chunks().flat_map(|chunk| chunk.columns()) {
        let sum = columns.entry(state.paths.name(*id)).or_default();
        sum.0 += column.present() as u64;
        sum.1 += column.bytes() as u64;
    }
    let accounts = state.paths.memory().into_iter().filter(|path| path.is_indexed);
    let accounts: BTreeMap<_, _> = accounts.map(|path| (path.path, (path.rows, path.bytes))).collect();
    assert_eq!(accounts, columns);
    assert_eq!(state.paths.bytes() as u64, columns.values().map(|(_, bytes)| bytes).sum::<u64>());
    if model.is_empty() {
        assert!(state.paths.memory().iter().all(|path| !path.is_indexed));
    }
}

/// A reader of a standing query: what he was told, folded, and what is still in his queue.
struct Reader {
    query: Arc<Query>,
    number: usize,
    queue: Arc<Queue>,
    follow: Follow,
    rows: BTreeMap<TwinId, Value>,
}

#[derive(Default)]
struct Queue(std::sync::Mutex<VecDeque<Told>>);

impl Sink for Queue {
    fn tell(&self, told: Told) {
        self.0.lock().expect("not poisoned").push_back(told);
    }
}

impl Reader {
    fn new(index: &Index, query: &Query) -> Self {
        let (query, queue) = (Arc::new(query.clone()), Arc::new(Queue::default()));
        let number = index.watch(query.clone(), queue.clone());
        Self { query, number, queue, follow: Follow::default(), rows: BTreeMap::new() }
    }

    /// Takes the steps up to a moment, or all.
    fn take_steps(&mut self, until: Option<Moment>) {
        let mut queue = self.queue.0.lock().expect("not poisoned");
        while let Some(told) = queue.pop_front_if(|told| until.is_none_or(|until| told.moment <= until)) {
            if !self.follow.wants(&told) {
                continue;
            }
            let (id, row) = (told.entry.id().clone(), self.query.project(&told.document()));
            let former = match told.step {
                watched::Step::Enter | watched::Step::Change => self.rows.insert(id.clone(), row.clone()),
                watched::Step::Leave => self.rows.remove(&id),
            };
            assert_eq!(former.is_none(), told.step == watched::Step::Enter, "{id} of {}", self.query);
            // Whoever is shown all is told of each write, also of one that writes what is there.
            let is_change = told.step == watched::Step::Change;
            let is_news = !is_change
                || former != Some(row)
                || self.query.item_type() == hub_domain::query::ItemType::Twin;
            assert!(is_news, "no news of {id} of {}", self.query);
        }
    }

    /// Takes a page of the rows, while others change what comes behind it.
    fn take_page(&mut self, index: &Index, rows_max: usize) {
        let query = self.query.clone();
        let (moment, mut selection) = self.follow.page(index, &query);
        self.take_steps(Some(moment));
        let mut last = None;
        for _ in 0..rows_max {
            last = loop {
                match selection.next() {
                    Next::Found(row) => break Some(row.open()),
                    Next::Pause => {}
                    Next::End => break None,
                }
            };
            let Some(entry) = &last else { break };
            let former = self.rows.insert(entry.id().clone(), query.project(&entry.document()));
            assert_eq!(former, None, "{} came twice in {query}", entry.id());
        }
        self.follow.reached(last.map(|entry| entry.id().clone()));
    }

    fn expected(&self, model: &Model) -> BTreeMap<TwinId, Value> {
        let is_module = source(&self.query) == Some(Source::Modules);
        let rows = model.values().filter(|entry| entry.id().is_module() == is_module);
        let rows = rows.filter(|entry| self.query.matches(&entry.document()));
        rows.map(|entry| (entry.id().clone(), self.query.project(&entry.document()))).collect()
    }
}

/// Queries that can stand, with all forms of what is shown.
fn standing_query() -> impl Strategy<Value = Query> {
    let shown = select(vec!["*", "deviceId", "tags.a", "properties.reported.a AS x, connectionState"]);
    let any = testing::query().prop_filter("can stand", |query| query.check_live().is_ok());
    let usual = (usual_query(), shown).prop_map(|(query, shown)| {
        let condition = query.condition().to_string();
        let text = match query.source() {
            hub_domain::query::Source::DeviceModules => format!("SELECT {shown} {condition}"),
            source => format!("SELECT {shown} FROM {source} WHERE {condition}"),
        };
        Query::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"))
    });
    prop_oneof![3 => usual, 1 => any]
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn answers_are_those_of_the_plain_evaluator(
        limits in limits(),
        steps in vec(step(), 1..60),
        queries in vec(query(), 6),
    ) {
        let index = Index::with_limits(limits);
        let mut model = Model::new();
        let half = steps.len() / 2;
        for (version, step) in (1..).zip(&steps[..half]) {
            take(&index, &mut model, version, step);
        }
        check_accounts(&index, &model);
        // A selection stays as it was begun, whatever happens meanwhile; the live side of rows aside.
        let is_lasting = |query: &&Query| !query.to_string().contains("connectionState");
        let begun: Vec<_> = queries.iter().filter(is_lasting).map(|query| {
            let expected = model.values().filter(|entry| {
                Some(entry.id().is_module()) == source(query).map(|source| source == Source::Modules)
            });
            let expected = expected.filter(|entry| query.matches(&entry.document()));
            (query, start(&index, query, None), expected.map(|entry| entry.id().clone()).collect::<Vec<_>>())
        }).collect();
        for (version, step) in (half as u64 + 1..).zip(&steps[half..]) {
            take(&index, &mut model, version, step);
        }
        for (query, selection, expected) in begun {
            prop_assert_eq!(ids(selection, usize::MAX), expected, "begun before: {}", query);
        }
        check_accounts(&index, &model);
        let loaded = loaded(limits, &model);
        check_accounts(&loaded, &model);
        prop_assert_eq!(loaded.counts(), index.counts());
        let configuration = ConfigurationId::parse("a").expect("an id");
        prop_assert_eq!(loaded.configuration_counts(&configuration), index.configuration_counts(&configuration));
        for query in &queries {
            let expected = plain(query, &model);
            prop_assert_eq!(&indexed(query, &index), &expected, "{}", query);
            prop_assert_eq!(&indexed(query, &loaded), &expected, "loaded: {}", query);
        }
        for id in model.keys().cloned().collect::<Vec<_>>() {
            index.apply(1000, &[Change::Deleted(id)]);
        }
        check_accounts(&index, &Model::new());
    }

    #[test]
    fn what_standing_queries_are_told_is_what_they_would_answer(
        limits in limits(),
        steps in vec(step(), 1..50),
        queries in vec(standing_query(), 5),
        begin in any::<proptest::sample::Index>(),
        rows_max in 1usize..4,
    ) {
        let index = Index::with_limits(limits);
        let mut model = Model::new();
        let begin = begin.index(steps.len());
        for (version, step) in (1..).zip(&steps[..begin]) {
            take(&index, &mut model, version, step);
        }
        let mut readers: Vec<_> = queries.iter().map(|query| Reader::new(&index, query)).collect();
        for (version, step) in (begin as u64 + 1..).zip(&steps[begin..]) {
            take(&index, &mut model, version, step);
            for reader in &mut readers {
                // A page between two changes, until there are no more; then all that was told.
                if reader.follow.is_whole() {
                    reader.take_steps(None);
                    prop_assert_eq!(&reader.rows, &reader.expected(&model), "{}", reader.query);
                } else {
                    reader.take_page(&index, rows_max);
                }
            }
        }
        for reader in &mut readers {
            while !reader.follow.is_whole() {
                reader.take_page(&index, rows_max);
            }
            prop_assert_eq!(&reader.rows, &reader.expected(&model), "{}", reader.query);
            index.unwatch(reader.number);
        }
        prop_assert!(index.read().watched.is_empty());
    }
}
