//! Keys that are in the cache already and not yet, or not for long, in the journal: until that is settled, they are in
//! flight to everyone but the call that is at it.

use crate::Fingerprint;

/// Few calls at any time, and looked up only for duplicates: a list for each will do.
#[derive(Default)]
pub(crate) struct Unsettled {
    groups: Vec<Group>,
    /// Of a call that was settled, so that the next allocates nothing.
    spare: Vec<Fingerprint>,
    /// The call that is at work in the shard; 0: none with a number.
    call: u64,
}

struct Group {
    call: u64,
    keys: Vec<Fingerprint>,
}

impl Unsettled {
    pub(super) fn set_call(&mut self, call: u64) {
        self.call = call;
    }

    pub(super) fn add(&mut self, key: Fingerprint, call: u64) {
        match self.groups.iter_mut().find(|group| group.call == call) {
            Some(group) => group.keys.push(key),
            None => {
                let mut keys = std::mem::take(&mut self.spare);
                keys.push(key);
                self.groups.push(Group { call, keys });
            }
        }
    }

    pub(super) fn settle(&mut self, call: u64) {
        if let Some(at) = self.groups.iter().position(|group| group.call == call) {
            self.spare = self.groups.swap_remove(at).keys;
            self.spare.clear();
        }
    }

    #[inline(always)]
    pub(super) fn is_anothers(&self, key: Fingerprint) -> bool {
        !self.groups.is_empty() && self.is_in_a_group(key)
    }

    fn is_in_a_group(&self, key: Fingerprint) -> bool {
        self.groups.iter().any(|group| group.call != self.call && group.keys.contains(&key))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let keys = self.spare.capacity() + self.groups.iter().map(|group| group.keys.capacity()).sum::<usize>();
        self.groups.capacity() * size_of::<Group>() + keys * size_of::<Fingerprint>()
    }
}
