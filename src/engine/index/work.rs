//! The cost of the index, counted instead of timed. Keys that an attacker chose cost no more than
//! random ones, in buckets read and in equal tags. Keys are spread evenly. Memory.

use super::{Index, IndexHasher};
use crate::Fingerprint;
use crate::engine::pool::Pool;

/// The number of keys, unless `ONCEWHEEL_HOSTILE_KEYS` is set.
const KEYS: usize = 2_000_000;
/// The keys are spread over this many secrets: a bad one may be rare.
const SECRETS: u64 = 512;

/// Makes a key from a number.
type Pattern = fn(u64) -> u128;

/// Per key: buckets passed on the way to it, and tags of other keys equal to its own.
fn work(count: usize, secret: [u64; 2], key: impl Fn(u64) -> u128) -> (f64, f64) {
    let mut index = Index::new(count, IndexHasher::new(secret));
    let mut pool = Pool::new();
    let mut chunk = pool.allocate(0, 0);
    for number in 0..count as u64 {
        let key = Fingerprint::from_u128(key(number));
        let slot = pool.push(chunk, &key, 0).unwrap_or_else(|| {
            chunk = pool.allocate(0, 0);
            pool.push(chunk, &key, 0).expect("an empty chunk")
        });
        index.insert(index.place(index.hash(key)), slot, &pool);
    }
    let sum = |work: fn(&super::Partition) -> u64| index.partitions.iter().map(work).sum::<u64>() as f64 / count as f64;
    (sum(super::Partition::passed), sum(super::Partition::confused))
}

/// Numbers that look random (the finaliser of `SplitMix64`).
fn mixed(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[test]
fn keys_that_somebody_chose_are_no_more_work_than_random_ones() {
    let count = std::env::var("ONCEWHEEL_HOSTILE_KEYS").ok().and_then(|keys| keys.parse().ok()).unwrap_or(KEYS);
    let hostile: [(&str, Pattern); 9] = [
        ("counters, which without a secret all have one hash", u128::from),
        ("counters in the high half, likewise", |n| u128::from(n) << 64),
        ("counters in the highest bits", |n| u128::from(n) << 100),
        ("both halves the same", |n| u128::from(n) << 64 | u128::from(n)),
        ("halves that are each other's complement", |n| u128::from(n) << 64 | u128::from(!n)),
        ("a shared prefix", |n| 0x6f6e_6365_7768_6565_6c00_0000_0000_0000 | u128::from(n)),
        ("a shared suffix", |n| u128::from(n) << 64 | 0x6f6e_6365_7768_6565),
        ("every fifth bit", |n| (0..24).fold(0, |bits, bit| bits | u128::from(n >> bit & 1) << (5 * bit))),
        ("a factor that is a power of two", |n| u128::from(n) << 64 | 1 << 63),
    ];
    let all = count;
    let at_scale = |key: Pattern| work(all, [mixed(1), mixed(2)], key);
    let count = count / SECRETS as usize;
    let of_all = |key: Pattern| -> Vec<(f64, f64)> {
        (0..SECRETS).map(|number| work(count, [mixed(2 * number), mixed(2 * number + 1)], key)).collect()
    };
    // Cache lines that a search reads: buckets, and the chunks of keys with the tag.
    let lines = |work: &[(f64, f64)]| {
        1.0 + work.iter().map(|(passed, confused)| passed + confused).sum::<f64>() / SECRETS as f64
    };
    let most = |work: &[(f64, f64)]| work.iter().map(|(passed, confused)| 1.0 + passed + confused).fold(0.0, f64::max);
    let any: Pattern = |n| u128::from(mixed(n)) << 64 | u128::from(mixed(!n));
    let random = of_all(any);
    let (passed, confused) = at_scale(any);
    let random_at_scale = 1.0 + passed + confused;
    println!("{count} random keys, {SECRETS} times: {:.4} lines read for each", lines(&random));
    for (name, key) in hostile {
        let work = of_all(key);
        println!("{name}: {:.4}, at most {:.4}", lines(&work), most(&work));
        assert!(lines(&work) <= 1.01 * lines(&random), "{name}: lines read");
        assert!(most(&work) <= 1.05 * most(&random), "{name}: lines read under the worst secret");
        let (passed, confused) = at_scale(key);
        assert!(1.0 + passed + confused <= 1.02 * random_at_scale, "{name}: lines read among {all} keys");
    }
}

/// A shard that got more keys than others would be full early, a partition would grow early.
#[test]
fn shards_and_partitions_get_equally_many_keys_independently() {
    const EACH: usize = 64;
    let hasher = IndexHasher::new([mixed(1), mixed(2)]);
    let mut cells = vec![0; EACH * EACH];
    for number in 0..100 * cells.len() as u128 {
        let hash = hasher.hash(Fingerprint::from_u128(number));
        cells[hash.shard(EACH) * EACH + hash.partition(EACH)] += 1;
    }
    let bits = (0..1_000).map(|number| hasher.hash(Fingerprint::from_u128(number)).bits());
    assert_eq!(bits.collect::<std::collections::HashSet<_>>().len(), 1_000);
    // The standard deviation is 10.
    assert!(cells.iter().all(|count| (50..150).contains(count)), "{cells:?}");
}

#[test]
fn memory_is_that_of_partitions_and_their_buckets() {
    let mut index = Index::new(100_000, IndexHasher::new([mixed(1), mixed(2)]));
    let mut pool = Pool::new();
    let empty = index.memory_bytes();
    assert_eq!(empty, index.partitions.len() * size_of::<super::Partition>());
    for number in 0..50_000 {
        let key = Fingerprint::from_u128(number);
        let chunk = pool.allocate(0, 0);
        let slot = pool.push(chunk, &key, 0).expect("an empty chunk");
        index.insert(index.place(index.hash(key)), slot, &pool);
    }
    let buckets: usize = index.partitions.iter().map(super::Partition::len).sum();
    assert_eq!(index.memory_bytes(), empty + 64 * buckets);
    assert!((5.0..6.6).contains(&(50_000.0 / buckets as f64)), "{buckets} buckets");
}
