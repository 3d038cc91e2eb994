//! A time that rises with the input, and jumps ahead only once other lines confirm the jump.

/// How many lines after a jump must confirm it. One would do against a single wrong time; lines of
/// one producer or consumer whose clock is wrong may come in pairs.
pub(crate) const LINES_TO_CONFIRM: usize = 2;

/// The latest time of a field that can be believed.
///
/// ```text
/// time
///   ^            x                          x: held, and dropped as wrong at the next line
///   |                          ? + +        ?: held, and believed at the second +
///   |      . . .   . . . . . .              .: at most a step ahead: believed at once
///   +-----------------------------> lines
/// ```
///
/// A time at most `step` ahead is believed at once. A later one is held. It is dropped as wrong
/// when a line follows that is more than `step` below it, and believed when
/// [`LINES_TO_CONFIRM`] lines follow of which none is. What is more than `step` below `believed`
/// is evidence of nothing.
///
/// So the time is late, by as many lines, where every line is a jump. Late is safe, early is not.
#[derive(Debug)]
pub(crate) struct Confirmed<P> {
    /// In milliseconds
    believed: Option<u64>,
    step: u64,
    /// At most [`LINES_TO_CONFIRM`] after each call, and none more than `step` above a later one
    held: Vec<Held<P>>,
}

#[derive(Debug)]
pub(crate) struct Held<P> {
    pub(crate) time: u64,
    pub(crate) place: P,
}

impl<P: Clone> Confirmed<P> {
    pub(crate) fn new(believed: Option<u64>, step: u64) -> Self {
        Self { believed, step, held: Vec::new() }
    }

    pub(crate) fn believed(&self) -> Option<u64> {
        self.believed
    }

    /// The latest time that may be true.
    #[inline]
    pub(crate) fn latest(&self) -> Option<u64> {
        if self.held.is_empty() {
            return self.believed;
        }
        self.held.iter().map(|held| held.time).max().max(self.believed)
    }

    pub(crate) fn is_holding(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes the time of a line. Whether `believed` has risen.
    ///
    /// `is_first_believed`: whether another time of the line supports this one, so that it can be
    /// believed if it is the first. `wrong` is given what the line contradicts.
    #[inline]
    pub(crate) fn take(&mut self, time: u64, place: &P, is_first_believed: bool, wrong: impl FnMut(Held<P>)) -> bool {
        match self.believed {
            Some(believed) if self.held.is_empty() && time <= believed.saturating_add(self.step) => {
                self.believed = Some(believed.max(time));
                time > believed
            }
            _ => self.take_slowly(time, place, is_first_believed, wrong),
        }
    }

    #[cold]
    fn take_slowly(&mut self, time: u64, place: &P, is_first_believed: bool, wrong: impl FnMut(Held<P>)) -> bool {
        let (before, reach) = (self.believed, time.saturating_add(self.step));
        if before.is_some_and(|believed| reach < believed) {
            return false;
        }
        self.contradict(time, wrong);
        let is_step = before.map_or(is_first_believed, |believed| time <= believed.saturating_add(self.step));
        if is_step {
            self.believed = before.max(Some(time));
        } else {
            self.held.push(Held { time, place: place.clone() });
            if self.held.len() > LINES_TO_CONFIRM {
                self.believed = self.held.iter().map(|held| held.time).min();
            }
        }
        self.believe_steps();
        self.believed > before
    }

    /// Drops what is held and more than a step ahead of this time.
    #[cold]
    pub(crate) fn contradict(&mut self, time: u64, wrong: impl FnMut(Held<P>)) {
        let reach = time.saturating_add(self.step);
        if self.believed.is_none_or(|believed| reach >= believed) {
            self.held.extract_if(.., |held| held.time > reach).for_each(wrong);
        }
    }

    /// The end of the input: what no line contradicts is believed.
    pub(crate) fn believe_held(&mut self) {
        self.believed = self.latest();
        self.held.clear();
    }

    /// What is held and now at most a step ahead needs no confirmation any more.
    fn believe_steps(&mut self) {
        let Some(mut believed) = self.believed else { return };
        self.held.sort_by_key(|held| held.time);
        self.held.retain(|held| {
            let is_step = held.time <= believed.saturating_add(self.step);
            believed = believed.max(if is_step { held.time } else { 0 });
            !is_step
        });
        self.believed = Some(believed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: u64 = 10;

    /// What is believed after each time, and which times were wrong.
    fn run(first: Option<u64>, times: &[u64]) -> (Vec<Option<u64>>, Vec<u64>) {
        let mut confirmed = Confirmed::new(first, STEP);
        let mut wrong = Vec::new();
        let believed = times.iter().map(|time| {
            let before = confirmed.believed();
            let has_risen = confirmed.take(*time, &(), false, |held| wrong.push(held.time));
            assert_eq!(has_risen, confirmed.believed() > before);
            assert!(confirmed.held.len() <= LINES_TO_CONFIRM);
            confirmed.believed()
        });
        (believed.collect(), wrong)
    }

    #[track_caller]
    fn believes(times: &[u64], expected: &[u64], wrong: &[u64]) {
        let expected: Vec<_> = expected.iter().copied().map(Some).collect();
        assert_eq!(run(Some(100), times), (expected, wrong.to_vec()), "{times:?}");
    }

    #[test]
    fn steps_are_believed_at_once_and_never_taken_back() {
        believes(&[105, 115, 100, 1, 125, 126], &[105, 115, 115, 115, 125, 126], &[]);
    }

    #[test]
    fn one_or_two_wrong_times_are_dropped_when_the_next_line_contradicts_them() {
        believes(&[105, 900, 106, 107], &[105, 105, 106, 107], &[900]);
        believes(&[900, 901, 106, 107], &[100, 100, 106, 107], &[900, 901]);
        believes(&[900, 106, 901, 107, u64::MAX, 108], &[100, 106, 106, 107, 107, 108], &[900, 901, u64::MAX]);
    }

    #[test]
    fn a_wrong_time_in_a_gap_that_is_real_is_dropped_alone() {
        believes(&[900, 500, 501, 502], &[100, 100, 100, 502], &[900]);
        believes(&[500, 900, 501, 502], &[100, 100, 100, 502], &[900]);
    }

    #[test]
    fn a_gap_is_believed_once_two_lines_confirm_it() {
        believes(&[900, 895, 905, 910], &[100, 100, 905, 910], &[]);
    }

    #[test]
    fn where_every_line_is_a_jump_the_time_is_two_lines_late() {
        believes(&[200, 300, 400, 500, 600], &[100, 100, 200, 300, 400], &[]);
    }

    #[test]
    fn three_wrong_times_in_a_row_that_agree_are_believed() {
        believes(&[900, 901, 902, 105], &[100, 100, 902, 902], &[]);
    }

    #[test]
    fn with_two_wrong_times_in_a_row_at_most_none_is_ever_believed() {
        let mut state = 1_u64;
        let mut random = |end: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % end
        };
        let (mut confirmed, mut latest, mut in_a_row) = (Confirmed::new(Some(100), STEP), 100, 0);
        for n in 0..100_000 {
            let is_wrong = in_a_row < LINES_TO_CONFIRM && random(3) == 0;
            in_a_row = if is_wrong { in_a_row + 1 } else { 0 };
            // Good times come a little out of order, and with a gap now and then.
            latest += if is_wrong {
                0
            } else if random(500) == 0 {
                1_000
            } else {
                random(5)
            };
            let time = if is_wrong { latest + 2_000 + random(10_000) } else { latest - random(5) };
            confirmed.take(time, &(), false, |held| assert!(held.time > latest, "{n}: a good time was dropped"));
            assert!(confirmed.believed() <= Some(latest), "{n}: {confirmed:?}, {latest}");
        }
        assert!(confirmed.believed() >= Some(latest - 2_000), "{confirmed:?}, {latest}");
    }

    #[test]
    fn a_line_far_below_contradicts_nothing() {
        believes(&[900, 5, 901, 902], &[100, 100, 100, 902], &[]);
    }

    #[test]
    fn the_first_time_is_held_too_unless_its_line_supports_it() {
        assert_eq!(run(None, &[900, 100, 101, 102]), (vec![None, None, None, Some(102)], vec![900]));
        let mut confirmed = Confirmed::new(None, STEP);
        assert!(confirmed.take(900, &(), true, |_| unreachable!()));
        assert_eq!((confirmed.believed(), confirmed.latest()), (Some(900), Some(900)));
        assert!(!confirmed.take(2_000, &(), true, |_| unreachable!()));
        assert_eq!((confirmed.believed(), confirmed.latest(), confirmed.is_holding()), (Some(900), Some(2_000), true));
        confirmed.believe_held();
        assert_eq!((confirmed.believed(), confirmed.is_holding()), (Some(2_000), false));
    }
}
