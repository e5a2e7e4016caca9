//! The functions of the language: names, how many arguments each takes, and what it gives.
//! Must never fail: an argument of the wrong type gives `Undefined`, as everywhere in the language.

use std::borrow::Cow;

use serde_json::Value;

use super::datum::Datum;
use super::eval::same_value;

macro_rules! functions {
    ($($function:ident $name:literal $least:literal ..= $most:expr,)*) => {
        /// A scalar function. In text its name is written in any case, and with or without underscores.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Function { $($function,)* }

        impl Function {
            /// Every function.
            pub(super) const ALL: &[Function] = &[$(Function::$function,)*];

            /// The canonical spelling.
            pub(super) fn name(self) -> &'static str {
                match self { $(Function::$function => $name,)* }
            }

            /// The fewest and the most arguments.
            pub(super) fn arity(self) -> (usize, usize) {
                match self { $(Function::$function => ($least, $most),)* }
            }
        }
    };
}

functions! {
    IsDefined "IS_DEFINED" 1..=1,
    IsNull "IS_NULL" 1..=1,
    IsBool "IS_BOOL" 1..=1,
    IsNumber "IS_NUMBER" 1..=1,
    IsString "IS_STRING" 1..=1,
    IsArray "IS_ARRAY" 1..=1,
    IsObject "IS_OBJECT" 1..=1,
    IsPrimitive "IS_PRIMITIVE" 1..=1,
    StartsWith "STARTSWITH" 2..=2,
    EndsWith "ENDSWITH" 2..=2,
    Contains "CONTAINS" 2..=2,
    IndexOf "INDEX_OF" 2..=2,
    Length "LENGTH" 1..=1,
    Lower "LOWER" 1..=1,
    Upper "UPPER" 1..=1,
    Substring "SUBSTRING" 2..=3,
    Concat "CONCAT" 2..=usize::MAX,
    AsNumber "AS_NUMBER" 1..=1,
    Abs "ABS" 1..=1,
    Ceiling "CEILING" 1..=1,
    Floor "FLOOR" 1..=1,
    Exp "EXP" 1..=1,
    Power "POWER" 2..=2,
    Sign "SIGN" 1..=1,
    Sqrt "SQRT" 1..=1,
    Square "SQUARE" 1..=1,
    ArrayContains "ARRAY_CONTAINS" 2..=2,
    ArrayLength "ARRAY_LENGTH" 1..=1,
}

impl Function {
    /// The function called `name`.
    pub(super) fn find(name: &str) -> Option<Self> {
        let plain = |name: &str| name.replace('_', "").to_ascii_uppercase();
        let wanted = plain(name);
        Self::ALL.iter().copied().find(|function| plain(function.name()) == wanted)
    }

    /// The value for `arguments`, of which there are as many as [`Function::arity`] says.
    pub(super) fn call<'a>(self, arguments: &[Datum<'a>]) -> Datum<'a> {
        use Datum::{Bool, Number, Str};
        match (self, arguments) {
            (Function::IsDefined, [value]) => Bool(*value != Datum::Undefined),
            (Function::IsNull, [value]) => Bool(*value == Datum::Null),
            (Function::IsBool, [value]) => Bool(matches!(value, Bool(_))),
            (Function::IsNumber, [value]) => Bool(matches!(value, Number(_))),
            (Function::IsString, [value]) => Bool(matches!(value, Str(_))),
            (Function::IsArray, [value]) => Bool(array(value).is_some()),
            (Function::IsObject, [value]) => Bool(matches!(value, Datum::Json(json) if json.is_object())),
            (Function::IsPrimitive, [value]) => Bool(!matches!(value, Datum::Undefined | Datum::Json(_))),
            (Function::StartsWith, [Str(text), Str(part)]) => Bool(text.starts_with(part.as_ref())),
            (Function::EndsWith, [Str(text), Str(part)]) => Bool(text.ends_with(part.as_ref())),
            (Function::Contains, [Str(text), Str(part)]) => Bool(text.contains(part.as_ref())),
            (Function::IndexOf, [Str(text), Str(part)]) => index_of(text, part),
            (Function::Length, [Str(text)]) => Number(text.chars().count() as f64),
            (Function::Lower, [Str(text)]) => Datum::from(text.to_lowercase()),
            (Function::Upper, [Str(text)]) => Datum::from(text.to_uppercase()),
            (Function::Substring, [Str(text), Number(start)]) => substring(text, *start, f64::INFINITY),
            (Function::Substring, [Str(text), Number(start), Number(length)]) => {
                substring(text, *start, *length)
            }
            (Function::Concat, parts) => concat(parts),
            (Function::AsNumber, [Number(number)]) => Number(*number),
            (Function::AsNumber, [Str(text)]) => Datum::number(text.parse().unwrap_or(f64::NAN)),
            (Function::Abs, [Number(number)]) => Number(number.abs()),
            (Function::Ceiling, [Number(number)]) => Number(number.ceil()),
            (Function::Floor, [Number(number)]) => Number(number.floor()),
            (Function::Exp, [Number(number)]) => Datum::number(number.exp()),
            (Function::Power, [Number(base), Number(exponent)]) => Datum::number(base.powf(*exponent)),
            (Function::Sign, [Number(number)]) => Number(if *number == 0.0 { 0.0 } else { number.signum() }),
            (Function::Sqrt, [Number(number)]) => Datum::number(number.sqrt()),
            (Function::Square, [Number(number)]) => Datum::number(number * number),
            (Function::ArrayContains, [_, Datum::Undefined]) => Datum::Undefined,
            (Function::ArrayContains, [list, wanted]) => match array(list) {
                Some(list) => {
                    Bool(list.iter().any(|element| same_value(&Datum::from(element).unpacked(), wanted)))
                }
                None => Datum::Undefined,
            },
            (Function::ArrayLength, [list]) => {
                array(list).map_or(Datum::Undefined, |list| Number(list.len() as f64))
            }
            _ => Datum::Undefined,
        }
    }
}

fn array<'d>(datum: &'d Datum<'_>) -> Option<&'d Vec<Value>> {
    match datum {
        Datum::Json(json) => json.as_array(),
        _ => None,
    }
}

/// Where `part` begins in `text`, in characters from 0, or -1.
fn index_of<'a>(text: &str, part: &str) -> Datum<'a> {
    Datum::Number(text.find(part).map_or(-1.0, |at| text[..at].chars().count() as f64))
}

/// `length` characters of `text` from the character `start`; what lies outside the text is left out.
fn substring<'a>(text: &Cow<'a, str>, start: f64, length: f64) -> Datum<'a> {
    // The casts saturate: negative becomes 0, and what is too large becomes the largest.
    let (start, length) = (start as usize, length as usize);
    Datum::from(text.chars().skip(start).take(length).collect::<String>())
}

fn concat<'a>(parts: &[Datum<'a>]) -> Datum<'a> {
    let mut whole = String::new();
    for part in parts {
        match part {
            Datum::Str(text) => whole.push_str(text),
            _ => return Datum::Undefined,
        }
    }
    Datum::from(whole)
}
