//! Who is in which wave: at random, but the same whenever it is asked again with the same seed and the same targets.
//!
//! Every target gets a number from its id and the seed ([`draw`]). Within its stratum targets are ordered by that number,
//! and the one at rank `r` of `n` gets the position `(r + u) / n` with a `u` in [0; 1) drawn for the stratum: systematic
//! sampling. All positions together are sorted and cut into waves. So sizes are exact, and every wave has of each stratum
//! its share, give or take one or two.

use std::borrow::Borrow;
use std::collections::BTreeMap;

use crate::id::TwinId;

/// 64 bits that look random and depend on nothing but the arguments: FNV-1a over the bytes of the parts, each ended by a
/// byte that UTF-8 has not, begun at the scrambled seed and finished by SplitMix64 (Steele, Lea, Flood 2014), which
/// spreads every bit over all.
pub fn draw(seed: u64, parts: &[&str]) -> u64 {
    const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
    const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    let mut hash = FNV_OFFSET ^ split_mix(seed);
    for part in parts {
        for byte in part.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
    }
    split_mix(hash)
}

/// One step of SplitMix64.
pub(super) fn split_mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What is drawn for one target and one purpose.
pub(super) fn draw_for(seed: u64, purpose: &str, id: &TwinId) -> u64 {
    draw(seed, &[purpose, id.device.as_str(), id.module.as_ref().map_or("", |module| module.as_str())])
}

/// A number below `bound` from 64 random bits; zero if the bound is.
pub(super) fn below(random: u64, bound: u64) -> u64 {
    u64::try_from((u128::from(random) * u128::from(bound)) >> 64).unwrap_or(0)
}

struct Place {
    position: u64,
    number: u64,
    target: u32,
    stratum: u32,
}

/// The wave, from 0, of every target, in the order of the targets. `sizes` are those of
/// [`Waves::sizes`](super::Waves::sizes) for as many targets; what is beyond them is in the last wave. Without strata, give
/// all targets the same. Targets are at most `u32::MAX`. Holds some 24 bytes for each target, not its id.
pub fn plan<I, S>(sizes: &[u64], seed: u64, targets: impl IntoIterator<Item = (I, S)>) -> Vec<u32>
where
    I: Borrow<TwinId>,
    S: AsRef<str>,
{
    let mut strata: BTreeMap<String, u32> = BTreeMap::new();
    let mut places: Vec<Place> = Vec::new();
    for (target, (id, stratum)) in (0..).zip(targets) {
        let next = u32::try_from(strata.len()).unwrap_or(u32::MAX);
        let stratum = match strata.get(stratum.as_ref()) {
            Some(known) => *known,
            None => *strata.entry(stratum.as_ref().to_owned()).or_insert(next),
        };
        places.push(Place { position: 0, number: draw_for(seed, "wave", id.borrow()), target, stratum });
    }
    let offsets: BTreeMap<u32, u64> =
        strata.iter().map(|(name, index)| (*index, draw(seed, &["stratum", name]))).collect();
    places.sort_unstable_by_key(|place| (place.stratum, place.number, place.target));
    for stratum in places.chunk_by_mut(|a, b| a.stratum == b.stratum) {
        let offset = offsets.get(&stratum[0].stratum).copied().unwrap_or(0);
        let count = stratum.len() as u128;
        for (rank, place) in stratum.iter_mut().enumerate() {
            let position = (((rank as u128) << 64) | u128::from(offset)) / count;
            place.position = u64::try_from(position).unwrap_or(u64::MAX);
        }
    }
    places.sort_unstable_by_key(|place| (place.position, place.number, place.target));
    let mut waves = vec![0; places.len()];
    let last = sizes.len().saturating_sub(1);
    let (mut wave, mut left) = (0, sizes.first().copied().unwrap_or(0));
    for place in &places {
        while left == 0 && wave < last {
            wave += 1;
            left = sizes[wave];
        }
        left = left.saturating_sub(1);
        waves[place.target as usize] = u32::try_from(wave).unwrap_or(u32::MAX);
    }
    waves
}
