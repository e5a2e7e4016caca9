//! EXPLAIN: how a query is answered, as one row of the answer.
//! Must never tell of a plan that was not carried out: the numbers are those of the page that was just made.

use std::time::Duration;

use hub_domain::query::{Path, Plan, Query};
use hub_index::Selection;
use serde_json::{Value, json};

use super::scan::Scan;

/// What became of a query: the `rows` of its page came out of `scan` in the time that it `took`.
pub(super) fn row(query: &Query, scan: &Scan<'_>, rows: usize, took: Duration) -> Value {
    let mut row = json!({
        "query": query.to_string(),
        "rows": rows,
        "milliseconds": took.as_secs_f64() * 1000.0,
    });
    match scan {
        Scan::Twins(selection) => {
            let work = selection.work();
            row["from"] = "columns".into();
            row["plan"] = shown(&query.condition().plan(), &|path| is_in_columns(selection, path));
            row["chunks"] = work.chunks.into();
            row["chunksSkipped"] = work.chunks_skipped.into();
            row["rowsLookedAt"] = work.rows.into();
            row["rowsEvaluated"] = work.rows_evaluated.into();
            row["rowsFromTwins"] = work.rows_from_twins.into();
        }
        Scan::Named(_) => row["from"] = "named devices".into(),
        Scan::Jobs(_) => row["from"] = "job records".into(),
        Scan::Retired(_) => row["from"] = "retired devices".into(),
    }
    row
}

fn is_in_columns(selection: &Selection<'_>, path: &Path) -> bool {
    selection.lookups().any(|(known, in_columns)| known == path && in_columns)
}

/// A condition with how each of its terms is decided.
fn shown(plan: &Plan<'_>, is_in_columns: &dyn Fn(&Path) -> bool) -> Value {
    let all =
        |operands: &[Plan<'_>]| operands.iter().map(|plan| shown(plan, is_in_columns)).collect::<Value>();
    match plan {
        Plan::Everything => "*".into(),
        Plan::Nothing => "".into(),
        Plan::All(operands) => json!({ "all": all(operands) }),
        Plan::Any(operands) => json!({ "any": all(operands) }),
        Plan::Not(operand) => json!({ "not": shown(operand, is_in_columns) }),
        Plan::Term(term) => {
            let by = match term.paths() {
                paths if !paths.iter().all(|path| is_in_columns(path)) => "twins",
                [] | [_] => "columns",
                _ => "rows",
            };
            json!({ "term": term.to_string(), "by": by })
        }
    }
}
