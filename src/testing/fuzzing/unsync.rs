//! The whole cache against the rule.

use super::Choices;
use crate::unsync::{Claim, DedupCache};
use crate::{Claimed, Clock, Config, Error, Horizon, MinMsgTime, Timestamp, Verdict, WhenFull};
use std::collections::BTreeMap;
use std::time::Duration;

const KEYS: usize = 24;

/// Every operation on a cache of one consumer, with leases and `EvictOldest`: every answer is one
/// that the promises allow.
pub fn unsync(bytes: &[u8]) {
    let mut choices = Choices::new(bytes);
    let mut steps = || {
        let mut run = Run::new(&mut choices)?;
        let origin = [0, 1_000, 1_795_302_291_895, 1 << 62, u64::MAX - 100_000][choices.among(5)?];
        loop {
            run.step(&mut choices, origin)?;
            run.validate();
        }
    };
    let _: Option<()> = steps();
}

/// A committed key.
struct Kept {
    time: u64,
    deadline: u64,
    /// The highest watermark at which it may still count towards `max_keys`.
    held_until: u64,
}

struct OpenClaim {
    key: usize,
    time: u64,
    /// When the lease began. If there was no `now` then, not before the first one: not known for
    /// certain.
    lease_from: Option<u64>,
    is_certain: bool,
    is_taken_over: bool,
    token: Option<Claim>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lease {
    Running,
    MayBeExpired,
    Expired,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Fresh,
    Duplicate,
    InFlight,
    TooOld,
    Full,
}

struct Run {
    cache: DedupCache,
    span: u64,
    retention: Option<u64>,
    out_of_orderness: u64,
    clock_skew: u64,
    lease: Option<u64>,
    max_keys: usize,
    evicts_oldest: bool,
    now: Option<u64>,
    watermark: u64,
    keys: BTreeMap<usize, Kept>,
    claims: Vec<OpenClaim>,
    /// Of workers that never return. Not leaked: the sanitizer would report it.
    stuck: Vec<Claim>,
    counts: [u64; 4],
}

impl Run {
    fn new(choices: &mut Choices<'_>) -> Option<Self> {
        let how = choices.byte()?;
        let has = |bit: u8| how >> bit & 1 == 1;
        let length = |choices: &mut Choices<'_>| Some(choices.span()?.min(1 << 60));
        let span = length(choices)?.max(1);
        let retention = if has(0) { Some(length(choices)?) } else { None };
        let out_of_orderness = if has(1) { length(choices)? } else { 0 };
        let lease = if has(2) { Some(length(choices)?.max(1)) } else { None };
        let clock_skew = if has(3) { 60_000 } else { 1 << 60 };
        let max_keys = [1, 3, 12, 100][usize::from(how >> 5 & 3)];
        let millis = Duration::from_millis;
        let mut horizon = Horizon::new(millis(span), Duration::ZERO)
            .max_out_of_orderness(millis(out_of_orderness))
            .max_clock_skew(millis(clock_skew));
        horizon = retention.map_or(horizon, |retention| horizon.max_retention(millis(retention)));
        let mut config = Config::new(horizon).clock(Clock::Manual).max_keys(max_keys).secret([7; 16]);
        config = lease.map_or(config.clone(), |lease| config.lease(millis(lease)));
        let evicts_oldest = has(4);
        if evicts_oldest {
            config = config.when_full(WhenFull::EvictOldest);
        }
        Some(Self {
            cache: DedupCache::new(config).ok()?,
            span,
            retention,
            out_of_orderness,
            clock_skew,
            lease,
            max_keys,
            evicts_oldest,
            now: None,
            watermark: 0,
            keys: BTreeMap::new(),
            claims: Vec::new(),
            stuck: Vec::new(),
            counts: [0; 4],
        })
    }

    fn step(&mut self, choices: &mut Choices<'_>, origin: u64) -> Option<()> {
        match choices.byte()? % 16 {
            0..=3 => {
                let (key, time) = (choices.among(KEYS)?, choices.time(origin)?);
                let answer = self.cache.insert(name(key), Timestamp::from_millis(time));
                self.judge_insert(key, time, answer);
            }
            4 => {
                let key = choices.among(KEYS)?;
                match (self.now, self.cache.insert(name(key), None)) {
                    (None, answer) => assert_eq!(answer, Err(Error::NoTime)),
                    (Some(now), answer) => self.judge_insert(key, now.max(self.watermark), answer),
                }
            }
            5 | 6 => self.batch(choices, origin)?,
            7 | 8 => self.claim(choices.among(KEYS)?, choices.time(origin)?),
            9 => {
                let at = choices.among(self.claims.len())?;
                self.commit(at);
            }
            10 => {
                let at = choices.among(self.claims.len())?;
                self.abort_or_drop(at);
            }
            11 => self.remove(choices.among(KEYS)?),
            12 => self.observe(choices.time(origin)?),
            13 => self.advance(choices.time(origin)?),
            14 => {
                self.cache.observe(MinMsgTime::Unknown).expect("never refused");
                self.cache.shrink();
            }
            _ => {
                // A worker that never returns.
                let at = choices.among(self.claims.len())?;
                self.stuck.extend(self.claims.get_mut(at).and_then(|claim| claim.token.take()));
            }
        }
        Some(())
    }

    fn batch(&mut self, choices: &mut Choices<'_>, origin: u64) -> Option<()> {
        let mut entries = Vec::new();
        for _ in 0..choices.among(70)? {
            entries.push((choices.among(KEYS)?, choices.time(origin)?));
        }
        let fingerprint = |key: usize| self.cache.fingerprint(name(key).as_bytes());
        let batch: Vec<_> =
            entries.iter().map(|(key, time)| (fingerprint(*key), Timestamp::from_millis(*time))).collect();
        let mut verdicts = vec![Verdict::Fresh];
        let inserted = self.cache.insert_batch(&batch, &mut verdicts);
        let mut answers: Vec<_> = verdicts.into_iter().map(Ok).collect();
        match inserted {
            Ok(()) => assert_eq!(answers.len(), entries.len()),
            Err(error) => answers.push(Err(error)),
        }
        entries.into_iter().zip(answers).for_each(|((key, time), answer)| self.judge_insert(key, time, answer));
        Some(())
    }

    fn claim(&mut self, key: usize, time: u64) {
        let allowed = self.allowed(key, time);
        let mut token = None;
        let answer = match self.cache.claim(name(key), Timestamp::from_millis(time)) {
            Ok(Claimed::Fresh(claim)) => {
                token = Some(claim);
                Answer::Fresh
            }
            Ok(Claimed::Duplicate) => Answer::Duplicate,
            Ok(Claimed::InFlight) => Answer::InFlight,
            Ok(Claimed::TooOld) => Answer::TooOld,
            Err(error) => answer_of(Err(error)),
        };
        self.judge(key, answer, &allowed);
        if token.is_some() {
            self.keys.remove(&key);
            let (time, now) = (time.min(self.ceiling()), self.now);
            let claim =
                OpenClaim { key, time, lease_from: now, is_certain: now.is_some(), is_taken_over: false, token };
            self.claims.push(claim);
        }
    }

    fn judge_insert(&mut self, key: usize, time: u64, answer: Result<Verdict, Error>) {
        let allowed = self.allowed(key, time);
        let answer = answer_of(answer);
        self.judge(key, answer, &allowed);
        if answer == Answer::Fresh {
            self.keep(key, time.min(self.ceiling()));
        }
    }

    fn judge(&mut self, key: usize, answer: Answer, allowed: &[Answer]) {
        assert!(allowed.contains(&answer), "key {key}: {answer:?}, not one of {allowed:?}");
        if answer != Answer::Full {
            self.counts[answer as usize] += 1;
        }
        if answer == Answer::Fresh {
            self.claims.iter_mut().filter(|claim| claim.key == key).for_each(|claim| claim.is_taken_over = true);
        }
    }

    fn keep(&mut self, key: usize, time: u64) {
        let deadline = time.saturating_add(self.span);
        let life = deadline.saturating_sub(self.watermark);
        let last = deadline.max(self.watermark).saturating_add(life / 64 + 1);
        // Before the first watermark a slot may be wider.
        let held_until = if self.watermark == 0 { u64::MAX } else { last };
        self.keys.insert(key, Kept { time, deadline, held_until });
    }

    fn commit(&mut self, at: usize) {
        let Some(token) = self.claims.get_mut(at).and_then(|claim| claim.token.take()) else { return };
        let claim = self.claims.remove(at);
        let committed = self.cache.commit(token);
        match committed {
            Ok(()) => assert!(!claim.is_taken_over, "a claim that was taken over commits nothing"),
            Err(Error::ClaimLost) => assert!(claim.is_taken_over || self.may_be_swept(&claim), "a claim was lost"),
            Err(other) => panic!("{other}"),
        }
        if committed.is_ok() {
            self.keep(claim.key, claim.time);
        }
    }

    fn abort_or_drop(&mut self, at: usize) {
        if let Some(token) = self.claims.get_mut(at).and_then(|claim| claim.token.take()) {
            if self.claims.remove(at).key.is_multiple_of(2) {
                self.cache.abort(token);
            } else {
                drop(token);
            }
        }
    }

    fn remove(&mut self, key: usize) {
        let was_held = self.cache.remove(name(key)).expect("no journal that could fail");
        match self.keys.remove(&key) {
            Some(kept) => assert!(was_held || !self.is_held(&kept)),
            None => assert!(!was_held),
        }
    }

    fn observe(&mut self, time: u64) {
        let watermark = time.saturating_sub(self.out_of_orderness);
        let is_believed = time == 0 || watermark <= self.ceiling();
        if is_believed && time > 0 {
            self.watermark = self.watermark.max(watermark);
        }
        let observed = self.cache.observe(MinMsgTime::Known(Timestamp::from_millis(time)));
        assert_eq!(observed.is_ok(), is_believed, "observe {time}");
    }

    fn advance(&mut self, time: u64) {
        self.cache.advance(Timestamp::from_millis(time)).expect("a manual clock");
        self.now = self.now.max(Some(time.min(u64::MAX - 1)));
        if let (Some(now), Some(retention)) = (self.now, self.retention) {
            let oldest = now.saturating_sub(retention).saturating_sub(self.out_of_orderness);
            self.watermark = self.watermark.max(oldest);
        }
        let now = self.now;
        self.claims.iter_mut().filter(|claim| claim.lease_from.is_none()).for_each(|claim| claim.lease_from = now);
    }

    /// The answers that the promises allow. There is more than one only if the key has expired or
    /// was evicted, or if it is not known when a lease began.
    fn allowed(&self, key: usize, time: u64) -> Vec<Answer> {
        let mut allowed = Vec::new();
        if let Some(kept) = self.keys.get(&key) {
            allowed.push(Answer::Duplicate);
            if self.is_held(kept) {
                return allowed;
            }
        }
        let own = self.claims.iter().find(|claim| claim.key == key && !claim.is_taken_over);
        let lease = own.map_or(Lease::Expired, |claim| self.lease_of(claim));
        if lease != Lease::Expired {
            allowed.push(Answer::InFlight);
            if lease == Lease::Running {
                return allowed;
            }
        }
        if time.min(self.ceiling()) < self.watermark {
            allowed.push(Answer::TooOld);
            return allowed;
        }
        let others = || self.claims.iter().filter(|claim| !claim.is_taken_over && claim.key != key);
        let claims_min = others().filter(|claim| !self.may_be_swept(claim)).count();
        let claims_max = others().count() + usize::from(own.is_some() && lease != Lease::Expired);
        let evicts = self.evicts_oldest;
        let keys_min = self.keys.values().filter(|kept| !evicts && kept.deadline >= self.watermark).count();
        let keys_max = self.keys.values().filter(|kept| !evicts && kept.held_until >= self.watermark).count();
        if keys_min + claims_min < self.max_keys {
            allowed.push(Answer::Fresh);
        }
        if keys_max + claims_max >= self.max_keys {
            allowed.push(Answer::Full);
        }
        allowed
    }

    fn ceiling(&self) -> u64 {
        self.now.map_or(u64::MAX, |now| now.saturating_add(self.clock_skew).max(self.watermark))
    }

    /// Whether a key must be held. (Of the last time that exists, no key need be.)
    fn is_held(&self, kept: &Kept) -> bool {
        let complete_since = self.cache.stats().complete_since.map_or(0, Timestamp::as_millis);
        let is_vouched_for = kept.time >= complete_since && complete_since < u64::MAX;
        kept.deadline >= self.watermark && is_vouched_for
    }

    fn lease_of(&self, claim: &OpenClaim) -> Lease {
        match (self.lease, self.now, claim.lease_from) {
            (Some(lease), Some(now), Some(from)) if now.saturating_sub(from) > lease => {
                if claim.is_certain {
                    Lease::Expired
                } else {
                    Lease::MayBeExpired
                }
            }
            _ => Lease::Running,
        }
    }

    /// Once a claim's lease has expired and no copy can arrive, it may be swept at any time.
    fn may_be_swept(&self, claim: &OpenClaim) -> bool {
        self.lease_of(claim) != Lease::Running && claim.time.saturating_add(self.span) < self.watermark
    }

    fn validate(&self) {
        self.cache.validate();
        assert_eq!(self.cache.watermark().map_or(0, Timestamp::as_millis), self.watermark);
        let stats = self.cache.stats();
        assert_eq!([stats.fresh, stats.duplicate, stats.in_flight, stats.too_old], self.counts);
        let open = || self.claims.iter().filter(|claim| !claim.is_taken_over);
        assert!(stats.claims_open <= open().count());
        assert!(stats.claims_open >= open().filter(|claim| !self.may_be_swept(claim)).count());
        assert!(stats.keys_live <= self.keys.len());
        assert!(stats.keys_live >= self.keys.values().filter(|kept| self.is_held(kept)).count());
        assert!(stats.keys_live + stats.claims_open <= self.max_keys);
        assert!(self.evicts_oldest || stats.evicted == 0, "nothing is evicted unless that was chosen");
        assert_eq!(stats.evicted > 0, stats.complete_since.is_some());
    }
}

fn answer_of(answer: Result<Verdict, Error>) -> Answer {
    match answer {
        Ok(Verdict::Fresh) => Answer::Fresh,
        Ok(Verdict::Duplicate) => Answer::Duplicate,
        Ok(Verdict::InFlight) => Answer::InFlight,
        Ok(Verdict::TooOld) => Answer::TooOld,
        Err(Error::Full { .. }) => Answer::Full,
        Err(other) => panic!("{other}"),
    }
}

fn name(key: usize) -> String {
    "k".repeat(key % 7) + &key.to_string()
}
