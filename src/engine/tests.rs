use super::*;
use crate::Timestamp;
use crate::Verdict;
use proptest::prelude::*;

/// With this secret every key below 2^64 has the hash 1: one partition, one bucket, one tag.
fn all_in_one_bucket(quota: usize) -> Shard {
    let hasher = IndexHasher::new([0; 2]);
    let settings = Settings { hasher, keys_max: 100_000, span: 1000, lease: None, evicts: false };
    Shard::new(&settings, quota)
}

fn key(number: u64) -> Fingerprint {
    Fingerprint([number, 0])
}

fn insert(shard: &mut Shard, number: u64, time: u64) -> Result<Verdict, Full> {
    let hash = shard.hash(key(number));
    assert_eq!(hash.bits(), 1);
    shard.insert(hash, key(number), time, None)
}

#[test]
fn keys_that_all_have_one_home_bucket_are_told_apart_found_and_removed() {
    let mut shard = all_in_one_bucket(3000);
    shard.advance(1);
    for number in 0..2000 {
        assert_eq!(insert(&mut shard, number, 1 + number), Ok(Verdict::Fresh));
    }
    shard.validate();
    for number in 0..2000 {
        assert_eq!(insert(&mut shard, number, 1 + number), Ok(Verdict::Duplicate));
    }
    assert!(shard.remove(shard.hash(key(7)), key(7)));
    shard.advance(2001);
    while shard.wheel.has_expired() {
        shard.reclaim_some(1);
        shard.validate();
    }
    assert!((990..=1010).contains(&shard.len()), "{}", shard.len());
    for number in 1000..2000 {
        assert_eq!(insert(&mut shard, number, 2001), Ok(Verdict::Duplicate));
    }
    assert_eq!(shard.validate(), 3000);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Removals decrement the overflow counts, whatever the order.
    #[test]
    fn one_bucket_survives_any_order_of_inserts_and_removals(
        steps in prop::collection::vec((0u64..60, any::<bool>()), 1..300)
    ) {
        let mut shard = all_in_one_bucket(1000);
        let mut held = std::collections::BTreeSet::new();
        for (number, inserts) in steps {
            if inserts {
                let was_held = insert(&mut shard, number, 5) == Ok(Verdict::Duplicate);
                prop_assert_eq!(was_held, !held.insert(number));
            } else {
                prop_assert_eq!(shard.remove(shard.hash(key(number)), key(number)), held.remove(&number));
            }
            shard.validate();
        }
    }
}

#[test]
fn a_batch_answers_in_one_bucket_too() {
    let mut shard = all_in_one_bucket(100);
    let batch: Vec<_> = (0..30).map(|number| (key(number % 20), Timestamp::from_millis(5))).collect();
    let mut verdicts = [Verdict::Fresh; 30];
    assert_eq!(shard.insert_batch(&batch, None, |at, verdict| verdicts[at] = verdict), 30);
    assert_eq!(verdicts[..20], [Verdict::Fresh; 20]);
    assert_eq!(verdicts[20..], [Verdict::Duplicate; 10]);
}

/// Otherwise a service that catches up in batches after a long downtime would hold more and more
/// expired keys.
#[test]
fn a_large_batch_reclaims_three_expired_keys_for_every_two_that_it_adds() {
    let settings =
        Settings { hasher: IndexHasher::new([3, 5]), keys_max: 100_000, span: 1000, lease: None, evicts: false };
    let mut shard = Shard::new(&settings, 100_000);
    let batch = |shard: &mut Shard, keys: std::ops::Range<u64>, time| {
        let entries: Vec<_> = keys.map(|number| (key(number), Timestamp::from_millis(time))).collect();
        assert_eq!(shard.insert_batch(&entries, None, |_, verdict| assert_eq!(verdict, Verdict::Fresh)), entries.len());
    };
    shard.advance(1);
    batch(&mut shard, 0..30_000, 1);
    shard.advance(5000);
    let mut reclaimed = 0;
    for number in 0..30 {
        batch(&mut shard, 30_000 + 1024 * number..30_000 + 1024 * (number + 1), 5000);
        let expired = shard.counts().expired;
        assert!(expired - reclaimed >= 1536 || expired == 30_000, "{reclaimed} reclaimed, then {expired}");
        reclaimed = expired;
    }
    assert_eq!(reclaimed, 30_000);
    assert_eq!(shard.validate(), 100_000);
}

#[test]
fn shrinking_frees_every_partition_of_many() {
    let settings =
        Settings { hasher: IndexHasher::new([3, 5]), keys_max: 1 << 22, span: 1000, lease: None, evicts: false };
    let mut shard = Shard::new(&settings, 1 << 22);
    shard.advance(1);
    let empty = shard.index.memory_bytes();
    let keys: Vec<_> = (0..40_000).map(key).collect();
    for key in &keys {
        assert_eq!(shard.insert(shard.hash(*key), *key, 1, None), Ok(Verdict::Fresh));
    }
    // Sixteen buckets each, or a few more, so that partitions do not all grow at one time.
    let buckets = (shard.index.memory_bytes() - empty) / 64;
    assert!((17 * 512..18 * 512).contains(&buckets), "{buckets} buckets in 512 partitions");
    keys.iter().for_each(|key| assert!(shard.remove(shard.hash(*key), *key)));
    while shard.shrink() {}
    assert_eq!(shard.index.memory_bytes(), empty);
    shard.validate();
}

#[test]
fn shrinking_takes_the_size_that_the_keys_need_and_leaves_what_fits() {
    let settings =
        Settings { hasher: IndexHasher::new([3, 5]), keys_max: 100_000, span: 1000, lease: None, evicts: false };
    let mut shard = Shard::new(&settings, 100_000);
    shard.advance(1);
    let empty = shard.index.memory_bytes();
    let keys: Vec<_> = (0..80_000).map(key).collect();
    for key in &keys {
        assert_eq!(shard.insert(shard.hash(*key), *key, 1, None), Ok(Verdict::Fresh));
    }
    let (full, resizes) = (shard.index.memory_bytes(), shard.index.resizes());
    while shard.shrink() {}
    assert_eq!((shard.index.memory_bytes(), shard.index.resizes()), (full, resizes));
    keys[..72_000].iter().for_each(|key| assert!(shard.remove(shard.hash(*key), *key)));
    while shard.shrink() {}
    let buckets = (shard.index.memory_bytes() - empty) / 64;
    assert!((8_000 / 7..8_000 / 5).contains(&buckets), "{buckets} buckets for 8,000 keys");
    shard.validate();
}
