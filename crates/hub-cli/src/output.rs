//! What commands print: data on standard output as tables or JSON, everything else on standard error.
//! A progress bar is shown to people only, never into a file or pipe.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use crate::error::{Error, Exit, Result};

/// How data is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    /// As JSON, one value per line where there are many.
    pub json: bool,
}

impl Output {
    /// One resource: its JSON, or a table of its fields.
    pub fn one(self, value: &Value, fields: &[(&str, &str)]) -> Result<()> {
        if self.json {
            return line(&format!("{value:#}"));
        }
        let width = fields.iter().map(|(title, _)| title.chars().count()).max().unwrap_or(0);
        let shown = fields
            .iter()
            .map(|(title, path)| (title, cell(value, path)))
            .filter(|(_, text)| !text.is_empty());
        let lines: Vec<_> = shown.map(|(title, text)| format!("{title:width$}  {text}")).collect();
        line(&lines.join("\n"))
    }

    /// Many resources: a line of JSON for each, or a table with these columns.
    pub fn many(self, rows: &[Value], columns: &[(&str, &str)]) -> Result<()> {
        if self.json {
            return rows.iter().try_for_each(|row| line(&row.to_string()));
        }
        if rows.is_empty() {
            note("none");
            return Ok(());
        }
        let mut table = Table::new();
        table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(columns.iter().map(|(title, _)| title.to_uppercase()));
        for row in rows {
            table.add_row(columns.iter().map(|(_, path)| cell(row, path)));
        }
        let text: Vec<_> = table.lines().map(|text| text.trim_end().to_string()).collect();
        line(&text.join("\n"))
    }

    /// Says that something was done; with JSON nobody needs to be told.
    pub fn done(self, text: &str) {
        if !self.json {
            note(text);
        }
    }
}

/// Prints a line of data. Errs when nobody reads any more, so that `| head` ends the command.
pub fn line(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    let written =
        out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush());
    written.map_err(|error| Error::new(Exit::Failed, format!("cannot write the output: {error}")))
}

/// Prints a line for people.
pub fn note(text: &str) {
    // Whoever closed standard error does not want to read it.
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// What stands at a path of keys with dots between, as text; objects and lists as JSON.
pub fn cell(value: &Value, path: &str) -> String {
    let found = value.get(path).or_else(|| path.split('.').try_fold(value, |value, key| value.get(key)));
    match found {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) if text.starts_with("0001-01-01") => "never".into(),
        Some(Value::String(text)) => text.chars().filter(|c| !c.is_control()).collect(),
        Some(other) => other.to_string(),
    }
}

/// A bar over bytes, of which the total may not be known; hidden where nobody watches.
pub fn bytes_progress(total: Option<u64>, what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = match total {
        Some(_) => "{msg} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        None => "{msg} {bytes} {bytes_per_sec}",
    };
    let style = ProgressStyle::with_template(template).expect("the template is valid").progress_chars("=> ");
    let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
    let bar = bar.with_style(style).with_message(what);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A bar over `total` steps; hidden where nobody watches.
pub fn progress(total: u64, what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} [{bar:40}] {human_pos}/{human_len} {per_sec} {eta}")
        .expect("the template is valid")
        .progress_chars("=> ");
    let bar = ProgressBar::new(total).with_style(style).with_message(what);
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
