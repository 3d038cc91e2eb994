//! The whole cache against a model that can be checked by eye: a map of deadlines and the rule.

use crate::fronts::Front;
use oncewheel::{Claimed, Clock, Config, Error, Horizon, Timestamp, Verdict, sync, unsync};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// The rule, word for word.
struct Model {
    settings: Settings,
    now: Option<u64>,
    watermark: u64,
    /// Committed keys, each with its deadline and the watermark until which it may be held late.
    keys: BTreeMap<u8, (u64, u64)>,
    claims: BTreeMap<u8, u64>,
    /// The greatest age of a duplicate, and how many were later than the horizon allows. Counted
    /// only if the deadline gives the time of the first copy.
    age_max: u64,
    late: u64,
    committed_late: BTreeSet<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    span: u64,
    retention: Option<u64>,
    out_of_orderness: u64,
    clock_skew: u64,
    max_keys: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Fresh,
    Duplicate,
    InFlight,
    TooOld,
    Full,
}

impl Model {
    fn advance(&mut self, now: u64) {
        self.now = self.now.max(Some(now.min(u64::MAX - 1)));
        if let (Some(now), Some(retention)) = (self.now, self.settings.retention) {
            let oldest = now.saturating_sub(retention).saturating_sub(self.settings.out_of_orderness);
            self.watermark = self.watermark.max(oldest);
        }
    }

    fn observe(&mut self, min_msg_time: u64) -> bool {
        let watermark = min_msg_time.saturating_sub(self.settings.out_of_orderness);
        let is_believed = watermark <= self.ceiling();
        if is_believed {
            self.watermark = self.watermark.max(watermark);
        }
        is_believed
    }

    fn ceiling(&self) -> u64 {
        self.now.map_or(u64::MAX, |now| now.saturating_add(self.settings.clock_skew).max(self.watermark))
    }

    /// The answers that the promises allow. There is more than one only for a key that has expired.
    fn allowed(&self, key: u8, time: u64) -> Vec<Answer> {
        let mut allowed = Vec::new();
        if let Some((deadline, _)) = self.keys.get(&key) {
            if *deadline >= self.watermark {
                return vec![Answer::Duplicate];
            }
            // Late is safe, within the bound. Besides, reclaiming is amortised, so the key may
            // still be there.
            allowed.push(Answer::Duplicate);
        }
        if self.claims.contains_key(&key) {
            allowed.push(Answer::InFlight);
        } else if time.min(self.ceiling()) < self.watermark {
            allowed.push(Answer::TooOld);
        } else {
            let must_hold = self.keys.values().filter(|(deadline, _)| *deadline >= self.watermark).count();
            let may_hold = self.keys.values().filter(|(_, held_until)| *held_until >= self.watermark).count();
            if must_hold + self.claims.len() < self.settings.max_keys {
                allowed.push(Answer::Fresh);
            }
            if may_hold + self.claims.len() >= self.settings.max_keys {
                allowed.push(Answer::Full);
            }
        }
        allowed
    }

    fn commit(&mut self, key: u8, time: u64) {
        let deadline = time.saturating_add(self.settings.span);
        // The bounds of the levels hold once there is a watermark. Before that, a slot may be
        // wider.
        let life = deadline.saturating_sub(self.watermark);
        let held_until =
            if self.watermark == 0 { u64::MAX } else { deadline.max(self.watermark).saturating_add(life / 64 + 1) };
        self.keys.insert(key, (deadline, held_until));
        if deadline < self.watermark || deadline == u64::MAX {
            self.committed_late.insert(key);
        } else {
            self.committed_late.remove(&key);
        }
    }

    fn note_duplicate(&mut self, key: u8, time: u64) {
        let time = time.min(self.ceiling());
        let (deadline, _) = self.keys[&key];
        let first = deadline.saturating_sub(self.settings.span);
        self.late += u64::from(time.abs_diff(first) > self.settings.span);
        if !self.committed_late.contains(&key) {
            self.age_max = self.age_max.max(time.abs_diff(first));
        }
    }

    fn remove(&mut self, key: u8) -> Option<(u64, u64)> {
        self.keys.remove(&key)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert { key: u8, time: u64 },
    InsertUnknown { key: u8 },
    Batch { entries: Vec<(u8, u64)> },
    Claim { key: u8, time: u64 },
    Commit { which: prop::sample::Index },
    Abort { which: prop::sample::Index },
    Remove { key: u8 },
    Observe { time: u64 },
    Advance { time: u64 },
    Shrink,
}

/// Runs the steps on a cache and on the model, which must agree after each.
fn run<C: Front>(settings: Settings, starts_at: Option<u64>, steps: &[Step]) {
    let millis = Duration::from_millis;
    let mut horizon = Horizon::new(millis(settings.span), Duration::ZERO)
        .max_out_of_orderness(millis(settings.out_of_orderness))
        .max_clock_skew(millis(settings.clock_skew));
    if let Some(retention) = settings.retention {
        horizon = horizon.max_retention(millis(retention));
    }
    let config = Config::new(horizon).max_keys(settings.max_keys).clock(Clock::Manual).shards(4);
    let mut cache = C::new(config).unwrap();
    let mut model = Model {
        settings,
        now: None,
        watermark: 0,
        keys: BTreeMap::new(),
        claims: BTreeMap::new(),
        age_max: 0,
        late: 0,
        committed_late: BTreeSet::new(),
    };
    let mut claims: Vec<(u8, u64, C::Claim)> = Vec::new();
    if let Some(time) = starts_at {
        cache.observe_known(time).unwrap();
        model.observe(time);
    }
    let mut counts = [0u64; 4];

    for step in steps {
        match step {
            Step::Insert { key, time } => {
                let answer = cache.insert(&name(*key), Some(*time));
                judge(&mut model, &mut counts, *key, *time, answer);
            }
            Step::InsertUnknown { key } => match (model.now, cache.insert(&name(*key), None)) {
                (None, answer) => assert_eq!(answer, Err(Error::NoTime)),
                (Some(now), answer) => {
                    let latest = now.max(model.watermark);
                    judge(&mut model, &mut counts, *key, latest, answer);
                }
            },
            Step::Batch { entries } => {
                let batch: Vec<_> = entries
                    .iter()
                    .map(|(key, time)| (cache.fingerprint(&name(*key)), Timestamp::from_millis(*time)))
                    .collect();
                let mut verdicts = vec![Verdict::Fresh];
                let result = cache.insert_batch(&batch, &mut verdicts);
                for ((key, time), verdict) in entries.iter().zip(&verdicts) {
                    judge(&mut model, &mut counts, *key, *time, Ok(*verdict));
                }
                match result {
                    Ok(()) => assert_eq!(verdicts.len(), entries.len()),
                    Err(error) => {
                        let (key, time) = entries[verdicts.len()];
                        judge(&mut model, &mut counts, key, time, Err(error));
                    }
                }
            }
            Step::Claim { key, time } => {
                let allowed = model.allowed(*key, *time);
                let (answer, claim) = match cache.claim(&name(*key), Some(*time)) {
                    Ok(Claimed::Fresh(claim)) => (Answer::Fresh, Some(claim)),
                    Ok(Claimed::Duplicate) => (Answer::Duplicate, None),
                    Ok(Claimed::InFlight) => (Answer::InFlight, None),
                    Ok(Claimed::TooOld) => (Answer::TooOld, None),
                    Err(Error::Full { .. }) => (Answer::Full, None),
                    Err(other) => panic!("{other}"),
                };
                assert!(allowed.contains(&answer), "{step:?}: {answer:?}, not one of {allowed:?}");
                count(&mut counts, answer);
                if answer == Answer::Duplicate {
                    model.note_duplicate(*key, *time);
                }
                if let Some(claim) = claim {
                    let time = (*time).min(model.ceiling());
                    model.remove(*key);
                    model.claims.insert(*key, time);
                    claims.push((*key, time, claim));
                }
            }
            Step::Commit { which } if !claims.is_empty() => {
                let (key, time, claim) = claims.swap_remove(which.index(claims.len()));
                assert_eq!(cache.commit(claim), Ok(()), "without lease no claim is lost");
                model.claims.remove(&key);
                model.commit(key, time);
            }
            Step::Abort { which } if !claims.is_empty() => {
                let (key, _, claim) = claims.swap_remove(which.index(claims.len()));
                cache.abort(claim);
                model.claims.remove(&key);
            }
            Step::Commit { .. } | Step::Abort { .. } => {}
            Step::Remove { key } => {
                let was_held = cache.remove(&name(*key));
                match model.remove(*key) {
                    Some((deadline, _)) => assert!(was_held || deadline < model.watermark),
                    None => assert!(!was_held),
                }
            }
            Step::Observe { time } => {
                let is_believed = *time == 0 || model.observe(*time);
                assert_eq!(cache.observe_known(*time).is_ok(), is_believed, "{step:?}");
            }
            Step::Advance { time } => {
                cache.advance(*time);
                model.advance(*time);
            }
            Step::Shrink => _ = cache.shrink(),
        }
        assert_eq!(cache.watermark().unwrap_or(0), model.watermark, "{step:?}");
        cache.validate();
        let stats = cache.stats();
        assert_eq!([stats.fresh, stats.duplicate, stats.in_flight, stats.too_old], counts);
        assert_eq!(stats.claims_open, model.claims.len());
        assert!(stats.duplicate_ages.max().unwrap_or_default() >= millis(model.age_max), "ages are never too low");
        assert!(stats.late_duplicates <= model.late, "late only for certain");
        assert!(stats.keys_live <= model.keys.len());
        assert!(stats.keys_live + stats.claims_open <= settings.max_keys);
    }
}

fn judge(model: &mut Model, counts: &mut [u64; 4], key: u8, time: u64, answer: Result<Verdict, Error>) {
    let allowed = model.allowed(key, time);
    let answer = match answer {
        Ok(Verdict::Fresh) => Answer::Fresh,
        Ok(Verdict::Duplicate) => Answer::Duplicate,
        Ok(Verdict::InFlight) => Answer::InFlight,
        Ok(Verdict::TooOld) => Answer::TooOld,
        Err(Error::Full { .. }) => Answer::Full,
        Err(other) => panic!("{other}"),
    };
    assert!(allowed.contains(&answer), "key {key} at {time}: {answer:?}, not one of {allowed:?}");
    count(counts, answer);
    if answer == Answer::Duplicate {
        model.note_duplicate(key, time);
    }
    if answer == Answer::Fresh {
        model.commit(key, time.min(model.ceiling()));
    }
}

fn count(counts: &mut [u64; 4], answer: Answer) {
    if answer != Answer::Full {
        counts[answer as usize] += 1;
    }
}

fn name(key: u8) -> String {
    "k".repeat(usize::from(key) % 7) + &key.to_string()
}

/// Spans of time: from a millisecond to years, or at a bound of the wheel's levels and slots, or
/// one off that bound.
fn span_of_time() -> impl Strategy<Value = u64> {
    let scale = prop_oneof![Just(1u64), Just(10), Just(1_000), Just(60_000), Just(86_400_000), Just(40_000_000_000)];
    let boundary = (0u32..21, prop_oneof![Just(1u64), Just(511), Just(512), Just(1023), Just(1024)], -1i64..=1);
    prop_oneof![
        (scale, 0u64..70).prop_map(|(scale, times)| scale * times),
        boundary.prop_map(|(level, slots, off)| (slots << (3 * level).min(50)).saturating_add_signed(off)),
    ]
}

fn moment(origin: u64) -> impl Strategy<Value = u64> {
    let near = (span_of_time(), any::<bool>())
        .prop_map(move |(span, back)| if back { origin.saturating_sub(span) } else { origin.saturating_add(span) });
    prop_oneof![8 => near, 1 => prop_oneof![Just(0), Just(1), Just(u64::MAX), Just(u64::MAX - 1), Just(1 << 63)]]
}

fn batch(key: std::ops::Range<u8>, origin: u64, len: usize) -> impl Strategy<Value = Step> {
    prop::collection::vec((key, moment(origin)), 0..len).prop_map(|entries| Step::Batch { entries })
}

fn step(origin: u64) -> impl Strategy<Value = Step> {
    let key = 0u8..24;
    prop_oneof![
        8 => (key.clone(), moment(origin)).prop_map(|(key, time)| Step::Insert { key, time }),
        1 => key.clone().prop_map(|key| Step::InsertUnknown { key }),
        3 => batch(key.clone(), origin, 80),
        1 => batch(key.clone(), origin, 300), // several groups of a batch
        3 => (key.clone(), moment(origin)).prop_map(|(key, time)| Step::Claim { key, time }),
        2 => any::<prop::sample::Index>().prop_map(|which| Step::Commit { which }),
        1 => any::<prop::sample::Index>().prop_map(|which| Step::Abort { which }),
        1 => key.prop_map(|key| Step::Remove { key }),
        3 => moment(origin).prop_map(|time| Step::Observe { time }),
        2 => moment(origin).prop_map(|time| Step::Advance { time }),
        1 => Just(Step::Shrink),
    ]
}

fn scenario() -> impl Strategy<Value = (Settings, Option<u64>, Vec<Step>)> {
    let origin = prop_oneof![
        Just(0u64),
        Just(1_000),
        Just(1_795_302_291_895),
        Just(1 << 40),
        Just(1 << 62),
        Just(u64::MAX - 100_000)
    ];
    let settings = (
        span_of_time().prop_map(|span| span.clamp(1, 1 << 60)),
        prop::option::of(span_of_time().prop_map(|span| span.min(1 << 60))),
        prop_oneof![2 => Just(0), 1 => span_of_time().prop_map(|span| span.min(1 << 60))],
        prop_oneof![Just(0), Just(60_000), Just(1 << 60)],
        prop_oneof![Just(1usize), Just(3), Just(12), Just(100)],
    )
        .prop_map(|(span, retention, out_of_orderness, clock_skew, max_keys)| Settings {
            span,
            retention,
            out_of_orderness,
            clock_skew,
            max_keys,
        });
    (settings, origin).prop_flat_map(|(settings, origin)| {
        let starts_at = prop_oneof![Just(None), Just(Some(origin))];
        (Just(settings), starts_at, prop::collection::vec(step(origin), 1..60))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn unsync_agrees_with_the_rule((settings, starts_at, steps) in scenario()) {
        run::<unsync::DedupCache>(settings, starts_at, &steps);
    }

    #[test]
    fn sync_agrees_with_the_rule((settings, starts_at, steps) in scenario()) {
        run::<sync::DedupCache>(settings, starts_at, &steps);
    }
}
