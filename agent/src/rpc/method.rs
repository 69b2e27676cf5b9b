//! What can be asked of another agent: the path that names it, the connection it takes, and how much it may carry.

use std::time::Duration;

use http::Uri;

/// Header with the milliseconds that the caller still waits.
pub(crate) const DEADLINE_HEADER: &str = "muster-deadline-ms";

/// Purposes that do not share a connection: what is long on one must not delay what is urgent on another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Class {
    /// Forwarded writes, queries, feeds.
    Main,
    /// Heartbeats, entries, votes.
    Raft,
    /// Snapshots of the log.
    Bulk,
}

/// What can be asked. The path is on the wire: never reuse one for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    /// Who are you; the first call on each connection.
    Hello,
    /// Are you there.
    Ping,
    /// Raft: entries and heartbeats.
    Append,
    /// Raft: a vote.
    Vote,
    /// Raft: would you vote.
    PreVote,
    /// Raft: a piece of a snapshot.
    Snapshot,
    /// Raft: take over.
    TransferLeader,
    /// Raft: the leader's port refuses.
    LeaderGone,
    /// Raft: how much of my log have you seen.
    SeenLog,
    /// The index that a read must have reached.
    ReadIndex,
    /// Commands that enter the log.
    Write,
    /// A question that travels.
    Query,
    /// Changes of the catalog, as they come.
    Feed,
    /// Something for this one agent to do.
    Order,
    /// A follower lives: sent once a second while it is fed.
    Beat,
    /// All of the catalog, for an operator.
    Save,
}

/// A registration with everything in it is a few KB; a key has at most 512 KB.
const KB: usize = 1 << 10;
const MB: usize = 1 << 20;

/// HTTP/2 wants an authority; which name it is means nothing to anybody.
const ORIGIN: &str = "http://muster";

/// Place, connection, longest body, longest time.
const TABLE: [(Method, &str, Class, usize, Duration); Method::COUNT] = [
    (Method::Hello, "http://muster/1/hello", Class::Main, 4 * KB, Duration::from_secs(5)),
    (Method::Ping, "http://muster/1/ping", Class::Raft, KB, Duration::from_secs(5)),
    // a read of the log ends at 1 MB or after one entry, and an entry has at most 8
    (Method::Append, "http://muster/1/raft/append", Class::Raft, 16 * MB, Duration::from_secs(30)),
    (Method::Vote, "http://muster/1/raft/vote", Class::Raft, 4 * KB, Duration::from_secs(5)),
    (Method::PreVote, "http://muster/1/raft/pre-vote", Class::Raft, 4 * KB, Duration::from_secs(5)),
    (Method::Snapshot, "http://muster/1/raft/snapshot", Class::Bulk, 2 * MB, Duration::from_secs(60)),
    (Method::TransferLeader, "http://muster/1/raft/transfer-leader", Class::Raft, 4 * KB, Duration::from_secs(5)),
    (Method::LeaderGone, "http://muster/1/raft/leader-gone", Class::Raft, 4 * KB, Duration::from_secs(5)),
    (Method::SeenLog, "http://muster/1/raft/seen-log", Class::Raft, 4 * KB, Duration::from_secs(5)),
    (Method::ReadIndex, "http://muster/1/read-index", Class::Main, 4 * KB, Duration::from_secs(60)),
    (Method::Write, "http://muster/1/write", Class::Main, 16 * MB, Duration::from_secs(60)),
    (Method::Query, "http://muster/1/query", Class::Main, MB, Duration::from_secs(700)),
    (Method::Feed, "http://muster/1/feed", Class::Main, 64 * KB, Duration::from_secs(60)),
    (Method::Order, "http://muster/1/order", Class::Main, MB, Duration::from_secs(60)),
    (Method::Beat, "http://muster/1/beat", Class::Main, KB, Duration::from_secs(5)),
    (Method::Save, "http://muster/1/save", Class::Bulk, 4 * KB, Duration::from_secs(60)),
];

impl Method {
    /// How many there are.
    pub(super) const COUNT: usize = 16;

    /// The method of a path, if there is one.
    pub(crate) fn of(path: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.0.path() == path).map(|row| row.0)
    }

    fn row(self) -> &'static (Method, &'static str, Class, usize, Duration) {
        &TABLE[self as usize]
    }

    /// Its name on the wire.
    pub(crate) fn path(self) -> &'static str {
        &self.row().1[ORIGIN.len()..]
    }

    /// Where a request for it goes.
    pub(super) fn uri(self) -> Uri {
        Uri::from_static(self.row().1)
    }

    /// Whose connection it takes.
    pub(crate) fn class(self) -> Class {
        self.row().2
    }

    /// Longest body of the question.
    pub(crate) fn body_bytes_max(self) -> usize {
        self.row().3
    }

    /// Longest time the peer works on it, whatever the caller says. A stream of frames is not bounded by it.
    pub(crate) fn time_max(self) -> Duration {
        self.row().4
    }

    /// Raft's own: only servers may ask it, and only a voter's log answers.
    pub(crate) fn is_raft(self) -> bool {
        self.path().starts_with("/1/raft/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_has_one_path() {
        use Method::*;
        let all = [
            Hello,
            Ping,
            Append,
            Vote,
            PreVote,
            Snapshot,
            TransferLeader,
            LeaderGone,
            SeenLog,
            ReadIndex,
            Write,
            Query,
            Feed,
            Order,
            Beat,
            Save,
        ];
        assert_eq!(all.len(), TABLE.len());
        for method in all {
            assert_eq!(TABLE[method as usize].0, method, "the table is in the order of the methods");
            assert_eq!(Method::of(method.path()), Some(method));
            assert_eq!(method.uri().path(), method.path());
        }
        assert_eq!(Method::of("/1/nothing"), None);
    }
}
