//! The layers and the checks, by tables.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;

const KEY: &str = "a2tra2tra2tra2tra2tra2tra2tra2tra2tra2tra2s=";

struct Given {
    folder: tempfile::TempDir,
    sources: Sources,
}

fn given(file: Option<(&str, u32)>, environment: &[(&str, &str)], flags: &[(&'static str, &str)]) -> Given {
    let folder = tempfile::tempdir().expect("a folder");
    let path: PathBuf = folder.path().join("fleetyard.toml");
    let mut sources = Sources::default();
    if let Some((text, mode)) = file {
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("a mode");
        sources.file = Some(path);
    }
    sources.environment =
        environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    sources.flags = flags.iter().map(|(key, value)| (*key, value.to_string())).collect();
    Given { folder, sources }
}

#[test]
fn later_layers_win_and_origins_are_remembered() {
    let file = "[hub]\nhostname = 'file.example'\naliases = ['a', 'b']\n[events]\nretention_hours = 5\n[jobs]\nretention_days = 7\n[retirement]\nrestorable_days = 3\n[mqtt]\naddress = '127.0.0.1:1'";
    let given = given(
        Some((file, 0o644)),
        &[
            ("FLEETYARD_HUB_HOSTNAME", "env.example"),
            ("FLEETYARD_MQTT_ADDRESS", "127.0.0.1:2"),
            ("FLEETYARD_CA", "x"),
        ],
        &[("mqtt.address", "127.0.0.1:3")],
    );
    let settings = Settings::load(&given.sources).expect("valid");
    assert_eq!(settings.hostname, "env.example");
    assert_eq!(settings.names(), ["env.example", "a", "b", "localhost", "127.0.0.1", "::1"]);
    assert_eq!(settings.event_retention, Duration::from_secs(5 * 3600));
    assert_eq!(settings.job_retention, Duration::from_secs(7 * 86_400));
    assert_eq!(settings.restorable_default, Duration::from_secs(3 * 86_400));
    assert_eq!(settings.mqtt.address.port(), 3);
    assert_eq!(settings.https.address.port(), 443);
    let shown = shown(&given.sources).expect("valid");
    let origin =
        |key: &str| shown.iter().find(|(k, _, _)| k == key).map(|(_, _, o)| o.clone()).expect("a setting");
    assert_eq!(origin("hub.hostname"), "environment FLEETYARD_HUB_HOSTNAME");
    assert_eq!(origin("mqtt.address"), "flag --mqtt-address");
    assert_eq!(origin("https.address"), "default");
    assert!(origin("events.retention_hours").contains(&given.folder.path().display().to_string()));
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let refused = |file: Option<(&str, u32)>, environment: &[(&str, &str)]| {
        let given = given(file, environment, &[]);
        format!("{:#}", Settings::load(&given.sources).expect_err("must be refused"))
    };
    let check = |text: String, parts: &[&str]| {
        for part in parts {
            assert!(text.contains(part), "'{part}' is not in: {text}");
        }
    };
    check(
        refused(Some(("[hub]\nhostnam = 'x'", 0o644)), &[]),
        &["'hub.hostnam'", "hub.hostname", "fleetyard.toml"],
    );
    check(refused(Some(("[hub\n", 0o644)), &[]), &["line 1"]);
    check(
        refused(None, &[("FLEETYARD_HUB_HOSTNAM", "x")]),
        &["FLEETYARD_HUB_HOSTNAM", "FLEETYARD_HUB_HOSTNAME"],
    );
    check(
        refused(None, &[("FLEETYARD_MQTT_ADDRESS", "8883")]),
        &["mqtt.address = '8883'", "environment FLEETYARD_MQTT_ADDRESS", "0.0.0.0:443"],
    );
    check(refused(None, &[("FLEETYARD_EVENTS_RETENTION_HOURS", "0")]), &["1 to 8760"]);
    check(refused(None, &[("FLEETYARD_HUB_HOSTNAME", "a:1")]), &["without port"]);
    check(refused(None, &[("FLEETYARD_TLS_KEY", "x")]), &["tls.certificate"]);
    check(
        refused(None, &[("FLEETYARD_POLICIES_SERVICE_PRIMARY_KEY", "???")]),
        &["policies.service.primary_key", "base64"],
    );
    check(refused(None, &[("FLEETYARD_BULK_FOLDER", "bulk")]), &["bulk.folder = 'bulk'", "absolute"]);
    check(refused(None, &[("FLEETYARD_BULK_STORES", "a.b, *.c")]), &["bulk.stores", "s3://bucket"]);
    check(refused(None, &[("FLEETYARD_BULK_S3_ENDPOINT", "s3://x")]), &["bulk.s3_endpoint", "https://"]);
    check(refused(None, &[("FLEETYARD_BULK_TIMEOUT_SECONDS", "0")]), &["1 to 3600"]);
    let secret = format!("[policies.service]\nprimary_key = '{KEY}'");
    check(refused(Some((&secret, 0o640)), &[]), &["chmod 600"]);
    assert!(!refused(Some((&secret, 0o640)), &[]).contains(KEY), "an error shows no key");
}

#[test]
fn keys_come_from_outside_and_are_not_shown() {
    let secret = format!("[policies.service]\nprimary_key = '{KEY}'");
    let given = given(Some((&secret, 0o600)), &[], &[]);
    let settings = Settings::load(&given.sources).expect("valid");
    assert_eq!(settings.policies.len(), 1);
    assert_eq!(
        (settings.policies[0].name.as_str(), settings.policies[0].secondary.is_none()),
        ("service", true)
    );
    let shown = shown(&given.sources).expect("valid");
    assert!(shown.iter().all(|(_, value, _)| !value.contains(KEY)));
    assert!(
        shown.iter().any(|(key, value, _)| key == "policies.service.primary_key" && value.contains("given"))
    );
}

#[test]
fn containers_are_what_the_settings_name() {
    let file = "[bulk]\nfolder = '/srv/bulk'\nstores = ['a.blob.core.windows.net', 's3://fleet']\ntimeout_seconds = 5\ns3_access_key_id = 'id'\ns3_secret_access_key = 'hush'";
    let given = given(Some((file, 0o600)), &[], &[]);
    let containers = Settings::load(&given.sources).expect("valid").containers;
    assert_eq!((containers.stores.len(), containers.timeout), (2, Duration::from_secs(5)));
    for url in ["file:///srv/bulk/x", "https://a.blob.core.windows.net/c?sig=x", "s3://fleet/x"] {
        containers.open(url).unwrap_or_else(|error| panic!("{url}: {error}"));
    }
    let shown = shown(&given.sources).expect("valid");
    assert!(shown.iter().all(|(_, value, _)| !value.contains("hush")));
}

#[test]
fn the_page_of_settings_is_the_table() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/settings.md");
    if std::env::var_os("UPDATE_PAGES").is_some() {
        std::fs::write(&path, table::page()).expect("written");
    }
    let page = std::fs::read_to_string(&path).expect("the page is there");
    assert!(
        page == table::page(),
        "docs/settings.md is not what the table says: run this test with UPDATE_PAGES=1"
    );
}
