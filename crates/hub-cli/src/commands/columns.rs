//! Tables as devices: which column is an id, a key, a tag or a desired property.
//! A row becomes the line of the import that has the row's number in the file.

use std::io::{self, Read};

use clap::Args;
use serde_json::{Map, Value, json};

use super::import::Source;
use crate::error::{Error, Result};

/// Columns by their names in the first row.
#[derive(Args, Debug, Default)]
pub struct Columns {
    /// Table: the column with the device ids; id without it.
    #[arg(long, value_name = "COLUMN", help_heading = "Tables")]
    id: Option<String>,
    /// Table: the column with the module ids.
    #[arg(long, value_name = "COLUMN", help_heading = "Tables")]
    module: Option<String>,
    /// Table: the column with enabled or disabled.
    #[arg(long, value_name = "COLUMN", help_heading = "Tables")]
    status: Option<String>,
    /// Table: the column with the primary keys. Where both cells are empty, the hub makes keys.
    #[arg(long, value_name = "COLUMN", requires = "secondary_key", help_heading = "Tables")]
    primary_key: Option<String>,
    /// Table: the column with the secondary keys.
    #[arg(long, value_name = "COLUMN", requires = "primary_key", help_heading = "Tables")]
    secondary_key: Option<String>,
    /// Table: the column with thumbprints of certificates.
    #[arg(long, value_name = "COLUMN", conflicts_with = "primary_key", help_heading = "Tables")]
    thumbprint: Option<String>,
    /// Table: a tag and its column; dots lead into objects. Empty cells are left out.
    #[arg(long = "tag", value_name = "PATH=COLUMN", help_heading = "Tables")]
    tags: Vec<String>,
    /// Table: a desired property and its column; dots lead into objects. Empty cells are left out.
    #[arg(long, value_name = "PATH=COLUMN", help_heading = "Tables")]
    desired: Vec<String>,
    /// Table: keep numbers, true and false in tags and desired properties as text.
    #[arg(long, help_heading = "Tables")]
    text: bool,
}

impl Columns {
    /// Whether any is named.
    pub fn are_given(&self) -> bool {
        let ones =
            [&self.id, &self.module, &self.status, &self.primary_key, &self.secondary_key, &self.thumbprint];
        ones.iter().any(|column| column.is_some())
            || !self.tags.is_empty()
            || !self.desired.is_empty()
            || self.text
    }
}

/// Where a cell goes in the line.
struct Target {
    column: usize,
    path: Vec<String>,
    is_text: bool,
}

/// The rows of a table as lines.
pub struct Rows<R> {
    reader: csv::Reader<R>,
    targets: Vec<Target>,
    record: csv::ByteRecord,
    /// The line of the file that the next line sent stands for.
    next: u64,
}

impl<R: Read> Rows<R> {
    /// Reads the first row, and refuses columns that it does not name.
    pub fn open(input: R, columns: Columns) -> Result<Self> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(input);
        let header = reader
            .byte_headers()
            .map_err(|error| Error::usage(format!("the first row of the table cannot be read: {error}")))?;
        let names: Vec<String> = header.iter().map(cell).collect();
        let targets = targets(&names, &columns)?;
        Ok(Self { reader, targets, record: csv::ByteRecord::new(), next: 1 })
    }
}

impl<R: Read> Source for Rows<R> {
    fn add(&mut self, to: &mut Vec<u8>) -> io::Result<bool> {
        if !self.reader.read_byte_record(&mut self.record).map_err(io::Error::other)? {
            return Ok(false);
        }
        // A cell may have line ends of its own, and the first row is a line, too.
        let line = self.record.position().map_or(self.next, csv::Position::line);
        while self.next < line {
            to.push(b'\n');
            self.next += 1;
        }
        to.extend_from_slice(object(&self.record, &self.targets).to_string().as_bytes());
        to.push(b'\n');
        self.next += 1;
        Ok(true)
    }
}

fn cell(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_start_matches('\u{feff}').trim().to_string()
}

fn targets(names: &[String], columns: &Columns) -> Result<Vec<Target>> {
    let target = |name: &str, path: &[&str], is_text: bool| {
        let column = names.iter().position(|known| known == name).ok_or_else(|| {
            Error::usage(format!("the table has no column '{name}'; it has {}", names.join(", ")))
        })?;
        Ok(Target { column, path: path.iter().map(ToString::to_string).collect(), is_text })
    };
    let mut targets = vec![target(columns.id.as_deref().unwrap_or("id"), &["id"], true)?];
    let ones: [(&Option<String>, &[&str]); 5] = [
        (&columns.module, &["moduleId"]),
        (&columns.status, &["status"]),
        (&columns.primary_key, &["authentication", "symmetricKey", "primaryKey"]),
        (&columns.secondary_key, &["authentication", "symmetricKey", "secondaryKey"]),
        (&columns.thumbprint, &["authentication", "x509Thumbprint", "primaryThumbprint"]),
    ];
    for (column, path) in ones {
        if let Some(column) = column {
            targets.push(target(column, path, true)?);
        }
    }
    let sections: [(&[String], &[&str]); 2] =
        [(&columns.tags, &["tags"]), (&columns.desired, &["properties", "desired"])];
    for (mappings, root) in sections {
        for mapping in mappings {
            let (path, column) = mapping.split_once('=').ok_or_else(|| {
                Error::usage(format!("'{mapping}' is not PATH=COLUMN, such as site=location"))
            })?;
            let path: Vec<&str> = root.iter().copied().chain(path.split('.')).collect();
            if path.iter().any(|name| name.is_empty()) {
                return Err(Error::usage(format!("'{mapping}' has an empty name in its path")));
            }
            targets.push(target(column, &path, columns.text)?);
        }
    }
    Ok(targets)
}

fn object(record: &csv::ByteRecord, targets: &[Target]) -> Value {
    let mut object = json!({});
    for Target { column, path, is_text } in targets {
        let text = record.get(*column).map(cell).unwrap_or_default();
        if !text.is_empty() {
            put(&mut object, path, if *is_text { Value::from(text) } else { guess(text) });
        }
    }
    object
}

fn put(object: &mut Value, path: &[String], value: Value) {
    let mut place = object;
    for name in path {
        if !place.is_object() {
            *place = Value::Object(Map::new());
        }
        place = &mut place[name.as_str()];
    }
    *place = value;
}

/// A number, true or false if it is written as JSON writes it: 007 and 1,5 stay texts.
fn guess(text: String) -> Value {
    match serde_json::from_str(&text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_))) => value,
        _ => Value::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, columns: Columns, lines: &[Option<Value>]) {
        let mut rows = Rows::open(text.as_bytes(), columns).expect("a table");
        let mut sent = Vec::new();
        while rows.add(&mut sent).expect("memory can be read") {}
        let sent = String::from_utf8(sent).expect("text");
        let sent: Vec<Option<Value>> = sent.lines().map(|line| serde_json::from_str(line).ok()).collect();
        assert_eq!(sent, lines);
    }

    fn columns(tags: &[&str], desired: &[&str], text: bool) -> Columns {
        let all = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        Columns {
            id: Some("serial".into()),
            tags: all(tags),
            desired: all(desired),
            text,
            ..Columns::default()
        }
    }

    #[test]
    fn rows_become_lines_with_their_numbers() {
        let text = "\u{feff}serial,location,poll\np-1,north,30\np-2,\"a\nb\",007\np-3,,true\np-4\n";
        check(
            text,
            columns(&["site.name=location"], &["interval=poll"], false),
            &[
                None,
                Some(
                    json!({"id":"p-1","tags":{"site":{"name":"north"}},"properties":{"desired":{"interval":30}}}),
                ),
                Some(
                    json!({"id":"p-2","tags":{"site":{"name":"a\nb"}},"properties":{"desired":{"interval":"007"}}}),
                ),
                None,
                Some(json!({"id":"p-3","properties":{"desired":{"interval":true}}})),
                Some(json!({"id":"p-4"})),
            ],
        );
        check(
            "serial,n\nx,5\n",
            columns(&["n=n"], &[], true),
            &[None, Some(json!({"id":"x","tags":{"n":"5"}}))],
        );
        let keys = Columns {
            primary_key: Some("k1".into()),
            secondary_key: Some("k2".into()),
            status: Some("on".into()),
            ..Columns::default()
        };
        let authentication = json!({ "symmetricKey": { "primaryKey": "1", "secondaryKey": "2" } });
        check(
            "id,k1,k2,on\nx,1,2,disabled\n",
            keys,
            &[None, Some(json!({"id":"x","status":"disabled","authentication":authentication}))],
        );
    }

    #[test]
    fn wrong_mappings_are_refused_before_anything_is_sent() {
        for (columns, words) in [
            (columns(&["site"], &[], false), "PATH=COLUMN"),
            (columns(&["site=nowhere"], &[], false), "no column 'nowhere'; it has serial, n"),
            (columns(&[], &["a..b=n"], false), "empty name"),
            (Columns::default(), "no column 'id'"),
        ] {
            let error = Rows::open("serial,n\n".as_bytes(), columns).err().expect("refused");
            assert!(error.message.contains(words), "{}", error.message);
        }
    }
}
