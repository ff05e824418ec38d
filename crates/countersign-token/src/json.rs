//! JSON, read strictly: one document has one meaning.
//!
//! [RFC 8259, section 4] leaves open what a repeated member name means, and programs differ: the
//! first wins, or the last, or both are merged. Where one program checks and another acts, the
//! difference is a hole ([RFC 7515, section 4], [RFC 7519, section 4]). Here a repeated name is an
//! error at any depth, however it is spelled (`"exp"` and `"\u0065xp"` are the same name). Nesting
//! is limited to 128 levels, and nothing but whitespace may follow the value.
//!
//! [RFC 8259, section 4]: https://www.rfc-editor.org/rfc/rfc8259#section-4
//! [RFC 7515, section 4]: https://www.rfc-editor.org/rfc/rfc7515#section-4
//! [RFC 7519, section 4]: https://www.rfc-editor.org/rfc/rfc7519#section-4

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

/// Why a JSON text was refused. The display is a sentence for the person who sent it; it names the
/// place and what was expected there, and never repeats a value, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// Not JSON, or nested too deeply, or followed by something else.
    #[error("This is not valid JSON: {message} at line {line}, column {column}.")]
    Syntax {
        /// What is wrong, in a few words.
        message: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// An object has two members of the same name.
    #[error("An object has two members of the same name at line {line}, column {column}.")]
    DuplicateMember {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
    },
    /// Valid JSON, but not what is expected here: a member is missing or has the wrong type.
    #[error("This JSON does not have the expected form: {message}.")]
    Data {
        /// What is wrong, in a few words.
        message: String,
    },
}

/// Reads one value of type `T` from `bytes`.
///
/// ```
/// use countersign_token::{JsonError, json};
///
/// #[derive(serde::Deserialize)]
/// struct Point {
///     x: i32,
/// }
///
/// assert_eq!(json::from_slice::<Point>(br#"{"x": 1}"#)?.x, 1);
/// let twice = json::from_slice::<Point>(br#"{"x": 1, "\u0078": 2}"#);
/// assert!(matches!(twice, Err(JsonError::DuplicateMember { .. })));
/// # Ok::<(), JsonError>(())
/// ```
///
/// # Errors
///
/// [`JsonError::Syntax`] for what is not JSON, [`JsonError::DuplicateMember`] for a repeated name
/// anywhere, also in members that `T` ignores, and [`JsonError::Data`] for JSON that is no `T`.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, JsonError> {
    // A pass of its own, because a deserialiser made by derive sees only the members it knows.
    serde_json::from_slice::<Distinct>(bytes).map_err(|error| refusal(&error))?;
    serde_json::from_slice(bytes).map_err(|error| wrong_form(&error))
}

/// Reads one value of any form from `bytes`.
///
/// # Errors
///
/// [`JsonError::Syntax`] and [`JsonError::DuplicateMember`], as [`from_slice`].
pub fn value_from_slice(bytes: &[u8]) -> Result<Value, JsonError> {
    match serde_json::from_slice(bytes) {
        Ok(DistinctValue(value)) => Ok(value),
        Err(error) => Err(refusal(&error)),
    }
}

/// The error of a strict pass: whatever is not a fault of syntax is a repeated name there.
fn refusal(error: &serde_json::Error) -> JsonError {
    let (line, column) = (error.line(), error.column());
    if error.is_data() {
        return JsonError::DuplicateMember { line, column };
    }
    JsonError::Syntax {
        message: without_position(error),
        line,
        column,
    }
}

fn wrong_form(error: &serde_json::Error) -> JsonError {
    let message = without_position(error);
    // "invalid type: string \"hunter2\", expected a boolean": the value is not ours to repeat.
    let message = match message.rsplit_once(", expected ") {
        Some((_, expected)) => format!("expected {expected}"),
        None => message,
    };
    JsonError::Data { message }
}

fn without_position(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    message
        .strip_suffix(&position)
        .unwrap_or(&message)
        .to_owned()
}

/// The refusal of a repeated member name, for the visitors of this crate.
pub(crate) fn duplicate_member<E: serde::de::Error>() -> E {
    E::custom("duplicate member name")
}

/// A string or a member's name: borrowed, unless it was written with escapes.
pub(crate) struct Text<'de>(pub(crate) Cow<'de, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}

/// Any value, looked through for repeated names and dropped.
pub(crate) struct Distinct;

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'de> Visitor<'de> for Distinct {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self, A::Error> {
        while items.next_element::<Self>()?.is_some() {}
        Ok(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self, A::Error> {
        let mut names = Names::default();
        while let Some(Text(name)) = members.next_key()? {
            names.add(name)?;
            members.next_value::<Self>()?;
        }
        Ok(self)
    }
}

/// The names seen in one object. A tree, so that no choice of names makes it slow.
#[derive(Default)]
pub(crate) struct Names<'de>(BTreeSet<Cow<'de, str>>);

impl<'de> Names<'de> {
    pub(crate) fn add<E: serde::de::Error>(&mut self, name: Cow<'de, str>) -> Result<(), E> {
        if self.0.insert(name) {
            Ok(())
        } else {
            Err(duplicate_member())
        }
    }
}

/// Any value, without repeated names at any depth.
pub(crate) struct DistinctValue(pub(crate) Value);

impl<'de> Deserialize<'de> for DistinctValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DistinctValueVisitor).map(Self)
    }
}

struct DistinctValueVisitor;

impl<'de> Visitor<'de> for DistinctValueVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        // The JSON grammar has no infinity and no NaN, and the parser refuses what overflows.
        serde_json::Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(DistinctValue(item)) = items.next_element()? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            insert_distinct(&mut object, name, &mut members)?;
        }
        Ok(Value::Object(object))
    }
}

/// Reads the value of the member `name` into `object`, which must not have it yet.
pub(crate) fn insert_distinct<'de, A: MapAccess<'de>>(
    object: &mut Map<String, Value>,
    name: String,
    members: &mut A,
) -> Result<(), A::Error> {
    let DistinctValue(value) = members.next_value()?;
    match object.insert(name, value) {
        None => Ok(()),
        Some(_) => Err(duplicate_member()),
    }
}

/// Reads the value of a known member into `slot`, which must be empty. A wrong type, `null` among
/// them, is an error and never read as an absent member.
pub(crate) fn fill<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    slot: &mut Option<T>,
    members: &mut A,
) -> Result<(), A::Error> {
    if slot.is_some() {
        return Err(duplicate_member());
    }
    *slot = Some(members.next_value()?);
    Ok(())
}

/// The value of a member that must be there.
pub(crate) fn required<T, E: serde::de::Error>(
    slot: Option<T>,
    name: &'static str,
) -> Result<T, E> {
    slot.ok_or_else(|| E::missing_field(name))
}

/// A value that must be written as an object. What derive makes would take an array of the members'
/// values as well.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members)).map(Object)
    }
}

/// For `#[serde(deserialize_with = "objects")]`: an array of objects.
pub(crate) fn objects<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let objects = Vec::<Object<T>>::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|Object(value)| value).collect())
}

/// A string or an array of at least one string, as `aud` may be.
pub(crate) struct OneOrMany(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for OneOrMany {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrManyVisitor)
    }
}

struct OneOrManyVisitor;

impl<'de> Visitor<'de> for OneOrManyVisitor {
    type Value = OneOrMany;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string or an array of strings")
    }

    fn visit_str<E>(self, one: &str) -> Result<OneOrMany, E> {
        Ok(OneOrMany(vec![one.to_owned()]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<OneOrMany, A::Error> {
        let mut many = Vec::new();
        while let Some(item) = items.next_element()? {
            many.push(item);
        }
        // Empty says neither "for no one" nor "for everyone"; absent is written by absence.
        if many.is_empty() {
            return Err(A::Error::invalid_length(0, &self));
        }
        Ok(OneOrMany(many))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Login {
        username: String,
        #[serde(default)]
        remember: bool,
    }

    #[test]
    fn unknown_members_are_ignored() {
        let login: Login =
            from_slice(br#" {"username": "ana", "theme": {"dark": true}} "#).unwrap();
        assert_eq!(
            login,
            Login {
                username: "ana".into(),
                remember: false
            }
        );
    }

    #[test]
    fn a_repeated_name_is_refused_at_any_depth_and_in_any_spelling() {
        for text in [
            r#"{"username": "ana", "username": "bob"}"#,
            r#"{"username": "ana", "\u0075sername": "bob"}"#,
            r#"{"username": "ana", "theme": 1, "theme": 1}"#,
            r#"{"username": "ana", "theme": {"a": 1, "\u0061": 2}}"#,
            r#"{"username": "ana", "theme": [[{"": 1, "": 2}]]}"#,
            r#"{"username": "ana", "theme": {"\ud83d\ude00": 1, "😀": 2}}"#,
        ] {
            let refused = from_slice::<Login>(text.as_bytes());
            assert!(
                matches!(refused, Err(JsonError::DuplicateMember { .. })),
                "{text}"
            );
            let refused = value_from_slice(text.as_bytes());
            assert!(
                matches!(refused, Err(JsonError::DuplicateMember { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn the_same_name_in_different_objects_is_no_repetition() {
        let text = br#"[{"a": 1, "A": 2}, {"a": {"a": {"a": null}}}]"#;
        let value = value_from_slice(text).unwrap();
        assert_eq!(value, serde_json::from_slice::<Value>(text).unwrap());
    }

    #[test]
    fn every_kind_of_value_is_read_as_serde_json_reads_it() {
        let text =
            br#"{"n":null,"t":true,"i":-7,"u":18446744073709551615,"f":0.5,"s":"a\n","a":[]}"#;
        assert_eq!(
            value_from_slice(text).unwrap(),
            serde_json::from_slice::<Value>(text).unwrap()
        );
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in [
            &b""[..],
            b"{",
            b"{\"a\":1}x",
            b"{\"a\":1}{}",
            b"{'a':1}",
            b"{\"a\":1,}",
            b"[1,]",
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\xff\"}",
            b"\"\\ud800\"",
            b"01",
            b"NaN",
            b"1e400",
            b"// no\n{}",
        ] {
            let refused = value_from_slice(text);
            assert!(
                matches!(refused, Err(JsonError::Syntax { .. })),
                "{text:?}: {refused:?}"
            );
        }
    }

    #[test]
    fn deep_nesting_is_refused_before_it_costs_stack() {
        for open in ["[", "{\"a\":"] {
            let deep = open.repeat(100_000);
            assert!(matches!(
                value_from_slice(deep.as_bytes()),
                Err(JsonError::Syntax { .. })
            ));
            let refused = from_slice::<Value>(deep.as_bytes());
            assert!(matches!(refused, Err(JsonError::Syntax { .. })));
        }
    }

    #[test]
    fn an_object_with_very_many_names_is_no_burden() {
        let members: Vec<String> = (0..20_000).map(|n| format!("\"m{n}\":{n}")).collect();
        let text = format!("{{{}}}", members.join(","));
        assert_eq!(
            value_from_slice(text.as_bytes())
                .unwrap()
                .as_object()
                .unwrap()
                .len(),
            20_000
        );
        assert!(from_slice::<Value>(text.as_bytes()).is_ok());
    }

    #[test]
    fn a_wrong_type_is_named_without_repeating_the_value() {
        let refused = from_slice::<Login>(br#"{"username": "ana", "remember": "hunter2"}"#);
        let sentence = refused.unwrap_err().to_string();
        assert_eq!(
            sentence,
            "This JSON does not have the expected form: expected a boolean."
        );

        let refused = from_slice::<Login>(br#"{"username": null}"#).unwrap_err();
        assert!(
            matches!(refused, JsonError::Data { .. }),
            "null is not an absent member"
        );
    }

    #[test]
    fn a_missing_member_is_named() {
        let sentence = from_slice::<Login>(b"{}").unwrap_err().to_string();
        assert!(sentence.contains("missing field `username`"), "{sentence}");
    }

    #[test]
    fn a_fault_of_syntax_names_its_place() {
        let refused = value_from_slice(b"{\n  \"a\" 1}").unwrap_err();
        assert!(
            matches!(
                refused,
                JsonError::Syntax {
                    line: 2,
                    column: 7,
                    ..
                }
            ),
            "{refused:?}"
        );
    }
}
