//! Queries, conditions and paths back to text, in canonical form and with as few parentheses as possible.
//! Must never write what parses to something else: `parse(print(q)) == q` for every query that was parsed.

use std::fmt::{self, Display, Formatter, Write};

use serde_json::Value;

use super::ast::{
    Arithmetic, Comparison, Condition, Expr, Item, ItemValue, OrderBy, OrderKey, Query, Scope, Select, Source,
};
use super::lexer::{Keyword, begins_name, continues_name};
use super::path::{Path, Root};

/// Whole numbers below this magnitude are written with all their digits.
const PLAIN_INTEGER_MAX: f64 = 1e15;

/// How tightly an expression binds; operands that bind less than their place demands get parentheses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Binding {
    Or,
    And,
    Not,
    Comparison,
    Sum,
    Product,
    Sign,
    Primary,
}

impl Display for Query {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("SELECT ")?;
        if let Some(top) = self.top {
            write!(f, "TOP {top} ")?;
        }
        match &self.select {
            Select::All => f.write_str("*")?,
            Select::Items(items) => list(f, items, ", ", item)?,
        }
        write!(f, " FROM {}", self.source())?;
        if let Scope::Where(expr) = &self.condition.scope {
            f.write_str(" WHERE ")?;
            expression(f, expr, Binding::Or)?;
        }
        if !self.group_by.is_empty() {
            f.write_str(" GROUP BY ")?;
            list(f, &self.group_by, ", ", |f, path| path.fmt(f))?;
        }
        if !self.order_by.is_empty() {
            f.write_str(" ORDER BY ")?;
            list(f, &self.order_by, ", ", |f, key| order_key(f, self, key))?;
        }
        Ok(())
    }
}

impl Display for Condition {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.scope {
            Scope::Everything if self.source == Source::Devices => f.write_str("*"),
            Scope::Everything => write!(f, "FROM {}", self.source),
            Scope::Nothing => Ok(()),
            Scope::Where(expr) => {
                if self.source != Source::Devices {
                    write!(f, "FROM {} WHERE ", self.source)?;
                }
                expression(f, expr, Binding::Or)
            }
        }
    }
}

impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        expression(f, self, Binding::Or)
    }
}

impl Display for Path {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.root().name())?;
        for (index, segment) in self.segments().iter().enumerate() {
            let first = index == 0 && self.root() == Root::Unknown;
            // Only behind a dot may a name stand in brackets.
            match (first, is_bare(segment)) {
                (true, true) => f.write_str(segment)?,
                (true, false) => write!(f, "devices.[[{segment}]]")?,
                (false, true) => write!(f, ".{segment}")?,
                (false, false) => write!(f, ".[[{segment}]]")?,
            }
        }
        Ok(())
    }
}

fn is_bare(name: &str) -> bool {
    name.starts_with(begins_name) && name.chars().all(continues_name) && Keyword::find(name).is_none()
}

fn list<T>(
    f: &mut Formatter<'_>,
    elements: &[T],
    separator: &str,
    mut write: impl FnMut(&mut Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            f.write_str(separator)?;
        }
        write(f, element)?;
    }
    Ok(())
}

fn item(f: &mut Formatter<'_>, item: &Item) -> fmt::Result {
    match &item.value {
        ItemValue::Path(path) => write!(f, "{path}")?,
        ItemValue::Count => f.write_str("COUNT()")?,
        ItemValue::Average(path) => write!(f, "AVG({path})")?,
        ItemValue::Sum(path) => write!(f, "SUM({path})")?,
        ItemValue::Minimum(path) => write!(f, "MIN({path})")?,
        ItemValue::Maximum(path) => write!(f, "MAX({path})")?,
    }
    match &item.alias {
        Some(alias) => {
            f.write_str(" AS ")?;
            column_name(f, alias)
        }
        None => Ok(()),
    }
}

fn column_name(f: &mut Formatter<'_>, name: &str) -> fmt::Result {
    if is_bare(name) { f.write_str(name) } else { write!(f, "[[{name}]]") }
}

fn order_key(f: &mut Formatter<'_>, query: &Query, key: &OrderKey) -> fmt::Result {
    match (&key.by, &query.select) {
        (OrderBy::Path(path), _) => order_path(f, path)?,
        (OrderBy::Column(index), Select::Items(items)) => match &items[*index] {
            Item { value: ItemValue::Path(path), .. } => order_path(f, path)?,
            aggregate => column_name(f, aggregate.output_key())?,
        },
        (OrderBy::Column(_), Select::All) => {}
    }
    f.write_str(if key.descending { " DESC" } else { "" })
}

/// A path that cannot be mistaken for an alias.
fn order_path(f: &mut Formatter<'_>, path: &Path) -> fmt::Result {
    let written = path.to_string();
    if path.is_unknown() && !written.contains('.') {
        f.write_str("devices.")?;
    }
    f.write_str(&written)
}

fn binding(expr: &Expr) -> Binding {
    match expr {
        Expr::Any(_) => Binding::Or,
        Expr::All(_) => Binding::And,
        Expr::Not(_) => Binding::Not,
        Expr::Compare { .. } | Expr::In { .. } => Binding::Comparison,
        Expr::Chain { rest, .. } => match rest.first() {
            Some((Arithmetic::Add | Arithmetic::Subtract, _)) => Binding::Sum,
            _ => Binding::Product,
        },
        Expr::Negate(_) => Binding::Sign,
        Expr::Undefined | Expr::Constant(_) | Expr::Path(_) | Expr::Call { .. } => Binding::Primary,
    }
}

fn expression(f: &mut Formatter<'_>, expr: &Expr, least: Binding) -> fmt::Result {
    if binding(expr) < least {
        f.write_char('(')?;
        expression(f, expr, Binding::Or)?;
        return f.write_char(')');
    }
    match expr {
        Expr::Undefined => f.write_str("undefined"),
        Expr::Constant(value) => constant(f, value),
        Expr::Path(path) => path.fmt(f),
        Expr::Call { function, arguments } => {
            write!(f, "{}(", function.name())?;
            list(f, arguments, ", ", |f, argument| expression(f, argument, Binding::Or))?;
            f.write_char(')')
        }
        Expr::Not(operand) => {
            f.write_str("NOT ")?;
            expression(f, operand, Binding::Not)
        }
        Expr::Negate(operand) => {
            f.write_char('-')?;
            expression(f, operand, Binding::Sign)
        }
        Expr::All(operands) => list(f, operands, " AND ", |f, operand| expression(f, operand, Binding::Not)),
        Expr::Any(operands) => list(f, operands, " OR ", |f, operand| expression(f, operand, Binding::And)),
        Expr::Chain { first, rest } => {
            let operands = if binding(expr) == Binding::Sum { Binding::Product } else { Binding::Sign };
            expression(f, first, operands)?;
            for (operator, operand) in rest {
                write!(f, " {} ", operator.symbol())?;
                expression(f, operand, operands)?;
            }
            Ok(())
        }
        Expr::Compare { operator, left, right } => {
            expression(f, left, Binding::Sum)?;
            write!(f, " {} ", operator.symbol())?;
            expression(f, right, Binding::Sum)
        }
        Expr::In { left, list: elements, negated } => {
            expression(f, left, Binding::Sum)?;
            f.write_str(if *negated { " NIN " } else { " IN " })?;
            array(f, elements)
        }
    }
}

fn array(f: &mut Formatter<'_>, elements: &[Value]) -> fmt::Result {
    f.write_char('[')?;
    list(f, elements, ", ", constant)?;
    f.write_char(']')
}

fn constant(f: &mut Formatter<'_>, value: &Value) -> fmt::Result {
    match value {
        Value::Null => f.write_str("null"),
        Value::Bool(flag) => write!(f, "{flag}"),
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or_default();
            if number.fract() == 0.0 && number.abs() < PLAIN_INTEGER_MAX {
                write!(f, "{number:.0}")
            } else {
                write!(f, "{number:?}")
            }
        }
        Value::String(text) => string(f, text),
        Value::Array(elements) => array(f, elements),
        // The parser makes no objects.
        Value::Object(_) => f.write_str("undefined"),
    }
}

fn string(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('\'')?;
    for character in text.chars() {
        match character {
            '\'' | '\\' => write!(f, "\\{character}")?,
            control if (control as u32) < 0x20 => write!(f, "\\u{:04X}", control as u32)?,
            other => f.write_char(other)?,
        }
    }
    f.write_char('\'')
}

impl Arithmetic {
    fn symbol(self) -> &'static str {
        match self {
            Arithmetic::Add => "+",
            Arithmetic::Subtract => "-",
            Arithmetic::Multiply => "*",
            Arithmetic::Divide => "/",
            Arithmetic::Remainder => "%",
        }
    }
}

impl Comparison {
    fn symbol(self) -> &'static str {
        match self {
            Comparison::Equal => "=",
            Comparison::NotEqual => "!=",
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
        }
    }
}
