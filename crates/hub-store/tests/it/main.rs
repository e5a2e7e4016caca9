//! The integration tests of the store, in one binary so that there is one thing to link.
//! A module per subject; what needs the inside of the embedded backend is tested beside it.

mod backends;
mod blobs;
mod damage;
mod disasters;
mod model;
mod mounts;
mod policies;
mod power_cut;
