//! The command line against a real hub: what it prints where, and the exit code of every way to end.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::{Hub, folder, program, run, soon};

#[tokio::test]
async fn devices_modules_and_their_errors() {
    let folder = folder();
    let hub = Hub::start(folder.path()).await;
    let created = hub.json(&["device", "create", "pump-1", "--status-reason", "new"]).await;
    assert_eq!((created["deviceId"].as_str(), created["status"].as_str()), (Some("pump-1"), Some("enabled")));
    let shown = hub.expect(0, &["device", "show", "pump-1"]).await.out;
    let key = created["authentication"]["symmetricKey"]["primaryKey"].as_str().expect("a key");
    assert!(!shown.contains(key), "a key was shown unasked");
    assert!(hub.expect(0, &["device", "show", "pump-1", "--show-keys"]).await.out.contains(key));

    let edge = hub.json(&["device", "create", "gateway-1", "--edge"]).await;
    assert_eq!(edge["capabilities"]["iotEdge"], true);
    assert!(hub.expect(0, &["module", "list", "gateway-1"]).await.out.contains("$edgeAgent"));
    let plain = hub.json(&["device", "update", "gateway-1", "--edge", "false"]).await;
    assert_eq!(plain["capabilities"]["iotEdge"], false);
    assert!(
        hub.expect(2, &["device", "update", "gateway-1", "--edge", "maybe"]).await.err.contains("'maybe'")
    );
    hub.expect(0, &["device", "delete", "gateway-1"]).await;

    hub.expect(4, &["device", "create", "pump-1"]).await;
    hub.expect(3, &["device", "show", "pump-2"]).await;
    hub.expect(1, &["device", "create", "not valid"]).await;
    hub.expect(2, &["device", "create"]).await;
    hub.expect(4, &["device", "update", "pump-1", "--status", "disabled", "--if-match", "AAAA"]).await;
    let etag = created["etag"].as_str().expect("an etag");
    let update = ["device", "update", "pump-1", "--status", "disabled", "--if-match", etag];
    let updated = hub.json(&update).await;
    assert_eq!(
        (updated["status"].as_str(), updated["statusReason"].as_str()),
        (Some("disabled"), Some("new"))
    );
    assert_eq!(updated["authentication"], created["authentication"], "keys stay");

    hub.expect(0, &["module", "create", "pump-1", "valve", "--managed-by", "ops"]).await;
    hub.expect(4, &["module", "create", "pump-1", "valve"]).await;
    assert!(hub.expect(0, &["module", "list", "pump-1"]).await.out.contains("valve"));
    let module = hub.json(&["module", "update", "pump-1", "valve", "--managed-by", "others"]).await;
    assert_eq!(module["managedBy"], "others");
    hub.expect(0, &["module", "delete", "pump-1", "valve"]).await;
    hub.expect(3, &["module", "show", "pump-1", "valve"]).await;
    hub.expect(0, &["device", "delete", "pump-1"]).await;
    hub.expect(3, &["device", "delete", "pump-1"]).await;
    let listed = hub.expect(0, &["device", "list"]).await;
    assert_eq!((listed.out.as_str(), listed.err.trim()), ("", "none"));
}

#[tokio::test]
async fn who_may_not_or_is_not_there_has_a_code() {
    let folder = folder();
    let mut hub = Hub::start(folder.path()).await;
    let string = hub.expect(0, &["connection-string", "--policy", "registryRead"]).await.out;
    let ca = folder.path().join("tls/ca.pem");
    let ca = ca.to_str().expect("text");
    let with = |command: &[&str]| -> Vec<String> {
        let rest = ["--connection-string", string.trim(), "--ca", ca];
        command.iter().copied().chain(rest).map(String::from).collect()
    };
    for (command, code) in
        [(&["device", "list"][..], 5), (&["device", "create", "a"], 5), (&["device", "show", "a"], 3)]
    {
        let arguments = with(command);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let ended = run(&arguments).await;
        assert_eq!(ended.code, code, "{command:?}: {}", ended.err);
        assert!(!ended.err.contains("SharedAccessKey="), "{}", ended.err);
    }
    let untrusted = run(&["status", "--connection-string", string.trim()]).await;
    assert_eq!(untrusted.code, 6, "{}", untrusted.err);
    assert!(untrusted.err.contains("--ca"), "{}", untrusted.err);
    let nobody = run(&["status", "--data", folder.path().join("none").to_str().expect("text")]).await;
    assert_eq!(nobody.code, 2, "{}", nobody.err);
    assert_eq!(hub.stop().await, Some(0));
    let gone = hub.expect(6, &["status"]).await;
    assert!(gone.err.contains("nothing answers there"), "{}", gone.err);
}

#[tokio::test]
async fn twins_queries_and_methods() {
    let folder = folder();
    let hub = Hub::start(folder.path()).await;
    for id in ["a", "b"] {
        hub.expect(0, &["device", "create", id]).await;
    }
    let patched = hub
        .json(&["twin", "patch", "a", "--tags", r#"{"site":"x","old":1}"#, "--desired", r#"{"rate":5}"#])
        .await;
    assert_eq!(patched["properties"]["desired"]["rate"], 5);
    let etag = patched["etag"].as_str().expect("an etag");
    let replaced = hub.json(&["twin", "replace", "a", r#"{"tags":{"site":"y"}}"#, "--if-match", etag]).await;
    assert_eq!(replaced["tags"], json!({"site": "y"}));
    assert_eq!(replaced["properties"]["desired"]["rate"], 5);
    hub.expect(4, &["twin", "patch", "a", "--tags", "{}", "--if-match", etag]).await;
    hub.expect(2, &["twin", "patch", "a", "{oops"]).await;
    hub.expect(2, &["twin", "patch", "a", r#"{"site":"x"}"#]).await;
    hub.expect(3, &["twin", "show", "c"]).await;

    let watched = ["monitor", "--source", "twin", "--after", "0.0", "--count", "2"];
    let told = hub.expect(0, &watched).await.out;
    let by = "  a  updateTwin  by policy iothubowner\n";
    assert!(told.contains(by) && told.contains("\n    properties.desired.rate  - -> 5\n"), "{told}");
    assert!(told.contains("\n    tags.site  \"x\" -> \"y\"\n"), "{told}");
    let told = hub.expect(0, &[&watched[..], &["--json"]].concat()).await.out;
    let last: Value = serde_json::from_str(told.lines().last().expect("two lines")).expect("JSON");
    assert_eq!(last["actor"], json!({"kind": "policy", "name": "iothubowner"}));
    let changes = json!([
        {"path": "tags.old", "before": 1, "after": null},
        {"path": "tags.site", "before": "x", "after": "y"},
    ]);
    assert_eq!(last["changes"], changes);
    assert!(last["position"].is_string(), "{told}");

    let rows = hub
        .expect(0, &["query", "SELECT deviceId, tags.site FROM devices WHERE tags.site = 'y'", "--json"])
        .await;
    assert_eq!(
        serde_json::from_str::<Value>(&rows.out).expect("one row"),
        json!({"deviceId": "a", "site": "y"})
    );
    let wrong = hub.expect(1, &["query", "SELECT FROM"]).await;
    assert!(wrong.err.contains("Line 1:"), "{}", wrong.err);
    hub.expect(6, &["method", "call", "a", "reboot"]).await;
    hub.expect(3, &["method", "call", "nobody", "reboot"]).await;
    hub.expect(1, &["method", "call", "a", "reboot", "--timeout", "1"]).await;
}

#[tokio::test]
async fn a_twin_explains_itself() {
    let folder = folder();
    let hub = Hub::start(folder.path()).await;
    hub.expect(0, &["device", "create", "a"]).await;
    hub.expect(0, &["module", "create", "a", "m"]).await;
    let none = hub.expect(0, &["device", "explain", "a", "--module", "m"]).await.out;
    let plain = "device a, module m: as its configurations want it\ndesired properties, version 1\n  none\n\
                 configurations\n  none\n";
    assert_eq!(none, plain);
    hub.expect(0, &["twin", "patch", "a", "--tags", r#"{"site":"x"}"#, "--desired", r#"{"own":1}"#]).await;
    for (id, target, priority, content) in [
        ("strong", "tags.site = 'x'", "9", r#"{"deviceContent":{"properties.desired.rate":5}}"#),
        ("weak", "*", "1", r#"{"deviceContent":{"properties.desired.rate":7}}"#),
        (
            "away",
            "tags.site = 'y' OR tags.floor > 2",
            "1",
            r#"{"deviceContent":{"properties.desired.rate":9}}"#,
        ),
    ] {
        let create =
            ["configuration", "create", id, "--target", target, "--priority", priority, "--content", content];
        hub.expect(0, &create).await;
    }
    let mut said = Value::Null;
    for _ in 0..500 {
        said = hub.json(&["device", "explain", "a"]).await;
        if said["settled"] == true {
            break;
        }
    }
    assert_eq!(said["properties"][1]["setBy"], json!({"kind": "configuration", "name": "strong"}));
    let told = hub.expect(0, &["device", "explain", "a"]).await.out;
    for part in [
        "device a: as its configurations want it\n",
        "\n  own: 1  (by policy iothubowner, at ",
        "\n  rate: 5  (by configuration strong, at ",
        "\n    over weak, which wants 7: configuration 'strong' sets rate; it has priority 9 and this one 1\n",
        "\n  ✓ strong, priority 9, Applied: 1 of 1 settings in force\n",
        "\n    ✓ tags.site = 'x'  (tags.site is \"x\")\n",
        "\n  ✓ weak, priority 1, Targeted: 0 of 1 settings in force\n    ✓ *\n",
        "\n    ? tags.site = 'y' OR tags.floor > 2\n      ✗ tags.site = 'y'  (tags.site is \"x\")\n",
        "\n      ? tags.floor > 2  (tags.floor is not there)\n",
    ] {
        assert!(told.contains(part), "{part} is not in\n{told}");
    }
    hub.expect(3, &["device", "explain", "b"]).await;
    hub.expect(3, &["device", "explain", "a", "--module", "n"]).await;
    hub.expect(1, &["device", "explain", "not valid"]).await;
}

#[tokio::test]
async fn jobs_from_creation_to_their_end() {
    let folder = folder();
    let hub = Hub::start(folder.path()).await;
    for id in ["a", "b", "c"] {
        hub.expect(0, &["device", "create", id]).await;
    }
    let whole = ["job", "create", "ring", "--all", "--tags", r#"{"ring":1}"#, "--watch"];
    let ended = hub.expect(0, &whole).await;
    assert!(ended.out.contains("succeeded  3") && ended.out.contains("completed"), "{}", ended.out);
    assert_eq!(hub.json(&["twin", "show", "c"]).await["tags"], json!({"ring": 1}));
    let lines = hub.expect(0, &["job", "watch", "ring", "--json"]).await.out;
    let last: Value = serde_json::from_str(lines.trim()).expect("one line, since it is over");
    assert_eq!((&last["jobId"], &last["failures"]), (&json!("ring"), &json!([])));

    // One device has no room for more tags.
    let (half, more) = ("x".repeat(3500), "y".repeat(2000));
    let full = json!({ "one": half, "two": half }).to_string();
    hub.expect(0, &["twin", "patch", "a", "--tags", &full]).await;
    let (tags, only) = (json!({ "more": more }).to_string(), "deviceId IN ['a', 'b']");
    hub.expect(7, &["job", "create", "partly", "--where", only, "--tags", &tags, "--watch"]).await;
    let shown = hub.expect(7, &["job", "watch", "partly"]).await;
    assert!(shown.out.contains("400004") && shown.err.contains("of 2 devices 1 failed"), "{}", shown.out);

    // Nobody is connected: the same reason for all, so one line for all.
    let call = ["job", "create", "call", "--all", "--method", "reboot", "--payload", "[1]", "--watch"];
    let lines = hub.cli(&[&call[..], &["--json"]].concat()).await;
    let last: Value = serde_json::from_str(lines.out.lines().last().expect("a line")).expect("JSON");
    assert_eq!((lines.code, &last["status"]), (1, &json!("completed")));
    assert_eq!(last["failures"].as_array().map(Vec::len), Some(1), "{last}");
    assert_eq!(
        (&last["failures"][0]["code"], &last["failures"][0]["devices"]),
        (&json!("404103"), &json!(3))
    );

    let listed = hub.expect(0, &["job", "list", "--type", "twin", "--json"]).await.out;
    assert_eq!(listed.lines().count(), 2, "{listed}");
    let listed = hub.expect(0, &["job", "list", "--limit", "1", "--status", "completed"]).await.out;
    assert!(listed.contains("call") && !listed.contains("ring"), "{listed}");
}

#[tokio::test]
async fn queries_are_watched_as_things_happen_and_after_a_break() {
    let folder = folder();
    let mut hub = Hub::start(folder.path()).await;
    for id in ["a", "b"] {
        hub.expect(0, &["device", "create", id]).await;
    }
    hub.expect(0, &["twin", "patch", "a", "--tags", r#"{"site":"x"}"#]).await;
    let query = "SELECT deviceId, tags.level FROM devices WHERE tags.site = 'x'";
    let watch = |arguments: &[&str]| {
        let mut command = program();
        command.args(["query", query, "--watch", "--data"]).arg(folder.path()).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
    };
    let (mut plain, mut json) = (watch(&[]), watch(&["--json"]));
    let mut lines = BufReader::new(plain.stdout.take().expect("piped")).lines();
    let mut objects = BufReader::new(json.stdout.take().expect("piped")).lines();
    let mut next = async |plain: &str, change: Value| {
        let line = soon("a line", lines.next_line()).await.expect("text");
        assert_eq!(line.as_deref(), Some(plain));
        let line = soon("a line", objects.next_line()).await.expect("text").expect("the watch goes on");
        let mut told: Value = serde_json::from_str(&line).expect("JSON");
        assert!(told["position"].take().is_string(), "{line}");
        told.as_object_mut().expect("an object").remove("position");
        assert_eq!(told, change);
    };
    let change = |what: &str, id: &str, row: Value| json!({"change": what, "id": id, "row": row});
    let a = json!({"deviceId": "a"});
    next(r#"+ {"deviceId":"a"}"#, change("enter", "a", a.clone())).await;
    hub.expect(0, &["twin", "patch", "b", "--tags", r#"{"site":"x","level":1}"#]).await;
    let b = json!({"deviceId": "b", "level": 1});
    next(r#"+ {"deviceId":"b","level":1}"#, change("enter", "b", b)).await;
    hub.expect(0, &["twin", "patch", "b", "--tags", r#"{"level":2}"#]).await;
    let b = json!({"deviceId": "b", "level": 2});
    next(r#"~ {"deviceId":"b","level":2}"#, change("change", "b", b.clone())).await;
    assert_eq!(hub.stop().await, Some(0));
    let hub = Hub::start_at(&hub.https, folder.path(), &[]).await;
    hub.expect(0, &["device", "delete", "a"]).await;
    next(r#"- {"deviceId":"a"}"#, change("leave", "a", a)).await;
    hub.expect(0, &["twin", "patch", "b", "--tags", r#"{"site":null}"#]).await;
    next(r#"- {"deviceId":"b","level":2}"#, change("leave", "b", b)).await;

    let refused = hub.expect(1, &["query", "SELECT COUNT() FROM devices", "--watch"]).await;
    assert!(refused.err.contains("ask again from time to time"), "{}", refused.err);
    let refused = hub.expect(1, &["query", "SELECT * FROM devices", "--watch", "--limit", "0"]).await;
    assert!(refused.err.contains("--limit"), "{}", refused.err);
    hub.expect(2, &["query", query, "--interval", "1"]).await;
    hub.expect(2, &["query", query, "--watch", "--interval", "0"]).await;
}

#[tokio::test]
async fn scheduled_jobs_are_watched_and_cancelled() {
    let folder = folder();
    let mut hub = Hub::start(folder.path()).await;
    hub.expect(0, &["device", "create", "a"]).await;
    let create = ["job", "create", "later", "--all", "--tags", r#"{"n":1}"#, "--start", "+1h"];
    let job = hub.json(&[&create[..], &["--max-time", "60"]].concat()).await;
    assert_eq!((&job["status"], &job["maxExecutionTimeInSeconds"]), (&json!("scheduled"), &json!(60)));
    let mut watch = program()
        .args(["job", "watch", "later", "--json", "--data"])
        .arg(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(watch.stdout.take().expect("piped")).lines();
    let mut next = async || -> Value {
        let line = soon("a line", lines.next_line()).await.expect("text").expect("the watch goes on");
        serde_json::from_str(&line).expect("JSON")
    };
    assert_eq!(next().await["status"], "scheduled");
    assert_eq!(hub.stop().await, Some(0));
    let mut notes = BufReader::new(watch.stderr.take().expect("piped")).lines();
    let note = soon("a note", notes.next_line()).await.expect("text").expect("the watch goes on");
    assert!(note.contains("asking again"), "{note}");
    let hub = Hub::start_at(&hub.https, folder.path(), &[]).await;
    assert_eq!(hub.json(&["job", "cancel", "later"]).await["status"], "cancelled");
    assert_eq!(next().await["status"], "cancelled");
    assert_eq!(soon("the watch to end", watch.wait()).await.expect("it ends").code(), Some(1));
    hub.expect(4, &["job", "cancel", "later"]).await;
    assert_eq!(hub.json(&["twin", "show", "a"]).await["tags"]["n"], Value::Null);

    for (code, said, arguments) in [
        (1, "queryCondition", &["create", "j", "--where", "tags.site =", "--tags", "{}"][..]),
        (1, "366 days", &["create", "j", "--all", "--tags", "{}", "--start", "2200-01-01T00:00:00Z"]),
        (1, "maxExecutionTimeInSeconds", &["create", "j", "--all", "--tags", "{}", "--max-time", "0"]),
        (1, "no device", &["create", "none", "--where", "false", "--tags", r#"{"n":1}"#, "--watch"]),
        (2, "+30m", &["create", "j", "--all", "--tags", "{}", "--start", "soon"]),
        (2, "not JSON", &["create", "j", "--all", "--tags", "{oops}"]),
        (2, "--where", &["create", "j", "--tags", "{}"]),
        (2, "--where", &["create", "j", "--all", "--where", "true", "--tags", "{}"]),
        (2, "--method", &["create", "j", "--all"]),
        (2, "--method", &["create", "j", "--all", "--method", "m", "--tags", "{}"]),
        (2, "--payload", &["create", "j", "--all", "--tags", "{}", "--payload", "1"]),
        (2, "--wait-for-devices", &["create", "j", "--all", "--tags", "{}", "--wait-for-devices"]),
        (3, "JobNotFound", &["show", "nope"]),
        (3, "JobNotFound", &["watch", "nope"]),
        (3, "JobNotFound", &["cancel", "nope"]),
        (4, "JobAlreadyExists", &["create", "later", "--all", "--tags", "{}"]),
    ] {
        let ended = hub.expect(code, &[&["job"], arguments].concat()).await;
        assert!(ended.err.contains(said), "{arguments:?}: {}", ended.err);
    }
}

#[tokio::test]
async fn a_simulation_without_any_connection_has_failed() {
    let folder = folder();
    let hub = Hub::start(folder.path()).await;
    // Connections to it are neither refused nor answered, so no device has failed yet when the time is over.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let host = format!("127.0.0.1:{}", silent.local_addr().expect("an address").port());
    let ended = hub.expect(6, &["simulate", "--devices", "1", "--mqtt-host", &host, "--for", "1"]).await;
    assert!(ended.err.contains("0 of 1 connected"), "{}", ended.err);
}

#[tokio::test]
async fn an_import_names_the_lines_that_failed() {
    let folder = folder();
    let hub = Hub::start(&folder.path().join("data")).await;
    let file = folder.path().join("fleet");
    let path = file.to_str().expect("text");
    let many: Vec<_> = (0..250).map(|n| format!("pump-{n:03}")).collect();
    std::fs::write(&file, many.join("\n")).expect("written");
    assert_eq!(hub.json(&["device", "import-file", path]).await, json!({"done": 250, "failed": []}));
    let count = hub.json(&["query", "SELECT COUNT() AS n FROM devices"]).await;
    assert_eq!(count["n"], 250);

    std::fs::write(&file, "pump-000\n{\"id\":\"new\",\"tags\":{\"site\":\"a\"}}\nbad id\n{oops}\n")
        .expect("written");
    let ended = hub.expect(7, &["device", "import-file", path]).await;
    assert_eq!(ended.out.trim(), "1 of 4 done");
    for line in ["line 1: pump-000: DeviceAlreadyExists", "line 3: bad id:", "line 4: IotHubFormatError"] {
        assert!(ended.err.contains(line), "{}", ended.err);
    }
    assert_eq!(hub.json(&["twin", "show", "new"]).await["tags"], json!({"site": "a"}));
    hub.expect(1, &["device", "import-file", path]).await;
    hub.expect(2, &["device", "import-file", "/nowhere"]).await;
}

#[tokio::test]
async fn fleets_go_to_files_and_back() {
    let folder = folder();
    let hub = Hub::start(&folder.path().join("data")).await;
    let path = |name: &str| folder.path().join(name).to_str().expect("text").to_string();
    let table = path("fleet.csv");
    std::fs::write(&table, "serial,place,poll\npump-1,north,30\nbad id,south,5\npump-2,south,\n")
        .expect("written");
    let arguments = [
        "device",
        "import-file",
        &table,
        "--id",
        "serial",
        "--tag",
        "site=place",
        "--desired",
        "interval=poll",
    ];
    let ended = hub.expect(7, &arguments).await;
    assert!(ended.err.contains("line 3: bad id: ArgumentInvalid"), "{}", ended.err);
    let twin = hub.json(&["twin", "show", "pump-1"]).await;
    assert_eq!(
        (&twin["tags"]["site"], &twin["properties"]["desired"]["interval"]),
        (&json!("north"), &json!(30))
    );
    hub.expect(2, &["device", "import-file", &table, "--id", "nowhere"]).await;

    for name in ["fleet.txt", "fleet.gz", "fleet.zst"] {
        let file = path(name);
        hub.expect(0, &["device", "export-file", &file, "--keys"]).await;
        assert!(!std::path::Path::new(&format!("{file}.part")).exists());
        let gone = hub.json(&["device", "import-file", &file, "--mode", "delete"]).await;
        assert_eq!(gone, json!({"done": 2, "failed": []}), "{name}");
        assert_eq!(
            hub.json(&["device", "import-file", &file]).await,
            json!({"done": 2, "failed": []}),
            "{name}"
        );
    }
    assert_eq!(hub.json(&["twin", "show", "pump-1"]).await["tags"]["site"], "north");
    let text = std::fs::read_to_string(path("fleet.txt")).expect("a file of text");
    assert!(text.lines().count() == 2 && !text.contains("\"primaryKey\":null"), "{text}");
    let out = hub.expect(0, &["device", "export-file", "-"]).await.out;
    assert!(out.lines().count() == 2 && out.contains("\"primaryKey\":null"), "{out}");
}

#[tokio::test]
async fn artifacts_and_policies() {
    let folder = folder();
    let hub = Hub::start(&folder.path().join("data")).await;
    let file = folder.path().join("firmware.bin");
    std::fs::write(&file, vec![7; 1_000_000]).expect("written");
    let added = hub.json(&["artifact", "add", file.to_str().expect("text")]).await;
    assert_eq!((added["name"].as_str(), added["bytes"].as_u64()), (Some("firmware.bin"), Some(1_000_000)));
    let digest = added["sha256"].as_str().expect("a digest");
    assert!(hub.expect(0, &["artifact", "list"]).await.out.contains(digest));
    let url = hub.expect(0, &["artifact", "url", digest, "--expires-in", "60"]).await.out;
    assert!(
        url.starts_with(&format!(
            "https://localhost:{}/api/artifacts/{digest}/",
            hub.https.rsplit(':').next().expect("a port")
        )),
        "{url}"
    );
    hub.expect(0, &["artifact", "remove", digest]).await;
    hub.expect(3, &["artifact", "remove", digest]).await;

    assert!(hub.expect(0, &["policy", "list"]).await.out.contains("registryReadWrite"));
    let before = hub.expect(0, &["connection-string", "--policy", "service"]).await.out;
    hub.expect(0, &["policy", "rotate", "service", "--key", "both"]).await;
    let after = hub.expect(0, &["connection-string", "--policy", "service"]).await.out;
    assert_ne!(before, after);
    let ca = hub.data.join("tls/ca.pem");
    for (string, code) in [(before, 5), (after, 0)] {
        let status = ["status", "--connection-string", string.trim(), "--ca", ca.to_str().expect("text")];
        assert_eq!(run(&status).await.code, code);
    }
    hub.expect(3, &["policy", "show", "nope"]).await;
}

#[tokio::test]
async fn simulated_devices_are_seen_by_monitor_and_obey_methods() {
    let folder = folder();
    let hub = Hub::start(&folder.path().join("data")).await;
    let data = hub.data.to_str().expect("text").to_string();
    let start = |arguments: &[&str]| {
        let mut command = program();
        command.args(arguments).args(["--data", &data]).stdout(Stdio::piped());
        command.spawn().expect("it starts")
    };
    hub.expect(0, &["device", "create", "sim-0001"]).await;
    let position = hub.json(&["status"]).await["eventsEnd"].as_str().expect("a position").to_string();
    let simulation = start(&["simulate", "--devices", "3", "--telemetry", "1"]);
    let mut monitor = start(&["monitor", "--json", "--after", &position, "--source", "connection,telemetry"]);
    let mut lines = BufReader::new(monitor.stdout.take().expect("piped")).lines();
    let (mut connected, mut talked) = (0, false);
    while connected < 3 || !talked {
        let line = soon("events", lines.next_line()).await.expect("text").expect("the monitor goes on");
        let event: Value = serde_json::from_str(&line).expect("JSON");
        connected += usize::from(event["operation"] == "deviceConnected");
        talked |= event["source"] == "telemetry";
    }
    let listed = hub.expect(0, &["device", "list", "--connected", "--json"]).await.out;
    assert_eq!(listed.lines().count(), 3, "{listed}");
    let called = hub.expect(1, &["method", "call", "sim-0002", "unknownMethod"]).await;
    assert!(called.err.contains("status 404") || called.err.contains("status 501"), "{}", called.err);
    let id = simulation.id().expect("it runs").to_string();
    let sent = tokio::process::Command::new("kill").args(["-INT", &id]).status().await.expect("kill runs");
    assert!(sent.success());
    let ended = soon("the simulation to end", simulation.wait_with_output()).await.expect("it ends");
    assert_eq!(ended.status.code(), Some(0));
}

#[tokio::test]
async fn the_hub_imports_and_exports_containers() {
    let folder = folder();
    let bulk = folder.path().join("bulk");
    for name in ["in", "out"] {
        std::fs::create_dir_all(bulk.join(name)).expect("a folder");
    }
    let settings = folder.path().join("settings.toml");
    std::fs::write(&settings, format!("[bulk]\nfolder = \"{}\"\n", bulk.display())).expect("written");
    let settings = ["--config", settings.to_str().expect("text")];
    let hub = Hub::start_with(&folder.path().join("data"), &settings).await;
    let url = |name: &str| format!("file://{}", bulk.join(name).display());
    std::fs::write(bulk.join("in/devices.txt"), "{\"id\":\"a\"}\n{\"id\":\"bad id\"}\n").expect("written");
    let configuration =
        r#"{"id":"eco","content":{"deviceContent":{"properties.desired.mode":"eco"}},"targetCondition":"*"}"#;
    std::fs::write(bulk.join("in/configurations.txt"), configuration).expect("written");

    let (input, output) = (url("in"), url("out"));
    let import = ["job", "import", "--container", &input, "--errors", &output];
    let ended = hub.expect(7, &[&import[..], &["--configurations"]].concat()).await;
    assert!(ended.err.contains("1 of 3 lines could not be carried out"), "{}", ended.err);
    let log = std::fs::read_to_string(bulk.join("out/importErrors.log")).expect("a log");
    assert!(log.starts_with(r#"{"line":2,"deviceId":"bad id","errorCode":400004,"#), "{log}");

    let export = ["job", "export", "--container", &output, "--exclude-keys", "--configurations", "c.txt"];
    let job = hub.json(&export).await;
    assert_eq!((&job["status"], &job["doneCount"]), (&json!("completed"), &json!(2)));
    let text = std::fs::read_to_string(bulk.join("out/devices.txt")).expect("a blob");
    assert!(text.starts_with(r#"{"id":"a","#) && text.contains(r#""primaryKey":null"#), "{text}");
    assert!(std::fs::read_to_string(bulk.join("out/c.txt")).expect("a blob").contains("\"eco\""));

    let id = job["jobId"].as_str().expect("an id");
    assert_eq!(hub.json(&["job", "show", id]).await["status"], "completed");
    hub.expect(0, &["job", "watch", id]).await;
    assert_eq!(hub.expect(0, &["job", "list", "--bulk", "--json"]).await.out.lines().count(), 2);
    hub.expect(4, &["job", "cancel", id]).await;
    hub.expect(0, &["job", "export", "--container", &output, "--no-wait"]).await;
    let missing = hub.expect(1, &["job", "export", "--container", &url("none")]).await;
    assert!(missing.err.contains("'none' cannot be entered"), "{}", missing.err);
    let refused = hub.expect(1, &["job", "export", "--container", "file:///etc"]).await;
    assert!(refused.err.contains("bulk.folder"), "{}", refused.err);
}

#[tokio::test]
async fn a_configuration_comes_into_force_in_waves() {
    let folder = folder();
    let hub = Hub::start(folder.path()).await;
    for n in 0..5 {
        hub.expect(0, &["device", "create", &format!("d{n}")]).await;
    }
    let file = folder.path().join("fast.json");
    let document = json!({
        "id": "fast", "priority": 5, "targetCondition": "*",
        "content": { "deviceContent": { "properties.desired.rate": 2 } },
        "rollout": { "waves": [{ "devices": 2 }, { "rest": true }], "advance": { "approval": "anyone" } },
    });
    std::fs::write(&file, document.to_string()).expect("written");
    let path = file.to_str().expect("text");
    let plan = hub.expect(8, &["configuration", "apply", "-f", path, "--check"]).await;
    assert!(plan.out.contains("fast: in waves of [2,3]"), "{}", plan.out);
    hub.expect(0, &["configuration", "apply", "-f", path]).await;
    hub.expect(0, &["configuration", "apply", "-f", path, "--check"]).await;
    let until = async |phase: &str| {
        let there = async {
            while hub.json(&["configuration", "rollout", "fast"]).await["phase"] != phase {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        soon(phase, there).await;
    };
    let rated = async || {
        hub.json(&["query", "SELECT COUNT() AS n FROM devices WHERE properties.desired.rate = 2"]).await
    };
    until("awaitingApproval").await;
    assert_eq!(rated().await, json!({"n": 2}));
    let shown = hub.expect(0, &["configuration", "pause", "fast", "--reason", "lunch"]).await;
    assert!(shown.out.contains("paused") && shown.out.contains("lunch"), "{}", shown.out);
    hub.expect(4, &["configuration", "approve", "fast"]).await;
    hub.expect(0, &["configuration", "resume", "fast"]).await;
    until("awaitingApproval").await;
    hub.expect(0, &["configuration", "approve", "fast"]).await;
    until("done").await;
    assert_eq!(rated().await, json!({"n": 5}));
    hub.expect(3, &["configuration", "rollout", "nope"]).await;
    hub.expect(
        0,
        &["configuration", "create", "plain", "--content", r#"{"deviceContent":{"properties.desired.a":1}}"#],
    )
    .await;
    hub.expect(1, &["configuration", "rollout", "plain"]).await;
}

#[tokio::test]
async fn gates_hold_back_say_why_and_are_overridden() {
    let folder = folder();
    let hub = Hub::start(folder.path()).await;
    for id in ["a", "b"] {
        hub.expect(0, &["device", "create", id]).await;
    }
    let gates = r#"{"power":{"minimumBatteryPercent":50}}"#;
    hub.expect(0, &["job", "create", "held", "--all", "--tags", r#"{"ring":1}"#, "--gates", gates]).await;
    let waits = async {
        while !hub.expect(0, &["job", "waiting", "held"]).await.out.contains("power.missing") {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    soon("power.missing", waits).await;
    hub.expect(2, &["job", "override-gates", "held"]).await;
    let shown = hub.expect(0, &["job", "override-gates", "held", "--reason", "a leak"]).await;
    assert!(shown.out.contains("gates overridden by") && shown.out.contains("a leak"), "{}", shown.out);
    let watched = hub.expect(0, &["job", "watch", "held"]).await;
    assert!(watched.out.contains("succeeded  2"), "{}", watched.out);
    hub.expect(4, &["job", "override-gates", "held", "--reason", "late"]).await;

    let file = folder.path().join("fast.yaml");
    let document = "
id: fast
targetCondition: '*'
content: {deviceContent: {properties.desired.rate: 2}}
gates: {power: {minimumBatteryPercent: 50}}
";
    std::fs::write(&file, document).expect("written");
    let path = file.to_str().expect("text");
    let plan = hub.expect(8, &["configuration", "apply", "-f", path, "--check"]).await;
    assert!(plan.out.contains("fast: 2 would wait at a gate now"), "{}", plan.out);
    hub.expect(0, &["configuration", "apply", "-f", path]).await;
    hub.expect(0, &["configuration", "apply", "-f", path, "--check"]).await;
    let shown = hub.expect(0, &["configuration", "show", "fast"]).await;
    assert!(shown.out.contains("waiting at gates") && shown.out.contains("power.missing"), "{}", shown.out);
    let explained = hub.expect(0, &["device", "explain", "a"]).await;
    assert!(explained.out.contains("waits at a closed gate: power: never reported"), "{}", explained.out);
    hub.expect(4, &["configuration", "pause", "fast"]).await;
    let shown = hub.expect(0, &["configuration", "override-gates", "fast", "--reason", "a leak"]).await;
    assert!(shown.out.contains("a leak"), "{}", shown.out);
    hub.expect(4, &["configuration", "override-gates", "fast", "--reason", "again"]).await;
    let rated = async {
        let query = "SELECT COUNT() AS n FROM devices WHERE properties.desired.rate = 2";
        while hub.json(&["query", query]).await != json!({"n": 2}) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    soon("the values", rated).await;
    // Gates that nobody asks for any more.
    hub.expect(0, &["configuration", "edit", "fast", "--gates", "{}"]).await;
    assert!(hub.json(&["configuration", "show", "fast"]).await["gates"].is_null());
}
