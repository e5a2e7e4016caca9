//! Where the query language means what SQL means, the hub and PostgreSQL answer the same over the same fleet: each construct
//! that `docs/query-language.md` names, beside a statement that somebody else's program evaluates.

use anyhow::{Context, Result, bail};
use hub_domain::id::TwinId;
use hub_domain::identity::IdentitySpec;
use hub_domain::twin::{TwinPatch, TwinUpdate, WriteMode};
use hub_domain::version::Precondition;
use hub_testkit::TestHub;
use serde_json::Value;

use crate::fleet::name;
use crate::population::twin;
use crate::postgres::Postgres;

const TWINS: usize = 1500;
/// How far sums and averages may be apart: nobody says in which order they are added up.
const ROUNDING: f64 = 1e-9;

/// Conditions. In SQL `t(path)`, `n(path)`, `b(path)` and `j(path)` are the text, number, boolean and document at a path.
const CONDITIONS: [(&str, &str); 36] = [
    ("tags.location.site = 'site-7'", "t(tags.location.site) = 'site-7'"),
    ("tags.ring != 0", "n(tags.ring) <> 0"),
    ("tags.ring <> 0 AND tags.kind = 'meter'", "n(tags.ring) <> 0 AND t(tags.kind) = 'meter'"),
    ("properties.reported.battery.level >= 50", "n(properties.reported.battery.level) >= 50"),
    ("properties.reported.temperature < 2e1", "n(properties.reported.temperature) < 20"),
    ("properties.reported.firmware.version <= '1.3.0'", "t(properties.reported.firmware.version) <= '1.3.0'"),
    ("properties.reported.lastBoot > '2026-01-15T12'", "t(properties.reported.lastBoot) > '2026-01-15T12'"),
    // What only some devices have: unknown elsewhere, and so is its negation.
    ("properties.reported.pressure.alarm = true", "b(properties.reported.pressure.alarm) = true"),
    ("NOT properties.reported.pressure.alarm = true", "NOT b(properties.reported.pressure.alarm) = true"),
    ("properties.reported.pressure.in != 17", "n(properties.reported.pressure.in) <> 17"),
    ("NOT (properties.reported.reading.phase = 1)", "NOT n(properties.reported.reading.phase) = 1"),
    (
        "NOT IS_DEFINED(properties.reported.reading) OR properties.reported.reading.phase != 1",
        "j(properties.reported.reading) IS NULL OR n(properties.reported.reading.phase) <> 1",
    ),
    (
        "properties.reported.reading.sealed AND tags.ring = 0",
        "b(properties.reported.reading.sealed) AND n(tags.ring) = 0",
    ),
    (
        "tags.ring = 1 OR tags.ring = 2 AND tags.kind = 'pump'",
        "n(tags.ring) = 1 OR n(tags.ring) = 2 AND t(tags.kind) = 'pump'",
    ),
    (
        "(tags.ring = 1 OR tags.ring = 2) AND NOT tags.kind = 'pump'",
        "(n(tags.ring) = 1 OR n(tags.ring) = 2) AND NOT t(tags.kind) = 'pump'",
    ),
    ("tags.owner IN ['team-1', 'team-2', 'nobody']", "t(tags.owner) IN ('team-1', 'team-2', 'nobody')"),
    ("tags.owner NIN ['team-0', 'team-1']", "t(tags.owner) NOT IN ('team-0', 'team-1')"),
    ("properties.reported.reading.phase NIN [0, 2]", "n(properties.reported.reading.phase) NOT IN (0, 2)"),
    (
        "IS_OBJECT(properties.reported.video.lens)",
        "jsonb_typeof(j(properties.reported.video.lens)) = 'object'",
    ),
    (
        "IS_BOOL(properties.reported.pressure.alarm)",
        "jsonb_typeof(j(properties.reported.pressure.alarm)) = 'boolean'",
    ),
    (
        "IS_NUMBER(properties.reported.reading.phase) OR IS_STRING(properties.reported.video.lens.type)",
        "jsonb_typeof(j(properties.reported.reading.phase)) = 'number' OR jsonb_typeof(j(properties.reported.video.lens.type)) = 'string'",
    ),
    (
        "STARTSWITH(properties.reported.serial, 'SN-0000000001')",
        "starts_with(t(properties.reported.serial), 'SN-0000000001')",
    ),
    ("ENDSWITH(properties.reported.serial, '7')", "right(t(properties.reported.serial), 1) = '7'"),
    (
        "CONTAINS(properties.desired.firmware.url, 'm/p')",
        "strpos(t(properties.desired.firmware.url), 'm/p') > 0",
    ),
    ("INDEX_OF(tags.kind, 'e') = 1", "strpos(t(tags.kind), 'e') - 1 = 1"),
    ("LENGTH(tags.location.site) = 7", "length(t(tags.location.site)) = 7"),
    (
        "UPPER(tags.kind) = 'PUMP' OR LOWER(tags.kind) = 'meter'",
        "upper(t(tags.kind)) = 'PUMP' OR lower(t(tags.kind)) = 'meter'",
    ),
    (
        "CONCAT(tags.kind, '/', tags.owner) = 'pump/team-0'",
        "t(tags.kind) || '/' || t(tags.owner) = 'pump/team-0'",
    ),
    ("SUBSTRING(tags.kind, 1, 2) = 'um'", "substr(t(tags.kind), 2, 2) = 'um'"),
    ("AS_NUMBER(SUBSTRING(tags.location.country, 1)) > 9", "substr(t(tags.location.country), 2)::float8 > 9"),
    (
        "properties.reported.pressure.out - properties.reported.pressure.in > 2 * 100 + 50",
        "n(properties.reported.pressure.out) - n(properties.reported.pressure.in) > 250",
    ),
    ("properties.reported.uptime % 7 = 3", "n(properties.reported.uptime)::numeric % 7 = 3"),
    ("-properties.reported.rssi / 2 >= 30.5", "-n(properties.reported.rssi) / 2 >= 30.5"),
    (
        "ABS(properties.reported.rssi) > 80 AND SIGN(properties.reported.rssi) = -1",
        "abs(n(properties.reported.rssi)) > 80 AND sign(n(properties.reported.rssi)) = -1",
    ),
    (
        "FLOOR(properties.reported.temperature) = 20 OR CEILING(properties.reported.temperature) = 30",
        "floor(n(properties.reported.temperature)) = 20 OR ceiling(n(properties.reported.temperature)) = 30",
    ),
    (
        "properties.reported.firmware.version != properties.desired.firmware.version",
        "t(properties.reported.firmware.version) <> t(properties.desired.firmware.version)",
    ),
];

/// Whole queries: each row of the statement is a document, and where both order them, in the same order.
const QUERIES: [(&str, &str); 7] = [
    (
        "SELECT COUNT() AS n, MIN(tags.ring) AS low, MAX(properties.reported.uptime) AS high FROM devices",
        "SELECT jsonb_build_object('n', count(*), 'low', min(n(tags.ring)), 'high', max(n(properties.reported.uptime))) FROM twins",
    ),
    (
        "SELECT tags.kind, COUNT() AS n, AVG(properties.reported.battery.level) AS level, SUM(properties.reported.rssi) AS rssi \
         FROM devices GROUP BY tags.kind",
        "SELECT jsonb_build_object('kind', t(tags.kind), 'n', count(*), 'level', avg(n(properties.reported.battery.level)), \
         'rssi', sum(n(properties.reported.rssi))) FROM twins GROUP BY t(tags.kind)",
    ),
    (
        "SELECT properties.reported.video.lens.type AS lens, COUNT() AS n FROM devices \
         GROUP BY properties.reported.video.lens.type",
        "SELECT jsonb_strip_nulls(jsonb_build_object('lens', t(properties.reported.video.lens.type), 'n', count(*))) \
         FROM twins GROUP BY t(properties.reported.video.lens.type)",
    ),
    (
        "SELECT tags.ring, tags.kind, COUNT() AS n FROM devices WHERE properties.reported.battery.level < 40 \
         GROUP BY tags.ring, tags.kind ORDER BY tags.ring DESC, kind",
        "SELECT jsonb_build_object('ring', n(tags.ring), 'kind', t(tags.kind), 'n', count(*)) FROM twins \
         WHERE n(properties.reported.battery.level) < 40 GROUP BY n(tags.ring), t(tags.kind) \
         ORDER BY n(tags.ring) DESC, t(tags.kind)",
    ),
    (
        "SELECT TOP 25 deviceId, properties.reported.temperature FROM devices \
         ORDER BY properties.reported.temperature DESC, deviceId",
        "SELECT jsonb_build_object('deviceId', id, 'temperature', n(properties.reported.temperature)) FROM twins \
         ORDER BY n(properties.reported.temperature) DESC, id LIMIT 25",
    ),
    (
        "SELECT deviceId, properties.reported.pressure.in AS pressure FROM devices WHERE tags.ring = 3 \
         ORDER BY properties.reported.pressure.in, deviceId DESC",
        "SELECT jsonb_strip_nulls(jsonb_build_object('deviceId', id, 'pressure', n(properties.reported.pressure.in))) FROM twins \
         WHERE n(tags.ring) = 3 ORDER BY n(properties.reported.pressure.in) NULLS FIRST, id DESC",
    ),
    (
        "SELECT deviceId, tags.location, properties.reported.battery FROM devices WHERE tags.location.floor = 5",
        "SELECT jsonb_build_object('deviceId', id, 'location', j(tags.location), 'battery', j(properties.reported.battery)) \
         FROM twins WHERE n(tags.location.floor) = 5",
    ),
];

/// A statement with its short forms written out.
fn sql(short: &str) -> String {
    let mut text = String::new();
    let mut rest = short;
    while let Some(at) = ["t(", "n(", "b(", "j("]
        .iter()
        .filter_map(|form| {
            let starts = [format!("{form}tags."), format!("{form}properties.")];
            starts.iter().filter_map(|start| rest.find(start.as_str())).min()
        })
        .min()
    {
        let (before, form) = rest.split_at(at);
        let (path, after) = form[2..].split_once(')').expect("a form ends");
        let path = path.replace('.', ",");
        text.push_str(before);
        text.push_str(&match form.as_bytes()[0] {
            b'j' => format!("(doc #> '{{{path}}}')"),
            b't' => format!("(doc #>> '{{{path}}}')"),
            b'n' => format!("(doc #>> '{{{path}}}')::float8"),
            _ => format!("(doc #>> '{{{path}}}')::boolean"),
        });
        rest = after;
    }
    text + rest
}

async fn fleet() -> Result<TestHub> {
    let test = TestHub::start().await;
    let owner = test.owner();
    for number in 0..TWINS {
        let (id, line) = (TwinId::parse(&name(number), None)?, twin(number));
        let section = |pointer: &str| -> Result<TwinPatch> {
            Ok(TwinPatch::from_value(line.pointer(pointer).context("a section")?.clone())?)
        };
        test.hub.identity_create(&owner, id.clone(), IdentitySpec::default()).await?;
        let update =
            TwinUpdate { tags: Some(section("/tags")?), desired: Some(section("/properties/desired")?) };
        test.hub.twin_update(&owner, &id, &update, WriteMode::Patch, &Precondition::None).await?;
        test.hub.twin_patch_reported(&owner, &id, &section("/properties/reported")?, None).await?;
    }
    Ok(test)
}

async fn hub_rows(test: &TestHub, query: &str) -> Result<Vec<Value>> {
    let (mut rows, mut continuation) = (Vec::new(), None);
    loop {
        let page = test.hub.query(&test.owner(), query, None, continuation.as_deref()).await;
        let page = page.with_context(|| query.to_owned())?;
        rows.extend(page.values());
        match page.continuation {
            Some(next) => continuation = Some(next),
            None => return Ok(rows),
        }
    }
}

async fn peer_rows(database: &tokio_postgres::Client, statement: &str) -> Result<Vec<Value>> {
    let text = format!("SELECT row::text FROM ({statement}) AS answer(row)");
    let rows = database.query(&text, &[]).await.with_context(|| text.clone())?;
    rows.iter().map(|row| Ok(serde_json::from_str(row.get::<_, &str>(0))?)).collect()
}

/// Whether two values are the same but for rounding.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => {
            let (left, right) = (left.as_f64().unwrap_or(f64::NAN), right.as_f64().unwrap_or(f64::NAN));
            (left - right).abs() <= ROUNDING * left.abs().max(1.0)
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(name, value)| right.get(name).is_some_and(|other| same(value, other)))
        }
        _ => left == right,
    }
}

fn compare(query: &str, mut hub: Vec<Value>, mut peer: Vec<Value>) -> Result<()> {
    if !query.contains("ORDER BY") {
        // By what both print alike: the first column's text, never a figure that is rounded.
        let key = |row: &Value| ["deviceId", "kind", "lens"].map(|name| row[name].to_string());
        hub.sort_by_cached_key(key);
        peer.sort_by_cached_key(key);
    }
    if hub.len() != peer.len() {
        bail!("{query}: the hub has {} rows, PostgreSQL {}", hub.len(), peer.len());
    }
    match hub.iter().zip(&peer).find(|(left, right)| !same(left, right)) {
        Some((hub, peer)) => bail!("{query}: the hub says {hub}, PostgreSQL {peer}"),
        None => Ok(()),
    }
}

#[tokio::test]
async fn documented_queries_mean_what_they_mean_in_sql() -> Result<()> {
    let test = fleet().await?;
    let peer = Postgres::start().await?;
    let database = peer.load(TWINS).await?;
    let mut found = 0;
    for (condition, short) in CONDITIONS {
        let query = format!("SELECT deviceId FROM devices WHERE {condition}");
        let statement = sql(&format!("SELECT jsonb_build_object('deviceId', id) FROM twins WHERE {short}"));
        let rows = hub_rows(&test, &query).await?;
        assert!(!rows.is_empty() && rows.len() < TWINS, "{condition} tells nothing apart: {}", rows.len());
        found += rows.len();
        compare(&query, rows, peer_rows(&database, &statement).await?)?;
    }
    for (query, short) in QUERIES {
        let rows = hub_rows(&test, query).await?;
        assert!(!rows.is_empty(), "{query} finds nothing");
        compare(query, rows, peer_rows(&database, &sql(short)).await?)?;
    }
    println!("{} queries with {found} rows agree", CONDITIONS.len() + QUERIES.len());
    Ok(())
}
