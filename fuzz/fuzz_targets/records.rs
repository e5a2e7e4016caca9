//! Any bytes at any key are a row or an error that names the key.
#![no_main]

use hub_domain::event::Position;
use hub_domain::id::TwinId;
use hub_store::Key;
use hub_store::keys::RowKey;
use hub_store::records::{artifact, event, identity, meta, session, twin};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let id = TwinId::parse("d1", None).expect("an id");
    let _ = identity::decode(&RowKey::Identity(id.clone()).to_key(), bytes);
    let _ = twin::decode(&RowKey::Twin(id.clone()).to_key(), bytes);
    let _ = session::decode(&RowKey::Session(id).to_key(), bytes);
    let _ = event::decode(&RowKey::Event(Position { commit: 1, place: 0 }).to_key(), bytes);
    let _ = meta::decode(&RowKey::Meta("a".into()).to_key(), bytes);
    let key = Key::new(bytes.to_vec());
    let _ = artifact::decode(&key, bytes);
    if let Some(parsed) = RowKey::parse(&key) {
        assert_eq!(parsed.to_key(), key);
    }
});
