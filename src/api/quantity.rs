//! Durations and sizes as the API writes them: `10m`, `36h`, `64Mi`.
//!
//! Our own small parsers, because the crates at hand take more than the API promises: jiff reads
//! "2 hours ago" and calendar units, bytesize reads `64 mb`, and `Mi` only as `MiB`. What one
//! implementation accepts and the API server's pattern refuses would be two APIs.

use std::time::Duration;

/// The longest duration: ten years of 365 days. Anything longer is a typing error, and stays far from
/// overflow in every sum with a timestamp.
pub const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Why a text is no duration or size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Not of the form at all.
    #[error("`{text}` is not {wanted}")]
    Form {
        /// The text as given, cut to 64 characters.
        text: String,
        /// What was expected.
        wanted: &'static str,
    },
    /// Of the right form, but beyond what is representable or sensible.
    #[error("`{text}` is more than {limit}")]
    TooLarge {
        /// The text as given, cut to 64 characters.
        text: String,
        /// The limit, in words.
        limit: &'static str,
    },
}

fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Parses whole days, hours, minutes and seconds, each at most once and in that order: `10m`, `36h`,
/// `1h30m`, `30d`. A day is 24 hours. `0s` is a duration; whether zero makes sense is the field's
/// affair.
///
/// # Errors
/// Any other form, and more than [`MAX_DURATION`].
pub fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    let form =
        || QuantityError::Form { text: cut(text), wanted: "a duration like `30s`, `10m`, `36h`, `30d`" };
    let too_large = || QuantityError::TooLarge { text: cut(text), limit: "ten years" };
    let mut rest = text;
    let mut seconds: u64 = 0;
    for (unit, factor) in [('d', 86_400), ('h', 3_600), ('m', 60), ('s', 1)] {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let Some(after) = rest.get(digits..).and_then(|r| r.strip_prefix(unit)) else { continue };
        // Nine digits bound the number below u32::MAX, as the schema's pattern does.
        if !(1..=9).contains(&digits) {
            return Err(form());
        }
        let number: u64 = rest[..digits].parse().map_err(|_| form())?;
        seconds = number.checked_mul(factor).and_then(|s| s.checked_add(seconds)).ok_or_else(too_large)?;
        rest = after;
    }
    if !rest.is_empty() || text.is_empty() {
        return Err(form());
    }
    let duration = Duration::from_secs(seconds);
    if duration > MAX_DURATION { Err(too_large()) } else { Ok(duration) }
}

/// Prints a duration so that [`parse_duration`] gives it back: `36h`, `1h30m`, `0s`. Fractions of a
/// second are dropped. Days are not used, so that `36h` stays what the user wrote.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let mut text = String::new();
    for (unit, number) in [('h', seconds / 3600), ('m', seconds / 60 % 60), ('s', seconds % 60)] {
        if number > 0 {
            text.push_str(&number.to_string());
            text.push(unit);
        }
    }
    if text.is_empty() { "0s".into() } else { text }
}

/// Parses a whole number of bytes with an optional suffix: `k M G T P` (powers of 1000) or
/// `Ki Mi Gi Ti Pi` (powers of 1024). Gives bytes.
///
/// # Errors
/// Any other form (fractions included: `1536Mi` says what `1.5Gi` means), and more than `i64::MAX`
/// bytes, which is what the API server's integers hold.
pub fn parse_size(text: &str) -> Result<u64, QuantityError> {
    let form = || QuantityError::Form { text: cut(text), wanted: "a size like `64Mi`, `10G` or `1048576`" };
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let factor: u64 = match &text[digits..] {
        "" => 1,
        "k" => 1000,
        "M" => 1000_u64.pow(2),
        "G" => 1000_u64.pow(3),
        "T" => 1000_u64.pow(4),
        "P" => 1000_u64.pow(5),
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        "Pi" => 1 << 50,
        _ => return Err(form()),
    };
    if digits == 0 || digits > 19 {
        return Err(form());
    }
    let number: u64 = text[..digits].parse().map_err(|_| form())?;
    number
        .checked_mul(factor)
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| QuantityError::TooLarge { text: cut(text), limit: "8 EiB" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case("10m", 600)]
    #[case("36h", 129_600)]
    #[case("1h30m", 5_400)]
    #[case("30d", 2_592_000)]
    #[case("1d1h1m1s", 90_061)]
    #[case("0s", 0)]
    fn durations(#[case] text: &str, #[case] seconds: u64) {
        assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)));
    }

    #[rstest]
    #[case("")]
    #[case("10")]
    #[case("m")]
    #[case("-1h")]
    #[case("1.5h")]
    #[case("30m1h")]
    #[case("1h1h")]
    #[case("1h ")]
    #[case("99999d")]
    #[case("9999999999s")]
    #[case("1w")]
    fn not_durations(#[case] text: &str) {
        assert!(parse_duration(text).is_err());
    }

    #[rstest]
    #[case("64Mi", 64 << 20)]
    #[case("200M", 200_000_000)]
    #[case("1048576", 1_048_576)]
    #[case("1k", 1000)]
    #[case("8191Pi", 8191 << 50)]
    fn sizes(#[case] text: &str, #[case] bytes: u64) {
        assert_eq!(parse_size(text), Ok(bytes));
    }

    #[rstest]
    #[case("")]
    #[case("Mi")]
    #[case("1.5Gi")]
    #[case("64MB")]
    #[case("64 Mi")]
    #[case("8192Pi")]
    #[case("99999999999999999999")]
    #[case("64m")]
    #[case("-1")]
    #[case("6ö")]
    fn not_sizes(#[case] text: &str) {
        assert!(parse_size(text).is_err());
    }

    proptest! {
        #[test]
        fn durations_round_trip(seconds in 0..=MAX_DURATION.as_secs()) {
            let duration = Duration::from_secs(seconds);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn any_text_is_taken_or_refused(text in any::<String>()) {
            let _ = (parse_duration(&text), parse_size(&text));
        }
    }
}
