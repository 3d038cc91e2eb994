//! The cache as the journal meets it, and the only place where it does.

use crate::engine::{Full, Held};
use crate::{Fingerprint, Timestamp};

/// While the journal is read it fills a cache; while segments are rewritten it asks which keys the
/// cache still holds.
pub(crate) trait Cache {
    fn len(&self) -> usize;
    fn held(&self, key: Fingerprint) -> Held;
    /// No less than the watermark by which any key expired that is not held any more.
    fn watermark(&self) -> u64;
    /// Whether a key may be evicted for another.
    fn evicts(&self) -> bool;

    /// The watermark was here at least.
    fn advance(&mut self, watermark: u64);
    /// Holds keys again, except those that have expired.
    fn restore(&mut self, entries: &[(Fingerprint, Timestamp)]) -> Result<(), Full>;
    fn remove(&mut self, key: Fingerprint);
}
