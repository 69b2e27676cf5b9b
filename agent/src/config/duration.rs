//! Go's text for durations, as Consul reads and prints them: `1m30s`, `1.5h`, `250ms`.

use std::time::Duration;

/// Why a text is no duration, in the words Go's clients know. Nothing was changed; the writer must mend the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DurationError {
    /// Not a sequence of numbers with units, or beyond ±292 years.
    #[error("time: invalid duration {0:?}")]
    Invalid(String),
    /// A number without a unit.
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    /// A unit that does not exist.
    #[error("time: unknown unit {1:?} in duration {0:?}")]
    UnknownUnit(String, String),
}

/// Longest text that is looked at: Go prints no duration longer than 25 bytes.
const TEXT_BYTES_MAX: usize = 256;

const NS: i128 = 1;
const US: i128 = 1_000;
const MS: i128 = 1_000_000;
const S: i128 = 1_000_000_000;

/// Reads a duration; signed nanoseconds, because Go's are, and some of Consul's refusals ask for the sign.
pub(crate) fn parse_ns(text: &str) -> Result<i64, DurationError> {
    let invalid = || DurationError::Invalid(text.chars().take(TEXT_BYTES_MAX).collect());
    if text.len() > TEXT_BYTES_MAX {
        return Err(invalid());
    }
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number = leading(rest, |b| b.is_ascii_digit() || b == b'.');
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 19 {
            return Err(invalid());
        }
        rest = &rest[number.len()..];
        let unit = leading(rest, |b| !b.is_ascii_digit() && b != b'.');
        if unit.is_empty() {
            return Err(DurationError::MissingUnit(text.to_owned()));
        }
        rest = &rest[unit.len()..];
        let scale = match unit {
            "ns" => NS,
            "us" | "µs" | "μs" => US,
            "ms" => MS,
            "s" => S,
            "m" => 60 * S,
            "h" => 3600 * S,
            other => return Err(DurationError::UnknownUnit(text.to_owned(), other.to_owned())),
        };
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        total += whole * scale + fraction_of(fraction, scale);
        if total > i128::from(i64::MAX) {
            return Err(invalid());
        }
    }
    let total = i64::try_from(total).map_err(|_| invalid())?;
    Ok(if negative { -total } else { total })
}

/// Reads a duration that may not be negative.
pub(crate) fn parse(text: &str) -> Result<Duration, DurationError> {
    let ns = parse_ns(text)?;
    u64::try_from(ns).map(Duration::from_nanos).map_err(|_| DurationError::Invalid(text.to_owned()))
}

/// Prints a duration as Go does: `1m0s`, `1.5s`, `250ms`, `0s`.
pub(crate) fn text(duration: Duration) -> String {
    let ns = duration.as_nanos();
    match ns {
        0 => "0s".to_owned(),
        1..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(ns, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(ns, 1_000_000)),
        _ => {
            let seconds = duration.as_secs();
            let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
            let rest = decimal(ns % 60_000_000_000, 1_000_000_000);
            match (hours, minutes) {
                (0, 0) => format!("{rest}s"),
                (0, _) => format!("{minutes}m{rest}s"),
                _ => format!("{hours}h{minutes}m{rest}s"),
            }
        }
    }
}

fn leading(text: &str, belongs: impl Fn(u8) -> bool) -> &str {
    let end = text.bytes().position(|b| !belongs(b)).unwrap_or(text.len());
    &text[..end]
}

/// The fraction `0.digits` of `scale`, rounded towards zero. Digits beyond the eighteenth are worth less than a nanosecond.
fn fraction_of(digits: &str, scale: i128) -> i128 {
    let (mut value, mut divisor) = (0, 1);
    for digit in digits.bytes().take(18) {
        value = value * 10 + i128::from(digit - b'0');
        divisor *= 10;
    }
    value * scale / divisor
}

fn decimal(ns: u128, unit: u128) -> String {
    let (whole, rest) = (ns / unit, ns % unit);
    if rest == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    format!("{whole}.{}", format!("{rest:0width$}").trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_mean_what_go_means_by_them() {
        for (text, ns) in [
            ("0", 0),
            ("0s", 0),
            ("10s", 10_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5s", 1_500_000_000),
            ("1.5h", 5_400_000_000_000),
            ("0.001s", 1_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("250ms", 250_000_000),
            ("7us", 7_000),
            ("7µs", 7_000),
            ("9ns", 9),
            ("-10s", -10_000_000_000),
            ("+1m", 60_000_000_000),
            ("87600h", 315_360_000_000_000_000),
        ] {
            assert_eq!(parse_ns(text), Ok(ns), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_in_gos_words() {
        let message = |text: &str| parse_ns(text).unwrap_err().to_string();
        assert_eq!(message("xyz"), r#"time: invalid duration "xyz""#);
        assert_eq!(message(""), r#"time: invalid duration """#);
        assert_eq!(message("10"), r#"time: missing unit in duration "10""#);
        assert_eq!(message("10x"), r#"time: unknown unit "x" in duration "10x""#);
        assert_eq!(message("1..5s"), r#"time: invalid duration "1..5s""#);
        assert_eq!(message("9999999h"), r#"time: invalid duration "9999999h""#);
        assert_eq!(message("-"), r#"time: invalid duration "-""#);
        assert!(parse("-1s").is_err());
    }

    #[test]
    fn durations_are_printed_as_go_prints_them() {
        for (duration, expected) in [
            (Duration::ZERO, "0s"),
            (Duration::from_secs(10), "10s"),
            (Duration::from_secs(60), "1m0s"),
            (Duration::from_millis(1500), "1.5s"),
            (Duration::from_secs(5400), "1h30m0s"),
            (Duration::from_millis(250), "250ms"),
            (Duration::from_micros(1500), "1.5ms"),
            (Duration::from_nanos(1500), "1.5µs"),
            (Duration::from_nanos(15), "15ns"),
            (Duration::from_millis(61_001), "1m1.001s"),
            (Duration::from_secs(259_200), "72h0m0s"),
        ] {
            assert_eq!(text(duration), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn what_is_printed_reads_back(ns in 0..i64::MAX as u64) {
            let duration = Duration::from_nanos(ns);
            proptest::prop_assert_eq!(parse(&text(duration)), Ok(duration));
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = parse_ns(&text);
        }
    }
}
