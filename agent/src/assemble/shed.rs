//! What the start alone needed is given back: pages of code that read files and flags, and of what they said.
#![allow(unsafe_code)] // madvise takes an address; it is given those of this program's own code, as the system lists them

use std::ffi::c_void;

/// Takes code and constants, the program's and its libraries', out of resident memory; what is used again comes back from the page
/// cache, a few pages at a time.
///
/// The start runs through nearly all of the program, some ten megabytes that the agent then never looks at.
pub(super) fn code() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/smaps") else { return };
    for (start, bytes) in untouched(&maps) {
        // SAFETY: a mapping of a file that nobody has written to holds nothing but the file: dropped pages are read from it again.
        let dropped = unsafe { libc::madvise(start as *mut c_void, bytes, libc::MADV_DONTNEED) };
        if dropped != 0 {
            tracing::debug!(error = %std::io::Error::last_os_error(), "code of the start stays in memory");
        }
    }
}

/// The places of code, as the system lists them, without those that have pages of this process' own: a loader, a debugger or a
/// library may have written there.
fn untouched(maps: &str) -> Vec<(usize, usize)> {
    let (mut found, mut place) = (Vec::new(), None);
    for line in maps.lines() {
        match line.strip_prefix("Anonymous:") {
            Some(own) if own.trim() == "0 kB" => found.extend(place.take()),
            Some(_) => {}
            // Lines that tell of a mapping begin with a capital, the mapping itself with its address.
            None if line.starts_with(|first: char| first.is_ascii_uppercase()) => {}
            None => place = code_of(line),
        }
    }
    found
}

/// The place of code, or of what lies before it in its file, if that is what the line lists.
fn code_of(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    // What lies behind the code may have been written by the loader (relocations), whatever its rights are now.
    let (rights, offset) = (words.next()?, words.next()?);
    let code = rights == "r-xp" || rights == "r--p" && offset.bytes().all(|digit| digit == b'0');
    // Device, inode, file; what the kernel itself lends has no path.
    if !code || !words.nth(2)?.starts_with('/') {
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
        assert_eq!(code_of("1000-3000 r-xp 00001000 fe:00 12 /bin/muster"), Some((0x1000, 0x2000)));
        assert_eq!(code_of("1000-3000 rw-p 00001000 fe:00 12 /bin/muster"), None);
        assert_eq!(code_of("1000-3000 r--p 00000000 fe:00 12 /bin/muster"), Some((0x1000, 0x2000)));
        assert_eq!(code_of("1000-3000 r--p 00001000 fe:00 12 /bin/muster"), None);
        assert_eq!(code_of("1000-3000 r-xp 00001000 fe:00 12 /lib/libc.so.6"), Some((0x1000, 0x2000)));
        assert_eq!(code_of("7ffc-7ffd r-xp 00000000 00:00 0 [vdso]"), None);
        assert_eq!(code_of("1000-3000 r-xp 00000000 00:00 0"), None);
        let written = "1000-3000 r-xp 00001000 fe:00 12 /bin/muster\nSize: 8 kB\nAnonymous: 4 kB\n";
        let other = "4000-5000 r-xp 00001000 fe:00 12 /lib/libc.so.6\nSize: 4 kB\nAnonymous: 0 kB\n5000-6000 rw-p 0 0:0 0\nAnonymous: 0 kB\n";
        assert_eq!(untouched(&format!("{written}{other}")), [(0x4000, 0x1000)]);
        code(); // and this program goes on
    }
}
