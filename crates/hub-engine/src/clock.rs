//! The one door to wall-clock time and to randomness. Everything else takes them as arguments.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use hub_domain::identity::SymmetricKeys;
use hub_domain::sas::SymmetricKey;
use hub_domain::time::Timestamp;

/// Tells the present.
pub trait Clock: Send + Sync {
    /// The present. May jump when an operator sets the machine's clock.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the door")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_ticks(0).plus(since)
    }
}

/// A clock that tests set.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// Stands at `at`.
    pub fn new(at: Timestamp) -> Self {
        Self(AtomicI64::new(at.ticks()))
    }

    /// Jumps to `at`, forward or back.
    pub fn set(&self, at: Timestamp) {
        self.0.store(at.ticks(), Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_ticks(self.0.load(Ordering::Relaxed))
    }
}

/// Fills an array with random bytes from the operating system.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// Bytes of a random key.
const KEY_BYTES: usize = 32;

/// A new random key of 32 bytes.
pub fn random_key() -> SymmetricKey {
    key(random_bytes())
}

/// A random number and two new random keys, for one call of the operating system: each line of an import needs them.
pub fn random_number_and_keys() -> (u32, SymmetricKeys) {
    let random = random_bytes::<{ size_of::<u32>() + 2 * KEY_BYTES }>();
    let (number, keys) = random.split_first_chunk().expect("it begins with the number");
    let (&[primary, secondary], _) = keys.as_chunks().0.split_first_chunk().expect("the rest is two keys");
    (u32::from_le_bytes(*number), SymmetricKeys { primary: key(primary), secondary: key(secondary) })
}

fn key(bytes: [u8; KEY_BYTES]) -> SymmetricKey {
    SymmetricKey::from_bytes(bytes.to_vec()).expect("32 bytes are a key")
}
