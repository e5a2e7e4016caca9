//! HTTPS front end: the Azure-compatible routes and our own under `/api/`. Translates, limits, times out; decides nothing.
//!
//! The way of a request: [`listener`] accepts → `routes` find the handler → [`auth`] makes the caller a principal →
//! [`from_wire`] to domain values → one command of the hub → [`to_wire`], or [`status`] for errors.

mod auth;
mod coding;
pub mod config;
mod extract;
mod from_wire;
mod line_format;
mod listener;
mod monitoring;
mod openapi;
mod patient;
mod routes;
mod status;
mod to_wire;
mod websocket;

pub use config::Config;
pub use listener::Rest;
pub use websocket::{Io, WebSocketUpgrade};
