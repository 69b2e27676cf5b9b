//! Many datagrams in one system call: `recvmmsg` and `sendmmsg`.
#![allow(unsafe_code)] // the only way to these calls; every pointer handed over lives in the `Batch` that makes the call

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::ptr;

use socket2::{SockAddr, SockAddrStorage, Socket};

use super::later::Origin;
use crate::bounds::UDP_BYTES_MAX;

/// Datagrams taken at once: one pair of system calls for all that wait, while the last of them waits for 63 answers at most, which
/// is some ten microseconds of work.
pub(crate) const BATCH: usize = 64;
/// Bytes of a query that are read; a longer one is broken. What fits an Ethernet frame.
const QUERY_BYTES_MAX: usize = 1500;
/// Bytes of answers that wait to be sent: one of the longest behind a batch of usual ones. When less than the longest is left,
/// they are sent at once.
const ARENA_BYTES: usize = UDP_BYTES_MAX + BATCH * 1232;
/// Room for the address that a datagram was sent to, which is its answer's sender.
const CONTROL_BYTES: usize = 64;
/// Answers begin where a cache line does.
const LINE: usize = 64;

/// Room for control messages, aligned as the system reads them.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_BYTES]);

/// Queries of one call, and the answers to them.
pub(crate) struct Batch {
    queries: Box<[[u8; QUERY_BYTES_MAX]]>,
    peers: Box<[libc::sockaddr_storage]>,
    controls: Box<[Control]>,
    received: Box<[libc::mmsghdr]>,
    count: usize,
    arena: Box<[u8]>,
    used: usize,
    /// Of each answer: its query, and where it stands in the arena.
    answers: Vec<(usize, usize, usize)>,
}

impl Batch {
    pub(crate) fn new() -> Self {
        // SAFETY: all three are plain C structures for which zeros are a value (no address, null pointers, no length).
        let (peer, header) = unsafe { (std::mem::zeroed::<libc::sockaddr_storage>(), std::mem::zeroed::<libc::mmsghdr>()) };
        Self {
            queries: vec![[0; QUERY_BYTES_MAX]; BATCH].into_boxed_slice(),
            peers: vec![peer; BATCH].into_boxed_slice(),
            controls: vec![Control([0; CONTROL_BYTES]); BATCH].into_boxed_slice(),
            received: vec![header; BATCH].into_boxed_slice(),
            count: 0,
            arena: vec![0; ARENA_BYTES].into_boxed_slice(),
            used: 0,
            answers: Vec::with_capacity(BATCH),
        }
    }

    /// Waits for a datagram, as long as the socket's timeout says, and takes what else is there.
    pub(crate) fn receive(&mut self, socket: &Socket, with_destination: bool) -> io::Result<usize> {
        (self.count, self.used) = (0, 0);
        self.answers.clear();
        let mut parts = [const { libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 } }; BATCH];
        for (at, part) in parts.iter_mut().enumerate() {
            *part = libc::iovec { iov_base: self.queries[at].as_mut_ptr().cast(), iov_len: QUERY_BYTES_MAX };
            let header = &mut self.received[at].msg_hdr;
            header.msg_name = (&raw mut self.peers[at]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_iov = part;
            header.msg_iovlen = 1;
            if with_destination {
                header.msg_control = self.controls[at].0.as_mut_ptr().cast();
                header.msg_controllen = CONTROL_BYTES as _;
            }
            header.msg_flags = 0;
        }
        // SAFETY: each of the BATCH headers points to one part, one peer and, if any, one control buffer, all alive and ours
        // alone until the call returns, with their true lengths.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.received.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_WAITFORONE as _,
                ptr::null_mut(),
            )
        };
        self.count = usize::try_from(count).map_err(|_| io::Error::last_os_error())?.min(BATCH);
        Ok(self.count)
    }

    /// Who sent it; `None` if the system did not say.
    pub(crate) fn peer(&self, at: usize) -> Option<IpAddr> {
        let peer = &self.peers[..self.count][at];
        match i32::from(peer.ss_family) {
            libc::AF_INET => {
                // SAFETY: the family says what the storage holds, and the storage is large enough and aligned for any address.
                let peer = unsafe { &*(&raw const *peer).cast::<libc::sockaddr_in>() };
                Some(Ipv4Addr::from(peer.sin_addr.s_addr.to_ne_bytes()).into())
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let peer = unsafe { &*(&raw const *peer).cast::<libc::sockaddr_in6>() };
                Some(Ipv6Addr::from(peer.sin6_addr.s6_addr).into())
            }
            _ => None,
        }
    }

    /// Where a datagram's answer goes, later; `None` if the system did not say.
    pub(super) fn origin(&self, at: usize) -> Option<Origin> {
        self.peer(at)?;
        let received = &self.received[..self.count][at].msg_hdr;
        let mut control = self.controls[at];
        #[allow(clippy::unnecessary_cast)] // another number with musl
        let length = if received.msg_control.is_null() { 0 } else { (received.msg_controllen as usize).min(CONTROL_BYTES) };
        if length > 0 {
            answer_from_there(&mut control.0);
        }
        let mut storage = SockAddrStorage::zeroed();
        // SAFETY: the storage is the system's own, of which any bytes are a value; the system filled it with an address of that
        // length, as its family says.
        let peer = unsafe {
            *storage.view_as::<libc::sockaddr_storage>() = self.peers[at];
            SockAddr::new(storage, received.msg_namelen)
        };
        Some(Origin { peer, control: control.0[..length].into() })
    }

    /// A query of the last [`Batch::receive`], empty if it was longer than any query, and where its answer is to be written.
    pub(crate) fn slot(&mut self, at: usize) -> (&[u8], &mut [u8]) {
        let header = &self.received[..self.count][at];
        let whole = header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
        let length = if whole { (header.msg_len as usize).min(QUERY_BYTES_MAX) } else { 0 };
        (&self.queries[at][..length], &mut self.arena[self.used..])
    }

    /// Keeps what was written to the slot of query `at` as its answer.
    pub(crate) fn keep(&mut self, at: usize, bytes: usize) {
        self.answers.push((at, self.used, bytes.min(self.arena.len() - self.used)));
        self.used = (self.used + bytes).next_multiple_of(LINE).min(self.arena.len());
    }

    /// Whether another answer of any length has room.
    pub(crate) fn has_room(&self) -> bool {
        self.arena.len() - self.used >= UDP_BYTES_MAX
    }

    /// Sends what is kept: how many could not be sent. Those are lost, as datagrams may be.
    pub(crate) fn send(&mut self, socket: &Socket) -> usize {
        let mut parts = [const { libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 } }; BATCH];
        // SAFETY: zeros are a value of this C structure.
        let mut headers = [const { unsafe { std::mem::zeroed::<libc::mmsghdr>() } }; BATCH];
        let count = self.answers.len().min(BATCH);
        for (number, &(at, start, bytes)) in self.answers.iter().take(BATCH).enumerate() {
            let answer = &mut self.arena[start..start + bytes];
            parts[number] = libc::iovec { iov_base: answer.as_mut_ptr().cast(), iov_len: bytes };
            let received = &self.received[at].msg_hdr;
            let header = &mut headers[number].msg_hdr;
            header.msg_name = (&raw mut self.peers[at]).cast();
            header.msg_namelen = received.msg_namelen;
            header.msg_iov = &raw mut parts[number];
            header.msg_iovlen = 1;
            if received.msg_controllen > 0 && !received.msg_control.is_null() {
                answer_from_there(&mut self.controls[at].0);
                header.msg_control = self.controls[at].0.as_mut_ptr().cast();
                header.msg_controllen = received.msg_controllen;
            }
        }
        let (mut sent, mut lost) = (0, 0);
        while sent < count {
            let rest = &mut headers[sent..count];
            // SAFETY: each header points to one part, one peer and, if any, one control buffer that the system itself filled,
            // all alive and ours alone until the call returns, with their true lengths.
            let done = unsafe {
                libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as libc::c_uint, libc::MSG_NOSIGNAL as _)
            };
            match usize::try_from(done) {
                Ok(done) if done > 0 => sent += done,
                _ if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                // The first of the rest cannot be sent: on to the next.
                _ => (sent, lost) = (sent + 1, lost + 1),
            }
        }
        self.answers.clear();
        self.used = 0;
        lost
    }
}

/// Turns what the system told of a datagram's way into what it is to do with the answer: the address that the datagram was sent
/// to becomes the sender, and any interface will do (IPv6 wants its own for link-local addresses).
fn answer_from_there(control: &mut [u8; CONTROL_BYTES]) {
    const DATA: usize = size_of::<libc::cmsghdr>();
    const LINK_LOCAL: [u8; 2] = [0xfe, 0x80];
    // The layout of cmsghdr: a length, then level and type, an int each, before the data.
    let int = |at: usize| i32::from_ne_bytes([control[at], control[at + 1], control[at + 2], control[at + 3]]);
    match (int(DATA - 8), int(DATA - 4)) {
        // in_pktinfo: interface, our address as routed, the address in the header.
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            control.copy_within(DATA + 8..DATA + 12, DATA + 4);
            control[DATA..DATA + 4].fill(0);
        }
        // in6_pktinfo: the address, interface.
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if !control[DATA..].starts_with(&LINK_LOCAL) => {
            control[DATA + 16..DATA + 20].fill(0);
        }
        _ => {}
    }
}

/// Has the system tell to which address of ours each datagram was sent: on a wildcard address, the answer must come from there.
pub(crate) fn tell_destinations(socket: &Socket, ipv6: bool) -> io::Result<()> {
    let on: libc::c_int = 1;
    let (level, option) = if ipv6 { (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO) } else { (libc::IPPROTO_IP, libc::IP_PKTINFO) };
    // SAFETY: the value is an int that lives as long as the call, with its true length.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), size_of::<libc::c_int>() as libc::socklen_t)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
