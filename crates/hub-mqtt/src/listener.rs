//! Accepts: a permit first, then TLS within a time limit, then the connection in a task of its own.
//!
//! When a whole fleet comes back at once, those that are connected must not wait behind its handshakes: the next one is
//! accepted only once the former had its turn, so each round of the runtime has one more and not thousands; the rest waits
//! in the kernel's queue. How late those turns come is the measure of the hub's load, see
//! [`Config::turn_late_max`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hub_engine::Hub;
use hub_engine::tasks::{TaskKind, Tasks};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::connection::{Link, serve};
use crate::websocket::WebSocket;

/// Longest TLS handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause after an accept that failed, so that running out of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The MQTT front end.
#[derive(Clone)]
pub struct Mqtt {
    hub: Arc<Hub>,
    tasks: Tasks,
    connections: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
    turn_late_max: Duration,
}

impl Mqtt {
    /// A front end of `hub`; its connections run in `tasks`.
    pub fn new(hub: Arc<Hub>, tasks: Tasks, config: &Config) -> Self {
        let permits = |count: usize| Arc::new(Semaphore::new(count.clamp(1, Semaphore::MAX_PERMITS)));
        Self {
            hub,
            tasks,
            connections: permits(config.connections_max),
            handshakes: permits(config.handshakes_max),
            turn_late_max: config.turn_late_max,
        }
    }

    /// Accepts TLS connections until `stop`.
    pub async fn serve(
        &self,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        stop: CancellationToken,
    ) {
        let acceptor = TlsAcceptor::from(tls);
        loop {
            let accepted = async {
                let permit =
                    self.connections.clone().acquire_owned().await.expect("the semaphore is never closed");
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((socket, _)) => {
                    let (mqtt, acceptor, stop) = (self.clone(), acceptor.clone(), stop.clone());
                    let (begun, has_begun) = oneshot::channel();
                    let accepted = Instant::now();
                    let work = async move {
                        let late = accepted.elapsed();
                        let _ = begun.send(());
                        mqtt.handshake(socket, acceptor, permit, late, stop).await;
                    };
                    self.tasks.spawn(TaskKind::Connection, work);
                    // Never an error but at the hub's end.
                    let _ = has_begun.await;
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn handshake(
        &self,
        socket: TcpStream,
        acceptor: TlsAcceptor,
        permit: OwnedSemaphorePermit,
        late: Duration,
        stop: CancellationToken,
    ) {
        let _ = socket.set_nodelay(true);
        let turn = self.handshakes.acquire().await.expect("the semaphore is never closed");
        let stream = match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(socket)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => return tracing::debug!("a TLS handshake took too long"),
        };
        drop(turn);
        let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let certificate = certificate.map(|leaf| leaf.as_ref().to_vec());
        let (hub, turn_late_max) = (self.hub.clone(), self.turn_late_max);
        let handed_over = Instant::now();
        // In a task of its own, so that the handshake's state is not kept for the life of the connection.
        self.tasks.spawn(TaskKind::Connection, async move {
            let overloaded = late.max(handed_over.elapsed()) > turn_late_max;
            serve(Link { stream, hub, certificate, overloaded }, stop).await;
            drop(permit);
        });
    }

    /// Serves a WebSocket on whose stream the HTTP upgrade is done.
    pub fn accept_websocket<S>(&self, io: S, peer: SocketAddr, certificate: Option<Vec<u8>>)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Ok(permit) = self.connections.clone().try_acquire_owned() else {
            return tracing::warn!(%peer, "refused a WebSocket: there are too many connections");
        };
        let (hub, stop, turn_late_max) = (self.hub.clone(), self.tasks.stopping(), self.turn_late_max);
        let accepted = Instant::now();
        self.tasks.spawn(TaskKind::Connection, async move {
            let overloaded = accepted.elapsed() > turn_late_max;
            let stream = WebSocket::new(io).await;
            serve(Link { stream, hub, certificate, overloaded }, stop).await;
            drop(permit);
        });
    }
}
