//! Who or what makes the hub change something: the "by whom" of an event.
//! It must name the one who acted and nothing of how he proved who he is.

use std::fmt;
use std::sync::Arc;

use crate::id::{ConfigurationId, JobId, TwinId};

/// Who acts. Cheap to clone. Printed `policy:service`, `device:pump-17`, `device:pump-17/module`, `job:ring-1`,
/// `configuration:base` or `hub`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Actor {
    /// Somebody with a key of this shared access policy.
    Policy(Arc<str>),
    /// A device or module with its own credentials.
    Device(TwinId),
    /// A job.
    Job(JobId),
    /// A configuration that came, changed or went, or whose targets did.
    Configuration(ConfigurationId),
    /// The hub by itself, or for several configurations at once.
    #[default]
    Hub,
}

impl Actor {
    /// `policy`, `device`, `job`, `configuration` or `hub`.
    pub fn kind(&self) -> &'static str {
        match self {
            Actor::Policy(_) => "policy",
            Actor::Device(_) => "device",
            Actor::Job(_) => "job",
            Actor::Configuration(_) => "configuration",
            Actor::Hub => "hub",
        }
    }

    /// Which one of its kind; the hub has no name.
    pub fn name(&self) -> Option<String> {
        match self {
            Actor::Policy(name) => Some(name.to_string()),
            Actor::Device(id) => Some(id.to_string()),
            Actor::Job(id) => Some(id.to_string()),
            Actor::Configuration(id) => Some(id.to_string()),
            Actor::Hub => None,
        }
    }

    /// From the printed form.
    pub fn parse(text: &str) -> Option<Self> {
        let Some((kind, name)) = text.split_once(':') else {
            return (text == Actor::Hub.kind()).then_some(Actor::Hub);
        };
        match kind {
            "policy" if !name.is_empty() => Some(Actor::Policy(name.into())),
            "device" => {
                let (device, module) =
                    name.split_once('/').map_or((name, None), |(device, module)| (device, Some(module)));
                TwinId::parse(device, module).ok().map(Actor::Device)
            }
            "job" => JobId::parse(name).ok().map(Actor::Job),
            "configuration" => ConfigurationId::parse(name).ok().map(Actor::Configuration),
            _ => None,
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{}:{name}", self.kind()),
            None => f.write_str(self.kind()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_round_trip() {
        let twin = |module| TwinId::parse("a:b", module).expect("valid");
        for (actor, printed) in [
            (Actor::Policy("a:b c".into()), "policy:a:b c"),
            (Actor::Device(twin(None)), "device:a:b"),
            (Actor::Device(twin(Some("m"))), "device:a:b/m"),
            (Actor::Job(JobId::parse("j").expect("valid")), "job:j"),
            (Actor::Configuration(ConfigurationId::parse("c").expect("valid")), "configuration:c"),
            (Actor::Hub, "hub"),
        ] {
            assert_eq!(actor.to_string(), printed);
            assert_eq!(Actor::parse(printed), Some(actor));
        }
        for bad in
            ["", "hub:", "hub:x", "policy", "policy:", "device:", "device:a/", "device:a/b/c", "job:", "x:y"]
        {
            assert_eq!(Actor::parse(bad), None, "{bad}");
        }
    }
}
