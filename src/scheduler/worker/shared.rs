//! [`Shared`]: one runtime's workers, as everybody sees them, and the [`Post`] of each.

use crate::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering, fence};
use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::panic::Location;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::super::clock::Clock;
use super::super::deadlock::Stuck;
use super::super::ending::Ending;
use super::super::inbox::Sleepers;
use super::super::oracle::Plan;
use super::super::reactor::Reactor;
use super::super::run_queue::Lease;
use super::super::standstill::Standstill;
use super::super::task::TaskRef;
use super::capture::Capture;
use crate::lock::Lock;
use crate::stack::Stack;

/// Unstarted green threads for which a queue keeps room.
const BURST: usize = 1 << 17;
/// Unstarted green threads taken from another worker at a time.
const STEAL: usize = 32;
/// What green threads that were in a deadlock get to end, at least, before the process is ended.
const LAST_CHANCE: Duration = Duration::from_secs(1);

/// The runtimes of this process that have workers, but for simulations: what a dump of everything
/// goes through.
static ALL: Lock<Vec<Weak<Shared>>> = Lock::new(Vec::new());

/// Returns every runtime that has workers.
pub(crate) fn runtimes() -> Vec<Arc<Shared>> {
    ALL.lock().iter().filter_map(Weak::upgrade).collect()
}

/// One runtime's workers, as everybody sees them.
pub(crate) struct Shared {
    pub(super) posts: Box<[Post]>,
    pub(super) clock: Clock,
    pub(super) stack_size: usize,
    /// There is a processor for each worker, and more than one.
    pub(super) may_linger: bool,
    /// What green threads get to end if the runtime fails.
    pub(super) shutdown_timeout: Duration,
    /// With [`Post::unstarted`]: whoever pushes looks here afterwards, whoever goes to sleep looks
    /// there afterwards.
    pub(super) sleepers: Sleepers,
    pub(super) standstill: Standstill,
    /// Where everything stands still: how many workers have said who is stuck there, and who that
    /// is.
    pub(super) stuck: Lock<(usize, Vec<Stuck>)>,
    /// A worker has been roused to look for unstarted threads and has not looked yet: do not rouse
    /// a second one.
    pub(super) searching: AtomicBool,
    /// The root has finished: cancel and end everything.
    stopping: AtomicBool,
    /// When the workers stop waiting for green threads that do not end; set before `stopping`.
    pub(super) grace_ends: Lock<Option<Instant>>,
    /// What this runtime simulates, if it does.
    pub(super) plan: Option<Plan>,
    /// Why the runtime has failed, if not because its root has panicked; and whether that was
    /// before it was stopping.
    failure: Lock<Option<(String, bool)>>,
    /// Who does not end is said on standard error, too; set before `stopping`.
    pub(super) says_who: AtomicBool,
    pub(crate) ending: Ending,
    /// The worker that the next green thread from outside goes to.
    next: AtomicUsize,
    /// Held while a dump is made.
    pub(super) dumps: Lock<()>,
    /// The runtime that this is a session of, for its green threads to ask for; what it is is
    /// known above.
    pub(super) runtime: Arc<dyn Any + Send + Sync>,
}

/// One worker, as the others see it.
pub(super) struct Post {
    pub(super) inbox: Lease,
    pub(super) reactor: Arc<Reactor>,
    pub(super) unstarted: Lock<VecDeque<Unstarted>>,
    /// The length of `unstarted`, written under its lock.
    pub(super) unstarted_len: AtomicUsize,
    /// A request for a capture, to be taken by the worker; see `capture`.
    pub(super) wanted: AtomicPtr<Capture>,
}

impl Drop for Post {
    fn drop(&mut self) {
        // Sources may outlive it, and must not keep its descriptors.
        self.reactor.retire();
    }
}

/// A green thread that has not started: a record, and a stack only where stacks may run out.
pub(super) struct Unstarted {
    pub(super) task: TaskRef,
    /// Boxed, as hardly any has one and a hundred thousand may wait.
    pub(super) stack: Option<Box<Stack>>,
}

impl Unstarted {
    #[inline]
    pub(super) fn new(task: TaskRef, stack: Option<Stack>) -> Unstarted {
        Unstarted {
            task,
            stack: stack.map(Box::new),
        }
    }
}

impl Post {
    pub(super) fn push_unstarted(&self, tasks: impl IntoIterator<Item = Unstarted>) {
        let mut unstarted = self.unstarted.lock();
        unstarted.extend(tasks);
        self.unstarted_len.store(unstarted.len(), Ordering::Relaxed);
    }

    pub(super) fn pop_unstarted(&self) -> Option<Unstarted> {
        if self.unstarted_len.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut unstarted = self.unstarted.lock();
        let task = unstarted.pop_front();
        forget_burst(&mut unstarted);
        self.unstarted_len.store(unstarted.len(), Ordering::Relaxed);
        task
    }

    /// Takes half of what is there, oldest first, [`STEAL`] at most.
    pub(super) fn steal(&self) -> Vec<Unstarted> {
        if self.unstarted_len.load(Ordering::Relaxed) == 0 {
            return Vec::new();
        }
        let mut unstarted = self.unstarted.lock();
        let count = unstarted.len().div_ceil(2).min(STEAL);
        let stolen = unstarted.drain(..count).collect();
        self.unstarted_len.store(unstarted.len(), Ordering::Relaxed);
        stolen
    }
}

/// How many processors the calling OS thread may run on.
fn processors() -> usize {
    #[cfg(target_os = "linux")]
    return rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count() as usize);
    #[cfg(not(target_os = "linux"))]
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

/// Gives back the memory of a queue that was once very long, when it is empty.
#[inline]
pub(super) fn forget_burst(queue: &mut VecDeque<Unstarted>) {
    if queue.is_empty() && queue.capacity() > BURST {
        *queue = VecDeque::new();
    }
}

impl Shared {
    /// # Errors
    /// The process is out of file descriptors.
    pub(crate) fn new(
        workers: usize,
        stack_size: usize,
        shutdown_timeout: Duration,
        plan: Option<Plan>,
        runtime: Arc<dyn Any + Send + Sync>,
    ) -> io::Result<Arc<Shared>> {
        let posts = (0..workers).map(|_| {
            let reactor = Reactor::new()?;
            Ok(Post {
                inbox: Lease::new(reactor.clone())?,
                reactor,
                unstarted: Lock::default(),
                unstarted_len: AtomicUsize::new(0),
                wanted: AtomicPtr::default(),
            })
        });
        let shared = Arc::new(Shared {
            posts: posts.collect::<io::Result<_>>()?,
            clock: if plan.is_some() {
                Clock::new_virtual()
            } else {
                Clock::new()
            },
            stack_size,
            may_linger: plan.is_none() && workers > 1 && workers <= processors(),
            shutdown_timeout,
            sleepers: Sleepers::default(),
            standstill: Standstill::default(),
            stuck: Lock::default(),
            searching: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            grace_ends: Lock::new(None),
            plan,
            failure: Lock::new(None),
            says_who: AtomicBool::new(true),
            ending: Ending::new(workers),
            next: AtomicUsize::new(0),
            dumps: Lock::default(),
            runtime,
        });
        if shared.plan.is_none() {
            let mut all = ALL.lock();
            all.retain(|other| other.strong_count() > 0);
            all.push(Arc::downgrade(&shared));
        }
        Ok(shared)
    }

    /// Leaves a green thread that does not come from one of the workers to one of them, with the
    /// stack that was reserved for it. Somebody is to be roused for it afterwards.
    pub(crate) fn push(&self, task: TaskRef, stack: Option<Stack>) {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.posts.len();
        self.posts[next].push_unstarted([Unstarted::new(task, stack)]);
    }

    /// Rouses a worker for what has been pushed.
    pub(crate) fn rouse(&self) {
        self.rouse_one(None);
    }

    /// Rouses one sleeping worker other than `but`, the calling one, to look for unstarted threads.
    pub(super) fn rouse_one(&self, but: Option<usize>) {
        if but.is_some() && self.posts.len() == 1 {
            return;
        }
        if !self.sleepers.any() || self.searching.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut others = self
            .posts
            .iter()
            .enumerate()
            .filter(|(index, _)| Some(*index) != but);
        if !others.any(|(_, post)| post.inbox.rouse()) {
            self.searching.store(false, Ordering::Release);
        }
    }

    /// Begins the end: every green thread is cancelled, and given until `grace` from now to unwind.
    pub(crate) fn stop(&self, grace: Duration) {
        let grace = if self.standstill.is_found() {
            grace.max(LAST_CHANCE)
        } else {
            grace
        };
        *self.grace_ends.lock() = self.clock.read().checked_add(grace);
        self.stopping.store(true, Ordering::SeqCst);
        // A worker that goes to sleep looks at `stopping` after it has said so; we look the other
        // way round.
        fence(Ordering::SeqCst);
        for post in &self.posts {
            post.inbox.rouse();
        }
    }

    /// As [`stop`](Shared::stop), without a word on standard error about who does not end.
    pub(crate) fn stop_quietly(&self, grace: Duration) {
        self.says_who.store(false, Ordering::Relaxed);
        self.stop(grace);
    }

    pub(crate) fn worker_count(&self) -> usize {
        self.posts.len()
    }

    /// Where those green threads were spawned that have not started and that any worker may take.
    pub(crate) fn unstarted_places(&self) -> Vec<&'static Location<'static>> {
        let mut places = Vec::new();
        for post in &self.posts {
            let unstarted = post.unstarted.lock();
            places.extend(unstarted.iter().map(|one| one.task.location()));
        }
        places
    }

    #[inline]
    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Begins the end because of what `report` says, unless something else has failed before.
    pub(super) fn fail(&self, report: String) {
        let stopping = self.is_stopping();
        self.failure.lock().get_or_insert((report, !stopping));
        if !stopping {
            self.stop(self.shutdown_timeout);
        }
    }

    /// Takes what has failed apart from the root; `true`: before the root has ended, so that its
    /// end may be due to it.
    pub(crate) fn take_failure(&self) -> Option<(String, bool)> {
        self.failure.lock().take()
    }
}
