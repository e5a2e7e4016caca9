//! Debian's packages that tests and benchmarks need beside Rust. Never touches what is there already.

use std::path::Path;

use anyhow::{Result, bail};

use crate::process;

/// A package, and a file that is there once it is installed.
pub type Package = (&'static str, &'static str);

/// What queries are compared with.
pub const POSTGRES: Package = ("postgresql-15", "/usr/lib/postgresql/15/bin/postgres");
/// What connections and messages are compared with.
pub const MOSQUITTO: Package = ("mosquitto", "/usr/sbin/mosquitto");

/// Installs those of these that are missing.
pub fn ensure(packages: &[Package]) -> Result<()> {
    let missing = packages.iter().filter(|(_, file)| !Path::new(file).exists());
    let missing: Vec<&str> = missing.map(|(package, _)| *package).collect();
    if missing.is_empty() { Ok(()) } else { install(&missing) }
}

/// Installs packages, as root or by `sudo`; errs with what to type by hand where neither is possible.
pub fn install(packages: &[&str]) -> Result<()> {
    let is_root = process::output(&["id", "-u"])?.trim() == "0";
    let by_hand = format!("apt-get install {}", packages.join(" "));
    let prefix: &[&str] = if is_root {
        &[]
    } else if process::succeeds(&["sudo", "-n", "true"]) {
        &["sudo", "-n"]
    } else {
        bail!("more is needed than is installed; as root: {by_hand}");
    };
    let with_prefix = |rest: &[&'static str]| [prefix, rest].concat();
    let install =
        ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "--no-install-recommends"];
    let install = [with_prefix(&install).as_slice(), packages].concat();
    if !process::show(&with_prefix(&["apt-get", "update"]))? || !process::show(&install)? {
        bail!("these could not be installed: {by_hand}");
    }
    Ok(())
}
