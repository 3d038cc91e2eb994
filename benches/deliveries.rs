//! The tracker of deliveries, which stands in the path of each: received and confirmed, with 10,000
//! outstanding. One iteration is one delivery.

use criterion::{Bencher, Criterion, Throughput};
use oncewheel::{DeliveryTracker, MinMsgTime, Timestamp};
use std::hint::black_box;

const OUTSTANDING: u64 = 10_000;
/// Workers finish out of order by less than this.
const WINDOW: u64 = 32;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("deliveries");
    group.throughput(Throughput::Elements(1));
    group.bench_function("in_order", |bencher| run::<1>(bencher, |_| 0, |number| number));
    group.bench_function("nearly_in_order", |bencher| run::<1>(bencher, |_| 0, nearly_in_order));
    group.bench_function("times_run_backwards", |bencher| {
        run::<1>(bencher, |number| number % 2 * 2_000, nearly_in_order);
    });
    group.bench_function("16_partitions_in_turn", |bencher| run::<16>(bencher, |_| 0, nearly_in_order));
}

/// Each window in an order of its own: 5 is odd, so this visits all of it.
fn nearly_in_order(number: u64) -> u64 {
    number / WINDOW * WINDOW + number * 5 % WINDOW
}

fn run<const PARTITIONS: u64>(bencher: &mut Bencher<'_>, behind: fn(u64) -> u64, confirmed: fn(u64) -> u64) {
    let mut tracker = DeliveryTracker::new();
    for partition in 0..PARTITIONS {
        tracker.assigned(partition);
    }
    let receive = |tracker: &mut DeliveryTracker<u64>, number: u64| {
        let time = Timestamp::from_millis(1_000_000 + number - behind(number));
        tracker.received(&(number % PARTITIONS), number / PARTITIONS, time);
    };
    (0..OUTSTANDING).for_each(|number| receive(&mut tracker, number));
    let mut number = 0;
    bencher.iter(|| {
        receive(&mut tracker, number + OUTSTANDING);
        let confirmed = confirmed(number);
        assert!(tracker.confirmed(&(confirmed % PARTITIONS), confirmed / PARTITIONS), "it was received");
        number += 1;
        // A consumer asks once a second; here once in a thousand deliveries.
        if number.is_multiple_of(1_000) {
            assert_ne!(black_box(tracker.min_msg_time()), MinMsgTime::Unknown);
        }
    });
}
