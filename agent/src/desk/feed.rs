//! Feeds: servers tell changes of the catalog to the agents that follow them, and a client keeps what it was told on its disk.
//!
//! A feed is a stream of frames (`muster_catalog::Batch`, `muster_catalog::Beat`); what carries it is nobody's matter here.

mod dial;
mod disk;
mod follow;
mod heard;
mod line;
mod metrics;
mod ring;
mod source;
#[cfg(test)]
mod tests;
mod wants;

pub(crate) use dial::{FeedRequest, over};
pub(crate) use disk::DiskCopy;
pub(crate) use follow::{Age, Follower, Following, Lost};
pub(crate) use heard::BEAT;
pub(crate) use source::{Pulse, Source};
pub(crate) use wants::Wants;

/// Rows above which work on them is not done between two answers of the same thread: some milliseconds.
const ROWS_INLINE_MAX: usize = 500;

/// Does work on this many rows; if they are many, other tasks of this thread are moved to another one first.
fn beside<T>(rows: usize, work: impl FnOnce() -> T) -> T {
    let threads = tokio::runtime::Handle::try_current().map(|runtime| runtime.runtime_flavor());
    match threads {
        Ok(tokio::runtime::RuntimeFlavor::MultiThread) if rows > ROWS_INLINE_MAX => tokio::task::block_in_place(work),
        _ => work(),
    }
}
