use super::*;
use proptest::prelude::*;
use rstest::rstest;

fn locality(text: &str) -> Locality {
    text.parse().unwrap()
}

#[rstest]
#[case("", "can't be empty")]
#[case("eu-west1", "tier `eu-west1` of locality `eu-west1` is not `key=value`")]
#[case("region=a=b", "is not `key=value`")]
#[case("region=eu,", "tier `` of locality `region=eu,`")]
#[case("region=eu west", "value `eu west` of locality")]
#[case("region=", "value `` of locality")]
#[case("=eu", "key `` of locality")]
#[case("region=-eu", "value `-eu`")]
#[case(" region=eu", "key ` region`")]
#[case("region=eu,region=us", "names the tier `region` twice")]
#[case("region=größe", "value `größe`")]
#[case("a=1,b=1,c=1,d=1,e=1,f=1,g=1,h=1,i=1", "has 9 tiers")]
fn refuses_and_says_what_is_wrong(#[case] text: &str, #[case] expected: &str) {
    let message = text.parse::<Locality>().unwrap_err().to_string();
    assert!(message.contains(expected), "{message}");
}

#[test]
fn a_text_past_the_bound_is_refused_without_being_repeated() {
    let text = "x".repeat(1 << 20);
    assert!(text.parse::<Locality>().unwrap_err().to_string().len() < 100);
}

#[test]
fn the_longest_prefix_wins_and_strict_refuses_by_name() {
    let (eu, eu_b) = (locality("region=eu"), locality("region=eu,zone=b"));
    let destinations = [("eu", Some(&eu), true), ("eu-b", Some(&eu_b), false)];
    let choose = |text: &str, policy| choose_destination(&destinations, Some(&locality(text)), policy);
    let by = |name, because| Ok(Choice { name, because });
    assert_eq!(choose("region=eu,zone=a", LocalityPolicy::Strict), by("eu", Because::LongestPrefix));
    assert_eq!(choose("region=eu,zone=b", LocalityPolicy::Strict), by("eu-b", Because::LongestPrefix));
    assert_eq!(choose("region=eu,zone=b,rack=1", LocalityPolicy::Strict), by("eu-b", Because::LongestPrefix));
    assert_eq!(choose("region=us", LocalityPolicy::Default), by("eu", Because::PolicyDefault));
    let refused = choose("region=us", LocalityPolicy::Strict).unwrap_err().to_string();
    assert!(refused.contains("`region=us`") && refused.contains("eu-b (region=eu,zone=b)"), "{refused}");
    assert_eq!(
        choose_destination(&destinations, None, LocalityPolicy::Strict),
        by("eu", Because::NoLocality)
    );
}

#[test]
fn a_destination_without_a_locality_takes_none_by_matching() {
    let destinations = [("only", None, true)];
    let wanted = locality("region=eu");
    assert!(choose_destination(&destinations, Some(&wanted), LocalityPolicy::Strict).is_err());
    let choice = choose_destination(&destinations, Some(&wanted), LocalityPolicy::Default).unwrap();
    assert_eq!(choice.because, Because::PolicyDefault);
}

#[test]
fn the_key_order_counts() {
    assert!(!locality("zone=b").is_prefix_of(&locality("region=eu,zone=b")));
    assert!(!locality("region=eu1").is_prefix_of(&locality("region=eu1x")));
}

prop_compose! {
    // Few keys and values, so that prefixes, ties and misses all happen.
    fn any_locality()(values in prop::collection::vec("[ab]", 1..5)) -> Locality {
        let tiers: Vec<_> = values.iter().enumerate().map(|(i, v)| format!("t{i}={v}")).collect();
        locality(&tiers.join(","))
    }
}

proptest! {
    #[test]
    fn any_text_parses_or_is_refused_and_printing_is_inverse(text in ".{0,80}") {
        if let Ok(parsed) = text.parse::<Locality>() {
            prop_assert_eq!(parsed.to_string(), text);
        }
    }

    #[test]
    fn what_is_built_from_label_parts_round_trips(
        tiers in prop::collection::btree_map(
            "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?",
            "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?",
            1..=MAX_TIERS,
        )
    ) {
        let text = tiers.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",");
        prop_assert!(text.len() <= MAX_TEXT);
        prop_assert_eq!(text.parse::<Locality>().unwrap().to_string(), text);
    }

    #[test]
    fn prefix_is_a_partial_order(a in any_locality(), b in any_locality(), c in any_locality()) {
        prop_assert!(a.is_prefix_of(&a));
        prop_assert!(!(a.is_prefix_of(&b) && b.is_prefix_of(&a)) || a == b);
        prop_assert!(!(a.is_prefix_of(&b) && b.is_prefix_of(&c)) || a.is_prefix_of(&c));
    }

    #[test]
    fn the_choice_is_the_longest_prefix_whatever_the_order(
        declared in prop::collection::btree_set(any_locality(), 1..6),
        wanted in any_locality(),
        rotation in 0usize..6,
    ) {
        let declared: Vec<_> = declared.into_iter().collect();
        let names: Vec<_> = declared.iter().map(ToString::to_string).collect();
        let mut destinations: Vec<_> =
            declared.iter().enumerate().map(|(i, l)| (names[i].as_str(), Some(l), i == 0)).collect();
        destinations.rotate_left(rotation % declared.len());
        let expected = declared.iter().filter(|d| d.is_prefix_of(&wanted)).max_by_key(|d| d.tiers().len());
        let strict = choose_destination(&destinations, Some(&wanted), LocalityPolicy::Strict);
        let lenient = choose_destination(&destinations, Some(&wanted), LocalityPolicy::Default).unwrap();
        match expected {
            Some(longest) => {
                let longest = longest.to_string();
                prop_assert_eq!(strict.unwrap().name, longest.as_str());
                prop_assert_eq!(lenient.name, longest.as_str());
            }
            None => {
                prop_assert!(strict.is_err());
                prop_assert_eq!(lenient, Choice { name: &names[0], because: Because::PolicyDefault });
            }
        }
    }
}
