//! Recursive descent over boolean and scalar expressions, loosest binding first:
//! OR, AND, NOT, comparisons and IN, + -, * / %, unary minus.
//! Must never recurse without passing `nested`, which bounds the stack of everything that later walks the tree.

use serde_json::Value;

use super::QUERY_NESTING_LEVELS_MAX;
use super::ast::{Arithmetic, Comparison, Expr};
use super::error::{QueryError, excerpt};
use super::function::Function;
use super::lexer::{Keyword, Kind};
use super::parser::Parser;

type Result<T> = std::result::Result<T, QueryError>;

const AGGREGATES: &[&str] = &["COUNT", "AVG", "SUM", "MIN", "MAX"];

impl Parser<'_> {
    pub(super) fn expression(&mut self) -> Result<Expr> {
        let first = self.conjunction()?;
        if *self.peek() != Kind::Keyword(Keyword::Or) {
            return Ok(first);
        }
        let mut operands = vec![first];
        while self.take(Keyword::Or) {
            operands.push(self.conjunction()?);
        }
        Ok(Expr::Any(operands))
    }

    fn conjunction(&mut self) -> Result<Expr> {
        let first = self.negation()?;
        if *self.peek() != Kind::Keyword(Keyword::And) {
            return Ok(first);
        }
        let mut operands = vec![first];
        while self.take(Keyword::And) {
            operands.push(self.negation()?);
        }
        Ok(Expr::All(operands))
    }

    fn negation(&mut self) -> Result<Expr> {
        if *self.peek() != Kind::Keyword(Keyword::Not) {
            return self.comparison();
        }
        let operand = self.nested(|parser| {
            parser.advance();
            parser.negation()
        })?;
        Ok(Expr::Not(Box::new(operand)))
    }

    fn comparison(&mut self) -> Result<Expr> {
        let left = Box::new(self.sum()?);
        let whole = match self.peek() {
            Kind::Keyword(keyword @ (Keyword::In | Keyword::Nin)) => {
                let negated = *keyword == Keyword::Nin;
                self.advance();
                Expr::In { left, list: self.in_list()?, negated }
            }
            _ => match self.comparison_operator() {
                Some(operator) => {
                    self.advance();
                    Expr::Compare { operator, left, right: Box::new(self.sum()?) }
                }
                None => return Ok(*left),
            },
        };
        let chained = self.comparison_operator().is_some()
            || matches!(self.peek(), Kind::Keyword(Keyword::In | Keyword::Nin));
        if chained {
            return Err(self.error_here(
                "Comparisons cannot be chained: put one of them in parentheses, or join with AND",
            ));
        }
        Ok(whole)
    }

    /// The comparison that comes next, not yet taken.
    fn comparison_operator(&self) -> Option<Comparison> {
        let Kind::Symbol(symbol) = self.peek() else { return None };
        Some(match *symbol {
            "=" => Comparison::Equal,
            "!=" | "<>" => Comparison::NotEqual,
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            _ => return None,
        })
    }

    fn in_list(&mut self) -> Result<Vec<Value>> {
        if !matches!(self.peek(), Kind::Symbol("[")) {
            let what = "a list of constants in square brackets, IN ['a', 'b'] (a property that is an array is searched \
                        with ARRAY_CONTAINS(path, value))";
            return Err(self.expected(what));
        }
        self.array()
    }

    fn sum(&mut self) -> Result<Expr> {
        let first = self.product()?;
        let mut rest = Vec::new();
        loop {
            let operator = match self.peek() {
                Kind::Symbol("+") => Arithmetic::Add,
                Kind::Symbol("-") => Arithmetic::Subtract,
                _ => return Ok(chain(first, rest)),
            };
            let hyphen = operator == Arithmetic::Subtract && self.is_hyphen();
            let start = self.token().start;
            self.advance();
            let operand = self.product()?;
            if let Expr::Path(path) = &operand
                && path.is_unknown()
                && hyphen
            {
                let message =
                    "A name with '-' in it needs double brackets: tags.[[my-key]]; write ' - ' to subtract";
                return Err(QueryError::at(self.text, start, message));
            }
            rest.push((operator, operand));
        }
    }

    /// Whether the minus that comes next stands inside what looks like one name, as in `tags.my-key`.
    fn is_hyphen(&self) -> bool {
        let minus = self.token();
        let touches = |end: usize| end == minus.start;
        matches!(self.previous(), Some(before) if touches(before.end) && matches!(before.kind, Kind::Name(_)))
            && self.text[minus.end..].starts_with(super::lexer::begins_name)
    }

    fn product(&mut self) -> Result<Expr> {
        let first = self.signed()?;
        let mut rest = Vec::new();
        loop {
            let operator = match self.peek() {
                Kind::Symbol("*") => Arithmetic::Multiply,
                Kind::Symbol("/") => Arithmetic::Divide,
                Kind::Symbol("%") => Arithmetic::Remainder,
                _ => return Ok(chain(first, rest)),
            };
            self.advance();
            rest.push((operator, self.signed()?));
        }
    }

    fn signed(&mut self) -> Result<Expr> {
        if !matches!(self.peek(), Kind::Symbol("-")) {
            return self.primary();
        }
        let operand = self.nested(|parser| {
            parser.advance();
            parser.signed()
        })?;
        Ok(match operand {
            Expr::Constant(Value::Number(number)) => Expr::Constant(negative(&number)),
            other => Expr::Negate(Box::new(other)),
        })
    }

    fn primary(&mut self) -> Result<Expr> {
        match self.peek() {
            Kind::Keyword(Keyword::Undefined) => {
                self.advance();
                Ok(Expr::Undefined)
            }
            Kind::Symbol("(") => self.nested(|parser| {
                parser.advance();
                let inner = parser.expression()?;
                if !parser.take_symbol(")") {
                    return Err(parser.expected("an operator or ')'"));
                }
                Ok(inner)
            }),
            Kind::Symbol("[") => Ok(Expr::Constant(Value::Array(self.array()?))),
            Kind::Word(_) if *self.peek_second() == Kind::Symbol("(") => self.nested(Self::call),
            Kind::Word(_) => Ok(Expr::Path(self.path()?)),
            _ => match self.constant()? {
                Some(value) => Ok(Expr::Constant(value)),
                None => Err(self.expected("a value: a property, a constant, a function or '('")),
            },
        }
    }

    /// A scalar constant, if one comes next.
    fn constant(&mut self) -> Result<Option<Value>> {
        let value = match self.peek() {
            Kind::Number(number) => Value::from(*number),
            Kind::Text(text) => Value::String(text.clone()),
            Kind::Keyword(Keyword::True) => Value::Bool(true),
            Kind::Keyword(Keyword::False) => Value::Bool(false),
            Kind::Keyword(Keyword::Null) => Value::Null,
            _ => return Ok(None),
        };
        self.advance();
        Ok(Some(value))
    }

    /// `[constant, …]`; the opening bracket comes next.
    fn array(&mut self) -> Result<Vec<Value>> {
        self.nested(|parser| {
            parser.expect_symbol("[")?;
            let mut elements = Vec::new();
            if parser.take_symbol("]") {
                return Ok(elements);
            }
            loop {
                elements.push(parser.element()?);
                if parser.take_symbol("]") {
                    return Ok(elements);
                }
                if !parser.take_symbol(",") {
                    return Err(parser.expected("',' or ']'"));
                }
            }
        })
    }

    fn element(&mut self) -> Result<Value> {
        if matches!(self.peek(), Kind::Symbol("[")) {
            return Ok(Value::Array(self.array()?));
        }
        if *self.peek() == Kind::Keyword(Keyword::Undefined) {
            return Err(self.error_here("undefined cannot be an element, as nothing equals it: leave it out"));
        }
        let minus = self.take_symbol("-");
        match self.constant()? {
            Some(Value::Number(number)) if minus => Ok(negative(&number)),
            Some(value) if !minus => Ok(value),
            _ => Err(self.expected("a constant: a string, a number, true, false, null or a list of such")),
        }
    }

    /// `NAME(argument, …)`; the name comes next and the parenthesis behind it.
    fn call(&mut self) -> Result<Expr> {
        let start = self.token().start;
        let name = match self.peek() {
            Kind::Word(name) => name.clone(),
            _ => return Err(self.expected("a function")),
        };
        self.advance();
        self.expect_symbol("(")?;
        let function =
            Function::find(&name).ok_or_else(|| QueryError::at(self.text, start, unknown_function(&name)))?;
        let mut arguments = Vec::new();
        if !self.take_symbol(")") {
            loop {
                arguments.push(self.expression()?);
                if self.take_symbol(")") {
                    break;
                }
                if !self.take_symbol(",") {
                    return Err(self.expected("an operator, ',' or ')'"));
                }
            }
        }
        let (least, most) = function.arity();
        if arguments.len() < least || arguments.len() > most {
            let right = match most {
                usize::MAX => format!("at least {least}"),
                most if most == least => least.to_string(),
                most => format!("{least} to {most}"),
            };
            let message = format!("{} takes {right} argument(s), not {}", function.name(), arguments.len());
            return Err(QueryError::at(self.text, start, message));
        }
        Ok(Expr::Call { function, arguments })
    }

    /// Runs `parse` one level deeper, unless that is too deep.
    fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.nesting == QUERY_NESTING_LEVELS_MAX {
            let message = format!("Nested too deeply: at most {QUERY_NESTING_LEVELS_MAX} levels are allowed");
            return Err(self.error_here(message));
        }
        self.nesting += 1;
        let parsed = parse(self)?;
        self.nesting -= 1;
        Ok(parsed)
    }
}

fn chain(first: Expr, rest: Vec<(Arithmetic, Expr)>) -> Expr {
    if rest.is_empty() { first } else { Expr::Chain { first: Box::new(first), rest } }
}

fn negative(number: &serde_json::Number) -> Value {
    Value::from(-number.as_f64().unwrap_or_default())
}

fn unknown_function(name: &str) -> String {
    if AGGREGATES.iter().any(|aggregate| aggregate.eq_ignore_ascii_case(name)) {
        return format!("{} is an aggregate: it can only stand in SELECT", name.to_ascii_uppercase());
    }
    let known: Vec<&str> = Function::ALL.iter().map(|function| function.name()).collect();
    format!("Unknown function '{}': there are {}", excerpt(name), known.join(", "))
}
