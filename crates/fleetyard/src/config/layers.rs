//! Gathers the texts of all settings from defaults, file, environment and flags, and remembers where each came from.
//! It must never guess: a key or variable that is not in the table is an error that names it and the one likely meant.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::table::{OTHER_VARIABLES, PREFIX, SUITE_PREFIX, Setting, nearest, settings};

/// Largest settings file.
const SETTINGS_FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody gave one.
    Default,
    /// The settings file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File(path) => write!(f, "file {}", path.display()),
            Origin::Environment(name) => write!(f, "environment {name}"),
            Origin::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// A setting's text and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// As given.
    pub text: String,
    /// By whom.
    pub origin: Origin,
}

/// What is looked at, so that tests need no process of their own.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The settings file, if there is one.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: Vec<(String, String)>,
    /// Flags that were given: key of the table and value.
    pub flags: Vec<(&'static str, String)>,
}

impl Sources {
    /// The process's own environment, and the file that it or `file` names.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(&'static str, String)>) -> Sources {
        let environment: Vec<_> = std::env::vars_os()
            .filter_map(|(name, value)| {
                Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
            })
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        let named = |(name, value): &(String, String)| {
            (name == "FLEETYARD_CONFIG" && !value.is_empty()).then(|| PathBuf::from(value))
        };
        let file = file.or_else(|| environment.iter().find_map(named));
        Sources { file, environment, flags }
    }
}

/// The texts of all settings of the table.
pub type Values = BTreeMap<String, Value>;

/// Puts the layers upon one another.
pub fn gather(sources: &Sources) -> Result<Values> {
    let table = settings();
    let mut values: Values = table
        .iter()
        .map(|setting| {
            (setting.key.clone(), Value { text: setting.default.clone(), origin: Origin::Default })
        })
        .collect();
    if let Some(path) = &sources.file {
        let given = read_file(path, &table)?;
        values.extend(
            given.into_iter().map(|(key, text)| (key, Value { text, origin: Origin::File(path.clone()) })),
        );
    }
    for (name, text) in &sources.environment {
        if let Some(setting) = setting_of_variable(name, &table)? {
            let value = Value { text: text.clone(), origin: Origin::Environment(name.clone()) };
            values.insert(setting.key.clone(), value);
        }
    }
    for (key, text) in &sources.flags {
        let setting = table.iter().find(|setting| setting.key == *key).expect("a flag sets a known setting");
        let origin = Origin::Flag(setting.flag.expect("a setting that is set by a flag has one"));
        values.insert(setting.key.clone(), Value { text: text.clone(), origin });
    }
    Ok(values)
}

fn setting_of_variable<'a>(name: &str, table: &'a [Setting]) -> Result<Option<&'a Setting>> {
    if let Some(setting) = table.iter().find(|setting| setting.variable == name) {
        return Ok(Some(setting));
    }
    if OTHER_VARIABLES.contains(&name) || name.starts_with(SUITE_PREFIX) {
        return Ok(None);
    }
    let known = table.iter().map(|setting| setting.variable.as_str()).chain(OTHER_VARIABLES);
    bail!("unknown environment variable {name}{}", hint(nearest(name, known)))
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(
        || "; 'fleetyard config show' lists what can be set".to_string(),
        |name| format!("; did you mean {name}?"),
    )
}

fn read_file(path: &Path, table: &[Setting]) -> Result<Vec<(String, String)>> {
    let context = || format!("cannot read the settings file {}", path.display());
    let metadata = std::fs::metadata(path).with_context(context)?;
    if metadata.len() > SETTINGS_FILE_BYTES_MAX {
        bail!("{} is larger than {SETTINGS_FILE_BYTES_MAX} bytes: not a settings file", path.display());
    }
    let text = std::fs::read_to_string(path).with_context(context)?;
    // The parser's own message shows the line, which may hold a key, so only the place and the reason are told.
    let parsed: toml::Table = toml::from_str(&text).map_err(|error| {
        let before = &text[..error.span().map_or(0, |span| span.start).min(text.len())];
        let line = before.matches('\n').count() + 1;
        anyhow::anyhow!("{} line {line} is not TOML: {}", path.display(), error.message())
    })?;
    let mut given = Vec::new();
    flatten("", parsed, &mut given)
        .and_then(|()| check_keys(&given, table))
        .with_context(|| format!("in the settings file {}", path.display()))?;
    let holds_keys =
        given.iter().any(|(key, _)| table.iter().any(|setting| setting.secret && setting.key == *key));
    let mode = metadata.permissions().mode() & 0o777;
    if holds_keys && mode & 0o077 != 0 {
        bail!(
            "{} holds keys and has mode {mode:o}, so others can use it: run 'chmod 600 {}'",
            path.display(),
            path.display()
        );
    }
    Ok(given)
}

fn check_keys(given: &[(String, String)], table: &[Setting]) -> Result<()> {
    for (key, _) in given {
        if !table.iter().any(|setting| setting.key == *key) {
            let known = table.iter().map(|setting| setting.key.as_str());
            bail!("unknown key '{key}'{}", hint(nearest(key, known)));
        }
    }
    Ok(())
}

fn flatten(prefix: &str, table: toml::Table, into: &mut Vec<(String, String)>) -> Result<()> {
    for (name, value) in table {
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value {
            toml::Value::Table(inner) => flatten(&key, inner, into)?,
            toml::Value::String(text) => into.push((key, text)),
            toml::Value::Integer(number) => into.push((key, number.to_string())),
            toml::Value::Array(items) if items.iter().all(|item| item.is_str()) => {
                let texts: Vec<_> = items.iter().filter_map(toml::Value::as_str).collect();
                into.push((key, texts.join(",")));
            }
            other => bail!(
                "'{key}' is a {}; expected is a text, a whole number or a list of texts",
                other.type_str()
            ),
        }
    }
    Ok(())
}
