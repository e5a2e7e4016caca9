//! The shape of a parsed query. Everything here is in canonical form: names spelled as the documents spell them, paths
//! resolved, ORDER BY bound to what it sorts by. Must never hold what `print` could not write.

use std::fmt;

use serde_json::Value;

use super::function::Function;
use super::path::Path;

/// What a query ranges over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// `devices`: device twins.
    Devices,
    /// `devices.modules`: module twins.
    DeviceModules,
    /// `devices.jobs`: what became of a job on one device.
    DeviceJobs,
    /// `devices.retired`: devices that are retired and can be restored, as they were.
    RetiredDevices,
}

impl Source {
    /// As written behind FROM.
    pub fn name(self) -> &'static str {
        match self {
            Source::Devices => "devices",
            Source::DeviceModules => "devices.modules",
            Source::DeviceJobs => "devices.jobs",
            Source::RetiredDevices => "devices.retired",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The kind of rows in an answer: the value of the `x-ms-item-type` header, spelled as the SDKs demand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemType {
    /// Whole device or module twins.
    Twin,
    /// Whole job records of one device each.
    DeviceJob,
    /// Whole jobs. No query text asks for these; the job listing does.
    JobResponse,
    /// Projections and aggregates.
    Raw,
}

impl ItemType {
    /// The header's value.
    pub fn name(self) -> &'static str {
        match self {
            ItemType::Twin => "Twin",
            ItemType::DeviceJob => "DeviceJob",
            ItemType::JobResponse => "JobResponse",
            ItemType::Raw => "Raw",
        }
    }
}

/// A parsed `SELECT … FROM …`. `Display` writes it in canonical form, and parsing that gives an equal query.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    pub(super) top: Option<u64>,
    pub(super) select: Select,
    pub(super) condition: Condition,
    pub(super) group_by: Vec<Path>,
    pub(super) order_by: Vec<OrderKey>,
}

/// Which rows: a source and a bare boolean expression over it. Stands alone as a target condition of a configuration
/// or as the query condition of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    pub(super) source: Source,
    pub(super) scope: Scope,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Scope {
    Everything,
    Nothing,
    Where(Expr),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Select {
    All,
    Items(Vec<Item>),
}

/// One column of a projection.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    pub(super) value: ItemValue,
    pub(super) alias: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum ItemValue {
    Path(Path),
    Count,
    Average(Path),
    Sum(Path),
    Minimum(Path),
    Maximum(Path),
}

impl Item {
    /// The key in the row that comes out: the alias, the last name of the path, or the function in lower case.
    pub(super) fn output_key(&self) -> &str {
        if let Some(alias) = &self.alias {
            return alias;
        }
        match &self.value {
            ItemValue::Path(path) => path.output_key(),
            ItemValue::Count => "count",
            ItemValue::Average(_) => "avg",
            ItemValue::Sum(_) => "sum",
            ItemValue::Minimum(_) => "min",
            ItemValue::Maximum(_) => "max",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct OrderKey {
    pub(super) by: OrderBy,
    pub(super) descending: bool,
}

/// Rows are ordered by a path in them; aggregated rows, of which nothing else is left, by a column.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum OrderBy {
    Path(Path),
    Column(usize),
}

/// An expression. Chains are lists, so depth comes only from nesting, which the parser bounds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    Undefined,
    /// A constant. Numbers in it are doubles, arrays hold constants, and there are no objects.
    Constant(Value),
    Path(Path),
    Call {
        function: Function,
        arguments: Vec<Expr>,
    },
    Not(Box<Expr>),
    /// Unary minus on anything but a number constant, which is simply negative.
    Negate(Box<Expr>),
    /// AND of at least two.
    All(Vec<Expr>),
    /// OR of at least two.
    Any(Vec<Expr>),
    /// `first op x op y …`, left to right; the operators are all additive or all multiplicative, at least one.
    Chain {
        first: Box<Expr>,
        rest: Vec<(Arithmetic, Expr)>,
    },
    Compare {
        operator: Comparison,
        left: Box<Expr>,
        right: Box<Expr>,
    },
    In {
        left: Box<Expr>,
        list: Vec<Value>,
        negated: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// How two values are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

impl Comparison {
    /// What says the same with the operands exchanged.
    pub(super) fn flipped(self) -> Self {
        match self {
            Comparison::Less => Comparison::Greater,
            Comparison::LessOrEqual => Comparison::GreaterOrEqual,
            Comparison::Greater => Comparison::Less,
            Comparison::GreaterOrEqual => Comparison::LessOrEqual,
            symmetric => symmetric,
        }
    }

    /// What holds of two numbers exactly if this does not.
    pub fn complement(self) -> Self {
        match self {
            Comparison::Equal => Comparison::NotEqual,
            Comparison::NotEqual => Comparison::Equal,
            Comparison::Less => Comparison::GreaterOrEqual,
            Comparison::LessOrEqual => Comparison::Greater,
            Comparison::Greater => Comparison::LessOrEqual,
            Comparison::GreaterOrEqual => Comparison::Less,
        }
    }

    /// Whether it holds of two numbers, none of which is a NaN.
    pub fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Comparison::Equal => left == right,
            Comparison::NotEqual => left != right,
            Comparison::Less => left < right,
            Comparison::LessOrEqual => left <= right,
            Comparison::Greater => left > right,
            Comparison::GreaterOrEqual => left >= right,
        }
    }
}
