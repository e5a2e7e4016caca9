//! What the index takes, for whoever watches over the hub.

use crate::paths::PathMemory;

/// Memory of the columns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// Bytes of all columns, and of what keeps rows in order; the twins themselves aside.
    pub bytes: u64,
    /// Bytes of the twins that are packed: all but those that were written last.
    pub twins_bytes: u64,
    /// Paths with columns.
    pub paths_indexed: u64,
    /// Paths that were given up, since they took too much.
    pub paths_not_indexed: u64,
    /// Twins with paths that are too many for the index.
    pub twins_marked: u64,
    /// The largest paths, those that were given up first.
    pub paths: Vec<PathMemory>,
}

impl Memory {
    /// Of all `paths`, of which at most `paths_max` are named.
    pub(crate) fn new(mut paths: Vec<PathMemory>, paths_max: usize) -> Self {
        let indexed = paths.iter().filter(|path| path.is_indexed).count();
        let not_indexed = paths.len() - indexed;
        paths.sort_by(|left, right| {
            let key = |path: &PathMemory| (path.is_indexed, std::cmp::Reverse(path.bytes));
            key(left).cmp(&key(right)).then_with(|| left.path.cmp(&right.path))
        });
        paths.truncate(paths_max);
        Self {
            paths_indexed: indexed as u64,
            paths_not_indexed: not_indexed as u64,
            paths,
            ..Self::default()
        }
    }
}
