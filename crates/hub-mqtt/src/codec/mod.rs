//! Bytes to packets and back: MQTT 3.1.1, the part that devices use. Pure; never panics on what comes from outside.

mod decode;
mod encode;

use bytes::Bytes;

pub use decode::{DecodeError, decode};
pub use encode::encode;

/// Largest packet from a client, fixed header not counted: a message of 256 KiB with room for its topic.
pub const PACKET_BYTES_MAX: usize = 256 * 1024 + 64 * 1024;

/// What a client sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Asks to be let in.
    Connect(Connect),
    /// Sends a message.
    Publish(Publish),
    /// Has received a message.
    PubAck(u16),
    /// Enables filters.
    Subscribe {
        /// Comes back in the answer.
        packet: u16,
        /// Each with the QoS that is asked for.
        filters: Vec<(String, u8)>,
    },
    /// Disables filters.
    Unsubscribe {
        /// Comes back in the answer.
        packet: u16,
        /// The filters.
        filters: Vec<String>,
    },
    /// Shows that it is there.
    PingReq,
    /// Leaves in order.
    Disconnect,
}

/// The first packet of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connect {
    /// Protocol level; 4 is 3.1.1.
    pub level: u8,
    /// Whether the stored session is to be dropped.
    pub clean: bool,
    /// In seconds; 0 is "as long as you allow".
    pub keep_alive: u16,
    /// The client's name.
    pub client_id: String,
    /// Sent if the connection ends without `Disconnect`.
    pub will: Option<Publish>,
    /// The user name.
    pub username: Option<String>,
    /// The password.
    pub password: Option<Bytes>,
}

/// A message, from either side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    /// The topic. From clients it is not checked for wildcards: official clients put them there (D 2.1).
    pub topic: String,
    /// 0, 1 or 2.
    pub qos: u8,
    /// Sent before.
    pub dup: bool,
    /// To be retained.
    pub retain: bool,
    /// Names it until it is acknowledged; 0 at QoS 0.
    pub packet: u16,
    /// The payload.
    pub payload: Bytes,
}

/// What the hub sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outgoing {
    /// Answers `Connect`.
    ConnAck {
        /// Whether a session was kept.
        session_present: bool,
        /// 0 is welcome.
        code: u8,
    },
    /// Sends a message.
    Publish(Publish),
    /// Has taken a message, durably.
    PubAck(u16),
    /// Answers `Subscribe`: the granted QoS of each filter, or 0x80.
    SubAck(u16, Vec<u8>),
    /// Answers `Unsubscribe`.
    UnsubAck(u16),
    /// Answers `PingReq`.
    PingResp,
}

#[cfg(test)]
mod tests;
