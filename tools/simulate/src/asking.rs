//! What a worker asks the cache, in each way of consuming, and what it does with the answer.

use super::broker::Delivery;
use super::cache::{Cache, Key};
use super::oracle::Answer;
use super::process::Item;
use super::scenario::{CLOCK_READ_EVERY, SECOND, Stamp, Way};
use super::world::{Action, World};
use oncewheel::{Claimed, Error, Timestamp, Verdict};

impl<C: Cache> World<'_, C> {
    /// Asks the cache about each delivery and keeps those that are to be processed. Returns whether
    /// the cache was full.
    pub(super) fn ask(&mut self, worker: usize) -> bool {
        if self.truth >= self.process.clock_read_at + CLOCK_READ_EVERY {
            self.read_clock(); // the prefetched delivery has waited meanwhile
        }
        let mut work = std::mem::take(&mut self.process.workers[worker].work);
        let mut verdicts = Vec::new();
        if self.scenario.consumer.way == Way::InsertBatch {
            self.insert_batch(&work, &mut verdicts);
        }
        let mut is_full = false;
        let mut position = 0;
        work.retain_mut(|item| {
            let Delivery { event, time, message, number, .. } = item.delivery;
            self.oracle.tally.deliveries += 1;
            self.ask_rivals(event);
            let answer = match self.scenario.consumer.way {
                Way::InsertBatch => verdicts.get(position).copied().map(answer_of),
                _ => self.ask_one(item),
            };
            position += 1;
            if let Some(answer) = answer {
                let watermark = self.process.cache().watermark();
                self.oracle.answered(event, answer, time, watermark, self.process.now);
            }
            match answer {
                Some(Answer::Fresh) => return self.begin(item),
                Some(Answer::Duplicate | Answer::TooOld) => self.send_acknowledgement(item.delivery),
                Some(Answer::InFlight) if self.scenario.broker.visibility == 0 => {
                    self.schedule(SECOND, Action::Redeliver { message, number });
                }
                Some(Answer::InFlight) => {}
                None => {
                    is_full = true;
                    self.oracle.tally.answers.full += 1;
                    self.schedule(SECOND, Action::Redeliver { message, number });
                }
            }
            self.oracle.release(event);
            false
        });
        self.process.workers[worker].work = work;
        is_full
    }

    /// A delivery is `Fresh`. Returns whether there is more to do about it.
    fn begin(&mut self, item: &mut Item<C::Claim>) -> bool {
        let Delivery { event, message, number, .. } = item.delivery;
        match self.scenario.consumer.way {
            Way::Claim | Way::CommitBatch => {
                item.claimed_at = self.process.now;
                self.oracle.claimed(event, self.process.now);
            }
            Way::Insert | Way::InsertBatch => {
                item.is_committed = true;
                self.oracle.committed(event);
            }
            Way::ProcessOnce if item.has_taken_effect => {
                item.is_committed = true;
                self.oracle.effect(event);
                self.oracle.committed(event);
            }
            Way::ProcessOnce => {
                self.schedule(SECOND, Action::Redeliver { message, number });
                self.oracle.release(event);
                return false;
            }
        }
        true
    }

    fn msg_time(&self, delivery: &Delivery) -> Option<Timestamp> {
        (self.scenario.producers.stamp != Stamp::Unknown).then_some(Timestamp::from_millis(delivery.time))
    }

    /// Returns `None` if the cache is full.
    fn ask_one(&mut self, item: &mut Item<C::Claim>) -> Option<Answer> {
        let (key, time): (Key, _) = (item.delivery.event.to_le_bytes(), self.msg_time(&item.delivery));
        let cache = self.process.cache.as_mut().expect("the process is up");
        let answer = match self.scenario.consumer.way {
            Way::Claim | Way::CommitBatch => cache.claim(key, time).map(|claimed| match claimed {
                Claimed::Fresh(claim) => {
                    item.claim = Some(claim);
                    Answer::Fresh
                }
                Claimed::Duplicate => Answer::Duplicate,
                Claimed::InFlight => Answer::InFlight,
                Claimed::TooOld => Answer::TooOld,
            }),
            Way::ProcessOnce => {
                let outcome = if self.random.one_in(self.scenario.consumer.fails) { Err(()) } else { Ok(()) };
                cache.process_once(key, time, || outcome).map(|claimed| match claimed {
                    Claimed::Fresh(outcome) => {
                        item.has_taken_effect = outcome.is_ok();
                        Answer::Fresh
                    }
                    Claimed::Duplicate => Answer::Duplicate,
                    Claimed::InFlight => Answer::InFlight,
                    Claimed::TooOld => Answer::TooOld,
                })
            }
            Way::Insert | Way::InsertBatch => cache.insert(key, time).map(answer_of),
        };
        answer.inspect_err(|error| self.refused(error)).ok()
    }

    fn insert_batch(&mut self, work: &[Item<C::Claim>], verdicts: &mut Vec<Verdict>) {
        let cache = self.process.cache();
        let entry = |item: &Item<_>| {
            let Delivery { event, time, .. } = item.delivery;
            (cache.fingerprint(event.to_le_bytes()), Timestamp::from_millis(time))
        };
        let entries: Vec<_> = work.iter().map(entry).collect();
        if let Err(error) = cache.insert_batch(&entries, verdicts) {
            self.refused(&error);
        }
    }

    fn refused(&mut self, error: &Error) {
        if !matches!(error, Error::Full { .. }) {
            self.oracle.fail(format!("a delivery failed: {error}"));
        }
    }

    fn ask_rivals(&mut self, event: u64) {
        let Some(rivals) = &mut self.rivals else { return };
        let fresh = rivals.deliver(event, self.consumer_clock.read(self.truth));
        for (rival, _) in fresh.iter().enumerate().filter(|(_, is_fresh)| **is_fresh) {
            self.oracle.rival_effect(event, rival);
        }
    }
}

fn answer_of(verdict: Verdict) -> Answer {
    match verdict {
        Verdict::Fresh => Answer::Fresh,
        Verdict::Duplicate => Answer::Duplicate,
        Verdict::InFlight => Answer::InFlight,
        Verdict::TooOld => Answer::TooOld,
    }
}
