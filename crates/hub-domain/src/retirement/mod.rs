//! The end of a device's life: retired, restorable for a while, then erased for good, with a tombstone on its id until that
//! is released. Pure transitions; who carries them out and what is archived where is decided elsewhere.

mod receipt;
mod row;

use std::fmt;
use std::time::Duration;

pub use receipt::{Receipt, ReceiptError, with_nonce};
pub use row::RetiredRow;

use crate::actor::Actor;
use crate::artifact::Digest;
use crate::id::DeviceId;
use crate::limits::{PREDECESSORS_MAX, RESTORABLE_MAX, RETIRE_REASON_CHARS_MAX};
use crate::method::MethodCall;
use crate::time::Timestamp;

/// What is asked for when a device is retired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetireRequest {
    /// Why, in the operator's words; at most [`RETIRE_REASON_CHARS_MAX`] characters.
    pub reason: Option<String>,
    /// How long it can be restored; the hub's setting if missing, at most [`RESTORABLE_MAX`].
    pub restorable_for: Option<Duration>,
    /// A method that the device carries out before, and proves with a [`Receipt`].
    pub erase: Option<MethodCall>,
    /// Whether it is retired without that proof, too.
    pub force: bool,
}

impl RetireRequest {
    /// Errs with what is out of range.
    pub fn check(&self) -> Result<(), RetirementError> {
        let chars = self.reason.as_deref().map_or(0, |reason| reason.chars().count());
        if chars > RETIRE_REASON_CHARS_MAX {
            let text =
                format!("reason has {chars} characters, at most {RETIRE_REASON_CHARS_MAX} are allowed");
            return Err(RetirementError::Invalid(text));
        }
        if let Some(given) = self.restorable_for.filter(|given| *given > RESTORABLE_MAX) {
            let (given, most) = (given.as_secs(), RESTORABLE_MAX.as_secs());
            let text = format!("restorableForSeconds is {given}, it must be within [0; {most}]");
            return Err(RetirementError::Invalid(text));
        }
        if let Some(call) = &self.erase {
            with_nonce(&call.payload, "").map_err(RetirementError::Invalid)?;
        }
        Ok(())
    }
}

/// Where a retired device stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetirementState {
    /// It can be restored.
    Restorable,
    /// Its time is over; what is archived is being removed.
    Erasing,
    /// Nothing of it is left but the record.
    Erased,
    /// Likewise, and its id may be used again.
    Released,
}

impl RetirementState {
    /// `restorable`, `erasing`, `erased` or `released`.
    pub fn as_str(self) -> &'static str {
        match self {
            RetirementState::Restorable => "restorable",
            RetirementState::Erasing => "erasing",
            RetirementState::Erased => "erased",
            RetirementState::Released => "released",
        }
    }
}

/// How much was removed for good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Identities: the device and its modules.
    pub identities: u64,
    /// Their twins.
    pub twins: u64,
    /// Events of theirs that were still in the log.
    pub events: u64,
    /// Records of theirs in jobs that are over.
    pub job_records: u64,
}

/// The removal of everything that was archived of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Erasure {
    /// When it began; from then on there is no way back.
    pub begun: Timestamp,
    /// By whom; the hub, if the time was over.
    pub by: Actor,
    /// What was removed so far.
    pub removed: Removed,
    /// When it ended, and the SHA-256 of the archived documents.
    pub ended: Option<(Timestamp, Digest)>,
}

/// The record of a retired device. It outlives everything else of the device and is the tombstone on its id.
#[derive(Clone, Debug, PartialEq)]
pub struct Retirement {
    /// Whose.
    pub device: DeviceId,
    /// The generation of its identity.
    pub generation: String,
    /// When it was retired.
    pub at: Timestamp,
    /// By whom.
    pub by: Actor,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// Until when it can be restored.
    pub restorable_until: Timestamp,
    /// The device that took over.
    pub replaced_by: Option<DeviceId>,
    /// The device's proof that it erased itself.
    pub receipt: Option<Receipt>,
    /// Why there is no proof although one was asked for.
    pub unproven: Option<String>,
    /// When the device last sent something.
    pub last_activity: Timestamp,
    /// How many modules went with it.
    pub modules: u64,
    /// The removal, once it began.
    pub erasure: Option<Erasure>,
    /// When the id was set free.
    pub released: Option<Timestamp>,
}

/// Why a retired device cannot be dealt with so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RetirementError {
    /// Something in the request breaks a rule.
    Invalid(String),
    /// It cannot be restored any more.
    Over {
        /// Whose.
        device: DeviceId,
        /// Since when.
        since: Timestamp,
    },
    /// Its id cannot be released yet.
    NotErased {
        /// Whose.
        device: DeviceId,
        /// How far it is.
        state: RetirementState,
        /// Until when it can be restored.
        restorable_until: Timestamp,
    },
}

impl fmt::Display for RetirementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RetirementError::Invalid(text) => f.write_str(text),
            RetirementError::Over { device, since } => {
                write!(f, "retired device '{device}' could be restored until {since}, now it cannot")
            }
            RetirementError::NotErased { device, state: RetirementState::Erasing, .. } => {
                write!(f, "retired device '{device}' is being erased; release its id when that is done")
            }
            RetirementError::NotErased { device, restorable_until, .. } => write!(
                f,
                "retired device '{device}' can be restored until {restorable_until}; erase it first to release its id"
            ),
        }
    }
}

impl std::error::Error for RetirementError {}

impl Retirement {
    /// Where it stands.
    pub fn state(&self) -> RetirementState {
        match &self.erasure {
            _ if self.released.is_some() => RetirementState::Released,
            None => RetirementState::Restorable,
            Some(Erasure { ended: None, .. }) => RetirementState::Erasing,
            Some(_) => RetirementState::Erased,
        }
    }

    /// Errs if there is no way back at this time.
    pub fn check_restorable(&self, now: Timestamp) -> Result<(), RetirementError> {
        if self.state() == RetirementState::Restorable && now < self.restorable_until {
            return Ok(());
        }
        Err(RetirementError::Over { device: self.device.clone(), since: self.restorable_until })
    }

    /// Ends the time in which it could be restored. `false`: that was done before.
    pub fn begin_erasure(&mut self, by: Actor, now: Timestamp) -> bool {
        if self.erasure.is_some() {
            return false;
        }
        self.restorable_until = self.restorable_until.min(now);
        self.erasure = Some(Erasure { begun: now, by, removed: Removed::default(), ended: None });
        true
    }

    /// What is being removed; `None` before that began and after it ended.
    pub fn erasing(&mut self) -> Option<&mut Erasure> {
        self.erasure.as_mut().filter(|erasure| erasure.ended.is_none())
    }

    /// Sets the id free. `false`: it was free before.
    pub fn release(&mut self, now: Timestamp) -> Result<bool, RetirementError> {
        match self.state() {
            RetirementState::Released => Ok(false),
            RetirementState::Erased => {
                self.released = Some(now);
                Ok(true)
            }
            state => Err(RetirementError::NotErased {
                device: self.device.clone(),
                state,
                restorable_until: self.restorable_until,
            }),
        }
    }
}

/// A device whose place another one took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// The former device; the same id if only the hardware is another.
    pub device: DeviceId,
    /// The generation of its identity.
    pub generation: String,
    /// When it was replaced.
    pub at: Timestamp,
    /// By whom.
    pub by: Actor,
}

/// The predecessors of a device with one more, the newest first, and no more than are kept.
pub fn with_predecessor(newest: Predecessor, older: &[Predecessor]) -> Vec<Predecessor> {
    std::iter::once(newest).chain(older.iter().cloned()).take(PREDECESSORS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn retirement() -> Retirement {
        Retirement {
            device: DeviceId::parse("d").expect("an id"),
            generation: "1".into(),
            at: at(10),
            by: Actor::Hub,
            reason: None,
            restorable_until: at(20),
            replaced_by: None,
            receipt: None,
            unproven: None,
            last_activity: Timestamp::NEVER,
            modules: 0,
            erasure: None,
            released: None,
        }
    }

    #[test]
    fn there_is_a_way_back_until_its_time_or_the_erasure() {
        let mut retired = retirement();
        assert_eq!(retired.check_restorable(at(19)), Ok(()));
        let over = |since| Err(RetirementError::Over { device: retirement().device, since: at(since) });
        assert_eq!(retired.check_restorable(at(20)), over(20));
        assert!(retired.begin_erasure(Actor::Hub, at(15)) && !retired.begin_erasure(Actor::Hub, at(16)));
        assert_eq!((retired.state(), retired.restorable_until), (RetirementState::Erasing, at(15)));
        assert_eq!(retired.check_restorable(at(11)), over(15));
        let mut late = retirement();
        assert!(late.begin_erasure(Actor::Hub, at(99)));
        assert_eq!(late.restorable_until, at(20), "it could not be restored any longer than was said");
    }

    #[test]
    fn an_id_is_released_once_nothing_is_left() {
        let mut retired = retirement();
        let text = retired.release(at(11)).expect_err("it can be restored").to_string();
        assert!(text.contains("1970-01-01T00:00:20") && text.contains("erase it first"), "{text}");
        retired.begin_erasure(Actor::Hub, at(12));
        assert!(retired.release(at(12)).is_err());
        let digest = Digest::from_bytes(&[0; 32]);
        retired.erasing().expect("it is under way").ended = Some((at(13), digest));
        assert!(retired.erasing().is_none());
        assert_eq!(retired.state(), RetirementState::Erased);
        assert_eq!((retired.release(at(14)), retired.release(at(15))), (Ok(true), Ok(false)));
        assert_eq!((retired.state(), retired.released), (RetirementState::Released, Some(at(14))));
    }

    #[test]
    fn requests_are_checked() {
        let call = |payload: &str| MethodCall::new("erase", Some(payload.into()), None, None).ok();
        let long = "x".repeat(RETIRE_REASON_CHARS_MAX + 1);
        let second = RESTORABLE_MAX + Duration::from_secs(1);
        let check =
            |request: RetireRequest, good: bool| assert_eq!(request.check().is_ok(), good, "{request:?}");
        check(RetireRequest::default(), true);
        check(RetireRequest { restorable_for: Some(Duration::ZERO), ..RetireRequest::default() }, true);
        check(RetireRequest { restorable_for: Some(RESTORABLE_MAX), ..RetireRequest::default() }, true);
        check(RetireRequest { restorable_for: Some(second), ..RetireRequest::default() }, false);
        check(RetireRequest { reason: Some(long[1..].into()), ..RetireRequest::default() }, true);
        check(RetireRequest { reason: Some(long), ..RetireRequest::default() }, false);
        check(RetireRequest { erase: call("{\"deep\":true}"), ..RetireRequest::default() }, true);
        check(RetireRequest { erase: call("[1]"), ..RetireRequest::default() }, false);
        check(RetireRequest { erase: call("{\"nonce\":1}"), ..RetireRequest::default() }, false);
    }

    #[test]
    fn predecessors_are_kept_newest_first_and_not_for_ever() {
        let of = |n: usize| Predecessor {
            device: DeviceId::parse("d").expect("an id"),
            generation: n.to_string(),
            at: at(0),
            by: Actor::Hub,
        };
        let mut all = Vec::new();
        for n in 0..PREDECESSORS_MAX + 2 {
            all = with_predecessor(of(n), &all);
        }
        assert_eq!((all.len(), all[0].clone()), (PREDECESSORS_MAX, of(PREDECESSORS_MAX + 1)));
    }
}
