//! Who wrote which version of a twin's desired section, as long as something of it is there.
//! One entry for a write, not for a property: a stamp already names its version. It must stay small on every twin.

use std::collections::HashSet;

use super::Metadata;
use crate::actor::Actor;
use crate::limits::TWIN_AUTHORS_MAX;

/// Writers by version, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Authors(Vec<(u64, Actor)>);

impl Authors {
    /// From what [`Authors::entries`] gave.
    pub fn new(mut entries: Vec<(u64, Actor)>) -> Self {
        entries.sort_by_key(|(version, _)| *version);
        Self(entries)
    }

    /// The versions with their writers, oldest first.
    pub fn entries(&self) -> &[(u64, Actor)] {
        &self.0
    }

    /// Who wrote `version`; `None` if nobody noted it, or it was too long ago.
    pub fn of(&self, version: u64) -> Option<&Actor> {
        let at = self.0.binary_search_by_key(&version, |(version, _)| *version).ok()?;
        self.0.get(at).map(|(_, actor)| actor)
    }

    /// Notes the writer of the newest version. At [`TWIN_AUTHORS_MAX`], forgets versions of which `metadata` has nothing
    /// left, and if that is none, the oldest.
    pub(super) fn note(&mut self, version: u64, actor: Actor, metadata: &Metadata) {
        if self.0.len() >= TWIN_AUTHORS_MAX {
            let mut versions = HashSet::new();
            collect(metadata, &mut versions);
            self.0.retain(|(version, _)| versions.contains(version));
            let excess = (self.0.len() + 1).saturating_sub(TWIN_AUTHORS_MAX);
            self.0.drain(..excess);
        }
        self.0.push((version, actor));
    }
}

fn collect(node: &Metadata, versions: &mut HashSet<u64>) {
    versions.extend(node.stamp.version.map(|version| version.get()));
    node.children.values().for_each(|child| collect(child, versions));
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Twin, TwinPatch, TwinUpdate, WriteMode};
    use super::*;
    use crate::id::JobId;
    use crate::time::Timestamp;
    use crate::version::Precondition;

    #[test]
    fn writers_are_known_while_something_of_theirs_is_there() {
        let now = Timestamp::from_seconds(1);
        let job = |n: u64| Actor::Job(JobId::parse(&format!("j{n}")).expect("an id"));
        let write = |twin: Twin, n: u64, patch| {
            let desired = Some(TwinPatch::from_value(patch).expect("a patch"));
            let update = TwinUpdate { tags: None, desired };
            let written = twin.update(&update, WriteMode::Patch, &Precondition::None, now);
            written.expect("it fits").0.written_by(job(n))
        };
        let many = TWIN_AUTHORS_MAX as u64 * 3;
        let mut twin = write(Twin::new(now), 0, json!({ "kept": 0 }));
        for n in 1..=many {
            twin = write(twin, n, json!({ "changing": n }));
        }
        assert!(twin.authors.entries().len() <= TWIN_AUTHORS_MAX);
        assert_eq!(twin.authors.of(2), Some(&job(0)));
        assert_eq!(twin.authors.of(twin.desired.version), Some(&job(many)));
        assert_eq!(twin.authors.of(twin.desired.version + 1), None);
        // More of them than may be kept, and something is left of each: the oldest are forgotten.
        for n in 0..many {
            let name = format!("p{n}");
            twin = write(twin, n, json!({ name: n }));
        }
        assert_eq!(twin.authors.entries().len(), TWIN_AUTHORS_MAX);
        assert_eq!(twin.authors.of(twin.desired.version), Some(&job(many - 1)));
        assert_eq!(twin.authors.of(2), None);
    }
}
