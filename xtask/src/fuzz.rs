//! `cargo xtask fuzz`: runs the targets in `fuzz/`, each for a limited time.
//!
//! Without sanitizer instrumentation, so that the pinned stable toolchain is enough: the targets
//! look for panics, hangs and endless memory, and unsafe code is denied in the workspace anyway.

use anyhow::{Context, Result, bail};

use crate::process;

const MINUTES_DEFAULT: u64 = 10;
/// One input that takes longer than this is a finding.
const INPUT_SECONDS_MAX: &str = "-timeout=10";

/// Runs the targets that the arguments name.
pub fn run(arguments: &[&str]) -> Result<bool> {
    let wanted = Wanted::parse(arguments)?;
    if !process::succeeds(&["cargo", "fuzz", "--version"])
        && !process::show(&["cargo", "install", "--locked", "cargo-fuzz"])?
    {
        bail!("cargo-fuzz could not be installed");
    }
    let list = process::output(&["cargo", "fuzz", "list"])?;
    let known: Vec<&str> = list.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let time = format!("-max_total_time={}", wanted.minutes * 60);
    let mut all_passed = true;
    for target in wanted.targets(&known)? {
        all_passed &= process::show(&[
            "cargo",
            "fuzz",
            "run",
            "--sanitizer",
            "none",
            target,
            "--",
            &time,
            INPUT_SECONDS_MAX,
        ])?;
    }
    Ok(all_passed)
}

#[derive(Debug, PartialEq)]
struct Wanted<'a> {
    target: Option<&'a str>,
    minutes: u64,
}

impl<'a> Wanted<'a> {
    fn parse(arguments: &[&'a str]) -> Result<Self> {
        let mut wanted = Wanted { target: None, minutes: MINUTES_DEFAULT };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if *argument == "--minutes" {
                let number = rest.next().context("`--minutes` needs a number")?;
                wanted.minutes =
                    number.parse().with_context(|| format!("`{number}` is not a number of minutes"))?;
            } else if argument.starts_with('-') || wanted.target.is_some() {
                bail!("`{argument}` is not understood; usage: cargo xtask fuzz [TARGET] [--minutes N]");
            } else {
                wanted.target = Some(argument);
            }
        }
        Ok(wanted)
    }

    fn targets<'b>(&self, known: &[&'b str]) -> Result<Vec<&'b str>> {
        let Some(target) = self.target else { return Ok(known.to_vec()) };
        match known.iter().find(|name| **name == target) {
            Some(name) => Ok(vec![name]),
            None => bail!("there is no fuzz target `{target}`; there are: {}", known.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments() {
        assert_eq!(Wanted::parse(&[]).unwrap(), Wanted { target: None, minutes: 10 });
        let both = Wanted { target: Some("query"), minutes: 3 };
        assert_eq!(Wanted::parse(&["query", "--minutes", "3"]).unwrap(), both);
        for bad in [&["--minutes"][..], &["--minutes", "x"], &["a", "b"], &["--what"]] {
            assert!(Wanted::parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(both.targets(&["json", "query"]).unwrap(), ["query"]);
        assert!(both.targets(&["json"]).unwrap_err().to_string().contains("json"));
    }
}
