//! The settings of the binary: the texts of the table, checked once and turned into what the parts of the hub take.
//! An error names the setting, its value, where it came from, and what would be right.

pub mod layers;
pub mod table;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Result, bail};
use hub_domain::sas::SymmetricKey;
use hub_engine::containers::{ContainerPolicy, S3Settings, StoreRule};
use hub_engine::policies::GivenKeys;
use hub_store::EmbeddedOptions;

use self::layers::{Sources, Value, Values, gather};

/// Names by which every hub is known to itself.
const OWN_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// An address to listen on, and the setting that gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address.
    pub address: SocketAddr,
    /// The key of the table.
    pub key: &'static str,
}

/// Where the server's certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// The hub makes it, with an authority of its own.
    Own,
    /// The operator brings it.
    Files {
        /// PEM, with its chain.
        certificate: PathBuf,
        /// PEM.
        key: PathBuf,
    },
}

/// All settings, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The data folder.
    pub data: PathBuf,
    /// The hub's own name.
    pub hostname: String,
    aliases: Vec<String>,
    /// How long work may take to end.
    pub shutdown_grace: Duration,
    /// Where HTTPS listens.
    pub https: Listen,
    /// Where MQTT listens.
    pub mqtt: Listen,
    /// Bounds of the MQTT front end.
    pub mqtt_config: hub_mqtt::Config,
    /// Where monitoring listens.
    pub metrics: Listen,
    /// Where the server's certificate comes from.
    pub certificate: CertificateSource,
    /// Bounds of the store.
    pub store: EmbeddedOptions,
    /// How long events are kept.
    pub event_retention: Duration,
    /// How many commits back events are kept.
    pub event_commits_max: u64,
    /// How long jobs are kept after their end.
    pub job_retention: Duration,
    /// How long a retired device can be restored if nobody says.
    pub restorable_default: Duration,
    /// Whether the content of a configuration may be changed.
    pub configuration_content_editable: bool,
    /// Which containers import and export jobs may use.
    pub containers: ContainerPolicy,
    /// What is logged.
    pub log_filter: String,
    /// Keys of policies that come from outside.
    pub policies: Vec<GivenKeys>,
}

impl Settings {
    /// Gathers and checks.
    pub fn load(sources: &Sources) -> Result<Settings> {
        Settings::check(&gather(sources)?)
    }

    fn check(values: &Values) -> Result<Settings> {
        let text = |key: &str| values[key].text.as_str();
        let hostname = text("hub.hostname");
        if hostname.is_empty() || hostname.contains([':', '/', ';', '=', ' ']) {
            return wrong(values, "hub.hostname", "a host name without port or path");
        }
        let aliases = text("hub.aliases").split(',').map(str::trim).filter(|name| !name.is_empty());
        let certificate = match (text("tls.certificate"), text("tls.key")) {
            ("", "") => CertificateSource::Own,
            ("", _) => return wrong(values, "tls.key", "tls.certificate beside it, or neither"),
            (_, "") => return wrong(values, "tls.certificate", "tls.key beside it, or neither"),
            (certificate, key) => {
                CertificateSource::Files { certificate: certificate.into(), key: key.into() }
            }
        };
        let listen = |key: &'static str| -> Result<Listen> {
            let address = parse(values, key, "an address with a port, such as 0.0.0.0:443 or [::]:443")?;
            Ok(Listen { address, key })
        };
        let cache_bytes = number(values, "store.cache_bytes", 1 << 20, 1 << 40)?;
        Ok(Settings {
            data: text("hub.data").into(),
            hostname: hostname.into(),
            aliases: aliases.map(String::from).collect(),
            shutdown_grace: Duration::from_secs(number(values, "hub.shutdown_grace_seconds", 0, 3600)?),
            https: listen("https.address")?,
            mqtt: listen("mqtt.address")?,
            mqtt_config: hub_mqtt::Config {
                connections_max: usize::try_from(number(values, "mqtt.connections_max", 1, 10_000_000)?)?,
                ..hub_mqtt::Config::default()
            },
            metrics: listen("metrics.address")?,
            certificate,
            store: EmbeddedOptions { cache_bytes: usize::try_from(cache_bytes)? },
            event_retention: Duration::from_secs(3600 * number(values, "events.retention_hours", 1, 8760)?),
            event_commits_max: number(values, "events.commits_max", 1000, u64::MAX)?,
            restorable_default: Duration::from_secs(
                86_400 * number(values, "retirement.restorable_days", 0, 3650)?,
            ),
            job_retention: Duration::from_secs(86_400 * number(values, "jobs.retention_days", 1, 3650)?),
            configuration_content_editable: parse(
                values,
                "configurations.editable_content",
                "true or false",
            )?,
            containers: containers(values)?,
            log_filter: text("log.filter").into(),
            policies: given_keys(values)?,
        })
    }

    /// Every name of the hub, its own first, none twice.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let own = OWN_NAMES.map(String::from);
        for name in std::iter::once(&self.hostname).chain(&self.aliases).chain(&own) {
            if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
                names.push(name.clone());
            }
        }
        names
    }
}

/// Every setting's key, value and origin as text; what is secret is masked.
pub fn shown(sources: &Sources) -> Result<Vec<(String, String, String)>> {
    let values = gather(sources)?;
    Settings::check(&values)?;
    let show = |setting: table::Setting| {
        let Value { text, origin } = &values[&setting.key];
        let text = if setting.secret && !text.is_empty() { "(given, not shown)" } else { text };
        (setting.key, text.to_string(), origin.to_string())
    };
    Ok(table::settings().into_iter().map(show).collect())
}

fn wrong<T>(values: &Values, key: &str, expected: &str) -> Result<T> {
    let Value { text, origin } = &values[key];
    bail!("{key} = '{text}' ({origin}) is not valid: expected {expected}")
}

fn parse<T: FromStr>(values: &Values, key: &str, expected: &str) -> Result<T> {
    values[key].text.trim().parse().or_else(|_| wrong(values, key, expected))
}

fn number(values: &Values, key: &str, min: u64, max: u64) -> Result<u64> {
    let expected = format!("a whole number from {min} to {max}");
    let number = parse(values, key, &expected)?;
    if (min..=max).contains(&number) { Ok(number) } else { wrong(values, key, &expected) }
}

/// Which containers import and export jobs may use.
fn containers(values: &Values) -> Result<ContainerPolicy> {
    let text = |key: &str| values[key].text.trim();
    let folder = Some(text("bulk.folder")).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    if folder.as_ref().is_some_and(|folder| folder.is_relative()) {
        return wrong(values, "bulk.folder", "an absolute path");
    }
    let mut stores = Vec::new();
    for rule in text("bulk.stores").split(',').map(str::trim).filter(|rule| !rule.is_empty()) {
        match StoreRule::parse(rule) {
            Some(rule) => stores.push(rule),
            None => {
                return wrong(values, "bulk.stores", "hosts such as a.blob.core.windows.net, or s3://bucket");
            }
        }
    }
    let endpoint = text("bulk.s3_endpoint");
    if !endpoint.is_empty() && !matches!(StoreRule::parse(endpoint), Some(StoreRule::Host { .. })) {
        return wrong(values, "bulk.s3_endpoint", "a URL without a path, such as https://s3.example.com");
    }
    let s3 = S3Settings {
        endpoint: endpoint.into(),
        region: text("bulk.s3_region").into(),
        access_key_id: text("bulk.s3_access_key_id").into(),
        secret_access_key: text("bulk.s3_secret_access_key").into(),
    };
    let timeout = Duration::from_secs(number(values, "bulk.timeout_seconds", 1, 3600)?);
    Ok(ContainerPolicy { folder, stores, s3, timeout })
}

fn given_keys(values: &Values) -> Result<Vec<GivenKeys>> {
    let mut given = Vec::new();
    for (name, _) in hub_domain::rights::Rights::BUILT_IN_POLICIES {
        let key = |which: &str| -> Result<Option<SymmetricKey>> {
            let key = format!("policies.{name}.{which}_key");
            let Value { text, origin } = &values[&key];
            if text.is_empty() {
                return Ok(None);
            }
            match SymmetricKey::parse(text) {
                Ok(parsed) => Ok(Some(parsed)),
                Err(error) => bail!("{key} ({origin}) is not valid: {error}"),
            }
        };
        let (primary, secondary) = (key("primary")?, key("secondary")?);
        if primary.is_some() || secondary.is_some() {
            given.push(GivenKeys { name: name.into(), primary, secondary });
        }
    }
    Ok(given)
}

#[cfg(test)]
mod tests;
