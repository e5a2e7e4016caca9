//! `fleetyard configuration`: desired properties that the hub keeps on every twin that a condition matches.
//! Files are the service's own documents, in YAML or JSON; what a folder says is shown as a difference before it is done.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{read_json, rollout};
use crate::Context;
use crate::error::{Error, Exit, Result};
use crate::output::{cell, line, note, progress};

/// Largest file of configurations.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Twins that a plan shows if nobody says how many.
const SHOWN_DEFAULT: usize = 20;

const COLUMNS: [(&str, &str); 6] = [
    ("configuration", "id"),
    ("priority", "priority"),
    ("target", "targetCondition"),
    ("targeted", "systemMetrics.results.targetedCount"),
    ("applied", "systemMetrics.results.appliedCount"),
    ("updated", "lastUpdatedTimeUtc"),
];
const FIELDS: [(&str, &str); 14] = [
    ("configuration", "id"),
    ("priority", "priority"),
    ("target", "targetCondition"),
    ("labels", "labels"),
    ("content", "content"),
    ("targeted", "systemMetrics.results.targetedCount"),
    ("applied", "systemMetrics.results.appliedCount"),
    ("metrics", "metrics.results"),
    ("gates", "gates"),
    ("gates overridden by", "gatesOverride.by"),
    ("because", "gatesOverride.reason"),
    ("waiting at gates", "gatesWaiting.count"),
    ("created", "createdTimeUtc"),
    ("updated", "lastUpdatedTimeUtc"),
];
/// Of one with a rollout.
const ROLLOUT_FIELDS: [(&str, &str); 5] = [
    ("configuration", "id"),
    ("rollout", "rolloutState.phase"),
    ("asked by", "rolloutState.askedBy"),
    ("decided by", "rolloutState.by"),
    ("reason", "rolloutState.reason"),
];
const WAVES: [(&str, &str); 7] = [
    ("wave", "wave"),
    ("opened", "openedTime"),
    ("waiting", "pending"),
    ("underway", "inFlight"),
    ("succeeded", "succeeded"),
    ("failed", "failed"),
    ("timed out", "timedOut"),
];
/// What an operator writes of a configuration; the rest is the hub's.
const WRITTEN: [&str; 4] = ["content", "labels", "priority", "targetCondition"];

/// What a configuration says.
#[derive(Args, Debug, Default)]
pub struct Says {
    /// What it writes: JSON, @FILE, or - for standard input, such as
    /// '{"deviceContent":{"properties.desired.interval":60}}'.
    #[arg(long, value_name = "JSON")]
    content: Option<String>,
    /// Which twins: a condition such as "tags.site = 'a'", or * for all.
    #[arg(long, value_name = "CONDITION")]
    target: Option<String>,
    /// Which of several configurations wins a property: the one with the higher number.
    #[arg(long, value_name = "NUMBER")]
    priority: Option<u32>,
    /// A label, NAME=TEXT; may be given again.
    #[arg(long, value_name = "NAME=TEXT", value_parser = pair)]
    label: Vec<(String, String)>,
    /// A query whose rows are counted, NAME=QUERY; may be given again, at most 5.
    #[arg(long, value_name = "NAME=QUERY", value_parser = pair)]
    metric: Vec<(String, String)>,
    /// How it comes into force wave by wave: the document of docs/rollouts.md as JSON, @FILE, or - for standard input.
    #[arg(long, value_name = "JSON")]
    rollout: Option<String>,
    /// What a twin must bear to be written to: the document of docs/context.md as JSON, @FILE, or - for standard input; {}
    /// takes former gates away.
    #[arg(long, value_name = "JSON")]
    gates: Option<String>,
}

/// What to do with configurations.
#[derive(Subcommand, Debug)]
pub enum Action {
    /// Create a configuration; the hub brings every twin that it targets to it at once.
    Create {
        /// Its name: lower case letters, digits and some marks.
        id: String,
        #[command(flatten)]
        says: Says,
    },
    /// List configurations with how many twins they target.
    List,
    /// Show a configuration.
    Show {
        /// Its name.
        id: String,
    },
    /// Change what is given of a configuration. Its content stays as it is, unless the hub's settings allow to change it.
    Edit {
        /// Its name.
        id: String,
        #[command(flatten)]
        says: Says,
        /// Only if it is at this etag.
        #[arg(long, value_name = "ETAG")]
        if_match: Option<String>,
    },
    /// Delete a configuration; what it wrote goes, and what it kept others from writing comes.
    Delete {
        /// Its name.
        id: String,
    },
    /// Show the counts of a configuration's metrics.
    Metrics {
        /// Its name.
        id: String,
    },
    /// Show how far the rollout of a configuration came, and how the twins of each wave fare.
    Rollout {
        /// Its name.
        id: String,
    },
    #[command(flatten)]
    Decide(rollout::Decide),
    /// Show what writing or removing configurations would change, twin by twin, and change nothing.
    Plan {
        /// A file or folder of configurations in YAML or JSON.
        #[arg(short, long, value_name = "PATH", required_unless_present = "remove")]
        file: Option<PathBuf>,
        /// A configuration that would be removed; may be given again.
        #[arg(long, value_name = "ID")]
        remove: Vec<String>,
        /// How many twins to show.
        #[arg(long, default_value_t = SHOWN_DEFAULT, value_name = "N")]
        show: usize,
    },
    /// Bring a file or folder of configurations into force, after showing the difference.
    Apply {
        /// A file or folder of configurations in YAML or JSON.
        #[arg(short, long, value_name = "PATH")]
        file: PathBuf,
        /// Also delete configurations of the hub that the folder does not have.
        #[arg(long)]
        prune: bool,
        /// Only show the difference; ends with exit code 8 if there is one.
        #[arg(long)]
        check: bool,
    },
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=TEXT")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Does it.
pub(crate) async fn run(context: &Context, action: Action) -> Result<()> {
    match action {
        Action::Create { id, says } => {
            let mut body = json!({ "id": id, "targetCondition": "" });
            says.write_to(&mut body)?;
            let written = context.client.write(Method::PUT, &["configurations", &id], &body, None).await?;
            context.output.one(&written, &FIELDS)
        }
        Action::List => context.output.many(&all(context).await?, &COLUMNS),
        Action::Show { id } => show(context, &get(context, &id).await?),
        Action::Edit { id, says, if_match } => {
            let mut body = get(context, &id).await?;
            let etag = if_match.unwrap_or_else(|| cell(&body, "etag"));
            says.write_to(&mut body)?;
            let written =
                context.client.write(Method::PUT, &["configurations", &id], &body, Some(&etag)).await?;
            context.output.one(&written, &FIELDS)
        }
        Action::Delete { id } => {
            context.client.delete(&["configurations", &id], Some("*")).await?;
            context.output.done(&format!("deleted {id}"));
            Ok(())
        }
        Action::Metrics { id } => metrics(context, &id).await,
        Action::Rollout { id } => show_rollout(context, &get(context, &id).await?),
        Action::Decide(decide) => {
            let told = rollout::decide(context, "configurations", &decide).await?;
            match decide {
                rollout::Decide::OverrideGates { .. } => show(context, &told),
                _ => show_rollout(context, &told),
            }
        }
        Action::Plan { file, remove, show } => {
            let files = file.as_deref().map(read_folder).transpose()?.unwrap_or_default();
            let plan = plan(context, files.into_values().collect(), &remove, show).await?;
            print_plan(context, &plan)
        }
        Action::Apply { file, prune, check } => apply(context, &file, prune, check).await,
    }
}

impl Says {
    fn write_to(&self, body: &mut Value) -> Result<()> {
        if let Some(content) = &self.content {
            body["content"] = read_json(content)?;
        }
        if let Some(target) = &self.target {
            body["targetCondition"] = target.as_str().into();
        }
        if let Some(priority) = self.priority {
            body["priority"] = priority.into();
        }
        if !self.label.is_empty() {
            body["labels"] = object(&self.label);
        }
        if !self.metric.is_empty() {
            body["metrics"] = json!({ "queries": object(&self.metric) });
        }
        for (name, document) in [("rollout", &self.rollout), ("gates", &self.gates)] {
            if let Some(document) = document {
                body[name] = read_json(document)?;
            }
        }
        Ok(())
    }
}

fn object(pairs: &[(String, String)]) -> Value {
    pairs.iter().map(|(name, text)| (name.clone(), Value::from(text.as_str()))).collect::<Map<_, _>>().into()
}

async fn get(context: &Context, id: &str) -> Result<Value> {
    context.client.get(&["configurations", id]).await
}

async fn all(context: &Context) -> Result<Vec<Value>> {
    match context.client.get(&["configurations"]).await? {
        Value::Array(all) => Ok(all),
        _ => Err(Error::failed("the hub's answer is not a list of configurations")),
    }
}

/// With what its twins wait for, if it has gates.
fn show(context: &Context, configuration: &Value) -> Result<()> {
    context.output.one(configuration, &FIELDS)?;
    let reasons = &configuration["gatesWaiting"]["reasons"];
    let any = reasons.as_object().is_some_and(|reasons| !reasons.is_empty());
    if any && !context.output.json { rollout::reasons(context, reasons) } else { Ok(()) }
}

fn show_rollout(context: &Context, configuration: &Value) -> Result<()> {
    let id = cell(configuration, "id");
    let Some(waves) = configuration["rolloutState"]["waves"].as_array() else {
        return Err(Error::failed(format!("configuration '{id}' has no rollout: it is in force everywhere")));
    };
    if context.output.json {
        return line(&configuration["rolloutState"].to_string());
    }
    context.output.one(configuration, &ROLLOUT_FIELDS)?;
    let numbered = |(index, wave): (usize, &Value)| {
        let mut wave = wave.clone();
        wave["wave"] = (index + 1).into();
        wave
    };
    context.output.many(&waves.iter().enumerate().map(numbered).collect::<Vec<_>>(), &WAVES)
}

async fn metrics(context: &Context, id: &str) -> Result<()> {
    let configuration = get(context, id).await?;
    let mut rows = Vec::new();
    for kind in ["systemMetrics", "metrics"] {
        let results = configuration[kind]["results"].as_object().cloned().unwrap_or_default();
        for (name, count) in results {
            let query = configuration[kind]["queries"][&name].clone();
            rows.push(json!({ "metric": name, "count": count, "query": query }));
        }
    }
    context.output.many(&rows, &[("metric", "metric"), ("count", "count"), ("query", "query")])
}

/// Every configuration of a file or of the files of a folder, by id.
fn read_folder(path: &Path) -> Result<BTreeMap<String, Value>> {
    let unreadable = |error: std::io::Error| Error::usage(format!("cannot read {}: {error}", path.display()));
    let mut files = vec![path.to_owned()];
    if std::fs::metadata(path).map_err(unreadable)?.is_dir() {
        files.clear();
        for entry in std::fs::read_dir(path).map_err(unreadable)? {
            let file = entry.map_err(unreadable)?.path();
            let kind = file.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
            if ["yaml", "yml", "json"].contains(&kind) {
                files.push(file);
            }
        }
        files.sort();
    }
    let mut all = BTreeMap::new();
    for file in files {
        let configuration = read_file(&file)?;
        let id = cell(&configuration, "id");
        if id.is_empty() {
            return Err(Error::usage(format!("{}: it has no id", file.display())));
        }
        if all.insert(id.clone(), configuration).is_some() {
            return Err(Error::usage(format!("{}: another file has the id '{id}', too", file.display())));
        }
    }
    Ok(all)
}

fn read_file(path: &Path) -> Result<Value> {
    let wrong = |problem: String| Error::usage(format!("{}: {problem}", path.display()));
    let bytes = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(wrong(format!("it has {bytes} bytes, at most {FILE_BYTES_MAX} are read")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    // JSON is YAML, but its own reader says better what is wrong with it.
    let value: Value = match path.extension().is_some_and(|kind| kind == "json") {
        true => serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?,
        false => serde_saphyr::from_str(&text).map_err(|error| wrong(error.to_string()))?,
    };
    if value.is_object() { Ok(value) } else { Err(wrong("it is not an object".into())) }
}

async fn plan(context: &Context, put: Vec<Value>, remove: &[String], show: usize) -> Result<Value> {
    let body = json!({ "configurations": put, "remove": remove, "top": show });
    context.client.write(Method::POST, &["api", "configurations", "preview"], &body, None).await
}

fn print_plan(context: &Context, plan: &Value) -> Result<()> {
    if context.output.json {
        return line(&plan.to_string());
    }
    let empty = Map::new();
    for (id, fares) in plan["configurations"].as_object().unwrap_or(&empty) {
        line(&format!(
            "{id}: {} enter, {} leave, {} targeted then, {} with conflicts",
            fares["enter"], fares["leave"], fares["targeted"], fares["conflicts"]
        ))?;
        if let Some(waiting) = fares.get("gatesWaiting") {
            line(&format!("{id}: {} would wait at a gate now", waiting["count"]))?;
            rollout::reasons(context, &waiting["reasons"])?;
        }
        if let Some(waves) = fares.get("waves") {
            line(&format!("{id}: in waves of {waves}"))?;
        }
    }
    let shown = plan["twins"].as_array().cloned().unwrap_or_default();
    for twin in &shown {
        let module = cell(twin, "moduleId");
        let slash = if module.is_empty() { "" } else { "/" };
        line(&format!("{}{slash}{module}", cell(twin, "deviceId")))?;
        for (sign, list) in [("+", "enters"), ("-", "leaves")] {
            for id in twin[list].as_array().into_iter().flatten() {
                line(&format!("  {sign} {}", id.as_str().unwrap_or_default()))?;
            }
        }
        for change in twin["changes"].as_array().into_iter().flatten() {
            let value = |which: &str| change.get(which).map_or("nothing".into(), Value::to_string);
            let by = cell(change, "by");
            let by = if by.is_empty() { String::new() } else { format!("  ({by})") };
            line(&format!("  ~ {}: {} -> {}{by}", cell(change, "path"), value("from"), value("to")))?;
        }
        for lost in twin["conflicts"].as_array().into_iter().flatten() {
            let winner = cell(lost, "winner");
            let against = if winner.is_empty() { String::new() } else { format!(" against {winner}") };
            line(&format!(
                "  ! {}: {} of {} loses{against}",
                cell(lost, "path"),
                lost["value"],
                cell(lost, "configuration")
            ))?;
        }
        if let Some(error) = twin["error"].as_str() {
            line(&format!("  ! does not fit: {error}"))?;
        }
    }
    let touched = plan["touched"].as_u64().unwrap_or(0);
    let more = touched.saturating_sub(shown.len() as u64);
    if more > 0 {
        line(&format!("… and {more} more"))?;
    }
    line(&format!(
        "{} of {} twins: {} change, {} cannot take it",
        touched, plan["lookedAt"], plan["changed"], plan["misfit"]
    ))
}

/// What must happen to a configuration for a folder to be in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Create,
    Update,
    Delete,
}

/// The steps from what the hub has to what a folder has, by id.
fn steps(hub: &[Value], folder: &BTreeMap<String, Value>, prune: bool) -> BTreeMap<String, Step> {
    let known: BTreeMap<String, &Value> = hub.iter().map(|one| (cell(one, "id"), one)).collect();
    let mut steps = BTreeMap::new();
    for (id, wanted) in folder {
        match known.get(id) {
            None => steps.insert(id.clone(), Step::Create),
            Some(there) if !same(there, wanted) => steps.insert(id.clone(), Step::Update),
            Some(_) => None,
        };
    }
    let gone = known.keys().filter(|id| prune && !folder.contains_key(*id));
    steps.extend(gone.map(|id| (id.clone(), Step::Delete)));
    steps
}

/// Whether both say the same; what is missing is what the hub takes for it.
fn same(there: &Value, wanted: &Value) -> bool {
    let written = |one: &Value, name: &str| match &one[name] {
        Value::Null if name == "priority" => 0.into(),
        Value::Null if name == "targetCondition" => "".into(),
        Value::Null => json!({}),
        value => value.clone(),
    };
    let queries = |one: &Value| match &one["metrics"]["queries"] {
        Value::Null => json!({}),
        value => value.clone(),
    };
    WRITTEN.iter().all(|name| written(there, name) == written(wanted, name))
        && queries(there) == queries(wanted)
        && (wanted["rollout"].is_null() || covers(&there["rollout"], &wanted["rollout"]))
        && (wanted["gates"].is_null() || same_gates(&written(there, "gates"), &wanted["gates"]))
}

fn same_gates(there: &Value, wanted: &Value) -> bool {
    let count = |gates: &Value| gates.as_object().map_or(0, Map::len);
    count(there) == count(wanted) && covers(there, wanted)
}

/// Whether all that `wanted` says is in `there`, which says what the hub made of the rest, too.
fn covers(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => {
            wanted.iter().all(|(name, wanted)| there.get(name).is_some_and(|there| covers(there, wanted)))
        }
        (Value::Array(there), Value::Array(wanted)) => {
            there.len() == wanted.len()
                && there.iter().zip(wanted).all(|(there, wanted)| covers(there, wanted))
        }
        (Value::Number(there), Value::Number(wanted)) => there.as_f64() == wanted.as_f64(),
        _ => there == wanted,
    }
}

async fn apply(context: &Context, path: &Path, prune: bool, check: bool) -> Result<()> {
    let folder = read_folder(path)?;
    let steps = steps(&all(context).await?, &folder, prune);
    if steps.is_empty() {
        context.output.done("nothing to do: the hub has it all");
        return Ok(());
    }
    let written = |step: &Step| *step != Step::Delete;
    let put = steps.iter().filter(|(_, step)| written(step)).map(|(id, _)| folder[id].clone()).collect();
    let remove: Vec<String> =
        steps.iter().filter(|(_, step)| !written(step)).map(|(id, _)| id.clone()).collect();
    let plan = plan(context, put, &remove, SHOWN_DEFAULT).await?;
    if !context.output.json {
        for (id, step) in &steps {
            line(&format!("{} {id}", format!("{step:?}").to_lowercase()))?;
        }
    }
    print_plan(context, &plan)?;
    if check {
        return Err(Error::new(Exit::Differs, format!("{} configurations differ", steps.len())));
    }
    let bar = progress(steps.len() as u64, "configurations");
    let mut failed = 0;
    for (id, step) in &steps {
        let path = ["configurations", id.as_str()];
        let done = match step {
            Step::Create => context.client.write(Method::PUT, &path, &folder[id], None).await.map(drop),
            Step::Update => context.client.write(Method::PUT, &path, &folder[id], Some("*")).await.map(drop),
            Step::Delete => context.client.delete(&path, Some("*")).await,
        };
        if let Err(error) = done {
            failed += 1;
            note(&format!("{id}: {error}"));
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    context.output.done(&format!("{} of {} done", steps.len() - failed, steps.len()));
    match failed {
        0 => Ok(()),
        _ if failed == steps.len() => Err(Error::failed("no configuration could be brought into force")),
        _ => {
            Err(Error::new(Exit::Partial, format!("{failed} configurations could not be brought into force")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_read_in_both_formats_and_says_which_file_is_wrong() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
        write("a.yaml", "id: a\npriority: 5\ncontent:\n  deviceContent:\n    properties.desired.rate: 5\n");
        write("b.json", r#"{"id": "b", "targetCondition": "*"}"#);
        write("notes.txt", "not one of them");
        let all = read_folder(folder.path()).expect("readable");
        assert_eq!(all["a"]["content"]["deviceContent"]["properties.desired.rate"], 5);
        assert_eq!(all.keys().collect::<Vec<_>>(), ["a", "b"]);
        for (text, part) in
            [("id: [", "c.yaml"), ("priority: 1", "no id"), ("id: b", "the id 'b'"), ("- 1", "not an object")]
        {
            write("c.yaml", text);
            let error = read_folder(folder.path()).expect_err(text).message;
            assert!(error.contains(part) && error.contains("c.yaml"), "{text}: {error}");
        }
    }

    #[test]
    fn steps_lead_from_what_the_hub_has_to_what_the_folder_has() {
        let hub = [
            json!({"id": "same", "priority": 0, "labels": {}, "targetCondition": "*", "content": {"x": 1}, "metrics": {"queries": {}, "results": {}}, "etag": "x"}),
            json!({"id": "other", "priority": 1, "targetCondition": "*", "content": {"x": 1}}),
            json!({"id": "gone", "priority": 1, "targetCondition": "*", "content": {"x": 1}}),
        ];
        let one = |priority: Option<u32>| json!({"targetCondition": "*", "content": {"x": 1}, "priority": priority});
        let folder = BTreeMap::from([
            ("same".to_owned(), one(None)),
            ("other".to_owned(), one(Some(2))),
            ("new".to_owned(), one(None)),
        ]);
        let without = steps(&hub, &folder, false);
        assert_eq!(without, BTreeMap::from([("new".into(), Step::Create), ("other".into(), Step::Update)]));
        assert_eq!(steps(&hub, &folder, true).get("gone"), Some(&Step::Delete));
    }
}
