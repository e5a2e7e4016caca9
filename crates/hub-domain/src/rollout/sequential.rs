//! The statistical stop rule: the stopping half of Wald's sequential probability ratio test (A. Wald, Sequential Tests of
//! Statistical Hypotheses, Annals of Mathematical Statistics 16, 1945), left open at the other side.
//!
//! After `n` settled devices with `x` bad ones the evidence for the alternative rate `p1` and against the allowed rate
//! `p0` is `x·ln(p1/p0) + (n-x)·ln((1-p1)/(1-p0))`. The rule stops when it reaches `ln(1/(1-confidence))`. It depends on
//! the two counts alone, so nothing can be lost in a restart. What it promises, and what not, is in `docs/rollouts.md`.

use super::share::Share;

/// Devices up to which [`Sequential::decides_after`] looks.
const DECIDES_AFTER_DEVICES_MAX: u64 = 1_000_000;

/// Which failure rate is borne and which is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequential {
    /// At this rate, or below, the rollout is stopped with a chance of at most one minus the confidence, however large it
    /// is and however often it is looked at (Ville's inequality).
    pub allowed: Share,
    /// At this rate, or above, the rollout gets past [`Sequential::decides_after`] devices with a chance of at most one
    /// minus the confidence. Above the allowed rate.
    pub alternative: Share,
    /// From one half, below one.
    pub confidence: Share,
}

impl Sequential {
    /// If the document names none.
    pub const CONFIDENCE_DEFAULT: Share = match Share::from_millionths(950_000) {
        Some(share) => share,
        None => Share::ALL,
    };

    /// The logarithm of the likelihood ratio.
    pub fn evidence(&self, good: u64, bad: u64) -> f64 {
        let (up, down) = self.weights();
        bad as f64 * up - good as f64 * down
    }

    /// The evidence at which it stops.
    pub fn limit(&self) -> f64 {
        -(1.0 - self.confidence.fraction()).ln()
    }

    /// Whether to stop.
    pub fn stops(&self, good: u64, bad: u64) -> bool {
        self.evidence(good, bad) >= self.limit()
    }

    /// Fewest bad ones of `settled` devices at which it stops.
    pub fn stops_at(&self, settled: u64) -> u64 {
        let (up, down) = self.weights();
        let bad = ((self.limit() + settled as f64 * down) / (up + down)).ceil();
        bad.max(1.0) as u64
    }

    /// After how many settled devices a rate of `alternative` or more was stopped with at least the confidence: exact,
    /// from the binomial distribution. `None` if that is more than a million, since rates that close cannot be told apart.
    pub fn decides_after(&self) -> Option<u64> {
        let miss = 1.0 - self.confidence.fraction();
        let passes = |devices: u64| {
            binomial_below(devices, self.alternative.fraction(), self.stops_at(devices)) <= miss
        };
        let mut high = 1;
        while !passes(high) {
            high *= 2;
            if high > DECIDES_AFTER_DEVICES_MAX {
                return None;
            }
        }
        let mut low = high / 2;
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if passes(middle) {
                high = middle;
            } else {
                low = middle;
            }
        }
        Some(high)
    }

    /// What a bad device adds, and a good one takes.
    fn weights(&self) -> (f64, f64) {
        let (p0, p1) = (self.allowed.fraction(), self.alternative.fraction());
        ((p1 / p0).ln(), ((1.0 - p0) / (1.0 - p1)).ln())
    }
}

/// The chance of fewer than `limit` hits in `trials` of chance `p` each.
fn binomial_below(trials: u64, p: f64, limit: u64) -> f64 {
    let (hit, miss) = (p.ln(), (1.0 - p).ln());
    let mut log_term = trials as f64 * miss;
    let mut sum = 0.0;
    for hits in 0..limit.min(trials + 1) {
        sum += log_term.exp();
        log_term += ((trials - hits) as f64).ln() - ((hits + 1) as f64).ln() + hit - miss;
    }
    sum.min(1.0)
}
