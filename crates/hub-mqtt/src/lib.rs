//! MQTT 3.1.1 front end over TLS and WebSocket: translates between packets and the hub's commands, and decides nothing else.
//!
//! The way of a packet: [`listener`] accepts → [`connection`] owns the socket and one loop → [`codec`] bytes and packets →
//! [`topics`] and [`from_wire`] to domain values → one command of the hub, for telemetry of a whole [`run`] → [`to_wire`] and
//! [`status`] back.

pub mod codec;
pub mod config;
mod connection;
mod from_wire;
mod listener;
mod run;
mod status;
mod to_wire;
pub mod topics;
mod websocket;

pub use config::Config;
pub use listener::Mqtt;
