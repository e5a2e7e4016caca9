//! A packed twin read again: reading may fail, whatever the bytes are, but must not panic.

use std::collections::BTreeMap;
use std::num::NonZeroU64;

use serde_json::{Number, Value};

use super::{DEPTH_MAX, Malformed, Opened, kind, node};
use crate::actor::Actor;
use crate::id::ConfigurationId;
use crate::json::Object;
use crate::time::Timestamp;
use crate::twin::{Authors, ConfigurationStatus, Metadata, Properties, Stamp, Twin, WrittenBy};

/// The twin in `bytes`.
pub fn open(bytes: &[u8]) -> Opened<Twin> {
    let mut opener = Opener::new(bytes);
    let twin = Twin {
        etag_counter: opener.number()?,
        tags: opener.object()?,
        desired: opener.section()?,
        reported: opener.section()?,
        model_id: opener.option()?.map(str::to_string),
        configurations: opener.many(Opener::configuration)?,
        authors: Authors::new(opener.many(Opener::author)?),
        // Came later.
        let_in: if opener.rest.is_empty() { BTreeMap::new() } else { opener.many(Opener::let_in)? },
    };
    if opener.rest.is_empty() { Ok(twin) } else { Err(Malformed) }
}

/// Reads on in bytes that may be damaged.
#[derive(Clone)]
pub struct Opener<'p> {
    rest: &'p [u8],
    writers: Vec<WrittenBy>,
    depth: usize,
}

impl<'p> Opener<'p> {
    pub fn new(bytes: &'p [u8]) -> Self {
        Self { rest: bytes, writers: Vec::new(), depth: 0 }
    }

    /// Whether all was read.
    pub fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// The byte that is read next.
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    pub fn take(&mut self, count: u64) -> Opened<&'p [u8]> {
        let count = usize::try_from(count).map_err(|_| Malformed)?;
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    pub fn byte(&mut self) -> Opened<u8> {
        let (byte, rest) = self.rest.split_first().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*byte)
    }

    pub fn number(&mut self) -> Opened<u64> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    /// A text, as its bytes.
    pub fn bytes(&mut self) -> Opened<&'p [u8]> {
        let length = self.number()?;
        self.take(length)
    }

    fn text_of(&mut self, length: u64) -> Opened<&'p str> {
        std::str::from_utf8(self.take(length)?).map_err(|_| Malformed)
    }

    pub fn text(&mut self) -> Opened<&'p str> {
        let length = self.number()?;
        self.text_of(length)
    }

    pub fn option(&mut self) -> Opened<Option<&'p str>> {
        self.number()?.checked_sub(1).map(|length| self.text_of(length)).transpose()
    }

    /// As many as a number says. Each takes a byte at least, so that a wrong number ends with the bytes.
    pub fn many<T, C: FromIterator<T>>(&mut self, one: fn(&mut Self) -> Opened<T>) -> Opened<C> {
        (0..self.number()?).map(|_| one(self)).collect()
    }

    /// What is one level deeper.
    pub fn below<T>(&mut self, open: impl FnOnce(&mut Self) -> Opened<T>) -> Opened<T> {
        self.depth += 1;
        let opened = if self.depth > DEPTH_MAX { Err(Malformed) } else { open(self) };
        self.depth -= 1;
        opened
    }

    fn object(&mut self) -> Opened<Object> {
        self.many(|opener| Ok((opener.text()?.to_string(), opener.value()?)))
    }

    fn value(&mut self) -> Opened<Value> {
        Ok(match self.byte()? {
            kind::NULL => Value::Null,
            kind::FALSE => Value::Bool(false),
            kind::TRUE => Value::Bool(true),
            kind::POSITIVE => self.number()?.into(),
            kind::NEGATIVE => (self.number()? as i64).wrapping_neg().into(),
            kind::FLOAT => {
                let bytes = self.take(8)?.try_into().map_err(|_| Malformed)?;
                Value::Number(Number::from_f64(f64::from_le_bytes(bytes)).ok_or(Malformed)?)
            }
            kind::TEXT => self.text()?.into(),
            kind::ARRAY => self.below(|opener| opener.many(Self::value).map(Value::Array))?,
            kind::OBJECT => Value::Object(self.below(Self::object)?),
            _ => return Err(Malformed),
        })
    }

    fn section(&mut self) -> Opened<Properties> {
        let version = self.number()?;
        let values = self.object()?;
        let parent = Stamp { at: Timestamp::from_ticks(0), version: None, by: None };
        let metadata = self.node(&parent, &values)?.ok_or(Malformed)?;
        Ok(Properties { values, metadata, version })
    }

    fn node(&mut self, parent: &Stamp, values: &Object) -> Opened<Option<Metadata>> {
        let bits = self.byte()?;
        if bits == node::NONE {
            return Ok(None);
        }
        let stamp = if bits & node::STAMP == 0 { parent.clone() } else { self.stamp(parent)? };
        let mut metadata = Metadata::leaf(stamp);
        if bits & node::CHILDREN == 0 {
            return Ok(Some(metadata));
        }
        let stamp = metadata.stamp.clone();
        metadata.children = self.below(|opener| opener.children(&stamp, values))?;
        Ok(Some(metadata))
    }

    fn children(&mut self, stamp: &Stamp, values: &Object) -> Opened<BTreeMap<String, Metadata>> {
        let none = Object::new();
        let mirrored = values.iter().filter_map(|(name, value)| {
            let child = self.node(stamp, value.as_object().unwrap_or(&none)).transpose()?;
            Some(child.map(|child| (name.clone(), child)))
        });
        let mut children: BTreeMap<_, _> = mirrored.collect::<Opened<_>>()?;
        for _ in 0..self.number()? {
            let name = self.text()?.to_string();
            children.insert(name, self.node(stamp, &none)?.ok_or(Malformed)?);
        }
        Ok(children)
    }

    pub fn stamp(&mut self, parent: &Stamp) -> Opened<Stamp> {
        let later = self.number()?;
        let later = (later >> 1) as i64 ^ -((later & 1) as i64);
        let at = Timestamp::from_ticks(parent.at.ticks().wrapping_add(later));
        Ok(Stamp { at, version: NonZeroU64::new(self.number()?), by: self.writer()? })
    }

    fn writer(&mut self) -> Opened<Option<WrittenBy>> {
        let Some(number) = self.number()?.checked_sub(1) else { return Ok(None) };
        if number == self.writers.len() as u64 {
            let by = WrittenBy::new(self.configuration_id()?, self.number()?, self.byte()? != 0);
            self.writers.push(by);
        }
        self.writers.get(number as usize).cloned().map(Some).ok_or(Malformed)
    }

    fn configuration_id(&mut self) -> Opened<ConfigurationId> {
        ConfigurationId::parse(self.text()?).map_err(|_| Malformed)
    }

    pub fn configuration(&mut self) -> Opened<(ConfigurationId, ConfigurationStatus)> {
        let id = self.configuration_id()?;
        Ok((id, ConfigurationStatus::parse(self.text()?).ok_or(Malformed)?))
    }

    pub fn let_in(&mut self) -> Opened<(ConfigurationId, u64)> {
        Ok((self.configuration_id()?, self.number()?))
    }

    pub fn author(&mut self) -> Opened<(u64, Actor)> {
        Ok((self.number()?, Actor::parse(self.text()?).ok_or(Malformed)?))
    }
}
