//! The event stream of the hub as commands read it: server-sent events, taken up again where it broke.
//! It must never skip an event in silence: what is gone is said.

use hub_api::event::{END, Event, StreamEnd};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::client::Client;
use crate::error::{Error, Exit, Result};
use crate::output::note;
use crate::sse::{Lines, Pauses};

/// Which events are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// `telemetry`, `twin`, `lifecycle`, `connection`, `job`; empty is all.
    pub sources: Vec<String>,
    /// Of this device only.
    pub device: Option<String>,
    /// After this position; `None` is from now on.
    pub after: Option<String>,
}

impl Filter {
    fn request(&self, client: &Client) -> RequestBuilder {
        let mut request = client.request(Method::GET, &["api", "events"]);
        if !self.sources.is_empty() {
            request = request.query(&[("source", self.sources.join(","))]);
        }
        if let Some(device) = &self.device {
            request = request.query(&[("device", device)]);
        }
        if let Some(after) = &self.after {
            request = request.query(&[("after", after)]);
        }
        request
    }
}

/// One event with its position.
#[derive(Clone, Debug)]
pub struct Received {
    /// Where a reader may go on.
    pub position: String,
    /// What happened.
    pub event: Event,
}

impl Received {
    /// The event as the hub sent it, and its `position`: what `--json` prints.
    pub fn to_json(&self) -> Result<Value> {
        let mut value =
            serde_json::to_value(&self.event).map_err(|error| Error::failed(error.to_string()))?;
        value["position"] = self.position.as_str().into();
        Ok(value)
    }
}

/// What an event tells of a change, for people: by whom, and a line for each value before and after. Of a hub that does
/// not tell that, the body.
pub fn change_text(event: &Event) -> String {
    let mut text = String::new();
    if let Some(actor) = &event.actor {
        match &actor.name {
            Some(name) => text.push_str(&format!("  by {} {name}", actor.kind)),
            None => text.push_str(&format!("  by the {}", actor.kind)),
        }
    }
    let Some(changes) = &event.changes else {
        let body = event.body.as_ref().filter(|body| !body.is_null());
        body.iter().for_each(|body| text.push_str(&format!("  {body}")));
        return text;
    };
    if changes.is_empty() {
        text.push_str("  no value changed");
    }
    let shown = |value: &Value| if value.is_null() { "-".into() } else { value.to_string() };
    for change in changes {
        text.push_str(&format!(
            "\n    {}  {} -> {}",
            change.path,
            shown(&change.before),
            shown(&change.after)
        ));
        // Where one configuration did all, it is named above already.
        let named = event.actor.as_ref().is_some_and(|actor| actor.name == change.configuration);
        match &change.configuration {
            Some(configuration) if !named => text.push_str(&format!("  (configuration {configuration})")),
            _ => {}
        }
    }
    if event.more_changes {
        text.push_str("\n    and more");
    }
    text
}

/// A stream that is open, or will be again.
pub struct Events {
    client: Client,
    filter: Filter,
    open: Option<Lines>,
}

impl Events {
    /// Opens the stream; errs if the hub refuses.
    pub async fn open(client: &Client, filter: Filter) -> Result<Events> {
        let open = Some(Lines::open(client, filter.request(client)).await?);
        Ok(Events { client: client.clone(), filter, open })
    }

    /// The next event. Errs only if the hub refuses the reader.
    pub async fn next(&mut self) -> Result<Received> {
        let mut pauses = Pauses::default();
        loop {
            let lines = match &mut self.open {
                Some(lines) => lines,
                None => match Lines::open(&self.client, self.filter.request(&self.client)).await {
                    Ok(lines) => self.open.insert(lines),
                    Err(error) if error.exit == Exit::Offline => {
                        note(&format!("{error}; trying again in {} s", pauses.seconds()));
                        pauses.pause().await;
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            match lines.message().await {
                Ok(message) if message.name == END => self.ended(&message.data).await?,
                Ok(message) => {
                    let event = serde_json::from_str(&message.data).map_err(|error| {
                        Error::failed(format!("an event of the hub is not as expected: {error}"))
                    })?;
                    self.filter.after = Some(message.id.clone());
                    return Ok(Received { position: message.id, event });
                }
                Err(text) => {
                    note(&format!("the event stream broke ({text}); taking it up again"));
                    self.open = None;
                    pauses.pause().await;
                }
            }
        }
    }

    async fn ended(&mut self, data: &str) -> Result<()> {
        let end: StreamEnd = serde_json::from_str(data)
            .map_err(|error| Error::failed(format!("the end of the stream is not as expected: {error}")))?;
        match end.oldest {
            Some(oldest) => {
                note(&format!("events after {} are gone; going on at {oldest}", end.position));
                self.filter.after = Some(oldest);
            }
            None => {
                note(&format!("the hub ended the event stream: {}; taking it up again", end.reason));
                self.filter.after = Some(end.position);
            }
        }
        self.open = None;
        Pauses::default().pause().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_change_is_told_with_who_and_what() {
        let check = |told: Value, expected: &str| {
            let mut event = json!({"source": "twin", "time": "t", "deviceId": "d", "body": {"version": 2}});
            event.as_object_mut().expect("an object").extend(told.as_object().expect("an object").clone());
            let event: Event = serde_json::from_value(event).expect("an event");
            assert_eq!(change_text(&event), expected, "{told}");
        };
        check(json!({}), "  {\"version\":2}");
        let policy = json!({"kind": "policy", "name": "service"});
        check(json!({"actor": policy}), "  by policy service  {\"version\":2}");
        check(json!({"actor": policy, "changes": []}), "  by policy service  no value changed");
        let site = json!({"path": "tags.site", "before": "a", "after": "b"});
        let gone = json!({"path": "tags.ring", "before": 1, "after": null});
        check(
            json!({"actor": policy, "changes": [site, gone], "moreChanges": true}),
            "  by policy service\n    tags.site  \"a\" -> \"b\"\n    tags.ring  1 -> -\n    and more",
        );
        let rate =
            json!({"path": "properties.desired.rate", "before": null, "after": 5, "configuration": "c"});
        check(
            json!({"actor": {"kind": "configuration", "name": "c"}, "changes": [rate]}),
            "  by configuration c\n    properties.desired.rate  - -> 5",
        );
        check(
            json!({"actor": {"kind": "hub"}, "changes": [rate]}),
            "  by the hub\n    properties.desired.rate  - -> 5  (configuration c)",
        );
    }
}
