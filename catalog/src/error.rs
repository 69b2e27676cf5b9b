//! What can be wrong with bytes that should be a command or a snapshot.

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
