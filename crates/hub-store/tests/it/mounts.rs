//! File systems of a test's own, for disasters that a folder cannot show: a full disk, a read-only one, a power cut.
//! They need root, `mount` and for ext4 a loop device. Where one cannot be had, the test says on stderr that it did not
//! run and why; with FLEETYARD_TEST_MOUNTS=required it fails instead, so that a machine meant to run it cannot skip it.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// `_IOR('X', 125, u32)`, with the flag that drops even the journal's unwritten part: what is not on the disk is gone.
const CUT_POWER: &str = "
import fcntl, os, struct, sys
EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH = 0x8004587d, 2
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), EXT4_IOC_SHUTDOWN, struct.pack('I', NO_LOG_FLUSH))
";

/// A mounted file system; unmounted and gone when dropped.
pub struct Mount {
    at: PathBuf,
    /// Of ext4, the loop device: taken once, so that mounting again sees the same blocks.
    device: Option<String>,
    mounted: bool,
    _folder: TempDir,
}

impl Mount {
    /// An empty file system in memory.
    pub fn tmpfs(bytes: u64) -> Result<Mount, String> {
        let mut mount = Mount::unmounted();
        let size = format!("size={bytes}");
        run("mount", &["-t", "tmpfs", "-o", &size, "hub-store-test", text(&mount.at)])?;
        mount.mounted = true;
        Ok(mount)
    }

    /// An empty ext4 file system in an image file.
    pub fn ext4(bytes: u64) -> Result<Mount, String> {
        let mut mount = Mount::unmounted();
        let image = mount._folder.path().join("image");
        std::fs::File::create(&image).and_then(|file| file.set_len(bytes)).expect("an image file");
        run("mkfs.ext4", &["-q", text(&image)])?;
        mount.device = Some(run("losetup", &["--find", "--show", text(&image)])?.trim().to_owned());
        mount.mount_again()?;
        Ok(mount)
    }

    /// What is in `folder`, not to be written through this mount.
    pub fn read_only(folder: &Path) -> Result<Mount, String> {
        let mut mount = Mount::unmounted();
        run("mount", &["--bind", text(folder), text(&mount.at)])?;
        mount.mounted = true;
        run("mount", &["-o", "remount,bind,ro", text(&mount.at)])?;
        Ok(mount)
    }

    fn unmounted() -> Mount {
        let folder = tempfile::tempdir().expect("a folder");
        let at = folder.path().join("disk");
        std::fs::create_dir(&at).expect("a folder to mount at");
        Mount { at, device: None, mounted: false, _folder: folder }
    }

    /// Where the file system is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Takes the disk away from under whoever writes: nothing that is not on it yet will ever be.
    pub fn cut_power(&self) -> Result<(), String> {
        run("python3", &["-c", CUT_POWER, text(&self.at)]).map(drop)
    }

    /// Mounts what the disk holds after a cut, as a machine does when it starts again. Nobody may have a file open.
    pub fn restart(&mut self) -> Result<(), String> {
        run("umount", &[text(&self.at)])?;
        self.mounted = false;
        self.mount_again()
    }

    fn mount_again(&mut self) -> Result<(), String> {
        let device = self.device.as_deref().expect("only ext4 is mounted again");
        run("mount", &["-t", "ext4", device, text(&self.at)])?;
        self.mounted = true;
        Ok(())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazy: a test that fails may still have a store open here, and the mount must go all the same.
        if self.mounted
            && let Err(problem) = run("umount", &["--lazy", text(&self.at)])
        {
            eprintln!("left behind: {problem}");
        }
        if let Some(device) = &self.device
            && let Err(problem) = run("losetup", &["--detach", device])
        {
            eprintln!("left behind: {problem}");
        }
    }
}

/// The mount, or nothing and a line that says so: see the head of this file.
pub fn or_say_why_not<T>(test: &str, mount: Result<T, String>) -> Option<T> {
    match mount {
        Ok(mount) => Some(mount),
        Err(reason) => {
            let required = std::env::var("FLEETYARD_TEST_MOUNTS").is_ok_and(|value| value == "required");
            assert!(!required, "{test} cannot run here: {reason}");
            eprintln!("DID NOT RUN: {test}: {reason}");
            None
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        // mkfs and losetup are root's, and not everybody's PATH has them.
        .env("PATH", format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()))
        .output()
        .map_err(|error| format!("{program} cannot be started: {error}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!(
            "{program} {}: {}",
            arguments.last().unwrap_or(&""),
            String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("no reason given")
        )),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have readable names")
}
