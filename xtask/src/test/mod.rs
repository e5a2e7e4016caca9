//! `cargo xtask test`: everything that must hold, on a machine that has nothing but Rust.
//!
//! A stage that fails does not hide the ones after it, unless they need it. Each runner's own
//! summary stays to be seen; the last line adds them up, and a stage without a summary is a failure.

mod counts;
mod tools;

use anyhow::Result;

use crate::{packages, process, tidy};
use counts::{Counts, Runner};

const SDK_SUITES: &[&str] = &["bash", "e2e/run.sh"];

/// How much is run.
#[derive(Clone, Copy, PartialEq)]
pub enum Suites {
    All,
    Rust,
}

/// Runs the stages; true when every test passed and every stage ran.
pub fn run(suites: Suites) -> Result<bool> {
    tools::ensure_nextest()?;
    // Queries are compared with what it answers.
    packages::ensure(&[packages::POSTGRES])?;
    if suites == Suites::All {
        tools::ensure_sdk_runtimes()?;
    }

    let mut total = Counts::default();
    total += Counts::of_stage("tidy", started(tidy::run(tidy::Lints::On)));
    let built = started(process::show(&["cargo", "build", "--workspace", "--locked"]));
    total += Counts::of_stage("build", built);
    if built {
        let rust = ["cargo", "nextest", "run", "--workspace", "--locked", "--no-fail-fast"];
        total += counted(&rust, &[Runner::Nextest]);
        if suites == Suites::All {
            total += counted(SDK_SUITES, &[Runner::Pytest, Runner::Node]);
        }
    }
    println!("{total}");
    Ok(total.failed == 0)
}

/// What a stage answered; one that could not start has failed.
fn started<T: Default>(stage: Result<T>) -> T {
    stage.unwrap_or_else(|error| {
        println!("error: {error:#}");
        T::default()
    })
}

/// Runs one stage and reads the summaries that these runners owe.
fn counted(words: &[&str], runners: &[Runner]) -> Counts {
    let (succeeded, lines) = started(process::show_and_keep(words));
    let mut counts = Counts::default();
    for runner in runners {
        counts += runner.read(&lines);
    }
    if !succeeded && counts.failed == 0 {
        counts += Counts::of_stage(&words.join(" "), false);
    }
    counts
}
