//! The HTTPS front end over real TLS sockets, against a whole hub whose store is a file. One module per subject;
//! `support` starts the hub and holds the clients. Every test has a hub of its own on a free port.

mod access;
mod artifacts_events;
mod bad_input;
mod bulk_streams;
mod configurations;
mod explain;
mod queries;
mod registry;
mod retirement;
mod support;
mod transfers;
mod twins_methods;
mod watch;
