//! `serve` as operators meet it: the first start, later starts, ports that are taken, wrong settings, signals, certificates.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustls_pki_types::CertificateDer;

use crate::support::{Hub, dial, folder, program, run, soon};

/// Name and content of every file that must not change; the store is not among them.
fn files(data: &Path) -> BTreeMap<String, Vec<u8>> {
    let names = ["policies.json", "tls/ca.pem", "tls/ca-key.pem", "tls/server.pem", "tls/server-key.pem"];
    names.map(|name| (name.to_string(), std::fs::read(data.join(name)).expect("it is there"))).into()
}

#[tokio::test]
async fn the_first_start_makes_everything_and_later_ones_change_nothing() {
    let folder = folder();
    let data = folder.path().join("data");
    let mut hub = Hub::start(&data).await;
    let printed = hub.printed.join("\n");
    assert!(printed.contains("tls/ca.pem") && printed.contains("fleetyard connection-string"), "{printed}");
    let made = files(&data);
    let text = String::from_utf8_lossy(&made["policies.json"]).into_owned();
    let keys: Vec<_> = text.split('"').filter(|word| word.ends_with('=')).collect();
    assert_eq!(keys.len(), 10, "two keys for each of five policies");
    assert!(keys.iter().all(|key| !printed.contains(key)), "a key was printed unasked");
    for name in made.keys() {
        let mode = std::fs::metadata(data.join(name)).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name}");
    }
    assert_eq!(std::fs::metadata(&data).expect("there").permissions().mode() & 0o777, 0o700);
    let string = hub.expect(0, &["connection-string"]).await.out;
    assert_eq!(string.lines().count(), 1);
    assert!(string.contains(";SharedAccessKeyName=iothubowner;"), "{string}");
    assert_eq!(hub.stop().await, Some(0));
}

#[tokio::test]
async fn a_second_start_keeps_keys_certificates_and_devices() {
    let folder = folder();
    let mut hub = Hub::start(folder.path()).await;
    hub.expect(0, &["device", "create", "pump-1"]).await;
    let made = files(folder.path());
    let asked = hub.expect(0, &["connection-string", "--device", "pump-1"]).await.out;
    assert_eq!(hub.stop().await, Some(0));
    let stopped = hub.expect(0, &["connection-string", "--device", "pump-1"]).await.out;
    assert_eq!(asked, stopped, "the running hub and the folder say the same");
    let unknown = hub.expect(1, &["connection-string", "--device", "pump-2"]).await;
    assert!(unknown.err.contains("pump-2"), "{}", unknown.err);
    let mut hub = Hub::start(folder.path()).await;
    assert_eq!(files(folder.path()), made);
    hub.expect(0, &["device", "show", "pump-1"]).await;
    assert_eq!(hub.stop().await, Some(0));
}

#[tokio::test]
async fn connection_string_without_a_hub_says_so_and_makes_nothing() {
    let folder = folder();
    let ended = run(&["connection-string", "--data", folder.path().to_str().expect("text")]).await;
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("there is no hub in"), "{}", ended.err);
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0);
}

#[tokio::test]
async fn a_taken_port_is_an_error_that_names_the_setting_before_anything_is_made() {
    let folder = folder();
    let hub = Hub::start(&folder.path().join("a")).await;
    let data = folder.path().join("b");
    let other = data.to_str().expect("text");
    let ended = run(&["serve", "--data", other, "--https-address", &hub.https]).await;
    assert_eq!(ended.code, 1);
    for part in
        ["--https-address", "FLEETYARD_HTTPS_ADDRESS", "[https] address", "something else listens there"]
    {
        assert!(ended.err.contains(part), "{}", ended.err);
    }
    assert!(!data.exists());
}

#[tokio::test]
async fn a_second_hub_on_the_same_folder_is_refused() {
    let folder = folder();
    let hub = Hub::start(folder.path()).await;
    let free = [
        "--https-address",
        "127.0.0.1:0",
        "--mqtt-address",
        "127.0.0.1:0",
        "--metrics-address",
        "127.0.0.1:0",
    ];
    let arguments: Vec<_> = ["serve"].into_iter().chain(free).collect();
    let ended = hub.expect(1, &arguments).await;
    assert!(ended.err.contains("in use by another process"), "{}", ended.err);
    hub.expect(0, &["status"]).await;
}

#[tokio::test]
async fn unknown_settings_are_refused_and_known_ones_shown_with_their_origin() {
    let folder = folder();
    let file = folder.path().join("hub.toml");
    let path = file.to_str().expect("text");
    std::fs::write(&file, "[https]\nadress = \"127.0.0.1:1\"\n").expect("written");
    let ended = run(&["serve", "--config", path]).await;
    assert_eq!(ended.code, 1);
    assert!(ended.err.contains("https.adress") && ended.err.contains("https.address"), "{}", ended.err);

    std::fs::write(&file, "[https]\naddress = \"127.0.0.1:1\"\n").expect("written");
    let mut command = program();
    command.args(["config", "show", "--config", path, "--mqtt-address", "127.0.0.1:2"]);
    let shown = command.env("FLEETYARD_HUB_HOSTNAME", "hub.test").output().await.expect("it runs");
    let shown = String::from_utf8(shown.stdout).expect("text");
    for (key, value, origin) in [
        ("https.address", "127.0.0.1:1", path),
        ("mqtt.address", "127.0.0.1:2", "flag --mqtt-address"),
        ("hub.hostname", "hub.test", "environment FLEETYARD_HUB_HOSTNAME"),
        ("metrics.address", "127.0.0.1:9464", "default"),
    ] {
        let line = shown.lines().find(|line| line.starts_with(key)).expect("the setting");
        assert!(line.contains(value) && line.contains(origin), "{line}");
    }

    let output =
        program().args(["config", "show"]).env("FLEETYARD_MQTT_ADRESS", "x").output().await.expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("FLEETYARD_MQTT_ADRESS") && text.contains("FLEETYARD_MQTT_ADDRESS"), "{text}");
}

#[tokio::test]
async fn keys_from_outside_are_used_and_never_written_or_shown() {
    let folder = folder();
    let key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let file = folder.path().join("hub.toml");
    std::fs::write(&file, format!("[policies.iothubowner]\nprimary_key = \"{key}\"\n")).expect("written");
    let path = file.to_str().expect("text");
    let data = folder.path().join("data");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).expect("changed");
    let refused = run(&["serve", "--config", path, "--data", data.to_str().expect("text")]).await;
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("chmod 600") && !refused.err.contains(key), "{}", refused.err);

    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("changed");
    let hub = Hub::start_with(&data, &["--config", path]).await;
    let string = hub.expect(0, &["connection-string", "--config", path]).await.out;
    assert!(string.contains(key), "{string}");
    let ca = data.join("tls/ca.pem");
    let status = ["status", "--connection-string", string.trim(), "--ca", ca.to_str().expect("text")];
    assert_eq!(run(&status).await.code, 0);
    assert!(!String::from_utf8_lossy(&files(&data)["policies.json"]).contains(key));
    assert!(!run(&["config", "show", "--config", path]).await.out.contains(key));
}

#[tokio::test]
async fn a_second_signal_is_not_needed_and_the_first_ends_in_order() {
    for name in ["INT", "TERM"] {
        let folder = folder();
        let mut hub = Hub::start(folder.path()).await;
        hub.signal(name).await;
        hub.logged("ending in order").await;
        let ended = soon("the end", hub.process.wait()).await.expect("it ends");
        assert_eq!(ended.code(), Some(0), "{name}");
    }
}

/// The certificate that the hub shows to a client that trusts `ca`.
async fn shown(address: &str, ca: &Path) -> CertificateDer<'static> {
    let stream = dial(address, ca).await;
    stream.get_ref().1.peer_certificates().expect("a certificate")[0].clone()
}

#[tokio::test]
async fn your_own_certificate_is_read_again_on_hangup_and_a_bad_one_is_not_taken() {
    let folder = folder();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    for made in [&first, &second] {
        assert_eq!(Hub::start(made).await.stop().await, Some(0));
    }
    let (certificate, key) = (folder.path().join("own.pem"), folder.path().join("own-key.pem"));
    let bring = |from: &Path| {
        std::fs::copy(from.join("tls/server.pem"), &certificate).expect("copied");
        std::fs::copy(from.join("tls/server-key.pem"), &key).expect("copied");
    };
    bring(&first);
    let flags =
        ["--tls-certificate", certificate.to_str().expect("text"), "--tls-key", key.to_str().expect("text")];
    let mut hub = Hub::start_with(&folder.path().join("data"), &flags).await;
    let before = shown(&hub.https, &first.join("tls/ca.pem")).await;

    std::fs::write(&certificate, "nothing").expect("written");
    hub.signal("HUP").await;
    let line = hub.logged("stays in use").await;
    assert!(line.contains("own.pem"), "{line}");
    assert_eq!(shown(&hub.https, &first.join("tls/ca.pem")).await, before);

    bring(&second);
    hub.signal("HUP").await;
    hub.logged("read the server certificate again").await;
    assert_ne!(shown(&hub.https, &second.join("tls/ca.pem")).await, before);
    assert_eq!(hub.stop().await, Some(0));
}
