//! Installs what the tests need beside Rust, where it is missing: nextest, and for the SDK suites
//! Python with virtual environments, Node and openssl. Never touches what is there already.

use anyhow::{Result, bail};

use crate::{packages, process};

/// The runner's version is fixed, so that its summary stays readable.
const NEXTEST_VERSION: &str = "0.9.143";
const NODE_MAJOR_MIN: u32 = 18;

/// Makes `cargo nextest` available, whatever version there is.
pub fn ensure_nextest() -> Result<()> {
    if process::succeeds(&["cargo", "nextest", "--version"]) {
        return Ok(());
    }
    let install = [
        "cargo",
        "install",
        "--locked",
        "--version",
        NEXTEST_VERSION,
        "--no-default-features",
        "--features",
        "default-no-update",
        "cargo-nextest",
    ];
    if !process::show(&install)? {
        bail!("cargo-nextest could not be installed");
    }
    Ok(())
}

/// Makes Python with `venv`, Node with `npm`, and openssl available through the system's packages.
pub fn ensure_sdk_runtimes() -> Result<()> {
    let mut missing = Vec::new();
    if !process::succeeds(&["python3", "-c", "import venv, ensurepip"]) {
        missing.extend(["python3", "python3-venv"]);
    }
    match node_major() {
        None => missing.push("nodejs"),
        Some(major) if major < NODE_MAJOR_MIN => {
            bail!("Node {major} is too old for the SDK suites: install {NODE_MAJOR_MIN} or later")
        }
        Some(_) => {}
    }
    if !process::succeeds(&["npm", "--version"]) {
        missing.push("npm");
    }
    if !process::succeeds(&["openssl", "version"]) {
        missing.push("openssl");
    }
    if missing.is_empty() { Ok(()) } else { packages::install(&missing) }
}

fn node_major() -> Option<u32> {
    let version = process::output(&["node", "--version"]).ok()?;
    version.trim().trim_start_matches('v').split('.').next()?.parse().ok()
}
