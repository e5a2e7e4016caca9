//! Bytes to packets. Whole packets only: while bytes are missing, nothing is taken from the buffer.

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};

use super::{Connect, Incoming, PACKET_BYTES_MAX, Publish};

/// Why bytes are not a packet. The connection cannot go on after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The client speaks another version of the protocol; it is told so.
    OtherProtocol {
        /// As it named itself.
        name: String,
        /// Its level.
        level: u8,
    },
    /// The packet is larger than allowed.
    TooLarge(usize),
    /// The bytes break a rule of the protocol.
    Malformed(&'static str),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::OtherProtocol { name, level } => {
                write!(f, "protocol {name} level {level} is not spoken here, only MQTT level 4 (3.1.1)")
            }
            DecodeError::TooLarge(bytes) => {
                write!(f, "the packet has {bytes} bytes, at most {PACKET_BYTES_MAX} are allowed")
            }
            DecodeError::Malformed(what) => write!(f, "malformed packet: {what}"),
        }
    }
}

impl std::error::Error for DecodeError {}

type Result<T> = std::result::Result<T, DecodeError>;

const fn malformed<T>(what: &'static str) -> Result<T> {
    Err(DecodeError::Malformed(what))
}

/// Takes one packet off the front of `buffer`, or says that more bytes are needed.
pub fn decode(buffer: &mut BytesMut) -> Result<Option<Incoming>> {
    let Some((header, length)) = fixed_header(buffer)? else { return Ok(None) };
    if length > PACKET_BYTES_MAX {
        return Err(DecodeError::TooLarge(length));
    }
    if buffer.len() < header + length {
        return Ok(None);
    }
    let first = buffer[0];
    buffer.advance(header);
    let mut body = buffer.split_to(length).freeze();
    let packet = packet(first, &mut body)?;
    if body.has_remaining() { malformed("bytes are left over at its end") } else { Ok(Some(packet)) }
}

/// Length of the fixed header and of what follows.
fn fixed_header(buffer: &[u8]) -> Result<Option<(usize, usize)>> {
    let mut length = 0usize;
    for (at, byte) in buffer.iter().skip(1).take(4).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((at + 2, length)));
        }
    }
    if buffer.len() > 4 { malformed("its length has more than four bytes") } else { Ok(None) }
}

fn packet(first: u8, body: &mut Bytes) -> Result<Incoming> {
    match (first >> 4, first & 0x0f) {
        (1, 0) => connect(body).map(Incoming::Connect),
        (3, flags) => publish(flags, body).map(Incoming::Publish),
        (4, 0) => packet_id(body).map(Incoming::PubAck),
        (8, 2) => subscribe(body),
        (10, 2) => unsubscribe(body),
        (12, 0) => Ok(Incoming::PingReq),
        (14, 0) => Ok(Incoming::Disconnect),
        (1 | 4 | 8 | 10 | 12 | 14, _) => malformed("reserved flags are set"),
        _ => malformed("a packet of this type is not for a server"),
    }
}

fn u8(body: &mut Bytes) -> Result<u8> {
    if body.has_remaining() { Ok(body.get_u8()) } else { malformed("it ends too early") }
}

fn u16(body: &mut Bytes) -> Result<u16> {
    if body.remaining() >= 2 { Ok(body.get_u16()) } else { malformed("it ends too early") }
}

fn packet_id(body: &mut Bytes) -> Result<u16> {
    match u16(body)? {
        0 => malformed("its packet id is 0"),
        id => Ok(id),
    }
}

fn binary(body: &mut Bytes) -> Result<Bytes> {
    let length = usize::from(u16(body)?);
    if body.remaining() < length { malformed("it ends too early") } else { Ok(body.split_to(length)) }
}

fn text(body: &mut Bytes) -> Result<String> {
    let text = String::from_utf8(binary(body)?.to_vec())
        .map_err(|_| DecodeError::Malformed("a text is not UTF-8"))?;
    if text.contains('\0') { malformed("a text contains U+0000") } else { Ok(text) }
}

fn connect(body: &mut Bytes) -> Result<Connect> {
    let (name, level) = (text(body)?, u8(body)?);
    if name != "MQTT" || level != 4 {
        return Err(DecodeError::OtherProtocol { name, level });
    }
    let flags = u8(body)?;
    if flags & 0x01 != 0 {
        return malformed("the reserved flag of CONNECT is set");
    }
    let keep_alive = u16(body)?;
    let client_id = text(body)?;
    let (has_will, will_qos) = (flags & 0x04 != 0, (flags >> 3) & 0x03);
    if will_qos == 3 || (!has_will && flags & 0x38 != 0) {
        return malformed("the will flags of CONNECT contradict each other");
    }
    let mut will = None;
    if has_will {
        let (topic, payload) = (text(body)?, binary(body)?);
        will =
            Some(Publish { topic, payload, qos: will_qos, retain: flags & 0x20 != 0, ..Publish::default() });
    }
    let username = if flags & 0x80 != 0 { Some(text(body)?) } else { None };
    let password = if flags & 0x40 != 0 { Some(binary(body)?) } else { None };
    Ok(Connect { level, clean: flags & 0x02 != 0, keep_alive, client_id, will, username, password })
}

fn publish(flags: u8, body: &mut Bytes) -> Result<Publish> {
    let qos = (flags >> 1) & 0x03;
    if qos == 3 || (qos == 0 && flags & 0x08 != 0) {
        return malformed("the flags of PUBLISH contradict each other");
    }
    let topic = text(body)?;
    if topic.is_empty() {
        return malformed("its topic is empty");
    }
    let packet = if qos > 0 { packet_id(body)? } else { 0 };
    let payload = body.split_to(body.len());
    Ok(Publish { topic, qos, dup: flags & 0x08 != 0, retain: flags & 0x01 != 0, packet, payload })
}

fn subscribe(body: &mut Bytes) -> Result<Incoming> {
    let packet = packet_id(body)?;
    let mut filters = Vec::new();
    while body.has_remaining() {
        let (filter, qos) = (text(body)?, u8(body)?);
        if qos > 2 {
            return malformed("a filter asks for a QoS above 2");
        }
        filters.push((filter, qos));
    }
    if filters.is_empty() {
        malformed("it names no filter")
    } else {
        Ok(Incoming::Subscribe { packet, filters })
    }
}

fn unsubscribe(body: &mut Bytes) -> Result<Incoming> {
    let packet = packet_id(body)?;
    let mut filters = Vec::new();
    while body.has_remaining() {
        filters.push(text(body)?);
    }
    if filters.is_empty() {
        malformed("it names no filter")
    } else {
        Ok(Incoming::Unsubscribe { packet, filters })
    }
}
