//! Batches that meet other writers: what could not be written whole is written in halves, since fewer rows meet fewer
//! writers. Decides nothing about content.

use crate::config::COMMIT_ATTEMPTS_MAX;

/// What is still to be written.
pub(super) struct Parts<T>(Vec<Part<T>>);

/// Some of it, to be written in one batch.
pub(super) struct Part<T> {
    pub(super) items: Vec<T>,
    attempts: usize,
}

impl<T> Part<T> {
    /// Whether it comes no more if it is refused.
    pub(super) fn is_last_try(&self) -> bool {
        self.attempts >= COMMIT_ATTEMPTS_MAX
    }
}

impl<T> Parts<T> {
    pub(super) fn new(items: Vec<T>) -> Self {
        Self(vec![Part { items, attempts: 0 }])
    }

    pub(super) fn next(&mut self) -> Option<Part<T>> {
        self.0.pop_if(|part| part.items.is_empty());
        self.0.pop()
    }

    /// Somebody else was faster with one of these.
    pub(super) fn refused(&mut self, mut part: Part<T>) {
        if part.is_last_try() {
            tracing::warn!(count = part.items.len(), "gave up on twins that others keep changing");
            return;
        }
        let attempts = part.attempts + 1;
        let rest = part.items.split_off(part.items.len().div_ceil(2));
        let halves = [Part { items: rest, attempts }, Part { items: part.items, attempts }];
        self.0.extend(halves.into_iter().filter(|part| !part.items.is_empty()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_parts_come_in_halves_and_in_order_until_the_last_try() {
        let mut parts = Parts::new(vec![1, 2, 3]);
        let whole = parts.next().expect("all of it");
        parts.refused(whole);
        let seen: Vec<_> = std::iter::from_fn(|| parts.next()).map(|part| part.items).collect();
        assert_eq!(seen, [vec![1, 2], vec![3]]);

        let mut parts = Parts::new(vec![1]);
        let mut tries = 0;
        while let Some(part) = parts.next() {
            tries += 1;
            parts.refused(part);
        }
        assert_eq!(tries, COMMIT_ATTEMPTS_MAX + 1);
        assert!(Parts::<u8>::new(Vec::new()).next().is_none());
    }
}
