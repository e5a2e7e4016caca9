//! Walks over the rows that match a query: twins from the index, which selects them, job records from the store.
//! A query that can only match known names looks at those alone.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use hub_domain::id::{DeviceId, JobId, TwinId};
use hub_domain::job::{JobItem, JobRow, JobSpec};
use hub_domain::query::{Query, Row, Source as From};
use hub_domain::retirement::{RetiredRow, Retirement};
use hub_index::{Entry, Next, Selection, Slot, Source};
use hub_store::{KeyRange, PageLen, keys, tables};

use crate::Hub;
use crate::error::{Error, Result};

/// A row that matches.
pub(super) enum Found {
    /// A device or module.
    Twin(Slot),
    /// A target of the job with this name.
    Job(JobId, TwinId, JobRow),
    /// A retired device.
    Retired(DeviceId, Box<RetiredRow>),
}

impl Found {
    /// What `use_row` makes of the row.
    pub(super) fn with_row<T>(&self, use_row: impl FnOnce(&dyn Row) -> T) -> T {
        match self {
            Found::Twin(row) => use_row(&row.open().document()),
            Found::Job(_, _, row) => use_row(row),
            Found::Retired(_, row) => use_row(&**row),
        }
    }

    /// What the query shows of the row.
    pub(super) fn show(&self, query: &Query) -> String {
        match self {
            Found::Twin(row) if query.shows_all() => row.print(),
            found => found.with_row(|row| query.project(row)).to_string(),
        }
    }

    /// Names the row within its source, see [`Scan::new`].
    pub(super) fn name(&self) -> String {
        match self {
            Found::Twin(row) => row.id().to_string(),
            Found::Job(job, id, _) => format!("{job} {id}"),
            Found::Retired(device, _) => device.to_string(),
        }
    }
}

/// See the module.
pub(super) enum Scan<'q> {
    /// Over the twins of a snapshot.
    Twins(Selection<'q>),
    /// Over the twins of devices that the query names.
    Named(Named<'q>),
    /// Over job records.
    Jobs(Box<JobScan<'q>>),
    Retired(RetiredScan<'q>),
}

impl<'q> Scan<'q> {
    /// Over the rows behind the one with the name `after`.
    pub(super) fn new(hub: &'q Hub, query: &'q Query, after: Option<&str>) -> Result<Self> {
        let source = match query.source() {
            From::Devices => Source::Devices,
            From::DeviceModules => Source::Modules,
            From::DeviceJobs => {
                return JobScan::new(hub, query, after).map(|scan| Scan::Jobs(Box::new(scan)));
            }
            From::RetiredDevices => return RetiredScan::new(hub, query, after).map(Scan::Retired),
        };
        let after = after.map(|name| parse_id(name).ok_or(Error::InvalidContinuation)).transpose()?;
        Ok(match query.device_ids() {
            Some(ids) => Scan::Named(Named::new(hub, query, source, &ids, after.as_ref())),
            None => {
                Scan::Twins(hub.index.select(source, query.condition(), query.read_paths(), after.as_ref()))
            }
        })
    }

    /// The next row that matches.
    pub(super) async fn next(&mut self) -> Result<Option<Found>> {
        match self {
            Scan::Twins(selection) => loop {
                match selection.next() {
                    Next::Found(row) => return Ok(Some(Found::Twin(row))),
                    Next::Pause => tokio::task::yield_now().await,
                    Next::End => return Ok(None),
                }
            },
            Scan::Named(named) => Ok(named.next().map(|entry| Found::Twin(Slot::Open(entry)))),
            Scan::Jobs(scan) => scan.next().await,
            Scan::Retired(scan) => scan.next().await,
        }
    }
}

fn parse_id(name: &str) -> Option<TwinId> {
    match name.split_once('/') {
        Some((device, module)) => TwinId::parse(device, Some(module)).ok(),
        None => TwinId::parse(name, None).ok(),
    }
}

/// The entries of named devices, or of their modules.
pub(super) struct Named<'q> {
    query: &'q Query,
    entries: std::vec::IntoIter<Arc<Entry>>,
}

impl<'q> Named<'q> {
    fn new(
        hub: &Hub,
        query: &'q Query,
        source: Source,
        ids: &BTreeSet<&str>,
        after: Option<&TwinId>,
    ) -> Self {
        let devices = ids.iter().filter_map(|id| DeviceId::parse(id).ok());
        let entries = devices.flat_map(|device| match source {
            Source::Devices => Vec::from_iter(hub.index.get(&TwinId::device(device))),
            Source::Modules => hub.index.modules_of(&device),
        });
        let behind = entries.filter(|entry| after.is_none_or(|after| entry.id() > after));
        Self { query, entries: behind.collect::<Vec<_>>().into_iter() }
    }

    fn next(&mut self) -> Option<Arc<Entry>> {
        self.entries.find(|entry| self.query.matches(&entry.document()))
    }
}

/// Job after job, and within each its targets in the order of their keys.
pub(super) struct JobScan<'q> {
    hub: &'q Hub,
    query: &'q Query,
    /// Jobs that the query names, if it names any.
    named: Option<VecDeque<JobId>>,
    /// Otherwise the part of the table of jobs that is still to be read.
    rest: Option<KeyRange>,
    jobs: VecDeque<JobSpec>,
    /// The job whose targets are read, and the parts of its table that are still to be read.
    current: Option<(JobSpec, VecDeque<KeyRange>)>,
    items: std::vec::IntoIter<JobItem>,
    /// Where the page begins: only targets of this job behind this one.
    after: Option<(JobId, TwinId)>,
}

impl<'q> JobScan<'q> {
    fn new(hub: &'q Hub, query: &'q Query, after: Option<&str>) -> Result<Self> {
        let after = after.map(|name| {
            let (job, id) = name.split_once(' ')?;
            Some((JobId::parse(job).ok()?, parse_id(id)?))
        });
        let after = after.map(|place| place.ok_or(Error::InvalidContinuation)).transpose()?;
        let first = after.as_ref().map(|(job, _)| job);
        let named = query.job_ids().map(|ids| {
            let ids = ids.iter().filter_map(|id| JobId::parse(id).ok());
            ids.filter(|id| first.is_none_or(|first| id >= first)).collect()
        });
        let rest = first.map_or_else(keys::jobs, keys::jobs_from);
        Ok(Self {
            hub,
            query,
            named,
            rest: Some(rest),
            jobs: VecDeque::new(),
            current: None,
            items: Vec::new().into_iter(),
            after,
        })
    }

    async fn next(&mut self) -> Result<Option<Found>> {
        loop {
            if let Some((spec, ranges)) = &mut self.current {
                for item in self.items.by_ref() {
                    let entry = item.awaits_report().then(|| self.hub.index.get(&item.id)).flatten();
                    let document = entry.as_ref().map(|entry| entry.document());
                    let row = JobRow::new(spec, &item, document.as_ref());
                    if self.query.matches(&row) {
                        return Ok(Some(Found::Job(spec.id.clone(), item.id, row)));
                    }
                }
                if let Some(range) = ranges.pop_front() {
                    let page = tables::jobs::items(&*self.hub.store, range, PageLen::MAX).await?;
                    self.items =
                        page.entries.into_iter().map(|((_, item), _)| item).collect::<Vec<_>>().into_iter();
                    if let Some(rest) = page.rest {
                        ranges.push_front(rest);
                    }
                    continue;
                }
            }
            let Some(spec) = self.next_job().await? else { return Ok(None) };
            let ranges = self.ranges(&spec.id);
            self.current = Some((spec, ranges));
        }
    }

    async fn next_job(&mut self) -> Result<Option<JobSpec>> {
        let store = &*self.hub.store;
        if let Some(named) = &mut self.named {
            while let Some(id) = named.pop_front() {
                if let Some(spec) = tables::jobs::spec(store, &id).await? {
                    return Ok(Some(spec));
                }
            }
            return Ok(None);
        }
        if self.jobs.is_empty()
            && let Some(range) = self.rest.take()
        {
            let page = tables::jobs::page(store, range, PageLen::MAX).await?;
            self.jobs.extend(page.entries.into_iter().map(|(spec, _)| spec));
            self.rest = page.rest;
        }
        Ok(self.jobs.pop_front())
    }

    /// The parts of a job's table that can hold targets which match.
    fn ranges(&mut self, job: &JobId) -> VecDeque<KeyRange> {
        let after = self.after.take_if(|(first, _)| first == job);
        let begin = after.map(|(_, id)| keys::job_items_after(job, &id));
        let all = begin.unwrap_or_else(|| keys::job_items(job));
        let Some(devices) = self.query.device_ids() else { return VecDeque::from([all]) };
        let devices = devices.iter().filter_map(|id| DeviceId::parse(id).ok());
        let ranges = devices.flat_map(|device| keys::job_items_of(job, &device));
        let ranges = ranges.map(|range| range.from(all.start.clone()));
        let mut ranges: Vec<_> = ranges.filter(|range| !range.is_empty()).collect();
        // A page goes on behind the last key, so all of it must be in the order of keys.
        ranges.sort_by(|left, right| left.start.cmp(&right.start));
        ranges.into()
    }
}

/// Retired devices that can be restored, in the order of their ids.
pub(super) struct RetiredScan<'q> {
    hub: &'q Hub,
    query: &'q Query,
    rest: VecDeque<KeyRange>,
    page: std::vec::IntoIter<Retirement>,
}

impl<'q> RetiredScan<'q> {
    fn new(hub: &'q Hub, query: &'q Query, after: Option<&str>) -> Result<Self> {
        let after = after.map(DeviceId::parse).transpose().map_err(|_| Error::InvalidContinuation)?;
        let all = after.as_ref().map_or_else(keys::retired, keys::retired_after);
        let rest = match query.device_ids() {
            None => VecDeque::from([all]),
            Some(ids) => {
                let ids = ids.iter().filter_map(|id| DeviceId::parse(id).ok());
                let ranges = ids.map(|id| keys::retired_one(&id).from(all.start.clone()));
                ranges.filter(|range| !range.is_empty()).collect()
            }
        };
        Ok(Self { hub, query, rest, page: Vec::new().into_iter() })
    }

    async fn next(&mut self) -> Result<Option<Found>> {
        let store = &*self.hub.store;
        loop {
            for retirement in self.page.by_ref() {
                let Some((identity, twin)) = tables::retired::own_archive(store, &retirement.device).await?
                else {
                    continue;
                };
                let row = RetiredRow::new(&retirement, &identity, &twin);
                if self.query.matches(&row) {
                    return Ok(Some(Found::Retired(retirement.device, Box::new(row))));
                }
            }
            let Some(range) = self.rest.pop_front() else { return Ok(None) };
            let page = tables::retired::page(store, range, PageLen::MAX).await?;
            if let Some(rest) = page.rest {
                self.rest.push_front(rest);
            }
            self.page = page.entries.into_iter().map(|(one, _)| one).collect::<Vec<_>>().into_iter();
        }
    }
}
