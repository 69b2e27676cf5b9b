//! Conversations as futures under virtual time: polled when something they wait for has happened, on no runtime.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::node::Side;
use super::{What, World, nanos};
use crate::core::Core;

pub(super) type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Why nothing came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lost {
    /// Nobody listens there.
    Refused,
    /// The other side broke off, or did not make sense.
    Broken,
    /// Nothing came in time.
    Silent,
    /// The process that asked has ended.
    Gone,
}

/// What conversations stand on: the world, and a place for new ones.
#[derive(Clone)]
pub(super) struct Ground {
    world: Rc<RefCell<World>>,
    born: Rc<RefCell<Vec<Task>>>,
}

/// Conversations that go on.
#[derive(Default)]
pub(super) struct Tasks {
    live: BTreeMap<u64, Task>,
    count: u64,
}

impl Tasks {
    /// Begins what is new, and what begins by that.
    pub(super) fn begin(&mut self, ground: &Ground) {
        loop {
            let born = std::mem::take(&mut *ground.born.borrow_mut());
            if born.is_empty() {
                return;
            }
            for task in born {
                self.count += 1;
                self.poll(self.count, task, ground);
            }
        }
    }

    /// One of them goes on, if it is still there.
    pub(super) fn wake(&mut self, number: u64, ground: &Ground) {
        if let Some(task) = self.live.remove(&number) {
            self.poll(number, task, ground);
        }
    }

    fn poll(&mut self, number: u64, mut task: Task, ground: &Ground) {
        ground.world().task = number;
        if task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            self.live.insert(number, task);
        }
    }
}

impl Ground {
    pub(super) fn new(world: World) -> Self {
        Self { world: Rc::new(RefCell::new(world)), born: Rc::default() }
    }

    /// The world, for one look: nobody holds it across a wait.
    pub(super) fn world(&self) -> RefMut<'_, World> {
        self.world.borrow_mut()
    }

    pub(super) fn begin(&self, task: impl Future<Output = ()> + 'static) {
        self.born.borrow_mut().push(Box::pin(task));
    }

    pub(super) async fn sleep(&self, time: u64) {
        let due = {
            let mut world = self.world();
            let (due, task) = (world.now.saturating_add(time), world.task);
            world.plan(due, What::Wake(task));
            due
        };
        poll_fn(|_| if self.world().now >= due { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    /// Does it, if it does not take longer than that.
    pub(super) async fn within<T>(&self, time: Duration, work: impl Future<Output = Result<T, Lost>>) -> Result<T, Lost> {
        let (mut work, mut sleep) = (pin!(work), pin!(self.sleep(nanos(time))));
        poll_fn(|cx| {
            if let Poll::Ready(result) = work.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            sleep.as_mut().poll(cx).map(|()| Err(Lost::Silent))
        })
        .await
    }

    /// Calls a core as soon as its process has the CPU.
    pub(super) async fn with<R>(&self, side: Side, act: impl FnOnce(&mut Core, Instant) -> R) -> Result<R, Lost> {
        loop {
            let wait = {
                let world = self.world();
                if !world.runs(side) {
                    return Err(Lost::Gone);
                }
                world.nodes[side.node].runs_at(world.now) - world.now
            };
            if wait == 0 {
                break;
            }
            self.sleep(wait).await;
        }
        self.world().call(side.node, act).ok_or(Lost::Gone)
    }
}

/// Does all of it at once.
pub(super) async fn all<T>(works: Vec<Pin<Box<dyn Future<Output = T> + '_>>>) -> Vec<T> {
    let mut works: Vec<_> = works.into_iter().map(Ok).collect::<Vec<Result<_, T>>>();
    poll_fn(|cx| {
        let mut pending = false;
        for work in &mut works {
            if let Ok(future) = work {
                match future.as_mut().poll(cx) {
                    Poll::Ready(value) => *work = Err(value),
                    Poll::Pending => pending = true,
                }
            }
        }
        if pending { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    works.into_iter().filter_map(Result::err).collect()
}

/// One value from one task to another.
pub(super) struct Slot<T>(Rc<RefCell<(Option<T>, Option<u64>)>>);

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Slot<T> {
    pub(super) fn new() -> Self {
        Self(Rc::new(RefCell::new((None, None))))
    }

    pub(super) fn fill(&self, ground: &Ground, value: T) {
        let mut slot = self.0.borrow_mut();
        slot.0 = Some(value);
        if let Some(task) = slot.1.take() {
            let mut world = ground.world();
            let now = world.now;
            world.plan(now, What::Wake(task));
        }
    }

    pub(super) async fn value(&self, ground: &Ground) -> T {
        poll_fn(|_| {
            let mut slot = self.0.borrow_mut();
            match slot.0.take() {
                Some(value) => Poll::Ready(value),
                None => {
                    slot.1 = Some(ground.world().task);
                    Poll::Pending
                }
            }
        })
        .await
    }
}
