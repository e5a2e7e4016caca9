//! Configurations that come into force wave by wave. Every twin has a number, drawn from the seed and its id, and a wave is a
//! range of numbers: so whether a twin has its turn follows from the configuration and the id alone. Nothing is kept for each
//! twin, and what comes to match later joins the wave that its number is in.
//!
//! What comes next is decided by `crate::rollout` from counts that are taken anew each time.

use serde_json::Value;

use super::{Configuration, ConfigurationError, ContentKind, Problem, edge_agent};
use crate::id::TwinId;
use crate::query::Condition;
use crate::rollout::{Phase, Rollout, RolloutState, RolloutStep, Success, WaveState, draw};
use crate::time::Timestamp;
use crate::twin::{ConfigurationStatus, TwinDocument};

/// How a configuration is to come into force.
#[derive(Clone, Debug, PartialEq)]
pub struct Staging {
    /// In which waves, and when to stop.
    pub policy: Rollout,
    /// A twin for which this is true has failed; the text is as it was given.
    pub failure: Option<(String, Condition)>,
}

/// How far it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Stages {
    /// Where each wave but the first begins, in numbers of twins.
    bounds: Vec<u64>,
    /// Of the waves and people.
    state: RolloutState,
}

/// How a twin that a configuration is for fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its wave is not open, or a gate is closed.
    Waiting,
    /// It has, or is about to get, the settings, and has not shown what comes of them.
    Underway,
    /// As wanted.
    Succeeded,
    /// It went wrong.
    Failed,
    /// It showed nothing in time.
    TimedOut,
    /// Another configuration has its way there: counts neither way.
    Overridden,
}

fn refusal(text: impl Into<String>) -> ConfigurationError {
    ConfigurationError::new(Problem::Field, text)
}

impl Staging {
    /// From a rollout's document, with `failure` as one member more.
    pub fn parse(value: &Value) -> Result<Self, ConfigurationError> {
        let mut document = value.clone();
        let failure = document.as_object_mut().and_then(|members| members.remove("failure"));
        let policy = Rollout::parse(&document).map_err(|error| refusal(error.to_string()))?;
        let understood = Rollout {
            waves: policy.waves.clone(),
            seed: policy.seed,
            advance: policy.advance,
            stop: policy.stop,
            on_stop: policy.on_stop,
            device_timeout: policy.device_timeout,
            success: policy.success.clone(),
            ..Rollout::default()
        };
        if policy != understood {
            return Err(refusal(
                "rollout of a configuration has a member that is for jobs only; expected waves, seed, advance, stop, onStop, \
                 success, failure or deviceTimeoutInSeconds",
            ));
        }
        Ok(Self { policy, failure: failure.map(|failure| failure_of(&failure)).transpose()? })
    }

    /// The same document.
    pub fn to_json(&self) -> Value {
        let mut document = self.policy.to_json();
        if let Some((text, _)) = &self.failure {
            document["failure"] = serde_json::json!({ "condition": text });
        }
        document
    }

    /// The number of a twin.
    pub fn number(&self, id: &TwinId) -> u64 {
        let module = id.module.as_ref().map_or("", |module| module.as_str());
        draw(self.policy.seed.unwrap_or_default(), &["wave", id.device.as_str(), module])
    }
}

/// What comes of the rollout of a configuration that is there when it is written again. What does not say any keeps it, since
/// clients of the service do not know it; seed and waves stay.
pub(super) fn updated(
    old: Option<&Staging>,
    new: Option<Staging>,
) -> Result<Option<Staging>, ConfigurationError> {
    let Some(mut new) = new else { return Ok(old.cloned()) };
    let Some(old) = old else {
        return Err(refusal(
            "rollout is given to a configuration that is in force already; create another one, of a higher priority, with it",
        ));
    };
    new.policy.seed = new.policy.seed.or(old.policy.seed);
    if (&new.policy.waves, new.policy.seed) != (&old.policy.waves, old.policy.seed) {
        return Err(refusal(
            "rollout.waves and rollout.seed cannot be changed once it has begun; other members can",
        ));
    }
    Ok(Some(new))
}

fn failure_of(value: &Value) -> Result<(String, Condition), ConfigurationError> {
    let only = value.as_object().filter(|members| members.len() == 1);
    let text = only.and_then(|members| members["condition"].as_str());
    let text = text.ok_or_else(|| refusal("rollout.failure must be {\"condition\": \"…\"}"))?;
    let condition = Condition::parse(text);
    let condition = condition.map_err(|error| refusal(format!("rollout.failure.condition: {error}")))?;
    Ok((text.to_owned(), condition))
}

impl Stages {
    /// Nothing has begun yet. `numbers` are those of the twins that there are.
    pub fn plan(
        staging: &Staging,
        asked_by: &str,
        mut numbers: Vec<u64>,
    ) -> Result<Self, ConfigurationError> {
        numbers.sort_unstable();
        let sizes = staging.policy.waves.sizes(numbers.len() as u64);
        let sizes = sizes.map_err(|error| refusal(error.to_string()))?;
        let Some((_, before_last)) = sizes.split_last() else {
            return Err(refusal(
                "rollout has no twin to begin with, since none matches targetCondition; create it when there are some, or \
                 leave rollout out",
            ));
        };
        let ends = before_last.iter().scan(0, |end, size| {
            *end += size;
            Some(*end)
        });
        let bounds = ends.filter_map(|end| numbers.get(usize::try_from(end).ok()?).copied()).collect();
        Ok(Self { bounds, state: RolloutState::new(asked_by, &sizes) })
    }

    /// As it was written down.
    pub fn of_parts(bounds: Vec<u64>, state: RolloutState) -> Option<Self> {
        let fits = bounds.len() + 1 == state.waves.len() && bounds.is_sorted();
        fits.then_some(Self { bounds, state })
    }

    /// Where each wave but the first begins.
    pub fn bounds(&self) -> &[u64] {
        &self.bounds
    }

    /// The waves, with counts of when they were taken last, and what people and rules decided.
    pub fn state(&self) -> &RolloutState {
        &self.state
    }

    /// For whoever decides something; counts are not his to change.
    pub fn state_mut(&mut self) -> &mut RolloutState {
        &mut self.state
    }

    fn wave_of(&self, number: u64) -> usize {
        self.bounds.partition_point(|bound| *bound <= number)
    }

    fn opened_waves(&self) -> usize {
        if self.is_rolled_back() { 0 } else { self.state.opened().len() }
    }

    fn is_rolled_back(&self) -> bool {
        matches!(self.state.phase, Phase::RollingBack { .. })
    }

    /// The same before any twin is counted.
    #[must_use]
    pub fn uncounted(&self) -> Self {
        let mut stages = self.clone();
        for wave in &mut stages.state.waves {
            let WaveState { opened, settled, forgiven, approved, .. } = wave.clone();
            *wave = WaveState { opened, settled, forgiven, approved, ..WaveState::default() };
        }
        stages
    }

    /// Counts a twin.
    pub fn count(&mut self, wave: usize, standing: Standing) {
        let Some(wave) = self.state.waves.get_mut(wave) else { return };
        *match standing {
            Standing::Waiting => &mut wave.pending,
            Standing::Underway => &mut wave.in_flight,
            Standing::Succeeded => &mut wave.ended.succeeded,
            Standing::Failed => &mut wave.ended.failed,
            Standing::TimedOut => &mut wave.ended.timed_out,
            Standing::Overridden => &mut wave.skipped,
        } += 1;
    }

    /// Goes on as far as the counts allow; `false` if that is nowhere. A wave that opens ends it: how its twins fare is not
    /// known before they are brought up to the configuration.
    pub fn advance(&mut self, policy: &Rollout, now: Timestamp) -> bool {
        let mut advanced = false;
        // Each wave is observed, asked about and opened at most once.
        for _ in 0..=3 * self.state.waves.len() + 3 {
            if self.state.is_ending() {
                // Nothing is in flight of which an answer would have to be awaited.
                for wave in &mut self.state.waves {
                    wave.skipped += wave.open();
                    (wave.pending, wave.in_flight, wave.retrying) = (0, 0, 0);
                }
            }
            let step = self.state.next_step(policy, now);
            let step = if step == RolloutStep::RollBack { RolloutStep::Finish } else { step };
            if !self.state.apply(&step, policy, now) {
                break;
            }
            advanced = true;
        }
        advanced
    }
}

impl Configuration {
    /// Whether the wave of this twin, if there are waves, is open.
    pub fn admits(&self, id: &TwinId) -> bool {
        self.wave_of(id).is_none_or(|(_, is_open)| is_open)
    }

    /// The wave of a twin, from 0, and whether it is open; `None` if there are no waves.
    pub fn wave_of(&self, id: &TwinId) -> Option<(usize, bool)> {
        let (staging, stages) = self.spec.rollout.as_ref().zip(self.stages.as_ref())?;
        let wave = stages.wave_of(staging.number(id));
        Some((wave, wave < stages.opened_waves()))
    }

    /// The wave of a twin that matches the condition, and how it fares there; `None` for others, and without waves.
    /// `shown_by` is the twin that shows how, see [`Configuration::shown_by`].
    pub fn standing(
        &self,
        twin: &TwinDocument<'_>,
        shown_by: &TwinDocument<'_>,
        now: Timestamp,
    ) -> Option<(usize, Standing)> {
        let (wave, is_open) = self.wave_of(&twin.identity.id)?;
        if !self.matches(twin) {
            return None;
        }
        let waits = !is_open || self.must_be_let_in(twin);
        Some((wave, if waits { Standing::Waiting } else { self.fares(shown_by, wave, now) }))
    }

    /// The twin that shows how a configuration fares where it targets `id`: that one, or of an edge deployment, the edge
    /// agent's of that device.
    pub fn shown_by(&self, id: &TwinId) -> TwinId {
        match self.spec.content.kind() {
            ContentKind::Device | ContentKind::Module => id.clone(),
            ContentKind::Edge => edge_agent(id.device.clone()),
        }
    }

    fn fares(&self, twin: &TwinDocument<'_>, wave: usize, now: Timestamp) -> Standing {
        let Some((staging, stages)) = self.spec.rollout.as_ref().zip(self.stages.as_ref()) else {
            return Standing::Succeeded;
        };
        match twin.twin.configurations.get(&self.spec.id) {
            Some(ConfigurationStatus::Applied) => {}
            Some(_) => return Standing::Overridden,
            None => return Standing::Underway,
        }
        if staging.failure.as_ref().is_some_and(|(_, failure)| failure.matches(twin)) {
            return Standing::Failed;
        }
        let Success::Reported { condition, .. } = &staging.policy.success else { return Standing::Succeeded };
        if condition.matches(twin) {
            return Standing::Succeeded;
        }
        let opened = stages.state.waves[wave].opened.unwrap_or(now);
        // Who came later has his time from then on.
        let since = opened.max(twin.twin.desired.metadata.stamp.at);
        if now < since.plus(staging.policy.device_timeout) { Standing::Underway } else { Standing::TimedOut }
    }
}
