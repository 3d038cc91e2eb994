//! Claims: keys that are being processed. Few are open at any time, so a plain map holds them.
//!
//! ```text
//!           open ──────────► Open ──── close (commit, abort) ──► gone
//!                             │
//!                             │ lease expires
//!                             ▼
//!                       LeaseExpired ─ close (still allowed) ──► gone
//!                             │
//!                             └─────── take_over, sweep ───────► lost: close returns `None`
//! ```
//!
//! A claim without a lease stays open until it is closed. So does a claim that is being committed,
//! from `begin_commit` on: its key is on the way to the journal, and no other call may take it.

use super::index::IndexHash;
use crate::Fingerprint;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Numbers the shards of the process. Each has 2^40 generations of its own, so a claim of one shard
/// or cache never names a claim of another.
static SHARDS: AtomicU64 = AtomicU64::new(0);
/// Fewer claims than this are not swept, unless quota is needed.
const SWEEP_MIN: usize = 64;

pub(crate) struct Claims {
    open: HashMap<Claimant, Claim, BuildHasherDefault<Folded>>,
    generations: u64,
    /// In milliseconds. `None`: claims are protected without limit.
    lease: Option<u64>,
    /// The number of claims from which on a sweep is worth it.
    sweep_at: usize,
    /// What calls without quota have paid towards a sweep: `SWEEP_MIN` claims each.
    paid: usize,
}

/// Names a claim. No other claim of the process has the same generation.
///
/// `Shard::claim` returns the generation alone: it fits in a register, and the caller has the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClaimId {
    pub(crate) hash: IndexHash,
    pub(crate) key: Fingerprint,
    pub(crate) generation: u64,
}

struct Claim {
    /// Distinguishes this claim from later ones of the same key. `close` must name it.
    generation: u64,
    msg_time: u64,
    lease: Lease,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lease {
    /// No `now` was known since the claim was opened.
    NotBegun,
    /// Since the first `now` that was known.
    Since(u64),
    /// The claim is being committed, and its lease does not expire.
    Committing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClaimState {
    None,
    Open,
    /// The claim may be taken over. Until that happens, its owner may still close it.
    LeaseExpired,
}

impl Claims {
    pub(crate) fn new(lease: Option<u64>) -> Self {
        let generations = SHARDS.fetch_add(1, Relaxed) << 40;
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
            Some(claim) => match claim.is_lease_expired(self.lease, now) {
                true => ClaimState::LeaseExpired,
                false => ClaimState::Open,
            },
        }
    }

    /// Opens a claim and returns its generation.
    pub(crate) fn open(&mut self, hash: IndexHash, key: Fingerprint, msg_time: u64, now: Option<u64>) -> u64 {
        self.generations += 1;
        let generation = self.generations;
        let claim = Claim { generation, msg_time, lease: now.map_or(Lease::NotBegun, Lease::Since) };
        self.open.insert(Claimant(hash, key), claim);
        generation
    }

    pub(crate) fn is_open(&self, id: &ClaimId) -> bool {
        self.open.get(&Claimant(id.hash, id.key)).is_some_and(|claim| claim.generation == id.generation)
    }

    /// From now on the claim can be neither taken over nor swept, until it is closed. Returns the
    /// message's time; `None` if the claim was lost.
    pub(crate) fn begin_commit(&mut self, id: &ClaimId) -> Option<u64> {
        let claim = self.open.get_mut(&Claimant(id.hash, id.key))?;
        (claim.generation == id.generation).then(|| {
            claim.lease = Lease::Committing;
            claim.msg_time
        })
    }

    pub(crate) fn is_committing(&self, hash: IndexHash, key: Fingerprint) -> bool {
        self.open.get(&Claimant(hash, key)).is_some_and(|claim| claim.lease == Lease::Committing)
    }

    /// Closes the claim and returns the message's time; `None` if it was lost.
    pub(crate) fn close(&mut self, id: &ClaimId) -> Option<u64> {
        let claimant = Claimant(id.hash, id.key);
        if self.open.get(&claimant)?.generation != id.generation {
            return None;
        }
        self.open.remove(&claimant).map(|claim| claim.msg_time)
    }

    /// Removes the key's claim, whichever generation it has.
    pub(crate) fn take_over(&mut self, hash: IndexHash, key: Fingerprint) {
        self.open.remove(&Claimant(hash, key));
    }

    /// Removes abandoned claims and returns how many there were. A claim is abandoned if its lease
    /// has expired and its message's deadline has passed: no copy can arrive and take it over.
    ///
    /// Runs when the number of claims has doubled since the last time, or when enough calls have
    /// come with `needs_quota`. So the cost is O(1) for each call, amortised.
    pub(crate) fn sweep(&mut self, now: Option<u64>, needs_quota: bool, mut is_past: impl FnMut(u64) -> bool) -> usize {
        let before = self.open.len();
        self.paid += if needs_quota { SWEEP_MIN } else { 0 };
        if self.lease.is_none() || (before < self.sweep_at && self.paid <= before) {
            return 0;
        }
        let lease = self.lease;
        self.open.retain(|_, claim| !(claim.is_lease_expired(lease, now) && is_past(claim.msg_time)));
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
    fn is_lease_expired(&mut self, lease: Option<u64>, now: Option<u64>) -> bool {
        let (Some(lease), Some(now)) = (lease, now) else { return false };
        if self.lease == Lease::NotBegun {
            self.lease = Lease::Since(now);
        }
        matches!(self.lease, Lease::Since(from) if now.saturating_sub(from) > lease)
    }
}

/// A key with its hash, so that the map need not compute one.
#[derive(PartialEq, Eq)]
struct Claimant(IndexHash, Fingerprint);

impl Hash for Claimant {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.bits());
    }
}

/// A hasher that returns the given hash, which is keyed and well mixed.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::IndexHasher;

    const LEASE: u64 = 100;

    fn key(number: u64) -> (IndexHash, Fingerprint) {
        let key = Fingerprint([number, 1]);
        (IndexHasher::new([3, 5]).hash(key), key)
    }

    fn open(claims: &mut Claims, number: u64, now: u64) -> ClaimId {
        let (hash, key) = key(number);
        ClaimId { hash, key, generation: claims.open(hash, key, number, Some(now)) }
    }

    fn open_all(claims: &mut Claims, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let _ = open(claims, number, 0);
        }
    }

    fn state(claims: &mut Claims, number: u64, now: u64) -> ClaimState {
        let (hash, key) = key(number);
        claims.state(hash, key, Some(now))
    }

    #[test]
    fn each_claim_has_a_generation_of_its_own() {
        let (mut claims, mut others) = (Claims::new(None), Claims::new(None));
        let first = open(&mut claims, 1, 0);
        let second = open(&mut claims, 1, 0);
        let between = first.generation..=second.generation;
        assert!(!between.is_empty() && !between.contains(&open(&mut others, 1, 0).generation));
        assert_eq!((claims.begin_commit(&first), claims.begin_commit(&second)), (None, Some(1)));
        assert_eq!((claims.close(&first), claims.close(&second)), (None, Some(1)));
        assert!(claims.is_empty());
    }

    #[test]
    fn a_lease_expires_a_millisecond_after_its_last() {
        let (mut claims, mut unlimited) = (Claims::new(Some(LEASE)), Claims::new(None));
        assert!(claims.have_leases() && !unlimited.have_leases());
        for claims in [&mut claims, &mut unlimited] {
            assert!(state(claims, 1, 10) == ClaimState::None);
            let _ = open(claims, 1, 10);
        }
        assert!(state(&mut claims, 1, 10 + LEASE) == ClaimState::Open);
        assert!(state(&mut claims, 1, 11 + LEASE) == ClaimState::LeaseExpired);
        assert!(state(&mut unlimited, 1, u64::MAX) == ClaimState::Open);
    }

    #[test]
    fn a_claim_that_is_being_committed_is_neither_taken_over_nor_swept() {
        let mut claims = Claims::new(Some(LEASE));
        let slow = open(&mut claims, 1, 0);
        let (hash, key) = key(1);
        assert!(!claims.is_committing(hash, key));
        assert_eq!(state(&mut claims, 1, 1 + LEASE), ClaimState::LeaseExpired);
        assert_eq!(claims.begin_commit(&slow), Some(1), "nobody has taken it over");
        assert!(claims.is_committing(hash, key));
        open_all(&mut claims, 2..2 + SWEEP_MIN as u64);
        assert_eq!(claims.sweep(Some(u64::MAX), false, |_| true), SWEEP_MIN);
        assert_eq!(state(&mut claims, 1, u64::MAX), ClaimState::Open);
        assert_eq!(claims.close(&slow), Some(1));
    }

    #[test]
    fn only_what_was_abandoned_is_swept_and_only_when_that_is_worth_it() {
        let mut claims = Claims::new(Some(LEASE));
        let count = SWEEP_MIN as u64;
        open_all(&mut claims, 0..count - 1);
        let expired = Some(1 + LEASE);
        assert_eq!(claims.sweep(expired, false, |_| true), 0, "too few yet");
        open_all(&mut claims, count - 1..count);
        assert_eq!(claims.sweep(Some(LEASE), false, |_| true), 0, "no lease has expired");
        open_all(&mut claims, count..2 * count);
        assert_eq!(
            claims.sweep(expired, false, |time| time % 4 == 0),
            SWEEP_MIN / 2,
            "copies of the others may arrive"
        );
        assert_eq!(claims.keys().count(), claims.len());
        // Not again before there are twice as many, unless enough calls need quota.
        open_all(&mut claims, 2 * count..3 * count);
        assert_eq!(claims.sweep(expired, false, |_| true), 0);
        let mut few = Claims::new(Some(LEASE));
        open_all(&mut few, 0..count);
        assert_eq!(few.sweep(expired, false, |_| true), SWEEP_MIN, "just enough");
        let left = claims.len();
        let calls = (1..1_000).find(|_| claims.sweep(expired, true, |_| true) > 0);
        assert_eq!(calls, Some(left / SWEEP_MIN + 1));
        assert!(claims.is_empty());
        let mut unlimited = Claims::new(None);
        open_all(&mut unlimited, 0..4 * count);
        assert_eq!(unlimited.sweep(Some(u64::MAX), true, |_| true), 0);
    }

    #[test]
    fn memory_is_that_of_the_table() {
        let mut claims = Claims::new(None);
        assert_eq!(claims.memory_bytes(), 0);
        open_all(&mut claims, 0..1_000);
        let each = claims.memory_bytes() / 1_000;
        assert!((size_of::<(Claimant, Claim)>() + 1..=3 * size_of::<(Claimant, Claim)>()).contains(&each), "{each}");
    }
}
