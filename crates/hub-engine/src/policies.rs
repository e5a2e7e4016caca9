//! Shared access policies: names, rights and keys. Kept in a file of their own beside the store, so that a command
//! on the same machine can make a connection string while the hub runs. Keys given from outside are never written.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hub_domain::identity::SymmetricKeys;
use hub_domain::rights::Rights;
use hub_domain::sas::SymmetricKey;
pub use hub_store::policies::{Policy, PolicyFile, PolicyFileError};

use crate::Hub;
use crate::access::Principal;
use crate::clock::random_key;
use crate::error::{Error, Result};
use crate::registry::KeyChoice;

/// Keys of one policy that come from the settings; they take the place of the stored ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenKeys {
    /// The policy's name; it must be one of those that exist.
    pub name: String,
    /// The first key.
    pub primary: Option<SymmetricKey>,
    /// The second key.
    pub secondary: Option<SymmetricKey>,
}

/// The policies in force.
#[derive(Debug)]
pub struct Policies {
    in_force: RwLock<Arc<[Policy]>>,
    stored: Mutex<Stored>,
    fixed: BTreeSet<String>,
}

#[derive(Debug)]
struct Stored {
    file: Option<PolicyFile>,
    policies: Vec<Policy>,
}

/// The five policies of a new hub, with random keys.
fn built_in() -> Vec<Policy> {
    let policy = |(name, rights): (&str, Rights)| Policy {
        name: name.into(),
        rights,
        primary: random_key(),
        secondary: random_key(),
    };
    Rights::BUILT_IN_POLICIES.into_iter().map(policy).collect()
}

impl Policies {
    /// Reads the policies, or makes them and writes them at the first start. Errs if `given` names one that does not exist.
    pub fn open(file: PolicyFile, given: &[GivenKeys]) -> Result<Self> {
        let unavailable = |error: PolicyFileError| Error::Unavailable(error.to_string());
        let policies = match file.load().map_err(unavailable)? {
            Some(policies) => policies,
            None => {
                let new = built_in();
                file.save(&new).map_err(unavailable)?;
                new
            }
        };
        Self::with(Some(file), policies, given)
    }

    /// New policies that live only as long as the process; for tests.
    pub fn in_memory() -> Self {
        Self::with(None, built_in(), &[]).expect("no keys are given")
    }

    fn with(file: Option<PolicyFile>, policies: Vec<Policy>, given: &[GivenKeys]) -> Result<Self> {
        let mut in_force = policies.clone();
        for keys in given {
            let known = in_force.iter_mut().find(|policy| policy.name == keys.name);
            let policy = known.ok_or_else(|| Error::PolicyNotFound(keys.name.clone()))?;
            // With one key given, the other must not stay a stored one that nobody rotates.
            let only = keys.primary.clone().or_else(|| keys.secondary.clone());
            policy.primary =
                keys.primary.clone().or_else(|| only.clone()).unwrap_or_else(|| policy.primary.clone());
            policy.secondary = keys.secondary.clone().or(only).unwrap_or_else(|| policy.secondary.clone());
        }
        let fixed = given.iter().map(|keys| keys.name.clone()).collect();
        Ok(Self {
            in_force: RwLock::new(in_force.into()),
            stored: Mutex::new(Stored { file, policies }),
            fixed,
        })
    }

    /// All of them, as they are in force.
    pub fn list(&self) -> Arc<[Policy]> {
        self.in_force.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The one with this name.
    pub fn get(&self, name: &str) -> Option<Policy> {
        self.list().iter().find(|policy| policy.name == name).cloned()
    }

    /// One rotation at a time: written first, then in force. Blocks on the disk, briefly.
    fn rotate(&self, name: &str, choice: KeyChoice) -> Result<Policy> {
        if self.fixed.contains(name) {
            return Err(Error::Invalid(format!(
                "the keys of policy '{name}' come from the hub's settings; change them there and restart"
            )));
        }
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        let mut policies = stored.policies.clone();
        let rotated = renew(&mut policies, name, choice)?;
        if let Some(file) = &stored.file {
            file.save(&policies).map_err(|error| Error::Unavailable(error.to_string()))?;
        }
        stored.policies = policies;
        let replace = |policy: &Policy| if policy.name == name { rotated.clone() } else { policy.clone() };
        let in_force: Vec<_> = self.list().iter().map(replace).collect();
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = in_force.into();
        Ok(rotated)
    }
}

fn renew(policies: &mut [Policy], name: &str, choice: KeyChoice) -> Result<Policy> {
    let known = policies.iter_mut().find(|policy| policy.name == name);
    let policy = known.ok_or_else(|| Error::PolicyNotFound(name.into()))?;
    let keys = SymmetricKeys { primary: policy.primary.clone(), secondary: policy.secondary.clone() };
    SymmetricKeys { primary: policy.primary, secondary: policy.secondary } = choice.renew(&keys);
    Ok(policy.clone())
}

impl Hub {
    /// All policies with their keys; for the owner only.
    pub fn policy_list(&self, who: &Principal) -> Result<Vec<Policy>> {
        who.must(Rights::OWNER)?;
        Ok(self.policies.list().to_vec())
    }

    /// One policy with its keys; for the owner only.
    pub fn policy_get(&self, who: &Principal, name: &str) -> Result<Policy> {
        who.must(Rights::OWNER)?;
        self.policies.get(name).ok_or_else(|| Error::PolicyNotFound(name.into()))
    }

    /// Gives a policy new keys. Tokens signed with the old ones are refused from then on.
    pub async fn policy_rotate(&self, who: &Principal, name: &str, choice: KeyChoice) -> Result<Policy> {
        who.must(Rights::OWNER)?;
        let (policies, name) = (self.policies.clone(), name.to_string());
        let rotated = tokio::task::spawn_blocking(move || policies.rotate(&name, choice)).await;
        rotated.unwrap_or_else(|error| Err(Error::Internal(format!("the rotation ended early: {error}"))))
    }
}
