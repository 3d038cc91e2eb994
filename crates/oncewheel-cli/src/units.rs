//! The unit of times that are numbers, and whether they are in it.

use clap::ValueEnum;
use oncewheel::Timestamp;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Unit {
    S,
    Ms,
    Us,
    Ns,
}

impl Unit {
    pub(crate) const ALL: [Self; 4] = [Self::S, Self::Ms, Self::Us, Self::Ns];
    /// 1990 and 2100 in seconds. Far less than a factor of 1,000 lies between them, so that a
    /// number is in this range in one unit at most.
    const DATES_S: std::ops::Range<u64> = 631_152_000..4_102_444_800;

    const fn per_second(self) -> u64 {
        match self {
            Self::S => 1,
            Self::Ms => 1_000,
            Self::Us => 1_000_000,
            Self::Ns => 1_000_000_000,
        }
    }

    /// Rounds down, as everywhere in the crate.
    #[inline]
    pub(crate) fn timestamp(self, number: u64) -> Timestamp {
        Timestamp::from_millis(match self {
            Self::S => number.saturating_mul(1_000),
            Self::Ms => number,
            Self::Us => number / 1_000,
            Self::Ns => number / 1_000_000,
        })
    }

    /// The unit in which the number is a date of our time.
    fn that_fits(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|unit| Self::DATES_S.contains(&(number / unit.per_second())))
    }

    fn name(self) -> &'static str {
        match self {
            Self::S => "seconds",
            Self::Ms => "milliseconds",
            Self::Us => "microseconds",
            Self::Ns => "nanoseconds",
        }
    }

    /// As the value of `--time-unit`
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::S => "s",
            Self::Ms => "ms",
            Self::Us => "us",
            Self::Ns => "ns",
        }
    }
}

/// Checks the unit of some fields until each has once held a date of our time in the right one.
/// From then on, a number in another unit is one wrong time like any other.
pub(crate) struct Units<const N: usize> {
    unit: Unit,
    is_checked: [bool; N],
}

impl<const N: usize> Units<N> {
    pub(crate) fn new(unit: Unit) -> Self {
        Self { unit, is_checked: [false; N] }
    }

    pub(crate) fn unit(&self) -> Unit {
        self.unit
    }

    #[inline]
    pub(crate) fn check(&mut self, numbers: [Option<u64>; N], names: &[String; N]) -> Result<(), String> {
        if numbers.iter().zip(self.is_checked).any(|(number, is_checked)| number.is_some() && !is_checked) {
            return self.check_first(numbers, names);
        }
        Ok(())
    }

    #[cold]
    fn check_first(&mut self, numbers: [Option<u64>; N], names: &[String; N]) -> Result<(), String> {
        let fits = numbers.map(|number| number.and_then(Unit::that_fits));
        let right = fits.iter().position(|unit| *unit == Some(self.unit));
        for index in 0..N {
            match (numbers[index], fits[index]) {
                (Some(number), Some(unit)) if unit != self.unit && !self.is_checked[index] => {
                    let fix = self.fix(unit, &names[index], right.map(|right| &*names[right]));
                    let (name, looks, set) = (&names[index], unit.name(), self.unit.name());
                    return Err(format!("the time {name:?} is {number}, which looks like {looks}, not {set}: {fix}"));
                }
                _ => {}
            }
        }
        for (is_checked, fits) in self.is_checked.iter_mut().zip(fits) {
            *is_checked |= fits == Some(self.unit);
        }
        Ok(())
    }

    fn fix(&self, found: Unit, name: &str, right: Option<&str>) -> String {
        let Some(right) = right else { return format!("add --time-unit {}", found.option()) };
        let name = name.strip_prefix('/').map_or(name.to_owned(), |pointer| pointer.replace('/', "."));
        let (found, set) = (found.per_second(), self.unit.per_second());
        let convert = match set > found {
            true => format!("*= {}", set / found),
            false => format!("|= (. / {} | floor)", found / set),
        };
        format!("{right:?} is in {}; convert one of them, such as with jq -c '.{name} {convert}'", self.unit.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_795_302_291;

    #[test]
    fn a_date_of_our_time_fits_one_unit_and_small_numbers_fit_none() {
        for unit in Unit::ALL {
            for seconds in [Unit::DATES_S.start, NOW_S, Unit::DATES_S.end - 1] {
                assert_eq!(Unit::that_fits(seconds * unit.per_second()), Some(unit));
            }
        }
        for number in [1, 1_000, 100_000_000, u64::MAX, 253_402_300_799_999] {
            assert_eq!(Unit::that_fits(number), None, "{number}");
        }
    }

    #[test]
    fn numbers_are_converted_to_milliseconds_and_round_down() {
        for (unit, number, ms) in [
            (Unit::S, 7, 7_000),
            (Unit::Ms, 7, 7),
            (Unit::Us, 7_999, 7),
            (Unit::Ns, 7_999_999, 7),
            (Unit::S, u64::MAX, u64::MAX),
        ] {
            assert_eq!(unit.timestamp(number).as_millis(), ms, "{unit:?}");
        }
    }

    #[test]
    fn the_error_names_field_and_unit_and_a_fix_that_is_possible() {
        let names = ["a", "/b/c"].map(str::to_owned);
        let mut units = Units::new(Unit::Ms);
        let error = units.check([Some(NOW_S), None], &names).unwrap_err();
        assert!(error.ends_with("\"a\" is 1795302291, which looks like seconds, not milliseconds: add --time-unit s"));
        let error = units.check([Some(NOW_S * 1_000), Some(NOW_S * 1_000_000)], &names).unwrap_err();
        assert!(error.contains("\"/b/c\" is 1795302291000000, which looks like microseconds"), "{error}");
        assert!(error.ends_with(
            "\"a\" is in milliseconds; convert one of them, such as with jq -c '.b.c |= (. / 1000 | floor)'"
        ));
        let error = units.check([Some(NOW_S), Some(NOW_S * 1_000)], &names).unwrap_err();
        assert!(error.ends_with("jq -c '.a *= 1000'"), "{error}");
    }

    #[test]
    fn a_field_that_was_in_the_right_unit_once_is_not_checked_again() {
        let names = ["a".to_owned()];
        let mut units = Units::new(Unit::Ms);
        assert!(units.check([Some(NOW_S)], &names).is_err());
        assert!(units.check([Some(5)], &names).is_ok());
        assert!(units.check([Some(NOW_S)], &names).is_err());
        assert!(units.check([Some(NOW_S * 1_000)], &names).is_ok());
        assert!(units.check([Some(NOW_S)], &names).is_ok());
    }
}
