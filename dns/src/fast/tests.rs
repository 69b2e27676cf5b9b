//! What the hot path promises beside its answers: it allocates nothing.
#![allow(unsafe_code)] // an allocator that counts, for this crate's unit tests alone

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use super::*;
use crate::bounds::Tally;
use crate::config::{Config, Settings};
use crate::elsewhere::UNTOLD;
use crate::respond::respond;
use crate::testing::{Ask, Catalog, NEAR};

struct Counting;

thread_local!(static COUNT: Cell<usize> = const { Cell::new(0) });

// SAFETY: everything is the system allocator's work; counting touches a thread-local number that needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_look_up_allocates_nothing() {
    let mut catalog = Catalog::new();
    for number in 0..200 {
        let node = format!("n{number}");
        let meta = [("rack", "r1")];
        catalog.node(&node, &format!("192.0.2.{number}"), &meta).instance(&node, "web", "web", "", 80, &["v1"], "passing");
        if number < 9 {
            catalog.instance(&node, "own", "own", &format!("2001:db8::{number}"), 80, &[], "passing");
        }
    }
    let settings = Settings::new(&Config::default()).expect("a good configuration");
    let view = View { state: catalog.store.state(), settings: &settings, now: 1, stale: false, too_old: false, told: &UNTOLD };
    let (mut scratch, mut out) = (Scratch::new(1), vec![0; 65_535]);
    for name in
        ["WEB.service.Consul", "v1.web.service.dc1.consul", "_web._tcp.service.consul", "own.service.consul", "no.service.CONSUL"]
    {
        for (asked_kind, edns) in [(1, None), (1, Some(1232)), (255, Some(1232)), (33, None), (33, Some(4096)), (28, Some(512))] {
            let packet = Ask { edns, ..Ask::new(name, asked_kind) }.packet();
            let mut ask = || respond(&packet, NEAR, view, &mut scratch, &mut out);
            // The first time, scratch grows and addresses are parsed.
            for _ in 0..2000 {
                ask();
            }
            let before = COUNT.get();
            let answered = ask();
            assert_eq!(COUNT.get() - before, 0, "{name} {asked_kind} {edns:?}");
            assert!(answered.bytes > 60 && answered.tally != Tally::Malformed);
        }
    }
}
