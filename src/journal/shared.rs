//! Group commit: one writer for many threads. What arrives while one thread writes is written
//! together next, so that many calls share one sync.

use super::{Cache, Error, Ops, Writer};
use crate::locks::{AtomicBool, AtomicU64, Condvar, Mutex, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

pub(crate) struct Shared {
    queue: Mutex<Queue>,
    written: Condvar,
    /// Locked before any shard where both are, never after one.
    writer: Mutex<Writer>,
    calls: AtomicU64,
    /// What callers read of the writer without waiting for it.
    is_poisoned: AtomicBool,
    bytes: AtomicU64,
    failures: AtomicU64,
}

#[derive(Default)]
struct Queue {
    waiting: Group,
    is_writing: bool,
}

/// Calls that are written together.
#[derive(Default)]
struct Group {
    ops: Ops,
    watermark: u64,
    outcome: Arc<OnceLock<Result<(), Error>>>,
}

impl Shared {
    pub(crate) fn new(writer: Writer) -> Self {
        Self {
            bytes: AtomicU64::new(writer.bytes()),
            queue: Mutex::default(),
            written: Condvar::new(),
            writer: Mutex::new(writer),
            calls: AtomicU64::new(0),
            is_poisoned: AtomicBool::new(false),
            failures: AtomicU64::new(0),
        }
    }

    /// A number for a call whose keys are being appended; never 0.
    pub(crate) fn next_call(&self) -> u64 {
        self.calls.fetch_add(1, Relaxed) + 1
    }

    /// As [`Writer::commit`]: waits where another thread writes, and writes for those that wait.
    /// `ops` is empty after that.
    pub(crate) fn commit(&self, ops: &mut Ops, watermark: u64) -> Result<(), Error> {
        let mut queue = self.queue.lock();
        queue.waiting.ops.append(ops);
        queue.waiting.watermark = queue.waiting.watermark.max(watermark);
        let outcome = Arc::clone(&queue.waiting.outcome);
        loop {
            if let Some(outcome) = outcome.get() {
                return outcome.clone();
            }
            if queue.is_writing {
                self.written.wait(&mut queue);
                continue;
            }
            queue.is_writing = true;
            let group = std::mem::take(&mut queue.waiting);
            drop(queue);
            let result = self.with_writer(|writer| writer.commit(&group.ops, group.watermark));
            let _ = group.outcome.set(result); // nobody else sets it
            queue = self.queue.lock();
            queue.is_writing = false;
            self.written.notify_all();
        }
    }

    /// As [`Writer::check`].
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.is_poisoned.load(Relaxed) { self.with_writer(|writer| writer.check()) } else { Ok(()) }
    }

    /// As [`Writer::maintain`], unless another thread has the writer; if `is_due_only`, when it is
    /// due.
    pub(crate) fn maintain(&self, cache: &dyn Cache, watermark: u64, steps: u64, is_due_only: bool) {
        if let Some(mut writer) = self.writer.try_lock()
            && (writer.is_due() || !is_due_only)
        {
            writer.maintain(cache, watermark, steps);
            self.publish(&writer);
        }
    }

    /// As [`Writer::close`]. Calls that wait for others to write get its error.
    pub(crate) fn close(&self, watermark: u64) -> Result<(), Error> {
        self.with_writer(|writer| writer.close(watermark))
    }

    /// Bytes that the segments take, and failures that no caller was told.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.bytes.load(Relaxed), self.failures.load(Relaxed))
    }

    pub(crate) fn with_writer<R>(&self, call: impl FnOnce(&mut Writer) -> R) -> R {
        let mut writer = self.writer.lock();
        let result = call(&mut writer);
        self.publish(&writer);
        result
    }

    fn publish(&self, writer: &Writer) {
        self.is_poisoned.store(writer.check().is_err(), Relaxed);
        self.bytes.store(writer.bytes(), Relaxed);
        self.failures.store(writer.failures(), Relaxed);
    }
}
