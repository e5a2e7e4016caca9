//! `fleetyard device explain`: why the desired properties of a device or module are what they are, for people to read.
//! It tells what the hub says and works nothing out by itself.

use hub_api::explain::{ExplainedConfiguration, ExplainedProperty, Term, TwinExplanation};
use serde_json::Value;

use crate::Context;
use crate::error::{Error, Result};
use crate::output::line;

/// Prints the explanation.
pub(crate) async fn run(context: &Context, device: &str, module: Option<&str>) -> Result<()> {
    let mut path = vec!["api", "devices", device];
    path.extend(module.iter().flat_map(|module| ["modules", *module]));
    path.push("explain");
    let answer = context.client.get(&path).await?;
    if context.output.json {
        return line(&format!("{answer:#}"));
    }
    let explanation: TwinExplanation = serde_json::from_value(answer)
        .map_err(|error| Error::failed(format!("the hub's answer is no explanation: {error}")))?;
    lines(&explanation).iter().try_for_each(|text| {
        let shown: String = text.chars().filter(|c| !c.is_control()).collect();
        line(&shown)
    })
}

fn lines(explanation: &TwinExplanation) -> Vec<String> {
    let state = match (&explanation.error, explanation.settled) {
        (Some(error), _) => format!("cannot be as its configurations want it: {error}"),
        (None, true) => "as its configurations want it".into(),
        (None, false) => "about to become what its configurations want".into(),
    };
    let module = explanation.module_id.as_ref().map(|module| format!(", module {module}"));
    let mut lines = vec![
        format!("device {}{}: {state}", explanation.device_id, module.unwrap_or_default()),
        format!("desired properties, version {}", explanation.desired_version),
    ];
    if explanation.properties.is_empty() {
        lines.push("  none".into());
    }
    explanation.properties.iter().for_each(|one| property(one, &mut lines));
    lines.push("configurations".into());
    if explanation.configurations.is_empty() {
        lines.push("  none".into());
    }
    explanation.configurations.iter().for_each(|one| configuration(one, &mut lines));
    if explanation.left_out > 0 {
        lines.push(format!("  and {} more that do not target it", explanation.left_out));
    }
    for job in &explanation.waiting {
        lines.push(format!("waiting for job {}", job.job_id));
        if job.reasons.is_empty() {
            lines.push("  nothing is in the way: it is its turn".into());
        }
        let text = |reason: &Value| format!("  {}", reason["text"].as_str().unwrap_or_default());
        lines.extend(job.reasons.iter().map(text));
    }
    lines
}

/// The names below the section.
fn short(path: &str) -> &str {
    path.strip_prefix("properties.desired.").unwrap_or(path)
}

fn wish(value: &Value) -> String {
    if value.is_null() { "nothing".into() } else { value.to_string() }
}

fn property(property: &ExplainedProperty, lines: &mut Vec<String>) {
    let value = property.value.as_ref().map_or("nothing".into(), Value::to_string);
    let by = property.set_by.as_ref().map(|by| match &by.name {
        Some(name) => format!("by {} {name}", by.kind),
        None => "by a person or job".into(),
    });
    let at = property.set_at.as_ref().map(|at| format!("at {at}"));
    let version = property.version.map(|version| format!("version {version}"));
    let how: Vec<String> = [by, at, version].into_iter().flatten().collect();
    let how = if how.is_empty() { String::new() } else { format!("  ({})", how.join(", ")) };
    lines.push(format!("  {}: {value}{how}", short(&property.path)));
    if let Some(wanted) = &property.wanted {
        lines.push(format!("    {} wants {} here", wanted.configuration, wish(&wanted.value)));
    }
    for lost in &property.overridden {
        let at =
            if lost.path == property.path { String::new() } else { format!(" at {}", short(&lost.path)) };
        let wish = wish(&lost.value);
        lines.push(format!("    over {}, which wants {wish}{at}: {}", lost.configuration, lost.reason));
    }
}

fn configuration(one: &ExplainedConfiguration, lines: &mut Vec<String>) {
    let targets = mark(Some(one.targets));
    let status = one.status.as_ref().map(|status| format!(", {status}")).unwrap_or_default();
    lines.push(format!("  {targets} {}, priority {}{status}: {}", one.id, one.priority, one.reason));
    term(&one.condition, 4, lines);
}

fn term(one: &Term, indent: usize, lines: &mut Vec<String>) {
    if one.text.is_empty() {
        return;
    }
    let reads: Vec<String> = one
        .reads
        .iter()
        .map(|read| match &read.value {
            Some(value) => format!("{} is {value}", read.path),
            None => format!("{} is not there", read.path),
        })
        .collect();
    let reads = if reads.is_empty() { String::new() } else { format!("  ({})", reads.join(", ")) };
    lines.push(format!("{:indent$}{} {}{reads}", "", mark(one.result), one.text));
    one.terms.iter().for_each(|inner| term(inner, indent + 2, lines));
}

fn mark(result: Option<bool>) -> char {
    match result {
        Some(true) => '✓',
        Some(false) => '✗',
        None => '?',
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_explanation_reads_like_this() {
        let term = |text: &str, result: Option<bool>, reads: Value, terms: Value| json!({ "text": text, "result": result, "reads": reads, "terms": terms });
        let site =
            term("tags.site = 'b'", Some(false), json!([{"path": "tags.site", "value": "a"}]), json!([]));
        let floor = term("tags.floor = 1", None, json!([{"path": "tags.floor"}]), json!([]));
        let both = term("tags.site = 'b' AND tags.floor = 1", Some(false), json!([]), json!([site, floor]));
        let everything = term("*", Some(true), json!([]), json!([]));
        let absent = term(
            "statusReason = null",
            Some(true),
            json!([{"path": "statusReason", "value": null}]),
            json!([]),
        );
        let body = json!({
            "deviceId": "d", "moduleId": "m", "desiredVersion": 3, "settled": false, "error": "too large", "leftOut": 2,
            "properties": [
                {
                    "path": "properties.desired.rate", "value": 5, "setBy": {"kind": "configuration", "name": "strong"},
                    "setAt": "2026-01-01T00:00:00Z", "version": 2,
                    "overridden": [{"configuration": "weak", "path": "properties.desired.rate.low", "value": null, "reason": "so"}],
                },
                {"path": "properties.desired.more", "overridden": [], "wanted": {"configuration": "strong", "value": "x"}},
                {"path": "properties.desired.own", "value": {}, "setBy": {"kind": "job", "name": "ring-1"}, "overridden": []},
            ],
            "configurations": [
                {"id": "strong", "priority": 9, "content": "moduleContent", "targets": true, "status": "Applied", "reason": "r1", "condition": everything},
                {"id": "weak", "priority": 1, "content": "moduleContent", "targets": true, "status": "Targeted", "reason": "r2", "condition": absent},
                {"id": "away", "priority": 1, "content": "moduleContent", "targets": false, "reason": "r3", "condition": both},
            ],
            "waiting": [
                {"jobId": "night", "reasons": [{"code": "offline", "text": "not connected"}]},
                {"jobId": "next", "reasons": []},
            ],
        });
        let explanation = serde_json::from_value(body).expect("an explanation");
        let expected = [
            "device d, module m: cannot be as its configurations want it: too large",
            "desired properties, version 3",
            "  rate: 5  (by configuration strong, at 2026-01-01T00:00:00Z, version 2)",
            "    over weak, which wants nothing at rate.low: so",
            "  more: nothing",
            "    strong wants \"x\" here",
            "  own: {}  (by job ring-1)",
            "configurations",
            "  ✓ strong, priority 9, Applied: r1",
            "    ✓ *",
            "  ✓ weak, priority 1, Targeted: r2",
            "    ✓ statusReason = null  (statusReason is null)",
            "  ✗ away, priority 1: r3",
            "    ✗ tags.site = 'b' AND tags.floor = 1",
            "      ✗ tags.site = 'b'  (tags.site is \"a\")",
            "      ? tags.floor = 1  (tags.floor is not there)",
            "  and 2 more that do not target it",
            "waiting for job night",
            "  not connected",
            "waiting for job next",
            "  nothing is in the way: it is its turn",
        ];
        assert_eq!(lines(&explanation), expected);
    }
}
