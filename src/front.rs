//! What both fronts share.

use crate::engine::Shard;
use crate::watermark::Progress;
use crate::{Error, Stats, Timestamp};

/// The answer to `commit_batch`: which of the claims are committed.
///
/// ```
/// use oncewheel::{Claimed, Config, Horizon, sync::DedupCache};
/// use std::time::Duration;
///
/// let cache = DedupCache::new(Config::new(Horizon::new(Duration::from_secs(60), Duration::from_secs(5))))?;
/// let (mut claims, mut deliveries) = (Vec::new(), Vec::new());
/// for key in ["order-1", "order-2"] {
///     if let Claimed::Fresh(claim) = cache.claim(key, None)? {
///         claims.push(claim); // after the effect
///         deliveries.push(key);
///     }
/// }
/// let committed = cache.commit_batch(claims)?;
/// for (at, delivery) in deliveries.iter().enumerate() {
///     if committed.contains(at) {
///         println!("acknowledge {delivery}");
///     }
/// }
/// # assert!(committed.lost().is_empty());
/// # Ok::<(), oncewheel::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "deliveries whose claims were lost must not be acknowledged"]
pub struct Committed {
    lost: Vec<usize>,
}

impl Committed {
    /// `lost`: in ascending order.
    pub(crate) fn except(lost: Vec<usize>) -> Self {
        Self { lost }
    }

    /// Whether the claim at this position of the batch, counted from 0, is committed. Costs a
    /// binary search among those that are not.
    #[must_use]
    pub fn contains(&self, at: usize) -> bool {
        self.lost.binary_search(&at).is_err()
    }

    /// The positions, in ascending order, of claims that were lost: do not acknowledge those. There
    /// are none without a [lease](crate::Config#structfield.lease).
    #[must_use]
    pub fn lost(&self) -> &[usize] {
        &self.lost
    }

    /// For callers that acknowledge the batch as a whole.
    ///
    /// # Errors
    ///
    /// [`Error::ClaimLost`] if any claim was lost. The others are committed.
    pub fn all(&self) -> Result<(), Error> {
        if self.lost.is_empty() { Ok(()) } else { Err(Error::ClaimLost) }
    }
}

/// What the rule counts; the shards are to be added.
pub(crate) fn stats(progress: &Progress) -> Stats {
    let now = progress.exact_now().map(Timestamp::from_millis);
    let watermark = timestamp(progress.watermark());
    let lag = |now: Timestamp| Some(now.saturating_duration_since(watermark?));
    Stats {
        now,
        watermark,
        watermark_lag: now.and_then(lag),
        clamped_times: progress.counts.clamped_times,
        rejected_watermarks: progress.counts.rejected_watermarks,
        watermark_regressions: progress.counts.watermark_regressions,
        ..Stats::default()
    }
}

pub(crate) fn add_shard(stats: &mut Stats, shard: &Shard) {
    let counts = shard.counts();
    *stats += Stats {
        fresh: counts.fresh,
        duplicate: counts.duplicate,
        in_flight: counts.in_flight,
        too_old: counts.too_old,
        keys_live: shard.len(),
        claims_open: shard.claims_open(),
        memory_bytes: shard.memory_bytes(),
        expired: counts.expired,
        evicted: counts.evicted,
        complete_since: timestamp(counts.complete_since),
        duplicate_ages: counts.ages.clone(),
        late_duplicates: counts.late_duplicates,
        ..Stats::default()
    };
}

/// A time of which 0 means that there is none.
pub(crate) fn timestamp(millis: u64) -> Option<Timestamp> {
    (millis > 0).then_some(Timestamp::from_millis(millis))
}

/// `next_due`: the watermark at which the next key expires; `u64::MAX` if none ever does.
#[cold]
pub(crate) fn full(next_due: u64) -> Error {
    Error::Full { next_expiry: (next_due < u64::MAX).then_some(Timestamp::from_millis(next_due)) }
}
