//! What all threads and connections see.
#![allow(clippy::disallowed_methods)] // the shell reads the clock for the core

use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use muster_catalog::Reader;

use crate::config::Settings;

/// The rows, the settings, and whether it is over.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) reader: Reader,
    pub(super) settings: ArcSwap<Settings>,
    pub(super) stopped: AtomicBool,
}

/// Seconds since 1970 as far as 32 bits go, and on from 0: serials are compared that way (RFC 1982).
pub(super) fn unix_seconds() -> u32 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs() as u32)
}
