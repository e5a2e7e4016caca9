//! `fleetyard device`: identities of devices. Keys are shown only to who asks for them.

use clap::{Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use super::{AuthenticationFlags, KEY_FIELDS, explain, export, import, query_all, quoted, retirement};
use crate::Context;
use crate::error::Result;

const FIELDS: [(&str, &str); 9] = [
    ("device", "deviceId"),
    ("status", "status"),
    ("reason", "statusReason"),
    ("connection", "connectionState"),
    ("last activity", "lastActivityTime"),
    ("edge device", "capabilities.iotEdge"),
    ("authentication", "authentication.type"),
    ("generation", "generationId"),
    ("etag", "etag"),
];
const COLUMNS: [(&str, &str); 5] = [
    ("device", "deviceId"),
    ("status", "status"),
    ("connection", "connectionState"),
    ("last activity", "lastActivityTime"),
    ("authentication", "authenticationType"),
];

/// Whether a device may use the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Status {
    /// It may.
    Enabled,
    /// It may not; its connection is ended.
    Disabled,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Status::Enabled => "enabled",
            Status::Disabled => "disabled",
        }
    }
}

/// What to do with devices.
#[derive(Subcommand, Debug)]
pub enum Action {
    /// Register a device.
    Create {
        /// Its id.
        id: String,
        /// Whether it may use the hub.
        #[arg(long, value_enum, default_value = "enabled")]
        status: Status,
        /// Why it has that status.
        #[arg(long, value_name = "TEXT")]
        status_reason: Option<String>,
        /// An edge device, which comes with the modules of its edge runtime.
        #[arg(long)]
        edge: bool,
        #[command(flatten)]
        authentication: AuthenticationFlags,
        /// Print its keys, too.
        #[arg(long)]
        show_keys: bool,
    },
    /// List devices in the order of their ids.
    List {
        /// At most so many.
        #[arg(long, default_value_t = 10_000, value_name = "N")]
        top: usize,
        /// Only those whose id begins so.
        #[arg(long, value_name = "TEXT")]
        prefix: Option<String>,
        /// Only those with this status.
        #[arg(long, value_enum)]
        status: Option<Status>,
        /// Only those that are connected now.
        #[arg(long)]
        connected: bool,
    },
    /// Show one device.
    Show {
        /// Its id.
        id: String,
        /// Print its keys, too.
        #[arg(long)]
        show_keys: bool,
    },
    /// Say why the desired properties are what they are, and why configurations apply or do not.
    Explain {
        /// The device.
        id: String,
        /// A module of it.
        #[arg(long, value_name = "MODULE")]
        module: Option<String>,
    },
    /// Change a device; what is not given stays.
    Update {
        /// Its id.
        id: String,
        /// Whether it may use the hub.
        #[arg(long, value_enum)]
        status: Option<Status>,
        /// Why it has that status.
        #[arg(long, value_name = "TEXT")]
        status_reason: Option<String>,
        /// Whether it is an edge device.
        #[arg(long, value_name = "BOOL")]
        edge: Option<bool>,
        #[command(flatten)]
        authentication: AuthenticationFlags,
        /// Only if it is still at this etag.
        #[arg(long, value_name = "ETAG")]
        if_match: Option<String>,
    },
    /// Delete devices with their modules and twins.
    Delete {
        /// Their ids.
        #[arg(required = true)]
        ids: Vec<String>,
        /// Only if it is still at this etag.
        #[arg(long, value_name = "ETAG")]
        if_match: Option<String>,
    },
    /// Retire devices with their modules: their keys fail at once, their twins are archived, their ids are kept.
    Retire(retirement::Retire),
    /// Bring retired devices back as they were.
    Restore {
        /// Their ids.
        #[arg(required = true)]
        ids: Vec<String>,
        /// With new keys, for them and their modules.
        #[arg(long)]
        new_keys: bool,
    },
    /// List, show and erase retired devices, and set their ids free.
    #[command(subcommand)]
    Retired(retirement::Retired),
    /// Put another device, or other hardware under the same id, in the place of a device.
    Replace(retirement::Replace),
    /// Write everything that is known about a device, a line of JSON each.
    Export {
        /// Its id; of a retired device, too.
        id: String,
        /// The file; standard output without it.
        #[arg(long, value_name = "FILE")]
        output: Option<std::path::PathBuf>,
        /// With its keys; needs the right to write the registry.
        #[arg(long)]
        keys: bool,
    },
    /// Create, update or delete many devices from a file: an id or a JSON object on each line, or a table.
    ImportFile(import::Arguments),
    /// Write all devices and modules with their twins to a file that imports as it is.
    ExportFile(export::Arguments),
}

/// Does it.
pub(crate) async fn run(context: &Context, action: Action) -> Result<()> {
    match action {
        Action::Create { id, status, status_reason, edge, authentication, show_keys } => {
            let mut body = json!({
                "deviceId": id, "status": status.as_str(), "statusReason": status_reason,
                "capabilities": { "iotEdge": edge },
            });
            if let Some(authentication) = authentication.to_body() {
                body["authentication"] = authentication;
            }
            let created = context.client.write(Method::PUT, &["devices", &id], &body, None).await?;
            print(context, &created, show_keys)?;
            context
                .output
                .done(&format!("created; its connection string: fleetyard connection-string --device {id}"));
            Ok(())
        }
        Action::List { top, prefix, status, connected } => {
            let text = list_query(prefix.as_deref(), status, connected);
            context.output.many(&query_all(context, &text, top).await?, &COLUMNS)
        }
        Action::Show { id, show_keys } => {
            print(context, &context.client.get(&["devices", &id]).await?, show_keys)
        }
        Action::Explain { id, module } => explain::run(context, &id, module.as_deref()).await,
        Action::Update { id, status, status_reason, edge, authentication, if_match } => {
            let mut body = context.client.get(&["devices", &id]).await?;
            let etag = if_match.unwrap_or_else(|| body["etag"].as_str().unwrap_or("*").to_string());
            if let Some(status) = status {
                body["status"] = status.as_str().into();
            }
            if let Some(reason) = status_reason {
                body["statusReason"] = reason.into();
            }
            if let Some(edge) = edge {
                body["capabilities"]["iotEdge"] = edge.into();
            }
            if let Some(authentication) = authentication.to_body() {
                body["authentication"] = authentication;
            }
            let updated = context.client.write(Method::PUT, &["devices", &id], &body, Some(&etag)).await?;
            print(context, &updated, false)
        }
        Action::Delete { ids, if_match } => {
            let etag = if_match.as_deref().unwrap_or("*");
            for id in &ids {
                context.client.delete(&["devices", id], Some(etag)).await?;
                context.output.done(&format!("deleted {id}"));
            }
            Ok(())
        }
        Action::Retire(arguments) => retirement::retire(context, arguments).await,
        Action::Restore { ids, new_keys } => retirement::restore(context, &ids, new_keys).await,
        Action::Retired(action) => retirement::run(context, action).await,
        Action::Replace(arguments) => retirement::replace(context, arguments).await,
        Action::Export { id, output, keys } => {
            retirement::export(context, &id, output.as_deref(), keys).await
        }
        Action::ImportFile(arguments) => import::run(context, arguments).await,
        Action::ExportFile(arguments) => export::run(context, arguments).await,
    }
}

fn list_query(prefix: Option<&str>, status: Option<Status>, connected: bool) -> String {
    let conditions = [
        prefix.map(|prefix| format!("STARTSWITH(deviceId, {})", quoted(prefix))),
        status.map(|status| format!("status = '{}'", status.as_str())),
        connected.then(|| "connectionState = 'Connected'".into()),
    ];
    let conditions: Vec<_> = conditions.into_iter().flatten().collect();
    let condition =
        if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    format!("SELECT * FROM devices{condition}")
}

fn print(context: &Context, device: &Value, show_keys: bool) -> Result<()> {
    let mut fields = FIELDS.to_vec();
    if show_keys {
        fields.extend(KEY_FIELDS);
    }
    context.output.one(device, &fields)
}
