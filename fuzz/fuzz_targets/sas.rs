//! Any text is a token or a clear error, and none that was not signed verifies.
#![no_main]

use hub_domain::id::TwinId;
use hub_domain::sas::{SasToken, SymmetricKey};
use hub_domain::time::Timestamp;
use hub_domain::version::Precondition;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let key = SymmetricKey::from_bytes(vec![7; 32]).expect("a key");
    if let Ok(token) = SasToken::parse(text) {
        assert!(!token.is_signed_by(&key));
        token.covers(&["devices", "d1"]);
        token.is_expired(Timestamp::from_seconds(1));
    }
    let _ = SymmetricKey::parse(text);
    if let Ok(id) = TwinId::parse(text, None) {
        assert_eq!(id.to_string(), text);
    }
    if let Some(time) = Timestamp::parse(text) {
        assert_eq!(Timestamp::parse(&time.to_string()), Some(time));
    }
    Precondition::parse(Some(text));
});
