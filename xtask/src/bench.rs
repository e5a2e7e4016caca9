//! `cargo xtask bench`: the figures. Only passes on to the bench program, on a release build.

use anyhow::Result;

use crate::process;

/// Builds and runs the bench program with these arguments.
pub fn run(arguments: &[&str]) -> Result<bool> {
    let mut words = vec!["cargo", "run", "--release", "--locked", "-p", "fleetyard-bench", "--"];
    words.extend(arguments);
    process::show(&words)
}
