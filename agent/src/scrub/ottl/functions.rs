//! The converters: what each takes, and what it makes of values.

#![forbid(unsafe_code)]

use std::borrow::Cow;

use super::value::{Fit, Key, Unfit, Value, elements, hex, members};

mod hash;
mod text;
mod time;
mod url;

pub(super) use text::Case;
pub(in crate::scrub) use text::Glob;

/// Longest text that a converter makes, and the most that a value may grow to in one statement.
pub(in crate::scrub) const MAX_VALUE: usize = 4 << 20;

/// A converter of values alone. Those that look at a pattern, or at the span itself, are expressions of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::scrub) enum Function {
    Base64Decode,
    Bool,
    Concat,
    ContainsValue,
    ConvertCase,
    Day,
    Duration,
    Double,
    Fnv,
    FormatTime,
    HasPrefix,
    HasSuffix,
    Hex,
    Hour,
    Hours,
    Index,
    Int,
    IsBool,
    IsDouble,
    IsInt,
    IsList,
    IsMap,
    IsString,
    IsValidLuhn,
    Keys,
    Len,
    Md5,
    Microseconds,
    Milliseconds,
    Minute,
    Minutes,
    Month,
    Nanoseconds,
    Now,
    ParseJson,
    Second,
    Seconds,
    Sha1,
    Sha256,
    Sha512,
    SpanId,
    Split,
    String,
    Substring,
    Time,
    ToLowerCase,
    ToUpperCase,
    TraceId,
    Trim,
    TrimPrefix,
    TrimSuffix,
    TruncateTime,
    Unix,
    UnixMicro,
    UnixMilli,
    UnixNano,
    UnixSeconds,
    Url,
    Values,
    Weekday,
    Xxh128,
    Xxh3,
    Year,
}

/// How a function is written.
pub(super) struct Signature {
    /// Its name.
    pub(super) name: &'static str,
    /// The function.
    pub(super) function: Function,
    /// Its parameters in order.
    pub(super) parameters: &'static [&'static str],
    /// How many of them must be given.
    pub(super) needed: usize,
}

const fn signature(
    name: &'static str,
    function: Function,
    parameters: &'static [&'static str],
    needed: usize,
) -> Signature {
    Signature { name, function, parameters, needed }
}

/// All of them, by name.
#[rustfmt::skip]
pub(super) static SIGNATURES: [Signature; 63] = [
    signature("Base64Decode", Function::Base64Decode, &["value"], 1),
    signature("Bool", Function::Bool, &["value"], 1),
    signature("Concat", Function::Concat, &["vals", "delimiter"], 2),
    signature("ContainsValue", Function::ContainsValue, &["target", "item"], 2),
    signature("ConvertCase", Function::ConvertCase, &["target", "toCase"], 2),
    signature("Day", Function::Day, &["time"], 1),
    signature("Double", Function::Double, &["value"], 1),
    signature("Duration", Function::Duration, &["duration"], 1),
    signature("FNV", Function::Fnv, &["value"], 1),
    signature("FormatTime", Function::FormatTime, &["time", "format"], 2),
    signature("HasPrefix", Function::HasPrefix, &["value", "prefix"], 2),
    signature("HasSuffix", Function::HasSuffix, &["value", "suffix"], 2),
    signature("Hex", Function::Hex, &["value"], 1),
    signature("Hour", Function::Hour, &["time"], 1),
    signature("Hours", Function::Hours, &["duration"], 1),
    signature("Index", Function::Index, &["target", "value"], 2),
    signature("Int", Function::Int, &["value"], 1),
    signature("IsBool", Function::IsBool, &["value"], 1),
    signature("IsDouble", Function::IsDouble, &["value"], 1),
    signature("IsInt", Function::IsInt, &["value"], 1),
    signature("IsList", Function::IsList, &["target"], 1),
    signature("IsMap", Function::IsMap, &["value"], 1),
    signature("IsString", Function::IsString, &["value"], 1),
    signature("IsValidLuhn", Function::IsValidLuhn, &["value"], 1),
    signature("Keys", Function::Keys, &["target"], 1),
    signature("Len", Function::Len, &["target"], 1),
    signature("MD5", Function::Md5, &["value"], 1),
    signature("Microseconds", Function::Microseconds, &["duration"], 1),
    signature("Milliseconds", Function::Milliseconds, &["duration"], 1),
    signature("Minute", Function::Minute, &["time"], 1),
    signature("Minutes", Function::Minutes, &["duration"], 1),
    signature("Month", Function::Month, &["time"], 1),
    signature("Nanoseconds", Function::Nanoseconds, &["duration"], 1),
    signature("Now", Function::Now, &[], 0),
    signature("ParseJSON", Function::ParseJson, &["target"], 1),
    signature("SHA1", Function::Sha1, &["value"], 1),
    signature("SHA256", Function::Sha256, &["value"], 1),
    signature("SHA512", Function::Sha512, &["value"], 1),
    signature("Second", Function::Second, &["time"], 1),
    signature("Seconds", Function::Seconds, &["duration"], 1),
    signature("SpanID", Function::SpanId, &["value"], 1),
    signature("Split", Function::Split, &["target", "delimiter"], 2),
    signature("String", Function::String, &["value"], 1),
    signature("Substring", Function::Substring, &["target", "start", "length"], 3),
    signature("Time", Function::Time, &["target", "format"], 2),
    signature("ToLowerCase", Function::ToLowerCase, &["target"], 1),
    signature("ToUpperCase", Function::ToUpperCase, &["target"], 1),
    signature("TraceID", Function::TraceId, &["value"], 1),
    signature("Trim", Function::Trim, &["target", "replacement"], 1),
    signature("TrimPrefix", Function::TrimPrefix, &["value", "prefix"], 2),
    signature("TrimSuffix", Function::TrimSuffix, &["value", "suffix"], 2),
    signature("TruncateTime", Function::TruncateTime, &["time", "duration"], 2),
    signature("URL", Function::Url, &["url_string"], 1),
    signature("Unix", Function::Unix, &["seconds", "nanoseconds"], 1),
    signature("UnixMicro", Function::UnixMicro, &["time"], 1),
    signature("UnixMilli", Function::UnixMilli, &["time"], 1),
    signature("UnixNano", Function::UnixNano, &["time"], 1),
    signature("UnixSeconds", Function::UnixSeconds, &["time"], 1),
    signature("Values", Function::Values, &["target"], 1),
    signature("Weekday", Function::Weekday, &["time"], 1),
    signature("XXH128", Function::Xxh128, &["value"], 1),
    signature("XXH3", Function::Xxh3, &["value"], 1),
    signature("Year", Function::Year, &["time"], 1),
];

/// The arguments of a call; a parameter that was not given has none.
pub(in crate::scrub) struct Arguments<'a, 'v>(pub(in crate::scrub) &'a [Option<Value<'v>>]);

impl<'v> Arguments<'_, 'v> {
    fn get(&self, number: usize) -> Fit<&Value<'v>> {
        self.0.get(number).and_then(Option::as_ref).ok_or(Unfit)
    }

    fn given(&self, number: usize) -> Option<&Value<'v>> {
        self.0.get(number).and_then(Option::as_ref)
    }

    fn text(&self, number: usize) -> Fit<&str> {
        self.get(number)?.as_str()
    }

    fn int(&self, number: usize) -> Fit<i64> {
        match self.get(number)? {
            Value::Int(number) => Ok(*number),
            _ => Err(Unfit),
        }
    }

    fn duration(&self, number: usize) -> Fit<i64> {
        match self.get(number)? {
            Value::Duration(nanos) => Ok(*nanos),
            _ => Err(Unfit),
        }
    }

    fn time(&self, number: usize) -> Fit<i64> {
        match self.get(number)? {
            Value::Time(nanos) => Ok(*nanos),
            _ => Err(Unfit),
        }
    }
}

impl Function {
    /// The value that it makes of its arguments.
    pub(in crate::scrub) fn call(self, given: &Arguments<'_, '_>) -> Fit<Value<'static>> {
        let value = match self {
            Self::Fnv | Self::Md5 | Self::Sha1 | Self::Sha256 | Self::Sha512 | Self::Xxh3 | Self::Xxh128 => {
                hash::call(self, given.get(0)?.as_text()?)
            }
            Self::IsBool => Value::Bool(matches!(given.get(0)?, Value::Bool(_))),
            Self::IsDouble => Value::Bool(matches!(given.get(0)?, Value::Double(_))),
            Self::IsInt => Value::Bool(matches!(given.get(0)?, Value::Int(_))),
            Self::IsList => Value::Bool(matches!(given.get(0)?, Value::List(_))),
            Self::IsMap => Value::Bool(matches!(given.get(0)?, Value::Map(_))),
            Self::IsString => Value::Bool(matches!(given.get(0)?, Value::Text(_))),
            Self::Bool | Self::Double | Self::Int | Self::String => convert(self, given.get(0)?)?,
            Self::TraceId => id(given.get(0)?, 16)?,
            Self::SpanId => id(given.get(0)?, 8)?,
            Self::Len => Value::Int(length(given.get(0)?)?.cast_signed() as i64),
            Self::Keys | Self::Values | Self::ContainsValue | Self::Index => collection(self, given)?,
            Self::ParseJson => parse_json(given.text(0)?)?,
            Self::Url => url::parse(given.text(0)?)?,
            Self::Now
            | Self::Time
            | Self::FormatTime
            | Self::TruncateTime
            | Self::Unix
            | Self::UnixMicro
            | Self::UnixMilli
            | Self::UnixNano
            | Self::UnixSeconds
            | Self::Year
            | Self::Month
            | Self::Day
            | Self::Hour
            | Self::Minute
            | Self::Second
            | Self::Weekday
            | Self::Duration
            | Self::Hours
            | Self::Minutes
            | Self::Seconds
            | Self::Milliseconds
            | Self::Microseconds
            | Self::Nanoseconds => time::call(self, given)?,
            _ => text::call(self, given)?,
        };
        match &value {
            Value::Text(content) | Value::Bytes(content) | Value::List(content) | Value::Map(content)
                if content.len() > MAX_VALUE =>
            {
                Err(Unfit)
            }
            _ => Ok(value),
        }
    }
}

/// `Bool`, `Double`, `Int`, `String`. What can't be converted is `nil`, as in the Collector; what a function does
/// not take at all is unfit.
fn convert(function: Function, value: &Value<'_>) -> Fit<Value<'static>> {
    let text = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
    Ok(match (function, value) {
        (_, Value::Nil) => Value::Nil,
        (Function::String, Value::Time(_) | Value::Duration(_)) => return Err(Unfit),
        (Function::String, value) => {
            value.to_text()?.map_or(Value::Nil, |text| Value::Text(Cow::Owned(text.into_owned())))
        }
        (Function::Int, Value::Int(number)) => Value::Int(*number),
        (Function::Int, Value::Double(number)) => Value::Int(*number as i64),
        (Function::Int, Value::Bool(flag)) => Value::Int(i64::from(*flag)),
        (Function::Int, Value::Text(digits)) => text(digits).parse().map_or(Value::Nil, Value::Int),
        (Function::Double, Value::Double(number)) => Value::Double(*number),
        (Function::Double, Value::Int(number)) => Value::Double(*number as f64),
        (Function::Double, Value::Bool(flag)) => Value::Double(f64::from(u8::from(*flag))),
        (Function::Double, Value::Text(digits)) => text(digits)
            .parse()
            .ok()
            .filter(|number: &f64| number.is_finite())
            .map_or(Value::Nil, Value::Double),
        (Function::Bool, Value::Bool(flag)) => Value::Bool(*flag),
        (Function::Bool, Value::Int(number)) => Value::Bool(*number != 0),
        (Function::Bool, Value::Double(number)) => Value::Bool(*number != 0.0),
        (Function::Bool, Value::Text(word)) => match text(word).as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Value::Bool(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Value::Bool(false),
            _ => return Err(Unfit),
        },
        _ => return Err(Unfit),
    })
}

/// `TraceID`, `SpanID`: of the bytes themselves, or of their hex digits.
fn id(value: &Value<'_>, length: usize) -> Fit<Value<'static>> {
    let bytes = match value {
        Value::Bytes(bytes) => bytes.to_vec(),
        Value::Text(digits) if digits.len() == 2 * length => digits
            .chunks(2)
            .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()))
            .collect::<Option<_>>()
            .ok_or(Unfit)?,
        _ => return Err(Unfit),
    };
    if bytes.len() == length { Ok(Value::Bytes(Cow::Owned(bytes))) } else { Err(Unfit) }
}

/// Bytes of a text, members of a map, elements of a list.
fn length(value: &Value<'_>) -> Fit<usize> {
    Ok(match value {
        Value::Text(content) | Value::Bytes(content) => content.len(),
        Value::List(content) => elements(content).count(),
        Value::Map(content) => members(content).count(),
        _ => return Err(Unfit),
    })
}

fn collection(function: Function, given: &Arguments<'_, '_>) -> Fit<Value<'static>> {
    let equal = |kind, content, item: &Value<'_>| {
        Value::of(kind, Cow::Borrowed(content)).compare(super::grammar::CompareOp::Equal, item)
    };
    Ok(match (function, given.get(0)?) {
        (Function::Keys, Value::Map(content)) => {
            Value::list(members(content).map(|member| Value::Text(member.key)))?.into_owned()
        }
        (Function::Values, Value::Map(content)) => {
            Value::list(members(content).map(|member| Value::of(member.kind, member.content)))?.into_owned()
        }
        (Function::ContainsValue, Value::List(content)) => {
            let item = given.get(1)?;
            Value::Bool(elements(content).any(|(kind, content)| equal(kind, content, item)))
        }
        (Function::Index, Value::List(content)) => {
            let item = given.get(1)?;
            let place = elements(content).position(|(kind, content)| equal(kind, content, item));
            Value::Int(place.map_or(-1, |place| place.cast_signed() as i64))
        }
        (Function::Index, Value::Text(text)) => {
            let place = memchr::memmem::find(text, given.get(1)?.as_text()?);
            Value::Int(place.map_or(-1, |place| place.cast_signed() as i64))
        }
        _ => return Err(Unfit),
    })
}

/// Deepest JSON: a level of it is up to three of protobuf, of which the walker takes 64.
const MAX_JSON_DEPTH: usize = 16;

fn parse_json(text: &str) -> Fit<Value<'static>> {
    fn depth(json: &serde_json::Value) -> usize {
        match json {
            serde_json::Value::Array(list) => 1 + list.iter().map(depth).max().unwrap_or(0),
            serde_json::Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
            _ => 0,
        }
    }
    let json: serde_json::Value = serde_json::from_str(text).map_err(|_| Unfit)?;
    if depth(&json) > MAX_JSON_DEPTH { Err(Unfit) } else { Ok(Value::from_json(&json)) }
}

/// Whether `Time` and `FormatTime` can use a format, or what to say.
pub(super) fn time_format(format: &str) -> Result<(), String> {
    if time::is_format(format) {
        return Ok(());
    }
    Err(format!("the format has a directive that is not supported; there are {}", time::DIRECTIVES))
}

/// A key of a value that is computed: text for a map, a number for a list.
pub(in crate::scrub) fn key(value: &Value<'_>) -> Fit<Key> {
    match value {
        Value::Text(_) => Ok(Key::Name(value.as_str()?.into())),
        Value::Int(index) => usize::try_from(*index).map(Key::Index).map_err(|_| Unfit),
        _ => Err(Unfit),
    }
}

/// Hex of bytes, as text.
fn hex_text(bytes: &[u8]) -> Value<'static> {
    Value::text(hex(bytes))
}
