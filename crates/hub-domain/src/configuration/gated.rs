//! Configurations with gates: which twins they are let into. A twin remembers with which content it let one in, so that a gate
//! that closes later takes nothing away: gates are asked before a configuration writes to a twin for the first time, and
//! before it writes new content. Until they open, what it wrote there before stays as it is.
//!
//! An edge deployment is let in by the device: its twin has the facts and the memory, and its modules follow at once. What a
//! deployment with gates says never changes, so it is let in or it is not; there is no former content to go on with.

use std::sync::Arc;

use serde_json::Value;

use super::apply::walk;
use super::{Configuration, ConfigurationError, ConfigurationSpec, ContentKind, LeafPath, Problem};
use crate::actor::Actor;
use crate::context::{Gates, GatesOverride, HubContext, Reason, Verdict};
use crate::time::Timestamp;
use crate::twin::{Twin, TwinDocument, WrittenBy};

/// How the gates of a configuration came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Gating {
    /// When it got gates. Twins that had its content before need not let it in.
    pub since: Timestamp,
    /// Who overrode them, if anybody did.
    pub overridden: Option<GatesOverride>,
}

/// Whether a configuration may write to a twin that it targets.
#[derive(Clone, Debug, PartialEq)]
pub enum Admission {
    /// It has no gates.
    Free,
    /// It was let in with the content that it has.
    LetIn,
    /// Its gates are open, or else these are overridden.
    Open(Vec<Reason>),
    /// It waits.
    Held(Verdict),
}

/// A leaf that a configuration wrote before, and as which revision.
pub(super) type Kept = (LeafPath, Arc<Value>, WrittenBy);

/// A configuration that targets a twin, with what it may do there.
#[derive(Clone, Debug)]
pub struct Contender<'c> {
    pub(super) configuration: &'c Configuration,
    /// It waits: this is all that it has there.
    pub(super) kept: Option<Vec<Kept>>,
    /// What the twin is to remember of it.
    pub(super) let_in: Option<u64>,
}

/// One that needs not be let in.
impl<'c> From<&'c Configuration> for Contender<'c> {
    fn from(configuration: &'c Configuration) -> Self {
        Self { configuration, kept: None, let_in: None }
    }
}

/// The gates of a configuration.
pub(super) fn parse(value: &Value) -> Result<Gates, ConfigurationError> {
    Gates::parse(value).map_err(|error| ConfigurationError::new(Problem::Field, error.to_string()))
}

/// Why an edge deployment that is there cannot be written so: devices remember of it that they let it in, and nothing else.
pub(super) fn refusal_of_deployment(
    old: &ConfigurationSpec,
    new: &ConfigurationSpec,
) -> Option<ConfigurationError> {
    let refusal = |problem, text: &str| Some(ConfigurationError::new(problem, text));
    match (&old.gates, &new.gates) {
        _ if old.content.kind() != ContentKind::Edge => None,
        (None, Some(_)) => refusal(
            Problem::Field,
            "gates are given to an edge deployment that is in force already; create another one, of a higher priority, \
             with them",
        ),
        (Some(_), _) if new.content != old.content => refusal(
            Problem::ImmutableContent,
            "the content of an edge deployment with gates cannot be changed; create another one, of a higher priority",
        ),
        _ => None,
    }
}

impl Configuration {
    /// Whether this twin is what lets it in, and remembers that. A module leaves that of deployments to its device.
    pub fn is_let_in_by(&self, twin: &TwinDocument<'_>) -> bool {
        self.spec.content.kind() != ContentKind::Edge || !twin.identity.id.is_module()
    }

    /// Its gates as of when, and whether they count.
    pub fn gating(&self) -> Option<&Gating> {
        self.gating.as_ref()
    }

    /// As it was written down, or as somebody has it now.
    #[must_use]
    pub fn gated(self, gating: Option<Gating>) -> Self {
        let gating = gating.filter(|_| self.spec.gates.is_some());
        Self { gating, ..self }
    }

    /// The same; if its gates say themselves that they do not count, then because `by` wrote so.
    #[must_use]
    pub fn signed(mut self, by: &Actor) -> Self {
        let reason = self.spec.gates.as_ref().and_then(Gates::override_reason).map(str::to_owned);
        let at = self.revision.updated;
        if let (Some(gating), Some(reason)) = (&mut self.gating, reason) {
            gating.overridden.get_or_insert(GatesOverride { by: by.clone(), reason, at });
        }
        self
    }

    /// Lets every twin go whatever its gates say, as long as gates and content stay what they are.
    pub fn override_gates(&self, by: GatesOverride) -> Result<Self, String> {
        let id = &self.spec.id;
        let Some(gating) = &self.gating else {
            return Err(format!("configuration '{id}' has no gates: there is nothing to override"));
        };
        if let Some(GatesOverride { by, at, reason }) = &gating.overridden {
            return Err(format!(
                "the gates of configuration '{id}' are overridden already, by {by} at {at}: {reason}"
            ));
        }
        let mut revision = self.revision;
        (revision.counter, revision.updated) = (revision.counter + 1, by.at);
        let gating = Gating { overridden: Some(by), ..gating.clone() };
        Ok(Self { gating: Some(gating), revision, ..self.clone() })
    }

    /// Whether this twin has yet to let it in.
    pub fn must_be_let_in(&self, twin: &TwinDocument<'_>) -> bool {
        let Some(gating) = self.gating.as_ref().filter(|_| self.is_let_in_by(twin)) else { return false };
        let (id, twin) = (&self.spec.id, twin.twin);
        let is_in = match twin.let_in.get(id) {
            Some(digest) => *digest == self.by.digest(),
            // It came before there were gates, with what it has still.
            None => twin.configurations.contains_key(id) && self.revision.content_updated < gating.since,
        };
        !is_in
    }

    /// Whether it may write to a twin that it targets; or of a deployment, to the modules of a device.
    pub fn admission(&self, twin: &TwinDocument<'_>, hub: &HubContext, now: Timestamp) -> Admission {
        let (Some(gates), Some(gating)) = (&self.spec.gates, &self.gating) else { return Admission::Free };
        if !self.must_be_let_in(twin) {
            return Admission::LetIn;
        }
        let verdict = gates.evaluate(twin, hub, now);
        match verdict.is_open() || gating.overridden.is_some() {
            true => Admission::Open(verdict.reasons),
            false => Admission::Held(verdict),
        }
    }

    /// What it may do in a twin to which it, or to whose device the deployment, is admitted so.
    pub fn contender(&self, twin: &TwinDocument<'_>, admission: &Admission) -> Contender<'_> {
        let id = &self.spec.id;
        let (kept, let_in) = match admission {
            Admission::Free => (None, None),
            Admission::LetIn if !self.is_let_in_by(twin) => (None, None),
            // The device comes first, and remembers that gates are open.
            _ if !self.is_let_in_by(twin) => (Some(Vec::new()), None),
            Admission::LetIn | Admission::Open(_) => (None, Some(self.by.digest())),
            Admission::Held(_) => {
                let remembered = twin.twin.let_in.get(id).copied().unwrap_or_default();
                (Some(written_by(self, twin.twin)), Some(remembered))
            }
        };
        Contender { configuration: self, kept, let_in }
    }
}

/// What a configuration wrote in a twin and nobody overwrote.
fn written_by(configuration: &Configuration, twin: &Twin) -> Vec<Kept> {
    let mut kept = Vec::new();
    let (values, metadata) = (&twin.desired.values, &twin.desired.metadata);
    walk(values, metadata, &mut Vec::new(), &mut |path, value, by| {
        if let Some(by) = by.filter(|by| *by.configuration() == configuration.spec.id) {
            kept.push((LeafPath::new(path), Arc::new(value.clone()), by.clone()));
        }
    });
    kept
}
