//! JSON objects in which no member appears twice, at any depth.
//!
//! Two parsers that disagree on which of two equal members counts are a way around a check. So there is only one
//! answer: neither does.

use std::cell::RefCell;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::TokenError;

/// Parses `text` as one JSON object.
pub(super) fn object(part: &'static str, text: &[u8]) -> Result<Map<String, Value>, TokenError> {
    let duplicate = RefCell::new(None);
    let mut parser = serde_json::Deserializer::from_slice(text);
    let parsed = Strict { duplicate: &duplicate, top: true }.deserialize(&mut parser);
    let parsed = parsed.and_then(|value| parser.end().map(|()| value));
    match (parsed, duplicate.into_inner()) {
        (_, Some(name)) => Err(TokenError::duplicate(part, &name)),
        (Ok(Value::Object(members)), None) => Ok(members),
        (Ok(_), None) => Err(TokenError::Json { part, source: de::Error::custom("not an object") }),
        (Err(source), None) => Err(TokenError::Json { part, source }),
    }
}

/// Builds a [`Value`], noting the first member seen twice. The top has to be an object.
#[derive(Clone, Copy)]
struct Strict<'a> {
    duplicate: &'a RefCell<Option<String>>,
    top: bool,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.top { deserializer.deserialize_map(self) } else { deserializer.deserialize_any(self) }
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.top { "an object" } else { "a JSON value" })
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Strict { top: false, ..self })? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if map.contains_key(&name) {
                self.duplicate.replace(Some(name));
                return Err(de::Error::custom("a member appears twice"));
            }
            let value = members.next_value_seed(Strict { top: false, ..self })?;
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}
