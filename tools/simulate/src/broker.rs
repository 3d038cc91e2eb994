//! One queue of a broker. Messages wait, are delivered, are redelivered if they are not
//! acknowledged, and are dropped when they are older than the retention.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// A stored message: its index, and its generation among the messages that had this index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MessageId {
    index: u32,
    generation: u32,
}

#[derive(Clone, Copy)]
pub(crate) struct Delivery {
    pub(crate) event: u64,
    /// The message's time.
    pub(crate) time: u64,
    /// In the order of arrival.
    pub(crate) position: u64,
    pub(crate) message: MessageId,
    /// How often this message was delivered before.
    pub(crate) number: u32,
}

struct Message {
    event: u64,
    time: u64,
    position: u64,
    order: u64,
    generation: u32,
    deliveries: u32,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    Delivered,
    Gone,
}

#[derive(Default)]
pub(crate) struct Broker {
    messages: Vec<Message>,
    free: Vec<u32>,
    stored: u64,
    live: usize,
    // These may still name messages that are gone, which are skipped when they come up.
    ready: BinaryHeap<Reverse<(u64, MessageId)>>,
    by_time: BinaryHeap<Reverse<(u64, MessageId)>>,
    by_arrival: VecDeque<MessageId>,
    partitions: u64,
    paused: u64,
    /// Ready, and of a paused partition.
    held_back: Vec<Reverse<(u64, MessageId)>>,
}

impl Broker {
    /// Stores a message that is delivered up to `disorder` places later than it would be.
    pub(crate) fn store(&mut self, event: u64, time: u64, disorder: u64) {
        self.stored += 1;
        self.live += 1;
        let (position, order) = (self.stored, self.stored + disorder);
        let new = Message { event, time, position, order, generation: 0, deliveries: 0, state: State::Gone };
        let index = self.free.pop().unwrap_or_else(|| {
            self.messages.push(Message { ..new });
            self.messages.len() as u32 - 1
        });
        let message = &mut self.messages[index as usize];
        let generation = message.generation;
        *message = Message { generation, state: State::Ready, ..new };
        let id = MessageId { index, generation };
        self.ready.push(Reverse((order, id)));
        self.by_time.push(Reverse((time, id)));
        self.by_arrival.push_back(id);
    }

    pub(crate) fn deliver(&mut self) -> Option<Delivery> {
        while let Some(Reverse((order, id))) = self.ready.pop() {
            let message = &mut self.messages[id.index as usize];
            if message.generation == id.generation && message.state == State::Ready {
                if self.paused >> (message.event % self.partitions.max(1)) & 1 == 1 {
                    self.held_back.push(Reverse((order, id)));
                    continue;
                }
                message.state = State::Delivered;
                message.deliveries += 1;
                return Some(self.delivery(id));
            }
        }
        None
    }

    /// A message as it was last delivered.
    pub(crate) fn delivery(&self, id: MessageId) -> Delivery {
        let Message { event, time, position, deliveries: number, .. } = self.messages[id.index as usize];
        Delivery { event, time, position, message: id, number }
    }

    /// Nothing is delivered from partitions whose bit is set. The event decides the partition.
    pub(crate) fn pause(&mut self, partitions: u64, paused: u64) {
        (self.partitions, self.paused) = (partitions, paused);
        self.ready.extend(self.held_back.drain(..));
    }

    /// The visibility timeout of one delivery has expired. The message becomes ready again, unless
    /// it was acknowledged.
    pub(crate) fn redeliver(&mut self, id: MessageId, number: u32) -> bool {
        let message = &mut self.messages[id.index as usize];
        let is_out = message.generation == id.generation && message.state == State::Delivered;
        let is_redelivered = is_out && message.deliveries == number;
        if is_redelivered {
            message.state = State::Ready;
            self.ready.push(Reverse((message.order, id)));
        }
        is_redelivered
    }

    /// The consumer's connection is closed. All its messages become ready again.
    pub(crate) fn redeliver_all(&mut self) {
        for (index, message) in self.messages.iter_mut().enumerate() {
            if message.state == State::Delivered {
                message.state = State::Ready;
                let id = MessageId { index: index as u32, generation: message.generation };
                self.ready.push(Reverse((message.order, id)));
            }
        }
    }

    /// Removes a message. Returns `false` if it is gone already.
    pub(crate) fn acknowledge(&mut self, id: MessageId) -> bool {
        let message = &mut self.messages[id.index as usize];
        let is_there = message.generation == id.generation && message.state != State::Gone;
        if is_there {
            message.state = State::Gone;
            message.generation += 1;
            self.free.push(id.index);
            self.live -= 1;
        }
        is_there
    }

    /// Drops one message older than `oldest_kept`, and returns its event.
    pub(crate) fn drop_expired(&mut self, oldest_kept: u64) -> Option<u64> {
        let (time, id) = self.oldest()?;
        (time < oldest_kept).then(|| {
            self.acknowledge(id);
            self.messages[id.index as usize].event
        })
    }

    /// The least time of all unacknowledged messages.
    pub(crate) fn oldest(&mut self) -> Option<(u64, MessageId)> {
        while let Some(Reverse((time, id))) = self.by_time.peek().copied() {
            if self.is_there(id) {
                return Some((time, id));
            }
            self.by_time.pop();
        }
        None
    }

    /// The time of the unacknowledged message that arrived first.
    pub(crate) fn head(&mut self) -> Option<u64> {
        while let Some(id) = self.by_arrival.front().copied() {
            if self.is_there(id) {
                return Some(self.messages[id.index as usize].time);
            }
            self.by_arrival.pop_front();
        }
        None
    }

    /// The time of the next message to be delivered. A broker would report this if it did not count
    /// the messages that are being processed.
    pub(crate) fn next_undelivered(&mut self) -> Option<u64> {
        while let Some(Reverse((_, id))) = self.ready.peek().copied() {
            let message = &self.messages[id.index as usize];
            if message.generation == id.generation && message.state == State::Ready {
                return Some(message.time);
            }
            self.ready.pop();
        }
        None
    }

    /// The number of messages that wait or are being processed.
    pub(crate) fn backlog(&self) -> usize {
        self.live
    }

    fn is_there(&self, id: MessageId) -> bool {
        self.messages[id.index as usize].generation == id.generation
    }
}
