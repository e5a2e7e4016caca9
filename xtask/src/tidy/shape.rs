//! The shape of a Rust file: its header, its length, the length of its functions. Tests do not count.

use super::ratchet::Ratchet;
use super::source::Source;

const FILE_CODE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const HEADER_LINES_MAX: usize = 12;

/// Problems with the shape of `source`, as far as `ratchet` does not excuse them.
pub fn check(source: &Source, ratchet: &mut Ratchet) -> Vec<String> {
    let path = &source.path;
    let mut problems = Vec::new();
    if source.header_lines == 0 && ratchet.limit("header", path, 1, 0) == 0 {
        problems
            .push(format!("{path}: no `//!` header: say what the file is for, and what it must never do"));
    }
    if source.header_lines > HEADER_LINES_MAX {
        let lines = source.header_lines;
        problems.push(format!(
            "{path}: a header of {lines} lines; at most {HEADER_LINES_MAX}, or split the module"
        ));
    }
    let lines = source.code_lines();
    let limit = ratchet.limit("file", path, lines, FILE_CODE_LINES_MAX);
    if lines > limit {
        problems.push(format!("{path}: {lines} lines of code; at most {limit}"));
    }
    for function in source.functions() {
        let (name, lines) = (format!("{path}::{}", function.name), function.lines);
        let limit = ratchet.limit("function", &name, lines, FUNCTION_LINES_MAX);
        if lines > limit {
            let line = function.first_line + 1;
            problems.push(format!(
                "{path}:{line}: function {} has {lines} lines; at most {limit}",
                function.name
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_shape(ratchet: &str, raw: &str, expected: &[&str]) {
        let mut ratchet = Ratchet::parse("list", ratchet).unwrap();
        let problems = check(&Source::new("a.rs", raw), &mut ratchet);
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, part) in problems.iter().zip(expected) {
            assert!(problem.contains(part), "{problem}");
        }
    }

    fn function(lines: usize) -> String {
        format!("//! Head.\nfn f() {{\n{}}}\n", "    x();\n".repeat(lines - 2))
    }

    #[test]
    fn headers() {
        check_shape("", "//! Head.\n", &[]);
        check_shape("", "// Head.\n", &["no `//!` header"]);
        check_shape("header a.rs made by a program", "// Head.\n", &[]);
        check_shape("", &"//! Head.\n".repeat(13), &["a header of 13 lines"]);
    }

    #[test]
    fn lengths() {
        check_shape("", &function(70), &[]);
        check_shape("", &function(71), &["a.rs:2: function f has 71 lines; at most 70"]);
        check_shape("function a.rs::f 71 one table", &function(71), &[]);
        check_shape("function a.rs::f 71 one table", &function(72), &["at most 71"]);
        check_shape("", &format!("//! Head.\n{}", "const A: u8 = 1;\n\n// why\n".repeat(600)), &[]);
        check_shape("", &format!("//! Head.\n{}", "const A: u8 = 1;\n".repeat(601)), &["601 lines of code"]);
        check_shape("", &format!("//! Head.\n#[cfg(test)]\nmod tests {{\n{}}}\n", function(900)), &[]);
    }
}
