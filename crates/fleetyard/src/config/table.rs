//! Every setting there is: its key, its environment variable, its flag, its default and what it is for.
//! The page docs/settings.md is printed from this table, so nothing can be set that is not described.

use hub_domain::rights::Rights;

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// `section.key`, as in the settings file.
    pub key: String,
    /// Its environment variable.
    pub variable: String,
    /// Its flag of `serve`, if it has one.
    pub flag: Option<&'static str>,
    /// Its value if nobody gives one; empty is "none".
    pub default: String,
    /// Whether its value is shown to nobody.
    pub secret: bool,
    /// What it is for, one sentence.
    pub help: String,
}

/// Variables with our prefix that are not settings: they choose the file, or belong to commands and test suites.
pub const OTHER_VARIABLES: [&str; 5] = [
    "FLEETYARD_CONFIG",
    "FLEETYARD_CONNECTION_STRING",
    "FLEETYARD_CA",
    "FLEETYARD_BIN",
    "FLEETYARD_CRASH_ROUNDS",
];
/// Variables of the test suites begin so.
pub const SUITE_PREFIX: &str = "FLEETYARD_E2E_";
/// All our variables begin so.
pub const PREFIX: &str = "FLEETYARD_";

/// The one plain setting whose value is shown to nobody.
const SECRET_OF_S3: &str = "bulk.s3_secret_access_key";

/// Key, flag, default, meaning of all settings but the policies' keys.
const PLAIN: [(&str, &str, &str, &str); 24] = [
    ("hub.data", "--data", "fleetyard-data", "The data folder; it is made at the first start."),
    (
        "hub.hostname",
        "--hostname",
        "localhost",
        "The name under which clients know the hub: it stands in connection strings, tokens and the certificate.",
    ),
    (
        "hub.aliases",
        "",
        "",
        "Further names of the hub, with commas between: tokens may name them and the hub's own certificate has them. `localhost`, `127.0.0.1` and `::1` are names always.",
    ),
    (
        "hub.shutdown_grace_seconds",
        "",
        "10",
        "How long what is under way may take to end after Ctrl-C or SIGTERM, 0 to 3600.",
    ),
    (
        "https.address",
        "--https-address",
        "0.0.0.0:443",
        "Where back ends, the command line and devices over WebSocket connect. Port 0 takes a free one.",
    ),
    ("mqtt.address", "--mqtt-address", "0.0.0.0:8883", "Where devices connect over MQTT."),
    ("mqtt.connections_max", "", "200000", "Connections over MQTT and WebSocket at once; 1 and up."),
    (
        "metrics.address",
        "--metrics-address",
        "127.0.0.1:9464",
        "Where monitoring asks for `/metrics`, `/healthz` and `/readyz`, without TLS and credentials.",
    ),
    (
        "tls.certificate",
        "--tls-certificate",
        "",
        "PEM file with your own certificate and its chain, read again on SIGHUP. Without it the hub makes one with an authority of its own.",
    ),
    ("tls.key", "--tls-key", "", "PEM file with the key of `tls.certificate`."),
    ("store.cache_bytes", "", "67108864", "Memory for pages of the store; 1048576 and up."),
    ("events.retention_hours", "", "24", "How long events are kept for readers, 1 to 8760."),
    ("events.commits_max", "", "1000000", "How many commits back events are kept at most; 1000 and up."),
    (
        "configurations.editable_content",
        "",
        "false",
        "Whether the content of a configuration may be changed in place (`true`), which Azure IoT Hub never allows (`false`).",
    ),
    (
        "jobs.retention_days",
        "",
        "30",
        "How long a job and what became of its devices are kept after its end, 1 to 3650.",
    ),
    (
        "bulk.folder",
        "",
        "",
        "An absolute path: containers of import and export jobs may be this folder and folders below it, as `file:` URLs. Without it no folder may.",
    ),
    (
        "bulk.stores",
        "",
        "",
        "Blob stores that import and export jobs may reach, with commas between: `account.blob.core.windows.net`, `host:port` (TLS), `http://host:port`, `s3://bucket`. Without it none.",
    ),
    ("bulk.s3_endpoint", "", "", "URL of the S3 store; without it that of AWS for the region."),
    ("bulk.s3_region", "", "us-east-1", "Region of the S3 store."),
    ("bulk.s3_access_key_id", "", "", "Name of the hub's key for the S3 store."),
    (SECRET_OF_S3, "", "", "The hub's key for the S3 store."),
    (
        "bulk.timeout_seconds",
        "",
        "60",
        "How long a container of an import or export job may be silent before the job fails, 1 to 3600.",
    ),
    (
        "retirement.restorable_days",
        "",
        "30",
        "How long a retired device can be restored, if whoever retires it does not say, 0 to 3650.",
    ),
    (
        "log.filter",
        "--log",
        "info",
        "What is logged: a level, or levels by part as in `info,hub_mqtt=debug`.",
    ),
];

/// The table.
pub fn settings() -> Vec<Setting> {
    let plain = PLAIN.map(|(key, flag, default, help)| Setting {
        key: key.into(),
        // The one that people type most has a short name.
        variable: if key == "log.filter" { "FLEETYARD_LOG".into() } else { variable_of(key) },
        flag: Some(flag).filter(|flag| !flag.is_empty()),
        default: default.into(),
        secret: key == SECRET_OF_S3,
        help: help.into(),
    });
    let keys = Rights::BUILT_IN_POLICIES.into_iter().flat_map(|(policy, _)| {
        ["primary", "secondary"].map(|which| {
            let key = format!("policies.{policy}.{which}_key");
            Setting {
                variable: variable_of(&key),
                key,
                flag: None,
                default: String::new(),
                secret: true,
                help: format!("The {which} key of policy `{policy}`, base64 of 16 to 64 bytes. Without it the hub's own random one in `policies.json` is used."),
            }
        })
    });
    plain.into_iter().chain(keys).collect()
}

fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_ascii_uppercase())
}

/// The content of docs/settings.md.
#[cfg(test)]
pub fn page() -> String {
    let mut page = String::from(
        "# Settings\n\n\
         A value comes from the first of these that gives one: a flag of `fleetyard serve`, the environment, the settings file\n\
         (TOML; `--config FILE` or `FLEETYARD_CONFIG`), the default. `fleetyard config show` prints each value and where it comes\n\
         from. An unknown key in the file and an unknown variable that begins with `FLEETYARD_` are errors. A settings file that\n\
         holds keys must be readable by its owner alone (`chmod 600`).\n\n\
         This page is printed from the table in the program.\n\n\
         | in the file | environment | flag | default | meaning |\n|---|---|---|---|---|\n",
    );
    for setting in settings() {
        let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
        let (section, key) = setting.key.rsplit_once('.').unwrap_or(("", &setting.key));
        let flag = code(setting.flag.unwrap_or_default());
        let default = code(&setting.default);
        let Setting { variable, help, .. } = &setting;
        page += &format!("| `[{section}] {key}` | `{variable}` | {flag} | {default} | {help} |\n");
    }
    page
}

/// The one of `known` that somebody may have meant by `given`.
pub fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|name| (distance(given, name), name))
        .min()
        .filter(|(distance, name)| *distance <= name.len() / 2)
        .map(|(_, name)| name)
}

/// How many characters must be put in, taken out or replaced to make one text of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
