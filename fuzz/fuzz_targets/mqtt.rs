//! Any bytes are packets or a clear error, the same however they are cut into pieces.
#![no_main]

use bytes::BytesMut;
use hub_mqtt::codec::{Incoming, decode};
use libfuzzer_sys::fuzz_target;

fn drain(buffer: &mut BytesMut, into: &mut Vec<Incoming>) -> bool {
    loop {
        match decode(buffer) {
            Ok(Some(packet)) => into.push(packet),
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

fuzz_target!(|input: (usize, &[u8])| {
    let (cut, bytes) = input;
    let (mut whole, mut packets) = (BytesMut::from(bytes), Vec::new());
    let good = drain(&mut whole, &mut packets);
    let cut = cut.checked_rem(bytes.len()).unwrap_or(0);
    let (mut pieces, mut again) = (BytesMut::from(&bytes[..cut]), Vec::new());
    let mut still_good = drain(&mut pieces, &mut again);
    if still_good {
        pieces.extend_from_slice(&bytes[cut..]);
        still_good = drain(&mut pieces, &mut again);
    }
    assert_eq!((good, &packets), (still_good, &again));
});
