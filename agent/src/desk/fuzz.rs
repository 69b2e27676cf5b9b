//! What a fuzzer may throw at the desk: snapshots, and the bodies of calls that end here.

use super::archive::Archive;

/// A file of a snapshot.
pub fn snapshot(bytes: &[u8]) {
    if let Ok(archive) = Archive::open(bytes) {
        drop(archive.survey(None));
    }
}

/// The body of a call.
pub(crate) fn call(kind: u8, bytes: &[u8]) {
    match kind % 2 {
        0 => drop(super::travel::read::<super::travel::Letter>(bytes)),
        _ => drop(super::travel::read::<super::servers::Change>(bytes)),
    }
}
