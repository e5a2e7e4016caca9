//! Kills the real hub with SIGKILL in the middle of import and export jobs and of imports over HTTP, and compares what is there
//! afterwards with an undisturbed run: every mode, every refused line, every version of every twin.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::crash::{Owner, random_moment, rounds};
use crate::support::{folder, soon};

/// Lines of an import.
const LINES: usize = 3000;
/// Kills of one import or export; `FLEETYARD_CRASH_ROUNDS` asks for more.
const ROUNDS: u64 = 5;

/// A hub whose import and export jobs may use the folder `bulk` beside its data.
async fn start(root: &Path) -> Owner {
    let settings = root.join("settings.toml");
    std::fs::write(&settings, format!("[bulk]\nfolder = \"{}\"\n", root.join("bulk").display()))
        .expect("written");
    Owner::start_with(&root.join("data"), &["--config", settings.to_str().expect("text")]).await
}

/// A new hub with half of the fleet in it, and lines for it that are not the same when they are done twice.
async fn prepare(root: &Path) -> Owner {
    std::fs::create_dir_all(root.join("bulk/fleet")).expect("a folder");
    let owner = start(root).await;
    let there =
        |n: usize| json!({ "id": format!("d{n:05}"), "tags": { "from": "before" } }).to_string() + "\n";
    let before: String = (0..LINES).step_by(2).map(there).collect();
    let done = owner.send_text("POST", "/api/import", before).await.expect("an answer");
    assert_eq!(done.1["done"], LINES / 2, "{done:?}");
    let line = |n: usize| {
        let id = format!("d{n:05}");
        match n % 10 {
            // Refused when it is done twice.
            1 | 3 => json!({ "id": id, "importMode": "create", "tags": { "from": "line" } }),
            2 => json!({ "id": id, "importMode": "delete" }),
            // Refused always.
            4 => json!({ "id": id, "importMode": "create" }),
            5 => json!({ "id": id, "importMode": "update" }),
            6 => json!({ "id": id, "importMode": "updateTwin", "properties": { "desired": { "n": n } } }),
            7 => json!({ "id": format!("d{:05}", n - 1) }),
            8 => json!({ "id": format!("d{:05}", n - 8), "moduleId": "m", "importMode": "create" }),
            _ => json!({ "id": id, "tags": { "from": "line" }, "properties": { "desired": { "n": n } } }),
        }
    };
    let text: String =
        (0..LINES).map(|n| if n % 100 == 50 { "{\n".into() } else { format!("{}\n", line(n)) }).collect();
    std::fs::write(root.join("bulk/fleet/devices.txt"), text).expect("written");
    owner
}

fn import_job(root: &Path) -> Value {
    let container = format!("file://{}", root.join("bulk/fleet").display());
    json!({ "type": "import", "inputBlobContainerUri": container, "outputBlobContainerUri": container })
}

async fn create(owner: &Owner, body: Value) -> String {
    let job = owner.expect("POST", "/jobs/create", Some(body)).await;
    format!("/jobs/{}", job["jobId"].as_str().expect("an id"))
}

async fn ended(owner: &Owner, path: &str) -> Value {
    soon("the end of the job", async {
        loop {
            let job = owner.expect("GET", path, None).await;
            if !job["endTimeUtc"].is_null() {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
}

async fn kill(owner: &mut Owner) {
    owner.hub.signal("KILL").await;
    owner.hub.process.wait().await.expect("it ends");
}

/// Everything that lines decide: what is there, with tags, properties and their versions. Keys, times and etags are chance.
async fn fleet(owner: &Owner) -> Vec<Value> {
    let text = owner.text("/api/export").await;
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines
        .map(|line| {
            let (desired, tags) = (&line["properties"]["desired"], &line["tags"]);
            json!([line["id"], line["moduleId"], tags, desired["n"], desired["$version"], line["status"]])
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_job_ends_as_if_nobody_had_killed_the_hub() {
    let undisturbed = folder();
    let owner = prepare(undisturbed.path()).await;
    let started = std::time::Instant::now();
    let path = create(&owner, import_job(undisturbed.path())).await;
    let expected = ended(&owner, &path).await;
    let took = started.elapsed();
    let expected_fleet = fleet(&owner).await;
    let log = |root: &Path| std::fs::read_to_string(root.join("bulk/fleet/importErrors.log")).expect("a log");
    let expected_log = log(undisturbed.path());
    assert_eq!(expected["failedCount"], expected_log.lines().count());
    drop(owner);

    let disturbed = folder();
    let mut owner = prepare(disturbed.path()).await;
    let path = create(&owner, import_job(disturbed.path())).await;
    let mut cut_off = 0;
    for _ in 0..rounds(ROUNDS) {
        random_moment(took / 3).await;
        kill(&mut owner).await;
        owner = start(disturbed.path()).await;
        cut_off += u64::from(owner.expect("GET", &path, None).await["endTimeUtc"].is_null());
    }
    let job = ended(&owner, &path).await;
    for field in ["status", "doneCount", "failedCount"] {
        assert_eq!(job[field], expected[field], "after {cut_off} cuts: {job}");
    }
    assert_eq!(log(disturbed.path()), expected_log, "after {cut_off} cuts");
    assert_eq!(fleet(&owner).await, expected_fleet, "after {cut_off} cuts");
    assert!(cut_off > 0, "no kill came while the job ran");
    println!("{cut_off} kills within an import job of {} ms", took.as_millis());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_job_that_was_cut_off_is_made_anew() {
    let root = folder();
    let mut owner = prepare(root.path()).await;
    let mut body = import_job(root.path());
    body["type"] = "export".into();
    body["outputBlobName"] = "all.txt".into();
    for _ in 0..rounds(ROUNDS) {
        let path = create(&owner, body.clone()).await;
        random_moment(Duration::from_millis(60)).await;
        kill(&mut owner).await;
        owner = start(root.path()).await;
        assert_eq!(ended(&owner, &path).await["status"], "completed");
        let text = std::fs::read_to_string(root.path().join("bulk/fleet/all.txt")).expect("a blob");
        assert_eq!(text.lines().count(), LINES / 2);
        std::fs::remove_file(root.path().join("bulk/fleet/all.txt")).expect("removed");
    }
    let left = std::fs::read_dir(root.path().join("bulk/fleet")).expect("a folder").count();
    assert_eq!(left, 1, "parts of killed exports are left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_over_http_is_repeated_without_harm() {
    let root = folder();
    let mut owner = start(root.path()).await;
    let line = |n: usize| {
        let desired = json!({ "n": n, "text": "x".repeat(300) });
        json!({ "id": format!("d{n:05}"), "tags": { "n": n }, "properties": { "desired": desired } })
            .to_string()
    };
    let text: String = (0..LINES).map(|n| line(n) + "\n").collect();
    let undisturbed = folder();
    let other = start(undisturbed.path()).await;
    let started = std::time::Instant::now();
    let done = other.send_text("POST", "/api/import", text.clone()).await;
    assert_eq!(done.expect("an answer").1["done"], LINES);
    let took = started.elapsed();
    drop(other);

    let mut cut_off = 0;
    for _ in 0..rounds(ROUNDS) {
        let import = owner.send_text("POST", "/api/import", text.clone());
        let killed = async {
            random_moment(took / 2).await;
            owner.hub.signal("KILL").await;
        };
        let (answer, ()) = tokio::join!(import, killed);
        cut_off += u64::from(answer.is_none());
        owner.hub.process.wait().await.expect("it ends");
        owner = start(root.path()).await;
    }
    let (status, result) = owner.send_text("POST", "/api/import", text).await.expect("an answer");
    assert_eq!((status, &result["done"], &result["failed"]), (200, &json!(LINES), &json!(0)), "{result}");
    let found = fleet(&owner).await;
    assert_eq!(found.len(), LINES);
    for (n, line) in found.iter().enumerate() {
        assert_eq!(
            (&line[0], &line[2]["n"], &line[3]),
            (&json!(format!("d{n:05}")), &json!(n), &json!(n)),
            "{line}"
        );
    }
    assert!(cut_off > 0, "no kill came while an import ran");
}
