use proptest::prelude::*;
use rstest::rstest;

use super::*;

fn clock(text: &str, zone: &str) -> Clock {
    Clock::new(text, zone).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Ticks from `from` on, up to `to`.
fn ticks(clock: &Clock, from: &str, to: &str) -> Vec<String> {
    let (mut now, to) = (at(from), at(to));
    let mut all = Vec::new();
    while let Some(tick) = clock.after(now).filter(|tick| *tick <= to) {
        all.push(tick.to_string());
        now = tick;
    }
    all
}

/// The table of docs/schedules.md, row by row. Berlin leaps on 2026-03-29 from 02:00 to 03:00 (01:00 UTC), and back
/// on 2026-10-25 from 03:00 to 02:00 (01:00 UTC).
#[rstest]
#[case::named_hour_is_skipped("30 2 * * *", "2026-03-28T12:00:00Z", &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"])]
#[case::several_times_of_the_skipped_hour("*/15 2 * * *", "2026-03-28T12:00:00Z", &["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"])]
#[case::every_second_hour("0 */2 * * *", "2026-03-28T22:30:00Z", &["2026-03-28T23:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"])]
#[case::two_named_hours_of_which_one_is_skipped("0 2,3 * * *", "2026-03-28T12:00:00Z", &["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"])]
#[case::every_hour_in_spring("0 * * * *", "2026-03-28T23:30:00Z", &["2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"])]
#[case::half_past_every_hour_in_spring("30 * * * *", "2026-03-28T23:45:00Z", &["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"])]
#[case::named_hour_is_doubled("30 2 * * *", "2026-10-24T12:00:00Z", &["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"])]
#[case::several_times_of_the_doubled_hour("*/30 2 * * *", "2026-10-24T12:00:00Z", &["2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-26T01:00:00Z"])]
#[case::every_second_hour_in_autumn("0 */2 * * *", "2026-10-24T21:30:00Z", &["2026-10-24T22:00:00Z", "2026-10-25T00:00:00Z", "2026-10-25T03:00:00Z"])]
#[case::every_hour_in_autumn("0 * * * *", "2026-10-24T23:30:00Z", &["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z", "2026-10-25T02:00:00Z"])]
#[case::every_half_hour_in_autumn("*/30 * * * *", "2026-10-24T23:45:00Z", &["2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:00:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:00:00Z"])]
#[case::other_hours("0 5 * * *", "2026-03-28T12:00:00Z", &["2026-03-29T03:00:00Z", "2026-03-30T03:00:00Z"])]
fn leaps_of_the_wall_clock(#[case] text: &str, #[case] from: &str, #[case] wanted: &[&str]) {
    let clock = clock(text, "Europe/Berlin");
    assert_eq!(ticks(&clock, from, wanted.last().unwrap()), wanted);
    // Backwards, the same ones.
    let mut moment = at(wanted.last().unwrap());
    for tick in wanted.iter().rev() {
        assert_eq!(clock.at_or_before(moment), Some(at(tick)));
        moment = at(tick) - SignedDuration::from_secs(1);
    }
}

/// Half an hour (Lord Howe), and a whole day (Apia, which had no 30 December 2011).
#[test]
fn leaps_that_are_no_hour() {
    let howe = clock("15 2 * * *", "Australia/Lord_Howe");
    let spring = ticks(&howe, "2026-10-03T00:00:00Z", "2026-10-04T00:00:00Z");
    assert_eq!(spring, ["2026-10-03T15:30:00Z"], "02:15 is left out: 02:30, right after the leap");
    let apia = clock("0 2 * * *", "Pacific/Apia");
    assert_eq!(
        ticks(&apia, "2011-12-29T13:00:00Z", "2011-12-31T00:00:00Z"),
        ["2011-12-30T10:00:00Z", "2011-12-30T12:00:00Z"],
        "the day that was left out, and the one after it"
    );
}

#[rstest]
#[case("@hourly", "2026-01-01T01:00:00Z", 3600)]
#[case("@daily", "2026-01-02T00:00:00Z", 86_400)]
#[case("@midnight", "2026-01-02T00:00:00Z", 86_400)]
#[case("@weekly", "2026-01-04T00:00:00Z", 7 * 86_400)]
#[case("@monthly", "2026-02-01T00:00:00Z", 28 * 86_400)]
#[case("@yearly", "2027-01-01T00:00:00Z", 365 * 86_400)]
#[case("@annually", "2027-01-01T00:00:00Z", 365 * 86_400)]
#[case("*/5 9-17 * * 1-5", "2026-01-01T09:00:00Z", 300)]
#[case("0 2,14 * * *", "2026-01-01T02:00:00Z", 43_200)]
#[case("0 0 29 2 *", "2028-02-29T00:00:00Z", 4 * 365 * 86_400 + 86_400)]
#[case("0 12 * JAN mon", "2026-01-05T12:00:00Z", 7 * 86_400)]
fn expressions(#[case] text: &str, #[case] next: &str, #[case] interval: u64) {
    let clock = clock(text, "UTC");
    assert_eq!(clock.after(at("2026-01-01T00:00:00Z")), Some(at(next)));
    assert_eq!(clock.interval(), Duration::from_secs(interval));
}

#[rstest]
#[case("0 0 30 2 *", "UTC", "`0 0 30 2 *` never comes: no calendar has such a day")]
#[case("0 0 31 4,6,9,11 *", "UTC", "`0 0 31 4,6,9,11 *` never comes: no calendar has such a day")]
#[case("@daily", "Europe/Berin", "there is no time zone `Europe/Berin`")]
#[case("@daily", "", "there is no time zone ``")]
fn refused(#[case] text: &str, #[case] zone: &str, #[case] why: &str) {
    assert_eq!(Clock::new(text, zone).unwrap_err().to_string(), why);
}

#[rstest]
#[case("60 * * * *")]
#[case("* 24 * * *")]
#[case("* * 0 * *")]
#[case("* * * 13 *")]
#[case("* * * * 8")]
#[case("0 0 * * * *")]
#[case("0 0 0 * * * 2027")]
#[case("* * * *")]
#[case("x * * * *")]
#[case("@reboot")]
#[case("@every 5m")]
#[case("5-1 * * * *")]
#[case("*/0 * * * *")]
#[case("")]
fn malformed(#[case] text: &str) {
    let error = Clock::new(text, "UTC").unwrap_err();
    assert!(matches!(error, ClockError::Malformed { .. }), "{error}");
}

fn expression() -> impl Strategy<Value = String> {
    let minute = prop_oneof!["\\*", "[1-5]?[0-9]", "\\*/(5|7|15|20|30)"];
    let hour = prop_oneof!["\\*", "1?[0-9]|2[0-3]", "\\*/(2|3|6)", "[0-3]-[4-9]"];
    let day = prop_oneof!["\\*", "[1-9]|1[0-9]|2[0-8]"];
    (minute, hour, day, prop_oneof!["\\*", "[0-6]"]).prop_map(|(m, h, d, w)| format!("{m} {h} {d} * {w}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Forwards and backwards are one sequence, and every tick of a plain day is on the wall clock as written.
    #[test]
    fn both_ways_give_the_same_ticks(
        text in expression(),
        zone in prop::sample::select(vec!["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
        start in 1_700_000_000_i64..1_900_000_000,
    ) {
        let clock = clock(&text, zone);
        let mut now = Timestamp::from_second(start).unwrap();
        prop_assert!(clock.at_or_before(now).is_some_and(|tick| tick <= now));
        for _ in 0..40 {
            let Some(tick) = clock.after(now) else { break };
            prop_assert!(tick > now);
            prop_assert_eq!(clock.at_or_before(tick), Some(tick));
            let before = tick - SignedDuration::from_secs(1);
            prop_assert_eq!(clock.after(before), Some(tick), "nothing lies between");
            prop_assert_eq!(clock.at_or_before(before), clock.at_or_before(now).max(Some(now).filter(|now| clock.at_or_before(*now) == Some(*now))));
            now = tick;
        }
    }

    /// No text makes it panic or run for ever.
    #[test]
    fn any_text_is_a_clock_or_refused(text in "[-0-9*/,LW#?+@a-z ]{0,24}", zone in "[A-Za-z/]{0,16}") {
        let _ = (Clock::new(&text, "UTC"), Clock::new("@daily", &zone));
    }
}
