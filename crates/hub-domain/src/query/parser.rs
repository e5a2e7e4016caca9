//! Tokens to a [`Query`] or a [`Condition`]: clauses, columns and what they may refer to. Expressions are in
//! `expression`. Must never accept what cannot be answered: names of columns are unique, groups are complete.

use super::QUERY_COLUMNS_MAX;
use super::ast::{Condition, Item, ItemValue, OrderBy, OrderKey, Query, Scope, Select, Source};
use super::error::{QueryError, excerpt};
use super::lexer::{Keyword, Kind, Token, tokens};
use super::path::Path;

/// Largest row count behind TOP: whole numbers beyond it are not exact in a double.
const TOP_ROWS_MAX: f64 = 9_007_199_254_740_992.0;

/// What people coming from other dialects write, and what it is here.
const FOREIGN: &[(&str, &str)] = &[
    ("-", "a name with '-' in it needs double brackets: tags.[[my-key]]"),
    ("=", "compare with a single ="),
    ("NOT", "write NIN for NOT IN, and put NOT … in parentheses when it is an operand"),
    ("IS", "use IS_DEFINED(path), IS_NULL(path) or path = null"),
    ("LIKE", "use STARTSWITH, ENDSWITH or CONTAINS"),
    ("BETWEEN", "use path >= low AND path <= high"),
    ("DISTINCT", "use GROUP BY"),
    ("HAVING", "filter the groups after the query"),
    ("LIMIT", "use SELECT TOP n"),
    ("OFFSET", "page with the continuation token"),
    ("JOIN", "a query has one source"),
];

type Result<T> = std::result::Result<T, QueryError>;

impl Query {
    /// Parses a whole query.
    ///
    /// # Errors
    /// Says where the text stops being a query, and what would be right there.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parser = Parser::new(text)?;
        parser.find_source()?;
        parser.query()
    }

    /// The query behind EXPLAIN; `None` if the text does not begin with that word.
    ///
    /// # Errors
    /// As of [`Query::parse`], with places in the whole text.
    pub fn parse_explained(text: &str) -> Option<Result<Self>> {
        const WORD: &str = "EXPLAIN";
        let begin = text.len() - text.trim_start().len();
        let (before, rest) = text.split_at(begin);
        let word = rest.get(..WORD.len())?;
        let behind = &rest[WORD.len()..];
        let is_word = word.eq_ignore_ascii_case(WORD) && behind.starts_with(char::is_whitespace);
        // Blanks in its place leave every character behind it where it was.
        is_word.then(|| Self::parse(&format!("{before}{}{behind}", " ".repeat(WORD.len()))))
    }
}

impl Condition {
    /// Parses a bare condition: a boolean expression over devices, `*` for all of them, nothing at all for none, or
    /// `FROM devices.modules WHERE …` for modules.
    ///
    /// # Errors
    /// Says where the text stops being a condition, and what would be right there.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parser = Parser::new(text)?;
        match parser.peek() {
            Kind::End => return Ok(Self { source: Source::Devices, scope: Scope::Nothing }),
            Kind::Symbol("*") => {
                parser.advance();
                parser.end("the end: * stands alone and means all devices")?;
                return Ok(Self { source: Source::Devices, scope: Scope::Everything });
            }
            Kind::Keyword(Keyword::Select | Keyword::Where) => {
                let message = "A condition is only what stands behind WHERE in a query: tags.site = 'a'";
                return Err(parser.error_here(message));
            }
            Kind::Keyword(Keyword::From) => {
                parser.advance();
                parser.source = parser.source()?;
                parser.expect(Keyword::Where)?;
            }
            _ => {}
        }
        let scope = Scope::Where(parser.expression()?);
        parser.end("AND, OR or the end of the condition")?;
        Ok(Self { source: parser.source, scope })
    }
}

impl Path {
    /// Parses a path over twins, as it stands in a query: `tags.site`, `properties.reported.[[my-key]].level`.
    ///
    /// # Errors
    /// Says where the text stops being a path, and what would be right there.
    pub fn parse(text: &str) -> Result<Self> {
        let mut parser = Parser::new(text)?;
        let path = parser.path()?;
        parser.end("the end of the path")?;
        Ok(path)
    }
}

/// The state of parsing: a position in the tokens.
pub(super) struct Parser<'t> {
    pub(super) text: &'t str,
    tokens: Vec<Token>,
    at: usize,
    /// What the query ranges over: decides what names mean.
    pub(super) source: Source,
    /// How many nesting constructs are open, see `QUERY_NESTING_LEVELS_MAX`.
    pub(super) nesting: usize,
}

impl<'t> Parser<'t> {
    fn new(text: &'t str) -> Result<Self> {
        Ok(Self { text, tokens: tokens(text)?, at: 0, source: Source::Devices, nesting: 0 })
    }

    /// The next token; `End` is never passed.
    pub(super) fn token(&self) -> &Token {
        &self.tokens[self.at]
    }

    pub(super) fn peek(&self) -> &Kind {
        &self.token().kind
    }

    /// The kind of the token behind the next.
    pub(super) fn peek_second(&self) -> &Kind {
        self.tokens.get(self.at + 1).map_or(&Kind::End, |token| &token.kind)
    }

    /// The token before the next.
    pub(super) fn previous(&self) -> Option<&Token> {
        self.tokens[..self.at].last()
    }

    pub(super) fn advance(&mut self) {
        if self.at + 1 < self.tokens.len() {
            self.at += 1;
        }
    }

    /// Takes the next token if it is `symbol`.
    pub(super) fn take_symbol(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Kind::Symbol(found) if *found == symbol);
        if found {
            self.advance();
        }
        found
    }

    /// Takes the next token if it is `keyword`.
    pub(super) fn take(&mut self, keyword: Keyword) -> bool {
        let found = *self.peek() == Kind::Keyword(keyword);
        if found {
            self.advance();
        }
        found
    }

    pub(super) fn expect_symbol(&mut self, symbol: &str) -> Result<()> {
        if self.take_symbol(symbol) { Ok(()) } else { Err(self.expected(&format!("'{symbol}'"))) }
    }

    fn expect(&mut self, keyword: Keyword) -> Result<()> {
        if self.take(keyword) { Ok(()) } else { Err(self.expected(keyword.name())) }
    }

    fn end(&self, expected: &str) -> Result<()> {
        if *self.peek() == Kind::End { Ok(()) } else { Err(self.expected(expected)) }
    }

    pub(super) fn error_here(&self, message: impl Into<String>) -> QueryError {
        QueryError::at(self.text, self.token().start, message)
    }

    /// The error that the next token is not `what`.
    pub(super) fn expected(&self, what: &str) -> QueryError {
        let token = self.token();
        let written = &self.text[token.start..token.end];
        let mut message = match token.kind {
            Kind::End => format!("Expected {what}, found the end of the text"),
            _ => format!("Expected {what}, found '{}'", excerpt(written)),
        };
        if let Some((_, hint)) = FOREIGN.iter().find(|(foreign, _)| foreign.eq_ignore_ascii_case(written)) {
            message = format!("{message} ({hint})");
        }
        self.error_here(message)
    }

    /// Sets the source, which stands behind the columns that it gives meaning to.
    fn find_source(&mut self) -> Result<()> {
        let from = self.tokens.iter().position(|token| token.kind == Kind::Keyword(Keyword::From));
        if let Some(from) = from {
            self.at = from + 1;
            self.source = self.source()?;
            self.at = 0;
        }
        Ok(())
    }

    fn source(&mut self) -> Result<Source> {
        let start = self.token().start;
        let mut written = match self.peek() {
            Kind::Word(word) => word.clone(),
            _ => {
                return Err(
                    self.expected("a source: devices, devices.modules, devices.jobs or devices.retired")
                );
            }
        };
        self.advance();
        while self.take_symbol(".") {
            written = format!("{written}.{}", self.name()?);
        }
        let sources = [Source::Devices, Source::DeviceModules, Source::DeviceJobs, Source::RetiredDevices];
        let source = sources.into_iter().find(|source| source.name().eq_ignore_ascii_case(&written));
        source.ok_or_else(|| {
            let message = format!(
                "Unknown source '{}': use devices, devices.modules, devices.jobs or devices.retired",
                excerpt(&written)
            );
            QueryError::at(self.text, start, message)
        })
    }

    /// A name behind a dot or AS.
    fn name(&mut self) -> Result<String> {
        let Kind::Name(name) = self.peek() else {
            return Err(self.expected("a name, in double brackets if it has special characters: [[my name]]"));
        };
        let name = name.clone();
        self.advance();
        Ok(name)
    }

    /// The names of a path as written.
    fn path_names(&mut self) -> Result<Vec<String>> {
        let Kind::Word(first) = self.peek() else {
            return Err(self.expected("a property such as deviceId or tags.site"));
        };
        let mut names = vec![first.clone()];
        self.advance();
        while self.take_symbol(".") {
            names.push(self.name()?);
        }
        Ok(names)
    }

    pub(super) fn path(&mut self) -> Result<Path> {
        let start = self.token().start;
        let names = self.path_names()?;
        Path::resolve(self.source, names).map_err(|message| QueryError::at(self.text, start, message))
    }

    fn query(&mut self) -> Result<Query> {
        self.expect(Keyword::Select)?;
        let top = self.top()?;
        let select_start = self.token().start;
        let select = self.select()?;
        if !self.take(Keyword::From) {
            return Err(self.expected("',', AS or FROM"));
        }
        self.source()?;
        let scope = match self.take(Keyword::Where) {
            true => Scope::Where(self.expression()?),
            false => Scope::Everything,
        };
        let condition = Condition { source: self.source, scope };
        let group_by = self.group_by()?;
        let mut query = Query { top, select, condition, group_by, order_by: Vec::new() };
        check_columns(&query).map_err(|message| QueryError::at(self.text, select_start, message))?;
        query.order_by = self.order_by(&query)?;
        self.end("an operator, WHERE, GROUP BY, ORDER BY or the end of the query, each at most once and in this order")?;
        Ok(query)
    }

    fn top(&mut self) -> Result<Option<u64>> {
        if !self.take(Keyword::Top) {
            return Ok(None);
        }
        match self.peek() {
            Kind::Number(rows) if rows.fract() == 0.0 && *rows <= TOP_ROWS_MAX => {
                let rows = *rows as u64;
                self.advance();
                Ok(Some(rows))
            }
            _ => Err(self.expected("a whole number of rows behind TOP")),
        }
    }

    fn select(&mut self) -> Result<Select> {
        if self.take_symbol("*") {
            return Ok(Select::All);
        }
        Ok(Select::Items(self.list(Self::item)?))
    }

    fn item(&mut self) -> Result<Item> {
        let value = match (self.peek(), self.peek_second()) {
            (Kind::Word(_), Kind::Symbol("(")) => self.aggregate()?,
            (Kind::Word(_), _) => ItemValue::Path(self.path()?),
            _ => return Err(self.expected("*, a property or an aggregate such as COUNT()")),
        };
        let alias = if self.take(Keyword::As) { Some(self.name()?) } else { None };
        Ok(Item { value, alias })
    }

    fn aggregate(&mut self) -> Result<ItemValue> {
        let Kind::Word(name) = self.peek() else { return Err(self.expected("an aggregate")) };
        let of_path: fn(Path) -> ItemValue = match name.to_ascii_uppercase().as_str() {
            "COUNT" => {
                self.advance();
                self.advance();
                if !self.take_symbol(")") {
                    return Err(self.expected("')', since COUNT() counts rows and takes nothing"));
                }
                return Ok(ItemValue::Count);
            }
            "AVG" => ItemValue::Average,
            "SUM" => ItemValue::Sum,
            "MIN" => ItemValue::Minimum,
            "MAX" => ItemValue::Maximum,
            _ => {
                let choice =
                    "a property, or COUNT(), AVG(path), SUM(path), MIN(path) or MAX(path), in SELECT";
                return Err(self.expected(choice));
            }
        };
        self.advance();
        self.expect_symbol("(")?;
        let path = self.path()?;
        self.expect_symbol(")")?;
        Ok(of_path(path))
    }

    fn group_by(&mut self) -> Result<Vec<Path>> {
        if !self.take(Keyword::Group) {
            return Ok(Vec::new());
        }
        self.expect(Keyword::By)?;
        self.list(Self::path)
    }

    fn order_by(&mut self, query: &Query) -> Result<Vec<OrderKey>> {
        if !self.take(Keyword::Order) {
            return Ok(Vec::new());
        }
        self.expect(Keyword::By)?;
        self.list(|parser| {
            let start = parser.token().start;
            // Only a column can have a name that begins with brackets.
            let is_column = matches!(parser.peek(), Kind::Name(_));
            let names = if is_column { vec![parser.name()?] } else { parser.path_names()? };
            let by =
                order_target(query, names).map_err(|message| QueryError::at(parser.text, start, message))?;
            let descending = parser.take(Keyword::Desc);
            if !descending {
                parser.take(Keyword::Asc);
            }
            Ok(OrderKey { by, descending })
        })
    }

    /// One or more of what `parse` takes, with commas between them.
    fn list<T>(&mut self, parse: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let mut elements = vec![parse(self)?];
        while self.take_symbol(",") {
            if elements.len() == QUERY_COLUMNS_MAX {
                return Err(
                    self.error_here(format!("Too many names: at most {QUERY_COLUMNS_MAX} are allowed here"))
                );
            }
            elements.push(parse(self)?);
        }
        Ok(elements)
    }
}

/// Whether the columns of `query` have names of their own and, in groups, one value each.
fn check_columns(query: &Query) -> std::result::Result<(), String> {
    let Select::Items(items) = &query.select else {
        return match query.group_by.is_empty() {
            true => Ok(()),
            false => Err("GROUP BY needs named columns in SELECT instead of *".to_owned()),
        };
    };
    for (index, item) in items.iter().enumerate() {
        let key = item.output_key();
        if items[..index].iter().any(|other| other.output_key() == key && other.value != item.value) {
            let message = format!("Two columns are called '{}': name one of them with AS", excerpt(key));
            return Err(message);
        }
        if let ItemValue::Path(path) = &item.value
            && query.is_aggregate()
            && !query.group_by.contains(path)
        {
            return Err(format!(
                "'{}' has no single value in a group: add it to GROUP BY, or select an aggregate of it",
                excerpt(&path.to_string())
            ));
        }
    }
    Ok(())
}

/// What an ORDER BY of `names` sorts `query` by: a property, or a column by its alias.
fn order_target(query: &Query, names: Vec<String>) -> std::result::Result<OrderBy, String> {
    let items: &[Item] = match &query.select {
        Select::All => &[],
        Select::Items(items) => items,
    };
    let alias = if names.len() == 1 { names.first().cloned() } else { None };
    let path = Path::resolve(query.source(), names)?;
    let by_name = items.iter().position(|item| Some(item.output_key()) == alias.as_deref());
    if query.is_aggregate() {
        let by_path = items.iter().position(|item| item.value == ItemValue::Path(path.clone()));
        return by_path.or(by_name).map(OrderBy::Column).ok_or_else(|| {
            "ORDER BY in a query with aggregates or GROUP BY takes a column of its SELECT".to_owned()
        });
    }
    match by_name.map(|index| &items[index].value) {
        Some(ItemValue::Path(named)) if path.is_unknown() => Ok(OrderBy::Path(named.clone())),
        _ => Ok(OrderBy::Path(path)),
    }
}
