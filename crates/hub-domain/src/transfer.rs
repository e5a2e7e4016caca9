//! Import and export jobs (S 3): what was asked, where it stands, and what became of lines. Pure values and transitions; who
//! carries them out and where containers are is not known here.

use crate::actor::Actor;
use crate::id::JobId;
use crate::job::JobStatus;
use crate::time::Timestamp;

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferKind {
    /// From a container into the registry.
    Import,
    /// From the registry into a container.
    Export,
}

impl TransferKind {
    /// The word in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            TransferKind::Import => "import",
            TransferKind::Export => "export",
        }
    }

    /// From the word, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Import, Self::Export].into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(text))
    }
}

/// What was asked.
#[derive(Clone, Debug, PartialEq)]
pub struct TransferSpec {
    /// Its name, which the hub made.
    pub id: JobId,
    /// Which way.
    pub kind: TransferKind,
    /// When.
    pub created: Timestamp,
    /// By whom.
    pub actor: Actor,
    /// The container that an import reads, with its signature until the job is over.
    pub input: Option<String>,
    /// The blob of identities in it.
    pub input_blob: String,
    /// The container that is written: an export's blobs, or an import's errors. With its signature until the job is over.
    pub output: String,
    /// The blob of identities in it.
    pub output_blob: String,
    /// Whether an export leaves the keys out.
    pub exclude_keys: bool,
    /// The blob of configurations, if they are imported or exported, too.
    pub configurations: Option<String>,
}

impl TransferSpec {
    /// Takes the signatures away: nobody needs them any more.
    pub fn forget_signatures(&mut self) {
        if let Some(input) = &mut self.input {
            *input = unsigned(input).to_owned();
        }
        self.output = unsigned(&self.output).to_owned();
    }
}

/// The URL of a container without its signature, as it may be shown.
pub fn unsigned(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

/// How many lines or identities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransferCounts {
    /// Carried out.
    pub done: u64,
    /// Not carried out.
    pub failed: u64,
}

/// Where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct TransferState {
    /// The word for it; never `Scheduled`.
    pub status: JobStatus,
    /// Why it failed.
    pub failure: Option<String>,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it was over.
    pub ended: Option<Timestamp>,
    /// Which version of the input it read first: one that goes on after a restart must go on with the same.
    pub input_version: Option<String>,
    /// Known once it is over.
    pub counts: TransferCounts,
}

impl Default for TransferState {
    fn default() -> Self {
        Self {
            status: JobStatus::Queued,
            failure: None,
            started: None,
            ended: None,
            input_version: None,
            counts: TransferCounts::default(),
        }
    }
}

impl TransferState {
    /// Whether nothing will change any more.
    pub fn is_over(&self) -> bool {
        self.ended.is_some()
    }

    /// It runs, perhaps not for the first time.
    pub fn begin(&mut self, now: Timestamp) {
        self.status = JobStatus::Running;
        self.started.get_or_insert(now);
    }

    /// It is over. Says whether it was not before.
    pub fn end(&mut self, status: JobStatus, failure: Option<String>, now: Timestamp) -> bool {
        let ends = !self.is_over();
        if ends {
            (self.status, self.failure, self.ended) = (status, failure, Some(now));
        }
        ends
    }
}

/// A line that was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its number; the first is 1.
    pub line: u64,
    /// The device or configuration, as far as the line could be read.
    pub subject: String,
    /// The module, if it is one.
    pub module: String,
    /// The number of the error, such as 404001.
    pub code: u32,
    /// What was wrong.
    pub text: String,
}

/// What one commit of an import settled. It is written in that commit, so that after a crash nothing is done twice and
/// nothing is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransferNote {
    /// The settled lines, done or refused.
    pub lines: LineSet,
    /// Those that were refused.
    pub refused: Vec<Refusal>,
}

/// Numbers of lines, as ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LineSet(Vec<(u64, u64)>);

impl LineSet {
    /// From ranges from first to last, which may touch and overlap. `None` if one ends before it begins.
    pub fn from_ranges(mut ranges: Vec<(u64, u64)>) -> Option<Self> {
        ranges.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::new();
        for (first, last) in ranges {
            if last < first {
                return None;
            }
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Some(Self(merged))
    }

    /// These lines.
    pub fn of(lines: impl IntoIterator<Item = u64>) -> Self {
        let ranges = lines.into_iter().map(|line| (line, line)).collect();
        Self::from_ranges(ranges).unwrap_or_default()
    }

    /// First to last, in order, with gaps between.
    pub fn ranges(&self) -> &[(u64, u64)] {
        &self.0
    }

    /// The first line.
    pub fn first(&self) -> Option<u64> {
        self.0.first().map(|(first, _)| *first)
    }

    /// How many lines.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|(first, last)| last - first + 1).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the line is one of them.
    pub fn contains(&self, line: u64) -> bool {
        let after = self.0.partition_point(|(first, _)| *first <= line);
        after.checked_sub(1).is_some_and(|at| self.0[at].1 >= line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_kept_as_ranges() {
        for (lines, ranges) in [
            (vec![], vec![]),
            (vec![7], vec![(7, 7)]),
            (vec![3, 1, 2], vec![(1, 3)]),
            (vec![5, 1, 2, 9, 6, 2], vec![(1, 2), (5, 6), (9, 9)]),
        ] {
            let set = LineSet::of(lines.clone());
            assert_eq!(set.ranges(), ranges);
            for line in 0..12 {
                assert_eq!(set.contains(line), lines.contains(&line), "{line} in {lines:?}");
            }
        }
        let merged =
            LineSet::from_ranges(vec![(4, 9), (1, 3), (6, 7), (20, u64::MAX), (30, 31)]).expect("ranges");
        assert_eq!(merged.ranges(), [(1, 9), (20, u64::MAX)]);
        assert_eq!(LineSet::from_ranges(vec![(2, 1)]), None);
        assert_eq!(LineSet::of([1, 2, 3, 8]).len(), 4);
    }

    #[test]
    fn a_transfer_ends_once() {
        let at = Timestamp::from_seconds;
        let mut state = TransferState::default();
        state.begin(at(1));
        state.begin(at(2));
        assert_eq!((state.status, state.started), (JobStatus::Running, Some(at(1))));
        assert!(state.end(JobStatus::Cancelled, None, at(3)));
        assert!(!state.end(JobStatus::Completed, None, at(4)));
        assert_eq!((state.status, state.ended), (JobStatus::Cancelled, Some(at(3))));
    }

    #[test]
    fn signatures_are_forgotten() {
        for (url, bare) in [
            ("https://a.b/c?sig=x", "https://a.b/c"),
            ("https://a.b/c#sig=x", "https://a.b/c"),
            ("file:///srv/bulk", "file:///srv/bulk"),
            ("", ""),
        ] {
            assert_eq!(unsigned(url), bare);
        }
    }
}
