//! Automation of this repository: `cargo xtask tidy | test | bench | fuzz`.
//!
//! Each command is what a person would type, in the right order, with an honest exit status.
//! Nothing here may enter the product, and nothing here may need more than a Rust toolchain to start.

mod bench;
mod fuzz;
mod packages;
mod process;
mod test;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask COMMAND

  tidy [--no-clippy]             the rules that a machine keeps: crate graph, sizes, words, format, lints
  test [--quick]                 tidy, all Rust tests, then the SDK suites (--quick leaves those out)
  bench [NAME] [ARGS]            the figures, on a release build
  fuzz [TARGET] [--minutes N]    one fuzz target, or each in turn (default: 10 minutes each)
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["tidy"] => tidy::run(tidy::Lints::On),
        ["tidy", "--no-clippy"] => tidy::run(tidy::Lints::Off),
        ["test"] => test::run(test::Suites::All),
        ["test", "--quick"] => test::run(test::Suites::Rust),
        ["bench", rest @ ..] => bench::run(rest),
        ["fuzz", rest @ ..] => fuzz::run(rest),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The repository's top folder.
fn root() -> PathBuf {
    let xtask = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask lies in the repository's top folder").to_path_buf()
}
