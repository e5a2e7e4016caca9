//! Packets to bytes.

use bytes::{BufMut, BytesMut};

use super::{Outgoing, Publish};

/// Appends a packet to `buffer`.
pub fn encode(packet: &Outgoing, buffer: &mut BytesMut) {
    match packet {
        Outgoing::ConnAck { session_present, code } => {
            buffer.extend_from_slice(&[0x20, 2, u8::from(*session_present), *code]);
        }
        Outgoing::Publish(publish) => encode_publish(publish, buffer),
        Outgoing::PubAck(packet) => with_packet(0x40, *packet, &[], buffer),
        Outgoing::SubAck(packet, codes) => with_packet(0x90, *packet, codes, buffer),
        Outgoing::UnsubAck(packet) => with_packet(0xb0, *packet, &[], buffer),
        Outgoing::PingResp => buffer.extend_from_slice(&[0xd0, 0]),
    }
}

fn with_packet(first: u8, packet: u16, rest: &[u8], buffer: &mut BytesMut) {
    buffer.put_u8(first);
    length(2 + rest.len(), buffer);
    buffer.put_u16(packet);
    buffer.extend_from_slice(rest);
}

fn encode_publish(publish: &Publish, buffer: &mut BytesMut) {
    let Publish { topic, qos, dup, retain, packet, payload } = publish;
    buffer.put_u8(0x30 | u8::from(*dup) << 3 | qos << 1 | u8::from(*retain));
    let packet_bytes = if *qos > 0 { 2 } else { 0 };
    length(2 + topic.len() + packet_bytes + payload.len(), buffer);
    buffer.put_u16(u16::try_from(topic.len()).expect("the hub's own topics are short"));
    buffer.extend_from_slice(topic.as_bytes());
    if *qos > 0 {
        buffer.put_u16(*packet);
    }
    buffer.extend_from_slice(payload);
}

fn length(mut length: usize, buffer: &mut BytesMut) {
    loop {
        let byte = (length % 128) as u8;
        length /= 128;
        buffer.put_u8(if length > 0 { byte | 0x80 } else { byte });
        if length == 0 {
            return;
        }
    }
}
