//! Debian's packages that tests and benchmarks need beside Rust. Never touches what is there already.

use anyhow::{Result, bail};

use crate::process;

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
