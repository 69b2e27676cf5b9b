//! The names under which feeds are measured.

use std::sync::LazyLock;

use metrics::{Counter, Gauge};

/// Gauge, ms: how old what this agent answers with can be.
pub(super) const AGE: &str = "feed.age";
/// Counter: batches of changes that this agent entered.
pub(super) const BATCHES: &str = "feed.batches";
/// Counter: rows that this agent was told of.
pub(super) const CHANGES: &str = "feed.changes";
/// Gauge: whether this agent follows a server at the moment.
pub(super) const CONNECTED: &str = "feed.connected";
/// Counter: bytes written to this agent's own copy.
pub(super) const COPY_BYTES: &str = "feed.copy.bytes";
/// Counter: times the copy was written anew as a whole.
pub(super) const COPY_REWRITES: &str = "feed.copy.rewrites";
/// Counter: batches that this server made, each for all its followers.
pub(super) const ENCODED: &str = "feed.encoded";
/// Counter: bytes of those.
pub(super) const ENCODED_BYTES: &str = "feed.encoded.bytes";
/// Gauge: agents that follow this server.
pub(super) const FOLLOWERS: &str = "feed.followers";
/// Gauge: services that this agent's copy holds because they were asked for.
pub(super) const INTEREST_SERVICES: &str = "feed.interest.services";
/// Counter: services that left the copy because others were asked for since.
pub(super) const INTEREST_DROPPED: &str = "feed.interest.dropped";
/// Gauge: the last log index that this agent's catalog has.
pub(super) const POSITION: &str = "feed.position";
/// Counter: bytes that arrived on feeds.
pub(super) const RECEIVED_BYTES: &str = "feed.received.bytes";
/// Counter: times a feed went on where another ended.
pub(super) const RESUMES: &str = "feed.resumes";
/// Counter: times this server looked through its tables for a follower.
pub(super) const SCANS: &str = "feed.scans";
/// Counter: bytes handed to followers.
pub(super) const SENT_BYTES: &str = "feed.sent.bytes";
/// Counter: times this agent got everything.
pub(super) const SNAPSHOTS: &str = "feed.snapshots";

/// Handles to what a server records.
pub(super) struct SourceMeters {
    pub(super) encoded: Counter,
    pub(super) encoded_bytes: Counter,
    pub(super) followers: Gauge,
    pub(super) scans: Counter,
    pub(super) sent_bytes: Counter,
}

/// Handles to what a copy records that does not hold everything.
pub(super) struct InterestMeters {
    pub(super) dropped: Counter,
    pub(super) services: Gauge,
}

/// Handles to what a follower records.
pub(super) struct FollowMeters {
    pub(super) age: Gauge,
    pub(super) batches: Counter,
    pub(super) changes: Counter,
    pub(super) connected: Gauge,
    pub(super) copy_bytes: Counter,
    pub(super) copy_rewrites: Counter,
    pub(super) position: Gauge,
    pub(super) received_bytes: Counter,
    pub(super) resumes: Counter,
    pub(super) snapshots: Counter,
}

/// First used when the first agent follows.
pub(super) static SOURCE: LazyLock<SourceMeters> = LazyLock::new(|| SourceMeters {
    encoded: metrics::counter!(ENCODED),
    encoded_bytes: metrics::counter!(ENCODED_BYTES),
    followers: metrics::gauge!(FOLLOWERS),
    scans: metrics::counter!(SCANS),
    sent_bytes: metrics::counter!(SENT_BYTES),
});

/// First used where a copy does not hold everything.
pub(super) static INTEREST: LazyLock<InterestMeters> = LazyLock::new(|| InterestMeters {
    dropped: metrics::counter!(INTEREST_DROPPED),
    services: metrics::gauge!(INTEREST_SERVICES),
});

/// First used when this agent begins to follow.
pub(super) static FOLLOW: LazyLock<FollowMeters> = LazyLock::new(|| FollowMeters {
    age: metrics::gauge!(AGE),
    batches: metrics::counter!(BATCHES),
    changes: metrics::counter!(CHANGES),
    connected: metrics::gauge!(CONNECTED),
    copy_bytes: metrics::counter!(COPY_BYTES),
    copy_rewrites: metrics::counter!(COPY_REWRITES),
    position: metrics::gauge!(POSITION),
    received_bytes: metrics::counter!(RECEIVED_BYTES),
    resumes: metrics::counter!(RESUMES),
    snapshots: metrics::counter!(SNAPSHOTS),
});
