//! Connection strings of the hub on this machine. Policies are in a file of their own, so they can be read at any time;
//! a device's key is in the store, which is asked directly when the hub is stopped and over its REST API when it runs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use hub_cli::Target;
use hub_domain::id::TwinId;
use hub_domain::identity::Authentication;
use hub_domain::sas::make_token;
use hub_domain::time::Timestamp;
use hub_engine::clock::{Clock, SystemClock};
use hub_engine::policies::{Policies, Policy, PolicyFile};
use hub_store::{EmbeddedStore, OpenError, tables};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::Value;

use crate::config::layers::Sources;
use crate::config::{CertificateSource, Settings};
use crate::endpoints::Endpoints;

/// How long the token of one question is good, in seconds.
const TOKEN_SECONDS: i64 = 60;

fn endpoints(settings: &Settings) -> Result<Endpoints> {
    let endpoints = Endpoints::load(&settings.data)?;
    endpoints.with_context(|| {
        format!(
            "there is no hub in {}: name its folder with --data, or start it once",
            settings.data.display()
        )
    })
}

fn policy(settings: &Settings, name: &str) -> Result<Policy> {
    let file = PolicyFile::new(settings.data.join("policies.json"));
    if file.load()?.is_none() {
        bail!(
            "there is no hub in {}: name its folder with --data, or start it once",
            settings.data.display()
        );
    }
    let policies = Policies::open(file, &settings.policies).map_err(|error| anyhow::anyhow!("{error}"))?;
    policies.get(name).with_context(|| {
        let names: Vec<_> = policies.list().iter().map(|policy| policy.name.clone()).collect();
        format!("there is no policy '{name}'; there are {}", names.join(", "))
    })
}

/// The connection string of a policy.
pub fn of_policy(settings: &Settings, name: &str) -> Result<String> {
    let policy = policy(settings, name)?;
    let host = endpoints(settings)?.service_host();
    Ok(format!("HostName={host};SharedAccessKeyName={name};SharedAccessKey={}", policy.primary.to_base64()))
}

/// The hub of a data folder on this machine, for commands that are told no other.
pub fn local_target(data: Option<&Path>) -> Result<Target> {
    let flags = data.map(|data| ("hub.data", data.display().to_string()));
    let settings = Settings::load(&Sources::of_process(None, flags.into_iter().collect()))?;
    let endpoints = endpoints(&settings)?;
    Ok(Target {
        connection_string: of_policy(&settings, "iothubowner")?,
        ca: Some(authority(&settings)),
        address: Some(endpoints.https_from_here()),
        mqtt_host: Some(endpoints.device_host()),
    })
}

/// The connection string of a device, or of a module as `device/module`.
pub async fn of_device(settings: &Settings, name: &str) -> Result<String> {
    let (device, module) =
        name.split_once('/').map_or((name, None), |(device, module)| (device, Some(module)));
    let id = TwinId::parse(device, module)?;
    let endpoints = endpoints(settings)?;
    let proof = match EmbeddedStore::open(&settings.data.join("hub.redb"), settings.store) {
        Ok(store) => {
            let identity = tables::identities::get(&store, &id).await?;
            match identity.with_context(|| format!("there is no '{id}' in the registry"))?.authentication {
                Authentication::Sas(keys) => Some(keys.primary.to_base64()),
                Authentication::SelfSigned { .. } | Authentication::CertificateAuthority => None,
                Authentication::None => bail!("'{id}' cannot connect: it has no authentication"),
            }
        }
        Err(OpenError::InUse { .. }) => ask(settings, &endpoints, &id).await?,
        Err(error) => return Err(error.into()),
    };
    let module = id.module.as_ref().map(|module| format!(";ModuleId={module}")).unwrap_or_default();
    let proof = proof.map_or("x509=true".to_string(), |key| format!("SharedAccessKey={key}"));
    Ok(format!("HostName={};DeviceId={}{module};{proof}", endpoints.device_host(), id.device))
}

/// Asks the running hub. `None`: it authenticates with certificates.
async fn ask(settings: &Settings, endpoints: &Endpoints, id: &TwinId) -> Result<Option<String>> {
    let owner = policy(settings, "iothubowner")?;
    let expiry = Timestamp::from_seconds(SystemClock.now().seconds() + TOKEN_SECONDS);
    let token = make_token(&endpoints.hostname, &owner.primary, expiry, Some("iothubowner"));
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let module =
        id.module.as_ref().map(|module| format!("/modules/{}", encode(module.as_str()))).unwrap_or_default();
    let host = endpoints.service_host();
    let url = format!("https://{host}/devices/{}{module}?api-version=2021-04-12", encode(id.device.as_str()));
    let answer = client(settings, endpoints)?.get(url).header("Authorization", token).send().await;
    let answer = answer
        .with_context(|| format!("the hub that runs on {} does not answer", settings.data.display()))?;
    let status = answer.status();
    let body: Value = answer.json().await.unwrap_or_default();
    if !status.is_success() {
        bail!("the hub answered {status}: {}", body["Message"].as_str().unwrap_or_default());
    }
    Ok(body["authentication"]["symmetricKey"]["primaryKey"].as_str().map(String::from))
}

/// What to trust: the hub's own authority, or the chain that the operator brought.
fn authority(settings: &Settings) -> PathBuf {
    match &settings.certificate {
        CertificateSource::Own => settings.data.join("tls/ca.pem"),
        CertificateSource::Files { certificate, .. } => certificate.clone(),
    }
}

/// Connects to the hub of this machine whatever its name leads to, and trusts what it shows to its clients.
fn client(settings: &Settings, endpoints: &Endpoints) -> Result<reqwest::Client> {
    let path = authority(settings);
    let mut roots = rustls::RootCertStore::empty();
    for certificate in
        CertificateDer::pem_file_iter(&path).with_context(|| format!("cannot read {}", path.display()))?
    {
        roots.add(certificate?)?;
    }
    let tls = rustls::ClientConfig::builder_with_provider(std::sync::Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()?
    .with_root_certificates(roots)
    .with_no_client_auth();
    let mut address = endpoints.https;
    if address.ip().is_unspecified() {
        address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
    }
    let builder = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls);
    Ok(builder.resolve(&endpoints.hostname, address).build()?)
}
