//! Reading the summaries of the test runners, and adding them up.
//!
//! Only what a runner itself says counts; what cannot be read counts as a failure.

use std::fmt;
use std::ops::AddAssign;

/// How many tests passed, and how many did not.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
}

impl Counts {
    /// A stage that counts nothing itself: nothing when it succeeded, else one failure.
    pub fn of_stage(name: &str, succeeded: bool) -> Self {
        if !succeeded {
            println!("test: `{name}` FAILED");
        }
        Self { passed: 0, failed: u64::from(!succeeded) }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// A program that runs tests and ends with a summary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Runner {
    Nextest,
    Pytest,
    Node,
}

impl Runner {
    /// Adds up this runner's summaries in `lines`; none at all is a failure.
    pub fn read(self, lines: &[String]) -> Counts {
        let summaries: Vec<Counts> = lines.iter().filter_map(|line| self.read_line(&plain(line))).collect();
        if summaries.is_empty() {
            return Counts::of_stage(&format!("{self:?}: no summary"), false);
        }
        summaries.into_iter().fold(Counts::default(), |mut sum, counts| {
            sum += counts;
            sum
        })
    }

    fn read_line(self, line: &str) -> Option<Counts> {
        let line = line.trim();
        match self {
            Runner::Nextest => {
                let (_, rest) = line.strip_prefix("Summary [")?.split_once("run:")?;
                Some(tally(rest, &["passed"], &["failed", "timed", "exec"]))
            }
            Runner::Pytest => {
                let line = line.trim_matches('=').trim();
                let (counts, _) = line.split_once(" in ").filter(|(_, time)| time.contains('s'))?;
                let starts = counts.split(' ').next()?.parse::<u64>().is_ok();
                starts.then(|| tally(counts, &["passed", "xpassed"], &["failed", "error", "errors"]))
            }
            Runner::Node => {
                let mut words = line.strip_prefix('#').or(line.strip_prefix('ℹ'))?.split_whitespace();
                let (what, number) = (words.next()?, words.next()?.parse().ok()?);
                match what {
                    "pass" => Some(Counts { passed: number, failed: 0 }),
                    "fail" | "cancelled" => Some(Counts { passed: 0, failed: number }),
                    _ => None,
                }
            }
        }
    }
}

/// Adds up `12 passed (1 slow), 2 failed` by the word after each number.
fn tally(text: &str, passed: &[&str], failed: &[&str]) -> Counts {
    let mut counts = Counts::default();
    for part in text.split(',') {
        let mut words = part.split_whitespace();
        let (Some(number), Some(what)) =
            (words.next().and_then(|word| word.parse::<u64>().ok()), words.next())
        else {
            continue;
        };
        if passed.contains(&what) {
            counts.passed += number;
        } else if failed.contains(&what) {
            counts.failed += number;
        }
    }
    counts
}

/// The line without colours.
fn plain(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(runner: Runner, output: &str, passed: u64, failed: u64) {
        let lines: Vec<String> = output.lines().map(str::to_owned).collect();
        assert_eq!(runner.read(&lines), Counts { passed, failed }, "{runner:?}: {output}");
    }

    #[test]
    fn nextest() {
        check(Runner::Nextest, "     Summary [   0.005s] 3 tests run: 3 passed, 0 skipped", 3, 0);
        let mixed = "Summary [ 1.2s] 12/14 tests run: 8 passed (1 slow, 1 flaky), 2 failed, 1 timed out, 1 exec failed, 0 skipped";
        check(Runner::Nextest, mixed, 8, 4);
        check(
            Runner::Nextest,
            "\u{1b}[32;1m     Summary\u{1b}[0m [ 1s] \u{1b}[1m1\u{1b}[0m test run: \u{1b}[1m1\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m, 0 skipped",
            1,
            0,
        );
        check(Runner::Nextest, "error: could not compile", 0, 1);
    }

    #[test]
    fn pytest() {
        check(Runner::Pytest, "===== 12 passed, 1 failed, 2 skipped, 1 error in 3.21s =====", 12, 2);
        check(Runner::Pytest, "7 passed in 0.30s", 7, 0);
        check(Runner::Pytest, "==== 1 failed, 6 passed in 61.00s (0:01:01) ====", 6, 1);
        check(Runner::Pytest, "no tests ran in 0.01s", 0, 1);
        check(Runner::Pytest, "device 3 passed the gate in 2s", 0, 1);
    }

    #[test]
    fn node() {
        check(Runner::Node, "# tests 5\n# pass 4\n# fail 1\n# cancelled 0\n# skipped 0", 4, 1);
        check(Runner::Node, "ℹ tests 5\nℹ pass 3\nℹ fail 1\nℹ cancelled 1", 3, 2);
        check(Runner::Node, "# pass 1\n# fail 0\n# pass 2\n# fail 0", 3, 0);
        check(Runner::Node, "npm error", 0, 1);
    }

    #[test]
    fn the_last_line() {
        let mut total = Counts { passed: 3, failed: 0 };
        total += Counts::of_stage("tidy", true);
        assert_eq!(total.to_string(), "3 passed, 0 failed");
        total += Counts::of_stage("tidy", false);
        assert_eq!(total.to_string(), "3 passed, 1 failed");
    }
}
