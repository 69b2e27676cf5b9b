//! What the start alone needed is given back: pages of code that read files and flags, and of what they said.
#![allow(unsafe_code)] // madvise takes an address; it is given those of this program's own code, as the system lists them

use std::ffi::c_void;

/// Takes the program's code and constants out of resident memory; what is used again comes back from the page cache, a few pages at
/// a time.
///
/// The start runs through nearly all of the program, some ten megabytes that the agent then never looks at.
pub(super) fn code() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    let Some(program) = std::env::current_exe().ok().and_then(|path| path.to_str().map(str::to_owned)) else { return };
    for (start, bytes) in maps.lines().filter_map(|line| code_of(line, &program)) {
        // SAFETY: a mapping of a file that cannot be written holds nothing but the file: dropped pages are read from it again.
        let dropped = unsafe { libc::madvise(start as *mut c_void, bytes, libc::MADV_DONTNEED) };
        if dropped != 0 {
            tracing::debug!(error = %std::io::Error::last_os_error(), "code of the start stays in memory");
        }
    }
}

/// The place of the program's code, or of what lies before it in the file, if that is what the line lists.
fn code_of(line: &str, program: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    // Never written, by nobody: pages that the loader has written to (relocations) are behind the code.
    let (rights, offset) = (words.next()?, words.next()?);
    let untouched = rights == "r-xp" || rights == "r--p" && offset.bytes().all(|digit| digit == b'0');
    if !untouched || !line.ends_with(program) {
        return None;
    }
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    Some((start, end.checked_sub(start)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_writes_is_given_back() {
        let place = |line: &str| code_of(line, "/bin/muster");
        assert_eq!(place("1000-3000 r-xp 00001000 fe:00 12 /bin/muster"), Some((0x1000, 0x2000)));
        assert_eq!(place("1000-3000 rw-p 00001000 fe:00 12 /bin/muster"), None);
        assert_eq!(place("1000-3000 r--p 00000000 fe:00 12 /bin/muster"), Some((0x1000, 0x2000)));
        assert_eq!(place("1000-3000 r--p 00001000 fe:00 12 /bin/muster"), None);
        assert_eq!(place("1000-3000 r-xp 00001000 fe:00 12 /lib/libc.so.6"), None);
        assert_eq!(place("7ffc-7ffd r-xp 00000000 00:00 0 [vdso]"), None);
        code(); // and this program goes on
    }
}
