//! Knows of every event what has happened to it, and says when the cache's answer, or what came of it, is wrong.
//!
//! An event is forgotten here once no copy of it is left anywhere, so that memory follows the backlog and not the run.

use super::tally::{Excuse, Tally};
use std::collections::VecDeque;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Fresh,
    Duplicate,
    InFlight,
    TooOld,
}

/// What the scenario grants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// `max_retry + max_network`, as the cache was told.
    pub(crate) span: u64,
    /// Keys may be forgotten early: asked for, or times were clamped.
    pub(crate) forgets_early: bool,
    pub(crate) lease: Option<u64>,
}

#[derive(Default)]
struct Event {
    /// Attempts, copies and deliveries that something may still come of.
    pending: u32,
    is_stored: bool,
    is_delivered: bool,
    is_acknowledged: bool,
    is_too_old: bool,
    is_lost_on_sight: bool,
    /// The earliest and latest time of a stored copy.
    first: u64,
    last: u64,
    /// The state of knowledge in which the key was last committed; 0: never.
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
    /// Goes up where all keys are lost: at a restart without a journal.
    knowledge: u32,
    pub(crate) tally: Tally,
    /// What was found wrong first.
    pub(crate) failure: Option<String>,
}

impl Oracle {
    pub(crate) fn new(terms: Terms) -> Self {
        let (events, tally) = (VecDeque::new(), Tally::default());
        Self { terms, base: 0, events, knowledge: 1, tally, failure: None }
    }

    /// How many events are not settled yet.
    pub(crate) fn open_events(&self) -> usize {
        self.events.len()
    }

    pub(crate) fn fail(&mut self, what: String) {
        self.failure.get_or_insert(what);
    }

    fn event(&mut self, event: u64) -> &mut Event {
        &mut self.events[(event - self.base) as usize]
    }

    /// A new event, held once.
    pub(crate) fn produce(&mut self) -> u64 {
        self.events.push_back(Event { pending: 1, first: u64::MAX, ..Event::default() });
        self.tally.events += 1;
        self.base + self.events.len() as u64 - 1
    }

    pub(crate) fn hold(&mut self, event: u64) {
        self.event(event).pending += 1;
    }

    /// Nothing more comes of one attempt, copy or delivery.
    pub(crate) fn release(&mut self, event: u64) {
        self.event(event).pending -= 1;
        while self.events.front().is_some_and(|event| event.pending == 0) {
            let event = self.events.pop_front().expect("there is a front");
            self.judge(self.base, &event);
            self.base += 1;
        }
    }

    /// No copy of this event is left.
    fn judge(&mut self, number: u64, event: &Event) {
        self.tally.too_far_apart += u64::from(event.is_stored && event.last - event.first > self.terms.span);
        if event.effects == 0 && event.is_acknowledged {
            if event.is_lost_on_sight {
                self.tally.lost_on_sight += 1;
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
        let Terms { span, forgets_early, lease } = self.terms;
        let knowledge = self.knowledge;
        self.tally.below_watermark += u64::from(time < watermark);
        let event = self.event(number);
        event.is_delivered = true;
        let is_known = event.committed_in == knowledge;
        let is_far_apart = event.last - event.first > span;
        let mut wrong = None;
        match answer {
            Answer::Fresh => {
                if is_known && !is_far_apart && !forgets_early {
                    wrong = Some("was committed, and a copy of it is Fresh");
                } else if is_known {
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
            Answer::Duplicate if !is_known => wrong = Some("was never committed, and a copy of it is a Duplicate"),
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

    /// The claim that was made at `claimed_at` is no more.
    pub(crate) fn unclaimed(&mut self, event: u64, claimed_at: u64) {
        let event = self.event(event);
        if event.claimed_at == Some(claimed_at) {
            event.claimed_at = None;
        }
    }

    /// The claim that was made at `claimed_at` was committed at `now`, or the commit was refused.
    pub(crate) fn commit_answered(&mut self, number: u64, claimed_at: u64, now: u64, is_lost: bool) {
        let may_be_lost = self.terms.lease.is_some_and(|lease| now - claimed_at > lease);
        let is_taken_over = self.event(number).claimed_at != Some(claimed_at);
        if is_lost && !may_be_lost {
            self.fail(format!("event {number}: a claim was lost, and no lease was over"));
        }
        if is_taken_over && !is_lost {
            self.fail(format!("event {number}: a claim that was taken over was committed"));
        }
        self.unclaimed(number, claimed_at);
        if !is_lost {
            let knowledge = self.knowledge;
            self.event(number).committed_in = knowledge;
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

    /// The key was recorded without a claim of the caller's.
    pub(crate) fn recorded(&mut self, event: u64) {
        let knowledge = self.knowledge;
        self.event(event).committed_in = knowledge;
    }

    pub(crate) fn acknowledged(&mut self, event: u64) {
        self.event(event).is_acknowledged = true;
    }

    /// The consumer crashed between effect and commit.
    pub(crate) fn crashed_in_window(&mut self, event: u64) {
        self.event(event).excuse(Excuse::Window);
    }

    /// The consumer crashed between `insert` and the effect.
    pub(crate) fn crashed_on_sight(&mut self, event: u64) {
        self.event(event).is_lost_on_sight = true;
    }

    pub(crate) fn knowledge_lost(&mut self) {
        self.knowledge += 1;
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
