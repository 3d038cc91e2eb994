//! What a line says: a delivery's key and times.

use crate::args::Options;
use crate::fields::{Fields, Value};
use oncewheel::Timestamp;
use std::borrow::Cow;

/// The last millisecond of the year 9999. A clock beyond it is in another unit, and would sweep the cache empty.
const NOW_MS_MAX: u64 = 253_402_300_799_999;

/// A time on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    /// No such field
    Absent,
    /// The field says that nobody knows: null or 0
    Unknown,
    Known(Timestamp),
}

#[derive(Debug)]
pub(crate) struct Delivery<'a> {
    pub(crate) key: Cow<'a, str>,
    pub(crate) msg_time: Time,
    pub(crate) min_msg_time: Time,
    pub(crate) now: Time,
}

impl Delivery<'_> {
    pub(crate) fn has_time_fields(&self) -> bool {
        [self.msg_time, self.min_msg_time, self.now].iter().any(|time| *time != Time::Absent)
    }
}

/// Reads deliveries from lines.
pub(crate) struct Deliveries {
    fields: Fields<4>,
    names: [String; 4],
}

impl Deliveries {
    pub(crate) fn new(options: &Options) -> Self {
        let paths = [&options.key, &options.msg_time, &options.min_msg_time, &options.now];
        Self { fields: Fields::new(paths), names: paths.map(ToString::to_string) }
    }

    /// What is wrong with the line, if it is no delivery.
    pub(crate) fn read<'a>(&self, line: &'a [u8]) -> Result<Delivery<'a>, String> {
        let [key, msg_time, min_msg_time, now] = self.fields.read(line)?;
        let [key_name, msg_time_name, min_msg_time_name, now_name] = &self.names;
        let delivery = Delivery {
            key: key_of(key, key_name)?,
            msg_time: time_of(&msg_time, msg_time_name)?,
            min_msg_time: time_of(&min_msg_time, min_msg_time_name)?,
            now: time_of(&now, now_name)?,
        };
        match delivery.now {
            Time::Known(now) if now.as_millis() > NOW_MS_MAX => Err(format!(
                "the time {now_name:?} is {}, beyond the year 9999: it looks like the wrong unit, not milliseconds",
                now.as_millis()
            )),
            _ => Ok(delivery),
        }
    }
}

/// An integer is the key that its digits are.
fn key_of<'a>(value: Value<'a>, name: &str) -> Result<Cow<'a, str>, String> {
    let found = match value {
        Value::Text(text) if text.is_empty() => "an empty string",
        Value::Text(text) => return Ok(text),
        Value::Unsigned(number) => return Ok(number.to_string().into()),
        Value::Negative(number) => return Ok(number.to_string().into()),
        Value::Absent => return Err(format!("no key: there is no field {name:?}")),
        Value::Null => "null",
        Value::Other(what) => what,
    };
    Err(format!("no key: the field {name:?} is {found}; a key is a string or an integer"))
}

fn time_of(value: &Value<'_>, name: &str) -> Result<Time, String> {
    let found = match value {
        Value::Absent => return Ok(Time::Absent),
        Value::Null => return Ok(Time::Unknown),
        Value::Unsigned(ms) => return Ok(from_millis(*ms)),
        Value::Text(text) => return from_text(text).map_err(|what| format!("the time {name:?} {what}")),
        Value::Negative(_) => "negative",
        Value::Other(what) => what,
    };
    Err(format!("the time {name:?} is {found}; a time is Unix milliseconds or RFC 3339 text"))
}

fn from_millis(ms: u64) -> Time {
    if ms == 0 { Time::Unknown } else { Time::Known(Timestamp::from_millis(ms)) }
}

/// Parts of a millisecond are dropped, as everywhere in the crate.
fn from_text(text: &str) -> Result<Time, String> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map(from_millis).map_err(|_| format!("is {text:?}: too large a number"));
    }
    let time: jiff::Timestamp =
        text.parse().map_err(|_| format!("is {text:?}: neither Unix milliseconds nor RFC 3339 text"))?;
    if time < jiff::Timestamp::UNIX_EPOCH {
        return Err(format!("is {text:?}: before 1970"));
    }
    u64::try_from(time.as_millisecond()).map(from_millis).map_err(|_| format!("is {text:?}: before 1970"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(ms: u64) -> Result<Time, String> {
        Ok(Time::Known(Timestamp::from_millis(ms)))
    }

    #[test]
    fn times_are_milliseconds_or_rfc_3339_and_round_down() {
        for (text, ms) in [
            ("1700000000123", 1_700_000_000_123),
            ("18446744073709551615", u64::MAX),
            ("2023-11-14T22:13:20.123Z", 1_700_000_000_123),
            ("2023-11-14T22:13:20.123999Z", 1_700_000_000_123),
            ("2023-11-15T00:13:20+02:00", 1_700_000_000_000),
            ("1970-01-01T00:00:00.001Z", 1),
        ] {
            assert_eq!(from_text(text), known(ms), "{text}");
        }
        assert_eq!(from_text("0"), Ok(Time::Unknown));
        assert_eq!(from_text("1970-01-01T00:00:00Z"), Ok(Time::Unknown));
    }

    #[test]
    fn what_is_no_time_since_1970_is_refused() {
        for text in ["", " 1", "-1", "1e3", "yesterday", "2023-11-14", "2023-11-14T22:13:20", "18446744073709551616"] {
            assert!(from_text(text).is_err(), "{text}");
        }
        assert!(from_text("1969-12-31T23:59:59.9999Z").unwrap_err().contains("before 1970"));
    }

    #[test]
    fn a_number_and_its_digits_are_the_same_key() {
        assert_eq!(key_of(Value::Unsigned(1), "key"), Ok("1".into()));
        assert_eq!(key_of(Value::Text("1".into()), "key"), Ok("1".into()));
        assert_eq!(key_of(Value::Negative(-1), "key"), Ok("-1".into()));
    }
}
