//! Kills the real hub with SIGKILL under concurrent load, again and again, and compares what is there afterwards with
//! every write that was acknowledged, and with the end of an undisturbed run. What a SIGKILL cannot show, a missing sync, is tested in hub-store.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hub_domain::sas::{SymmetricKey, make_token};
use hub_domain::time::Timestamp;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};

use crate::support::{Hub, folder, soon};

/// Devices that are written to at the same time.
const WRITERS: usize = 8;
/// Kills in a normal run; `FLEETYARD_CRASH_ROUNDS` asks for more.
const ROUNDS: u64 = 20;

/// How often a test kills the hub.
pub fn rounds(default: u64) -> u64 {
    std::env::var("FLEETYARD_CRASH_ROUNDS").map_or(default, |text| text.parse().expect("a number"))
}

/// A pause that differs from round to round and from run to run.
pub async fn random_moment(longest: Duration) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let longest = u64::try_from(longest.as_micros()).expect("not long").max(1);
    tokio::time::sleep(Duration::from_micros(u64::from(now.subsec_nanos()) % longest)).await;
}

/// A client of the hub that is killed; the hub itself is in `hub`.
pub struct Owner {
    pub hub: Hub,
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Owner {
    async fn start(data: &Path) -> Self {
        Self::start_with(data, &[]).await
    }

    /// With further arguments of `serve`.
    pub async fn start_with(data: &Path, more: &[&str]) -> Self {
        let hub = Hub::start_with(data, more).await;
        let port = hub.https.rsplit_once(':').expect("a port").1;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(data.join("tls/ca.pem")).expect("its CA")).expect("a CA");
        let tls =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("TLS versions")
                .with_root_certificates(roots)
                .with_no_client_auth();
        let http = reqwest::Client::builder().tls_backend_preconfigured(tls).build().expect("a client");
        Self { base: format!("https://localhost:{port}"), token: owner_token(data), hub, http }
    }

    fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().expect("a method");
        let url = format!("{}{path}?api-version=2021-04-12", self.base);
        self.http.request(method, url).header("Authorization", &self.token)
    }

    /// The text of an answer.
    pub async fn text(&self, path: &str) -> String {
        let answer = self.request("GET", path).send().await.expect("an answer");
        answer.text().await.expect("a whole answer")
    }

    /// Sends a body as it is; no answer, if the hub is killed.
    pub async fn send_text(&self, method: &str, path: &str, body: String) -> Option<(u16, Value)> {
        answer_of(self.request(method, path).body(body)).await
    }

    async fn send(&self, method: &str, path: &str, body: Option<Value>) -> Option<(u16, Value)> {
        let request = self.request(method, path);
        answer_of(match body {
            Some(body) => request.json(&body),
            None => request,
        })
        .await
    }
}

async fn answer_of(request: reqwest::RequestBuilder) -> Option<(u16, Value)> {
    let answer = request.send().await.ok()?;
    let status = answer.status().as_u16();
    Some((status, answer.json().await.unwrap_or(Value::Null)))
}

fn owner_token(data: &Path) -> String {
    let text = std::fs::read(data.join("policies.json")).expect("the policies");
    let policies: Value = serde_json::from_slice(&text).expect("JSON");
    let list = policies["policies"].as_array().expect("a list");
    let owner = list.iter().find(|policy| policy["name"] == "iothubowner").expect("the owner");
    let key = SymmetricKey::parse(owner["primaryKey"].as_str().expect("a key")).expect("a key");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    make_token("localhost", &key, Timestamp::from_seconds(now as i64 + 3600), Some("iothubowner"))
}

/// What is known of one device's writes: the last that was sent and the last that was acknowledged.
#[derive(Default)]
struct Writes {
    sent: AtomicU64,
    acknowledged: AtomicU64,
}

async fn write_until_dead(owner: &Owner, device: &str, writes: &Writes) {
    loop {
        let n = writes.sent.load(Ordering::Relaxed) + 1;
        writes.sent.store(n, Ordering::Relaxed);
        let body =
            json!({ "tags": { "n": n }, "properties": { "desired": { "n": n, "text": "x".repeat(200) } } });
        match owner.send("PATCH", &format!("/twins/{device}"), Some(body)).await {
            Some((200, twin)) => {
                assert_eq!(
                    twin["properties"]["desired"]["$version"],
                    json!(n + 1),
                    "{device}: a version was skipped"
                );
                writes.acknowledged.store(n, Ordering::Relaxed);
            }
            Some((status, body)) => panic!("{device}: {status} {body}"),
            None => return,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_writes_survive_sigkill() {
    let rounds = rounds(ROUNDS);
    let folder = folder();
    let all: Vec<(String, Writes)> = (0..WRITERS).map(|n| (format!("d{n}"), Writes::default())).collect();
    let mut total = 0;
    for round in 0..=rounds {
        let mut owner = Owner::start(folder.path()).await;
        for (device, writes) in &all {
            if round == 0 {
                let (status, body) = owner
                    .send("PUT", &format!("/devices/{device}"), Some(json!({ "deviceId": device })))
                    .await
                    .expect("an answer");
                assert_eq!(status, 200, "{body}");
                continue;
            }
            let (status, twin) =
                owner.send("GET", &format!("/twins/{device}"), None).await.expect("an answer");
            assert_eq!(status, 200, "{twin}");
            let (sent, acknowledged) =
                (writes.sent.load(Ordering::Relaxed), writes.acknowledged.load(Ordering::Relaxed));
            let n = twin["tags"]["n"].as_u64().unwrap_or(0);
            assert!(
                (acknowledged..=sent).contains(&n),
                "{device}: acknowledged {acknowledged}, sent {sent}, found {n}"
            );
            let desired = &twin["properties"]["desired"];
            assert_eq!(desired["n"].as_u64().unwrap_or(0), n, "{device}: half of a write is there: {twin}");
            assert_eq!(desired["$version"], json!(n + 1), "{device}: versions have a gap");
            writes.sent.store(n, Ordering::Relaxed);
            writes.acknowledged.store(n, Ordering::Relaxed);
        }
        if round == rounds {
            break;
        }
        let before: u64 = all.iter().map(|(_, writes)| writes.acknowledged.load(Ordering::Relaxed)).sum();
        let load = futures_util::future::join_all(
            all.iter().map(|(device, writes)| write_until_dead(&owner, device, writes)),
        );
        // Spread over the length of several group commits.
        let kill = async {
            tokio::time::sleep(Duration::from_millis(60)).await;
            random_moment(Duration::from_millis(240)).await;
            owner.hub.signal("KILL").await;
        };
        tokio::join!(load, kill);
        owner.hub.process.wait().await.expect("it ends");
        let after: u64 = all.iter().map(|(_, writes)| writes.acknowledged.load(Ordering::Relaxed)).sum();
        total += after - before;
    }
    assert!(total > rounds, "there was hardly any load: {total} writes in {rounds} rounds");
    println!("{total} acknowledged writes over {rounds} kills, none lost");
}

/// Devices that jobs and configurations act on.
const FLEET: u64 = 600;
/// Jobs and changes of configurations that are killed twice each; `FLEETYARD_CRASH_ROUNDS` asks for more.
const OPERATION_ROUNDS: u64 = 6;

impl Owner {
    pub async fn expect(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let (status, body) = self.send(method, path, body).await.expect("an answer");
        assert!((200..300).contains(&status), "{method} {path}: {status} {body}");
        body
    }

    async fn register_fleet(&self) {
        let item = |n| {
            let half = if n % 2 == 0 { "a" } else { "b" };
            json!({ "id": format!("d{n}"), "importMode": "create", "tags": { "half": half } })
        };
        for start in (0..FLEET).step_by(100) {
            self.expect("POST", "/devices", Some((start..start + 100).map(item).collect())).await;
        }
    }

    /// Has a job and one change of a configuration made. A hub that is killed over it may be asked again for what it did
    /// not acknowledge.
    async fn operate(&self, round: u64) {
        let desired = json!({ "job": { format!("r{round}"): round } });
        let patch = json!({ "etag": "*", "properties": { "desired": desired } });
        let job = json!({ "type": "scheduleUpdateTwin", "queryCondition": "*", "updateTwin": patch });
        let job = self.request("PUT", &format!("/jobs/v2/job-{round}")).json(&job);
        let (of, change) = change_of(round);
        let path = format!("/configurations/c{of}");
        let body = |condition| {
            let content =
                json!({ "deviceContent": { format!("properties.desired.configuration.r{of}"): of } });
            json!({ "content": content, "targetCondition": condition, "priority": 1 })
        };
        let configuration = match change {
            Change::Create => self.request("PUT", &path).json(&body("*")),
            Change::Narrow => {
                self.request("PUT", &path).header("If-Match", "*").json(&body("tags.half = 'a'"))
            }
            Change::Delete => self.request("DELETE", &path).header("If-Match", "*"),
        };
        for request in [job, configuration] {
            let Some((status, answer)) = answer_of(request).await else { return };
            assert!([200, 204, 404, 409].contains(&status), "round {round}: {status} {answer}");
        }
    }

    /// Whether the job of a round is over, with every device done, and the configuration is where it is to be.
    async fn is_done(&self, round: u64) -> bool {
        let Some((status, job)) = self.send("GET", &format!("/jobs/v2/job-{round}"), None).await else {
            return false;
        };
        if status != 200 || job["endTime"].is_null() {
            return false;
        }
        let done = &job["deviceJobStatistics"]["succeededCount"];
        assert_eq!((&job["status"], done), (&json!("completed"), &json!(FLEET)), "{job}");
        let (of, change) = change_of(round);
        let text =
            format!("SELECT COUNT() AS n FROM devices WHERE configurations.[[c{of}]].status = 'Applied'");
        let Some((_, rows)) = self.send("POST", "/devices/query", Some(json!({ "query": text }))).await
        else {
            return false;
        };
        let expected = match change {
            Change::Create => FLEET,
            Change::Narrow => FLEET / 2,
            Change::Delete => 0,
        };
        rows[0]["n"].as_u64().unwrap_or(0) == expected
    }

    async fn done(&self, round: u64) {
        soon("the end of a round", async {
            while !self.is_done(round).await {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    /// All desired properties, with the versions to which the changes brought them.
    async fn desired(&self) -> Vec<Value> {
        let text = self.text("/api/export").await;
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        lines
            .map(|mut line| {
                line["properties"]["desired"]["$metadata"].take();
                json!([line["id"], line["properties"]["desired"]])
            })
            .collect()
    }
}

/// What becomes of a configuration.
enum Change {
    Create,
    /// Half of the devices leave it.
    Narrow,
    Delete,
}

/// Which configuration a round changes, and how.
fn change_of(round: u64) -> (u64, Change) {
    match round % 3 {
        0 => (round, Change::Create),
        1 => (round - 1, Change::Narrow),
        _ => (round - 2, Change::Delete),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_and_configurations_end_as_if_nobody_had_killed_the_hub() {
    let rounds = rounds(OPERATION_ROUNDS);
    let (undisturbed, disturbed) = (folder(), folder());
    let owner = Owner::start(undisturbed.path()).await;
    owner.register_fleet().await;
    let started = Instant::now();
    for round in 0..rounds {
        owner.operate(round).await;
        owner.done(round).await;
    }
    let took = started.elapsed() / u32::try_from(rounds).expect("a few");
    let expected = owner.desired().await;
    drop(owner);

    let mut owner = Owner::start(disturbed.path()).await;
    owner.register_fleet().await;
    let mut cut_off = 0;
    for round in 0..rounds {
        for _ in 0..2 {
            let kill = async {
                random_moment(took).await;
                owner.hub.signal("KILL").await;
            };
            tokio::join!(owner.operate(round), kill);
            owner.hub.process.wait().await.expect("it ends");
            owner = Owner::start(disturbed.path()).await;
            cut_off += u64::from(!owner.is_done(round).await);
        }
        owner.operate(round).await;
        owner.done(round).await;
    }
    assert_eq!(owner.desired().await, expected, "after {cut_off} cuts");
    assert!(cut_off > 0, "no kill came while anything was done");
    println!("{cut_off} of {} kills within rounds of {} ms", 2 * rounds, took.as_millis());
}

/// Devices that are retired and restored under kills.
const RETIRING: usize = 120;
/// Kills while devices are retired and restored; `FLEETYARD_CRASH_ROUNDS` asks for more.
const RETIRE_ROUNDS: u64 = 6;

impl Owner {
    /// Whether a device is retired; whatever it is, it is wholly.
    async fn is_retired(&self, device: &str) -> bool {
        let found = |path: String| async move { self.send("GET", &path, None).await.expect("an answer") };
        let (registry, _) = found(format!("/devices/{device}")).await;
        let (module, _) = found(format!("/devices/{device}/modules/m")).await;
        let (twin, body) = found(format!("/twins/{device}")).await;
        let (retired, record) = found(format!("/api/retired/{device}")).await;
        let all = [registry, module, twin, retired];
        assert!([[200, 200, 200, 404], [404, 404, 404, 200]].contains(&all), "{device}: {all:?}");
        let documents = &record["documents"];
        let tags = if retired == 200 { &documents[0]["tags"] } else { &body["tags"] };
        assert_eq!(tags, &json!({ "of": device }), "{device}");
        assert!(retired != 200 || documents.as_array().map(Vec::len) == Some(2), "{record}");
        retired == 200
    }

    /// Retires or restores devices one after another until the hub is dead; gives those whose act was acknowledged.
    async fn act_until_dead(&self, act: &str, devices: &[String]) -> Vec<String> {
        let mut acknowledged = Vec::new();
        for device in devices {
            let path = match act {
                "retire" => format!("/api/devices/{device}/retire"),
                _ => format!("/api/retired/{device}/restore"),
            };
            match self.send("POST", &path, Some(json!({}))).await {
                Some((200, _)) => acknowledged.push(device.clone()),
                Some((status, body)) => panic!("{act} {device}: {status} {body}"),
                None => break,
            }
        }
        acknowledged
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_wholly_there_or_wholly_retired_whenever_the_hub_is_killed() {
    let rounds = rounds(RETIRE_ROUNDS);
    let folder = folder();
    let devices: Vec<String> = (0..RETIRING).map(|n| format!("d{n}")).collect();
    let mut retired = vec![false; RETIRING];
    let mut acts = 0;
    let mut owner = Owner::start(folder.path()).await;
    for device in &devices {
        let item = json!([{ "id": device, "importMode": "create", "tags": { "of": device } }]);
        owner.expect("POST", "/devices", Some(item)).await;
        let module = json!({ "deviceId": device, "moduleId": "m" });
        owner.expect("PUT", &format!("/devices/{device}/modules/m"), Some(module)).await;
    }
    for _ in 0..rounds {
        let of = |wanted: bool| -> Vec<String> {
            let known = devices.iter().zip(&retired).filter(|(_, retired)| **retired == wanted);
            known.map(|(device, _)| device.clone()).collect()
        };
        let (there, gone) = (of(false), of(true));
        let chunks = there.chunks(RETIRING / 4).map(|some| ("retire", some));
        let chunks = chunks.chain(gone.chunks(RETIRING / 4).map(|some| ("restore", some)));
        let load = futures_util::future::join_all(chunks.map(|(act, some)| {
            let owner = &owner;
            async move { (act, owner.act_until_dead(act, some).await) }
        }));
        let kill = async {
            tokio::time::sleep(Duration::from_millis(15)).await;
            random_moment(Duration::from_millis(120)).await;
            owner.hub.signal("KILL").await;
        };
        let (acknowledged, ()) = tokio::join!(load, kill);
        owner.hub.process.wait().await.expect("it ends");
        owner = Owner::start(folder.path()).await;
        for (device, retired) in devices.iter().zip(&mut retired) {
            *retired = owner.is_retired(device).await;
        }
        for (act, device) in acknowledged.iter().flat_map(|(act, all)| all.iter().map(move |one| (act, one)))
        {
            let at = devices.iter().position(|known| known == device).expect("one of ours");
            assert_eq!(retired[at], *act == "retire", "{act} {device} was acknowledged");
            acts += 1;
        }
    }
    assert!(acts > rounds, "there was hardly any load: {acts} acts in {rounds} rounds");
}
