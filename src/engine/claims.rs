//! Keys that are being processed. Few are open at any time, so a plain map holds them.

use super::index::IndexHash;
use crate::Fingerprint;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Tells the claims of one shard from those of all others in the process: each has 2^40 generations of its own.
static CACHES: AtomicU64 = AtomicU64::new(0);
/// Where sweeping for abandoned claims starts to be worth it.
const SWEEP_MIN: usize = 64;

pub(crate) struct Claims {
    open: HashMap<Claimant, Claim, BuildHasherDefault<Folded>>,
    generations: u64,
    /// `max_processing_time` in milliseconds
    lease: Option<u64>,
    sweep_at: usize,
    /// How much the calls that found no room have paid towards a sweep.
    paid: usize,
}

struct Claim {
    /// Tells this claim from a later one of the same key: a commit must name it.
    generation: u64,
    msg_time: u64,
    /// When the lease began: `now`, or the first `now` known after it.
    lease_from: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimState {
    None,
    Held,
    /// Its lease is over: it may be taken over.
    Expired,
}

impl Claims {
    pub(crate) fn new(lease: Option<u64>) -> Self {
        let generations = CACHES.fetch_add(1, Relaxed) << 40;
        Self { open: HashMap::default(), generations, lease, sweep_at: SWEEP_MIN, paid: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    pub(crate) fn have_leases(&self) -> bool {
        self.lease.is_some()
    }

    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    pub(crate) fn state(&mut self, hash: IndexHash, key: Fingerprint, now: Option<u64>) -> ClaimState {
        match self.open.get_mut(&Claimant(hash, key)) {
            None => ClaimState::None,
            Some(claim) => match claim.is_expired(self.lease, now) {
                true => ClaimState::Expired,
                false => ClaimState::Held,
            },
        }
    }

    /// Opens a claim; its generation.
    pub(crate) fn open(&mut self, hash: IndexHash, key: Fingerprint, msg_time: u64, now: Option<u64>) -> u64 {
        self.generations += 1;
        let claim = Claim { generation: self.generations, msg_time, lease_from: now };
        self.open.insert(Claimant(hash, key), claim);
        self.generations
    }

    /// Closes the claim of this generation; the message's time. `None` if it was lost.
    pub(crate) fn close(&mut self, hash: IndexHash, key: Fingerprint, generation: u64) -> Option<u64> {
        let claimant = Claimant(hash, key);
        if self.open.get(&claimant)?.generation != generation {
            return None;
        }
        self.open.remove(&claimant).map(|claim| claim.msg_time)
    }

    /// Closes the key's claim, whoever holds it.
    pub(crate) fn take_over(&mut self, hash: IndexHash, key: Fingerprint) {
        self.open.remove(&Claimant(hash, key));
    }

    /// Drops the claims that were abandoned: the lease is over, and no copy can come any more that would take them over.
    /// Does so once the number of claims has doubled since the last time, or enough calls `need_room`; amortised O(1).
    /// Returns how many were dropped.
    pub(crate) fn sweep(&mut self, now: Option<u64>, need_room: bool, mut is_past: impl FnMut(u64) -> bool) -> usize {
        let before = self.open.len();
        self.paid += if need_room { SWEEP_MIN } else { 0 };
        if self.lease.is_none() || (before < self.sweep_at && self.paid <= before) {
            return 0;
        }
        let lease = self.lease;
        self.open.retain(|_, claim| !(claim.is_expired(lease, now) && is_past(claim.msg_time)));
        self.sweep_at = (self.open.len() * 2).max(SWEEP_MIN);
        self.paid = 0;
        before - self.open.len()
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = Fingerprint> {
        self.open.keys().map(|claimant| claimant.1)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.open.capacity() * (size_of::<(Claimant, Claim)>() + 1)
    }
}

impl Claim {
    fn is_expired(&mut self, lease: Option<u64>, now: Option<u64>) -> bool {
        let (Some(lease), Some(now)) = (lease, now) else { return false };
        let from = *self.lease_from.get_or_insert(now);
        now.saturating_sub(from) > lease
    }
}

/// A key with the hash that it has already.
#[derive(PartialEq, Eq)]
struct Claimant(IndexHash, Fingerprint);

impl Hash for Claimant {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.bits());
    }
}

/// Passes on a hash that is keyed and folded already.
#[derive(Default)]
struct Folded(u64);

impl Hasher for Folded {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
