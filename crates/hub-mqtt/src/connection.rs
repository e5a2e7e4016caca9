//! One connection from CONNECT to its end: one loop over bytes from the device, downlinks for it, and the hub's word to stop.
//!
//! Commands are carried out one after the other, so that answers and writes keep the order in which the device sent them.
//! Telemetry that arrived together is one command.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::BytesMut;

use hub_domain::id::TwinId;
use hub_engine::config::SESSION_QUEUE_MAX;
use hub_engine::{Attachment, Credential, DownlinkSender, Downlinks, Error, Hub, Principal, downlinks};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::codec::{Connect, DecodeError, Incoming, Outgoing, Publish, decode, encode};
use crate::run::Run;
use crate::topics::{DeviceTopic, Username, family_of};
use crate::{from_wire, status, to_wire};

/// Longest wait for CONNECT.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time that a write may take.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest silence of any client (D 1.5).
pub const SILENCE_MAX: Duration = Duration::from_secs(1767);
/// What every CONNECT begins with.
const CONNECT_BYTE: u8 = 0x10;
/// Bytes read at once: what a TLS record holds.
const READ_BYTES: usize = 16 * 1024;
/// Answers that are gathered before they are written.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// What ends a connection.
enum End {
    /// DISCONNECT: the will is not sent.
    Orderly,
    /// Anything else.
    Abrupt(String),
}

/// A byte stream to one device, before it said who it is.
pub struct Link<S> {
    /// Decrypted bytes.
    pub stream: S,
    /// Where commands go.
    pub hub: Arc<Hub>,
    /// The leaf certificate that the client showed, DER.
    pub certificate: Option<Vec<u8>>,
    /// That the hub has more to do than it can: the device is to come again later.
    pub overloaded: bool,
}

/// A device that was let in.
struct Device<S> {
    link: Link<S>,
    input: BytesMut,
    output: BytesMut,
    who: Principal,
    attachment: Attachment,
    silence: Duration,
}

/// Serves one connection until it ends.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut link: Link<S>, stop: CancellationToken) {
    let mut input = BytesMut::new();
    let connect = match timeout(CONNECT_TIMEOUT, first_packet(&mut link.stream, &mut input)).await {
        Ok(Ok(connect)) => connect,
        Ok(Err(Some(code))) => return refuse(&mut link.stream, code).await,
        Ok(Err(None)) => return tracing::debug!("ended a connection that did not begin with CONNECT"),
        Err(_) => return tracing::debug!("ended a connection that sent no CONNECT in time"),
    };
    if link.overloaded {
        tracing::info!(
            client = connect.client_id,
            "told a device to come again later: the hub is overloaded"
        );
        return refuse(&mut link.stream, status::UNAVAILABLE).await;
    }
    let (sender, told) = downlinks(SESSION_QUEUE_MAX);
    match enter(&link.hub, link.certificate.as_deref(), &connect, sender).await {
        Ok((who, attachment)) => {
            let silence = silence(connect.keep_alive);
            let mut device = Device { link, input, output: BytesMut::new(), who, attachment, silence };
            let end = device.run(told, stop).await;
            device.leave(end, connect.will).await;
        }
        Err(error) => {
            tracing::info!(client = connect.client_id, %error, "refused a device");
            refuse(&mut link.stream, status::connack(&error)).await;
        }
    }
}

/// Reads CONNECT. Errs with the code to answer, if there is to be an answer.
async fn first_packet<S: AsyncRead + Unpin>(
    stream: &mut S,
    input: &mut BytesMut,
) -> Result<Connect, Option<u8>> {
    loop {
        match decode(input) {
            Ok(Some(Incoming::Connect(connect))) => return Ok(connect),
            Ok(Some(_)) => return Err(None),
            // Whatever begins otherwise is no CONNECT: there is no need to wait for the rest of it.
            Ok(None) if input.first().is_some_and(|first| *first != CONNECT_BYTE) => return Err(None),
            Ok(None) => {}
            Err(DecodeError::OtherProtocol { .. }) => return Err(Some(status::OTHER_PROTOCOL)),
            Err(_) => return Err(None),
        }
        if !matches!(read_some(stream, input).await, Ok(1..)) {
            return Err(None);
        }
    }
}

async fn refuse<S: AsyncWrite + Unpin>(stream: &mut S, code: u8) {
    let mut output = BytesMut::new();
    encode(&Outgoing::ConnAck { session_present: false, code }, &mut output);
    let _ = timeout(WRITE_TIMEOUT, async {
        stream.write_all(&output).await?;
        stream.shutdown().await
    })
    .await;
}

/// Checks who it is and attaches him.
async fn enter(
    hub: &Arc<Hub>,
    certificate: Option<&[u8]>,
    connect: &Connect,
    queue: DownlinkSender,
) -> Result<(Principal, Attachment), Error> {
    let refused = |text: String| Error::Unauthenticated(text);
    let username =
        connect.username.as_deref().ok_or_else(|| refused("CONNECT carries no user name".into()))?;
    let username = Username::parse(username).map_err(refused)?;
    if connect.client_id != username.client_id() {
        return Err(refused(format!(
            "client id '{}' is not '{}' of the user name",
            connect.client_id, username.id
        )));
    }
    if let Some(will) = &connect.will {
        check_own(&will.topic, &username.id).map_err(refused)?;
    }
    let password = connect.password.as_deref().filter(|password| !password.is_empty());
    let credential = match (password, certificate) {
        (Some(token), _) => std::str::from_utf8(token)
            .map(Credential::Token)
            .map_err(|_| refused("the password is not UTF-8".into()))?,
        (None, Some(certificate)) => Credential::Certificate(certificate),
        (None, None) => {
            return Err(refused("CONNECT carries neither a token nor is there a client certificate".into()));
        }
    };
    let who = hub.authenticate_device(&username.id, credential)?;
    if let Some(model) = &username.model_id {
        hub.twin_announce_model(&who, &username.id, model).await?;
    }
    let attachment = hub.attach(&who, &username.id, connect.clean, queue).await?;
    Ok((who, attachment))
}

/// Errs unless a topic is the telemetry topic of `id`.
fn check_own(topic: &str, id: &TwinId) -> Result<Vec<(String, Option<String>)>, String> {
    match DeviceTopic::parse(topic) {
        Some(DeviceTopic::Telemetry { device, module, bag })
            if device == id.device.as_str()
                && module.as_deref() == id.module.as_ref().map(|m| m.as_str()) =>
        {
            Ok(bag)
        }
        _ => Err(format!("'{topic}' is not the telemetry topic of '{id}'")),
    }
}

/// How long a client may be silent: one and a half times its keep-alive, within the cap.
fn silence(keep_alive: u16) -> Duration {
    match keep_alive {
        0 => SILENCE_MAX,
        seconds => Duration::from_millis(u64::from(seconds) * 1500).min(SILENCE_MAX),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Device<S> {
    async fn run(&mut self, mut downlinks: Downlinks, stop: CancellationToken) -> End {
        let session_present = self.attachment.session_present;
        encode(&Outgoing::ConnAck { session_present, code: 0 }, &mut self.output);
        let expiry = self.who.expires().map(|at| Instant::now() + at.since(self.link.hub.now()));
        let mut heard = Instant::now();
        let silence = self.silence;
        let limit = |heard: Instant| expiry.map_or(heard + silence, |expiry| expiry.min(heard + silence));
        // Set anew only when it rings: a device that speaks costs no timer.
        let alarm = tokio::time::sleep_until(limit(heard));
        let stopped = stop.cancelled();
        tokio::pin!(alarm, stopped);
        loop {
            if let Err(end) = self.packets().await {
                return end;
            }
            if let Err(end) = self.flush().await {
                return end;
            }
            if self.input.is_empty() {
                // An idle connection keeps no buffers.
                (self.input, self.output) = (BytesMut::new(), BytesMut::new());
            }
            tokio::select! {
                biased;
                () = &mut stopped => return End::Abrupt("the hub is shutting down".into()),
                reason = self.attachment.ended() => return End::Abrupt(reason.to_string()),
                downlink = downlinks.next() => {
                    let Some(downlink) = downlink else { return End::Abrupt("the session is over".into()) };
                    encode(&to_wire::downlink(downlink), &mut self.output);
                    while let Some(more) = downlinks.try_next() {
                        encode(&to_wire::downlink(more), &mut self.output);
                    }
                }
                read = read_some(&mut self.link.stream, &mut self.input) => match read {
                    Ok(1..) => heard = Instant::now(),
                    Ok(0) => return End::Abrupt("the device closed the connection".into()),
                    Err(error) => return End::Abrupt(error.to_string()),
                },
                () = &mut alarm => {
                    if limit(heard) > Instant::now() {
                        alarm.as_mut().reset(limit(heard));
                        continue;
                    }
                    let why = if expiry.is_some_and(|at| at <= Instant::now()) { "its token expired" } else { "it is silent" };
                    return End::Abrupt(why.into());
                }
            }
        }
    }

    /// Carries out the packets that are whole. Whatever ends that: the telemetry before it counts.
    async fn packets(&mut self) -> Result<(), End> {
        let mut run = Run::default();
        let carried = self.carry_out(&mut run).await;
        self.take(&mut run).await?;
        carried
    }

    async fn carry_out(&mut self, run: &mut Run) -> Result<(), End> {
        while let Some(packet) = decode(&mut self.input).map_err(|error| End::Abrupt(error.to_string()))? {
            self.attachment.note_activity();
            self.packet(packet, run).await?;
            if self.output.len() > OUTPUT_BYTES_MAX {
                self.flush().await?;
            }
        }
        Ok(())
    }

    async fn packet(&mut self, packet: Incoming, run: &mut Run) -> Result<(), End> {
        if !matches!(packet, Incoming::Publish(_)) {
            self.take(run).await?;
        }
        match packet {
            Incoming::Connect(_) => return Err(End::Abrupt("a second CONNECT".into())),
            Incoming::Publish(publish) => return self.publish(publish, run).await,
            // Nothing of ours waits for an acknowledgement: twin and method messages are sent at QoS 0.
            Incoming::PubAck(_) => {}
            Incoming::Subscribe { packet, filters } => {
                let mut codes = Vec::with_capacity(filters.len());
                for (filter, qos) in filters {
                    codes.push(self.subscribe(&filter, qos).await?);
                }
                encode(&Outgoing::SubAck(packet, codes), &mut self.output);
            }
            Incoming::Unsubscribe { packet, filters } => {
                for filter in filters {
                    if let Some(family) = family_of(&filter, self.attachment.id()) {
                        self.link.hub.unsubscribe(&self.attachment, family).await.map_err(fatal)?;
                    }
                }
                encode(&Outgoing::UnsubAck(packet), &mut self.output);
            }
            Incoming::PingReq => encode(&Outgoing::PingResp, &mut self.output),
            Incoming::Disconnect => return Err(End::Orderly),
        }
        Ok(())
    }

    /// The granted QoS, or the code of refusal for filters that are not this device's.
    async fn subscribe(&mut self, filter: &str, qos: u8) -> Result<u8, End> {
        let Some(family) = family_of(filter, self.attachment.id()) else {
            tracing::info!(id = %self.attachment.id(), filter, "refused a filter that is not the device's own");
            return Ok(status::FILTER_REFUSED);
        };
        let granted = qos.min(1);
        self.link.hub.subscribe(&self.attachment, family, granted == 1).await.map_err(fatal)?;
        Ok(granted)
    }

    async fn publish(&mut self, publish: Publish, run: &mut Run) -> Result<(), End> {
        if publish.qos == 2 {
            return Err(End::Abrupt("QoS 2 is not supported".into()));
        }
        let Some(topic) = DeviceTopic::parse(&publish.topic) else {
            return Err(End::Abrupt(format!("'{}' is no topic that a device may publish to", publish.topic)));
        };
        if !matches!(topic, DeviceTopic::Telemetry { .. }) {
            self.take(run).await?;
        }
        match topic {
            DeviceTopic::Telemetry { .. } => return self.telemetry(&publish, run).await,
            DeviceTopic::TwinGet { rid } => self.twin_get(&rid)?,
            DeviceTopic::PatchReported { rid, version } => {
                self.patch_reported(rid, version, &publish.payload).await?
            }
            DeviceTopic::MethodAnswer { status, call } => {
                if let Some(call) = call {
                    let result = from_wire::method_result(status, &publish.payload);
                    self.link.hub.method_complete(&self.attachment, call, result);
                }
            }
        }
        if publish.qos == 1 {
            encode(&Outgoing::PubAck(publish.packet), &mut self.output);
        }
        Ok(())
    }

    /// Adds a message to the run. Its size is checked here, too, for the command takes all of a run or nothing.
    async fn telemetry(&mut self, publish: &Publish, run: &mut Run) -> Result<(), End> {
        let bag = check_own(&publish.topic, self.attachment.id()).map_err(End::Abrupt)?;
        let message = from_wire::message(publish, bag);
        message.check_size().map_err(|error| End::Abrupt(error.to_string()))?;
        run.push(publish, message);
        if run.is_full() { self.take(run).await } else { Ok(()) }
    }

    /// Has the messages of a run taken, and only then acknowledges them.
    async fn take(&mut self, run: &mut Run) -> Result<(), End> {
        let Run { messages, packets, .. } = std::mem::take(run);
        if messages.is_empty() {
            return Ok(());
        }
        self.link.hub.telemetry_send(&self.who, self.attachment.id(), messages).await.map_err(fatal)?;
        for packet in packets {
            encode(&Outgoing::PubAck(packet), &mut self.output);
        }
        Ok(())
    }

    /// Always an answer, whether or not the device subscribed: Python asks right after CONNACK, and again at once
    /// and without end if it is told of an error (D 4.2). A device whose twin is gone is about to be cut off anyway.
    fn twin_get(&mut self, rid: &str) -> Result<(), End> {
        let view = self.link.hub.twin_get_own(&self.attachment).map_err(fatal)?;
        encode(&to_wire::twin(rid, &view.twin), &mut self.output);
        Ok(())
    }

    async fn patch_reported(
        &mut self,
        rid: Option<String>,
        version: Option<String>,
        payload: &[u8],
    ) -> Result<(), End> {
        let id = self.attachment.id().clone();
        let outcome = match (from_wire::patch(payload), version.map(|text| text.parse::<u64>()).transpose()) {
            (Err(problem), _) => Err(Error::Invalid(problem)),
            (_, Err(_)) => Err(Error::Invalid("$version is not a whole number".into())),
            (Ok(patch), Ok(version)) => {
                self.link.hub.twin_patch_reported(&self.who, &id, &patch, version).await
            }
        };
        let Some(rid) = rid else { return Ok(()) };
        let answer = match outcome {
            Ok(version) => to_wire::patched(&rid, version),
            Err(error) => {
                let now = self.link.hub.now().to_string();
                to_wire::failed(
                    &rid,
                    status::twin_code(&error),
                    &error.to_string(),
                    &status::tracking_id(),
                    &now,
                )
            }
        };
        encode(&answer, &mut self.output);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), End> {
        if self.output.is_empty() {
            return Ok(());
        }
        let write = timeout(WRITE_TIMEOUT, async {
            self.link.stream.write_all(&self.output).await?;
            self.link.stream.flush().await
        });
        let written = write.await.map_err(|_| End::Abrupt("the device does not read".into()))?;
        self.output.clear();
        written.map_err(|error| End::Abrupt(error.to_string()))
    }

    /// Sends the will, if there is to be one, and closes the stream.
    async fn leave(mut self, end: End, will: Option<Publish>) {
        let id = self.attachment.id().clone();
        if let End::Abrupt(why) = &end {
            tracing::debug!(%id, why, "ended a connection");
            if let Some(will) = will
                && let Ok(bag) = check_own(&will.topic, &id)
            {
                let mut message = from_wire::message(&will, bag);
                message.properties.push(("iothub-MessageType".into(), "Will".into()));
                if let Err(error) = self.link.hub.telemetry_send(&self.who, &id, vec![message]).await {
                    tracing::warn!(%id, %error, "could not store a device's will");
                }
            }
        }
        let _ = timeout(WRITE_TIMEOUT, async {
            let _ = self.flush().await;
            self.link.stream.shutdown().await
        })
        .await;
    }
}

/// Reads by way of the stack, so that a connection that waits keeps no buffer.
async fn read_some<S: AsyncRead + Unpin>(stream: &mut S, input: &mut BytesMut) -> std::io::Result<usize> {
    poll_fn(|cx| {
        let mut bytes = [MaybeUninit::uninit(); READ_BYTES];
        let mut read = ReadBuf::uninit(&mut bytes);
        ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
        input.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    })
    .await
}

/// Errors of commands for which MQTT 3.1.1 has no answer but to end the connection.
fn fatal(error: Error) -> End {
    End::Abrupt(error.to_string())
}
