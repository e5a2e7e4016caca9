//! Simulated devices on the device SDK: slots as folders on disk, real downloads, real checks, real reboots, and faults on
//! request. Knows of the hub only what any device knows.

mod fault;
mod fleet;
mod image;
mod machine;
mod surroundings;

pub use fault::Fault;
pub use fleet::{Fleet, FleetOptions, FleetStats, SimulatedDevice};
pub use fleetyard_device::ConnectionString;
pub use image::make_image;
pub use machine::SimulatedMachine;
pub use surroundings::{Found, Model, Network, Power, Surroundings};
