//! The document of a packed twin as text, written while walking over its bytes. Pages of queries are made of these.
//! Must say the same as [`TwinDocument::to_json`](crate::twin::TwinDocument::to_json), the order of members aside.

use std::fmt::Write;
use std::ops::Range;

use serde_json::Value;

use super::walk::{Shown, VisitedSection, Visitor};
use super::{Connection, Identity, PackedTwin};
use crate::twin::Stamp;
use crate::twin::document::{Head, head};

pub fn print(packed: &PackedTwin, identity: &Identity, connection: Connection) -> String {
    let mut printer = Printer::default();
    printer.text.reserve(packed.bytes.len() * 4);
    let summary = packed.walk(&mut printer);
    let head = Value::Object(head(&Head {
        identity,
        etag_counter: summary.etag_counter,
        version: summary.etag_counter + summary.reported_version,
        model_id: summary.model_id,
        configurations: &summary.configurations,
        connection,
    }));
    let head = head.to_string();
    // The head has members, and ends with a brace.
    [&head[..head.len() - 1], ",", &printer.text, "}}"].concat()
}

#[derive(Default)]
struct Printer {
    text: String,
    /// What closes the arrays and objects that are begun.
    closers: Vec<char>,
    /// Whether nothing was written yet of the innermost of them.
    is_empty: bool,
    /// Where the stamps of the metadata that is begun are written.
    stamps: Vec<Range<usize>>,
    /// Of the section; tags have none.
    version: Option<u64>,
}

impl Printer {
    fn member(&mut self, name: Option<&str>) {
        if !std::mem::take(&mut self.is_empty) {
            self.text.push(',');
        }
        if let Some(name) = name {
            self.string(name);
            self.text.push(':');
        }
    }

    fn string(&mut self, string: &str) {
        if string.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
            self.text.push('"');
            self.text.push_str(string);
            self.text.push('"');
        } else {
            self.display(&Value::from(string));
        }
    }

    fn display(&mut self, value: &dyn std::fmt::Display) {
        write!(self.text, "{value}").expect("memory does not fail");
    }

    fn begin(&mut self, opener: char, closer: char) {
        self.text.push(opener);
        self.closers.push(closer);
        self.is_empty = true;
    }

    fn stamp(&mut self, stamp: &Stamp) {
        self.text.push_str("\"$lastUpdated\":\"");
        self.display(&stamp.at);
        self.text.push('"');
        if let Some(version) = stamp.version {
            self.text.push_str(",\"$lastUpdatedVersion\":");
            self.display(&version);
        }
        if let Some(by) = &stamp.by {
            self.text.push_str(",\"$lastUpdatedBy\":");
            self.string(by.configuration().as_str());
            self.text.push_str(",\"$lastUpdatedByDigest\":\"");
            self.display(&by.digest());
            self.text.push('"');
        }
    }
}

impl<'p> Visitor<'p> for Printer {
    fn section(&mut self, section: VisitedSection) {
        let (name, version) = match section {
            VisitedSection::Tags => ("\"tags\":", None),
            VisitedSection::Desired(version) => ("\"properties\":{\"desired\":", Some(version)),
            VisitedSection::Reported(version) => (",\"reported\":", Some(version)),
        };
        self.version = version;
        self.text.push_str(name);
        self.begin('{', '}');
    }

    fn value(&mut self, name: Option<&'p str>, value: Shown<'p>) {
        self.member(name);
        match value {
            Shown::Null => self.text.push_str("null"),
            Shown::Bool(flag) => self.text.push_str(if flag { "true" } else { "false" }),
            Shown::Positive(number) => self.display(&number),
            Shown::Negative(number) => self.display(&number),
            Shown::Float(number) => self.display(&Value::from(number)),
            Shown::Text(text) => self.string(text),
            Shown::Array => self.begin('[', ']'),
            Shown::Object => self.begin('{', '}'),
        }
    }

    fn leave(&mut self) {
        match (self.closers.pop(), self.closers.len(), self.version) {
            // Tags, which a twin without any does not show.
            (_, 0, None) if self.is_empty => self.text.clear(),
            (_, 0, None) => self.text.push_str("},"),
            // Metadata and version follow the values of the other sections.
            (_, 0, _) => return,
            (closer, ..) => self.text.extend(closer),
        }
        self.is_empty = false;
    }

    fn metadata(&mut self, name: Option<&'p str>, stamp: Option<&Stamp>) {
        self.member(Some(name.unwrap_or("$metadata")));
        self.text.push('{');
        let begin = self.text.len();
        match (stamp, self.stamps.last().cloned()) {
            (None, Some(around)) => self.text.extend_from_within(around),
            (stamp, _) => stamp.into_iter().for_each(|stamp| self.stamp(stamp)),
        }
        self.stamps.push(begin..self.text.len());
        self.is_empty = begin == self.text.len();
    }

    fn leave_metadata(&mut self) {
        self.text.push('}');
        self.is_empty = false;
        self.stamps.pop();
        if self.stamps.is_empty() {
            self.text.push_str(",\"$version\":");
            let version = self.version.unwrap_or_default();
            self.display(&version);
            self.text.push('}');
        }
    }
}
