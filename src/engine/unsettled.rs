//! Keys that are in the cache already and not yet, or not for long, in the journal: until that is settled, they are in
//! flight to everyone but the call that is at it.

use crate::Fingerprint;

/// Few at any time, and looked up only for duplicates: a list will do.
#[derive(Default)]
pub(crate) struct Unsettled {
    /// With the number of the call that is at it.
    keys: Vec<(Fingerprint, u64)>,
    /// The call that is at work in the shard; 0: none with a number.
    call: u64,
}

impl Unsettled {
    pub(super) fn set_call(&mut self, call: u64) {
        self.call = call;
    }

    pub(super) fn add(&mut self, key: Fingerprint, call: u64) {
        self.keys.push((key, call));
    }

    pub(super) fn settle(&mut self, call: u64) {
        self.keys.retain(|(_, of)| *of != call);
    }

    #[inline(always)]
    pub(super) fn is_anothers(&self, key: Fingerprint) -> bool {
        !self.keys.is_empty() && self.keys.iter().any(|(unsettled, call)| *unsettled == key && *call != self.call)
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.keys.capacity() * size_of::<(Fingerprint, u64)>()
    }
}
