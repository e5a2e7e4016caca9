//! Accepts: a permit first, then TLS within a time limit, then HTTP/1.1 in a task of its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request, Response, Uri};
use hub_engine::Hub;
use hub_engine::tasks::{TaskKind, Tasks};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::config::{
    Config, HANDSHAKE_TIMEOUT, HEADER_TIMEOUT, MONITORING_CONNECTIONS_MAX, SHUTDOWN_GRACE, WRITE_STALL_MAX,
};
use crate::line_format::ServiceLines;
use crate::patient::Patient;
use crate::status::request_id;
use crate::websocket::WebSocketUpgrade;
use crate::{monitoring, routes};

/// Pause after an accept that failed, so that running out of descriptors does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Who is at the other end of a connection; every request carries it.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) certificate: Option<Vec<u8>>,
    /// Cancelled when the hub stops; answers without an end watch it.
    pub(crate) stop: CancellationToken,
}

/// The HTTPS front end.
#[derive(Clone)]
pub struct Rest {
    hub: Arc<Hub>,
    tasks: Tasks,
    router: Router,
    connections: Arc<Semaphore>,
}

impl Rest {
    /// A front end of `hub`; its connections run in `tasks`, upgraded WebSockets go to `websockets`. It gives the hub the
    /// format of lines, with which import and export jobs begin to run.
    pub fn new(
        hub: Arc<Hub>,
        tasks: Tasks,
        config: &Config,
        websockets: mpsc::Sender<WebSocketUpgrade>,
    ) -> Self {
        let permits = config.connections_max.clamp(1, Semaphore::MAX_PERMITS);
        hub.run_transfers(Arc::new(ServiceLines));
        let router = routes::router(hub.clone(), tasks.clone(), websockets);
        Self { hub, tasks, router, connections: Arc::new(Semaphore::new(permits)) }
    }

    /// Accepts TLS connections until `stop`.
    pub async fn serve(
        &self,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        stop: CancellationToken,
    ) {
        let acceptor = TlsAcceptor::from(tls);
        self.accept(listener, self.connections.clone(), stop, move |rest, socket, address, permit, stop| {
            let acceptor = acceptor.clone();
            async move {
                let stream = match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(socket)).await {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
                    Err(_) => return tracing::debug!("a TLS handshake took too long"),
                };
                let leaf = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                let peer = Peer { address, certificate: leaf.map(|leaf| leaf.as_ref().to_vec()), stop };
                connection(rest.router.clone(), stream, peer).await;
                drop(permit);
            }
        })
        .await;
    }

    /// Accepts plain connections for health and metrics until `stop`.
    pub async fn serve_metrics(&self, listener: TcpListener, stop: CancellationToken) {
        let router = monitoring::router(self.hub.clone());
        // Permits of its own: whoever watches must see a hub that has no more room for clients.
        let permits = Arc::new(Semaphore::new(MONITORING_CONNECTIONS_MAX));
        self.accept(listener, permits, stop, move |_, socket, address, permit, stop| {
            let router = router.clone();
            async move {
                connection(router, socket, Peer { address, certificate: None, stop }).await;
                drop(permit);
            }
        })
        .await;
    }

    async fn accept<F, W>(
        &self,
        listener: TcpListener,
        permits: Arc<Semaphore>,
        stop: CancellationToken,
        serve: F,
    ) where
        F: Fn(Rest, TcpStream, SocketAddr, OwnedSemaphorePermit, CancellationToken) -> W,
        W: Future<Output = ()> + Send + 'static,
    {
        loop {
            let accepted = async {
                let permit = permits.clone().acquire_owned().await.expect("the semaphore is never closed");
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((socket, address)) => {
                    let _ = socket.set_nodelay(true);
                    let work = serve(self.clone(), socket, address, permit, stop.clone());
                    self.tasks.spawn(TaskKind::Connection, work);
                }
                Err(error) => {
                    tracing::warn!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

/// Serves one connection; when the hub stops, the request under way may finish within the grace.
async fn connection<S>(router: Router, stream: S, peer: Peer)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let stop = peer.stop.clone();
    let service = service_fn(move |request: Request<Incoming>| answer(router.clone(), peer.clone(), request));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let serving =
        http.serve_connection(TokioIo::new(Patient::new(stream, WRITE_STALL_MAX)), service).with_upgrades();
    tokio::pin!(serving);
    let ended = tokio::select! {
        biased;
        ended = &mut serving => ended,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            timeout(SHUTDOWN_GRACE, serving).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

async fn answer(
    router: Router,
    peer: Peer,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    if let Some(uri) = without_trailing_slash(request.uri()) {
        *request.uri_mut() = uri;
    }
    request.extensions_mut().insert(peer);
    let mut response = router.oneshot(request.map(Body::new)).await?;
    let id = HeaderValue::from_str(&request_id()).expect("hexadecimal digits are a header's text");
    response.headers_mut().insert(HeaderName::from_static("x-ms-request-id"), id);
    Ok(response)
}

/// Clients put a slash behind list and bulk routes (S 0).
fn without_trailing_slash(uri: &Uri) -> Option<Uri> {
    let path = uri.path().strip_suffix('/').filter(|path| !path.is_empty())?;
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    format!("{path}{query}").parse().ok()
}
