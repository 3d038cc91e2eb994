//! The least of many numbers of which a few change between two questions.

/// Stands for a partition that is not there.
pub(super) const VACANT: u64 = u64::MAX;

/// A tournament: each node is the lesser of its two children, the root is `tree[1]`, and the leaves
/// are the second half.
///
/// ```text
/// tree   [ -, 3, 5, 3, 8, 5, 3, VACANT ]
///          root  |  | leaves of 0, 1, 2, 3
/// ```
///
/// A change walks from its leaf up and stops at the first node that stays as it is.
#[derive(Debug)]
pub(super) struct Lows {
    tree: Vec<u64>,
}

impl Lows {
    pub(super) fn new() -> Self {
        Self { tree: vec![VACANT; 2] }
    }

    pub(super) fn min(&self) -> u64 {
        self.tree[1]
    }

    /// Whose number the least is; any of them, if several are equal.
    pub(super) fn min_at(&self) -> usize {
        let mut node = 1;
        while node < self.leaves() {
            node *= 2;
            node += usize::from(self.tree[node] != self.min());
        }
        node - self.leaves()
    }

    pub(super) fn set(&mut self, at: usize, low: u64) {
        while at >= self.leaves() {
            self.double();
        }
        let mut node = self.leaves() + at;
        self.tree[node] = low;
        while node > 1 {
            node /= 2;
            let lesser = self.tree[2 * node].min(self.tree[2 * node + 1]);
            if self.tree[node] == lesser {
                return;
            }
            self.tree[node] = lesser;
        }
    }

    fn leaves(&self) -> usize {
        self.tree.len() / 2
    }

    fn double(&mut self) {
        let leaves = self.tree.split_off(self.leaves());
        self.tree = vec![VACANT; 4 * leaves.len()];
        for (at, low) in leaves.into_iter().enumerate() {
            self.set(at, low);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_of_many_is_found_whichever_changes() {
        let mut lows = Lows::new();
        let mut plain = vec![VACANT; 100];
        assert_eq!(lows.min(), VACANT);
        let mut number: u64 = 1;
        for _ in 0..20_000 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (at, low) = ((number >> 33) as usize % plain.len(), (number >> 40) % 50);
            let low = if low == 0 { VACANT } else { low };
            plain[at] = low;
            lows.set(at, low);
            assert_eq!(Some(lows.min()), plain.iter().copied().min());
            assert_eq!(lows.tree[lows.leaves() + lows.min_at()], lows.min());
        }
    }
}
