//! A walk over a packed twin that builds nothing of it: for columns, for its text, and to see whether the bytes are sound.
//! What it passes, opening must pass, too.

use std::collections::BTreeMap;

use super::open::Opener;
use super::{Malformed, Opened, kind, node};
use crate::actor::Actor;
use crate::id::ConfigurationId;
use crate::time::Timestamp;
use crate::twin::{ConfigurationStatus, Stamp};

/// A section of a twin that is being visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VisitedSection {
    /// The tags.
    Tags,
    /// The desired properties at this version.
    Desired(u64),
    /// The reported properties at this version.
    Reported(u64),
}

/// A value that a [`Visitor`] is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shown<'p> {
    /// A null.
    Null,
    /// A boolean.
    Bool(bool),
    /// A whole number that is not negative.
    Positive(u64),
    /// A whole number that is negative.
    Negative(i64),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(&'p str),
    /// An array: its items follow, then it is left.
    Array,
    /// An object: its members follow, then it is left.
    Object,
}

/// Who is shown a packed twin: section by section, first the values, then their stamps.
pub trait Visitor<'p> {
    /// A section begins, and with it the object of its values.
    fn section(&mut self, section: VisitedSection);
    /// A member of the innermost object, in the order of names, or an item of the innermost array.
    fn value(&mut self, name: Option<&'p str>, value: Shown<'p>);
    /// The innermost array or object ends.
    fn leave(&mut self);
    /// The metadata of a property within those around it, or of the whole section; the stamp if it is not the one of the
    /// property around it.
    fn metadata(&mut self, _name: Option<&'p str>, _stamp: Option<&Stamp>) {}
    /// The innermost metadata ends.
    fn leave_metadata(&mut self) {}
}

/// What a twin has beside values.
#[derive(Debug)]
pub struct Summary<'p> {
    /// Counts writes to tags and desired.
    pub etag_counter: u64,
    /// Of the reported properties.
    pub reported_version: u64,
    /// The DTDL model.
    pub model_id: Option<&'p str>,
    /// The configurations that match, and how they fare.
    pub configurations: BTreeMap<ConfigurationId, ConfigurationStatus>,
}

/// Who looks at nothing.
pub struct Nobody;

impl<'p> Visitor<'p> for Nobody {
    fn section(&mut self, _: VisitedSection) {}
    fn value(&mut self, _: Option<&'p str>, _: Shown<'p>) {}
    fn leave(&mut self) {}
}

/// Walks over all of `bytes`.
pub fn walk<'p>(bytes: &'p [u8], visitor: &mut impl Visitor<'p>) -> Opened<Summary<'p>> {
    let mut opener = Opener::new(bytes);
    let etag_counter = opener.number()?;
    visitor.section(VisitedSection::Tags);
    members(&mut opener, visitor)?;
    section(&mut opener, VisitedSection::Desired, visitor)?;
    let reported_version = section(&mut opener, VisitedSection::Reported, visitor)?;
    let model_id = opener.option()?;
    let configurations = opener.many(Opener::configuration)?;
    let _: Vec<(u64, Actor)> = opener.many(Opener::author)?;
    if !opener.is_at_end() {
        let _: Vec<(ConfigurationId, u64)> = opener.many(Opener::let_in)?;
    }
    let summary = Summary { etag_counter, reported_version, model_id, configurations };
    if opener.is_at_end() { Ok(summary) } else { Err(Malformed) }
}

fn section<'p>(
    opener: &mut Opener<'p>,
    section: impl FnOnce(u64) -> VisitedSection,
    visitor: &mut impl Visitor<'p>,
) -> Opened<u64> {
    let version = opener.number()?;
    visitor.section(section(version));
    let mut values = opener.clone();
    members(opener, visitor)?;
    let none = Stamp { at: Timestamp::from_ticks(0), version: None, by: None };
    if !metadata(opener, None, &none, Some(&mut values), visitor)? {
        return Err(Malformed);
    }
    Ok(version)
}

fn members<'p>(opener: &mut Opener<'p>, visitor: &mut impl Visitor<'p>) -> Opened<()> {
    let mut last = None;
    for _ in 0..opener.number()? {
        let name = opener.text()?;
        // Else a name could be there twice, and its stamps belong to one.
        if last.is_some_and(|last| last >= name) {
            return Err(Malformed);
        }
        last = Some(name);
        value(opener, Some(name), visitor)?;
    }
    visitor.leave();
    Ok(())
}

fn value<'p>(opener: &mut Opener<'p>, name: Option<&'p str>, visitor: &mut impl Visitor<'p>) -> Opened<()> {
    let shown = match opener.byte()? {
        kind::NULL => Shown::Null,
        kind::FALSE => Shown::Bool(false),
        kind::TRUE => Shown::Bool(true),
        kind::POSITIVE => Shown::Positive(opener.number()?),
        kind::NEGATIVE => Shown::Negative((opener.number()? as i64).wrapping_neg()),
        kind::FLOAT => {
            let number = f64::from_le_bytes(opener.take(8)?.try_into().map_err(|_| Malformed)?);
            if !number.is_finite() {
                return Err(Malformed);
            }
            Shown::Float(number)
        }
        kind::TEXT => Shown::Text(opener.text()?),
        kind::ARRAY => Shown::Array,
        kind::OBJECT => Shown::Object,
        _ => return Err(Malformed),
    };
    visitor.value(name, shown);
    match shown {
        Shown::Object => opener.below(|opener| members(opener, visitor)),
        Shown::Array => opener.below(|opener| {
            for _ in 0..opener.number()? {
                value(opener, None, visitor)?;
            }
            visitor.leave();
            Ok(())
        }),
        _ => Ok(()),
    }
}

/// Passes over members that were walked over before.
fn pass_members(opener: &mut Opener<'_>) -> Opened<()> {
    for _ in 0..opener.number()? {
        opener.bytes()?;
        pass_value(opener)?;
    }
    Ok(())
}

/// Likewise over a value, which is thus not nested too deeply.
fn pass_value(opener: &mut Opener<'_>) -> Opened<()> {
    match opener.byte()? {
        kind::POSITIVE | kind::NEGATIVE => drop(opener.number()?),
        kind::FLOAT => drop(opener.take(8)?),
        kind::TEXT => drop(opener.bytes()?),
        kind::ARRAY => {
            for _ in 0..opener.number()? {
                pass_value(opener)?;
            }
        }
        kind::OBJECT => pass_members(opener)?,
        _ => {}
    }
    Ok(())
}

/// The metadata of what has the members at `values`, which are passed over. `false` if it has none.
fn metadata<'p>(
    opener: &mut Opener<'p>,
    name: Option<&'p str>,
    around: &Stamp,
    values: Option<&mut Opener<'p>>,
    visitor: &mut impl Visitor<'p>,
) -> Opened<bool> {
    let bits = opener.byte()?;
    let pass = |values: Option<&mut Opener<'p>>| values.map_or(Ok(()), pass_members);
    if bits == node::NONE {
        pass(values)?;
        return Ok(false);
    }
    let own;
    let stamp = if bits & node::STAMP == 0 {
        visitor.metadata(name, name.is_none().then_some(around));
        around
    } else {
        own = opener.stamp(around)?;
        visitor.metadata(name, Some(&own));
        &own
    };
    if bits & node::CHILDREN == 0 {
        pass(values)?;
    } else {
        opener.below(|opener| children(opener, stamp, values, visitor))?;
    }
    visitor.leave_metadata();
    Ok(true)
}

fn children<'p>(
    opener: &mut Opener<'p>,
    stamp: &Stamp,
    values: Option<&mut Opener<'p>>,
    visitor: &mut impl Visitor<'p>,
) -> Opened<()> {
    if let Some(values) = values {
        for _ in 0..values.number()? {
            let name = Some(values.text()?);
            if values.peek() == Some(kind::OBJECT) {
                values.byte()?;
                metadata(opener, name, stamp, Some(&mut *values), visitor)?;
            } else {
                pass_value(values)?;
                metadata(opener, name, stamp, None, visitor)?;
            }
        }
    }
    for _ in 0..opener.number()? {
        let name = opener.text()?;
        if !metadata(opener, Some(name), stamp, None, visitor)? {
            return Err(Malformed);
        }
    }
    Ok(())
}
