//! Text to tokens. Knows words, numbers, strings, `[[names]]` and comments; nothing of grammar.
//! Must never look at more text than the limit allows, whatever it was given.

use super::QUERY_TEXT_CHARS_MAX;
use super::error::{QueryError, excerpt};

/// One token and the bytes of the text that it came from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// A reserved word; never behind a dot or AS, where every word is a name.
    Keyword(Keyword),
    /// Any other word.
    Word(String),
    /// A name behind a dot or AS, bare or in double brackets.
    Name(String),
    Number(f64),
    Text(String),
    /// One of [`SYMBOLS`].
    Symbol(&'static str),
    End,
}

/// Longest first, so that `<=` is not read as `<`.
const SYMBOLS: &[&str] =
    &["<=", ">=", "<>", "!=", "=", "<", ">", "+", "-", "*", "/", "%", "(", ")", "[", "]", ",", "."];

/// What people coming from other languages write, and what it is here.
const STRANGERS: &[(&str, &str)] = &[
    ("&", "use AND"),
    ("|", "use OR"),
    ("!", "use NOT or !="),
    (";", "a query ends without a semicolon"),
    ("`", "names are escaped with double brackets: tags.[[my name]]"),
    ("{", "objects cannot be written in a query, compare their members one by one"),
];

macro_rules! keywords {
    ($($name:ident = $text:literal,)*) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Keyword { $($name,)* }

        impl Keyword {
            /// In upper case.
            pub(super) fn name(self) -> &'static str {
                match self { $(Keyword::$name => $text,)* }
            }

            /// The keyword that `word` is, in any case.
            pub(super) fn find(word: &str) -> Option<Self> {
                [$(Keyword::$name,)*].into_iter().find(|keyword| keyword.name().eq_ignore_ascii_case(word))
            }
        }
    };
}

keywords! {
    Select = "SELECT",
    Top = "TOP",
    From = "FROM",
    Where = "WHERE",
    Group = "GROUP",
    Order = "ORDER",
    By = "BY",
    Asc = "ASC",
    Desc = "DESC",
    As = "AS",
    And = "AND",
    Or = "OR",
    Not = "NOT",
    In = "IN",
    Nin = "NIN",
    True = "TRUE",
    False = "FALSE",
    Null = "NULL",
    Undefined = "UNDEFINED",
}

/// Whether `character` may begin a bare name.
pub(super) fn begins_name(character: char) -> bool {
    character.is_alphabetic() || character == '_' || character == '$'
}

/// Whether `character` may stand inside a bare name.
pub(super) fn continues_name(character: char) -> bool {
    begins_name(character) || character.is_numeric()
}

/// The tokens of `text`, the last of which is `End`.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, QueryError> {
    if text.chars().nth(QUERY_TEXT_CHARS_MAX).is_some() {
        let message = format!("The text is too long: at most {QUERY_TEXT_CHARS_MAX} characters are allowed");
        return Err(QueryError { line: 1, column: 1, message });
    }
    let mut lexer = Lexer { text, at: 0, in_order: false };
    let mut tokens: Vec<Token> = Vec::new();
    loop {
        lexer.skip_blank()?;
        let start = lexer.at;
        let names_follow = matches!(
            tokens.last().map(|token| &token.kind),
            Some(Kind::Symbol(".") | Kind::Keyword(Keyword::As))
        );
        let kind = lexer.token(names_follow)?;
        lexer.in_order |= kind == Kind::Keyword(Keyword::Order);
        let last = kind == Kind::End;
        tokens.push(Token { kind, start, end: lexer.at });
        if last {
            return Ok(tokens);
        }
    }
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
    /// Behind ORDER, where no list of lists can stand, so that two brackets begin the name of a column.
    in_order: bool,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn error(&self, at: usize, message: impl Into<String>) -> QueryError {
        QueryError::at(self.text, at, message)
    }

    /// Takes the longest run of characters that `belongs` accepts.
    fn take(&mut self, belongs: impl Fn(char) -> bool) -> &'t str {
        let rest = self.rest();
        let taken = &rest[..rest.find(|character| !belongs(character)).unwrap_or(rest.len())];
        self.at += taken.len();
        taken
    }

    /// Skips white space and `/* comments */`.
    fn skip_blank(&mut self) -> Result<(), QueryError> {
        loop {
            self.take(char::is_whitespace);
            if !self.rest().starts_with("/*") {
                return Ok(());
            }
            match self.rest()[2..].find("*/") {
                Some(length) => self.at += length + 4,
                None => return Err(self.error(self.at, "This comment has no end: close it with */")),
            }
        }
    }

    fn token(&mut self, names_follow: bool) -> Result<Kind, QueryError> {
        let Some(first) = self.peek() else { return Ok(Kind::End) };
        if (names_follow || self.in_order) && self.rest().starts_with("[[") {
            return self.bracketed_name();
        }
        if begins_name(first) {
            let word = self.take(continues_name);
            if names_follow {
                return Ok(Kind::Name(word.to_owned()));
            }
            return Ok(match Keyword::find(word) {
                Some(keyword) => Kind::Keyword(keyword),
                None => Kind::Word(word.to_owned()),
            });
        }
        if first.is_ascii_digit() {
            return self.number();
        }
        if first == '\'' || first == '"' {
            return self.string(first);
        }
        if let Some(symbol) = SYMBOLS.iter().find(|symbol| self.rest().starts_with(**symbol)) {
            self.at += symbol.len();
            return Ok(Kind::Symbol(symbol));
        }
        let mut message = format!("Unexpected character at input '{first}'");
        if let Some((_, hint)) = STRANGERS.iter().find(|(text, _)| self.rest().starts_with(*text)) {
            message = format!("{message}: {hint}");
        }
        Err(self.error(self.at, message))
    }

    /// `[[name]]`: everything up to the closing brackets. Of three or more in a row the last two close.
    fn bracketed_name(&mut self) -> Result<Kind, QueryError> {
        let start = self.at;
        let inner = &self.rest()[2..];
        let Some(mut length) = inner.find("]]") else {
            return Err(self.error(start, "This name has no end: close it with ]]"));
        };
        while inner[length + 2..].starts_with(']') {
            length += 1;
        }
        if length == 0 {
            return Err(self.error(start, "A name in double brackets must not be empty: write [[name]]"));
        }
        self.at += length + 4;
        Ok(Kind::Name(inner[..length].to_owned()))
    }

    /// Decimal with optional fraction and exponent, or `0x` and up to 16 hexadecimal digits.
    fn number(&mut self) -> Result<Kind, QueryError> {
        let start = self.at;
        let number = if self.rest().starts_with("0x") || self.rest().starts_with("0X") {
            self.at += 2;
            let digits = self.take(|character| character.is_ascii_hexdigit());
            u64::from_str_radix(digits, 16).ok().map(|number| number as f64)
        } else {
            self.take(|character| character.is_ascii_digit());
            if self.peek() == Some('.') {
                self.at += 1;
                self.take(|character| character.is_ascii_digit());
            }
            if matches!(self.peek(), Some('e' | 'E')) {
                self.at += 1;
                self.take(|character| matches!(character, '+' | '-'));
                self.take(|character| character.is_ascii_digit());
            }
            let text = &self.text[start..self.at];
            if text.ends_with('.') {
                None
            } else {
                text.parse().ok().filter(|number: &f64| number.is_finite())
            }
        };
        let trailing = self.take(continues_name);
        match number {
            Some(number) if trailing.is_empty() => Ok(Kind::Number(number)),
            _ => {
                let written = excerpt(&self.text[start..self.at]);
                let hint = "write numbers like 12, 0.5, 2e3 or 0x1F, and names that begin with a digit like tags.[[1a]]";
                Err(self.error(start, format!("'{written}' is not a number in range: {hint}")))
            }
        }
    }

    /// A string in either kind of quotes, which is doubled or escaped inside.
    fn string(&mut self, quote: char) -> Result<Kind, QueryError> {
        let start = self.at;
        let mut value = String::new();
        self.at += 1;
        loop {
            value.push_str(self.take(|character| character != quote && character != '\\'));
            match self.peek() {
                None => {
                    return Err(self.error(start, format!("This string has no end: close it with {quote}")));
                }
                Some('\\') => value.push(self.escape()?),
                Some(_) => {
                    self.at += 1;
                    if self.peek() != Some(quote) {
                        return Ok(Kind::Text(value));
                    }
                    value.push(quote);
                    self.at += 1;
                }
            }
        }
    }

    /// The character behind a backslash.
    fn escape(&mut self) -> Result<char, QueryError> {
        let start = self.at;
        self.at += 1;
        let escaped = self.peek();
        match escaped {
            Some(character @ ('\'' | '"' | '\\')) => {
                self.at += 1;
                Ok(character)
            }
            Some('u') => {
                self.at += 1;
                let wrong =
                    "\\u takes four hexadecimal digits, and characters above FFFF a pair: \\uD83D\\uDE00";
                self.unicode_escape().ok_or_else(|| self.error(start, wrong))
            }
            _ => Err(self.error(
                start,
                "Unknown escape: there are \\' \\\" \\\\ and \\uXXXX; write a backslash as \\\\",
            )),
        }
    }

    /// The character of `XXXX`, or of the surrogate pair `XXXX\uXXXX`.
    fn unicode_escape(&mut self) -> Option<char> {
        let first = self.four_digits()?;
        if !(0xD800..0xDC00).contains(&first) {
            return char::from_u32(first);
        }
        self.at += self.rest().starts_with("\\u").then_some(2)?;
        let second = self.four_digits()?.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
        char::from_u32(0x10000 + ((first - 0xD800) << 10) + second)
    }

    fn four_digits(&mut self) -> Option<u32> {
        let digits =
            self.rest().get(..4).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        self.at += 4;
        u32::from_str_radix(digits, 16).ok()
    }
}
