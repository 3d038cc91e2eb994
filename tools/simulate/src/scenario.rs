//! A setting of the simulation, as plain data. Times are in milliseconds. Odds are "once in this
//! many times"; 0 is never.

use super::oracle::Terms;
use oncewheel::{Clock, Config, Horizon, WhenFull};
use std::time::Duration;

pub(crate) const SECOND: u64 = 1_000;
pub(crate) const MINUTE: u64 = 60 * SECOND;
pub(crate) const HOUR: u64 = 60 * MINUTE;

/// Producers, broker and consumer, and what goes wrong.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The name that `--scenario` takes.
    pub name: &'static str,
    pub(crate) producers: Producers,
    pub(crate) broker: BrokerSetting,
    pub(crate) consumer: Consumer,
    /// The greatest distance of a clock from the true time.
    pub(crate) clock_bound: u64,
    pub(crate) broken: Broken,
    /// What a long enough run must have shown. Otherwise it has proved nothing.
    pub(crate) shows: &'static [Sign],
}

#[derive(Clone, Debug)]
pub(crate) struct Producers {
    /// The average time between two events.
    pub(crate) gap: u64,
    /// Four times as many events, in ten minutes of every forty.
    pub(crate) has_bursts: bool,
    pub(crate) retry_max: u64,
    pub(crate) network_max: u64,
    /// Many last attempts come exactly at `retry_max`, and many copies travel for exactly
    /// `network_max`, because faults are likely there.
    pub(crate) goes_to_limits: bool,
    pub(crate) copy_lost: u64,
    pub(crate) ack_lost: u64,
    pub(crate) stamp: Stamp,
}

/// Whose clock gives a message its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stamp {
    Broker,
    Producer,
    /// The broker's, but the cache does not get it.
    Unknown,
    /// The producer's, and some producers' clocks are hours ahead.
    ProducerAhead,
}

#[derive(Clone, Debug)]
pub(crate) struct BrokerSetting {
    pub(crate) retention: Option<u64>,
    /// 0: a message comes again only if it is given back, or after a crash or a rebalance.
    pub(crate) visibility: u64,
    /// The number of places by which a message may be late.
    pub(crate) disorder: u64,
    /// Whether unacknowledged messages are redelivered at once when the consumer crashes, or only
    /// after the visibility timeout.
    pub(crate) notices_crashes: bool,
    pub(crate) min_msg_time: MinMode,
    /// How often a consumer's acknowledgement is lost.
    pub(crate) ack_lost: u64,
    /// How often the queue is rewound.
    pub(crate) rewind_every: u64,
}

/// What the broker reports about its oldest message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MinMode {
    Exact,
    /// The time of the message that arrived first.
    Head,
    /// An answer that may be this old.
    Stale(u64),
    /// Null or 0.
    Null,
    /// The same answer for hours.
    Frozen,
    /// Now and then in seconds, microseconds or nanoseconds.
    WrongUnit,
    /// Now and then up to hours earlier than before.
    StepsBack,
    /// Up to this much later than the truth.
    TooHigh(u64),
    /// The oldest undelivered message, although an older one may be unacknowledged.
    Undelivered,
}

#[derive(Clone, Debug)]
pub(crate) struct Consumer {
    pub(crate) front: Front,
    pub(crate) journal: bool,
    pub(crate) workers: usize,
    pub(crate) way: Way,
    pub(crate) batch: usize,
    /// The longest time that a batch takes before its effects.
    pub(crate) processing_max: u64,
    /// The longest time from effect to commit, and from commit to acknowledgement.
    pub(crate) commit_delay_max: u64,
    /// The longest time from delivery to asking the cache.
    pub(crate) prefetch_max: u64,
    /// How often it observes the broker's `min_msg_time` when it takes messages. It also does so
    /// once a second.
    pub(crate) observes: u64,
    pub(crate) fails: u64,
    /// How often a worker hangs, and for how long at most.
    pub(crate) hangs: u64,
    pub(crate) hang_max: u64,
    /// How often the process crashes. Drawn before and after each effect, commit and
    /// acknowledgement.
    pub(crate) crashes: u64,
    pub(crate) down_max: u64,
    pub(crate) stall_every: u64,
    pub(crate) stall_max: u64,
    pub(crate) lease: Option<u64>,
    pub(crate) max_keys: usize,
    pub(crate) evicts_oldest: bool,
    /// Where `min_msg_time` comes from the consumer's own deliveries, and not from the broker.
    pub(crate) tracking: Option<Tracking>,
}

/// A consumer that reads partitions of a log and commits offsets.
#[derive(Clone, Debug)]
pub(crate) struct Tracking {
    pub(crate) partitions: u64,
    pub(crate) commit_every: u64,
    /// All partitions are revoked and assigned again, with offsets as last committed.
    pub(crate) rebalance_every: u64,
    /// One of the partitions is paused, and for how long at most.
    pub(crate) pause_every: u64,
    pub(crate) pause_max: u64,
    /// Every other worker is another reader of the same queue, of which the tracker hears nothing.
    pub(crate) competes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Front {
    Unsync,
    Sync,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Claim,
    CommitBatch,
    ProcessOnce,
    Insert,
    InsertBatch,
}

/// The assumption that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    Nothing,
    /// Producers retry this many times longer than the cache's configuration allows.
    Retry(u64),
    /// A: times are clamped, because clocks are hours apart.
    Clamps,
    /// B: copies below the watermark are delivered.
    Watermark,
    /// B, but only for copies that the consumer prefetched long ago and whose event was processed
    /// meanwhile.
    Prefetch,
    /// The consumer's clock jumps by this much, and stays there.
    ClockJump(i64),
}

/// What a run shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    BeforeCommit,
    Restart,
    TakenOver,
    /// A second effect where an assumption is broken.
    Doubled,
    InFlight,
    Full,
    Expired,
    Evicted,
    LateDuplicates,
    ClampedTimes,
    RejectedWatermarks,
    WatermarkRegressions,
    TooOld,
    Dropped,
    LostAfterInsert,
    Crashes,
    Rebalances,
    Pauses,
    ClaimsLost,
}

impl Scenario {
    /// The cache's configuration. It is as tight as the scenario allows, except for what is broken
    /// on purpose.
    pub(crate) fn config(&self) -> Config {
        let ms = Duration::from_millis;
        let horizon = Horizon::new(ms(self.config_retry()), ms(self.config_network()))
            .max_out_of_orderness(ms(self.out_of_orderness()))
            .max_clock_skew(ms(2 * self.clock_bound + 2 * CLOCK_READ_EVERY));
        let horizon = match self.broker.retention {
            Some(retention) => horizon.max_retention(ms(retention + 2 * self.clock_bound)),
            None => horizon,
        };
        let config =
            Config::new(horizon).clock(Clock::Manual).max_keys(self.consumer.max_keys).secret([7; 16]).shards(4);
        let config = match self.consumer.lease {
            Some(lease) => config.lease(ms(lease)),
            None => config,
        };
        if self.consumer.evicts_oldest { config.when_full(WhenFull::EvictOldest) } else { config }
    }

    fn config_retry(&self) -> u64 {
        match self.broken {
            Broken::Retry(times) => self.producers.retry_max / times,
            _ => self.producers.retry_max,
        }
    }

    fn config_network(&self) -> u64 {
        let of_unknown_times = if self.producers.stamp == Stamp::Unknown { CLOCK_READ_EVERY } else { 0 };
        self.producers.network_max + 2 * self.clock_bound + of_unknown_times
    }

    pub(crate) fn out_of_orderness(&self) -> u64 {
        let under_way = match self.producers.stamp {
            Stamp::Broker | Stamp::Unknown => 0,
            Stamp::Producer | Stamp::ProducerAhead => self.producers.network_max,
        };
        under_way + 2 * self.clock_bound
    }

    pub(crate) fn terms(&self) -> Terms {
        let clamps = matches!(self.broken, Broken::Clamps | Broken::ClockJump(..0));
        Terms {
            span: self.config_retry() + self.config_network(),
            may_lose_keys: self.consumer.evicts_oldest || clamps,
            lease: self.consumer.lease,
        }
    }
}

/// How often the consumer reports the time to the cache.
pub(crate) const CLOCK_READ_EVERY: u64 = SECOND;

/// What most scenarios have in common: a FIFO queue of four events a second, one in ten of them
/// with a copy.
pub(crate) fn plain(name: &'static str) -> Scenario {
    Scenario {
        name,
        producers: Producers {
            gap: 250,
            has_bursts: false,
            retry_max: 10 * MINUTE,
            network_max: 30 * SECOND,
            goes_to_limits: true,
            copy_lost: 50,
            ack_lost: 10,
            stamp: Stamp::Broker,
        },
        broker: BrokerSetting {
            retention: Some(24 * HOUR),
            visibility: 30 * SECOND,
            disorder: 0,
            notices_crashes: true,
            min_msg_time: MinMode::Exact,
            ack_lost: 100,
            rewind_every: 0,
        },
        consumer: Consumer {
            front: Front::Unsync,
            journal: false,
            workers: 1,
            way: Way::Claim,
            batch: 1,
            processing_max: 5,
            commit_delay_max: 0,
            prefetch_max: 0,
            observes: 8,
            fails: 1000,
            hangs: 0,
            hang_max: HOUR,
            crashes: 0,
            down_max: 5 * MINUTE,
            stall_every: 0,
            stall_max: 3 * HOUR,
            lease: None,
            max_keys: 1 << 22,
            evicts_oldest: false,
            tracking: None,
        },
        clock_bound: 0,
        broken: Broken::Nothing,
        shows: &[],
    }
}
