//! JSON in which nothing is ambiguous: no key twice, no deep nesting. Two readers of one document must not see two
//! documents.

#![forbid(unsafe_code)]

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The deepest nesting: a Kubernetes token has 3.
pub(super) const MAX_DEPTH: usize = 8;

const TWICE: &str = "names a key twice";
const DEEP: &str = "nests deeper than 8 levels";

/// Reads an object; the error says what is wrong with "it".
pub(super) fn object(bytes: &[u8]) -> Result<Map<String, Value>, &'static str> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: 0 }.deserialize(&mut reader).and_then(|value| {
        reader.end()?;
        Ok(value)
    });
    match value {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err("is no JSON object"),
        Err(error) => {
            let text = error.to_string();
            Err([TWICE, DEEP].into_iter().find(|why| text.starts_with(why)).unwrap_or("is no valid JSON"))
        }
    }
}

struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: Error>(&self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH { Err(E::custom(DEEP)) } else { Ok(Self { depth: self.depth + 1 }) }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self.deeper()?)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(TWICE));
            }
            map.insert(key, entries.next_value_seed(self.deeper()?)?);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_document_one_meaning() {
        for (text, result) in [
            (r#"{"a":[1,-1,1.5,true,null,"x"],"b":{}}"#, Ok(2)),
            ("{}", Ok(0)),
            (" {} ", Ok(0)),
            (r#"{"a":1,"a":1}"#, Err(TWICE)),
            (r#"{"a":1,"\u0061":2}"#, Err(TWICE)),
            (r#"{"x":{"a":1,"a":1}}"#, Err(TWICE)),
            (r#"{"a":[[[[[[[[1]]]]]]]]}"#, Err(DEEP)),
            ("[]", Err("is no JSON object")),
            ("", Err("is no valid JSON")),
            ("{} {}", Err("is no valid JSON")),
            (r#"{"a":1e999}"#, Err("is no valid JSON")),
            ("{\"a\":\"\u{1}\"}", Err("is no valid JSON")),
        ] {
            assert_eq!(object(text.as_bytes()).map(|map| map.len()), result, "{text}");
        }
        assert!(object(b"{\"a\":\"\xff\"}").is_err());
        assert!(object("[".repeat(100_000).as_bytes()).is_err());
    }
}
