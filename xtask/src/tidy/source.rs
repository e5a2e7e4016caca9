//! What `tidy` knows of one Rust file: its code without comments and strings, which lines are
//! tests, and where each function begins and ends.
//!
//! A scanner, not a parser: it knows comments, literals and brackets, which is enough to count and
//! to look for words, and it never fails, whatever it is given.

/// One Rust file, looked through.
#[derive(Debug)]
pub struct Source {
    /// From the repository's top folder, with `/`.
    pub path: String,
    /// The code, with comments and the insides of literals turned into blanks; same lines, same columns.
    pub code: String,
    /// As `code`, but with string literals as they stand.
    pub text: String,
    /// Lines of the `//!` header at the top.
    pub header_lines: usize,
    /// Modules that live in files of their own and are compiled for tests only.
    pub test_modules: Vec<String>,
    /// For each line, whether it belongs to tests.
    is_test: Vec<bool>,
}

/// A function with a body.
#[derive(Debug, PartialEq)]
pub struct Function {
    pub name: String,
    pub first_line: usize,
    pub lines: usize,
}

impl Source {
    /// Looks through `raw`. Lines are counted from 0.
    pub fn new(path: &str, raw: &str) -> Self {
        let (code, text) = mask(raw);
        let header_lines = raw.lines().take_while(|line| line.starts_with("//!")).count();
        let mut source = Self {
            path: path.to_owned(),
            is_test: vec![is_test_path(path) || code.contains("#![cfg(test)]"); code.lines().count()],
            code,
            text,
            header_lines,
            test_modules: Vec::new(),
        };
        source.find_tests();
        source
    }

    /// The whole file is tests, because its parent says so.
    pub fn mark_as_test(&mut self) {
        self.is_test.fill(true);
    }

    /// Lines that contain code and are not tests.
    pub fn code_lines(&self) -> usize {
        let lines = self.code.lines().zip(&self.is_test);
        lines.filter(|(line, is_test)| !**is_test && !line.trim().is_empty()).count()
    }

    /// Lines of code that are not tests, with their number.
    pub fn product_lines<'a>(&'a self, view: &'a str) -> impl Iterator<Item = (usize, &'a str)> {
        view.lines().enumerate().filter(|(number, _)| !self.is_test[*number])
    }

    /// Functions with a body that are not tests.
    pub fn functions(&self) -> Vec<Function> {
        let mut functions = Vec::new();
        for at in word_positions(&self.code, "fn") {
            let rest = &self.code[at + 2..];
            let name: String = rest.trim_start().chars().take_while(|c| is_word_char(*c)).collect();
            let first_line = self.line_of(at);
            let Some(end) = item_end(&self.code, at) else { continue };
            if name.is_empty() || self.is_test[first_line] || !self.code[..=end].ends_with('}') {
                continue; // a function pointer type, a test, a declaration
            }
            functions.push(Function { name, first_line, lines: self.line_of(end) - first_line + 1 });
        }
        functions
    }

    /// The line that the byte `at` lies on.
    pub fn line_of(&self, at: usize) -> usize {
        self.code[..at].bytes().filter(|byte| *byte == b'\n').count()
    }

    fn find_tests(&mut self) {
        let starts: Vec<usize> = ["#[cfg(test)]", "#[cfg(all(test"]
            .iter()
            .flat_map(|marker| self.code.match_indices(marker).map(|(at, _)| at))
            .collect();
        for at in starts {
            let Some(end) = item_end(&self.code, at) else { continue };
            let (first, last) = (self.line_of(at), self.line_of(end));
            self.is_test[first..=last].fill(true);
            let item = &self.code[at..end];
            if let (Some(name), true) = (item.rsplit(' ').next(), self.code[..=end].ends_with(';'))
                && item.contains("mod ")
            {
                self.test_modules.push(name.to_owned());
            }
        }
    }
}

/// Positions of `word` in `code` that are not part of a longer name.
pub fn word_positions<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let starts_in_name = word.starts_with(is_word_char);
    let ends_in_name = word.ends_with(is_word_char);
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = code[..*at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !(starts_in_name && before.is_some_and(is_word_char)
            || ends_in_name && after.is_some_and(is_word_char))
    })
}

fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_test_path(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

/// The byte of the `}` or `;` that ends the item which starts at `from`, attributes included.
fn item_end(code: &str, from: usize) -> Option<usize> {
    let (mut inner, mut braces) = (0_i32, 0_i32);
    for (offset, byte) in code.bytes().enumerate().skip(from) {
        match byte {
            b'(' | b'[' => inner += 1,
            b')' | b']' => inner -= 1,
            b'{' => braces += 1,
            b'}' => {
                braces -= 1;
                if braces <= 0 && inner <= 0 {
                    return Some(offset);
                }
            }
            b';' if braces == 0 && inner <= 0 => return Some(offset),
            _ => {}
        }
    }
    None
}

/// Blanks comments out (second result), and the insides of literals too (first result).
fn mask(raw: &str) -> (String, String) {
    let chars: Vec<char> = raw.chars().collect();
    let mut masked = Masked::default();
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        let previous = at.checked_sub(1).map(|before| chars[before]);
        let (length, kind) = match rest {
            ['/', '/', ..] => (rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()), Kind::Comment),
            ['/', '*', ..] => (block_comment_len(rest), Kind::Comment),
            ['"', ..] => (string_len(rest), Kind::Literal),
            ['\'', ..] => (char_len(rest), Kind::Literal),
            ['r' | 'b' | 'c', ..] if !previous.is_some_and(is_word_char) => raw_string_len(rest),
            _ => (1, Kind::Code),
        };
        masked.push(&rest[..length], kind);
        at += length;
    }
    (masked.code, masked.text)
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

#[derive(Default)]
struct Masked {
    code: String,
    text: String,
}

impl Masked {
    fn push(&mut self, chars: &[char], kind: Kind) {
        for (index, c) in chars.iter().enumerate() {
            let is_border = index == 0 || index + 1 == chars.len();
            let blank = || " ".repeat(c.len_utf8());
            let keep = |keep: bool| if keep || *c == '\n' { c.to_string() } else { blank() };
            self.text.push_str(&keep(kind != Kind::Comment));
            self.code.push_str(&keep(kind == Kind::Code || kind == Kind::Literal && is_border));
        }
    }
}

fn block_comment_len(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match &rest[at..] {
            ['/', '*', ..] => (depth, at) = (depth + 1, at + 2),
            ['*', '/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at.min(rest.len())
}

fn string_len(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// A character literal, or 1 for the quote of a lifetime.
fn char_len(rest: &[char]) -> usize {
    match rest {
        ['\'', '\\', _, tail @ ..] => tail.iter().position(|c| *c == '\'').map_or(rest.len(), |end| end + 4),
        ['\'', _, '\'', ..] => 3,
        _ => 1,
    }
}

/// `r"…"`, `r#"…"#`, also with `b` or `c` before; otherwise one character of code.
fn raw_string_len(rest: &[char]) -> (usize, Kind) {
    let prefix = rest.iter().take(2).take_while(|c| matches!(c, 'b' | 'c' | 'r')).count();
    let hashes = rest[prefix..].iter().take_while(|c| **c == '#').count();
    let open = prefix + hashes + 1;
    if rest[prefix - 1] != 'r' || rest.get(open - 1) != Some(&'"') {
        return (1, Kind::Code);
    }
    let closes = |at: usize| {
        rest[at] == '"' && rest[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
    };
    let end = (open..rest.len()).find(|at| closes(*at)).map_or(rest.len(), |at| at + 1 + hashes);
    (end, Kind::Literal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_code(raw: &str, expected: &str) {
        let source = Source::new("a.rs", raw);
        assert_eq!(source.code, expected, "{raw}");
        assert_eq!(source.code.lines().count(), raw.lines().count(), "{raw}");
        assert_eq!(source.text.len(), raw.len(), "{raw}");
    }

    #[test]
    fn comments_and_literals_are_blanked() {
        check_code("a // tokio\nb", "a         \nb");
        check_code("a /* x /* y */ { */ b", "a                   b");
        check_code(r#"f("{ \" }");"#, r#"f("      ");"#);
        check_code("f(r#\"{ \" \"#, 'x', '\\'', '{');", "f(r       #, ' ', '  ', ' ');");
        check_code("br\"{\" r#type b'{'", "b   \" r#type b' '");
        check_code("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}");
        check_code("\"open\n{", "\"    \n{");
        check_code("/* open {", "         ");
    }

    #[test]
    fn tests_do_not_count() {
        let raw = "//! Head.\n\nfn a() {\n}\n\n#[cfg(test)]\n#[allow(x)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
        let source = Source::new("a.rs", raw);
        assert_eq!((source.header_lines, source.code_lines()), (1, 3));
        let names: Vec<String> = source.functions().into_iter().map(|function| function.name).collect();
        assert_eq!(names, ["a", "c"]);
        assert_eq!(Source::new("crates/x/tests/it/a.rs", raw).code_lines(), 0);
        assert_eq!(Source::new("a.rs", "#[cfg(test)]\nmod faults;\nmod other;\n").test_modules, ["faults"]);
        assert_eq!(Source::new("a.rs", "#[cfg(any(test, feature = \"x\"))]\nfn a() {}\n").code_lines(), 2);
    }

    #[test]
    fn functions_are_measured_whole() {
        let raw = "trait T { fn declared(&self) -> [u8; 2]; }\nfn long(f: fn(u8) -> u8) -> [u8; 2]\nwhere\n{\n    \"}\";\n    if x { y } else { z }\n}\n";
        let functions = Source::new("a.rs", raw).functions();
        assert_eq!(functions, [Function { name: "long".into(), first_line: 1, lines: 6 }]);
    }

    #[test]
    fn words_are_whole_words() {
        let code = "tokio::x tokio_util my_tokio http::A https::B ";
        assert_eq!(word_positions(code, "tokio").collect::<Vec<_>>(), [0]);
        assert_eq!(word_positions(code, "http::").collect::<Vec<_>>(), [code.find("http::").unwrap()]);
    }
}
