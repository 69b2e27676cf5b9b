//! How long a connection waits for a request's head.
//!
//! hyper asks for a timer before each head and drops it when the head is there. To take one from the runtime and give it back is a
//! tenth of what tokio does for a look-up; so a connection keeps one, which is set anew when it rings, not with each request.
#![allow(clippy::disallowed_methods)] // the test is timed

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};
use tokio::time::Sleep as Kept;

/// The timer of one connection, for waits that each end later than the one before: it rings no later than the last of them.
#[derive(Debug)]
pub(super) struct Patience(Arc<Mutex<Pin<Box<Kept>>>>);

impl Patience {
    /// For waits of this length.
    pub(super) fn new(length: Duration) -> Self {
        Self(Arc::new(Mutex::new(Box::pin(tokio::time::sleep(length)))))
    }
}

impl Timer for Patience {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Wait { deadline, timer: self.0.clone() })
    }
}

/// One wait.
struct Wait {
    deadline: Instant,
    timer: Arc<Mutex<Pin<Box<Kept>>>>,
}

impl Sleep for Wait {}

impl Future for Wait {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut timer = self.timer.lock().unwrap_or_else(PoisonError::into_inner);
        while timer.as_mut().poll(context).is_ready() {
            if timer.deadline().into_std() >= self.deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(self.deadline.into());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_wait_has_its_whole_time_however_long_the_timer_ran_before() {
        const LENGTH: Duration = Duration::from_millis(300);
        const PART: Duration = Duration::from_millis(200);
        let patience = Patience::new(LENGTH);
        let begun = Instant::now();
        for _ in 0..3 {
            tokio::time::timeout(PART, patience.sleep(LENGTH)).await.ok(); // a head came before
        }
        patience.sleep(LENGTH).await;
        assert!(begun.elapsed() >= 3 * PART + LENGTH);
    }
}
