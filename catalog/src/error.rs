//! What can be wrong with bytes that should be a command, a snapshot or a feed, and with what a feed says.

use crate::row::Index;

/// A proposal could not be read from the log. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Fewer bytes than an envelope has.
    #[error("entry is too short to be a command")]
    Short,
    /// Written by a newer version of muster; upgrade this one.
    #[error("entry has envelope version {0}, this version of muster reads 1")]
    Envelope(u8),
    /// A kind of command that this version does not know.
    #[error("entry is of unknown kind {tag}")]
    UnknownCommand {
        /// Its number.
        tag: u16,
        /// Whether whoever wrote it allows leaving it out.
        skippable: bool,
    },
    /// The body is not what the tag promises.
    #[error("entry cannot be read: {0}")]
    Body(String),
}

/// A snapshot could not be read. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file or stream failed.
    #[error("snapshot cannot be read")]
    Io(#[from] std::io::Error),
    /// The bytes are no snapshot, are cut short, or were altered.
    #[error("snapshot is damaged at byte {offset}: {what}")]
    Damaged {
        /// Where.
        offset: u64,
        /// What was found.
        what: String,
    },
    /// Written by a newer version of muster; upgrade this one.
    #[error("snapshot has version {0}, this version of muster reads 1")]
    Version(u16),
}

/// Bytes of a feed could not be read. Nothing was changed; the feed is of no use any more, another one is.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// Not a record, or not one that this version knows: the server is newer, or the bytes were altered.
    #[error("the feed cannot be read: {0}")]
    Record(String),
    /// One batch is larger than any catalog.
    #[error("a batch of the feed is larger than {0} bytes")]
    TooLarge(usize),
}

/// A batch does not follow on what is there. Nothing was changed; the follower asks to be continued from where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnterError {
    /// Changes before it are missing.
    #[error("the feed goes on at {from}, this catalog stands at {at}")]
    Gap {
        /// From where on it can be entered.
        from: Index,
        /// Where this catalog is.
        at: Index,
    },
    /// It is of another history, and not all of that.
    #[error("the feed is of another history")]
    History,
    /// Everything, but as it was before: a server that lags behind sent it.
    #[error("the feed leads back to {to}, this catalog stands at {at}")]
    Backwards {
        /// Where it would lead.
        to: Index,
        /// Where this catalog is.
        at: Index,
    },
}
