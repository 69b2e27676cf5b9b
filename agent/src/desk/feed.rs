//! Feeds: servers tell changes of the catalog to the agents that follow them, and a client keeps what it was told on its disk.
//!
//! A feed is a stream of frames (`muster_catalog::Batch`, `muster_catalog::Beat`); what carries it is nobody's matter here.
#![allow(dead_code, unused_imports)] // the assembly and the doors between agents will call it

mod disk;
mod follow;
mod metrics;
mod source;
#[cfg(test)]
mod tests;

pub(crate) use disk::DiskCopy;
pub(crate) use follow::{Age, Feed, FollowError, Follower, Following};
pub(crate) use source::{BEAT, Pulse, Source};
