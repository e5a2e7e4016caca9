//! `fleetyard twin`: tags, desired and reported properties of one device or module.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::read_json;
use crate::Context;
use crate::error::{Error, Result};
use crate::events::{Events, Filter, change_text};
use crate::output::line;

/// Whose twin.
#[derive(Args, Debug)]
pub struct Whose {
    /// The device.
    id: String,
    /// A module of it.
    #[arg(long, value_name = "MODULE")]
    module: Option<String>,
}

impl Whose {
    fn path(&self) -> Vec<&str> {
        let mut path = vec!["twins", self.id.as_str()];
        path.extend(self.module.iter().flat_map(|module| ["modules", module.as_str()]));
        path
    }
}

/// What to write.
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
pub struct What {
    /// The whole body, `{"tags":…,"properties":{"desired":…}}`: JSON, @FILE, or - for standard input.
    #[arg(value_name = "JSON", conflicts_with_all = ["tags", "desired"])]
    body: Option<String>,
    /// Tags: JSON, @FILE, or - for standard input.
    #[arg(long, value_name = "JSON")]
    tags: Option<String>,
    /// Desired properties: JSON, @FILE, or - for standard input.
    #[arg(long, value_name = "JSON")]
    desired: Option<String>,
}

impl What {
    fn to_body(&self) -> Result<Value> {
        if let Some(body) = &self.body {
            return match read_json(body)? {
                object @ Value::Object(_) if object.get("tags").or(object.get("properties")).is_some() => {
                    Ok(object)
                }
                _ => Err(Error::usage(
                    "expected {\"tags\":…} or {\"properties\":{\"desired\":…}} or both; or use --tags and --desired",
                )),
            };
        }
        sections(self.tags.as_deref(), self.desired.as_deref())
    }
}

/// The body of a patch with these sections.
pub fn sections(tags: Option<&str>, desired: Option<&str>) -> Result<Value> {
    let mut body = Map::new();
    if let Some(tags) = tags {
        body.insert("tags".into(), read_json(tags)?);
    }
    if let Some(desired) = desired {
        body.insert("properties".into(), json!({ "desired": read_json(desired)? }));
    }
    Ok(body.into())
}

/// What to do with a twin.
#[derive(Subcommand, Debug)]
pub enum Action {
    /// Show a twin.
    Show {
        #[command(flatten)]
        whose: Whose,
    },
    /// Merge into tags and desired properties; `null` removes a key.
    Patch {
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        what: What,
        /// Only if it is still at this etag.
        #[arg(long, value_name = "ETAG")]
        if_match: Option<String>,
    },
    /// Replace tags or desired properties, whichever are given, as a whole.
    Replace {
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        what: What,
        /// Only if it is still at this etag.
        #[arg(long, value_name = "ETAG")]
        if_match: Option<String>,
    },
    /// Show a twin and then each change as it happens: by whom, and the values before and after.
    Watch {
        #[command(flatten)]
        whose: Whose,
        /// Also the changes after this position, as --json shows it; 0.0 is before the oldest kept.
        #[arg(long, value_name = "POSITION")]
        after: Option<String>,
    },
}

/// Does it.
pub(crate) async fn run(context: &Context, action: Action) -> Result<()> {
    match action {
        Action::Show { whose } => print(context, &context.client.get(&whose.path()).await?),
        Action::Patch { whose, what, if_match } => {
            write(context, Method::PATCH, &whose, &what, if_match).await
        }
        Action::Replace { whose, what, if_match } => {
            write(context, Method::PUT, &whose, &what, if_match).await
        }
        Action::Watch { whose, after } => watch(context, &whose, after).await,
    }
}

async fn write(
    context: &Context,
    method: Method,
    whose: &Whose,
    what: &What,
    etag: Option<String>,
) -> Result<()> {
    let twin = context.client.write(method, &whose.path(), &what.to_body()?, etag.as_deref()).await?;
    print(context, &twin)
}

async fn watch(context: &Context, whose: &Whose, after: Option<String>) -> Result<()> {
    // The stream first: a change between the two is then seen twice rather than never.
    let filter = Filter { sources: vec!["twin".into()], device: Some(whose.id.clone()), after };
    let mut events = Events::open(&context.client, filter).await?;
    let twin = context.client.get(&whose.path()).await?;
    if context.output.json {
        line(&twin.to_string())?
    } else {
        print(context, &twin)?
    }
    loop {
        let received = events.next().await?;
        let event = &received.event;
        if event.module_id != whose.module {
            continue;
        }
        if context.output.json {
            line(&received.to_json()?.to_string())?;
        } else {
            let operation = event.operation.as_deref().unwrap_or_default();
            line(&format!("{}  {operation}{}", event.time, change_text(event)))?;
        }
    }
}

/// A twin without the bookkeeping of its properties, which only `--json` shows.
fn print(context: &Context, twin: &Value) -> Result<()> {
    if context.output.json {
        return line(&format!("{twin:#}"));
    }
    let section = |value: &Value| {
        let mut value = value.clone();
        let version = value.get("$version").cloned().unwrap_or_default();
        if let Some(section) = value.as_object_mut() {
            section.retain(|key, _| !key.starts_with('$'));
        }
        (value, version)
    };
    let (desired, desired_version) = section(&twin["properties"]["desired"]);
    let (reported, reported_version) = section(&twin["properties"]["reported"]);
    context.output.one(
        twin,
        &[
            ("device", "deviceId"),
            ("module", "moduleId"),
            ("status", "status"),
            ("connection", "connectionState"),
            ("last activity", "lastActivityTime"),
            ("etag", "etag"),
        ],
    )?;
    line(&format!("tags {:#}", twin.get("tags").cloned().unwrap_or_else(|| json!({}))))?;
    line(&format!("desired, version {desired_version} {desired:#}"))?;
    line(&format!("reported, version {reported_version} {reported:#}"))
}
