//! `policies.json` of the data folder: the shared access policies with their rights and keys.
//! It must never write a key anywhere else, into errors and logs least of all, nor read a file that others can read too.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use hub_domain::rights::Rights;
use hub_domain::sas::SymmetricKey;
use serde::{Deserialize, Serialize};

use crate::disk;

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Longest name of a policy, in characters.
pub const POLICY_NAME_CHARS_MAX: usize = 64;
const FORMAT_KNOWN: u64 = 1;

/// A shared access policy: who signs with one of its keys has its rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How tokens name it (`skn`): letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// What it allows.
    pub rights: Rights,
    /// One key.
    pub primary: SymmetricKey,
    /// The other key, so that one can be changed while the other is in use.
    pub secondary: SymmetricKey,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileV1 {
    format: u64,
    policies: Vec<PolicyV1>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PolicyV1 {
    name: String,
    rights: Vec<String>,
    primary_key: String,
    secondary_key: String,
}

/// The file of the policies. Its calls block for a moment; it is read at start and written when a key is rotated.
#[derive(Clone, Debug)]
pub struct PolicyFile {
    path: PathBuf,
}

impl PolicyFile {
    /// The file at `path`, which need not be there yet.
    pub fn new(path: impl Into<PathBuf>) -> PolicyFile {
        PolicyFile { path: path.into() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads and checks every policy; `None` when there is no file.
    pub fn load(&self) -> Result<Option<Vec<Policy>>, PolicyFileError> {
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed("read", error)),
        };
        let metadata = file.metadata().map_err(|error| self.failed("read", error))?;
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(PolicyFileError::NotPrivate { path: self.path.clone(), mode });
        }
        let mut text = String::new();
        file.take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)
            .map_err(|error| self.failed("read", error))?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(self.malformed(format!("it is larger than {FILE_BYTES_MAX} bytes")));
        }
        self.parse(&text).map(Some)
    }

    /// Writes every policy, in place of what was there. Durable when it returns; after a crash the file is the old or the new one.
    pub fn save(&self, policies: &[Policy]) -> Result<(), PolicyFileError> {
        let policies = policies
            .iter()
            .map(|policy| PolicyV1 {
                name: policy.name.clone(),
                rights: policy.rights.names().into_iter().map(str::to_owned).collect(),
                primary_key: policy.primary.to_base64(),
                secondary_key: policy.secondary.to_base64(),
            })
            .collect();
        let file = FileV1 { format: FORMAT_KNOWN, policies };
        let mut text = serde_json::to_string_pretty(&file).expect("policies have text keys and go to memory");
        text.push('\n');
        disk::replace_file(&self.path, text.as_bytes()).map_err(|error| self.failed("write", error))
    }

    fn parse(&self, text: &str) -> Result<Vec<Policy>, PolicyFileError> {
        // The parser's own message may quote a key, so only the place is told.
        let file: FileV1 = serde_json::from_str(text).map_err(|error| {
            self.malformed(format!(
                "line {} column {} is not as expected: {{\"format\": {FORMAT_KNOWN}, \"policies\": [{{\"name\", \"rights\", \"primaryKey\", \"secondaryKey\"}}]}}",
                error.line(),
                error.column()
            ))
        })?;
        if file.format != FORMAT_KNOWN {
            return Err(
                self.malformed(format!("it has format {}, this release knows {FORMAT_KNOWN}", file.format))
            );
        }
        let mut names = BTreeSet::new();
        for policy in &file.policies {
            check_name(&policy.name).map_err(|problem| self.malformed(problem))?;
            if !names.insert(&policy.name) {
                return Err(self.malformed(format!("it has two policies with the name '{}'", policy.name)));
            }
        }
        let checked = file.policies.iter().map(|policy| {
            to_policy(policy)
                .map_err(|problem| self.malformed(format!("policy '{}': {problem}", policy.name)))
        });
        checked.collect()
    }

    fn malformed(&self, problem: String) -> PolicyFileError {
        PolicyFileError::Malformed { path: self.path.clone(), problem }
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> PolicyFileError {
        PolicyFileError::Failed { doing, path: self.path.clone(), source }
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if (1..=POLICY_NAME_CHARS_MAX).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    Err(format!(
        "'{name}' is no policy name: allowed are 1 to {POLICY_NAME_CHARS_MAX} letters, digits, '-', '_' and '.'"
    ))
}

fn to_policy(policy: &PolicyV1) -> Result<Policy, String> {
    let mut rights = Rights::NONE;
    for name in &policy.rights {
        rights = rights.with(
            Rights::named(name)
                .ok_or_else(|| format!("there is no right '{name}': there are {}", Rights::OWNER))?,
        );
    }
    let key =
        |field: &str, text: &str| SymmetricKey::parse(text).map_err(|error| format!("{field}: {error}"));
    Ok(Policy {
        name: policy.name.clone(),
        rights,
        primary: key("primaryKey", &policy.primary_key)?,
        secondary: key("secondaryKey", &policy.secondary_key)?,
    })
}

/// Why the policies could not be read or written.
#[derive(Debug)]
pub enum PolicyFileError {
    /// Others than the owner can read or write the file.
    NotPrivate { path: PathBuf, mode: u32 },
    /// What is in the file is not a set of policies.
    Malformed { path: PathBuf, problem: String },
    /// The file system refused.
    Failed { doing: &'static str, path: PathBuf, source: io::Error },
}

impl fmt::Display for PolicyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyFileError::NotPrivate { path, mode } => {
                let path = path.display();
                write!(
                    f,
                    "{path} holds keys and has mode {mode:o}, so others can use it: run 'chmod 600 {path}'"
                )
            }
            PolicyFileError::Malformed { path, problem } => {
                write!(f, "{} is not valid: {problem}", path.display())
            }
            PolicyFileError::Failed { doing, path, .. } => write!(f, "cannot {doing} {}", path.display()),
        }
    }
}

impl Error for PolicyFileError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            PolicyFileError::Failed { source, .. } => Some(source),
            _ => None,
        }
    }
}
