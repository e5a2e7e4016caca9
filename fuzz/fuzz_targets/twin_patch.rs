//! Any bytes are a patch or a clear error; a patch that is taken leaves a twin within its limits, the same when repeated.
#![no_main]

use hub_domain::json::size_bytes;
use hub_domain::limits::TWIN_SECTION_BYTES_MAX;
use hub_domain::time::Timestamp;
use hub_domain::twin::{Twin, TwinPatch, TwinUpdate, WriteMode};
use hub_domain::version::Precondition;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = serde_json::from_slice(bytes) else { return };
    let Ok(patch) = TwinPatch::from_value(value) else { return };
    let now = Timestamp::from_seconds(1);
    let Ok((once, _)) = Twin::new(now).patch_reported(&patch, None, now) else { return };
    assert!(size_bytes(&once.reported.values) <= TWIN_SECTION_BYTES_MAX);
    let (twice, _) = once.patch_reported(&patch, None, now).expect("the same again fits as well");
    assert_eq!(once.reported.values, twice.reported.values);
    let update = TwinUpdate { tags: None, desired: Some(patch) };
    if let Ok((twin, _)) = twice.update(&update, WriteMode::Replace, &Precondition::None, now) {
        assert_eq!(twin.desired.values, once.reported.values);
    }
});
