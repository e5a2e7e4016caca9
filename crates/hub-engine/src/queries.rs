//! Queries over twins: parse, scan the index in the order of ids, page by page.
//!
//! A page's token says where the next one begins, and is signed, so that nobody can make one up. A scan lets other
//! tasks run after every chunk, and holds no lock while it evaluates.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering as Memory;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use hmac::Mac;
use hub_domain::id::{DeviceId, TwinId};
use hub_domain::limits::{QUERY_PAGE_ROWS_DEFAULT, QUERY_PAGE_ROWS_MAX};
use hub_domain::query::{Aggregation, ItemType, Query, Source as From};
use hub_domain::rights::Rights;
use hub_index::{Entry, Source};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::Hub;
use crate::access::Principal;
use crate::config::QUERY_CHUNK_ENTRIES;
use crate::error::{Error, Result};

/// One page of a query's answer.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryPage {
    /// What kind of rows they are.
    pub item_type: ItemType,
    /// The rows.
    pub rows: Vec<Value>,
    /// Pass it back, with the same query, for the next page. `None` on the last.
    pub continuation: Option<String>,
}

/// Where a page begins.
#[derive(Clone, Debug, Default, PartialEq)]
struct Place {
    /// Rows given so far.
    given: u64,
    /// The id of the last row given; scans in the order of ids go on after it.
    last: Option<TwinId>,
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
        let query =
            Query::parse(text).map_err(|error| Error::Invalid(format!("The query is invalid: {error}")))?;
        let page_rows = page_rows.unwrap_or(QUERY_PAGE_ROWS_DEFAULT).clamp(1, QUERY_PAGE_ROWS_MAX);
        let place = continuation.map_or(Ok(Place::default()), |token| self.open_token(text, token))?;
        self.counters.queries.fetch_add(1, Memory::Relaxed);
        let left = query.top().map_or(u64::MAX, |top| top.saturating_sub(place.given));
        let rows_max = page_rows.min(usize::try_from(left).unwrap_or(usize::MAX));
        let (rows, next) = if query.is_aggregate() || query.is_ordered() {
            self.whole_page(&query, place, rows_max).await?
        } else {
            self.scanned_page(&query, place, rows_max).await
        };
        let next = next.filter(|next| query.top().is_none_or(|top| next.given < top));
        let continuation = next.map(|next| self.make_token(text, &next));
        Ok(QueryPage { item_type: query.item_type(), rows, continuation })
    }

    /// A page in the order of ids: goes on after the last id, and looks one match ahead, because a token must
    /// never be followed by an empty page (S 7.1).
    async fn scanned_page(
        &self,
        query: &Query,
        mut place: Place,
        rows_max: usize,
    ) -> (Vec<Value>, Option<Place>) {
        let mut rows = Vec::new();
        let mut scan = Scan::new(self, query, place.last.clone());
        while let Some(entry) = scan.next().await {
            if rows.len() == rows_max {
                place.given += rows.len() as u64;
                return (rows, Some(place));
            }
            rows.push(query.project(&entry.document()));
            place.last = Some(entry.id().clone());
        }
        (rows, None)
    }

    /// A page of something that needs all rows first: an aggregation or an order.
    async fn whole_page(
        &self,
        query: &Query,
        place: Place,
        rows_max: usize,
    ) -> Result<(Vec<Value>, Option<Place>)> {
        let all =
            if query.is_aggregate() { self.aggregated(query).await? } else { self.ordered(query).await };
        let begin = usize::try_from(place.given).unwrap_or(usize::MAX).min(all.len());
        let end = begin.saturating_add(rows_max).min(all.len());
        let next = (end < all.len()).then_some(Place { given: end as u64, last: None });
        let rows = all[begin..end].iter().map(|row| match row {
            WholeRow::Group(value) => value.clone(),
            WholeRow::Entry(entry) => query.project(&entry.document()),
        });
        Ok((rows.collect(), next))
    }

    async fn aggregated(&self, query: &Query) -> Result<Vec<WholeRow>> {
        let mut aggregation = Aggregation::new(query);
        let mut scan = Scan::new(self, query, None);
        while let Some(entry) = scan.next().await {
            aggregation
                .add(&entry.document())
                .map_err(|error| Error::Invalid(format!("The query is invalid: {error}")))?;
        }
        Ok(aggregation.finish().into_iter().map(WholeRow::Group).collect())
    }

    async fn ordered(&self, query: &Query) -> Vec<WholeRow> {
        let mut keyed = Vec::new();
        let mut scan = Scan::new(self, query, None);
        while let Some(entry) = scan.next().await {
            keyed.push((query.sort_key(&entry.document()), entry));
        }
        keyed.sort_by(|(a, left), (b, right)| match a.cmp(b) {
            Ordering::Equal => left.id().cmp(right.id()),
            unequal => unequal,
        });
        keyed.into_iter().map(|(_, entry)| WholeRow::Entry(entry)).collect()
    }

    fn make_token(&self, query: &str, place: &Place) -> String {
        let last = place.last.as_ref().map(ToString::to_string).unwrap_or_default();
        let body = format!("{} {last}", place.given);
        BASE64.encode([self.token_mac(query, &body).as_slice(), body.as_bytes()].concat())
    }

    fn open_token(&self, query: &str, token: &str) -> Result<Place> {
        let place = || {
            let bytes = BASE64.decode(token).ok()?;
            let (mac, body) = bytes.split_at_checked(MAC_BYTES)?;
            let body = std::str::from_utf8(body).ok()?;
            let (given, last) = body.split_once(' ').filter(|_| self.token_mac(query, body) == mac)?;
            let last = match last.split_once('/') {
                _ if last.is_empty() => None,
                Some((device, module)) => Some(TwinId::parse(device, Some(module)).ok()?),
                None => Some(TwinId::parse(last, None).ok()?),
            };
            Some(Place { given: given.parse().ok()?, last })
        };
        place().ok_or(Error::InvalidContinuation)
    }

    fn token_mac(&self, query: &str, body: &str) -> Vec<u8> {
        let digest = Sha256::digest(query);
        self.secret.mac(&[b"query", digest.as_slice(), body.as_bytes()]).finalize().into_bytes()[..MAC_BYTES]
            .to_vec()
    }
}

/// Bytes of the signature within a token: enough that it cannot be guessed.
const MAC_BYTES: usize = 16;

enum WholeRow {
    Group(Value),
    Entry(Arc<Entry>),
}

/// Walks over the entries that match, chunk by chunk; a query that can only match known ids looks at those alone.
struct Scan<'q> {
    hub: &'q Hub,
    query: &'q Query,
    source: Option<Source>,
    last: Option<TwinId>,
    chunk: std::vec::IntoIter<Arc<Entry>>,
}

impl<'q> Scan<'q> {
    fn new(hub: &'q Hub, query: &'q Query, after: Option<TwinId>) -> Self {
        let source = match query.source() {
            From::Devices => Some(Source::Devices),
            From::DeviceModules => Some(Source::Modules),
            From::DeviceJobs => None,
        };
        let mut scan = Self { hub, query, source, last: after, chunk: Vec::new().into_iter() };
        if let (Some(source), Some(ids)) = (source, query.device_ids()) {
            scan.chunk = scan.entries_of(source, &ids).into_iter();
            scan.source = None;
        }
        scan
    }

    /// The entries of these devices, or of their modules, after the place where the page begins.
    fn entries_of(&self, source: Source, ids: &BTreeSet<&str>) -> Vec<Arc<Entry>> {
        let devices = ids.iter().filter_map(|id| DeviceId::parse(id).ok());
        let entries = devices.flat_map(|device| match source {
            Source::Devices => Vec::from_iter(self.hub.index.get(&TwinId::device(device))),
            Source::Modules => self.hub.index.modules_of(&device),
        });
        entries.filter(|entry| self.last.as_ref().is_none_or(|last| entry.id() > last)).collect()
    }

    async fn next(&mut self) -> Option<Arc<Entry>> {
        loop {
            for entry in self.chunk.by_ref() {
                if self.query.matches(&entry.document()) {
                    return Some(entry);
                }
            }
            let source = self.source?;
            let chunk = self.hub.index.scan(source, self.last.as_ref(), QUERY_CHUNK_ENTRIES);
            self.last = Some(chunk.last()?.id().clone());
            self.chunk = chunk.into_iter();
            tokio::task::yield_now().await;
        }
    }
}
