//! Queries over twins and job records: parse, select, in the order of names, page by page.
//!
//! A page's token says where the next one begins, and is signed, so that nobody can make one up. Other tasks get to run
//! after every chunk of rows, and no lock is held while rows are looked at.

mod explain;
mod scan;
pub mod watch;

use std::fmt::Display;
use std::sync::atomic::Ordering;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::Mac;
use hub_domain::id::JobId;
use hub_domain::job::ItemStatus;
use hub_domain::limits::{QUERY_PAGE_ROWS_DEFAULT, QUERY_PAGE_ROWS_MAX};
use hub_domain::query::{Aggregation, ItemType, Query, TopRows};
use hub_domain::rights::Rights;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::Hub;
use crate::access::Principal;
use crate::error::{Error, Result};
use scan::{Found, Scan};

/// One page of a query's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryPage {
    /// What kind of rows they are.
    pub item_type: ItemType,
    /// The rows, each as JSON text.
    pub rows: Vec<String>,
    /// Pass it back, with the same query, for the next page. `None` on the last.
    pub continuation: Option<String>,
}

impl QueryPage {
    /// The rows again, for whoever does not only hand them on.
    pub fn values(&self) -> Vec<Value> {
        self.rows.iter().map(|row| serde_json::from_str(row).expect("printed here")).collect()
    }
}

/// Where a page begins.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Place {
    /// Rows given so far.
    given: u64,
    /// Names the last row given; scans in the order of names go on after it.
    pub(crate) last: Option<String>,
}

impl Hub {
    /// Answers one page of a query. Sees every write that was acknowledged before.
    pub async fn query(
        &self,
        who: &Principal,
        text: &str,
        page_rows: Option<usize>,
        continuation: Option<&str>,
    ) -> Result<QueryPage> {
        who.must(Rights::SERVICE_CONNECT)?;
        let explained = Query::parse_explained(text);
        let is_explained = explained.is_some();
        let query = explained.unwrap_or_else(|| Query::parse(text)).map_err(invalid)?;
        self.query_page(&query, text, is_explained, page_rows, continuation).await
    }

    /// Answers one page of a JSON query of the first edition, as [`Hub::query`] does of a text.
    pub async fn query_document(
        &self,
        who: &Principal,
        document: &Value,
        page_rows: Option<usize>,
        continuation: Option<&str>,
    ) -> Result<QueryPage> {
        who.must(Rights::SERVICE_CONNECT)?;
        let query = Query::from_document(document).map_err(invalid)?;
        self.query_page(&query, &query.to_string(), false, page_rows, continuation).await
    }

    /// Lists the records of a job's targets, all or those that stand at `status`.
    pub async fn job_targets(
        &self,
        who: &Principal,
        job: &JobId,
        status: Option<ItemStatus>,
        page_rows: Option<usize>,
        continuation: Option<&str>,
    ) -> Result<QueryPage> {
        self.job_get(who, job).await?;
        let query = Query::of_job(job, status);
        self.query_page(&query, &query.to_string(), false, page_rows, continuation).await
    }

    async fn query_page(
        &self,
        query: &Query,
        text: &str,
        is_explained: bool,
        page_rows: Option<usize>,
        continuation: Option<&str>,
    ) -> Result<QueryPage> {
        let page_rows = page_rows.unwrap_or(QUERY_PAGE_ROWS_DEFAULT).clamp(1, QUERY_PAGE_ROWS_MAX);
        let place = continuation.map_or(Ok(Place::default()), |token| self.open_token(text, token))?;
        self.counters.queries.fetch_add(1, Ordering::Relaxed);
        let left = query.top().map_or(u64::MAX, |top| top.saturating_sub(place.given));
        let rows_max = page_rows.min(usize::try_from(left).unwrap_or(usize::MAX));
        let begun = self.clock.now();
        let mut scan = Scan::new(self, query, place.last.as_deref())?;
        let (rows, next) = if query.is_aggregate() || query.is_ordered() {
            whole_page(query, &mut scan, place, rows_max).await?
        } else {
            scanned_page(query, &mut scan, place, rows_max).await?
        };
        if is_explained {
            let took = self.clock.now().since(begun);
            let row = explain::row(query, &scan, rows.len(), took);
            return Ok(QueryPage {
                item_type: ItemType::Raw,
                rows: vec![row.to_string()],
                continuation: None,
            });
        }
        let next = next.filter(|next| query.top().is_none_or(|top| next.given < top));
        let continuation = next.map(|next| self.make_token(text, next.given, next.last.as_deref()));
        Ok(QueryPage { item_type: query.item_type(), rows, continuation })
    }

    /// How many rows a query has, over all pages.
    pub(crate) async fn count_rows(&self, text: &str) -> Result<u64> {
        let query = Query::parse(text).map_err(invalid)?;
        let mut scan = Scan::new(self, &query, None)?;
        if query.is_aggregate() {
            return Ok(aggregated(&query, &mut scan).await?.len() as u64);
        }
        let mut count = 0;
        if let Scan::Twins(selection) = &mut scan {
            while let Some(some) = selection.count_some() {
                count += some;
                tokio::task::yield_now().await;
            }
        } else {
            while scan.next().await?.is_some() {
                count += 1;
            }
        }
        Ok(query.top().map_or(count, |top| top.min(count)))
    }

    pub(crate) fn make_token(&self, scope: &str, given: u64, last: Option<&str>) -> String {
        let body = format!("{given} {}", last.unwrap_or_default());
        BASE64.encode([self.token_mac(scope, &body).as_slice(), body.as_bytes()].concat())
    }

    pub(crate) fn open_token(&self, scope: &str, token: &str) -> Result<Place> {
        let place = || {
            let bytes = BASE64.decode(token).ok()?;
            let (mac, body) = bytes.split_at_checked(MAC_BYTES)?;
            let body = std::str::from_utf8(body).ok()?;
            let (given, last) = body.split_once(' ').filter(|_| self.token_mac(scope, body) == mac)?;
            let last = Some(last).filter(|last| !last.is_empty()).map(str::to_owned);
            Some(Place { given: given.parse().ok()?, last })
        };
        place().ok_or(Error::InvalidContinuation)
    }

    fn token_mac(&self, scope: &str, body: &str) -> Vec<u8> {
        let digest = Sha256::digest(scope);
        self.secret.mac(&[b"query", digest.as_slice(), body.as_bytes()]).finalize().into_bytes()[..MAC_BYTES]
            .to_vec()
    }
}

fn invalid(error: impl Display) -> Error {
    Error::Invalid(format!("The query is invalid: {error}"))
}

/// A page in the order of names: goes on after the last one, and looks one match ahead, because a token must
/// never be followed by an empty page (S 7.1).
async fn scanned_page(
    query: &Query,
    scan: &mut Scan<'_>,
    mut place: Place,
    rows_max: usize,
) -> Result<(Vec<String>, Option<Place>)> {
    let mut rows = Vec::new();
    while let Some(found) = scan.next().await? {
        if rows.len() == rows_max {
            place.given += rows.len() as u64;
            return Ok((rows, Some(place)));
        }
        rows.push(found.show(query));
        place.last = Some(found.name());
    }
    Ok((rows, None))
}

/// A page of something that needs all rows first: an aggregation or an order.
async fn whole_page<'q>(
    query: &'q Query,
    scan: &mut Scan<'q>,
    place: Place,
    rows_max: usize,
) -> Result<(Vec<String>, Option<Place>)> {
    let begin = usize::try_from(place.given).unwrap_or(usize::MAX);
    let end = begin.saturating_add(rows_max);
    // One more than the page has, which tells whether there is another.
    let all = if query.is_aggregate() {
        aggregated(query, scan).await?.into_iter().map(WholeRow::Group).collect()
    } else {
        ordered(query, scan, end.saturating_add(1)).await?
    };
    let next = (end < all.len()).then_some(Place { given: end as u64, last: None });
    let rows = all.iter().take(end).skip(begin).map(|row| match row {
        WholeRow::Group(value) => value.to_string(),
        WholeRow::Found(found) => found.show(query),
    });
    Ok((rows.collect(), next))
}

async fn aggregated<'q>(query: &'q Query, scan: &mut Scan<'q>) -> Result<Vec<Value>> {
    let mut aggregation = Aggregation::new(query);
    if let Scan::Twins(selection) = scan {
        while selection.aggregate_some(&mut aggregation).map_err(invalid)? {
            tokio::task::yield_now().await;
        }
    } else {
        while let Some(found) = scan.next().await? {
            found.with_row(|row| aggregation.add(row)).map_err(invalid)?;
        }
    }
    Ok(aggregation.finish())
}

/// The first `rows_max` rows in the order that the query asks for.
async fn ordered(query: &Query, scan: &mut Scan<'_>, rows_max: usize) -> Result<Vec<WholeRow>> {
    let rows = if let Scan::Twins(selection) = scan {
        let mut top = TopRows::new(rows_max);
        while selection.order_some(query, &mut top) {
            tokio::task::yield_now().await;
        }
        top.finish().into_iter().map(Found::Twin).collect()
    } else {
        let mut top = TopRows::new(rows_max);
        while let Some(found) = scan.next().await? {
            top.offer(found.with_row(|row| query.sort_key(row)), || found);
        }
        top.finish()
    };
    Ok(rows.into_iter().map(WholeRow::Found).collect())
}

/// Bytes of the signature within a token: enough that it cannot be guessed.
const MAC_BYTES: usize = 16;

enum WholeRow {
    Group(Value),
    Found(Found),
}
