//! The hardware of a simulated device: two slots as folders, and a state file that survives reboots and kills.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fleetyard_device::agent::{Action, Deferral, Failure, Machine, Pending, Step};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{Fault, Surroundings, image};

/// What runs on a device that was never updated.
const FACTORY_VERSION: &str = "1.0.0";

/// Ends the version of an image that is meant to fail.
const BROKEN_SUFFIX: &str = "-broken";

/// With less charge, in percent, and without a charger nothing is begun; how long until the next look.
const CHARGE_MIN_PERCENT: u64 = 5;
const CHARGE_PAUSE: Duration = Duration::from_secs(30);

/// What survives a reboot.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Disk {
    boots: u64,
    boot_id: String,
    /// `a` or `b`.
    slot: String,
    /// The slot to try at the next boot.
    next: Option<String>,
    /// The slot to fall back to, until the one that runs is confirmed.
    fallback: Option<String>,
    version: String,
    configuration: Map<String, Value>,
    pending: Option<Pending>,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            boots: 0,
            boot_id: String::new(),
            slot: "a".into(),
            next: None,
            fallback: None,
            version: FACTORY_VERSION.into(),
            configuration: Map::new(),
            pending: None,
        }
    }
}

/// See the module.
pub struct SimulatedMachine {
    folder: PathBuf,
    fault: Option<Fault>,
    up_since: Instant,
    /// What is around it, and since when.
    surroundings: (Surroundings, Instant),
    disk: Mutex<Disk>,
}

fn storage(error: impl std::fmt::Display) -> Failure {
    Failure::new("storage", error.to_string())
}

impl SimulatedMachine {
    /// Boots from the folder: chooses the slot, falls back where it must, and takes a new boot id.
    pub fn boot(folder: &Path, fault: Option<Fault>) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder).map_err(storage)?;
        let mut disk: Disk = match std::fs::read(folder.join("state.json")) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(storage)?,
            Err(_) => Disk::default(),
        };
        disk.boots += 1;
        disk.boot_id = format!("boot-{}-{:08x}", disk.boots, random());
        if let Some(fallback) = disk.fallback.take() {
            disk.slot = fallback;
        }
        if let Some(next) = disk.next.take().filter(|_| fault != Some(Fault::BootFails)) {
            disk.fallback = Some(std::mem::replace(&mut disk.slot, next));
        }
        let image = folder.join(format!("slot-{}", disk.slot)).join("image");
        disk.version =
            if image.exists() { image::version_of(&image).map_err(storage)? } else { FACTORY_VERSION.into() };
        let now = Instant::now();
        let surroundings = (Surroundings::default(), now);
        let machine =
            Self { folder: folder.into(), fault, up_since: now, surroundings, disk: Mutex::new(disk) };
        machine.change(|_| {})?;
        Ok(machine)
    }

    /// The machine within surroundings that are there since `begun`; it does nothing that they do not allow.
    pub fn within(self, surroundings: Surroundings, begun: Instant) -> Self {
        Self { surroundings: (surroundings, begun), ..self }
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state and writes it, so that a kill finds the old state or the new one.
    fn change(&self, change: impl FnOnce(&mut Disk)) -> Result<(), Failure> {
        let mut disk = self.disk();
        change(&mut disk);
        let text = serde_json::to_vec(&*disk).map_err(storage)?;
        let (new, path) = (self.folder.join("state.new"), self.folder.join("state.json"));
        std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &path)).map_err(storage)
    }

    fn fails(&self, fault: Fault, code: &str, message: &str) -> Result<(), Failure> {
        if self.fault == Some(fault) { Err(Failure::new(code, message)) } else { Ok(()) }
    }

    /// Images whose version ends so fail their self-test on every second device, by the sum of its folder's name.
    fn is_broken(&self) -> bool {
        let name =
            self.folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let sum: u32 = name.bytes().map(u32::from).sum();
        self.firmware_version().ends_with(BROKEN_SUFFIX) && sum.is_multiple_of(2)
    }

    /// Damages the downloaded image, if that is the fault.
    fn damage(&self) -> std::io::Result<()> {
        let path = self.download_path();
        match self.fault {
            Some(Fault::WrongHash) => {
                let mut bytes = std::fs::read(&path)?;
                if let Some(last) = bytes.last_mut() {
                    *last ^= 0xff;
                }
                std::fs::write(&path, bytes)
            }
            Some(Fault::WrongSize) => {
                let file = std::fs::OpenOptions::new().write(true).open(&path)?;
                file.set_len(file.metadata()?.len() / 2)
            }
            _ => Ok(()),
        }
    }
}

fn random() -> u32 {
    let mut bytes = [0; 4];
    let _ = getrandom::fill(&mut bytes);
    u32::from_le_bytes(bytes)
}

impl Machine for SimulatedMachine {
    fn boot_id(&self) -> String {
        self.disk().boot_id.clone()
    }

    fn firmware_version(&self) -> String {
        self.disk().version.clone()
    }

    fn slot(&self) -> String {
        self.disk().slot.clone()
    }

    fn download_path(&self) -> PathBuf {
        self.folder.join("download")
    }

    fn pending(&self) -> Option<Pending> {
        self.disk().pending.clone()
    }

    fn store_pending(&self, pending: Option<&Pending>) -> Result<(), Failure> {
        self.change(|disk| disk.pending = pending.cloned())
    }

    fn not_now(&self, _action: Action) -> Option<Deferral> {
        let (surroundings, begun) = &self.surroundings;
        let since = begun.elapsed();
        if let Some(left) = surroundings.in_use_for(since) {
            return Some(Deferral::new(left, "somebody uses the device"));
        }
        let power = surroundings.at(since).power.filter(|power| !power.charging)?;
        let percent = power.battery_percent.filter(|percent| *percent < CHARGE_MIN_PERCENT)?;
        Some(Deferral::new(CHARGE_PAUSE, format!("the battery is at {percent} %")))
    }

    async fn before(&self, step: Step) -> Result<(), Failure> {
        match step {
            Step::Downloading => {
                self.fails(Fault::DownloadFails, "downloadFailed", "the network of this device is down")
            }
            Step::Verifying => self.damage().map_err(storage),
            Step::Confirming if self.is_broken() => {
                Err(Failure::new("selfTestFailed", "this firmware does not find the sensor of this device"))
            }
            Step::Confirming => {
                self.fails(Fault::ConfirmFails, "selfTestFailed", "the new firmware failed its self-test")
            }
            Step::Applying | Step::Rebooting => Ok(()),
        }
    }

    async fn configure(&self, configuration: &Map<String, Value>) -> Result<(), Failure> {
        self.fails(
            Fault::ConfigurationFails,
            "notSupported",
            "this device does not take this configuration",
        )?;
        if let Some(interval) = configuration.get("interval")
            && !interval.as_u64().is_some_and(|seconds| (1..=86_400).contains(&seconds))
        {
            return Err(Failure::new("badValue", "interval: expected 1 to 86400 seconds"));
        }
        self.change(|disk| disk.configuration = configuration.clone())
    }

    async fn factory_reset(&self) -> Result<(), Failure> {
        self.fails(Fault::ResetFails, "resetFailed", "the device cannot erase its storage")?;
        self.change(|disk| disk.configuration = Map::new())
    }

    async fn apply(&self, image: PathBuf, version: &str) -> Result<(), Failure> {
        self.fails(Fault::ApplyFails, "applyFailed", "the inactive slot cannot be written")?;
        let found = image::version_of(&image).map_err(|message| Failure::new("badImage", message))?;
        if found != version {
            let message = format!("the image is version {found}, the update was to {version}");
            return Err(Failure::new("versionMismatch", message));
        }
        let slot = if self.slot() == "a" { "b" } else { "a" };
        let folder = self.folder.join(format!("slot-{slot}"));
        std::fs::create_dir_all(&folder).map_err(storage)?;
        std::fs::rename(&image, folder.join("image")).map_err(storage)?;
        self.change(|disk| disk.next = Some(slot.into()))
    }

    async fn confirm(&self) -> Result<(), Failure> {
        self.change(|disk| disk.fallback = None)
    }

    fn status(&self) -> Map<String, Value> {
        let disk = self.disk();
        let status = json!({
            "uptimeSeconds": self.up_since.elapsed().as_secs(),
            "boots": disk.boots,
            "battery": 100 - disk.boots % 60,
            "health": "ok",
        });
        status.as_object().cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Model;

    #[tokio::test]
    async fn an_update_is_kept_only_when_confirmed() {
        let folder = tempfile::tempdir().expect("a folder");
        let image = folder.path().join("image");
        std::fs::write(&image, image::make_image("2.0.0", 1000)).expect("written");
        let machine = SimulatedMachine::boot(folder.path(), None).expect("booted");
        assert_eq!((machine.firmware_version().as_str(), machine.slot().as_str()), ("1.0.0", "a"));
        assert_eq!(
            machine.apply(image.clone(), "3.0.0").await.expect_err("another version").code,
            "versionMismatch"
        );
        machine.apply(image, "2.0.0").await.expect("applied");
        let first = machine.boot_id();
        // Boots into the new slot, is killed before it is confirmed, and falls back.
        let machine = SimulatedMachine::boot(folder.path(), None).expect("booted");
        assert_eq!((machine.firmware_version().as_str(), machine.slot().as_str()), ("2.0.0", "b"));
        assert_ne!(machine.boot_id(), first);
        let machine = SimulatedMachine::boot(folder.path(), None).expect("booted");
        assert_eq!(machine.firmware_version(), "1.0.0");
        // Confirmed, it stays.
        let image = folder.path().join("image");
        std::fs::write(&image, image::make_image("2.0.0", 1000)).expect("written");
        machine.apply(image, "2.0.0").await.expect("applied");
        let machine = SimulatedMachine::boot(folder.path(), None).expect("booted");
        machine.confirm().await.expect("confirmed");
        let machine = SimulatedMachine::boot(folder.path(), None).expect("booted");
        assert_eq!((machine.firmware_version().as_str(), machine.slot().as_str()), ("2.0.0", "b"));
    }

    #[test]
    fn what_surrounds_it_decides_at_the_moment_of_action() {
        let folder = tempfile::tempdir().expect("a folder");
        let not_now = |surroundings: Surroundings| {
            let machine = SimulatedMachine::boot(folder.path(), None).expect("booted");
            machine.within(surroundings, Instant::now()).not_now(Action::Reboot)
        };
        assert_eq!(not_now(Surroundings::default()), None);
        // One that is in use for some seconds from the beginning, and one that is not.
        let fleet = |is_used: bool| {
            let all = (0..100).map(|seed| Surroundings::new(seed, "a", &[Model::Use]));
            all.into_iter()
                .find(|one| {
                    let left = one.in_use_for(Duration::ZERO);
                    match is_used {
                        true => left.is_some_and(|left| left > Duration::from_secs(4)),
                        false => (0..60).all(|at| one.in_use_for(Duration::from_millis(at * 100)).is_none()),
                    }
                })
                .expect("one of a hundred")
        };
        let deferral = not_now(fleet(true)).expect("in use");
        assert!(
            deferral.after <= Duration::from_secs(18) && deferral.reason.contains("uses"),
            "{deferral:?}"
        );
        assert_eq!(not_now(fleet(false)), None);
        // What is charged can bear it, however little there is.
        assert_eq!(not_now(Surroundings::new(1, "a", &[]).with_battery(1)), None);
    }

    #[tokio::test]
    async fn a_slot_that_does_not_boot_and_a_pending_that_survives() {
        let folder = tempfile::tempdir().expect("a folder");
        let image = folder.path().join("image");
        std::fs::write(&image, image::make_image("2.0.0", 1000)).expect("written");
        let machine = SimulatedMachine::boot(folder.path(), Some(Fault::BootFails)).expect("booted");
        machine.apply(image, "2.0.0").await.expect("applied");
        let pending = Pending::Reboot { boot_id_before: machine.boot_id() };
        machine.store_pending(Some(&pending)).expect("stored");
        let machine = SimulatedMachine::boot(folder.path(), Some(Fault::BootFails)).expect("booted");
        assert_eq!((machine.firmware_version().as_str(), machine.pending()), ("1.0.0", Some(pending)));
    }
}
