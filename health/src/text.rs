//! Texts of outputs: cut, decoded, and worded as programs that read them expect.

use std::time::Duration;

/// The first bytes of a text, and how much there was; cut between characters.
pub(crate) fn head(text: String, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text;
    }
    let end = text.floor_char_boundary(bytes_max);
    format!("{} ... (captured {end} of {} bytes)", &text[..end], text.len())
}

/// The last bytes of a stream, in memory of at most twice that.
#[derive(Debug)]
pub(crate) struct Tail {
    bytes: Vec<u8>,
    bytes_max: usize,
    total: u64,
}

impl Tail {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), bytes_max, total: 0 }
    }

    pub(crate) fn push(&mut self, more: &[u8]) {
        self.total += more.len() as u64;
        let more = &more[more.len().saturating_sub(self.bytes_max)..];
        self.bytes.extend_from_slice(more);
        if self.bytes.len() > self.bytes_max.saturating_mul(2) {
            self.drop_front();
        }
    }

    /// How many bytes came in all.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// What was kept, and a line of how much there was if that is more.
    pub(crate) fn text(mut self) -> String {
        self.drop_front();
        let text = String::from_utf8_lossy(&self.bytes);
        let kept = self.bytes.len();
        if self.total > kept as u64 { format!("Captured {kept} of {} bytes\n...\n{text}", self.total) } else { text.into_owned() }
    }

    fn drop_front(&mut self) {
        self.bytes.drain(..self.bytes.len().saturating_sub(self.bytes_max));
    }
}

/// What `%41` stands for.
pub(crate) fn percent_decoded(text: &str) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let hex = after.get(..2).filter(|_| byte == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(value) => {
                decoded.push(value);
                rest = &after[2..];
            }
            None => {
                decoded.push(byte);
                rest = after;
            }
        }
    }
    decoded
}

/// A duration as Go writes it: `1m30s`, `1.5s`, `500ms`.
pub(crate) fn duration(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        return match duration.as_nanos() {
            0 => "0s".to_owned(),
            nanos @ 1..1_000 => format!("{nanos}ns"),
            nanos @ 1_000..1_000_000 => format!("{}µs", nanos as f64 / 1e3),
            nanos => format!("{}ms", nanos as f64 / 1e6),
        };
    }
    let (hours, minutes) = (duration.as_secs() / 3600, duration.as_secs() / 60 % 60);
    let seconds = match duration.subsec_nanos() {
        0 => format!("{}s", duration.as_secs() % 60),
        nanos => format!("{}.{}s", duration.as_secs() % 60, format!("{nanos:09}").trim_end_matches('0')),
    };
    match (hours, minutes) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

/// An error of the system as C and Go word it, without number and capital: `connection refused`.
pub(crate) fn system(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split_once(" (os error ").map_or(text.as_str(), |(text, _)| text);
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(letters).collect(),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_report_keeps_its_beginning() {
        assert_eq!(head("xxxxx".into(), 5), "xxxxx");
        assert_eq!(head("xxxxxy".into(), 5), "xxxxx ... (captured 5 of 6 bytes)");
        assert_eq!(head("äöü".into(), 3), "ä ... (captured 2 of 6 bytes)");
    }

    #[test]
    fn a_long_output_keeps_its_end_in_bounded_memory() {
        let mut tail = Tail::new(4);
        for n in 0..1000u32 {
            tail.push(n.to_string().as_bytes());
            assert!(tail.bytes.len() <= 8);
        }
        tail.push(b"0123456789");
        assert_eq!(tail.text(), "Captured 4 of 2900 bytes\n...\n6789");
        let mut short = Tail::new(4);
        short.push(b"abcd");
        assert_eq!(short.text(), "abcd");
    }

    #[test]
    fn durations_are_worded_as_go_does() {
        let worded = [
            (0, "0s"),
            (1_500, "1.5µs"),
            (500_000_000, "500ms"),
            (1_000_000_000, "1s"),
            (1_500_000_000, "1.5s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
        ];
        for (nanos, text) in worded {
            assert_eq!(duration(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn system_errors_are_worded_as_go_does() {
        assert_eq!(system(&std::io::Error::from_raw_os_error(111)), "connection refused");
        assert_eq!(system(&std::io::Error::from_raw_os_error(2)), "no such file or directory");
    }
}
