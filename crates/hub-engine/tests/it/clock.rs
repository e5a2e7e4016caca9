//! A machine's clock that is set: nothing panics, hangs, runs twice or goes back, whichever way it jumps.

use std::time::Duration;

use hub_domain::id::JobId;
use hub_domain::job::JobStatus;
use hub_domain::job::NewJob;
use hub_domain::time::Timestamp;
use hub_domain::twin::WriteMode;
use hub_domain::version::Precondition;
use hub_engine::events::EventFilter;
use hub_engine::{Credential, Error};
use hub_testkit::{START_SECONDS, TestHub};
use serde_json::json;

use crate::jobs::patching;
use crate::{desired, id};

const DAY: i64 = 24 * 3600;

#[tokio::test(start_paused = true)]
async fn versions_positions_and_jobs_go_on_when_the_clock_jumps() {
    let test = TestHub::start().await;
    let (device, token) = test.register("d").await;
    let owner = test.owner();
    let at = |seconds: i64| Timestamp::from_seconds(START_SECONDS + seconds);
    let job = NewJob { start: Some(at(3600)), ..patching("later", "*", json!({"job": 1})) };
    test.hub.job_create(&owner, job).await.expect("created");
    let (mut version, mut position) = (1, None);
    for (n, jump) in [-10 * DAY, 40 * 365 * DAY, 0, -30 * 365 * DAY, 1].into_iter().enumerate() {
        test.clock.set(at(jump));
        let update = desired(json!({"n": n}));
        let view =
            test.hub.twin_update(&owner, &id("d"), &update, WriteMode::Patch, &Precondition::None).await;
        let after = view.expect("written").twin.desired.version;
        assert!(after > version, "{jump}: version {after} after {version}");
        version = after;
        let page = test.hub.events_read(&owner, &EventFilter::default(), position, 1000).await;
        let page = page.expect("what was read up to here is kept");
        assert!(position.is_none_or(|before| page.reached > before), "{jump}: the log went back");
        position = Some(page.reached);
        let known = test.hub.authenticate_device(&device, Credential::Token(&token));
        assert_eq!(known.is_ok(), jump < DAY, "{jump}: a token is good until it expires by the hub's clock");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Forty years later its window was over, so it was not run then, and it is not run now that the clock is back.
    test.clock.set(at(3600));
    tokio::time::sleep(Duration::from_secs(5)).await;
    let job = test.hub.job_get(&owner, &JobId::parse("later").expect("an id")).await;
    match job {
        Ok(job) => assert!(matches!(job.state.status, JobStatus::Completed | JobStatus::Failed), "{job:?}"),
        Err(error) => assert_eq!(error, Error::JobNotFound(JobId::parse("later").expect("an id"))),
    }
    assert!(test.hub.is_ready());
}
