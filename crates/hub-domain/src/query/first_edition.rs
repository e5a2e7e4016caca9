//! The JSON query of the first edition of device management: a document to the same [`Query`] that a text gives.
//! Must never pass over what it does not know: a misspelt filter would be a query for every device. The rules for users
//! are in `docs/compatibility.md`.

use serde_json::Value;

use super::ast::{
    Comparison, Condition, Expr, Item, ItemValue, OrderBy, OrderKey, Query, Scope, Select, Source,
};
use super::error::excerpt;
use super::function::Function;
use super::path::Path;
use super::{QUERY_COLUMNS_MAX, QUERY_FILTER_LEVELS_MAX, QUERY_TEXT_CHARS_MAX};
use crate::json::RuleError;

type Result<T> = std::result::Result<T, RuleError>;

impl Query {
    /// Reads an object with `filter`, `project`, `aggregate` and `sort`, or an array of tags that a device must all
    /// carry.
    ///
    /// # Errors
    /// Says which member is wrong, and what would be right there.
    pub fn from_document(document: &Value) -> Result<Self> {
        let root = Node { at: String::new(), value: document };
        let query = if document.is_array() { with_tags(&root)? } else { expression(&root)? };
        let chars = query.to_string().chars().count();
        if chars > QUERY_TEXT_CHARS_MAX {
            let problem =
                format!("is {chars} characters long as a text; at most {QUERY_TEXT_CHARS_MAX} are allowed");
            return Err(root.error(problem));
        }
        Ok(query)
    }
}

fn with_tags(root: &Node<'_>) -> Result<Query> {
    Ok(plain(Scope::Where(carries(root)?)))
}

/// All columns of some devices, in the order of their ids.
fn plain(scope: Scope) -> Query {
    let condition = Condition { source: Source::Devices, scope };
    Query { top: None, select: Select::All, condition, group_by: Vec::new(), order_by: Vec::new() }
}

fn expression(root: &Node<'_>) -> Result<Query> {
    root.members(&["filter", "project", "aggregate", "sort"])?;
    let scope = match root.get("filter") {
        Some(node) => Scope::Where(filter(&node, 0)?),
        None => Scope::Everything,
    };
    let mut query = plain(scope);
    match (root.get("project"), root.get("aggregate")) {
        (Some(_), Some(aggregate)) => {
            return Err(aggregate.error("cannot stand beside 'project': leave one of them out"));
        }
        (Some(project), None) => query.select = projection(&project)?,
        (None, Some(aggregate)) => (query.select, query.group_by) = aggregation(&aggregate)?,
        (None, None) => {}
    }
    if let Some(sort) = root.get("sort") {
        let keys = match sort.value {
            Value::Array(_) => sort.elements("an object or a list of objects with 'property' and 'order'")?,
            _ => vec![sort],
        };
        query.order_by = keys.iter().map(|key| order_key(&query, key)).collect::<Result<_>>()?;
    }
    Ok(query)
}

fn filter(node: &Node<'_>, level: usize) -> Result<Expr> {
    if level == QUERY_FILTER_LEVELS_MAX {
        let problem = format!("is nested too deeply: at most {QUERY_FILTER_LEVELS_MAX} levels are allowed");
        return Err(node.error(problem));
    }
    node.object()?;
    match node.need("type", "comparison or logical")?.word(&[("comparison", false), ("logical", true)])? {
        true => logical(node, level),
        false => comparison(node),
    }
}

/// What filters are joined by.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Join {
    And,
    Or,
    Not,
}

fn logical(node: &Node<'_>, level: usize) -> Result<Expr> {
    node.members(&["type", "logicalOperator", "filters"])?;
    let operator = node.need("logicalOperator", "and, or or not")?;
    let operator = operator.word(&[("and", Join::And), ("or", Join::Or), ("not", Join::Not)])?;
    let filters = node.need("filters", "a list of filters")?;
    let operands = filters.elements("a list of at least one filter")?;
    if operator == Join::Not && operands.len() > 1 {
        return Err(filters.error(format!("has {} filters; 'not' takes one", operands.len())));
    }
    let operands = operands.iter().map(|operand| filter(operand, level + 1)).collect::<Result<_>>()?;
    Ok(match operator {
        Join::And => all(operands),
        Join::Or => any(operands),
        Join::Not => not(all(operands)),
    })
}

/// What a comparison does with its value.
#[derive(Clone, Copy)]
enum Operator {
    Is(Comparison),
    Within { negated: bool },
    All,
}

const OPERATORS: &[(&str, Operator)] = &[
    ("eq", Operator::Is(Comparison::Equal)),
    ("ne", Operator::Is(Comparison::NotEqual)),
    ("gt", Operator::Is(Comparison::Greater)),
    ("gte", Operator::Is(Comparison::GreaterOrEqual)),
    ("lt", Operator::Is(Comparison::Less)),
    ("lte", Operator::Is(Comparison::LessOrEqual)),
    ("in", Operator::Within { negated: false }),
    ("nin", Operator::Within { negated: true }),
    ("all", Operator::All),
];

fn comparison(node: &Node<'_>) -> Result<Expr> {
    node.members(&["type", "property", "value", "comparisonOperator"])?;
    let property = node.need("property", Property::EXPECTED)?;
    let written = node.need("comparisonOperator", "an operator such as eq")?;
    let operator = written.word(OPERATORS)?;
    // Here null is a value.
    let Some(value) = node.member("value") else {
        return Err(node.error("has no 'value'; write null for a property that is not there"));
    };
    let path = match (Property::of(&property)?, operator) {
        (Property::DeviceTags, Operator::All) => return carries(&value),
        (Property::DeviceTags, _) => return Err(written.expected("all, the only operator for tags")),
        (other, _) => other.path(&property)?,
    };
    match operator {
        Operator::Is(comparison) => compared(comparison, path, &value),
        Operator::Within { negated } => {
            let list = value.elements("a list of values")?;
            let list = list.iter().map(Node::constant).collect::<Result<_>>()?;
            Ok(Expr::In { left: Box::new(Expr::Path(path)), list, negated })
        }
        Operator::All => {
            let wanted = value.elements("a list of values")?;
            let contains = |wanted: &Node<'_>| {
                let arguments = vec![Expr::Path(path.clone()), Expr::Constant(wanted.constant()?)];
                Ok(Expr::Call { function: Function::ArrayContains, arguments })
            };
            Ok(all(wanted.iter().map(contains).collect::<Result<_>>()?))
        }
    }
}

/// A comparison with one value; with null, whether there is one.
fn compared(operator: Comparison, path: Path, value: &Node<'_>) -> Result<Expr> {
    if !value.value.is_null() {
        let right = Box::new(Expr::Constant(value.constant()?));
        return Ok(Expr::Compare { operator, left: Box::new(Expr::Path(path)), right });
    }
    let about = |function| Expr::Call { function, arguments: vec![Expr::Path(path.clone())] };
    match operator {
        Comparison::Equal => Ok(any(vec![not(about(Function::IsDefined)), about(Function::IsNull)])),
        Comparison::NotEqual => Ok(all(vec![about(Function::IsDefined), not(about(Function::IsNull))])),
        _ => Err(value.expected("a value that has an order; null goes with eq and ne")),
    }
}

/// Whether a device has all the tags of a list.
fn carries(list: &Node<'_>) -> Result<Expr> {
    let names = list.elements("a list of at least one tag")?;
    let carried = |name: &Node<'_>| {
        let arguments = vec![Expr::Path(resolved(name, &["tags"])?)];
        Ok(Expr::Call { function: Function::IsDefined, arguments })
    };
    Ok(all(names.iter().map(carried).collect::<Result<_>>()?))
}

fn projection(node: &Node<'_>) -> Result<Select> {
    node.members(&["all", "properties"])?;
    let flag = node.get("all").map(|all| all.value.as_bool().ok_or_else(|| all.expected("true or false")));
    if flag.transpose()? == Some(true) {
        return Ok(Select::All);
    }
    let properties = node.need("properties", "a list of properties, or 'all' as true")?;
    let listed = properties.elements("a list of properties")?;
    let item =
        |node: &Node<'_>| Ok(Item { value: ItemValue::Path(Property::of(node)?.path(node)?), alias: None });
    let items = listed.iter().map(item).collect::<Result<_>>()?;
    named_apart(&properties, items)
}

fn aggregation(node: &Node<'_>) -> Result<(Select, Vec<Path>)> {
    node.members(&["keys", "properties"])?;
    let keys = node.need("keys", "a list of properties")?.elements("a list of properties to group by")?;
    let keys = keys.iter().map(|key| Property::of(key)?.path(key)).collect::<Result<Vec<_>>>()?;
    let properties = node.need("properties", "a list of aggregates")?;
    let aggregates = properties.elements("a list of aggregates")?;
    let columns = keys.iter().map(|key| Ok(Item { value: ItemValue::Path(key.clone()), alias: None }));
    let columns = columns.chain(aggregates.iter().map(|node| aggregate(node, &keys)));
    Ok((named_apart(node, columns.collect::<Result<_>>()?)?, keys))
}

/// The column that an aggregate of a path makes; `None` for what counts rows.
type OfPath = Option<fn(Path) -> ItemValue>;

const AGGREGATES: &[(&str, OfPath)] = &[
    ("sum", Some(ItemValue::Sum)),
    ("avg", Some(ItemValue::Average)),
    ("min", Some(ItemValue::Minimum)),
    ("max", Some(ItemValue::Maximum)),
    ("count", None),
];

fn aggregate(node: &Node<'_>, keys: &[Path]) -> Result<Item> {
    node.members(&["operator", "property", "columnName"])?;
    let operator = node.need("operator", "sum, avg, min, max or count")?.word(AGGREGATES)?;
    let property = node.get("property");
    let path = property.as_ref().map(|node| Property::of(node)?.path(node)).transpose()?;
    let value = match (operator, path) {
        (Some(of_path), Some(path)) => of_path(path),
        (Some(_), None) => {
            return Err(node.error(format!("has no 'property'; expected {}", Property::EXPECTED)));
        }
        (None, path) if path.as_ref().is_none_or(|path| keys.contains(path)) => ItemValue::Count,
        (None, _) => {
            let problem = "count counts the devices of a group: leave 'property' out, and filter with 'ne' null for \
                           those that have it";
            return Err(node.error(problem));
        }
    };
    let name = node.need("columnName", "the name of the column")?;
    let alias = name.text("a name without $ and ]]")?;
    if alias.is_empty() || alias.contains('$') || alias.contains("]]") {
        return Err(name.expected("a name without $ and ]]"));
    }
    Ok(Item { value, alias: Some(alias.to_owned()) })
}

/// Columns, unless two different ones have one name.
fn named_apart(node: &Node<'_>, items: Vec<Item>) -> Result<Select> {
    for (index, item) in items.iter().enumerate() {
        let key = item.output_key();
        if items[..index].iter().any(|other| other.output_key() == key && other.value != item.value) {
            return Err(node.error(format!("two columns would be called '{}'", excerpt(key))));
        }
    }
    Ok(Select::Items(items))
}

fn order_key(query: &Query, node: &Node<'_>) -> Result<OrderKey> {
    node.members(&["property", "order"])?;
    let descending = node.need("order", "asc or desc")?.word(&[("asc", false), ("desc", true)])?;
    let property = node.need("property", Property::EXPECTED)?;
    let found = Property::of(&property)?;
    let items: &[Item] = match &query.select {
        Select::Items(items) if query.is_aggregate() => items,
        _ => return Ok(OrderKey { by: OrderBy::Path(found.path(&property)?), descending }),
    };
    let is_meant = |item: &Item| match &found {
        Property::Column(name) => item.output_key() == *name,
        Property::Path(path) => item.value == ItemValue::Path(path.clone()),
        Property::DeviceTags => false,
    };
    let column = items.iter().position(is_meant);
    let missing = || property.error("is no column of 'aggregate': sort by one of its keys or columns");
    Ok(OrderKey { by: OrderBy::Column(column.ok_or_else(missing)?), descending })
}

/// What a node with `name` and `type` stands for.
enum Property<'v> {
    Path(Path),
    /// The tags that a device carries.
    DeviceTags,
    /// A column of the aggregation.
    Column(&'v str),
}

impl<'v> Property<'v> {
    const EXPECTED: &'static str = "an object with 'name' and 'type'";

    fn of(node: &Node<'v>) -> Result<Self> {
        node.members(&["name", "type"])?;
        let name = node.need("name", "the name of the property")?;
        let text = name.text("the name of the property")?;
        let kinds: [(&str, Option<&[&str]>); 4] = [
            ("device", Some(&["properties", "reported"])),
            ("service", Some(&["tags"])),
            ("default", Some(&[])),
            ("aggregated", None),
        ];
        let kind = node.need("type", "device, service, default or aggregated")?.word(&kinds)?;
        match kind {
            None => Ok(Property::Column(text)),
            Some([]) if text.eq_ignore_ascii_case("tags") => Ok(Property::DeviceTags),
            Some(section) => Ok(Property::Path(resolved(&name, section)?)),
        }
    }

    /// The path, where only a path can stand.
    fn path(self, node: &Node<'_>) -> Result<Path> {
        match self {
            Property::Path(path) => Ok(path),
            Property::DeviceTags => Err(node.error("tags are only compared, with the operator all")),
            Property::Column(_) => Err(node.error("a column of 'aggregate' can only be sorted by")),
        }
    }
}

/// The path of a name within a section; inner names are behind dots.
fn resolved(name: &Node<'_>, section: &[&str]) -> Result<Path> {
    let text = name.text("a name")?;
    if text.split('.').any(|inner| inner.is_empty() || inner.contains("]]")) {
        return Err(name.expected("a name, with a dot before each inner one and without ]]"));
    }
    let names = section.iter().copied().chain(text.split('.')).map(str::to_owned).collect();
    let path = Path::resolve(Source::Devices, names).map_err(|problem| name.error(problem))?;
    if path.is_unknown() {
        return Err(name.expected("a field of the device, such as deviceId or status"));
    }
    Ok(path)
}

fn not(operand: Expr) -> Expr {
    Expr::Not(Box::new(operand))
}

fn all(operands: Vec<Expr>) -> Expr {
    joined(operands, Expr::All)
}

fn any(operands: Vec<Expr>) -> Expr {
    joined(operands, Expr::Any)
}

/// One operand is itself.
fn joined(mut operands: Vec<Expr>, join: fn(Vec<Expr>) -> Expr) -> Expr {
    match operands.pop() {
        Some(only) if operands.is_empty() => only,
        Some(last) => {
            operands.push(last);
            join(operands)
        }
        None => join(operands),
    }
}

/// A value of the document and where it stands.
struct Node<'v> {
    at: String,
    value: &'v Value,
}

impl<'v> Node<'v> {
    fn error(&self, problem: impl Into<String>) -> RuleError {
        RuleError { path: self.at.clone(), problem: problem.into() }
    }

    fn expected(&self, what: &str) -> RuleError {
        self.error(format!("is {}; expected {what}", excerpt(&self.value.to_string())))
    }

    fn object(&self) -> Result<()> {
        if self.value.is_object() { Ok(()) } else { Err(self.expected("an object")) }
    }

    /// Whether it is an object that has no members but `known`.
    fn members(&self, known: &[&str]) -> Result<()> {
        self.object()?;
        let mut names = self.value.as_object().into_iter().flat_map(|object| object.keys());
        match names.find(|name| !known.contains(&name.as_str())) {
            Some(name) => {
                let name = excerpt(name);
                Err(self.error(format!("has an unknown member '{name}'; expected {}", known.join(", "))))
            }
            None => Ok(()),
        }
    }

    fn member(&self, name: &str) -> Option<Node<'v>> {
        let at = if self.at.is_empty() { name.to_owned() } else { format!("{}.{name}", self.at) };
        self.value.get(name).map(|value| Node { at, value })
    }

    /// A member; null is as if it were not there.
    fn get(&self, name: &str) -> Option<Node<'v>> {
        self.member(name).filter(|node| !node.value.is_null())
    }

    fn need(&self, name: &str, what: &str) -> Result<Node<'v>> {
        self.get(name).ok_or_else(|| self.error(format!("has no '{name}'; expected {what}")))
    }

    /// The elements of a list that is not empty.
    fn elements(&self, what: &str) -> Result<Vec<Node<'v>>> {
        let list = self.value.as_array().filter(|list| !list.is_empty());
        let list = list.ok_or_else(|| self.expected(what))?;
        if list.len() > QUERY_COLUMNS_MAX {
            let problem = format!("has {} elements; at most {QUERY_COLUMNS_MAX} are allowed", list.len());
            return Err(self.error(problem));
        }
        let node = |(index, value)| Node { at: format!("{}[{index}]", self.at), value };
        Ok(list.iter().enumerate().map(node).collect())
    }

    fn text(&self, what: &str) -> Result<&'v str> {
        self.value.as_str().ok_or_else(|| self.expected(what))
    }

    fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T> {
        let known = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        let found =
            words.iter().find(|(word, _)| self.value.as_str() == Some(*word)).map(|(_, meaning)| *meaning);
        found.ok_or_else(|| self.expected(&format!("one of {}", known())))
    }

    /// A constant as the language has it: numbers are doubles.
    fn constant(&self) -> Result<Value> {
        match self.value {
            Value::Null | Value::Bool(_) | Value::String(_) => Ok(self.value.clone()),
            Value::Number(number) => Ok(Value::from(number.as_f64().unwrap_or_default())),
            Value::Array(_) | Value::Object(_) => {
                Err(self.expected("a string, a number, true, false or null"))
            }
        }
    }
}
