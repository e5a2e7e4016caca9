//! The list of named exceptions to the size rules. It may only shrink: an entry that is not needed
//! any more is a problem itself, and so is a thing that grew beyond its entry.
//!
//! One entry a line: `file PATH LIMIT reason`, `function PATH::NAME LIMIT reason`, `header PATH reason`.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

/// The exceptions, each remembering whether it was needed.
#[derive(Debug)]
pub struct Ratchet {
    path: String,
    entries: BTreeMap<(String, String), Entry>,
}

#[derive(Debug)]
struct Entry {
    limit: usize,
    needed: bool,
}

impl Ratchet {
    /// Reads the list; lines that begin with `#` and empty ones say nothing.
    pub fn parse(path: &str, text: &str) -> Result<Self> {
        let mut entries = BTreeMap::new();
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (key, entry) =
                parse_entry(line).with_context(|| format!("{path}:{}: `{line}`", number + 1))?;
            if entries.insert(key, entry).is_some() {
                bail!("{path}:{}: a second entry for the same thing", number + 1);
            }
        }
        Ok(Self { path: path.to_owned(), entries })
    }

    /// The limit for this thing: `normal`, or its exception's when it is beyond that.
    pub fn limit(&mut self, kind: &str, name: &str, measured: usize, normal: usize) -> usize {
        match self.entries.get_mut(&(kind.to_owned(), name.to_owned())) {
            Some(entry) if measured > normal => {
                entry.needed = true;
                entry.limit
            }
            _ => normal,
        }
    }

    /// A problem for each entry that nothing asked for.
    pub fn unneeded(&self) -> Vec<String> {
        let unneeded = self.entries.iter().filter(|(_, entry)| !entry.needed);
        unneeded
            .map(|((kind, name), _)| {
                format!("{}: `{kind} {name}` is not needed any more: delete the line", self.path)
            })
            .collect()
    }
}

fn parse_entry(line: &str) -> Result<((String, String), Entry)> {
    let mut words = line.split_whitespace();
    let kind = words.next().context("empty")?.to_owned();
    let name = words.next().context("no path")?.to_owned();
    let limit = match kind.as_str() {
        "file" | "function" => words.next().and_then(|word| word.parse().ok()).context("no limit")?,
        "header" => usize::MAX,
        _ => bail!("`{kind}` is not file, function or header"),
    };
    if words.next().is_none() {
        bail!("an exception needs its reason");
    }
    Ok(((kind, name), Entry { limit, needed: false }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_counts_only_while_it_is_needed() {
        let text = "# why\n\nfile a.rs 700 one table\nfunction a.rs::f 90 one match\n";
        let mut ratchet = Ratchet::parse("list", text).unwrap();
        assert_eq!(ratchet.limit("file", "a.rs", 650, 600), 700);
        assert_eq!(ratchet.limit("file", "b.rs", 650, 600), 600);
        assert_eq!(ratchet.limit("function", "a.rs::f", 70, 70), 70);
        assert_eq!(ratchet.unneeded(), ["list: `function a.rs::f` is not needed any more: delete the line"]);
    }

    #[test]
    fn entries_are_whole() {
        for bad in
            ["file a.rs 700", "file a.rs why", "header a.rs", "word a.rs why", "file a 7 x\nfile a 8 y"]
        {
            assert!(Ratchet::parse("list", bad).is_err(), "{bad}");
        }
    }
}
