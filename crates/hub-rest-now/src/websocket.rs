//! The upgrade of MQTT over WebSocket: the handshake's answer is ours, the frames are not. The raw stream goes to whoever
//! the composition root named.

use std::net::SocketAddr;

use axum::http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::status::ApiError;

/// A byte stream of whatever kind.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// An upgraded connection: WebSocket frames follow on it.
pub struct WebSocketUpgrade {
    /// The stream.
    pub io: Box<dyn Io>,
    /// Where it comes from.
    pub peer: SocketAddr,
    /// The leaf certificate that the client showed, DER.
    pub certificate: Option<Vec<u8>>,
}

/// The answer that switches protocols, with the subprotocol in the client's own spelling (D 1.1); errs with what is wrong.
pub fn switching(headers: &HeaderMap) -> Result<Response, ApiError> {
    let text =
        |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    let has = |name, word: &str| text(name).split(',').any(|part| part.trim().eq_ignore_ascii_case(word));
    if !has(UPGRADE, "websocket") || !has(CONNECTION, "upgrade") || text(SEC_WEBSOCKET_VERSION) != "13" {
        return Err(ApiError::invalid("expected a WebSocket upgrade of version 13"));
    }
    let key =
        headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| ApiError::invalid("Sec-WebSocket-Key is missing"))?;
    let mut offered = text(SEC_WEBSOCKET_PROTOCOL).split(',').map(str::trim);
    let Some(protocol) = offered.clone().find(|name| name.eq_ignore_ascii_case("mqtt")) else {
        if offered.any(|name| name.eq_ignore_ascii_case("AMQPWSB10")) {
            return Err(ApiError::not_yet("AMQP over WebSocket"));
        }
        return Err(ApiError::invalid("expected the subprotocol mqtt"));
    };
    let protocol =
        HeaderValue::from_str(protocol).map_err(|_| ApiError::invalid("the subprotocol is not text"))?;
    let accept =
        HeaderValue::from_str(&derive_accept_key(key.as_bytes())).expect("base64 is a header's text");
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, protocol);
    Ok(response)
}
