//! What this crate counts, by name. Threads count for themselves and tell once a batch.

use std::time::Duration;

use metrics::{Counter, Histogram, Unit};

use crate::bounds::Tally;
use crate::wire::kind;

/// How long an answer takes, by the type asked for: in milliseconds, as Consul's timers are.
const QUERY: &str = "dns.query";
/// Packets that were no query we can read.
const MALFORMED: &str = "dns.malformed";
/// Answers that hold less than there is.
const TRUNCATED: &str = "dns.truncated";
/// Answers out of rows that nobody vouched for.
const STALE: &str = "dns.stale_queries";
/// Answers that could not be sent.
const UNSENT: &str = "dns.unsent";

/// Tells the recorder what the names mean.
pub fn describe() {
    metrics::describe_histogram!(
        QUERY,
        Unit::Milliseconds,
        "How long a DNS answer takes on average of its batch, by type, in milliseconds"
    );
    metrics::describe_counter!(MALFORMED, Unit::Count, "Packets that were no DNS query, or a broken one");
    metrics::describe_counter!(TRUNCATED, Unit::Count, "DNS answers shortened to what the asker takes");
    metrics::describe_counter!(STALE, Unit::Count, "DNS answers out of rows that no server vouched for");
    metrics::describe_counter!(UNSENT, Unit::Count, "DNS answers that could not be sent");
}

/// The types told apart; the last is all others.
const KINDS: [&str; 9] = ["A", "AAAA", "SRV", "ANY", "TXT", "PTR", "NS", "SOA", "other"];

fn position(asked_kind: u16) -> usize {
    match asked_kind {
        kind::A => 0,
        kind::AAAA => 1,
        kind::SRV => 2,
        kind::ANY => 3,
        kind::TXT => 4,
        kind::PTR => 5,
        kind::NS => 6,
        kind::SOA => 7,
        _ => 8,
    }
}

/// One thread's or connection's counts, and the handles they go to.
#[derive(Clone)]
pub(crate) struct Meters {
    kinds: [usize; KINDS.len()],
    malformed: u64,
    trimmed: u64,
    query: [Histogram; KINDS.len()],
    told_malformed: Counter,
    told_trimmed: Counter,
    told_unsent: Counter,
    told_stale: Counter,
}

impl Meters {
    pub(crate) fn new() -> Self {
        Self {
            kinds: [0; KINDS.len()],
            malformed: 0,
            trimmed: 0,
            query: KINDS.map(|kind| metrics::histogram!(QUERY, "type" => kind)),
            told_malformed: metrics::counter!(MALFORMED),
            told_trimmed: metrics::counter!(TRUNCATED),
            told_unsent: metrics::counter!(UNSENT),
            told_stale: metrics::counter!(STALE),
        }
    }

    /// Counts what became of a packet.
    pub(crate) fn tally(&mut self, tally: Tally) {
        match tally {
            Tally::Whole(asked_kind) => self.kinds[position(asked_kind)] += 1,
            Tally::Trimmed(asked_kind) => {
                self.kinds[position(asked_kind)] += 1;
                self.trimmed += 1;
            }
            Tally::Malformed => self.malformed += 1,
            Tally::Beyond => {} // counted when it is answered
        }
    }

    /// Counts answers that could not be sent.
    pub(crate) fn lost(&self, answers: usize) {
        if answers > 0 {
            self.told_unsent.increment(answers as u64);
        }
    }

    /// Counts answers out of rows that nobody vouches for.
    pub(crate) fn stale(&self, answers: usize) {
        if answers > 0 {
            self.told_stale.increment(answers as u64);
        }
    }

    /// Tells what was counted since the last time: a batch, and how long it took.
    pub(crate) fn flush(&mut self, took: Duration) {
        let packets = self.kinds.iter().sum::<usize>() + self.malformed as usize;
        let each = took.as_secs_f64() * 1e3 / packets.max(1) as f64;
        for (count, query) in self.kinds.iter_mut().zip(&self.query) {
            if *count > 0 {
                query.record_many(each, *count);
                *count = 0;
            }
        }
        for (count, told) in [(&mut self.malformed, &self.told_malformed), (&mut self.trimmed, &self.told_trimmed)] {
            if *count > 0 {
                told.increment(*count);
                *count = 0;
            }
        }
    }
}
