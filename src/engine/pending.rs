//! Pending keys: keys whose change is being appended to the journal.
//!
//! A call with a journal changes the cache first, appends to the journal second, and answers
//! third. In between the key is pending: other calls get `InFlight` for it, because a failed
//! append may still undo the change. The call itself sees its own keys as they are.
//!
//! ```text
//! mark_pending(key, call) ... the append runs, no lock is held ... clear_pending(call)
//! ```

use crate::Fingerprint;

/// After this many searches a group is sorted. Most groups are searched rarely, and a scan is
/// enough. A batch of duplicates only would otherwise scan another batch once for each key.
const SEARCHES_BEFORE_SORT: u32 = 16;

/// Few calls run at any time, and only duplicates are looked up: one list for each call is enough.
#[derive(Default)]
pub(crate) struct Pending {
    groups: Vec<Group>,
    /// The call that is using the shard now. 0: a call without a number.
    call: u64,
}

/// The pending keys of one call.
struct Group {
    call: u64,
    keys: Vec<Fingerprint>,
    /// Searches since the last key was added. From `SEARCHES_BEFORE_SORT` on, `keys` is sorted.
    searches: u32,
}

impl Pending {
    pub(super) fn set_call(&mut self, call: u64) {
        self.call = call;
    }

    pub(super) fn add(&mut self, key: Fingerprint, call: u64) {
        match self.groups.iter_mut().find(|group| group.call == call) {
            Some(group) => {
                group.keys.push(key);
                group.searches = 0;
            }
            None => self.groups.push(Group { call, keys: vec![key], searches: 0 }),
        }
    }

    pub(super) fn remove(&mut self, call: u64) {
        self.groups.retain(|group| group.call != call);
    }

    /// Whether a call other than the current one has the key pending. Sorts what is searched often.
    #[inline(always)]
    pub(super) fn is_pending_elsewhere(&mut self, key: Fingerprint) -> bool {
        !self.groups.is_empty() && self.search_groups(key)
    }

    #[cold]
    fn search_groups(&mut self, key: Fingerprint) -> bool {
        self.groups.iter_mut().for_each(Group::expect_search);
        self.has_elsewhere(key)
    }

    /// As `is_pending_elsewhere`, but sorts nothing.
    pub(super) fn has_elsewhere(&self, key: Fingerprint) -> bool {
        self.groups.iter().any(|group| group.call != self.call && group.has(key))
    }

    pub(super) fn memory_bytes(&self) -> usize {
        let keys: usize = self.groups.iter().map(|group| group.keys.capacity()).sum();
        self.groups.capacity() * size_of::<Group>() + keys * size_of::<Fingerprint>()
    }
}

impl Group {
    fn expect_search(&mut self) {
        self.searches = self.searches.saturating_add(1);
        if self.searches == SEARCHES_BEFORE_SORT {
            self.keys.sort_unstable();
        }
    }

    fn has(&self, key: Fingerprint) -> bool {
        if self.searches < SEARCHES_BEFORE_SORT {
            self.keys.contains(&key)
        } else {
            self.keys.binary_search(&key).is_ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_pending_elsewhere_until_that_call_is_removed_however_often_it_is_searched() {
        let key = |number: u64| Fingerprint([number.wrapping_mul(0x9e37_79b9_7f4a_7c15), number]);
        let mut pending = Pending::default();
        for number in 0..200 {
            pending.add(key(number), 1 + number % 2);
            for searched in 0..220 {
                let is_added = searched <= number;
                assert_eq!(pending.is_pending_elsewhere(key(searched)), is_added, "{searched} of {number}");
                assert_eq!(pending.has_elsewhere(key(searched)), is_added, "{searched} of {number}");
            }
        }
        assert!(pending.groups.iter().all(|group| group.keys.is_sorted()), "many searches are worth a sort");
        let keys: usize = pending.groups.iter().map(|group| group.keys.capacity()).sum();
        let groups = pending.groups.capacity();
        assert_eq!(pending.memory_bytes(), groups * size_of::<Group>() + keys * size_of::<Fingerprint>());
        let are_elsewhere = |pending: &mut Pending, of: &[u64]| {
            (0..200).all(|n| pending.is_pending_elsewhere(key(n)) == of.contains(&(n % 2)))
        };
        pending.set_call(1);
        assert!(are_elsewhere(&mut pending, &[1]), "a call does not block itself");
        pending.set_call(0);
        pending.remove(2);
        assert!(are_elsewhere(&mut pending, &[0]));
        pending.remove(1);
        assert!(are_elsewhere(&mut pending, &[]));
        (0..200).for_each(|number| pending.add(key(number), 3));
        assert!(pending.is_pending_elsewhere(key(7)) && !pending.groups[0].keys.is_sorted(), "one search is not");
    }
}
