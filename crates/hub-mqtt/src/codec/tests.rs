//! The codec by tables and properties: what is whole decodes, what is cut waits, what is wrong errs, nothing panics.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;

fn decode_all(bytes: &[u8]) -> Result<Vec<Incoming>, DecodeError> {
    let mut buffer = BytesMut::from(bytes);
    let mut packets = Vec::new();
    while let Some(packet) = decode(&mut buffer)? {
        packets.push(packet);
    }
    Ok(packets)
}

#[test]
fn packets_of_official_clients() {
    let connect = b"\x10\x21\x00\x04MQTT\x04\xc0\x00\x3c\x00\x02d1\x00\x0blocalhost/d\x00\x04abcd";
    let [Incoming::Connect(connect)] = &decode_all(connect).expect("CONNECT")[..] else { panic!("CONNECT") };
    assert_eq!((connect.client_id.as_str(), connect.keep_alive, connect.clean), ("d1", 60, false));
    assert_eq!(connect.password, Some(Bytes::from_static(b"abcd")));
    // The C client puts raw '+', '#', spaces and '/' into topics.
    let topic = "devices/d1/messages/events/kv=a+b/c&x=# y";
    let mut publish = vec![0x32, (2 + topic.len() + 2 + 1) as u8, 0, topic.len() as u8];
    publish.extend_from_slice(topic.as_bytes());
    publish.extend_from_slice(&[0, 7, b'!']);
    let [Incoming::Publish(publish)] = &decode_all(&publish).expect("PUBLISH")[..] else { panic!("PUBLISH") };
    assert_eq!((publish.topic.as_str(), publish.qos, publish.packet), (topic, 1, 7));
    assert_eq!(decode_all(b"\xc0\x00\xe0\x00"), Ok(vec![Incoming::PingReq, Incoming::Disconnect]));
}

#[test]
fn what_is_wrong_errs() {
    let malformed = |bytes: &[u8]| match decode_all(bytes) {
        Err(DecodeError::Malformed(_)) => {}
        other => panic!("{bytes:?}: {other:?}"),
    };
    malformed(b"\x00\x00");
    malformed(b"\xf0\x00");
    malformed(b"\x20\x02\x00\x00");
    malformed(b"\xc1\x00");
    malformed(b"\x80\x02\x00\x01");
    malformed(b"\x82\x02\x00\x01");
    malformed(b"\x82\x06\x00\x01\x00\x01a\x03");
    malformed(b"\x30\x02\x00\x00");
    malformed(b"\x36\x05\x00\x01a\x00\x01");
    malformed(b"\x32\x05\x00\x01a\x00\x00");
    malformed(b"\x38\x03\x00\x01a");
    malformed(b"\x30\x04\x00\x02\xc3\x28");
    malformed(b"\x30\x03\x00\x01\x00");
    malformed(b"\x30\x03\x00\x05a");
    malformed(b"\xc0\x01a");
    malformed(b"\x30\xff\xff\xff\xff\x7f");
    assert_eq!(
        decode_all(b"\x10\x0c\x00\x06MQIsdp\x03\x02\x00\x3c"),
        Err(DecodeError::OtherProtocol { name: "MQIsdp".into(), level: 3 })
    );
    assert_eq!(
        decode_all(b"\x10\x0a\x00\x04MQTT\x05\x02\x00\x3c"),
        Err(DecodeError::OtherProtocol { name: "MQTT".into(), level: 5 })
    );
    assert!(
        matches!(decode_all(b"\x30\xff\xff\xff\x7f"), Err(DecodeError::TooLarge(_))),
        "known before it has arrived"
    );
}

fn publish() -> impl Strategy<Value = Publish> {
    ("[ -~]{1,40}", 0u8..=1, any::<bool>(), any::<bool>(), 1u16.., prop::collection::vec(any::<u8>(), 0..300))
        .prop_map(|(topic, qos, dup, retain, packet, payload)| Publish {
            topic,
            qos,
            dup: dup && qos > 0,
            retain,
            packet: if qos > 0 { packet } else { 0 },
            payload: payload.into(),
        })
}

proptest! {
    #[test]
    fn what_is_encoded_decodes(publishes in prop::collection::vec(publish(), 1..5), cut in 0usize..200) {
        let mut bytes = BytesMut::new();
        for publish in &publishes {
            encode(&Outgoing::Publish(publish.clone()), &mut bytes);
        }
        let expected: Vec<_> = publishes.into_iter().map(Incoming::Publish).collect();
        prop_assert_eq!(decode_all(&bytes), Ok(expected.clone()));
        // Fed in two pieces it is the same.
        let cut = cut.min(bytes.len());
        let (mut buffer, mut packets) = (BytesMut::from(&bytes[..cut]), Vec::new());
        while let Some(packet) = decode(&mut buffer).expect("whole packets") { packets.push(packet); }
        buffer.extend_from_slice(&bytes[cut..]);
        while let Some(packet) = decode(&mut buffer).expect("whole packets") { packets.push(packet); }
        prop_assert_eq!(packets, expected);
    }

    #[test]
    fn nothing_from_outside_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = decode_all(&bytes);
    }
}
