//! Replays the corpus of a fuzz target, and changes of it: always the same ones, so that a failure is found again.

use std::path::Path;

/// Changes of each file: seconds for a whole corpus, in a build for tests.
const CHANGES: u64 = 24;

/// Runs `target` on every file of `fuzz/corpus/<name>`, whole and changed.
pub(crate) fn replay(name: &str, target: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
    let mut paths: Vec<_> = std::fs::read_dir(folder).expect("a corpus").map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    assert!(paths.len() >= 12, "{name}: {} files", paths.len());
    for path in paths {
        let bytes = std::fs::read(&path).expect("a file of the corpus");
        target(&bytes);
        for seed in 0..CHANGES {
            target(&changed(&bytes, seed));
        }
    }
}

/// A few bytes flipped, set, cut out or said twice.
fn changed(bytes: &[u8], seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut draw = |below: usize| {
        // xorshift64: any sequence will do that is always the same
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + draw(4) {
        let at = draw(bytes.len());
        match draw(5) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << draw(8),
            1 if !bytes.is_empty() => bytes[at] = [0, 0x7f, 0x80, 0xff, b'"', b'{', b'%', b'\n'][draw(8)],
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..(at + draw(8)).min(bytes.len()))),
            _ => {
                let piece = bytes[at..(at + draw(64)).min(bytes.len())].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}
