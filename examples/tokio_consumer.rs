//! A consumer with tokio: workers that share a cache with a journal, a backlog, and a shutdown that
//! loses nothing.
//!
//!     cargo run --example tokio_consumer
//!
//! `consume`, `work` and `follow` are what a service needs. `Queue` stands in for a broker's
//! client.

use oncewheel::journal::{Durability, ErrorKind};
use oncewheel::{Config, Disposition, Error, Horizon, MinMsgTime, Timestamp, process_once, sync::DedupCache};
use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

/// Consumes until `stop` is ready (a service passes `tokio::signal::ctrl_c()`) or a worker fails.
async fn consume(queue: &Arc<Queue>, dir: &Path, stop: impl Future<Output = ()>) -> Result<(), Error> {
    let horizon = Horizon::new(Duration::from_secs(600), Duration::from_secs(30));
    let cache = DedupCache::open(dir, Config::new(horizon).max_keys(1_000), Durability::Process)?;
    let (stopping, stopped) = watch::channel(false);
    let mut workers = JoinSet::new();
    for _ in 0..4 {
        workers.spawn(work(Arc::clone(queue), cache.clone(), stopped.clone()));
    }
    let follower = tokio::spawn(follow(Arc::clone(queue), cache.clone()));
    let mut outcome = tokio::select! {
        () = stop => Ok(()),
        Some(ended) = workers.join_next() => ended.expect("a worker does not panic"),
    };
    stopping.send_replace(true); // take no more; what was taken is processed, committed, acknowledged
    while let Some(ended) = workers.join_next().await {
        outcome = outcome.and(ended.expect("a worker does not panic"));
    }
    follower.abort();
    outcome.and(cache.close()) // another process may open the directory now
}

async fn work(queue: Arc<Queue>, cache: DedupCache, mut stopped: watch::Receiver<bool>) -> Result<(), Error> {
    loop {
        let delivery = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => return Ok(()),
            delivery = queue.next() => delivery,
        };
        // The message's own time. With the current time, a backlog would be kept for too long.
        let answered =
            process_once(&cache, &delivery.key, delivery.stored_at, async || transfer(&delivery).await).await;
        match answered.map(|processed| processed.disposition()) {
            Ok(Disposition::Acknowledge) => queue.acknowledge(delivery),
            Ok(Disposition::Redeliver) => queue.requeue(delivery),
            Ok(Disposition::DeadLetter) => queue.dead_letter(delivery),
            Err(error) => {
                queue.requeue(delivery); // after an error nothing is known
                match &error {
                    Error::Full { .. } => tokio::time::sleep(Duration::from_millis(10)).await, // until keys expire
                    Error::Journal(journal) if journal.kind() == ErrorKind::Poisoned => return Err(error),
                    _ => eprintln!("{error}"),
                }
            }
        }
    }
}

/// Tells the cache how far the queue has come, so that keys expire. A service asks once a second.
async fn follow(queue: Arc<Queue>, cache: DedupCache) {
    let mut ticks = tokio::time::interval(Duration::from_millis(10));
    loop {
        ticks.tick().await;
        if let Err(error) = cache.observe(queue.min_msg_time()) {
            eprintln!("{error}"); // keys are held longer
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::temp_dir().join(format!("oncewheel-tokio-{}", std::process::id()));
    let queue = Arc::new(Queue::with_backlog());
    // Stopped half-way through the backlog, and started again.
    consume(&queue, &dir, queue.shrinks_to(2_000)).await?;
    println!("stopped with {} deliveries left", queue.state().left());
    queue.restart();
    consume(&queue, &dir, queue.shrinks_to(0)).await?;
    std::fs::remove_dir_all(&dir)?;

    let effects = EFFECTS.lock().unwrap_or_else(PoisonError::into_inner);
    println!("{} messages processed, {} dead-lettered", effects.len(), queue.state().dead_letters.len());
    assert!(effects.values().all(|times| *times == 1), "each once");
    assert_eq!((effects.len(), queue.state().dead_letters.len()), (3_600, 1));
    Ok(())
}

static EFFECTS: Mutex<BTreeMap<String, u32>> = Mutex::new(BTreeMap::new());

/// The effect. One call in a hundred fails, and had no effect.
async fn transfer(delivery: &Delivery) -> Result<(), std::io::Error> {
    tokio::task::yield_now().await;
    if delivery.key.ends_with("00") && delivery.attempt == 1 {
        return Err(std::io::Error::other("the bank does not answer"));
    }
    let mut effects = EFFECTS.lock().unwrap_or_else(PoisonError::into_inner);
    *effects.entry(delivery.key.clone()).or_default() += 1;
    Ok(())
}

struct Delivery {
    /// The dedup key.
    key: String,
    /// When the broker stored the message.
    stored_at: Timestamp,
    /// Its place in the queue.
    place: usize,
    attempt: u32,
}

/// In place of a broker: what is not acknowledged comes back at its old place.
struct Queue {
    state: Mutex<State>,
    changed: Notify,
}

/// Deliveries by their places.
#[derive(Default)]
struct State {
    waiting: BTreeMap<usize, Delivery>,
    taken: BTreeMap<usize, Timestamp>,
    /// The last hundred acknowledged: the broker has not heard of them yet.
    acknowledged: BTreeMap<usize, Delivery>,
    dead_letters: Vec<Delivery>,
}

impl Queue {
    /// An hour of messages, one a second. The producer sent every tenth again after 90 seconds. One
    /// was moved here from another queue, with the time that it had there.
    fn with_backlog() -> Self {
        let hour_ago = Timestamp::now().saturating_sub(Duration::from_secs(3_600));
        let after = |seconds| hour_ago.saturating_add(Duration::from_secs(seconds));
        let mut messages: Vec<_> =
            (0..3_600).map(|second| (second, after(second), format!("order-{second}"))).collect();
        messages.extend((0..3_510).step_by(10).map(|first| (first + 90, after(first + 90), format!("order-{first}"))));
        let moved_from = hour_ago.saturating_sub(Duration::from_secs(7_200));
        messages.push((3_000, moved_from, "order-of-yesterday".to_owned()));
        messages.sort();
        let deliveries = (0..).zip(messages);
        let waiting =
            deliveries.map(|(place, (_, stored_at, key))| (place, Delivery { key, stored_at, place, attempt: 0 }));
        Self { state: Mutex::new(State { waiting: waiting.collect(), ..State::default() }), changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let result = change(&mut self.state());
        self.changed.notify_waiters();
        result
    }

    /// Dropped, it has taken nothing.
    async fn next(&self) -> Delivery {
        loop {
            let changed = self.changed.notified();
            let taken = self.state().take();
            match taken {
                Some(delivery) => return delivery,
                None => changed.await,
            }
        }
    }

    fn acknowledge(&self, delivery: Delivery) {
        self.change(|state| {
            state.taken.remove(&delivery.place);
            state.acknowledged.insert(delivery.place, delivery);
            if state.acknowledged.len() > 100 {
                state.acknowledged.pop_first();
            }
        });
    }

    fn requeue(&self, delivery: Delivery) {
        self.change(|state| {
            state.taken.remove(&delivery.place);
            state.waiting.insert(delivery.place, delivery);
        });
    }

    fn dead_letter(&self, delivery: Delivery) {
        self.change(|state| {
            state.taken.remove(&delivery.place);
            state.dead_letters.push(delivery);
        });
    }

    /// The time of the first message that the broker has no acknowledgement of.
    fn min_msg_time(&self) -> MinMsgTime {
        let asked_at = Timestamp::now();
        let state = self.state();
        let waiting =
            state.waiting.iter().chain(&state.acknowledged).map(|(place, delivery)| (place, delivery.stored_at));
        let taken = state.taken.iter().map(|(place, stored_at)| (place, *stored_at));
        match waiting.chain(taken).min() {
            Some((_, stored_at)) => MinMsgTime::Known(stored_at),
            None => MinMsgTime::Empty { observed_at: asked_at },
        }
    }

    async fn shrinks_to(&self, length: usize) {
        loop {
            let changed = self.changed.notified();
            if self.state().left() <= length {
                return;
            }
            changed.await;
        }
    }

    /// The connection breaks, and acknowledgements that were under way are lost.
    fn restart(&self) {
        self.change(|state| {
            let State { waiting, acknowledged, .. } = state;
            waiting.append(acknowledged);
        });
    }
}

impl State {
    fn take(&mut self) -> Option<Delivery> {
        let (place, mut delivery) = self.waiting.pop_first()?;
        delivery.attempt += 1;
        self.taken.insert(place, delivery.stored_at);
        Some(delivery)
    }

    fn left(&self) -> usize {
        self.waiting.len() + self.taken.len()
    }
}
