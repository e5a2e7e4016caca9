//! `fleetyard module`: identities of modules, the parts of a device that connect by themselves.

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::{AuthenticationFlags, KEY_FIELDS};
use crate::Context;
use crate::error::{Error, Result};

const FIELDS: [(&str, &str); 8] = [
    ("device", "deviceId"),
    ("module", "moduleId"),
    ("managed by", "managedBy"),
    ("connection", "connectionState"),
    ("last activity", "lastActivityTime"),
    ("authentication", "authentication.type"),
    ("generation", "generationId"),
    ("etag", "etag"),
];

/// What to do with modules.
#[derive(Subcommand, Debug)]
pub enum Action {
    /// Register a module.
    Create {
        /// Its device.
        device: String,
        /// Its id.
        module: String,
        /// Who looks after it.
        #[arg(long, value_name = "TEXT")]
        managed_by: Option<String>,
        #[command(flatten)]
        authentication: AuthenticationFlags,
        /// Print its keys, too.
        #[arg(long)]
        show_keys: bool,
    },
    /// List the modules of a device.
    List {
        /// The device.
        device: String,
    },
    /// Show one module.
    Show {
        /// Its device.
        device: String,
        /// Its id.
        module: String,
        /// Print its keys, too.
        #[arg(long)]
        show_keys: bool,
    },
    /// Change a module; what is not given stays.
    Update {
        /// Its device.
        device: String,
        /// Its id.
        module: String,
        /// Who looks after it.
        #[arg(long, value_name = "TEXT")]
        managed_by: Option<String>,
        #[command(flatten)]
        authentication: AuthenticationFlags,
        /// Only if it is still at this etag.
        #[arg(long, value_name = "ETAG")]
        if_match: Option<String>,
    },
    /// Delete a module with its twin.
    Delete {
        /// Its device.
        device: String,
        /// Its id.
        module: String,
        /// Only if it is still at this etag.
        #[arg(long, value_name = "ETAG")]
        if_match: Option<String>,
    },
}

/// Does it.
pub(crate) async fn run(context: &Context, action: Action) -> Result<()> {
    let client = &context.client;
    match action {
        Action::Create { device, module, managed_by, authentication, show_keys } => {
            let mut body = json!({ "deviceId": device, "moduleId": module, "managedBy": managed_by });
            if let Some(authentication) = authentication.to_body() {
                body["authentication"] = authentication;
            }
            let path = ["devices", &device, "modules", &module];
            print(context, &client.write(Method::PUT, &path, &body, None).await?, show_keys)
        }
        Action::List { device } => match client.get(&["devices", &device, "modules"]).await? {
            Value::Array(modules) => context.output.many(&modules, &FIELDS[..6]),
            _ => Err(Error::failed("the hub's answer is not a list of modules")),
        },
        Action::Show { device, module, show_keys } => {
            print(context, &client.get(&["devices", &device, "modules", &module]).await?, show_keys)
        }
        Action::Update { device, module, managed_by, authentication, if_match } => {
            let path = ["devices", &device, "modules", &module];
            let mut body = client.get(&path).await?;
            let etag = if_match.unwrap_or_else(|| body["etag"].as_str().unwrap_or("*").to_string());
            if let Some(managed_by) = managed_by {
                body["managedBy"] = managed_by.into();
            }
            if let Some(authentication) = authentication.to_body() {
                body["authentication"] = authentication;
            }
            print(context, &client.write(Method::PUT, &path, &body, Some(&etag)).await?, false)
        }
        Action::Delete { device, module, if_match } => {
            let etag = if_match.as_deref().unwrap_or("*");
            client.delete(&["devices", &device, "modules", &module], Some(etag)).await?;
            context.output.done(&format!("deleted {device}/{module}"));
            Ok(())
        }
    }
}

fn print(context: &Context, module: &Value, show_keys: bool) -> Result<()> {
    let mut fields = FIELDS.to_vec();
    if show_keys {
        fields.extend(KEY_FIELDS);
    }
    context.output.one(module, &fields)
}
