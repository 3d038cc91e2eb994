//! Durations as people write them, in and out.

use jiff::fmt::friendly::{Spacing, SpanPrinter};
use jiff::{Span, SpanRelativeTo};
use std::time::Duration;

const PRINTER: SpanPrinter = SpanPrinter::new().spacing(Spacing::None);

/// Reads `90s`, `10m`, `15d`, `1h30m`, `500ms`. A day has 24 hours.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let not_a_duration = |_| {
        "write numbers with their units, such as 500ms, 90s, 10m, 1h30m or 15d (no months or years, and at most 19,000 \
         years in all)"
            .to_owned()
    };
    let span: Span = text.parse().map_err(not_a_duration)?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(not_a_duration)?;
    Duration::try_from(duration).map_err(|_| "a duration cannot be negative: leave out the sign".to_owned())
}

/// Writes a duration so that [`parse`] reads it again.
pub(crate) fn text(duration: Duration) -> String {
    PRINTER.unsigned_duration_to_string(&duration)
}

/// In whole seconds, rounded up: what to raise an option to.
pub(crate) fn seconds_up(duration: Duration) -> Duration {
    let part = u64::from(duration.subsec_nanos() > 0);
    Duration::from_secs(duration.as_secs().saturating_add(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them_and_written_so_that_they_are_read_again() {
        let cases = [("500ms", 500), ("90s", 90_000), ("10m", 600_000), ("1h30m", 5_400_000), ("15d", 1_296_000_000)];
        for (written, ms) in cases {
            let duration = parse(written).unwrap();
            assert_eq!(duration, Duration::from_millis(ms), "{written}");
            assert_eq!(parse(&text(duration)).unwrap(), duration, "{written}");
        }
        assert_eq!(seconds_up(Duration::from_millis(31_001)), Duration::from_secs(32));
    }

    #[test]
    fn what_is_no_length_of_time_is_refused() {
        for written in ["", "10", "s", "ten minutes", "-5s", "5s ago", "1 month", "99999999999999999999s"] {
            assert!(parse(written).is_err(), "{written}");
        }
    }
}
