//! Many conditions, and which of them a change of one row can concern: found by the paths and values that they test, not
//! by evaluating each. Must never leave out a condition for which something changed; whoever asks evaluates what is found.
//!
//! A condition stands at each path that it reads, there under what it demands of the row (`tags.site = 'a'`), and within
//! that under the numbers that the path has to get past for anything to change (`temperature > 80`).
//!
//! A clone costs a few pointers: it shares all that neither side changes from then on. So one condition is put into a
//! copy of many at the price of the places in which that one stands.

use rpds::{RedBlackTreeMapSync as Map, RedBlackTreeSetSync as Set};

use super::ast::Condition;
use super::datum::{Datum, Row};
use super::guard::{Guard, Test, crossings, guards, primitive};
use super::path::{Path, Root};
use super::select::{SortNumber, SortValue};
use crate::json::Object;

/// Places in which one condition may stand; one that would need more is found whenever a path of it changes.
const PLACES_MAX: usize = 1024;

/// What of a row is shown where a condition matches, so that a change of it tells even if the condition stays true.
#[derive(Clone, Debug)]
pub enum Shown<'q> {
    /// The values at these paths; often none.
    Paths(Vec<&'q Path>),
    /// All of the row.
    Everything,
}

/// See the module. Conditions have numbers, which the caller gives.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Every condition, for rows that come or go.
    all: Slot,
    /// Those of which all of the row is shown.
    whole: Slot,
    readers: Map<Root, Readers>,
    /// Which of its guards each condition stands under.
    guards: Map<usize, Option<usize>>,
}

/// Who reads something below one root: of a section by its first key, without `$`.
#[derive(Clone, Debug, Default)]
struct Readers {
    whole: Map<Path, Slot>,
    keys: Map<String, Map<Path, Slot>>,
}

/// The conditions that a change in one place can concern, by what they demand of the row.
#[derive(Clone, Debug, Default)]
struct Slot {
    open: Bucket,
    exact: Map<Path, Map<SortValue, Bucket>>,
    ranges: Map<Path, Thresholds>,
}

/// Those that demand the same.
#[derive(Clone, Debug, Default)]
struct Bucket {
    always: Set<usize>,
    crossed: Thresholds,
}

/// Conditions by the number that a value has to reach for one of their tests.
#[derive(Clone, Debug, Default)]
struct Thresholds {
    at_least: Map<SortNumber, Set<usize>>,
    at_most: Map<SortNumber, Set<usize>>,
    /// The sum of the sizes of these sets.
    load: usize,
}

/// How a condition stands in a slot.
#[derive(Clone, Copy)]
struct Filing<'f> {
    number: usize,
    guard: Option<&'f Guard<'f>>,
    crossings: &'f [Test],
    /// To be put in, or else taken out.
    is_put: bool,
}

impl Standing {
    /// Puts in a condition under a number that is free.
    pub fn insert(&mut self, number: usize, condition: &Condition, shown: &Shown<'_>) {
        let guards = guards(condition);
        let load = |(_, guard): &(usize, &Guard<'_>)| (!guard.is_exact(), self.all.load(guard));
        let chosen = guards.iter().enumerate().min_by_key(load).map(|(index, _)| index);
        self.guards.insert_mut(number, chosen);
        self.file(number, condition, shown, chosen.map(|index| &guards[index]), true);
    }

    /// Takes out the condition that [`Standing::insert`] put in under this number.
    pub fn remove(&mut self, number: usize, condition: &Condition, shown: &Shown<'_>) {
        if let Some(chosen) = self.guards.get(&number).copied() {
            self.guards.remove_mut(&number);
            let guards = guards(condition);
            self.file(number, condition, shown, chosen.map(|index| &guards[index]), false);
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.guards.is_empty()
    }

    /// Whether any condition reads something below a root.
    pub fn reads(&self, root: Root) -> bool {
        self.readers.contains_key(&root)
    }

    /// Whether any condition reads anything but tags, desired and reported properties.
    pub fn reads_system(&self) -> bool {
        self.readers.keys().any(|root| is_system(*root))
    }

    /// Those that may match a row which is new, or did one which is gone.
    pub fn all_for(&self, row: &dyn Row) -> Vec<usize> {
        let mut look = Look { standing: self, before: None, after: Some(row), found: Vec::new() };
        self.all.collect(&mut look, None);
        look.finish()
    }

    /// Those that a change may concern, of what the look is then told. Without the row as it was, those that may match the
    /// row as it is because of what changed.
    pub fn look<'l>(&'l self, before: Option<&'l dyn Row>, after: &'l dyn Row) -> Look<'l> {
        let mut look = Look { standing: self, before, after: Some(after), found: Vec::new() };
        self.whole.collect(&mut look, None);
        look
    }

    fn file(
        &mut self,
        number: usize,
        condition: &Condition,
        shown: &Shown<'_>,
        guard: Option<&Guard<'_>>,
        is_put: bool,
    ) {
        let mut paths = condition.paths();
        if let Shown::Paths(shown) = shown {
            paths.extend(shown);
        }
        let tests = guard.map_or(1, |guard| guard.tests.len());
        let guard = guard.filter(|_| tests * (paths.len() + 2) <= PLACES_MAX);
        let plain = Filing { number, guard, crossings: &[], is_put };
        self.all.file(plain);
        let Shown::Paths(shown) = shown else { return self.whole.file(plain) };
        for path in paths {
            let crossings = if shown.contains(&path) { None } else { crossings(condition, path) };
            let crossings = crossings.unwrap_or_default();
            // Numbers that must be got past say more than a range that the row must be in.
            let guard = guard.filter(|guard| guard.is_exact() || crossings.is_empty());
            self.file_at(path, Filing { number, guard, crossings: &crossings, is_put });
        }
    }

    fn file_at(&mut self, path: &Path, filing: Filing<'_>) {
        let file =
            |slots: &mut Map<_, _>| at(slots, path, |slot: &mut Slot| slot.file(filing), Slot::is_empty);
        let place = |readers: &mut Readers| match key_of(path) {
            Some(key) => at(&mut readers.keys, &key.to_owned(), file, Map::is_empty),
            None => file(&mut readers.whole),
        };
        at(&mut self.readers, &path.root(), place, Readers::is_empty);
    }
}

fn is_system(root: Root) -> bool {
    !matches!(root, Root::Tags | Root::Desired | Root::Reported | Root::Properties)
}

/// The user's key below a section that the path goes through.
fn key_of(path: &Path) -> Option<&str> {
    let is_section = matches!(path.root(), Root::Tags | Root::Desired | Root::Reported);
    path.segments().first().map(String::as_str).filter(|key| is_section && !key.starts_with('$'))
}

/// Changes what stands under a key, and leaves nothing empty behind.
fn at<K: Ord + Clone, V: Clone + Default>(
    map: &mut Map<K, V>,
    key: &K,
    change: impl FnOnce(&mut V),
    is_empty: fn(&V) -> bool,
) {
    if !map.contains_key(key) {
        map.insert_mut(key.clone(), V::default());
    }
    if let Some(value) = map.get_mut(key) {
        change(value);
        if is_empty(value) {
            map.remove_mut(key);
        }
    }
}

fn enlist(set: &mut Set<usize>, number: usize, is_put: bool) {
    if is_put {
        set.insert_mut(number);
    } else {
        set.remove_mut(&number);
    }
}

impl Readers {
    fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.whole.is_empty()
    }
}

impl Slot {
    fn is_empty(&self) -> bool {
        self.open.is_empty() && self.exact.is_empty() && self.ranges.is_empty()
    }

    /// How many conditions stand where this guard would put one more.
    fn load(&self, guard: &Guard<'_>) -> usize {
        let loads = guard.tests.iter().map(|(path, test)| match test {
            Test::Is(value) => {
                let bucket = self.exact.get(*path).and_then(|values| values.get(value));
                bucket.map_or(0, |bucket| bucket.always.size())
            }
            Test::AtLeast(_) | Test::AtMost(_) => {
                self.ranges.get(*path).map_or(0, |thresholds| thresholds.load)
            }
        });
        loads.sum()
    }

    fn file(&mut self, filing: Filing<'_>) {
        let Some(guard) = filing.guard else { return self.open.file(filing) };
        for (path, test) in &guard.tests {
            match test {
                Test::Is(value) => {
                    let file = |values: &mut Map<_, _>| {
                        at(values, value, |bucket: &mut Bucket| bucket.file(filing), Bucket::is_empty);
                    };
                    at(&mut self.exact, *path, file, Map::is_empty);
                }
                test => {
                    let file = |thresholds: &mut Thresholds| thresholds.file(test, filing);
                    at(&mut self.ranges, *path, file, Thresholds::is_empty);
                }
            }
        }
    }

    /// Finds those whose demand the row meets, as it was or as it is; `moved` is the value that changed, if it is one.
    fn collect(&self, look: &mut Look<'_>, moved: Option<[Option<SortNumber>; 2]>) {
        self.open.collect(moved, &mut look.found);
        for (path, values) in &self.exact {
            let [before, after] = look.values(path).map(|datum| datum.and_then(primitive));
            for value in before.iter().chain(after.iter().filter(|after| before.as_ref() != Some(after))) {
                if let Some(bucket) = values.get(value) {
                    bucket.collect(moved, &mut look.found);
                }
            }
        }
        for (path, thresholds) in &self.ranges {
            let numbers = look.values(path).map(|datum| datum.and_then(number));
            numbers.into_iter().flatten().for_each(|number| thresholds.passed(number, &mut look.found));
        }
    }
}

impl Bucket {
    fn is_empty(&self) -> bool {
        self.always.is_empty() && self.crossed.is_empty()
    }

    fn file(&mut self, filing: Filing<'_>) {
        match filing.crossings {
            [] => enlist(&mut self.always, filing.number, filing.is_put),
            tests => tests.iter().for_each(|test| self.crossed.file(test, filing)),
        }
    }

    fn collect(&self, moved: Option<[Option<SortNumber>; 2]>, found: &mut Vec<usize>) {
        found.extend(self.always.iter());
        if let Some([before, after]) = moved {
            self.crossed.between(before, after, found);
        }
    }
}

impl Thresholds {
    fn is_empty(&self) -> bool {
        self.at_least.is_empty() && self.at_most.is_empty()
    }

    fn file(&mut self, test: &Test, Filing { number, is_put, .. }: Filing<'_>) {
        let (map, threshold) = match test {
            Test::AtLeast(threshold) => (&mut self.at_least, threshold),
            Test::AtMost(threshold) => (&mut self.at_most, threshold),
            Test::Is(_) => return,
        };
        let change = |numbers: &mut Set<_>| {
            let before = numbers.size();
            enlist(numbers, number, is_put);
            self.load = self.load + numbers.size() - before;
        };
        at(map, threshold, change, Set::is_empty);
    }

    /// Those whose test a number passes.
    fn passed(&self, number: SortNumber, found: &mut Vec<usize>) {
        let lists = self.at_least.range(..=number).chain(self.at_most.range(number..));
        found.extend(lists.flat_map(|(_, numbers)| numbers.iter()));
    }

    /// Those whose test one of two values passes and the other does not. What is no number passes none.
    fn between(&self, before: Option<SortNumber>, after: Option<SortNumber>, found: &mut Vec<usize>) {
        match (before, after) {
            (None, None) => {}
            (Some(only), None) | (None, Some(only)) => self.passed(only, found),
            (Some(before), Some(after)) => {
                let (low, high) = (before.min(after), before.max(after));
                let lists = self.at_least.range(low..=high).chain(self.at_most.range(low..=high));
                found.extend(lists.flat_map(|(_, numbers)| numbers.iter()));
            }
        }
    }
}

fn number(datum: Datum<'_>) -> Option<SortNumber> {
    match datum.unpacked() {
        Datum::Number(number) => Some(SortNumber::new(number)),
        _ => None,
    }
}

/// A search for the conditions that one change can concern: it is told what may have changed, and finds out itself
/// whether it did.
pub struct Look<'l> {
    standing: &'l Standing,
    before: Option<&'l dyn Row>,
    after: Option<&'l dyn Row>,
    found: Vec<usize>,
}

impl<'l> Look<'l> {
    /// Something below this root.
    #[must_use]
    pub fn root(mut self, root: Root) -> Self {
        if let Some(readers) = self.standing.readers.get(&root) {
            self.slots(&readers.whole);
        }
        self
    }

    /// Anything but tags, desired and reported properties.
    #[must_use]
    pub fn system(mut self) -> Self {
        for (_, readers) in self.standing.readers.iter().filter(|(root, _)| is_system(**root)) {
            self.slots(&readers.whole);
        }
        self
    }

    /// What is below these keys of a section.
    #[must_use]
    pub fn keys<'k>(mut self, section: Root, keys: impl Iterator<Item = &'k String>) -> Self {
        let Some(readers) = self.standing.readers.get(&section) else { return self.around(section) };
        for slots in keys.filter_map(|key| readers.keys.get(key)) {
            self.slots(slots);
        }
        self.around(section)
    }

    /// What differs between the values of a section before and after.
    #[must_use]
    pub fn section(mut self, section: Root, before: &Object, after: &Object) -> Self {
        let Some(readers) = self.standing.readers.get(&section) else { return self.around(section) };
        let known = readers.keys.keys();
        let differs = |key: &&String| before.get(*key) != after.get(*key);
        if readers.keys.size() <= before.len().max(after.len()) {
            known.filter(differs).for_each(|key| self.slots(&readers.keys[key]));
            return self.around(section);
        }
        let gone = before.keys().filter(|key| !after.contains_key(*key));
        self.keys(section, after.keys().filter(differs).chain(gone))
    }

    /// What is not below one key of a section.
    fn around(self, section: Root) -> Self {
        let look = self.root(section);
        if section == Root::Tags { look } else { look.root(Root::Properties) }
    }

    fn slots(&mut self, slots: &'l Map<Path, Slot>) {
        for (path, slot) in slots {
            let [before, after] = self.values(path).map(|datum| datum.map(Datum::unpacked));
            if self.before.is_none() || before != after {
                let moved = [before, after].map(|datum| datum.and_then(number));
                slot.collect(self, Some(moved));
            }
        }
    }

    /// The values at a path, before and after.
    fn values(&self, path: &Path) -> [Option<Datum<'l>>; 2] {
        [self.before, self.after].map(|row| row.map(|row| row.get(path)))
    }

    /// The numbers of the conditions that were found, each once, in order.
    pub fn finish(mut self) -> Vec<usize> {
        self.found.sort_unstable();
        self.found.dedup();
        self.found
    }
}
