//! The doors: where somebody knocks.

pub(crate) mod http;
