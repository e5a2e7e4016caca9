//! Puts the hub together and runs it: the only place that names concrete parts, from top to bottom.
//! Sockets come first, so that a port that cannot be had is an error in the first second, before anything is made.

use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use hub_engine::clock::SystemClock;
use hub_engine::policies::{Policies, PolicyFile};
use hub_engine::tasks::{TaskKind, Tasks};
use hub_engine::{Hub, Parts};
use hub_store::EmbeddedStore;
use hub_store::blobs::BlobFolder;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;

use crate::config::{Listen, Settings, table};
use crate::endpoints::Endpoints;
use crate::signals::{Signals, Wish};
use crate::tls::ServerCertificate;

/// Connections that the kernel holds until they are accepted; a whole fleet may come back at once.
const BACKLOG: u32 = 4096;
/// WebSockets on their way from HTTPS to MQTT; more wait.
const WEBSOCKETS_WAITING_MAX: usize = 1024;
/// How often the hub looks whether its own certificate must be made anew.
const CERTIFICATE_LOOK_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// Runs a hub until a signal ends it.
pub async fn serve(settings: Settings) -> Result<()> {
    let mut signals = Signals::listen()?;
    let https = bind(&settings.https)?;
    let mqtt = bind(&settings.mqtt)?;
    let metrics = bind(&settings.metrics)?;
    let endpoints = Endpoints {
        hostname: settings.hostname.clone(),
        https: https.local_addr()?,
        mqtt: mqtt.local_addr()?,
        metrics: metrics.local_addr()?,
    };

    let data = &settings.data;
    make_private_folder(data)?;
    let store = EmbeddedStore::open(&data.join("hub.redb"), settings.store)?;
    let blobs = BlobFolder::open(&data.join("artifacts")).await?;
    let policies = Policies::open(PolicyFile::new(data.join("policies.json")), &settings.policies)?;
    let certificate = ServerCertificate::open(&settings)?;
    let tasks = Tasks::new();
    let config = hub_engine::Config {
        hostnames: settings.names(),
        event_retention: settings.event_retention,
        event_commits_max: settings.event_commits_max,
        job_retention: settings.job_retention,
        restorable_default: settings.restorable_default,
        configuration_content_editable: settings.configuration_content_editable,
        containers: settings.containers.clone(),
    };
    let (store, clock) = (Arc::new(store), Arc::new(SystemClock));
    let hub = Hub::open(config, Parts { store, blobs, clock, tasks: tasks.clone(), policies }).await?;

    let (websockets, mut upgrades) = mpsc::channel(WEBSOCKETS_WAITING_MAX);
    let mqtt_front = hub_mqtt::Mqtt::new(hub.clone(), tasks.clone(), &settings.mqtt_config);
    let rest = hub_rest::Rest::new(hub.clone(), tasks.clone(), &hub_rest::Config::default(), websockets);
    let (mqtt_tls, https_tls) = (certificate.server_config(&[])?, certificate.server_config(&["http/1.1"])?);
    let stop = tasks.stopping();
    tasks.spawn(TaskKind::Listener, {
        let (front, stop) = (mqtt_front.clone(), stop.clone());
        async move { front.serve(mqtt, mqtt_tls, stop).await }
    });
    tasks.spawn(TaskKind::Listener, {
        let (rest, stop) = (rest.clone(), stop.clone());
        async move { rest.serve(https, https_tls, stop).await }
    });
    tasks.spawn(TaskKind::Listener, {
        let stop = stop.clone();
        async move { rest.serve_metrics(metrics, stop).await }
    });
    tasks.spawn(TaskKind::Listener, async move {
        while let Some(upgrade) = upgrades.recv().await {
            mqtt_front.accept_websocket(upgrade.io, upgrade.peer, upgrade.certificate);
        }
    });

    endpoints.save(data)?;
    announce(&settings, &endpoints, &certificate);
    until_end(&mut signals, &certificate).await;
    shut_down(&hub, &mut signals, settings.shutdown_grace).await;
    Ok(())
}

/// Binds and listens; an error names the setting and what helps.
fn bind(listen: &Listen) -> Result<TcpListener> {
    let Listen { address, .. } = *listen;
    let bound = || -> io::Result<TcpListener> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // So that a restart need not wait for the connections of the former process to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bound().map_err(|error| anyhow!(explain_bind_error(listen, &error)))
}

fn explain_bind_error(listen: &Listen, error: &io::Error) -> String {
    let Listen { address, key } = listen;
    let setting = table::settings().into_iter().find(|setting| setting.key == *key).expect("a known setting");
    let (section, name) = key.split_once('.').unwrap_or(("", key));
    let flag = setting.flag.unwrap_or_default();
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "something else listens there: see what with \"ss -ltnp 'sport = :{}'\" and end it, or choose another address",
            address.port()
        ),
        io::ErrorKind::PermissionDenied => format!(
            "ports below 1024 need a privilege: run 'setcap cap_net_bind_service=+ep {}', give it by systemd (AmbientCapabilities=CAP_NET_BIND_SERVICE), or choose a higher port",
            std::env::current_exe().map_or_else(|_| "fleetyard".into(), |path| path.display().to_string())
        ),
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address: use one of its own, or 0.0.0.0 for all".into()
        }
        _ => "choose another address".into(),
    };
    format!(
        "cannot listen on {address} ({error}): {remedy}. The address is set by {flag}, {} or `[{section}] {name}` in the settings file",
        setting.variable
    )
}

fn make_private_folder(folder: &Path) -> Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(|| {
        format!(
            "cannot make the data folder {}: choose another with --data, or make it for this user",
            folder.display()
        )
    })
}

/// Says on standard output where everything is; `ready` comes last, for whoever waits for it.
fn announce(settings: &Settings, endpoints: &Endpoints, certificate: &ServerCertificate) {
    let data = settings.data.display();
    let lines = [
        format!("https    https://{} on {}", endpoints.service_host(), endpoints.https),
        format!("mqtt     mqtts://{} on {}", endpoints.device_host(), endpoints.mqtt),
        format!("metrics  http://{}/metrics", endpoints.metrics),
        match certificate.ca() {
            Some(ca) => format!("ca       {} (clients must trust it)", ca.display()),
            None => "ca       your own certificate is in use".into(),
        },
        format!("connect  fleetyard connection-string --data {data} [--policy NAME | --device ID]"),
        format!("ready https={} mqtt={} metrics={}", endpoints.https, endpoints.mqtt, endpoints.metrics),
    ];
    use std::io::Write;
    // Whoever started the hub may have closed its output; that is no reason to end.
    let _ = io::stdout().lock().write_all((lines.join("\n") + "\n").as_bytes());
    let _ = io::stdout().flush();
}

/// Returns at the first signal to end; reads certificates again when told to, and once a day.
async fn until_end(signals: &mut Signals, certificate: &ServerCertificate) {
    loop {
        let wish = tokio::select! {
            biased;
            wish = signals.next() => wish,
            () = tokio::time::sleep(CERTIFICATE_LOOK_INTERVAL) => Wish::Reload,
        };
        match wish {
            Wish::End => return,
            Wish::Reload => match certificate.reload() {
                Ok(()) => tracing::info!("read the server certificate again"),
                Err(error) => tracing::error!("the former server certificate stays in use: {error:#}"),
            },
        }
    }
}

async fn shut_down(hub: &Hub, signals: &mut Signals, grace: Duration) {
    tracing::info!("ending in order; a second signal ends at once");
    let ended = tokio::select! {
        biased;
        ended = hub.shutdown(grace) => ended,
        () = signals.exit_on_next_end() => false,
    };
    if ended {
        tracing::info!("ended");
    } else {
        tracing::warn!(
            seconds = grace.as_secs(),
            "not everything ended in time and was abandoned; nothing acknowledged is lost"
        );
    }
}

#[cfg(test)]
mod tests;
