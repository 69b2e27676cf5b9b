//! Turns of waiting readers: thousands that one change wakes are answered in slices, and whatever else comes in goes between them.
#![allow(clippy::disallowed_methods)] // one task hands turns out; it ends as soon as nobody waits for one

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

/// Readers that are at work at once; after so many, others get their turn: about a millisecond.
const SLICE: usize = 64;

/// Where readers get in line. Clones are the same line.
#[derive(Debug, Clone)]
pub(super) struct Turns(Arc<Mutex<Line>>);

#[derive(Debug)]
struct Line {
    /// Turns that are to be had without waiting.
    free: usize,
    /// In the order in which they came.
    waiting: VecDeque<Waker>,
    /// How many of all that ever waited have been called.
    called: u64,
    /// A task hands turns out.
    handing: bool,
}

/// One reader's number while it waits.
pub(super) type Number = Option<u64>;

impl Turns {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Line { free: SLICE, waiting: VecDeque::new(), called: 0, handing: false })))
    }

    /// Ready when it is this reader's turn, which is at once where few are awake. A turn is for one poll.
    pub(super) fn poll(&self, mine: &mut Number, context: &Context<'_>) -> Poll<()> {
        let mut line = self.lock();
        if let Some(number) = *mine {
            if number >= line.called {
                return Poll::Pending; // woken by something else; it stays in line
            }
            *mine = None;
            return Poll::Ready(());
        }
        if line.free == 0 {
            *mine = Some(line.called + line.waiting.len() as u64);
            line.waiting.push_back(context.waker().clone());
            return Poll::Pending;
        }
        line.free -= 1;
        if !std::mem::replace(&mut line.handing, true) {
            tokio::spawn(self.clone().hand_out());
        }
        Poll::Ready(())
    }

    /// A slice each time when all else that was ready has run.
    async fn hand_out(self) {
        loop {
            tokio::task::yield_now().await;
            let slice: Vec<Waker> = {
                let mut line = self.lock();
                if line.waiting.is_empty() {
                    line.free = SLICE;
                    line.handing = false;
                    return;
                }
                let count = line.waiting.len().min(SLICE);
                line.called += count as u64;
                line.waiting.drain(..count).collect()
            };
            slice.into_iter().for_each(Waker::wake);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Line> {
        self.0.lock().expect("no holder panics: numbers and handles are moved")
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// On one thread, with everybody woken at once: who comes later and is no reader is not behind all of them.
    #[tokio::test]
    async fn others_go_between_slices_of_readers() {
        const READERS: usize = 10 * SLICE;
        let (turns, answered) = (Turns::new(), Arc::new(AtomicUsize::new(0)));
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                let (turns, answered, mut mine) = (turns.clone(), answered.clone(), Number::None);
                tokio::spawn(async move {
                    poll_fn(|context| turns.poll(&mut mine, context)).await;
                    answered.fetch_add(1, Ordering::Relaxed);
                })
            })
            .collect();
        let seen = answered.clone();
        let other = tokio::spawn(async move { seen.load(Ordering::Relaxed) });
        let before = other.await.expect("it only looks");
        assert!(before <= 2 * SLICE, "{before} readers were answered first");
        for reader in readers {
            reader.await.expect("each gets its turn");
        }
        assert_eq!(answered.load(Ordering::Relaxed), READERS);
    }
}
