//! The doors: where somebody knocks.

pub(crate) mod http;
pub(crate) mod peer;
