//! `cargo xtask bench`: the figures. Only passes on to the bench program, with a release build of the hub and its peers beside
//! it.

use std::path::Path;

use anyhow::Result;

use crate::{packages, process};

/// The peers: Debian's packages, and a file that is there once they are.
const PEERS: [(&str, &str); 2] =
    [("postgresql-15", "/usr/lib/postgresql/15/bin/postgres"), ("mosquitto", "/usr/sbin/mosquitto")];

/// Builds and runs the bench program with these arguments.
pub fn run(arguments: &[&str]) -> Result<bool> {
    let missing = PEERS.iter().filter(|(_, program)| !Path::new(program).exists());
    let missing: Vec<&str> = missing.map(|(package, _)| *package).collect();
    if !missing.is_empty() {
        packages::install(&missing)?;
    }
    if !process::show(&["cargo", "build", "--release", "--locked", "-p", "fleetyard"])? {
        return Ok(false);
    }
    let mut words = vec!["cargo", "run", "--release", "--locked", "-p", "fleetyard-bench", "--"];
    words.extend(arguments);
    process::show(&words)
}
