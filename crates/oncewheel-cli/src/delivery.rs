//! What is on a line: a delivery's key and times.

use crate::args::Options;
use crate::fields::{Fields, Value};
use crate::units::{Unit, Units};
use oncewheel::Timestamp;
use std::borrow::Cow;

/// The last millisecond of the year 9999. A clock beyond it is in another unit, and would expire
/// every key.
const NOW_MS_MAX: u64 = 253_402_300_799_999;

/// "No time" as numbers: Kafka's, and the year 1 in the units of Go and .NET.
const NO_TIME: [i64; 5] =
    [-1, -62_135_596_800, -62_135_596_800_000, -62_135_596_800_000_000, -6_795_364_578_871_345_152];
/// And as text: the empty time of Go, .NET and `MySQL`.
const NO_TIME_DATES: [&str; 2] = ["0001-01-01", "0000-00-00"];

/// A time on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Time {
    /// No such field
    Absent,
    /// The field holds no time: null, 0, or another value that stands for none
    Unknown,
    Known(Timestamp),
}

impl Time {
    pub(crate) fn known(self) -> Option<Timestamp> {
        match self {
            Self::Known(time) => Some(time),
            Self::Absent | Self::Unknown => None,
        }
    }
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
    key_name: String,
    time_names: [String; 3],
    units: Units<3>,
}

impl Deliveries {
    pub(crate) fn new(options: &Options) -> Self {
        let times = [&options.msg_time, &options.min_msg_time, &options.now];
        Self {
            fields: Fields::new([&options.key, times[0], times[1], times[2]]),
            key_name: options.key.to_string(),
            time_names: times.map(ToString::to_string),
            units: Units::new(options.time_unit),
        }
    }

    /// What is wrong with the line, if it is no delivery.
    pub(crate) fn read<'a>(&mut self, line: &'a [u8]) -> Result<Delivery<'a>, String> {
        let [key, msg_time, min_msg_time, now] = self.fields.read(line)?;
        let key = key_of(key, &self.key_name)?;
        let unit = self.units.unit();
        let [msg_time_name, min_msg_time_name, now_name] = &self.time_names;
        let (msg_time, msg_number) = time_of(&msg_time, msg_time_name, unit)?;
        let (min_msg_time, min_number) = time_of(&min_msg_time, min_msg_time_name, unit)?;
        let (now, now_number) = time_of(&now, now_name, unit)?;
        self.units.check([msg_number, min_number, now_number], &self.time_names)?;
        match now {
            Time::Known(now) if now.as_millis() > NOW_MS_MAX => Err(format!(
                "the time {now_name:?} is {} ms, beyond the year 9999: it looks like the wrong unit (--time-unit is {})",
                now.as_millis(),
                unit.option()
            )),
            _ => Ok(Delivery { key, msg_time, min_msg_time, now }),
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
        Value::Digits(digits) => return Ok(digits.into()),
        Value::Absent => return Err(format!("no key: there is no field {name:?}")),
        Value::Null => "null",
        Value::Other(what) => what,
    };
    Err(format!("no key: the field {name:?} is {found}; a key is a string or an integer"))
}

/// The time, and the number that it is, if it is one.
#[inline(always)]
pub(crate) fn time_of(value: &Value<'_>, name: &str, unit: Unit) -> Result<(Time, Option<u64>), String> {
    match value {
        Value::Absent => Ok((Time::Absent, None)),
        Value::Null => Ok((Time::Unknown, None)),
        Value::Unsigned(number) => Ok(from_number(*number, unit)),
        Value::Negative(number) if NO_TIME.contains(number) => Ok((Time::Unknown, None)),
        Value::Negative(_) => Err(no_time(name, "negative")),
        Value::Digits(digits) => Err(no_time(name, out_of_range(digits))),
        Value::Text(text) => from_text(text, unit).map_err(|what| format!("the time {name:?} {what}")),
        Value::Other(what) => Err(no_time(name, what)),
    }
}

#[cold]
fn no_time(name: &str, found: &str) -> String {
    format!("the time {name:?} is {found}; a time is a Unix time (--time-unit) or RFC 3339 text")
}

#[inline]
fn from_number(number: u64, unit: Unit) -> (Time, Option<u64>) {
    match number {
        0 => (Time::Unknown, None),
        _ => (Time::Known(unit.timestamp(number)), Some(number)),
    }
}

fn out_of_range(digits: &str) -> &'static str {
    if digits.starts_with('-') { "negative" } else { "too large a number" }
}

/// Parts of a millisecond are dropped, as everywhere in the crate.
#[inline(never)]
fn from_text(text: &str, unit: Unit) -> Result<(Time, Option<u64>), String> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return match Value::integer(text) {
            Value::Unsigned(number) => Ok(from_number(number, unit)),
            Value::Negative(number) if NO_TIME.contains(&number) => Ok((Time::Unknown, None)),
            _ => Err(format!("is {text:?}: {}", out_of_range(text))),
        };
    }
    let is_midnight = |time: &str| time.get(1..9).is_some_and(|time| time == "00:00:00");
    if NO_TIME_DATES.iter().any(|date| text.strip_prefix(date).is_some_and(is_midnight)) {
        return Ok((Time::Unknown, None));
    }
    let time: jiff::Timestamp = text
        .parse()
        .map_err(|_| format!("is {text:?}: neither a Unix time nor RFC 3339 text such as 2026-11-22T14:25:44.120Z"))?;
    if time < jiff::Timestamp::UNIX_EPOCH {
        return Err(format!("is {text:?}: before 1970"));
    }
    let ms = u64::try_from(time.as_millisecond()).map_err(|_| format!("is {text:?}: before 1970"))?;
    Ok((if ms == 0 { Time::Unknown } else { Time::Known(Timestamp::from_millis(ms)) }, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Result<Time, String> {
        from_text(text, Unit::Ms).map(|(time, _)| time)
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
            assert_eq!(time(text), Ok(Time::Known(Timestamp::from_millis(ms))), "{text}");
        }
    }

    #[test]
    fn values_that_stand_for_no_time_are_unknown_times() {
        for text in [
            "0",
            "1970-01-01T00:00:00Z",
            "-1",
            "-62135596800000",
            "0001-01-01T00:00:00Z",
            "0001-01-01T00:00:00",
            "0001-01-01T00:00:00.0000000+00:00",
            "0000-00-00 00:00:00",
        ] {
            assert_eq!(time(text), Ok(Time::Unknown), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_since_1970_is_refused() {
        for text in
            ["", " 1", "-2", "-", "1e3", "yesterday", "2023-11-14", "2023-11-14T22:13:20", "18446744073709551616"]
        {
            assert!(time(text).is_err(), "{text}");
        }
        for text in ["1969-12-31T23:59:59.9999Z", "0001-01-01T00:00:01Z"] {
            assert!(time(text).unwrap_err().contains("before 1970"), "{text}");
        }
    }

    #[test]
    fn a_number_and_its_digits_are_the_same_key() {
        for digits in ["1", "-1", "18446744073709551616"] {
            assert_eq!(key_of(Value::integer(digits), "key"), Ok(digits.into()));
            assert_eq!(key_of(Value::Text(digits.into()), "key"), Ok(digits.into()));
        }
    }
}
