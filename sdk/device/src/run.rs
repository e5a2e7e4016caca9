//! The task that owns one connection: it connects, subscribes, passes on what comes, and reconnects with back-off.
//!
//! It never waits for the application: what does not fit into its queues is dropped, or refused with a status.

use std::sync::Arc;
use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, MqttOptions, Packet, Publish, QoS,
    TlsConfiguration, Transport,
};
use rustls::ClientConfig;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::client::{ConnectionState, MethodRequest, Shared};
use crate::kept::{INFLIGHT_MAX, Kept};
use crate::token::make_token;
use crate::{ConnectionString, Error};

/// How long a token is good.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
/// When a new one is made, and the connection with it: a token cannot be renewed on a connection.
const TOKEN_RENEWAL: Duration = Duration::from_secs(3600 - 600);
/// First pause before another try; it doubles up to the longest, and a random part of it is waited.
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
/// Longest pause before another try.
const BACKOFF_MAX: Duration = Duration::from_secs(30);
/// How often the device shows that it is there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// Largest packet either way.
const PACKET_BYTES_MAX: usize = 300 * 1024;
/// Requests that wait for the connection.
const REQUESTS_MAX: usize = 64;
/// The hub's word for the client's name and version.
const CLIENT_TYPE: &str = concat!("fleetyard-device%2F", env!("CARGO_PKG_VERSION"));
/// What a device subscribes to, always.
const FILTERS: [&str; 3] =
    ["$iothub/twin/res/#", "$iothub/twin/PATCH/properties/desired/#", "$iothub/methods/POST/#"];

/// The answer to a twin request.
#[derive(Debug)]
pub(crate) struct Answer {
    status: u32,
    /// The new version of the reported properties.
    pub(crate) version: Option<u64>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The answer, or the error that it is.
    pub(crate) fn checked(self) -> Result<Answer, Error> {
        if self.status < 300 {
            return Ok(self);
        }
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let code = body["errorCode"]
            .as_u64()
            .and_then(|code| u32::try_from(code).ok())
            .unwrap_or(self.status * 1000);
        Err(Error::Hub { code, message: body["message"].as_str().unwrap_or_default().into() })
    }
}

/// Makes the MQTT client and its loop; nothing is sent yet.
pub(crate) fn open(id: &ConnectionString, tls: Arc<ClientConfig>) -> Result<(AsyncClient, EventLoop), Error> {
    let (host, port) = id.address();
    let mut options = MqttOptions::new(id.client_id(), host, port);
    options
        .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)))
        .set_keep_alive(KEEP_ALIVE)
        .set_clean_session(false)
        .set_inflight(INFLIGHT_MAX)
        .set_max_packet_size(PACKET_BYTES_MAX, PACKET_BYTES_MAX);
    credentials(id, &mut options)?;
    Ok(AsyncClient::new(options, REQUESTS_MAX))
}

fn credentials(id: &ConnectionString, options: &mut MqttOptions) -> Result<(), Error> {
    let user =
        format!("{}/{}/?api-version=2021-04-12&DeviceClientType={CLIENT_TYPE}", id.host_name, id.client_id());
    let token = match &id.shared_access_key {
        Some(key) => make_token(&id.resource(), key, TOKEN_LIFETIME)?,
        None => String::new(),
    };
    options.set_credentials(user, token);
    Ok(())
}

pub(crate) struct Connection {
    pub(crate) id: Arc<ConnectionString>,
    pub(crate) client: AsyncClient,
    pub(crate) shared: Arc<Shared>,
    pub(crate) methods: mpsc::Sender<MethodRequest>,
    pub(crate) desired: mpsc::Sender<Map<String, Value>>,
    pub(crate) state: watch::Sender<ConnectionState>,
    pub(crate) stop: CancellationToken,
}

impl Connection {
    pub(crate) async fn run(self, mut eventloop: EventLoop) {
        let (mut pause, mut kept) = (BACKOFF_FIRST, Kept::default());
        loop {
            // A new token for each connection; the key was good when the client was made.
            let _ = credentials(&self.id, &mut eventloop.mqtt_options);
            let renewal = tokio::time::sleep(TOKEN_RENEWAL);
            let ended = tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                ended = self.poll(&mut eventloop, &mut kept, &mut pause) => ended,
                () = renewal, if self.id.shared_access_key.is_some() => {
                    eventloop.clean();
                    Ok(())
                }
            };
            kept.take(&mut eventloop);
            let state = match ended {
                Err(ConnectionError::ConnectionRefused(code)) if refuses(code) => {
                    ConnectionState::Refused(format!("{code:?}"))
                }
                _ => ConnectionState::Connecting,
            };
            self.state.send_replace(state);
            // After the state: whoever asks from here on waits for the next connection.
            self.shared.answers().clear();
            let wait = jitter(pause);
            pause = longer(pause);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                () = tokio::time::sleep(wait) => {}
            }
        }
        // Says goodbye, so that no will is sent and nothing is left half open.
        if self.client.try_disconnect().is_ok() {
            let farewell = async { while eventloop.poll().await.is_ok() {} };
            let _ = tokio::time::timeout(Duration::from_secs(1), farewell).await;
        }
        self.state.send_replace(ConnectionState::Closed);
    }

    async fn poll(
        &self,
        eventloop: &mut EventLoop,
        kept: &mut Kept,
        pause: &mut Duration,
    ) -> Result<(), ConnectionError> {
        loop {
            if eventloop.network.is_some() {
                kept.give(eventloop);
            }
            match eventloop.poll().await? {
                Event::Incoming(Packet::ConnAck(_)) => {
                    let filters =
                        FILTERS.map(|filter| rumqttc::SubscribeFilter::new(filter.into(), QoS::AtMostOnce));
                    let _ = self.client.try_subscribe_many(filters);
                }
                Event::Incoming(Packet::SubAck(_)) => {
                    *pause = BACKOFF_FIRST;
                    self.state.send_replace(ConnectionState::Connected);
                }
                Event::Incoming(Packet::Publish(publish)) => self.received(&publish),
                _ => {}
            }
        }
    }

    fn received(&self, publish: &Publish) {
        let topic = publish.topic.as_str();
        if let Some(rest) = topic.strip_prefix("$iothub/twin/res/") {
            self.answered(rest, publish);
        } else if topic.starts_with("$iothub/twin/PATCH/properties/desired/") {
            if let Ok(Value::Object(patch)) = serde_json::from_slice(&publish.payload) {
                // A full queue loses a change; the application sees the gap in $version and reads the twin.
                let _ = self.desired.try_send(patch);
            }
        } else if let Some((name, parameters)) =
            topic.strip_prefix("$iothub/methods/POST/").and_then(|t| t.split_once("/?"))
        {
            let rid = parameter(parameters, "$rid").unwrap_or_default().to_string();
            let payload = serde_json::from_slice(&publish.payload).unwrap_or(Value::Null);
            let request = MethodRequest { name: name.into(), payload, rid, client: self.client.clone() };
            if let Err(mpsc::error::TrySendError::Full(request)) = self.methods.try_send(request) {
                let topic = format!("$iothub/methods/res/429/?$rid={}", request.rid);
                let _ =
                    self.client.try_publish(topic, QoS::AtMostOnce, false, r#"{"error":{"code":"busy"}}"#);
            }
        }
    }

    fn answered(&self, rest: &str, publish: &Publish) {
        let Some((status, parameters)) = rest.split_once("/?") else { return };
        let Some(waiting) = parameter(parameters, "$rid").and_then(|rid| self.shared.answers().remove(rid))
        else {
            return;
        };
        let version = parameter(parameters, "$version").and_then(|version| version.parse().ok());
        let _ = waiting.send(Answer {
            status: status.parse().unwrap_or(500),
            version,
            body: publish.payload.to_vec(),
        });
    }
}

fn parameter<'a>(parameters: &'a str, name: &str) -> Option<&'a str> {
    parameters.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

/// Whether the hub says that this device is not welcome, rather than that it has no time.
fn refuses(code: ConnectReturnCode) -> bool {
    matches!(
        code,
        ConnectReturnCode::NotAuthorized
            | ConnectReturnCode::BadUserNamePassword
            | ConnectReturnCode::BadClientId
    )
}

/// The pause after this one.
fn longer(pause: Duration) -> Duration {
    (pause * 2).min(BACKOFF_MAX)
}

/// A random part of `pause`, at least a tenth: a whole fleet must not come back at the same moment.
fn jitter(pause: Duration) -> Duration {
    let mut random = [0; 4];
    let _ = getrandom::fill(&mut random);
    pause.mul_f64(0.1 + 0.9 * f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_are_spread() {
        let mut pause = BACKOFF_FIRST;
        for _ in 0..20 {
            let waits: Vec<_> = (0..200).map(|_| jitter(pause)).collect();
            // A millionth for rounding.
            assert!(
                waits.iter().all(|wait| *wait >= pause.mul_f64(0.0999999) && *wait <= pause),
                "{pause:?}"
            );
            assert!(waits.iter().any(|wait| *wait != waits[0]), "devices would all come back at once");
            assert!(longer(pause) > pause || pause == BACKOFF_MAX);
            pause = longer(pause);
        }
        assert_eq!(pause, BACKOFF_MAX);
    }

    #[test]
    fn only_a_hub_that_does_not_want_the_device_refuses_it() {
        let check = |code, expected| assert_eq!(refuses(code), expected, "{code:?}");
        check(ConnectReturnCode::NotAuthorized, true);
        check(ConnectReturnCode::BadUserNamePassword, true);
        check(ConnectReturnCode::BadClientId, true);
        check(ConnectReturnCode::ServiceUnavailable, false);
        check(ConnectReturnCode::RefusedProtocolVersion, false);
    }

    #[test]
    fn answers_become_results() {
        let check = |status, body: &str, expected: Result<(), (u32, &str)>| {
            let answer = Answer { status, version: None, body: body.into() };
            let expected = expected.map_err(|(code, message)| Error::Hub { code, message: message.into() });
            assert_eq!(answer.checked().map(drop), expected, "{status} {body}");
        };
        check(200, "", Ok(()));
        check(204, "", Ok(()));
        check(400, r#"{"errorCode":400004,"message":"no"}"#, Err((400_004, "no")));
        check(429, "", Err((429_000, "")));
        check(500, r#"{"errorCode":"x"}"#, Err((500_000, "")));
        check(500, r#"{"errorCode":99999999999}"#, Err((500_000, "")));
    }

    #[test]
    fn parameters_are_found_by_their_whole_name() {
        let check = |text, name, expected| assert_eq!(parameter(text, name), expected, "{text} {name}");
        check("$rid=4&$version=6", "$rid", Some("4"));
        check("$rid=4&$version=6", "$version", Some("6"));
        check("$ridge=4", "$rid", None);
        check("$rid=", "$rid", Some(""));
        check("", "$rid", None);
    }
}
