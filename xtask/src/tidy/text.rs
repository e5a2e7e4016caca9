//! Text files of every kind: no blanks at line ends, one line end at the file's end, no tabs where
//! spaces are meant, and lock files that name no host to download from.

use std::collections::BTreeSet;

/// Files that others wrote and that stay as they are.
const FOREIGN: &[&str] = &["LICENSE"];
/// Line ends mean something in these, or they are recordings of what somebody sent.
const RAW: &[&str] = &[".transcript", ".bin", ".pem", ".svg"];
const SPACES_ONLY: &[&str] = &[".rs", ".py", ".toml", ".yml", ".yaml", ".json", ".js", ".mjs", ".ts"];

/// Problems with the text of one file.
pub fn check(path: &str, content: &str) -> Vec<String> {
    if FOREIGN.contains(&path) || ends_with_any(path, RAW) {
        return Vec::new();
    }
    let mut problems = Vec::new();
    for (number, line) in content.split('\n').enumerate() {
        let at = format!("{path}:{}", number + 1);
        if line.ends_with([' ', '\t', '\r']) {
            problems.push(format!("{at}: blanks at the end of the line"));
        }
        if ends_with_any(path, SPACES_ONLY) && line.contains('\t') {
            problems.push(format!("{at}: a tab; indent with spaces"));
        }
        if names_a_host(path, line) {
            problems
                .push(format!("{at}: names a host to download from: leave that to each machine's settings"));
        }
    }
    if !content.is_empty() && (!content.ends_with('\n') || content.ends_with("\n\n")) {
        problems.push(format!("{path}: ends with exactly one line end"));
    }
    problems
}

/// Problems: builds are repeatable only with the lock file.
pub fn check_lock_file_is_kept(committed: &BTreeSet<String>) -> Vec<String> {
    let missing = ["Cargo.lock"].into_iter().filter(|path| !committed.contains(*path));
    missing.map(|path| format!("{path}: is not committed")).collect()
}

fn names_a_host(path: &str, line: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let has_url = line.contains("://");
    match name {
        "package-lock.json" | "npm-shrinkwrap.json" => line.contains("\"resolved\"") && has_url,
        ".npmrc" | "pip.conf" => has_url,
        _ if name.starts_with("requirements") && name.ends_with(".txt") => has_url,
        _ if path.ends_with(".cargo/config.toml") => has_url,
        _ => false,
    }
}

fn ends_with_any(path: &str, ends: &[&str]) -> bool {
    ends.iter().any(|end| path.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_text(path: &str, content: &str, expected: &[&str]) {
        let problems = check(path, content);
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, part) in problems.iter().zip(expected) {
            assert!(problem.contains(part), "{problem}");
        }
    }

    #[test]
    fn lines() {
        check_text("a.md", "one\n\ntwo\n", &[]);
        check_text("a.md", "one \ntwo\r\n", &["a.md:1: blanks", "a.md:2: blanks"]);
        check_text("a.md", "one", &["exactly one"]);
        check_text("a.md", "one\n\n", &["exactly one"]);
        check_text("a.md", "", &[]);
        check_text("a.rs", "\tone\n", &["a tab"]);
        check_text("Makefile", "\tone\n", &[]);
        check_text("x/a.transcript", "> one \n", &[]);
    }

    #[test]
    fn lock_files_name_no_host() {
        let line = "\"resolved\": \"https://registry.example/x.tgz\",\n";
        check_text("e2e/package-lock.json", line, &["names a host"]);
        check_text("e2e/package-lock.json", "\"url\": \"https://example.com/funding\"\n", &[]);
        check_text("e2e/requirements.txt", "--index-url https://registry.example\n", &["names a host"]);
        check_text("e2e/requirements.txt", "pytest==9.0.0\n", &[]);
        check_text("docs/a.md", "https://example.com\n", &[]);
    }

    #[test]
    fn the_lock_file_is_kept() {
        assert_eq!(check_lock_file_is_kept(&BTreeSet::new()), ["Cargo.lock: is not committed"]);
        assert!(check_lock_file_is_kept(&BTreeSet::from(["Cargo.lock".to_owned()])).is_empty());
    }
}
