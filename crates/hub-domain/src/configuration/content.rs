//! What a configuration writes: leaves of desired properties, for device twins, module twins or an edge deployment.
//! Content is checked once, here; nothing may come out of it that breaks a rule of twins on every device.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use serde_json::Value;

use super::{ConfigurationError, Problem};
use crate::id::{DeviceId, ModuleId, TwinId};
use crate::json::{Object, check_rules, size_bytes, without_nulls};
use crate::limits::{CONFIGURATION_CONTENT_BYTES_MAX, DEPLOYMENT_MODULES_MAX, TWIN_SECTION_BYTES_MAX};
use crate::twin::{TwinPatch, TwinUpdate, WriteMode};

/// The module whose section lists an edge deployment's modules.
pub const EDGE_AGENT: &str = "$edgeAgent";
/// The other module that each edge device has.
const EDGE_HUB: &str = "$edgeHub";
/// The prefix of every key within a section.
const DESIRED: &str = "properties.desired";

/// The edge agent of a device.
pub fn edge_agent(device: DeviceId) -> TwinId {
    TwinId::module(device, ModuleId::parse(EDGE_AGENT).expect("the name of the edge agent is valid"))
}

/// A desired property's names from the section's root, with dots between them: `chiller.temperature`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeafPath(Arc<str>);

impl LeafPath {
    pub(super) fn new(names: &[&str]) -> Self {
        Self(names.join(".").into())
    }

    /// The names with dots between them; no name has one itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for LeafPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LeafPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The entry of `leaves` that cannot be in a document together with `path`: at it, above it or below it.
pub(super) fn overlapping<'m, T>(
    leaves: &'m BTreeMap<LeafPath, T>,
    path: &LeafPath,
) -> Option<(&'m LeafPath, &'m T)> {
    let path = path.as_str();
    let ends = path.match_indices('.').map(|(at, _)| at).chain([path.len()]);
    let below = format!("{path}.");
    ends.into_iter().find_map(|end| leaves.get_key_value(&path[..end])).or_else(|| {
        let mut from = leaves.range::<str, _>((Bound::Included(below.as_str()), Bound::Unbounded));
        from.next().filter(|(found, _)| found.as_str().starts_with(&below))
    })
}

/// The leaves that a configuration sets in one twin. A leaf is anything but an object with properties; `null` deletes
/// what is at its path, `{}` only wants an object there.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    json: Object,
    leaves: BTreeMap<LeafPath, Arc<Value>>,
    replaces: bool,
}

impl Section {
    fn parse(place: &str, value: &Value) -> Result<Self, ConfigurationError> {
        let json = object(place, value)?;
        let mut leaves = BTreeMap::new();
        for (key, value) in json {
            let names = names(place, key)?;
            if names.is_empty() && !value.is_object() {
                return Err(invalid(format!("{place}: the value of {DESIRED} must be an object")));
            }
            let nested = names.iter().rev().fold(value.clone(), |inner, name| {
                Value::Object(Object::from_iter([(name.to_string(), inner)]))
            });
            if let Value::Object(nested) = nested {
                check_rules(&nested).map_err(|error| invalid(format!("{place}: '{key}': {error}")))?;
                collect(&nested, &mut Vec::new(), &mut |path, value| {
                    if let Some((other, _)) = overlapping(&leaves, &path) {
                        let problem = format!("'{path}' and '{other}' overlap; set each property once");
                        return Err(invalid(format!("{place}: {problem}")));
                    }
                    leaves.insert(path, Arc::new(value.clone()));
                    Ok(())
                })?;
            }
        }
        let section = Self { json: json.clone(), leaves, replaces: json.contains_key(DESIRED) };
        let bytes = size_bytes(&without_nulls(&section.nested()));
        if bytes > TWIN_SECTION_BYTES_MAX {
            let problem = format!("the values have {bytes} bytes, a twin holds {TWIN_SECTION_BYTES_MAX}");
            return Err(invalid(format!("{place}: {problem}")));
        }
        Ok(section)
    }

    /// The leaves in the order of their paths.
    pub fn leaves(&self) -> impl ExactSizeIterator<Item = (&LeafPath, &Arc<Value>)> {
        self.leaves.iter()
    }

    /// Whether it says what `properties.desired` is as a whole: in an edge deployment that leaves nothing else there.
    pub fn replaces(&self) -> bool {
        self.replaces
    }

    /// The write that brings this section into a module's twin by hand, without a configuration (S 8.2,
    /// `applyConfigurationContent`).
    pub fn to_write(&self) -> (TwinUpdate, WriteMode) {
        let patch =
            TwinPatch::new(self.nested()).expect("the rules were checked when the content was parsed");
        let mode = if self.replaces { WriteMode::Replace } else { WriteMode::Patch };
        (TwinUpdate { tags: None, desired: Some(patch) }, mode)
    }

    fn nested(&self) -> Object {
        let mut root = Object::new();
        for (path, value) in &self.leaves {
            let (parents, name) = split(path.as_str());
            let mut object = &mut root;
            for parent in parents {
                let slot = object.entry(parent).or_insert_with(|| Value::Object(Object::new()));
                object = slot.as_object_mut().expect("leaves do not overlap");
            }
            object.insert(name.to_owned(), Value::clone(value));
        }
        root
    }
}

/// The names above a path's last, and the last.
pub(super) fn split(path: &str) -> (impl Iterator<Item = &str>, &str) {
    let (parents, name) = path.rsplit_once('.').map_or((None, path), |(parents, name)| (Some(parents), name));
    (parents.into_iter().flat_map(|parents| parents.split('.')), name)
}

fn collect<'a>(
    object: &'a Object,
    path: &mut Vec<&'a str>,
    leaf: &mut impl FnMut(LeafPath, &Value) -> Result<(), ConfigurationError>,
) -> Result<(), ConfigurationError> {
    for (name, value) in object {
        path.push(name);
        match value {
            Value::Object(inner) if !inner.is_empty() => collect(inner, path, leaf)?,
            value => leaf(LeafPath::new(path), value)?,
        }
        path.pop();
    }
    Ok(())
}

/// The names behind `properties.desired` in a key.
fn names<'k>(place: &str, key: &'k str) -> Result<Vec<&'k str>, ConfigurationError> {
    match key.strip_prefix(DESIRED) {
        Some("") => Ok(Vec::new()),
        Some(rest) if rest.starts_with('.') => Ok(rest[1..].split('.').collect()),
        _ => Err(invalid(format!("{place}: '{key}' is no path; expected {DESIRED} or {DESIRED}.NAME"))),
    }
}

fn object<'v>(place: &str, value: &'v Value) -> Result<&'v Object, ConfigurationError> {
    value.as_object().ok_or_else(|| invalid(format!("{place} must be an object")))
}

fn invalid(text: String) -> ConfigurationError {
    ConfigurationError::new(Problem::Content, text)
}

/// Whose twins a configuration writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentKind {
    /// Device twins: `deviceContent`.
    Device,
    /// Module twins: `moduleContent`.
    Module,
    /// The module twins of edge devices: `modulesContent`.
    Edge,
}

impl ContentKind {
    const ALL: [ContentKind; 3] = [Self::Device, Self::Module, Self::Edge];

    /// The member of `content`.
    pub fn field(self) -> &'static str {
        match self {
            Self::Device => "deviceContent",
            Self::Module => "moduleContent",
            Self::Edge => "modulesContent",
        }
    }
}

/// What a configuration writes, and whereto.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// To device twins.
    Device(Section),
    /// To module twins.
    Module(Section),
    /// An edge deployment: by module, to the module twins of edge devices.
    Edge(BTreeMap<ModuleId, Section>),
}

impl Content {
    /// From the JSON of S 8.1: an object with exactly one of `deviceContent`, `moduleContent`, `modulesContent`.
    ///
    /// # Errors
    /// Says what is wrong, where, and what would be right.
    pub fn parse(value: &Value) -> Result<Self, ConfigurationError> {
        let bytes = value.to_string().len();
        if bytes > CONFIGURATION_CONTENT_BYTES_MAX {
            let problem = format!("has {bytes} bytes, at most {CONFIGURATION_CONTENT_BYTES_MAX} are allowed");
            return Err(invalid(format!("content {problem}")));
        }
        let content = object("content", value)?;
        let there = |kind: &ContentKind| content.get(kind.field()).is_some_and(|value| !value.is_null());
        let filled =
            |kind: &ContentKind| content[kind.field()].as_object().is_none_or(|inner| !inner.is_empty());
        let mut kinds: Vec<ContentKind> = ContentKind::ALL.into_iter().filter(there).collect();
        if kinds.len() > 1 {
            // Some clients send the other members too, as empty objects.
            kinds.retain(filled);
        }
        let [kind] = kinds[..] else {
            let [device, module, modules] = ContentKind::ALL.map(ContentKind::field);
            return Err(invalid(format!("content needs exactly one of {device}, {module} and {modules}")));
        };
        let (place, value) = (format!("content.{}", kind.field()), &content[kind.field()]);
        match kind {
            ContentKind::Device => Section::parse(&place, value).map(Self::Device),
            ContentKind::Module => Section::parse(&place, value).map(Self::Module),
            ContentKind::Edge => deployment(&place, object(&place, value)?).map(Self::Edge),
        }
    }

    /// Which of the three it is.
    pub fn kind(&self) -> ContentKind {
        match self {
            Self::Device(_) => ContentKind::Device,
            Self::Module(_) => ContentKind::Module,
            Self::Edge(_) => ContentKind::Edge,
        }
    }

    /// As it was given.
    pub fn to_json(&self) -> Object {
        let inner = match self {
            Self::Device(section) | Self::Module(section) => section.json.clone(),
            Self::Edge(sections) => sections
                .iter()
                .map(|(module, section)| (module.to_string(), Value::Object(section.json.clone())))
                .collect(),
        };
        Object::from_iter([(self.kind().field().to_owned(), Value::Object(inner))])
    }

    /// What it sets in the twin of `module`, or of the device if that is `None`.
    pub(super) fn section(&self, module: Option<&ModuleId>) -> Option<&Section> {
        match (self, module) {
            (Self::Device(section), None) | (Self::Module(section), Some(_)) => Some(section),
            (Self::Edge(sections), Some(module)) => sections.get(module),
            _ => None,
        }
    }

    /// Whether it is an edge deployment that stands alone: one that says what the edge agent runs as a whole. Others are
    /// layers, which need such a one below them (S 8.1).
    pub(super) fn is_standard_deployment(&self) -> bool {
        let Self::Edge(sections) = self else { return false };
        sections.iter().any(|(module, section)| module.as_str() == EDGE_AGENT && section.replaces)
    }
}

fn deployment(place: &str, sections: &Object) -> Result<BTreeMap<ModuleId, Section>, ConfigurationError> {
    let modules = sections.keys().filter(|name| ![EDGE_AGENT, EDGE_HUB].contains(&name.as_str())).count();
    if modules > DEPLOYMENT_MODULES_MAX {
        let problem = format!("has {modules} modules, at most {DEPLOYMENT_MODULES_MAX} are allowed");
        return Err(invalid(format!("{place} {problem}")));
    }
    let parsed = sections.iter().map(|(name, section)| {
        let module = ModuleId::parse(name).map_err(|error| invalid(format!("{place}: {error}")))?;
        Ok((module, Section::parse(&format!("{place}.{name}"), section)?))
    });
    parsed.collect()
}
