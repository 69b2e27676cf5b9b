//! What the start alone needed is given back, and what something rare brought in: pages of code, and of what it says.
#![allow(unsafe_code)] // madvise takes an address; it is given those of this program's own code, as the system lists them

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Takes code and constants, the program's and its libraries', out of resident memory; what is used again comes back from the page
/// cache, a few pages at a time: some hundred faults of a microsecond each.
///
/// The start runs through nearly all of the program, some ten megabytes that the agent then never looks at.
pub(super) fn code() {
    let (Ok(maps), Ok(pages)) = (std::fs::read_to_string("/proc/self/maps"), File::open("/proc/self/pagemap")) else { return };
    for (start, bytes) in maps.lines().filter_map(code_of) {
        if !untouched(&pages, start, bytes).unwrap_or(false) {
            continue;
        }
        // SAFETY: a mapping of a file that nobody has written to holds nothing but the file: dropped pages are read from it again.
        let dropped = unsafe { libc::madvise(start as *mut c_void, bytes, libc::MADV_DONTNEED) };
        if dropped != 0 {
            tracing::debug!(error = %std::io::Error::last_os_error(), "code of the start stays in memory");
        }
    }
}

/// Whether a mapping of a file has no pages of this process' own: a loader, a debugger or a library may have written there.
fn untouched(pages: &File, start: usize, bytes: usize) -> io::Result<bool> {
    // Of each page the system tells in eight bytes whether it is there (bit 63), swapped out (62), and the file's (61).
    let page_bytes = rustix::param::page_size();
    let mut told = vec![0; bytes / page_bytes * 8];
    pages.read_exact_at(&mut told, (start / page_bytes * 8) as u64)?;
    let mut words = told.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("chunks of eight bytes")));
    Ok(words.all(|word| word >> 62 == 0 || word >> 61 == 0b101))
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
    use std::os::fd::AsRawFd;

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
    }

    #[test]
    fn a_page_that_was_written_is_told_from_one_that_was_only_read() {
        let bytes = rustix::param::page_size();
        let place = tempfile::NamedTempFile::new().expect("a directory for tests");
        std::fs::write(place.path(), vec![7; 2 * bytes]).expect("there is room");
        let file = File::open(place.path()).expect("it was just written");
        let rights = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping of a file that nobody shortens, given back nowhere.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), 2 * bytes, rights, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
        assert_ne!(start, libc::MAP_FAILED);
        let (page, pages) = (start.cast::<u8>(), File::open("/proc/self/pagemap").expect("a system with pages"));
        let is_untouched = || untouched(&pages, start as usize, 2 * bytes).expect("it is mapped");
        assert!(is_untouched());
        // SAFETY: it is within the mapping.
        assert_eq!(unsafe { page.read_volatile() }, 7);
        assert!(is_untouched());
        // SAFETY: it is within the mapping, which may be written.
        unsafe { page.add(bytes).write_volatile(8) };
        assert!(!is_untouched());
        code(); // and this program goes on
    }
}
