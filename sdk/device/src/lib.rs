//! Device SDK for Fleetyard and every hub that speaks the same protocol: connect, report, be called, be managed.
//!
//! [`ConnectionString`] says who the device is, [`client_config`] whom it trusts, [`DeviceClient`] keeps the connection,
//! and [`agent`] carries out the five patterns of device management on traits that a device maker implements.

pub mod agent;
mod client;
mod connection_string;
mod error;
mod kept;
mod run;
mod tls;
mod token;

pub use client::{
    ConnectionState, DeviceClient, Inbox, Message, MethodRequest, QUEUE_MAX, SEND_TIMEOUT, TWIN_TIMEOUT, Twin,
};
pub use connection_string::ConnectionString;
pub use error::Error;
pub use tls::client_config;
pub use token::make_token;
