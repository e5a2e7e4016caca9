//! Parts of a whole and factors in fixed point, so that sums are exact and a document reads back as it was written.

use std::fmt;

const WHOLE: u32 = 1_000_000;
const FACTOR_ONE: u32 = 1000;

/// A part of a whole above nothing, up to all of it: millionths, hence percent with four decimals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Share(u32);

impl Share {
    /// All of it.
    pub const ALL: Share = Share(WHOLE);

    /// From 1 to 1,000,000 millionths.
    pub const fn from_millionths(millionths: u64) -> Option<Self> {
        let fits = 1 <= millionths && millionths <= WHOLE as u64;
        if fits { Some(Self(millionths as u32)) } else { None }
    }

    /// A number of which `whole` is everything; `None` if it is not a part, or has decimals beyond the millionths.
    pub(super) fn parse(number: f64, whole: f64) -> Option<Self> {
        fixed(number / whole, WHOLE).and_then(|millionths| Self::from_millionths(millionths.into()))
    }

    /// In millionths.
    pub fn millionths(self) -> u64 {
        self.0.into()
    }

    /// In percent.
    pub fn percent(self) -> f64 {
        f64::from(self.0) / 10_000.0
    }

    /// As a part of one.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(WHOLE)
    }

    /// This part of `total`, rounded up: of anything at least one.
    pub fn of(self, total: u64) -> u64 {
        let part = (u128::from(total) * u128::from(self.0)).div_ceil(WHOLE.into());
        u64::try_from(part).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.percent())
    }
}

/// A factor of at least one, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Factor(u32);

impl Factor {
    /// The largest.
    pub const MAX: u32 = 1000;

    /// From thousandths; `None` outside of 1 to [`Factor::MAX`].
    pub fn from_thousandths(thousandths: u32) -> Option<Self> {
        (FACTOR_ONE..=FACTOR_ONE * Self::MAX).contains(&thousandths).then_some(Self(thousandths))
    }

    pub(super) fn parse(number: f64) -> Option<Self> {
        fixed(number, FACTOR_ONE).and_then(Self::from_thousandths)
    }

    /// As a number.
    pub fn number(self) -> f64 {
        f64::from(self.0) / f64::from(FACTOR_ONE)
    }

    /// Whether it changes nothing.
    pub fn is_one(self) -> bool {
        self.0 == FACTOR_ONE
    }

    /// `count` times this, rounded up.
    pub fn times(self, count: u64) -> u64 {
        let product = (u128::from(count) * u128::from(self.0)).div_ceil(FACTOR_ONE.into());
        u64::try_from(product).unwrap_or(u64::MAX)
    }
}

/// `number` in parts of which `unit` are one; `None` if it is out of range or has more decimals.
fn fixed(number: f64, unit: u32) -> Option<u32> {
    let scaled = number * f64::from(unit);
    let rounded = scaled.round();
    let fits = (0.0..=f64::from(u32::MAX)).contains(&rounded) && (scaled - rounded).abs() < 1e-6;
    fits.then_some(rounded as u32)
}
