//! `fleetyard method call`: direct methods of connected devices and modules.

use std::time::Duration;

use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};

use super::read_json;
use crate::Context;
use crate::error::{Error, Result};
use crate::output::line;

/// How much longer than the method's own time limits the answer may be on its way.
const ANSWER_MARGIN: Duration = Duration::from_secs(15);
/// Statuses from here on mean that the device could not do it.
const STATUS_FAILED_MIN: i64 = 400;

/// What to do with methods.
#[derive(Subcommand, Debug)]
pub enum Action {
    /// Call a method and print the answer.
    Call {
        /// The device.
        id: String,
        /// The method.
        name: String,
        /// A module of the device.
        #[arg(long, value_name = "MODULE")]
        module: Option<String>,
        /// What is given to it: JSON, @FILE, or - for standard input.
        #[arg(long, value_name = "JSON")]
        payload: Option<String>,
        /// How long the device may take, in seconds, 5 to 300.
        #[arg(long, default_value_t = 30, value_name = "SECONDS")]
        timeout: u64,
        /// How long to wait for a device that is not connected, in seconds, 0 to 300.
        #[arg(long, default_value_t = 0, value_name = "SECONDS")]
        connect_timeout: u64,
    },
}

/// Does it.
pub(crate) async fn run(context: &Context, action: Action) -> Result<()> {
    let Action::Call { id, name, module, payload, timeout, connect_timeout } = action;
    let body = json!({
        "methodName": name,
        "payload": payload.as_deref().map(read_json).transpose()?,
        "responseTimeoutInSeconds": timeout,
        "connectTimeoutInSeconds": connect_timeout,
    });
    let mut path = vec!["twins", id.as_str()];
    path.extend(module.iter().flat_map(|module| ["modules", module.as_str()]));
    path.push("methods");
    let wait = Duration::from_secs(timeout.saturating_add(connect_timeout).min(600)) + ANSWER_MARGIN;
    let request = context.client.request(Method::POST, &path).json(&body).timeout(wait);
    let (answer, _) = context.client.json_with_headers(request).await?;
    if context.output.json {
        line(&answer.to_string())?;
    } else {
        let payload = answer.get("payload").filter(|payload| !payload.is_null());
        let payload = payload.map(|payload| format!("  {payload}")).unwrap_or_default();
        line(&format!("{}{payload}", answer["status"]))?;
    }
    match answer.get("status").and_then(Value::as_i64) {
        Some(status) if status >= STATUS_FAILED_MIN => {
            Err(Error::failed(format!("the device answered the method '{name}' with status {status}")))
        }
        _ => Ok(()),
    }
}
