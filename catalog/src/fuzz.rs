//! What a fuzzer may throw at this crate: bytes from a log, from another agent, from a file. Built for tests and fuzzers alone.

use crate::{Intake, Proposal, State, Survey};

/// An entry of the log.
pub fn command(bytes: &[u8]) {
    if let Ok(proposal) = Proposal::decode(bytes) {
        let again = Proposal::decode(&proposal.encode());
        assert!(again.is_ok(), "what was read can be written and read again");
    }
}

/// Frames of a feed.
pub fn feed(bytes: &[u8]) {
    let mut intake = Intake::new();
    // frames of the lengths that the first bytes say, so that joins and cuts are tried too
    let mut rest = bytes;
    while let Some((&length, after)) = rest.split_first() {
        let (frame, left) = after.split_at(after.len().min(usize::from(length)));
        if intake.take(frame).is_err() {
            return;
        }
        rest = left;
    }
}

/// The rows of a snapshot.
pub fn rows(bytes: &[u8]) {
    let read = State::read_from(bytes);
    let surveyed = Survey::of(bytes, None);
    assert!(read.is_err() || surveyed.is_ok(), "what can be restored can be looked through");
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_corpus_is_read_without_a_panic() {
        crate::corpus::replay("command", super::command);
        crate::corpus::replay("feed", super::feed);
        crate::corpus::replay("rows", super::rows);
    }
}
