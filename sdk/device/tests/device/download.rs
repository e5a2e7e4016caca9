//! Downloads from servers that cut, ignore ranges, lie about sizes and send other bytes.

use std::sync::Arc;

use serde_json::Value;

use crate::files::{Files, Reply};
use crate::hub::Hub;
use crate::machine::{FakeMachine, run};
use crate::update::request;

fn image() -> Vec<u8> {
    (0..200_000u32).map(|number| (number % 251) as u8).collect()
}

struct Device {
    hub: Arc<Hub>,
    machine: Arc<FakeMachine>,
}

impl Device {
    async fn up() -> Device {
        let (hub, machine) = (Hub::start(&[]).await, FakeMachine::new());
        let (_client, _agent) = run(&hub, &machine);
        hub.until("came up", |reported| reported["firmware"]["version"] == "1.0").await;
        Device { hub, machine }
    }

    /// Updates to `image` from a server that replies so; the ranges it was asked for, and how the update ended.
    async fn update(&self, image: &[u8], replies: Vec<Reply>) -> (Vec<Option<String>>, Value) {
        let files = Files::start(self.hub.tls.acceptor.clone(), replies).await;
        let before = self.hub.patches().len();
        self.hub.call_when_idle("firmwareUpdate", &request(&files, image)).await;
        let hub = &self.hub;
        let ended = |_: &Value| {
            hub.patches()[before..].iter().any(|patch| {
                let state = &patch["firmware"]["update"]["state"];
                state == "failed" || state == "rebooting"
            })
        };
        let reported = hub.until("ended", ended).await;
        (files.ranges(), reported["firmware"]["update"].clone())
    }

    /// Expects the update to fail so.
    async fn fails(&self, replies: Vec<Reply>, step: &str, code: &str) -> Vec<Option<String>> {
        let (ranges, update) = self.update(&image(), replies).await;
        let error = &update["error"];
        assert_eq!((&error["step"], &error["code"]), (&Value::from(step), &Value::from(code)), "{update}");
        assert!(!error["message"].to_string().contains("secret"), "the link is nobody's business: {error}");
        assert!(self.machine.state().image.is_empty());
        ranges
    }
}

fn range(from: usize) -> Option<String> {
    Some(format!("bytes={from}-"))
}

#[tokio::test]
async fn a_cut_download_goes_on_where_it_stopped() {
    let (device, image) = (Device::up().await, image());
    let replies = vec![
        Reply::cut(200, &image, 50_000),
        Reply::cut(206, &image[50_000..], 70_000),
        Reply::new(503, b""),
        Reply::new(206, &image[120_000..]),
    ];
    let (ranges, update) = device.update(&image, replies).await;
    assert_eq!(update["state"], "rebooting", "{update}");
    assert_eq!(ranges, [None, range(50_000), range(120_000), range(120_000)]);
    assert_eq!(device.machine.state().image, image);
}

#[tokio::test]
async fn a_server_without_ranges_begins_anew() {
    let (device, image) = (Device::up().await, image());
    let replies = vec![Reply::cut(200, &image, 50_000), Reply::new(200, &image)];
    let (ranges, update) = device.update(&image, replies).await;
    assert_eq!(update["state"], "rebooting", "{update}");
    assert_eq!(ranges, [None, range(50_000)]);
    assert_eq!(device.machine.state().image, image);
}

#[tokio::test]
async fn a_range_that_cannot_be_had_begins_anew() {
    let (device, image) = (Device::up().await, image());
    let replies = vec![Reply::cut(200, &image, 50_000), Reply::new(416, b""), Reply::new(200, &image)];
    let (ranges, update) = device.update(&image, replies).await;
    assert_eq!(update["state"], "rebooting", "{update}");
    assert_eq!(ranges, [None, range(50_000), None]);
    assert_eq!(device.machine.state().image, image);
}

#[tokio::test]
async fn refusals_end_the_download_at_once() {
    for status in [401, 403, 404, 410, 416, 206] {
        let device = Device::up().await;
        let ranges = device.fails(vec![Reply::new(status, b"no")], "downloading", "downloadRefused").await;
        assert_eq!(ranges, [None], "{status}");
    }
}

#[tokio::test]
async fn what_stays_cut_fails_and_is_taken_up_by_the_next_update() {
    let (device, image) = (Device::up().await, image());
    let replies = vec![Reply::cut(200, &image, 1000), Reply::new(500, b"")];
    let ranges = device.fails(replies, "downloading", "downloadFailed").await;
    assert_eq!(ranges, [None, range(1000), range(1000), range(1000), range(1000)]);
    let (ranges, update) = device.update(&image, vec![Reply::new(206, &image[1000..])]).await;
    assert_eq!((ranges, &update["state"]), (vec![range(1000)], &Value::from("rebooting")));
    assert_eq!(device.machine.state().image, image);
}

#[tokio::test]
async fn what_was_fetched_of_another_image_is_not_resumed() {
    let (device, image) = (Device::up().await, image());
    device
        .fails(vec![Reply::cut(200, &image, 1000), Reply::new(404, b"")], "downloading", "downloadRefused")
        .await;
    let other = vec![9; 5000];
    let (ranges, update) = device.update(&other, vec![Reply::new(200, &other)]).await;
    assert_eq!((ranges, &update["state"]), (vec![None], &Value::from("rebooting")));
    assert_eq!(device.machine.state().image, other);
}

#[tokio::test]
async fn other_bytes_are_found_and_thrown_away() {
    let (device, image) = (Device::up().await, image());
    let mut wrong = image.clone();
    wrong[100_000] ^= 1;
    device.fails(vec![Reply::new(200, &wrong)], "verifying", "hashMismatch").await;
    // Also a server that goes on with other bytes than it began with.
    let replies = vec![Reply::cut(200, &image, 50_000), Reply::new(206, &wrong[50_000..])];
    device.fails(replies, "verifying", "hashMismatch").await;
    let (ranges, update) = device.update(&image, vec![Reply::new(200, &image)]).await;
    assert_eq!((ranges, &update["state"]), (vec![None], &Value::from("rebooting")));
}

#[tokio::test]
async fn more_bytes_than_announced_end_the_download() {
    let (device, image) = (Device::up().await, image());
    let mut longer = image.clone();
    longer.push(0);
    device.fails(vec![Reply::new(200, &longer)], "downloading", "sizeMismatch").await;
    device.fails(vec![Reply::endless(&image)], "downloading", "sizeMismatch").await;
    // Nothing of it is kept.
    let (ranges, update) = device.update(&image, vec![Reply::new(200, &image)]).await;
    assert_eq!((ranges, &update["state"]), (vec![None], &Value::from("rebooting")));
}

#[tokio::test]
async fn fewer_bytes_than_announced_never_pass() {
    let device = Device::up().await;
    let (short, none) = (Reply::new(200, &image()[..1000]), Reply::new(416, b""));
    let replies = vec![short.clone(), none.clone(), short.clone(), none, short];
    let ranges = device.fails(replies, "downloading", "downloadFailed").await;
    assert_eq!(ranges, [None, range(1000), None, range(1000), None]);
}
