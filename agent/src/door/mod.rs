//! The doors: where somebody knocks.

pub(crate) mod dns;
pub(crate) mod http;
pub(crate) mod peer;
