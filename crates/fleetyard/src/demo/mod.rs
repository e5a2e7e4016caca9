//! The demo: a hub in a process of its own, simulated devices on real sockets, the five patterns one after the other, a job and configurations.
//! It ends well only if queries say that every device got where it should; nothing here looks at devices directly.

mod fleet;
mod operations;
mod patterns;
mod place;
mod rollout;

use std::time::Duration;

use anyhow::{Context, Result, bail};
use hub_cli::client::Client;
use hub_sim::Model;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;

use self::fleet::Expected;
use self::place::Place;

/// Devices below which the waves of the rollout would be too small to show anything.
const ROLLOUT_DEVICES_MIN: usize = 60;
/// Devices of a demo.
const DEVICES_MAX: usize = 10_000;
/// How often the hub is asked how far a pattern is.
const ASK_INTERVAL: Duration = Duration::from_millis(250);
/// Longest time of a pattern, and what each device adds to it.
const PATTERN_TIME: Duration = Duration::from_secs(120);
const PATTERN_TIME_PER_DEVICE: Duration = Duration::from_millis(150);
/// Rows of a page of a query.
const PAGE_ROWS: usize = 1000;

/// What to play.
#[derive(clap::Args)]
pub struct Options {
    /// What to play: the patterns of device management, or a rollout that stops itself and one that goes through.
    #[arg(long, value_enum, default_value_t = Scenario::Patterns)]
    scenario: Scenario,
    /// How many devices: 200 for the patterns, 1000 for the rollout without it.
    #[arg(long)]
    devices: Option<usize>,
    /// Let some devices fail in each way that an update can, and check that each ends in the right state.
    #[arg(long)]
    faults: bool,
    /// Leave hub and devices running at the end and print how to look around.
    #[arg(long)]
    keep: bool,
}

/// What can be played.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Scenario {
    /// The five patterns, a job, and automatic configurations.
    Patterns,
    /// Rollouts of firmware: a bad image, then a good one.
    Rollout,
}

impl Options {
    fn count(&self) -> usize {
        let usual = match self.scenario {
            Scenario::Patterns => 200,
            Scenario::Rollout => 1000,
        };
        self.devices.unwrap_or(usual)
    }
}

/// What the steps share.
struct Stage {
    client: Client,
    devices: Vec<String>,
    expected: Expected,
}

/// Plays the demo.
pub async fn run(options: Options) -> Result<()> {
    let least = match options.scenario {
        Scenario::Rollout if options.faults => bail!("--faults belongs to the scenario patterns"),
        Scenario::Rollout => ROLLOUT_DEVICES_MIN,
        Scenario::Patterns if options.faults => Expected::FAULTS,
        Scenario::Patterns => 1,
    };
    let count = options.count();
    if !(least..=DEVICES_MAX).contains(&count) {
        bail!("--devices {count} is not valid: expected {least} to {DEVICES_MAX}");
    }
    let place = Place::start().await?;
    println!("a hub runs on {} (data in {})", place.endpoints.https, place.data().display());
    let played = play(&place, &options).await;
    match &played {
        Ok(fleet) => {
            println!("\nall {count} devices are where they should be");
            if options.keep {
                place.explain();
                tokio::signal::ctrl_c().await.context("waiting for Ctrl-C")?;
            }
            let _ = fleet;
        }
        Err(_) => eprintln!("\nthe demo did not get there"),
    }
    if let Ok(fleet) = played {
        fleet.stop().await;
        return place.stop().await;
    }
    place.stop().await?;
    played.map(drop)
}

async fn play(place: &Place, options: &Options) -> Result<hub_sim::Fleet> {
    let client = place.client()?;
    let expected = Expected::new(options.faults);
    // Whoever waits for a gate has to find it closed now and then.
    let models: &[Model] = match options.scenario {
        Scenario::Rollout => &[Model::Network, Model::Place, Model::Use],
        Scenario::Patterns => &[],
    };
    let (fleet, devices) = fleet::start(place, &client, options.count(), &expected, models).await?;
    let stage = Stage { client, devices, expected };
    stage
        .until("connected", "connectionState = 'Connected' AND IS_DEFINED(properties.reported.device.bootId)")
        .await?;
    if options.scenario == Scenario::Rollout {
        rollout::play(&stage).await?;
        return Ok(fleet);
    }
    patterns::reboot(&stage).await?;
    patterns::factory_reset(&stage).await?;
    patterns::configuration(&stage).await?;
    patterns::firmware(&stage).await?;
    patterns::status(&stage).await?;
    operations::job(&stage).await?;
    operations::rollout(&stage).await?;
    Ok(fleet)
}

/// A progress bar on standard error; shown to people only.
fn bar(title: &str, length: usize) -> ProgressBar {
    let bar = ProgressBar::new(length as u64).with_message(title.to_string());
    let style = ProgressStyle::with_template("  {msg:24} {bar:40} {pos}/{len} {elapsed}");
    bar.set_style(style.expect("the template is valid"));
    bar
}

impl Stage {
    /// All rows of a query, page by page.
    async fn query(&self, text: &str) -> Result<Vec<Value>> {
        let (mut rows, mut token) = (Vec::new(), None);
        loop {
            let (page, next) = self.client.page(self.client.query(text), PAGE_ROWS, token.as_deref()).await?;
            rows.extend(page);
            token = next;
            if token.is_none() {
                return Ok(rows);
            }
        }
    }

    /// How many devices match.
    async fn count(&self, condition: &str) -> Result<usize> {
        let rows = self.query(&format!("SELECT COUNT() AS n FROM devices WHERE {condition}")).await?;
        let count = rows.first().and_then(|row| row["n"].as_u64());
        count.and_then(|count| usize::try_from(count).ok()).context("the hub's answer has no count")
    }

    /// Waits until all devices match, with a progress bar.
    async fn until(&self, title: &str, condition: &str) -> Result<()> {
        self.until_count(title, condition, self.devices.len()).await
    }

    /// Waits until `wanted` devices match, with a progress bar.
    async fn until_count(&self, title: &str, condition: &str, wanted: usize) -> Result<()> {
        let bar = bar(title, wanted);
        let limit = PATTERN_TIME + PATTERN_TIME_PER_DEVICE * u32::try_from(wanted).unwrap_or(u32::MAX);
        let waiting = async {
            loop {
                let count = self.count(condition).await?;
                bar.set_position(count as u64);
                if count == wanted {
                    return Ok(());
                }
                tokio::time::sleep(ASK_INTERVAL).await;
            }
        };
        let waited = tokio::time::timeout(limit, waiting).await;
        bar.finish();
        match waited {
            Ok(waited) => waited,
            Err(_) => bail!(
                "{title}: {} of {wanted} devices after {} s",
                self.count(condition).await?,
                limit.as_secs()
            ),
        }
    }

    /// Prints a query and its answer.
    async fn show(&self, text: &str) -> Result<()> {
        println!("  > {text}");
        for row in self.query(text).await? {
            println!("    {row}");
        }
        Ok(())
    }
}
