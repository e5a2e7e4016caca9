//! `fleetyard policy`: shared access policies. Keys are shown only to who asks for them.

use clap::{Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use crate::Context;
use crate::error::{Error, Result};

const FIELDS: [(&str, &str); 2] = [("policy", "name"), ("rights", "rights")];
const KEYS: [(&str, &str); 2] = [("primary key", "primaryKey"), ("secondary key", "secondaryKey")];

/// Which keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Key {
    /// The first.
    Primary,
    /// The second.
    Secondary,
    /// The first and the second.
    Both,
}

/// What to do with policies.
#[derive(Subcommand, Debug)]
pub enum Action {
    /// List policies with their rights.
    List,
    /// Show a policy.
    Show {
        /// Its name.
        name: String,
        /// Print its keys, too.
        #[arg(long)]
        show_keys: bool,
    },
    /// Give a policy new keys; tokens made with the old ones end at once.
    Rotate {
        /// Its name.
        name: String,
        /// Which key; tokens made with another stay good.
        #[arg(long, value_enum)]
        key: Key,
        /// Print the new keys, too.
        #[arg(long)]
        show_keys: bool,
    },
}

/// Does it.
pub(crate) async fn run(context: &Context, action: Action) -> Result<()> {
    let client = &context.client;
    match action {
        Action::List => match client.get(&["api", "policies"]).await? {
            Value::Array(policies) => context.output.many(&policies, &FIELDS),
            _ => Err(Error::failed("the hub's answer is not a list of policies")),
        },
        Action::Show { name, show_keys } => {
            print(context, client.get(&["api", "policies", &name]).await?, show_keys)
        }
        Action::Rotate { name, key, show_keys } => {
            let key = match key {
                Key::Primary => "primary",
                Key::Secondary => "secondary",
                Key::Both => "both",
            };
            let path = ["api", "policies", &name, "rotate"];
            let rotated = client.write(Method::POST, &path, &json!({ "key": key }), None).await?;
            print(context, rotated, show_keys)?;
            context
                .output
                .done(&format!("renewed; clients need it: fleetyard connection-string --policy {name}"));
            Ok(())
        }
    }
}

/// Keys are left out of the JSON, too, unless asked for: it ends in logs sooner than one thinks.
fn print(context: &Context, mut policy: Value, show_keys: bool) -> Result<()> {
    let mut fields = FIELDS.to_vec();
    if show_keys {
        fields.extend(KEYS);
    } else if let Some(policy) = policy.as_object_mut() {
        policy.retain(|name, _| KEYS.iter().all(|(_, key)| key != name));
    }
    context.output.one(&policy, &fields)
}
