//! Any text is a topic, filter, user name and property bag, or is refused.
#![no_main]

use hub_domain::id::TwinId;
use hub_mqtt::topics::{DeviceTopic, Username, family_of, parse_bag};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    DeviceTopic::parse(text);
    parse_bag(text);
    if let Ok(name) = Username::parse(text) {
        let again = Username::parse(&format!("host/{}/?api-version=1", name.client_id())).expect("ids parse again");
        assert_eq!(again.id, name.id);
    }
    let id = TwinId::parse("d1", Some("m1")).expect("an id");
    family_of(text, &id);
});
