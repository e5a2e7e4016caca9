//! A twin in few bytes: for memory, since nobody writes most twins at the moment, and for the store, whose rows need no
//! other form to be loaded. Packing must lose nothing, and no bytes that a disk gives back may make opening panic.
//!
//! Values and stamps are walked side by side, so that each name is there once; a stamp that is its parent's is one byte.
//! The form is a format of the store: it may only grow at its end, and what is not there is then nothing.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;

use serde_json::Value;

use super::{Connection, Metadata, Properties, Stamp, Twin, WrittenBy};
use crate::id::ConfigurationId;
use crate::identity::Identity;
use crate::json::Object;
use crate::time::Timestamp;

mod open;
mod print;
mod walk;

pub use walk::{Shown, Summary, VisitedSection, Visitor};

/// Deepest nesting of values and stamps that is opened: more than any limit of twins lets in.
const DEPTH_MAX: usize = 128;

/// These bytes are no twin that was packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

type Opened<T> = Result<T, Malformed>;

/// Why reading cannot fail.
const SOUND: &str = "packed here, or looked at when it was taken from the store";

/// Bytes that most twins have room in.
const USUAL_BYTES: usize = 1024;

/// See the module. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackedTwin {
    bytes: Arc<[u8]>,
}

impl PackedTwin {
    /// Packs a twin.
    pub fn new(twin: &Twin) -> Self {
        let mut packer = Packer { bytes: Vec::with_capacity(USUAL_BYTES), writers: Vec::new() };
        packer.number(twin.etag_counter);
        packer.object(&twin.tags);
        packer.section(&twin.desired);
        packer.section(&twin.reported);
        packer.option(twin.model_id.as_deref());
        packer.number(twin.configurations.len() as u64);
        for (id, status) in &twin.configurations {
            packer.text(id.as_str());
            packer.text(status.as_str());
        }
        packer.number(twin.authors.entries().len() as u64);
        for (version, actor) in twin.authors.entries() {
            packer.number(*version);
            packer.text(&actor.to_string());
        }
        packer.let_in(&twin.let_in);
        Self { bytes: packer.bytes.into() }
    }

    /// Takes bytes that [`PackedTwin::as_bytes`] gave, once it has looked at all of them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::take(bytes, &mut walk::Nobody).map(|(packed, _)| packed)
    }

    /// The same; on the way it shows them as [`PackedTwin::walk`] does, since who takes millions should not look twice.
    pub fn take<'p>(
        bytes: &'p [u8],
        visitor: &mut impl Visitor<'p>,
    ) -> Result<(Self, Summary<'p>), Malformed> {
        let summary = walk::walk(bytes, visitor)?;
        Ok((Self { bytes: bytes.into() }, summary))
    }

    /// The bytes, for the store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The twin in bytes that [`PackedTwin::as_bytes`] gave.
    pub fn open_bytes(bytes: &[u8]) -> Result<Twin, Malformed> {
        open::open(bytes)
    }

    /// The twin again, equal in everything.
    pub fn open(&self) -> Twin {
        open::open(&self.bytes).expect(SOUND)
    }

    /// Shows the values one after the other to a visitor; returns what is beside them.
    pub fn walk<'p>(&'p self, visitor: &mut impl Visitor<'p>) -> Summary<'p> {
        walk::walk(&self.bytes, visitor).expect(SOUND)
    }

    /// The text of the [document](super::TwinDocument) that it is with the rest, made without opening it.
    pub fn print(&self, identity: &Identity, connection: Connection) -> String {
        print::print(self, identity, connection)
    }

    /// How much memory it takes.
    pub fn bytes(&self) -> usize {
        // Two counts come before the bytes.
        size_of::<Self>() + 2 * size_of::<usize>() + self.bytes.len()
    }
}

/// What a value is, in its first byte.
mod kind {
    pub const NULL: u8 = 0;
    pub const FALSE: u8 = 1;
    pub const TRUE: u8 = 2;
    pub const POSITIVE: u8 = 3;
    pub const NEGATIVE: u8 = 4;
    pub const FLOAT: u8 = 5;
    pub const TEXT: u8 = 6;
    pub const ARRAY: u8 = 7;
    pub const OBJECT: u8 = 8;
}

/// What is known of a property's metadata, in one byte.
mod node {
    /// The property has none.
    pub const NONE: u8 = 0;
    /// A node, with the bits below.
    pub const THERE: u8 = 1;
    /// Its stamp is not its parent's.
    pub const STAMP: u8 = 2;
    /// It has children.
    pub const CHILDREN: u8 = 4;
}

struct Packer {
    bytes: Vec<u8>,
    writers: Vec<WrittenBy>,
}

impl Packer {
    /// At the end, where nothing is if there is none.
    fn let_in(&mut self, let_in: &BTreeMap<ConfigurationId, u64>) {
        if !let_in.is_empty() {
            self.number(let_in.len() as u64);
        }
        for (id, digest) in let_in {
            self.text(id.as_str());
            self.number(*digest);
        }
    }

    /// Seven bits a byte, the lowest first.
    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// One more than the length, so that nothing is not the empty text.
    fn option(&mut self, text: Option<&str>) {
        self.number(text.map_or(0, |text| text.len() as u64 + 1));
        self.bytes.extend_from_slice(text.unwrap_or_default().as_bytes());
    }

    fn object(&mut self, object: &Object) {
        self.number(object.len() as u64);
        for (name, value) in object {
            self.text(name);
            self.value(value);
        }
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.bytes.push(kind::NULL),
            Value::Bool(false) => self.bytes.push(kind::FALSE),
            Value::Bool(true) => self.bytes.push(kind::TRUE),
            Value::Number(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => {
                    self.bytes.push(kind::POSITIVE);
                    self.number(number);
                }
                (None, Some(number)) => {
                    self.bytes.push(kind::NEGATIVE);
                    self.number(number.unsigned_abs());
                }
                (None, None) => {
                    self.bytes.push(kind::FLOAT);
                    self.bytes.extend(number.as_f64().expect("a number").to_le_bytes());
                }
            },
            Value::String(text) => {
                self.bytes.push(kind::TEXT);
                self.text(text);
            }
            Value::Array(items) => {
                self.bytes.push(kind::ARRAY);
                self.number(items.len() as u64);
                items.iter().for_each(|item| self.value(item));
            }
            Value::Object(object) => {
                self.bytes.push(kind::OBJECT);
                self.object(object);
            }
        }
    }

    fn section(&mut self, section: &Properties) {
        self.number(section.version);
        self.object(&section.values);
        let parent = Stamp { at: Timestamp::from_ticks(0), version: None, by: None };
        self.node(Some(&section.metadata), &parent, &section.values);
    }

    fn node(&mut self, metadata: Option<&Metadata>, parent: &Stamp, values: &Object) {
        let Some(Metadata { stamp, children }) = metadata else { return self.bytes.push(node::NONE) };
        let (differs, has_children) = (stamp != parent, !children.is_empty());
        let bits = node::THERE
            | if differs { node::STAMP } else { 0 }
            | if has_children { node::CHILDREN } else { 0 };
        self.bytes.push(bits);
        if differs {
            self.stamp(stamp, parent);
        }
        if !has_children {
            return;
        }
        let none = Object::new();
        // There should be none: metadata mirrors the values, so both are walked through side by side.
        let mut others = Vec::new();
        let mut rest = children.iter().peekable();
        for (name, value) in values {
            others.extend(std::iter::from_fn(|| rest.next_if(|(child, _)| *child < name)));
            let child = rest.next_if(|(child, _)| *child == name).map(|(_, child)| child);
            self.node(child, stamp, value.as_object().unwrap_or(&none));
        }
        others.extend(rest);
        self.number(others.len() as u64);
        for (name, child) in others {
            self.text(name);
            self.node(Some(child), stamp, &none);
        }
    }

    fn stamp(&mut self, stamp: &Stamp, parent: &Stamp) {
        let later = stamp.at.ticks().wrapping_sub(parent.at.ticks());
        self.number(((later << 1) ^ (later >> 63)) as u64);
        self.number(stamp.version.map_or(0, NonZeroU64::get));
        let Some(by) = &stamp.by else { return self.number(0) };
        let known = self.writers.iter().position(|known| known == by);
        self.number(known.unwrap_or(self.writers.len()) as u64 + 1);
        // Told where it first occurs; from then on its number says it.
        if known.is_none() {
            self.text(by.configuration().as_str());
            self.number(by.digest());
            self.bytes.push(by.is_deployment().into());
            self.writers.push(by.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::tests::any_object;
    use super::super::{ConfigurationStatus, TwinDocument, TwinPatch, TwinUpdate, WriteMode};
    use super::*;
    use crate::actor::Actor;
    use crate::id::{JobId, TwinId};
    use crate::identity::{Authentication, Status};
    use crate::version::Precondition;

    fn actor(number: u8) -> Actor {
        match number % 5 {
            0 => Actor::Policy("owner".into()),
            1 => Actor::Device(TwinId::parse("d", Some("m")).expect("an id")),
            2 => Actor::Job(JobId::parse("j").expect("an id")),
            3 => Actor::Configuration(ConfigurationId::parse("c").expect("an id")),
            _ => Actor::Hub,
        }
    }

    fn at(seconds: u32) -> Timestamp {
        Timestamp::from_seconds(i64::from(seconds))
    }

    /// Stamps here and there with the name of a configuration.
    fn sign(metadata: &mut Metadata, every: &mut u8) {
        *every = every.wrapping_add(1);
        if every.is_multiple_of(3) {
            let id = ConfigurationId::parse(["c", "d"][usize::from(*every % 2)]).expect("an id");
            metadata.stamp.by = Some(WrittenBy::new(id, u64::from(*every) << 40, every.is_multiple_of(4)));
        }
        metadata.children.values_mut().for_each(|child| sign(child, every));
    }

    /// What is taken from the store can be opened and printed.
    fn check(bytes: &[u8]) {
        if let Ok(packed) = PackedTwin::from_bytes(bytes) {
            check_print(&packed);
        }
    }

    fn check_print(packed: &PackedTwin) {
        let id = TwinId::parse("d", None).expect("an id");
        let identity = Identity {
            id,
            generation: "1".into(),
            etag_counter: 1,
            status: Status::Enabled,
            status_reason: Some("\"why\"\n".into()),
            status_updated: at(1),
            authentication: Authentication::None,
            managed_by: None,
            edge: false,
            device_scope: None,
            parent_scopes: Vec::new(),
        };
        let twin = packed.open();
        let document = TwinDocument { identity: &identity, twin: &twin, connection: Connection::NEVER };
        let printed = packed.print(&identity, Connection::NEVER);
        let read: Value = serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"));
        // Read again as well, since that may cost a float its last digit.
        let expected: Value = serde_json::from_str(&document.to_json().to_string()).expect("JSON");
        assert_eq!(read, expected);
    }

    proptest! {
        #[test]
        fn what_was_packed_opens_as_it_was(
            steps in proptest::collection::vec((any_object(), any_object(), any_object(), any::<u32>(), any::<u8>()), 0..5),
            configured in any::<bool>(),
        ) {
            let mut twin = Twin::new(at(1));
            for (tags, desired, reported, time, by) in steps {
                let update = TwinUpdate { tags: TwinPatch::new(tags).ok(), desired: TwinPatch::new(desired).ok() };
                let mode = if by % 2 == 0 { WriteMode::Patch } else { WriteMode::Replace };
                if let Ok((new, _)) = twin.update(&update, mode, &Precondition::None, at(time)) {
                    twin = new.written_by(actor(by));
                }
                if let Some(patch) = TwinPatch::new(reported).ok()
                    && let Ok((new, _)) = twin.patch_reported(&patch, None, at(time / 2))
                {
                    twin = new;
                }
                sign(&mut twin.desired.metadata, &mut by.clone());
                twin.model_id = (by % 3 == 0).then(|| "x".repeat(usize::from(by % 2)));
            }
            if configured {
                let id = ConfigurationId::parse("c").expect("an id");
                twin.configurations.insert(id.clone(), ConfigurationStatus::Targeted);
                twin.let_in.insert(id, u64::MAX);
                // Nothing writes metadata of what is not there, and yet it must not get lost.
                let stray = Metadata::leaf(Stamp::desired(at(9), 9));
                twin.reported.metadata.children.insert("stray".into(), stray);
            }
            let packed = PackedTwin::new(&twin);
            prop_assert_eq!(packed.open(), twin.clone());
            let taken = PackedTwin::from_bytes(packed.as_bytes()).expect("bytes of its own");
            prop_assert_eq!((taken.as_bytes(), taken.open()), (packed.as_bytes(), twin.clone()));
            check_print(&packed);
            // What came later may be missing as a whole; nothing else may.
            let former = PackedTwin::new(&Twin { let_in: BTreeMap::new(), ..twin });
            let ends = [former.as_bytes().len(), packed.as_bytes().len()];
            for length in (0..ends[1]).filter(|length| !ends.contains(length)) {
                prop_assert_eq!(PackedTwin::from_bytes(&packed.as_bytes()[..length]).err(), Some(Malformed));
            }
        }

        /// Whatever a damaged disk gives back, it is refused or it is a twin.
        #[test]
        fn damaged_bytes_never_panic(noise in proptest::collection::vec(any::<u8>(), 0..200), at in any::<usize>()) {
            check(&noise);
            let mut twin = Twin::new(self::at(1));
            twin.tags.insert("site".into(), json!({"a": [1, -2, 0.5, null, true, "x"]}));
            let mut bytes = PackedTwin::new(&twin).as_bytes().to_vec();
            let at = at % bytes.len();
            for byte in &noise {
                bytes[at] = *byte;
                check(&bytes);
            }
        }
    }

    #[test]
    fn nesting_without_end_is_refused() {
        let mut bytes = vec![0, 1, 1, b'a'];
        bytes.extend(std::iter::repeat_n([kind::ARRAY, 1], 1_000_000).flatten());
        assert_eq!(PackedTwin::from_bytes(&bytes).err(), Some(Malformed));
    }

    #[test]
    fn numbers_keep_their_kind_and_sign() {
        for number in
            [json!(0), json!(-1), json!(i64::MIN), json!(u64::MAX), json!(-0.0), json!(1.0), json!(1e300)]
        {
            let mut twin = Twin::new(at(1));
            twin.tags.insert("n".into(), number.clone());
            let opened = PackedTwin::new(&twin).open();
            assert_eq!(opened.tags["n"].to_string(), number.to_string());
        }
    }
}
