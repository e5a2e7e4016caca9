//! Pure values and rules of the hub. No I/O, no clock, no randomness, no task: time and fresh
//! ids are arguments, so everything here can be tested by tables and cannot fail for outside reasons.
//!
//! Read in this order: [`id`] names, [`time`] and [`version`] stamps, [`limits`] every bound,
//! [`json`] values and merge, [`rights`] and [`sas`] who may do what, [`identity`] the registry,
//! [`twin`] tags, desired and reported, [`query`] the language over twins, [`method`], [`message`], [`job`] one action on many, [`rollout`] in which waves,
//! [`transfer`] import and export jobs,
//! [`configuration`] what the hub keeps in twins, [`context`] what a device can bear now, [`session`] and [`link`] the live side, [`actor`] and [`event`] by whom and what happened, [`artifact`] firmware images,
//! [`retirement`] the end of a device's life.

pub mod actor;
pub mod artifact;
pub mod configuration;
pub mod context;
pub mod event;
pub mod id;
pub mod identity;
pub mod job;
pub mod json;
pub mod limits;
pub mod link;
pub mod message;
pub mod method;
pub mod query;
pub mod retirement;
pub mod rights;
pub mod rollout;
pub mod sas;
pub mod session;
pub mod time;
pub mod transfer;
pub mod twin;
pub mod version;
