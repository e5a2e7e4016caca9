//! The crates of others: where they come from, under which licence, and which we never take.

use serde_json::Value;

use super::graph::text;

const SOURCE: &str = "registry+https://github.com/rust-lang/crates.io-index";
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];
const BANNED: &[(&str, &str)] = &[
    ("aws-lc-rs", "`ring` is the one cryptography provider"),
    ("openssl-sys", "TLS is rustls"),
    ("native-tls", "TLS is rustls"),
];

/// Problems with the packages in `metadata` that are not ours.
pub fn check(metadata: &Value) -> Vec<String> {
    let packages = metadata["packages"].as_array().into_iter().flatten();
    packages.filter(|package| !package["source"].is_null()).flat_map(check_package).collect()
}

fn check_package(package: &Value) -> Vec<String> {
    let (name, licence) = (text(package, "name"), text(package, "license"));
    let mut problems = Vec::new();
    if text(package, "source") != SOURCE {
        problems
            .push(format!("{name}: comes from {}, not from the common registry", text(package, "source")));
    }
    if !is_permitted(licence) {
        problems.push(format!("{name}: its licence `{licence}` is not among the permitted ones"));
    }
    if let Some((_, reason)) = BANNED.iter().find(|(banned, _)| *banned == name) {
        problems.push(format!("{name}: must not be used: {reason}"));
    }
    problems
}

/// Whether one side of each OR is permitted in all its parts.
fn is_permitted(licence: &str) -> bool {
    let plain = licence.replace(['(', ')'], " ").replace('/', " OR ");
    plain.split(" OR ").any(|side| side.split(" AND ").all(|part| LICENCES.contains(&part.trim())))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn licences() {
        for good in
            ["MIT", "GPL-3.0 OR MIT", "MIT/Apache-2.0", "(MIT OR GPL-2.0) AND Unicode-3.0", "Zlib OR X"]
        {
            assert!(is_permitted(good), "{good}");
        }
        for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "AGPL-3.0 OR SSPL-1.0"] {
            assert!(!is_permitted(bad), "{bad}");
        }
    }

    #[test]
    fn foreign_packages_are_looked_at_and_ours_are_not() {
        let package = |name: &str, source: Value, licence: Value| json!({"name": name, "source": source, "license": licence});
        let problems = check(&json!({"packages": [
            package("ours", Value::Null, Value::Null),
            package("good", json!(SOURCE), json!("MIT")),
            package("forked", json!("git+https://example.com/x"), json!("MIT")),
            package("silent", json!(SOURCE), Value::Null),
            package("openssl-sys", json!(SOURCE), json!("MIT")),
        ]}));
        let names: Vec<&str> = problems.iter().filter_map(|problem| problem.split(':').next()).collect();
        assert_eq!(names, ["forked", "silent", "openssl-sys"]);
    }
}
