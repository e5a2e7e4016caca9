//! The MQTT front end over real TLS sockets, against a whole hub in memory.

mod bad_input;
mod client;
mod pipelined;
mod protocol;
