//! Commits that no async task waits for in its own thread: tasks leave what they commit in a queue,
//! and a thread of the cache writes it.
//!
//! ```text
//! task ── begin_commit, append to the queue ──► Waiting ── poll ──► Pending, its waker is kept
//! thread ── take all that waits, one write, one sync, insert the keys ──► Done ── wake ──► Ready
//! ```
//!
//! What arrives while the thread writes is written together next, so that any number of tasks share
//! one write and one sync. A task that goes away changes nothing: its commit is carried out.

use crate::engine::ClaimId;
use crate::journal::{self, Ops};
use crate::locks::{Condvar, Mutex, thread};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Claims whose commit has begun, and their keys for the journal.
#[derive(Default)]
pub(super) struct Begun {
    pub(super) claims: Vec<ClaimId>,
    pub(super) ops: Ops,
}

impl Begun {
    pub(super) fn append(&mut self, mut other: Self) {
        self.claims.append(&mut other.claims);
        self.ops.append(&mut other.ops);
    }
}

/// What waits for the thread, and the thread itself.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    has_changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: Begun,
    tickets: Vec<Arc<Ticket>>,
    is_closed: bool,
    /// Started with the first commit, taken by whoever ends it.
    thread: Option<thread::JoinHandle<()>>,
}

impl Queue {
    /// Starts the thread, which carries out what it `take`s, if there is none yet. Once the queue
    /// is closed, or if there can be no thread, `begun` is handed back.
    pub(super) fn submit(
        &self,
        begun: Begun,
        thread: impl FnOnce() + Send + 'static,
    ) -> Result<Ticketed, (Begun, Option<std::io::Error>)> {
        let mut state = self.state.lock();
        if state.is_closed {
            return Err((begun, None));
        }
        if state.thread.is_none() {
            match thread::Builder::new().name("oncewheel-journal".to_owned()).spawn(thread) {
                Ok(thread) => state.thread = Some(thread),
                Err(error) => return Err((begun, Some(error))),
            }
        }
        let ticket = Arc::new(Ticket::default());
        state.waiting.append(begun);
        state.tickets.push(Arc::clone(&ticket));
        drop(state);
        self.has_changed.notify_all();
        Ok(Ticketed(ticket))
    }

    /// What waits, for the thread; `None` once the queue is closed and empty.
    ///
    /// Tasks whose commits have just been carried out come back soon. Where a write is slow, the
    /// first of them should not be written alone: so the thread lets up to `expected` of them come,
    /// for as long as `patience`.
    pub(super) fn take(&self, expected: usize, patience: Duration) -> Option<(Begun, Vec<Arc<Ticket>>)> {
        let mut state = self.state.lock();
        self.has_changed.wait_while(&mut state, |state| state.tickets.is_empty() && !state.is_closed);
        let since = Instant::now();
        while state.tickets.len() < expected && !state.is_closed && since.elapsed() < patience {
            drop(state);
            thread::yield_now();
            state = self.state.lock();
        }
        let taken = (std::mem::take(&mut state.waiting), std::mem::take(&mut state.tickets));
        (!taken.1.is_empty()).then_some(taken)
    }

    /// Takes no more commits, and waits until those that were taken are carried out.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        let thread = state.thread.take();
        drop(state);
        self.has_changed.notify_all();
        // The thread itself may drop the last handle, with the task that it wakes. It ends by
        // itself.
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
        {
            let _ = thread.join(); // it does not panic, or its panic was reported
        }
    }
}

/// The outcome of one task's commit, once there is one.
#[derive(Default)]
pub(super) struct Ticket {
    state: Mutex<TicketState>,
}

#[derive(Default)]
struct TicketState {
    outcome: Option<Result<(), journal::Error>>,
    waker: Option<Waker>,
}

impl Ticket {
    pub(super) fn complete(&self, outcome: Result<(), journal::Error>) {
        let mut state = self.state.lock();
        state.outcome = Some(outcome);
        let waker = state.waker.take();
        drop(state); // the waker may poll at once
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Waits for the outcome.
pub(super) struct Ticketed(Arc<Ticket>);

impl Future for Ticketed {
    type Output = Result<(), journal::Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.state.lock();
        if let Some(outcome) = &state.outcome {
            return Poll::Ready(outcome.clone());
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => state.waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}
