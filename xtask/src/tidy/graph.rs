//! The crate graph: what `ARCHITECTURE.md` draws and what Cargo builds must be the same.
//!
//! In the drawing, `a -> b, c` is what `a` is made of, `a ..> b` what only its tests use.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use serde_json::Value;

const FENCE: &str = "```arrows";
/// Whatever brings tasks, serialization derives or chance with it. `rand` itself has no chance without `getrandom`: it is
/// there because `geo` draws from seeds that it is given.
const IMPURE: &[&str] = &["tokio", "serde_derive", "getrandom", "async-std", "mio", "tracing"];

/// The arrows out of each crate: with `true` those for tests alone.
#[derive(Debug, Default, PartialEq)]
pub struct Arrows(BTreeMap<String, BTreeSet<(bool, String)>>);

impl Arrows {
    /// As drawn in the fenced block of the document.
    pub fn drawn(document: &str) -> Result<Self> {
        let Some((_, rest)) = document.split_once(FENCE) else {
            bail!("ARCHITECTURE.md has no block {FENCE}")
        };
        let Some((block, _)) = rest.split_once("```") else { bail!("the block {FENCE} has no end") };
        let mut arrows = Self::default();
        for line in block.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let for_tests = line.contains("..>");
            let Some((from, to)) = line.split_once(if for_tests { "..>" } else { "->" }) else {
                bail!("ARCHITECTURE.md: `{line}` has no arrow");
            };
            let out = arrows.0.entry(from.trim().to_owned()).or_default();
            for name in to.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                out.insert((for_tests, name.to_owned()));
            }
        }
        Ok(arrows)
    }

    /// As built, from `cargo metadata`: members of the workspace only.
    pub fn built(metadata: &Value) -> Self {
        let members: Vec<&Value> = members(metadata).collect();
        let names: BTreeSet<&str> = members.iter().map(|package| text(package, "name")).collect();
        let mut arrows = Self::default();
        for package in members {
            let out = arrows.0.entry(text(package, "name").to_owned()).or_default();
            for dependency in package["dependencies"].as_array().into_iter().flatten() {
                let name = text(dependency, "name");
                if names.contains(name) {
                    out.insert((dependency["kind"] == "dev", name.to_owned()));
                }
            }
        }
        arrows
    }
}

/// Problems: arrows that are only drawn, or only built.
pub fn check_arrows(drawn: &Arrows, built: &Arrows) -> Vec<String> {
    let mut problems = missing(drawn, built, "is drawn in ARCHITECTURE.md but not built");
    problems.extend(missing(built, drawn, "is built but not drawn in ARCHITECTURE.md"));
    problems
}

fn missing(wanted: &Arrows, found: &Arrows, what: &str) -> Vec<String> {
    let mut problems = Vec::new();
    for (from, out) in &wanted.0 {
        let Some(there) = found.0.get(from) else {
            problems.push(format!("crate {from} {what}"));
            continue;
        };
        for (for_tests, to) in out.difference(there) {
            let arrow = if *for_tests { "..>" } else { "->" };
            problems.push(format!("{from} {arrow} {to} {what}"));
        }
    }
    problems
}

/// Problems: crates that do not say what they are for.
pub fn check_descriptions(metadata: &Value) -> Vec<String> {
    let silent = members(metadata).filter(|package| text(package, "description").trim().is_empty());
    silent
        .map(|package| {
            format!("{}: no description in Cargo.toml: say why it is a crate", text(package, "name"))
        })
        .collect()
}

/// Problems: impure crates in the output of `cargo tree --prefix none` for `hub-domain`.
pub fn check_domain_is_pure(tree: &str) -> Vec<String> {
    let names: BTreeSet<&str> = tree.lines().filter_map(|line| line.split_whitespace().next()).collect();
    if !names.contains("hub-domain") {
        return vec!["the dependency tree of hub-domain cannot be read".to_owned()];
    }
    let impure = IMPURE.iter().filter(|name| names.contains(**name));
    impure
        .map(|name| {
            format!("hub-domain reaches `{name}`: see `cargo tree -p hub-domain -e normal -i {name}`")
        })
        .collect()
}

/// The packages of the workspace.
pub fn members(metadata: &Value) -> impl Iterator<Item = &Value> {
    let ids = &metadata["workspace_members"];
    let is_member = move |package: &&Value| ids.as_array().is_some_and(|ids| ids.contains(&package["id"]));
    metadata["packages"].as_array().into_iter().flatten().filter(is_member)
}

/// A text field, or nothing.
pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn metadata() -> Value {
        json!({
            "workspace_members": ["a 1", "b 1"],
            "packages": [
                {"id": "a 1", "name": "a", "description": "A.", "dependencies": [
                    {"name": "b", "kind": null}, {"name": "b", "kind": "dev"}, {"name": "x", "kind": null},
                ]},
                {"id": "b 1", "name": "b", "description": null, "dependencies": []},
                {"id": "x 1", "name": "x", "description": null, "dependencies": [{"name": "b", "kind": null}]},
            ],
        })
    }

    fn check_drawing(block: &str, expected: &[&str]) {
        let drawn = Arrows::drawn(&format!("Text\n```arrows\n{block}\n```\nText")).unwrap();
        assert_eq!(check_arrows(&drawn, &Arrows::built(&metadata())), expected);
    }

    #[test]
    fn drawing_and_build_are_compared_both_ways() {
        check_drawing("a -> b\na ..> b\nb ->", &[]);
        check_drawing("a ..> b\nb ->", &["a -> b is built but not drawn in ARCHITECTURE.md"]);
        check_drawing("a -> b\na ..> b\nb -> a", &["b -> a is drawn in ARCHITECTURE.md but not built"]);
        check_drawing("a -> b\na ..> b", &["crate b is built but not drawn in ARCHITECTURE.md"]);
        check_drawing("a -> b\na ..> b\nb ->\nc ->", &["crate c is drawn in ARCHITECTURE.md but not built"]);
    }

    #[test]
    fn drawings_that_cannot_be_read() {
        for bad in ["no block", "```arrows\na -> b", "```arrows\na b\n```"] {
            assert!(Arrows::drawn(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_crate_says_why_it_is_one() {
        assert_eq!(
            check_descriptions(&metadata()),
            ["b: no description in Cargo.toml: say why it is a crate"]
        );
    }

    #[test]
    fn the_domain_stays_pure() {
        assert!(check_domain_is_pure("hub-domain v0.1.0 (/x)\nserde_json v1\nserde_core v1\n").is_empty());
        assert_eq!(check_domain_is_pure("hub-domain v0.1.0 (/x)\nserde_derive v1\ntokio v1 (*)\n").len(), 2);
        assert_eq!(check_domain_is_pure("").len(), 1);
    }
}
