//! Durations in files as people write them: `500ms`, `90s`, `10m`, `1h 30m`, `15d`.

use jiff::fmt::friendly::{Spacing, SpanPrinter};
use jiff::{Span, SpanRelativeTo};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};
use std::borrow::Cow;
use std::time::Duration;

/// A day has 24 hours; months and years have no fixed length and are rejected.
fn parse(text: &str) -> Result<Duration, String> {
    let span: Span = text.parse().map_err(|_| format!("{text:?} is no duration, such as 90s, 10m or 15d"))?;
    let duration = span
        .to_duration(SpanRelativeTo::days_are_24_hours())
        .map_err(|_| format!("{text:?} has no fixed length: use days at most"))?;
    Duration::try_from(duration).map_err(|_| format!("{text:?} is negative"))
}

fn print(duration: Duration) -> String {
    SpanPrinter::new().spacing(Spacing::None).unsigned_duration_to_string(&duration)
}

/// For fields of type `Duration`.
pub(crate) mod required {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&print(*duration))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        parse(&Cow::<str>::deserialize(from)?).map_err(D::Error::custom)
    }
}

/// For fields of type `Option<Duration>`.
pub(crate) mod optional {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(duration: &Option<Duration>, to: S) -> Result<S::Ok, S::Error> {
        duration.map(print).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
        let text = Option::<Cow<'_, str>>::deserialize(from)?;
        text.map(|text| parse(&text)).transpose().map_err(D::Error::custom)
    }
}
