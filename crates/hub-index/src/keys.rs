//! Eight bytes of each id of a chunk, in the order of ids, next to one another. To find an id, a search through the rows themselves
//! would touch memory all over the hub.
//! Must never separate ids that the order of ids does not: equal keys may be of different ids, which only the rows tell apart.

use std::ops::Range;

use hub_domain::id::TwinId;

const KEY_BYTES: usize = size_of::<u64>();

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// What the names of all devices begin with.
    prefix: Box<[u8]>,
    /// What comes behind it.
    keys: Vec<u64>,
}

impl Keys {
    /// For ids in their order, and one more.
    pub fn new(ids: &[&TwinId], more: &TwinId) -> Self {
        let more = name(more);
        let common =
            |id: &&TwinId| name(id).iter().zip(more).take_while(|(left, right)| left == right).count();
        let common = ids.iter().map(common).min().unwrap_or(more.len());
        let mut keys = Self { prefix: more[..common].into(), keys: Vec::with_capacity(ids.len() + 1) };
        for id in ids {
            keys.keys.push(keys.key(id));
        }
        keys
    }

    /// Whether there can be a key of the id.
    pub fn fits(&self, id: &TwinId) -> bool {
        !self.keys.is_empty() && name(id).starts_with(&self.prefix)
    }

    fn key(&self, id: &TwinId) -> u64 {
        let mut key = [0; KEY_BYTES];
        let rest = &name(id)[self.prefix.len()..];
        let bytes = rest.len().min(KEY_BYTES);
        key[..bytes].copy_from_slice(&rest[..bytes]);
        u64::from_be_bytes(key)
    }

    /// The places at which the id can be, or where it would be, if none.
    pub fn find(&self, id: &TwinId) -> Range<usize> {
        let name = name(id);
        let begin = &name[..name.len().min(self.prefix.len())];
        match begin.cmp(&self.prefix) {
            std::cmp::Ordering::Less => 0..0,
            std::cmp::Ordering::Greater => self.keys.len()..self.keys.len(),
            std::cmp::Ordering::Equal => {
                let key = self.key(id);
                let start = self.keys.partition_point(|known| *known < key);
                start..start + self.keys[start..].partition_point(|known| *known == key)
            }
        }
    }

    /// Takes in the key of an id that [fits](Keys::fits).
    pub fn insert(&mut self, place: usize, id: &TwinId) {
        self.keys.insert(place, self.key(id));
    }

    /// Forgets a key.
    pub fn remove(&mut self, place: usize) {
        self.keys.remove(place);
    }

    /// Bytes taken.
    pub fn bytes(&self) -> usize {
        self.prefix.len() + self.keys.capacity() * KEY_BYTES
    }
}

/// Names sort as their bytes do, and modules stand by their devices.
fn name(id: &TwinId) -> &[u8] {
    id.device.as_str().as_bytes()
}
