//! Bodies of the REST API as they are on the wire, for the server and for clients; the OpenAPI document is made from them.
//!
//! By resource: [`identity`], [`bulk`], [`twin`], [`method`], [`job`], [`configuration`], [`query`] and [`error`] are Azure
//! IoT Hub's shapes; [`artifact`], [`event`], [`explain`], [`preview`], [`policy`], [`retirement`], [`rollout`], [`status`] and [`watch`] are our own under `/api/`.
//! Unknown fields of requests are ignored, because the SDKs send back what they got. Shapes only: it checks no rule and
//! knows none of our other crates.

pub mod artifact;
pub mod bulk;
pub mod configuration;
pub mod error;
pub mod event;
pub mod explain;
pub mod identity;
pub mod job;
pub mod method;
pub mod policy;
pub mod preview;
pub mod query;
pub mod retirement;
pub mod rollout;
pub mod status;
pub mod transfer;
pub mod twin;
pub mod watch;
