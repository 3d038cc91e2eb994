//! The simulated queue, at a scale that fits every change.

use oncewheel_simulate as simulated;

/// Deliveries over all scenarios.
const DELIVERIES: u64 = 1_000_000;

#[test]
fn in_a_million_simulated_deliveries_no_event_takes_effect_twice_or_is_lost() {
    let scenarios = simulated::all(1);
    let each = DELIVERIES / 40; // enough for each to show what it is there for
    let run = |scenario| {
        let tally = simulated::run(scenario, 1, each, false)?;
        simulated::shows(scenario, &tally)
    };
    let failures: Vec<_> = scenarios.iter().filter_map(|scenario| run(scenario).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn in_settings_drawn_at_random_no_event_takes_effect_twice_or_is_lost() {
    let mut shown = [0; 6];
    for seed in 2..32 {
        let scenarios = simulated::all(seed);
        let drawn = scenarios.last().expect("there are scenarios");
        let tally = simulated::run(drawn, seed, DELIVERIES / 50, false).unwrap_or_else(|failure| panic!("{failure}"));
        let doubled = &tally.doubled;
        let signs = [
            tally.stalls,
            tally.crashes,
            doubled.restart,
            doubled.taken_over,
            tally.library.expired,
            tally.library.rejected_watermarks,
        ];
        shown.iter_mut().zip(signs).for_each(|(shown, sign)| *shown += sign);
    }
    assert!(shown.iter().all(|sign| *sign > 0), "the drawn settings do not show everything: {shown:?}");
}

/// The README's table.
#[test]
fn on_the_same_deliveries_a_wall_clock_processes_twice_what_the_watermark_does_not() {
    let mut twice_by_time_to_live = 0;
    for (name, scenario) in simulated::compared() {
        let tally = simulated::run(&scenario, 1, DELIVERIES / 5, true).unwrap_or_else(|failure| panic!("{failure}"));
        let [first, second, third] = tally.rivals;
        assert_eq!((tally.doubled.sum(), tally.dead_lettered), (0, 0), "{name}");
        assert_eq!(first.twice, 0, "it holds keys longer, and loses none: {name}");
        assert!(first.keys_max >= tally.keys_max, "{name}");
        if name.contains("stalled") {
            assert!(second.twice > 0, "{name}");
        }
        twice_by_time_to_live += third.twice;
    }
    assert!(twice_by_time_to_live > 0);
}
