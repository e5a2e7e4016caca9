//! `cargo xtask tidy`: the rules of `ARCHITECTURE.md` that a machine can keep.
//!
//! Every check takes what it looks at as an argument and answers with a list of problems, so that
//! each has a test in which it fails. A problem says where, what, and what would be right.

mod dependencies;
mod graph;
mod ratchet;
mod shape;
mod source;
mod text;
mod words;

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

use crate::{process, root};
use ratchet::Ratchet;
use source::Source;

const RATCHET_PATH: &str = "xtask/ratchet.txt";
const ARCHITECTURE_PATH: &str = "ARCHITECTURE.md";

/// Whether clippy, by far the slowest part, is among the checks.
#[derive(Clone, Copy, PartialEq)]
pub enum Lints {
    On,
    Off,
}

/// Runs every check and prints what is wrong; true when nothing is.
pub fn run(lints: Lints) -> Result<bool> {
    let files = Files::list()?;
    let sources = files.sources()?;
    let mut problems = Vec::new();

    let metadata =
        serde_json::from_str(&process::output(&["cargo", "metadata", "--format-version", "1", "--locked"])?)?;
    let architecture = read(ARCHITECTURE_PATH)?;
    problems
        .extend(graph::check_arrows(&graph::Arrows::drawn(&architecture)?, &graph::Arrows::built(&metadata)));
    problems.extend(graph::check_descriptions(&metadata));
    problems.extend(graph::check_domain_is_pure(&process::output(&[
        "cargo",
        "tree",
        "--locked",
        "--package",
        "hub-domain",
        "--edges",
        "normal",
        "--prefix",
        "none",
    ])?));
    problems.extend(dependencies::check(&metadata));

    let mut ratchet = Ratchet::parse(RATCHET_PATH, &read(RATCHET_PATH)?)?;
    for source in &sources {
        problems.extend(shape::check(source, &mut ratchet));
        problems.extend(words::check(source));
    }
    problems.extend(ratchet.unneeded());
    for path in &files.paths {
        if let Ok(content) = std::fs::read_to_string(root().join(path)) {
            problems.extend(text::check(path, &content)); // what is not UTF-8 is not text
        }
    }
    problems.extend(text::check_lock_file_is_kept(&files.committed));

    for problem in &problems {
        println!("tidy: {problem}");
    }
    let mut passed = problems.is_empty();
    passed &= process::show(&["cargo", "fmt", "--all", "--check"])?;
    if lints == Lints::On {
        passed &= process::show(&[
            "cargo",
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--quiet",
            "--",
            "-D",
            "warnings",
        ])?;
    }
    println!("tidy: {} files, {}", files.paths.len(), if passed { "all in order" } else { "NOT in order" });
    Ok(passed)
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(root().join(path)).with_context(|| format!("cannot read {path}"))
}

/// The files that belong to the repository, committed or about to be.
struct Files {
    paths: BTreeSet<String>,
    committed: BTreeSet<String>,
}

impl Files {
    fn list() -> Result<Self> {
        let lines = |text: String| text.lines().map(str::to_owned).collect::<BTreeSet<String>>();
        let committed = lines(process::output(&["git", "ls-files"])?);
        let added = lines(process::output(&["git", "ls-files", "--others", "--exclude-standard"])?);
        let is_there = |path: &String| Path::new(&root()).join(path).is_file();
        let paths = committed.iter().chain(&added).filter(|path| is_there(path)).cloned().collect();
        Ok(Self { paths, committed })
    }

    /// Every Rust file; those that a parent declares for tests only are marked as such.
    fn sources(&self) -> Result<Vec<Source>> {
        let rust = self.paths.iter().filter(|path| path.ends_with(".rs"));
        let mut sources =
            rust.map(|path| Ok(Source::new(path, &read(path)?))).collect::<Result<Vec<Source>>>()?;
        let for_tests: Vec<String> = sources.iter().flat_map(test_module_paths).collect();
        for source in &mut sources {
            if for_tests.iter().any(|path| source.path.starts_with(path.as_str())) {
                source.mark_as_test();
            }
        }
        Ok(sources)
    }
}

/// What the paths of a file's test-only modules begin with: `folder/name.` or `folder/name/`.
fn test_module_paths(source: &Source) -> Vec<String> {
    let (folder, file) = source.path.rsplit_once('/').unwrap_or(("", &source.path));
    let inner = match file {
        "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
        _ => format!("{folder}/{}", file.trim_end_matches(".rs")),
    };
    source
        .test_modules
        .iter()
        .flat_map(|name| [format!("{inner}/{name}.rs"), format!("{inner}/{name}/")])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_modules_are_found_beside_their_parent() {
        let paths = |path| test_module_paths(&Source::new(path, "#[cfg(test)]\nmod faults;\n"));
        assert_eq!(paths("crates/a/src/lib.rs"), ["crates/a/src/faults.rs", "crates/a/src/faults/"]);
        assert_eq!(paths("crates/a/src/x.rs"), ["crates/a/src/x/faults.rs", "crates/a/src/x/faults/"]);
    }
}
