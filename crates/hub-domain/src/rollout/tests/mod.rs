//! Rollouts: what is refused, who goes when, what comes next, and whole rollouts with chance, kills and turned clocks.

mod machine;
mod planning;
mod policy;
mod retrying;
mod sequential;
mod simulation;

use serde_json::Value;

use super::plan::{below, split_mix};
use super::*;
use crate::id::{DeviceId, TwinId};
use crate::time::Timestamp;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_700_000_000 + seconds)
}

fn rollout(document: Value) -> Rollout {
    Rollout::parse(&document).unwrap_or_else(|error| panic!("{document}: {error}"))
}

fn device(number: u64) -> TwinId {
    TwinId::device(DeviceId::parse(&format!("device-{number:07}")).expect("an id"))
}

/// Numbers that only look random.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        split_mix(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    fn below(&mut self, bound: u64) -> u64 {
        below(self.next(), bound)
    }

    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn happens(&mut self, chance: f64) -> bool {
        self.fraction() < chance
    }

    fn one_of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len() as u64) as usize].clone()
    }
}

/// How many rounds a simulation plays: `name` in the environment, or `usual`.
fn rounds(name: &str, usual: u64) -> u64 {
    std::env::var(name).map_or(usual, |text| text.parse().expect("a number of rounds"))
}
