//! [`Family`]: the threads that somebody waits for as a whole, and cancels as a whole: those of a scope, of a race, of a set.
//!
//! A member is added before it can run and removes itself as the last thing it does; so when a
//! family is empty, nothing that its members have borrowed is in use any more. That is what makes
//! scoped threads sound, and [`spawn_borrowing`] relies on it.

use std::io;
use std::panic::Location;
use std::sync::Arc;

use slab::Slab;

use super::{Builder, assert_inside};
use crate::lock::Lock;
use crate::park::{self, Mode, Wait};
use crate::scheduler::claim::Wake;
use crate::scheduler::task::{Body, Reason, Start, TaskRef};
use crate::scheduler::wait_list::WaitList;
use crate::scheduler::worker;

/// Threads that are waited for and cancelled together.
#[derive(Default)]
pub(super) struct Family(Lock<State>);

#[derive(Default)]
struct State {
    /// `None` for one that is being made.
    members: Slab<Option<TaskRef>>,
    /// Where the family was cancelled: who comes later is cancelled at once.
    cancelled: Option<&'static Location<'static>>,
    /// Who waits for it to be empty.
    waiting: WaitList,
}

impl Family {
    fn reserve(&self) -> usize {
        self.0.lock().members.insert(None)
    }

    fn add(&self, key: usize, task: TaskRef) {
        let mut state = self.0.lock();
        let cancelled = state.cancelled;
        state.members[key] = Some(task.clone());
        drop(state);
        if let Some(at) = cancelled {
            worker::cancel(&task, at);
        }
    }

    fn remove(&self, key: usize) {
        let mut state = self.0.lock();
        let task = state.members.remove(key);
        if state.members.is_empty() {
            state.waiting.wake_all();
        }
        drop(state);
        drop(task);
    }

    /// Cancels all members, and those that are still to come. Returns whether there are any.
    pub(super) fn cancel(&self, at: &'static Location<'static>) -> bool {
        let mut state = self.0.lock();
        state.cancelled.get_or_insert(at);
        let members: Vec<TaskRef> = state
            .members
            .iter()
            .filter_map(|(_, task)| task.clone())
            .collect();
        let any = !state.members.is_empty();
        drop(state);
        for task in members {
            worker::cancel(&task, at);
        }
        any
    }

    /// Whether the calling green thread is a member.
    pub(super) fn includes_caller(&self) -> bool {
        let is_member = |task: &TaskRef| {
            self.0.lock().members.iter().any(|(_, member)| {
                member
                    .as_ref()
                    .is_some_and(|member| Arc::ptr_eq(member, task))
            })
        };
        worker::with(|_, task| is_member(task)) == Some(true)
    }

    /// Forgets that the family was cancelled: who comes later is not.
    pub(super) fn pardon(&self) {
        self.0.lock().cancelled = None;
    }

    /// Waits until there are no members. If the caller is cancelled, so are they, and it goes on
    /// waiting; then it returns `true`.
    pub(super) fn wait(&self, at: &'static Location<'static>) -> bool {
        let mut mode = Mode::Observing;
        let mut cancelled = false;
        loop {
            let mut empty = false;
            let wake = park::park(Reason::Scope, None, mode, |wait: &Wait<'_>| {
                let mut state = self.0.lock();
                empty = state.members.is_empty();
                if empty {
                    return None;
                }
                state.waiting.push(wait.waiter());
                Some(|wait: &Wait<'_>| self.0.lock().waiting.remove(wait))
            });
            if empty {
                return cancelled;
            }
            if wake == Wake::Cancelled {
                cancelled = self.cancel(at);
                mode = Mode::Shielded;
            }
        }
    }
}

/// The tail of the record of a family's member. What it borrows is not in its type.
struct Erased(Lock<Option<Job<'static>>>);

type Job<'a> = Box<dyn FnOnce(Start) + Send + 'a>;

impl Body for Erased {
    fn run(&self, start: Start) {
        let body = self.0.lock().take();
        body.expect("a green thread runs once")(start);
    }
}

/// Spawns a member of `family`. `body` must not unwind.
///
/// # Errors
/// As [`Builder::spawn`]; then `body` has been dropped.
///
/// # Panics
/// As [`Builder::spawn`].
#[track_caller]
pub(super) fn spawn_member(
    family: &Arc<Family>,
    builder: Builder,
    location: &'static Location<'static>,
    body: impl FnOnce(Start) + Send + 'static,
) -> io::Result<TaskRef> {
    let (key, job) = enrol(family, body);
    launch(family, builder, location, key, job)
}

/// As [`spawn_member`], with a `body` that borrows.
///
/// # Errors
/// As [`Builder::spawn`]; then `body` has been dropped.
///
/// # Panics
/// As [`Builder::spawn`].
///
/// # Safety
/// The family must be empty before anything that `body` borrows ends.
#[track_caller]
pub(super) unsafe fn spawn_borrowing<'a>(
    family: &Arc<Family>,
    builder: Builder,
    location: &'static Location<'static>,
    body: impl FnOnce(Start) + Send + 'a,
) -> io::Result<TaskRef> {
    let (key, job): (usize, Job<'a>) = enrol(family, body);
    // SAFETY: whether the closure is run or dropped, it leaves the family afterwards, and the
    // caller promises that what it borrows lives until then.
    let job = unsafe { erase(job) };
    launch(family, builder, location, key, job)
}

/// Forgets how long what `job` borrows lives.
///
/// # Safety
/// It must live until `job` has been run or dropped.
unsafe fn erase<'a>(job: Job<'a>) -> Job<'static> {
    let job = Box::into_raw(Box::new(job)).cast::<Job<'static>>();
    // SAFETY: the pointer comes from `into_raw`, and differs from it in a lifetime, for which the
    // caller vouches.
    *unsafe { Box::from_raw(job) }
}

/// Launches a green thread of no family that may borrow.
///
/// # Safety
/// What `body` borrows must live until the thread has ended.
pub(super) unsafe fn spawn_alone<'a>(
    builder: Builder,
    location: &'static Location<'static>,
    body: impl FnOnce(Start) + Send + 'a,
) -> io::Result<TaskRef> {
    assert_inside();
    // SAFETY: the closure is run or dropped by the thread, or here if there is none; what it
    // borrows lives until then, as the caller promises.
    let job = unsafe { erase(Box::new(body)) };
    let task: TaskRef = Arc::new(builder.task(location, Erased(Lock::new(Some(job))))?);
    let stack = super::reserve(&task)?;
    super::launch(task.clone(), stack);
    Ok(task)
}

/// Takes a place in `family` for a closure, which leaves it when it has been run or dropped.
#[track_caller]
fn enrol<'a>(family: &Arc<Family>, body: impl FnOnce(Start) + Send + 'a) -> (usize, Job<'a>) {
    assert_inside();
    let key = family.reserve();
    let borrower = Borrower {
        body,
        _member: Member {
            family: family.clone(),
            key,
        },
    };
    let job = Box::new(move |start| {
        let Borrower { body, _member } = { borrower };
        body(start);
    });
    (key, job)
}

#[track_caller]
fn launch(
    family: &Family,
    builder: Builder,
    location: &'static Location<'static>,
    key: usize,
    job: Job<'static>,
) -> io::Result<TaskRef> {
    let task: TaskRef = Arc::new(builder.task(location, Erased(Lock::new(Some(job))))?);
    // A family keeps the record, which keeps the closure, which keeps its place in the family:
    // nothing may fail from here on.
    let stack = super::reserve(&task)?;
    family.add(key, task.clone());
    super::launch(task.clone(), stack);
    Ok(task)
}

/// In this order they are dropped: a member leaves when nothing that it has borrowed is in use any
/// more.
struct Borrower<F> {
    body: F,
    _member: Member,
}

/// A place in a family; leaves it when it is dropped.
struct Member {
    family: Arc<Family>,
    key: usize,
}

impl Drop for Member {
    fn drop(&mut self) {
        self.family.remove(self.key);
    }
}
