//! How many devices are in which wave. Sizes always add up to all targets; that no list can say less or more is checked
//! while parsing as far as it does not depend on how many targets there are, and here for the rest.

use super::share::{Factor, Share};
use super::{ROLLOUT_WAVES_MAX, RolloutError};

/// How a fleet is cut into waves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waves {
    /// One by one.
    List {
        /// In this order.
        sizes: Vec<Size>,
        /// Everything that is left is one more wave. If not, the sizes are shares of everything that add up to it.
        rest: bool,
    },
    /// A first one, and how they grow until there is nothing left.
    Rule {
        /// The first.
        canary: Size,
        /// The others.
        growth: Growth,
    },
}

/// How many devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Exactly this many, at least one.
    Devices(u64),
    /// This part of all targets, rounded up.
    Percent(Share),
}

/// How large the waves after the first are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// All the same.
    Constant(Size),
    /// Each the one before times this, rounded up; above one.
    Exponential(Factor),
}

impl Size {
    /// Of so many targets.
    pub fn of(self, targets: u64) -> u64 {
        match self {
            Size::Devices(devices) => devices,
            Size::Percent(share) => share.of(targets),
        }
    }
}

impl Waves {
    /// The sizes of all waves over so many targets: none is empty, and they add up. Errs if the waves ask for more
    /// devices than there are, or would be too many.
    pub fn sizes(&self, targets: u64) -> Result<Vec<u64>, RolloutError> {
        match self {
            Waves::List { sizes, rest } => list(sizes, *rest, targets),
            Waves::Rule { canary, growth } => rule(*canary, *growth, targets),
        }
    }
}

fn list(sizes: &[Size], rest: bool, targets: u64) -> Result<Vec<u64>, RolloutError> {
    let absolute = |size: &Size| if let Size::Devices(devices) = size { *devices } else { 0 };
    let share = |size: &Size| if let Size::Percent(share) = size { share.millionths() } else { 0 };
    let mut reserved: u64 = sizes.iter().map(absolute).sum();
    let shares: u64 = sizes.iter().map(share).sum();
    let whole = u128::from(Share::ALL.millionths());
    let asked = u128::from(reserved) * whole + u128::from(shares) * u128::from(targets);
    if targets > 0 && asked > u128::from(targets) * whole {
        let asked = asked.div_ceil(whole);
        return Err(RolloutError::new(
            "rollout.waves",
            format!("ask for {asked} devices, but there are {targets}; make them smaller, or use percent"),
        ));
    }
    let mut left = targets;
    let mut waves = Vec::with_capacity(sizes.len() + 1);
    for size in sizes {
        // What is rounded up never takes from a wave whose size is exact.
        reserved = reserved.saturating_sub(absolute(size));
        let take = size.of(targets).min(left.saturating_sub(reserved));
        left -= take;
        waves.push(take);
    }
    waves.push(if rest { left } else { 0 });
    waves.retain(|size| *size > 0);
    Ok(waves)
}

fn rule(canary: Size, growth: Growth, targets: u64) -> Result<Vec<u64>, RolloutError> {
    let mut waves = Vec::new();
    let (mut left, mut size) = (targets, canary.of(targets));
    while left > 0 {
        if waves.len() == ROLLOUT_WAVES_MAX {
            return Err(RolloutError::new(
                "rollout.waves",
                format!(
                    "are more than {ROLLOUT_WAVES_MAX} over {targets} devices; make the canary or the growth larger"
                ),
            ));
        }
        let take = size.min(left);
        waves.push(take);
        left -= take;
        size = match growth {
            Growth::Constant(size) => size.of(targets),
            Growth::Exponential(factor) => factor.times(size),
        };
    }
    Ok(waves)
}
