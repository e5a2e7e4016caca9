//! Numbers and their table: medians, spreads, percentiles, memory of a process, and what machine this is.

use std::fmt;
use std::time::Duration;

use anyhow::Result;
use comfy_table::{CellAlignment, Table};

/// Rows of the table.
#[derive(Debug, Default)]
pub struct Report(Vec<[String; 5]>);

impl Report {
    /// Adds a figure with its spread over the rounds, the aim, and a remark.
    pub fn add(&mut self, what: &str, figure: String, spread: String, aim: &str, remark: &str) {
        eprintln!("  {what}: {figure} {remark}");
        self.0.push([what.into(), figure, spread, aim.into(), remark.into()]);
    }
}

/// Which of two figures is the better one.
#[derive(Clone, Copy, Debug)]
pub enum Better {
    /// A rate.
    Higher,
    /// A time, or memory.
    Lower,
}

/// The rounds of the hub and of its peer, which took turns.
#[derive(Debug, Default)]
pub struct Rounds {
    /// The hub's figures.
    pub hub: Vec<f64>,
    /// The peer's.
    pub peer: Vec<f64>,
}

impl Report {
    /// Adds a figure of the hub with its peer's, and how many times better the hub is.
    pub fn compare(
        &mut self,
        what: &str,
        rounds: &Rounds,
        (unit, digits): (&str, usize),
        (peer, better): (&str, Better),
        aim: &str,
    ) {
        let (figure, spread) = summary(&rounds.hub, unit, digits);
        let (other, other_spread) = summary(&rounds.peer, unit, digits);
        let (hub, peer_median) = (median(&rounds.hub), median(&rounds.peer));
        let ratio = match better {
            Better::Higher => hub / peer_median,
            Better::Lower => peer_median / hub,
        };
        self.add(
            what,
            figure,
            spread,
            aim,
            &format!("{ratio:.2} x {peer}, which has {other} ({other_spread})"),
        );
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_preset(comfy_table::presets::ASCII_MARKDOWN);
        table.set_header(["figure", "median", "min to max", "aim", "remark"]);
        for row in &self.0 {
            table.add_row(row);
        }
        for column in [1, 2] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        write!(f, "{table}")
    }
}

/// Times of many operations.
#[derive(Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Adds one.
    pub fn push(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Adds those of another.
    pub fn extend(&mut self, other: Times) {
        self.0.extend(other.0);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The time below which `share` of all are.
    pub fn percentile(&mut self, share: f64) -> Duration {
        self.0.sort_unstable();
        let at = ((self.0.len() as f64 * share) as usize).min(self.0.len().saturating_sub(1));
        self.0.get(at).copied().unwrap_or_default()
    }
}

/// Median, and `min to max` as text, of a figure's rounds.
pub fn summary(rounds: &[f64], unit: &str, digits: usize) -> (String, String) {
    let median = median(rounds);
    let (min, max) =
        rounds.iter().fold((f64::NAN, f64::NAN), |(min, max), one| (min.min(*one), max.max(*one)));
    (format!("{median:.digits$} {unit}"), format!("{min:.digits$} to {max:.digits$}"))
}

fn median(rounds: &[f64]) -> f64 {
    let mut sorted = rounds.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Milliseconds of a duration.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Resident memory of a process, in bytes.
pub fn resident_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or(0) * 1024
}

/// How often a process's memory is read while something runs.
const MEMORY_INTERVAL: Duration = Duration::from_millis(50);

/// Does `work` and says how much resident memory, in bytes, the process had at most meanwhile.
pub async fn with_peak<T>(process: u32, work: impl Future<Output = Result<T>>) -> Result<(T, u64)> {
    tokio::pin!(work);
    let mut peak = resident_bytes(process);
    let mut interval = tokio::time::interval(MEMORY_INTERVAL);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Ok((done?, peak.max(resident_bytes(process)))),
            _ = interval.tick() => peak = peak.max(resident_bytes(process)),
        }
    }
}

/// What machine this is, in a line.
pub fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let cores = cpu.lines().filter(|line| line.starts_with("processor")).count();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = memory.lines().next().unwrap_or_default().trim_start_matches("MemTotal:").trim();
    format!(
        "machine: {cores} cores, {}, {memory}; load generator on the same machine",
        model.trim_start_matches([' ', '\t', ':'])
    )
}
