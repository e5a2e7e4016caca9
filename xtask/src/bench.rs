//! `cargo xtask bench`: the figures. Only passes on to the bench program, with a release build of the hub and its peers beside
//! it.

use anyhow::Result;

use crate::{packages, process};

/// Builds and runs the bench program with these arguments.
pub fn run(arguments: &[&str]) -> Result<bool> {
    packages::ensure(&[packages::POSTGRES, packages::MOSQUITTO])?;
    if !process::show(&["cargo", "build", "--release", "--locked", "-p", "fleetyard"])? {
        return Ok(false);
    }
    let mut words = vec!["cargo", "run", "--release", "--locked", "-p", "fleetyard-bench", "--"];
    words.extend(arguments);
    process::show(&words)
}
