//! Knows what has happened to every event, and finds wrong answers of the cache and wrong effects.
//!
//! An event is dropped here once no copy of it is left anywhere, so memory grows with the backlog
//! and not with the run.

use super::tally::{Excuse, Tally};
use std::collections::VecDeque;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Fresh,
    Duplicate,
    InFlight,
    TooOld,
}

/// What the scenario allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// `max_retry + max_network` of the cache's configuration.
    pub(crate) span: u64,
    /// Keys may be gone before their deadline: eviction is on, or times are clamped.
    pub(crate) may_lose_keys: bool,
    pub(crate) lease: Option<u64>,
}

#[derive(Default)]
struct Event {
    /// Attempts, copies and deliveries that can still have an effect.
    pending: u32,
    is_stored: bool,
    is_delivered: bool,
    is_acknowledged: bool,
    is_too_old: bool,
    is_lost_after_insert: bool,
    /// The earliest and latest time of a stored copy.
    first: u64,
    last: u64,
    /// The generation of the cache in which the key was last committed; 0: never.
    committed_in: u32,
    /// When the open claim was made, if there is one.
    claimed_at: Option<u64>,
    effects: u8,
    excuses: u8,
    excuse: Option<Excuse>,
    rivals: [u8; 3],
}

pub(crate) struct Oracle {
    terms: Terms,
    base: u64,
    events: VecDeque<Event>,
    /// Increases when all keys are lost: at a restart without a journal.
    generation: u32,
    pub(crate) tally: Tally,
    /// The first failure.
    pub(crate) failure: Option<String>,
}

impl Oracle {
    pub(crate) fn new(terms: Terms) -> Self {
        let (events, tally) = (VecDeque::new(), Tally::default());
        Self { terms, base: 0, events, generation: 1, tally, failure: None }
    }

    /// The number of events that are still pending.
    pub(crate) fn open_events(&self) -> usize {
        self.events.len()
    }

    pub(crate) fn fail(&mut self, what: String) {
        self.failure.get_or_insert(what);
    }

    fn event(&mut self, event: u64) -> &mut Event {
        &mut self.events[(event - self.base) as usize]
    }

    /// A new event, with one pending attempt.
    pub(crate) fn produce(&mut self) -> u64 {
        self.events.push_back(Event { pending: 1, first: u64::MAX, ..Event::default() });
        self.tally.events += 1;
        self.base + self.events.len() as u64 - 1
    }

    pub(crate) fn hold(&mut self, event: u64) {
        self.event(event).pending += 1;
    }

    /// An attempt, copy or delivery has ended.
    pub(crate) fn release(&mut self, event: u64) {
        self.event(event).pending -= 1;
        while self.events.front().is_some_and(|event| event.pending == 0) {
            let event = self.events.pop_front().expect("not empty");
            self.judge(self.base, &event);
            self.base += 1;
        }
    }

    /// No copy of this event is left.
    fn judge(&mut self, number: u64, event: &Event) {
        self.tally.too_far_apart += u64::from(event.is_stored && event.last - event.first > self.terms.span);
        if event.effects == 0 && event.is_acknowledged {
            if event.is_lost_after_insert {
                self.tally.lost_after_insert += 1;
            } else if event.is_too_old {
                self.tally.dead_lettered += 1;
            } else {
                self.fail(format!("event {number} was acknowledged and never took effect"));
            }
        }
        self.tally.dropped += u64::from(event.is_stored && event.effects == 0 && !event.is_acknowledged);
        for (tally, effects) in self.tally.rivals.iter_mut().zip(event.rivals) {
            tally.twice += u64::from(effects.saturating_sub(1));
            tally.lost += u64::from(event.is_delivered && effects == 0);
        }
    }

    pub(crate) fn stored(&mut self, event: u64, time: u64) {
        let event = self.event(event);
        event.is_stored = true;
        event.first = event.first.min(time);
        event.last = event.last.max(time);
    }

    /// The cache has answered at `now`, by its own clock.
    pub(crate) fn answered(&mut self, number: u64, answer: Answer, time: u64, watermark: u64, now: u64) {
        let Terms { span, may_lose_keys, lease } = self.terms;
        let generation = self.generation;
        self.tally.below_watermark += u64::from(time < watermark);
        let event = self.event(number);
        event.is_delivered = true;
        let is_committed = event.committed_in == generation;
        let is_far_apart = event.last - event.first > span;
        let mut wrong = None;
        match answer {
            Answer::Fresh => {
                if is_committed && !is_far_apart && !may_lose_keys {
                    wrong = Some("was committed, and a copy of it is Fresh");
                } else if is_committed {
                    event.excuse(Excuse::Broken);
                } else if event.committed_in > 0 {
                    event.excuse(Excuse::Restart);
                }
                if let Some(claimed_at) = event.claimed_at {
                    event.excuse(Excuse::TakenOver);
                    if lease.is_none_or(|lease| now - claimed_at <= lease) {
                        wrong = Some("is claimed, and a copy of it is Fresh");
                    }
                }
            }
            Answer::Duplicate if !is_committed => wrong = Some("was never committed, and a copy of it is a Duplicate"),
            Answer::InFlight if event.claimed_at.is_none() => wrong = Some("is not claimed, and a copy is InFlight"),
            Answer::TooOld if time >= watermark => wrong = Some("is TooOld, and not below the watermark"),
            Answer::TooOld => event.is_too_old = true,
            Answer::Duplicate | Answer::InFlight => {}
        }
        let (first, last) = (event.first, event.last);
        if let Some(wrong) = wrong {
            self.fail(format!(
                "event {number} {wrong}: its copies' times are {first} to {last}, this one's is {time}; \
                 the watermark is {watermark}, the cache's clock {now}"
            ));
        }
        let answers = &mut self.tally.answers;
        match answer {
            Answer::Fresh => answers.fresh += 1,
            Answer::Duplicate => answers.duplicate += 1,
            Answer::InFlight => answers.in_flight += 1,
            Answer::TooOld => answers.too_old += 1,
        }
    }

    pub(crate) fn claimed(&mut self, event: u64, now: u64) {
        self.event(event).claimed_at = Some(now);
    }

    /// The claim that was made at `claimed_at` is closed.
    pub(crate) fn unclaimed(&mut self, event: u64, claimed_at: u64) {
        let event = self.event(event);
        if event.claimed_at == Some(claimed_at) {
            event.claimed_at = None;
        }
    }

    /// The commit at `now` of the claim that was made at `claimed_at` has returned.
    pub(crate) fn commit_returned(&mut self, number: u64, claimed_at: u64, now: u64, is_lost: bool) {
        let may_be_lost = self.terms.lease.is_some_and(|lease| now - claimed_at > lease);
        let is_taken_over = self.event(number).claimed_at != Some(claimed_at);
        if is_lost && !may_be_lost {
            self.fail(format!("event {number}: a claim was lost, and its lease has not expired"));
        }
        if is_taken_over && !is_lost {
            self.fail(format!("event {number}: a claim that was taken over was committed"));
        }
        self.unclaimed(number, claimed_at);
        if !is_lost {
            let generation = self.generation;
            self.event(number).committed_in = generation;
        }
    }

    pub(crate) fn effect(&mut self, number: u64) {
        let event = self.event(number);
        event.effects = event.effects.saturating_add(1);
        if event.effects == 1 {
            return;
        }
        match (event.excuses, event.excuse) {
            (1.., Some(excuse)) => {
                event.excuses -= 1;
                self.tally.doubled.count(excuse);
            }
            _ => self.fail(format!("event {number} has taken effect twice")),
        }
    }

    /// The key was committed without a claim that the caller holds.
    pub(crate) fn committed(&mut self, event: u64) {
        let generation = self.generation;
        self.event(event).committed_in = generation;
    }

    pub(crate) fn acknowledged(&mut self, event: u64) {
        self.event(event).is_acknowledged = true;
    }

    /// The consumer crashed between effect and commit.
    pub(crate) fn crashed_before_commit(&mut self, event: u64) {
        self.event(event).excuse(Excuse::BeforeCommit);
    }

    /// The consumer crashed between `insert` and the effect.
    pub(crate) fn crashed_after_insert(&mut self, event: u64) {
        self.event(event).is_lost_after_insert = true;
    }

    pub(crate) fn keys_lost(&mut self) {
        self.generation += 1;
    }

    pub(crate) fn rival_effect(&mut self, event: u64, rival: usize) {
        let effects = &mut self.event(event).rivals[rival];
        *effects = effects.saturating_add(1);
    }
}

impl Event {
    fn excuse(&mut self, excuse: Excuse) {
        self.excuses = self.excuses.saturating_add(1);
        self.excuse = Some(excuse);
    }
}
