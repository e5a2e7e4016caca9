//! The firmware images of simulated devices: a line that names the version, then bytes of no meaning.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

const MAGIC: &str = "FLEETYARD-SIMULATED-FIRMWARE version=";
/// Longest first line of an image.
const HEADER_BYTES_MAX: u64 = 512;

/// An image of `version` with about `bytes` bytes; the same for the same arguments.
pub fn make_image(version: &str, bytes: usize) -> Vec<u8> {
    let mut image = format!("{MAGIC}{version}\n").into_bytes();
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    while image.len() < bytes {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        image.extend_from_slice(&word.to_le_bytes());
    }
    image
}

/// The version that an image names; errs with why it is none.
pub fn version_of(path: &Path) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| format!("the image cannot be read: {error}"))?;
    let mut line = Vec::new();
    let read = BufReader::new(file.take(HEADER_BYTES_MAX)).read_until(b'\n', &mut line);
    read.map_err(|error| format!("the image cannot be read: {error}"))?;
    let line =
        String::from_utf8(line).map_err(|_| "the file is no firmware of a simulated device".to_string())?;
    let version = line.strip_prefix(MAGIC).map(|version| version.trim_end().to_string());
    version
        .filter(|version| !version.is_empty())
        .ok_or_else(|| "the file is no firmware of a simulated device".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_names_its_version() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("image");
        std::fs::write(&path, make_image("2.1.0", 5000)).expect("written");
        assert_eq!(version_of(&path), Ok("2.1.0".into()));
        for bad in ["", "something else\n", &format!("{MAGIC}\n")] {
            std::fs::write(&path, bad).expect("written");
            assert!(version_of(&path).is_err(), "{bad}");
        }
    }
}
