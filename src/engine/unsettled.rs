//! Keys that are in the cache already and not yet, or not for long, in the journal: until that is settled, they are in
//! flight to everyone but the call that is at it.

use crate::Fingerprint;

/// Searches of a group's keys one by one, after which they are put in order: few are searched for, as a rule, but a batch of
/// nothing but duplicates must not look at all keys of another for each of its own.
const SEARCHES_IN_LINE: u32 = 16;

/// Few calls at any time, and looked up only for duplicates: a list for each will do.
#[derive(Default)]
pub(crate) struct Unsettled {
    groups: Vec<Group>,
    /// The call that is at work in the shard; 0: none with a number.
    call: u64,
}

struct Group {
    call: u64,
    keys: Vec<Fingerprint>,
    /// Since the last key came. From `SEARCHES_IN_LINE` on, the keys are in order.
    searches: u32,
}

impl Unsettled {
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

    pub(super) fn settle(&mut self, call: u64) {
        self.groups.retain(|group| group.call != call);
    }

    #[inline(always)]
    pub(super) fn is_anothers(&mut self, key: Fingerprint) -> bool {
        !self.groups.is_empty() && self.is_in_a_group(key)
    }

    #[cold]
    fn is_in_a_group(&mut self, key: Fingerprint) -> bool {
        self.groups.iter_mut().for_each(Group::expect_search);
        self.is_unsettled(key)
    }

    /// As `is_anothers`.
    pub(super) fn is_unsettled(&self, key: Fingerprint) -> bool {
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
        if self.searches == SEARCHES_IN_LINE {
            self.keys.sort_unstable();
        }
    }

    fn has(&self, key: Fingerprint) -> bool {
        if self.searches < SEARCHES_IN_LINE { self.keys.contains(&key) } else { self.keys.binary_search(&key).is_ok() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_anothers_until_that_call_is_settled_however_often_one_asks() {
        let key = |number: u64| Fingerprint([number.wrapping_mul(0x9e37_79b9_7f4a_7c15), number]);
        let mut unsettled = Unsettled::default();
        for number in 0..200 {
            unsettled.add(key(number), 1 + number % 2);
            for asked in 0..220 {
                assert_eq!(unsettled.is_anothers(key(asked)), asked <= number, "{asked} of {number}");
                assert_eq!(unsettled.is_unsettled(key(asked)), asked <= number, "{asked} of {number}");
            }
        }
        assert!(unsettled.groups.iter().all(|group| group.keys.is_sorted()), "many searches are worth it");
        let keys: usize = unsettled.groups.iter().map(|group| group.keys.capacity()).sum();
        let groups = unsettled.groups.capacity();
        assert_eq!(unsettled.memory_bytes(), groups * size_of::<Group>() + keys * size_of::<Fingerprint>());
        let are_anothers = |unsettled: &mut Unsettled, of: &[u64]| {
            (0..200).all(|n| unsettled.is_anothers(key(n)) == of.contains(&(n % 2)))
        };
        unsettled.set_call(1);
        assert!(are_anothers(&mut unsettled, &[1]), "its own are no secret");
        unsettled.set_call(0);
        unsettled.settle(2);
        assert!(are_anothers(&mut unsettled, &[0]));
        unsettled.settle(1);
        assert!(are_anothers(&mut unsettled, &[]));
        (0..200).for_each(|number| unsettled.add(key(number), 3));
        assert!(unsettled.is_anothers(key(7)) && !unsettled.groups[0].keys.is_sorted(), "one search is not");
    }
}
