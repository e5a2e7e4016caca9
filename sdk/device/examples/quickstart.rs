//! A device that reports, sends telemetry and can be rebooted.

use std::error::Error;

use fleetyard_device::{ConnectionString, DeviceClient, Message, client_config};
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let id = ConnectionString::parse(&std::env::var("DEVICE")?)?;
    let authority = std::fs::read(std::env::var("CA")?)?;
    let (client, mut inbox) = DeviceClient::start(id, client_config(&authority, None)?)?;
    client.connected().await?;

    let mut message = Message::json(&json!({ "temperature": 21.5 }));
    message.properties.push(("alert".into(), "no".into()));
    client.send(message).await?;
    client.report(&json!({ "firmware": "1.0.0" })).await?;
    println!("ready");

    loop {
        tokio::select! {
            biased;
            Some(request) = inbox.methods.recv() => {
                println!("method {} {}", request.name, request.payload);
                match request.name.as_str() {
                    "reboot" => request.respond(200, &json!({ "rebooting": true })).await?,
                    other => {
                        let unknown = json!({ "unknown": other });
                        request.respond(404, &unknown).await?;
                    }
                }
            }
            Some(patch) = inbox.desired.recv() => {
                println!("desired {}", serde_json::Value::from(patch.clone()));
                client.report(&json!({ "rate": patch.get("rate") })).await?;
            }
            else => return Ok(()),
        }
    }
}
