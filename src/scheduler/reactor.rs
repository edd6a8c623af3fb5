//! One worker's poller: it turns the kernel's readiness edges into wakes.
//!
//! A [`Source`] is one file descriptor. It is registered once with each reactor whose worker waits
//! for it, edge-triggered, for both directions, at the first wait there. A wait after that costs
//! two short critical sections and no system call: the waiter is put into the list of its own
//! worker's registration, the edge takes it out.
//!
//! # Edges are counted
//!
//! Each direction of a source counts the edges that the kernel has reported to any reactor. A
//! thread that wants to wait has read the count *before* it tried the operation, and is refused if
//! the count has moved since: then there may be something to do, and it tries again. So no edge is
//! lost between the try and the wait:
//!
//! ```text
//!   seen = edges; try -> WouldBlock; lock { edges == seen ? enlist : try again }
//!                                    lock { edges += 1; wake those enlisted here }     <- the reactor
//! ```
//!
//! The same count makes one more system call superfluous. A read that filled only a part of its
//! buffer has emptied the socket: until the next edge a further read has nothing to find, and may
//! wait at once. But one edge reports both data and the peer's FIN that came with it, and there
//! will be no second one; so the registration asks for `EPOLLRDHUP`, and a source that has seen it
//! (or a hang-up, or an error) always tries.
//!
//! # One registration per worker
//!
//! The kernel reports each edge to every epoll set that a descriptor is in. So each worker wakes
//! its own waiters by its own poll, and neither a worker that computes for long nor the end of a
//! runtime keeps an edge from the waiters of another. The lists of a registration are changed by
//! its own worker only, except at the end: [`Source::deregister`] wakes all waiters of all workers.
//!
//! A registration ends with the source, or with its reactor ([`Reactor::retire`]).
//!
//! `EPOLLEXCLUSIVE` is not used: the kernel would report an edge to one of the epoll sets, and that
//! may be the one of a worker that computes.
//!
//! # One waiter per edge, and the turn
//!
//! A registration has two kinds of lists for each direction:
//!
//! - *takers* do an operation that takes what has come (`accept`, `recv`, `read`, `write`). An edge
//!   wakes one of them, and with it gives it the *turn*.
//! - *watchers* only look, or do an operation of which the reactor knows nothing (a `select!`, the
//!   closures of `Pollable`). An edge wakes all of them, and they have no turn.
//!
//! ```text
//!   the thread with the turn                   what it does with the turn
//!   its operation says WouldBlock              ends it: there is nothing, and what comes is a new edge
//!   its read was short (is_drained)            ends it: as before
//!   its operation succeeds or fails,           passes it: polls the descriptor; if it is ready, wakes the
//!   it unwinds (cancelled, a panic)            next taker of its own worker, which has the turn then
//! ```
//!
//! No waiter is forgotten. Let a taker be enlisted with reactor R while its operation could succeed.
//! Its own try has found nothing, so what can be done now came later, and was, or will be, an edge at
//! R. That edge gives, or gave, a turn to a taker of R. The turn goes from taker to taker of R and
//! ends only where one sees that nothing is there; if something comes after that look, it is
//! another edge. A waiter that times out or is cancelled before it is woken has lost the race for
//! its claim word: the edge takes the next one. All takers of R live on R's worker, so a turn that
//! is delayed or dies with its worker delays nobody elsewhere.
//!
//! The cost of a connection for n threads in `accept` on one listener is one wake per worker, plus
//! one `poll(2)`.
//!
//! # Facts about epoll
//!
//! - A file descriptor that is ready when it is added reports its first edge at once.
//! - `polling::Poller::wait` costs five system calls, so on Linux the reactor waits on the poller's
//!   epoll descriptor itself, and is rung through an eventfd of its own. The eventfd is
//!   edge-triggered too: each write is an edge, nobody needs to read it.
//! - `polling` cannot ask for `EPOLLRDHUP`, so on Linux sources are added to its epoll descriptor
//!   directly.
//! - Events that `epoll_wait` has returned may belong to a source that was removed meanwhile by
//!   another thread: a key is a slab index and a generation, and an old generation is ignored.
//!
//! # Who locks what
//!
//! A reactor's `sources` is locked before a source's `state`, never the other way round.

use crate::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::io;
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::Arc;

use polling::Poller;
use slab::Slab;

use super::clock::Nanos;
use super::inbox::Bell;
use super::wait_list::WaitList;
use super::waiter::Wait;
use crate::coroutine::prefetch;
use crate::lock::Lock;
use crate::lock::biased::BiasedLock;

/// What a wait on a source is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    Read = 0,
    Write = 1,
}

/// One worker's poller.
pub(crate) struct Reactor {
    poller: Poller,
    bell: bell::Eventfd,
    sources: Lock<Sources>,
}

#[derive(Default)]
struct Sources {
    slab: Slab<(u32, Arc<Source>)>,
    /// Told apart from the previous user of the same slab index.
    generation: u32,
}

/// What one edge says.
#[derive(Debug, Clone, Copy)]
struct Edge {
    readable: bool,
    writable: bool,
    /// The peer will send no more, or the descriptor has failed: reads must always try.
    hung_up: bool,
}

impl Reactor {
    /// # Errors
    /// The process or the system is out of file descriptors.
    pub(crate) fn new() -> io::Result<Arc<Reactor>> {
        let poller = Poller::new()?;
        let bell = bell::Eventfd::new(&poller)?;
        Ok(Arc::new(Reactor {
            poller,
            bell,
            sources: Lock::default(),
        }))
    }

    fn register(&self, source: &Arc<Source>) -> io::Result<u64> {
        let mut sources = self.sources.lock();
        sources.generation = sources.generation.wrapping_add(1);
        let generation = sources.generation;
        let index = sources.slab.insert((generation, source.clone()));
        let key = key(generation, index);
        if let Err(error) = backend::add(&self.poller, &source.fd, key) {
            sources.slab.remove(index);
            return Err(error);
        }
        Ok(key)
    }

    /// Whether anybody waits for one of its sources. Locks many of them, if nobody does.
    pub(crate) fn is_waited_for(&self) -> bool {
        let sources = self.sources.lock();
        sources.slab.iter().any(|(_, (_, source))| {
            let mut state = source.state.lock();
            state
                .registration(self)
                .is_some_and(|at| at.is_waited_for())
        })
    }

    fn remove(&self, key: u64) {
        let mut sources = self.sources.lock();
        let entry = sources.slab.get(index(key));
        // Otherwise the reactor has been retired meanwhile.
        if entry.is_some_and(|(generation, _)| is_generation(key, *generation)) {
            let (_, source) = sources.slab.remove(index(key));
            // It can only fail if somebody closed the descriptor behind our back, and then it is
            // gone anyway.
            let _ = self.poller.delete(&source.fd);
        }
    }

    /// Ends all registrations: the reactor's worker has ended, and polls no more.
    pub(crate) fn retire(&self) {
        let mut sources = self.sources.lock();
        // Under the lock to the end: a source that is deregistered meanwhile finds its key gone.
        for (_, source) in sources.slab.drain() {
            let _ = self.poller.delete(&source.fd);
            let mut ended = source.state.lock().take(self);
            ended.iter_mut().for_each(Registration::wake_all);
        }
    }

    /// Waits until an edge, the bell or `timeout` (`None`: for ever), wakes whoever waited for what
    /// has come, and returns how much that was.
    pub(crate) fn poll(&self, events: &mut Events, timeout: Option<Nanos>) -> usize {
        if let Err(error) = backend::wait(&self.poller, events, timeout) {
            // Not a matter of luck: the descriptor or the buffer would have to be invalid.
            assert_eq!(
                error.kind(),
                io::ErrorKind::Interrupted,
                "waiting for I/O failed: {error}"
            );
            return 0;
        }
        if events.len() == 0 {
            return 0;
        }
        let sources = self.sources.lock();
        for at in 0..events.len() {
            // Sources further on, and the records of who waits for them, come into the cache while
            // this one wakes its threads.
            let ahead = |steps| {
                events
                    .get(at + steps)
                    .and_then(|(key, _)| sources.slab.get(index(key)))
            };
            if let Some((_, source)) = ahead(6) {
                prefetch::<2>(Arc::as_ptr(source).addr());
            }
            if let Some((_, source)) = ahead(3) {
                prefetch::<1>(source.waiter.load(Ordering::Relaxed));
            }
            if let Some((key, edge)) = events.get(at)
                && let Some((generation, source)) = sources.slab.get(index(key))
                && is_generation(key, *generation)
            {
                source.edge(self, edge);
            }
        }
        events.len()
    }
}

impl Bell for Reactor {
    fn ring(&self) {
        self.bell.ring(&self.poller);
    }
}

// A key has to fit into the poller's `usize`.
const HALF: u32 = usize::BITS / 2;
const INDEX: u64 = (1 << HALF) - 1;

fn key(generation: u32, index: usize) -> u64 {
    (u64::from(generation) & INDEX) << HALF | index as u64
}

fn index(key: u64) -> usize {
    (key & INDEX) as usize
}

fn is_generation(key: u64, generation: u32) -> bool {
    key >> HALF == u64::from(generation) & INDEX
}

/// One registered file descriptor; see the module. With thousands of them each wake finds its
/// source in no cache, so what a wait and a wake need lies within two lines.
#[repr(C)]
pub(crate) struct Source {
    fd: OwnedFd,
    /// An edge said that the peer has finished, or that the descriptor has failed. Never cleared.
    hung_up: AtomicBool,
    /// There have been several takers at once in one list, or a taker's list was not empty when
    /// another came, by [`Interest`]. Never cleared. It is read by threads of the worker that set
    /// it: only the takers of the own worker matter to who has a turn.
    crowded: [AtomicBool; 2],
    /// There have been watchers. Never cleared; written and read under `state`.
    watched: AtomicBool,
    /// Edges seen, by [`Interest`]; written under `state`, read by anybody.
    edges: [AtomicU64; 2],
    /// The count of read edges at which a short read found the end of the data.
    drained: AtomicU64,
    /// The address of the record of who waits, for prefetching alone.
    waiter: AtomicUsize,
    state: BiasedLock<State>,
}

#[derive(Default)]
#[repr(C)]
struct State {
    /// The first one; most sources are used by one worker.
    registration: Option<Registration>,
    /// With other reactors.
    #[expect(
        clippy::box_collection,
        reason = "a word instead of three in every socket"
    )]
    others: Option<Box<Vec<Registration>>>,
}

/// A source in a reactor, and the threads of that reactor's worker that wait for it.
#[repr(C)]
struct Registration {
    reactor: Arc<Reactor>,
    key: u64,
    readers: WaitList,
    writers: WaitList,
    /// Boxed, as most sources never have any. By [`Interest`].
    watchers: Option<Box<[WaitList; 2]>>,
}

/// How a thread waits for a source; see the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// One taker is woken by an edge, and has the turn then.
    Taker,
    /// All watchers are woken by an edge.
    Watcher,
}

/// What came of the wish to wait on a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Enlisted {
    /// The waiter is in the list.
    Waiting,
    /// There was an edge meanwhile: try the operation again.
    TryAgain,
    /// The source has to be registered with this worker's reactor first.
    Unregistered,
}

impl Source {
    pub(crate) fn new(fd: OwnedFd) -> Arc<Source> {
        Arc::new(Source {
            fd,
            hung_up: AtomicBool::new(false),
            crowded: [AtomicBool::new(false), AtomicBool::new(false)],
            watched: AtomicBool::new(false),
            edges: [AtomicU64::new(0), AtomicU64::new(0)],
            drained: AtomicU64::new(u64::MAX),
            waiter: AtomicUsize::new(0),
            state: BiasedLock::default(),
        })
    }

    /// Takes the descriptor out. The source must have been deregistered.
    pub(crate) fn into_fd(mut self: Arc<Self>) -> OwnedFd {
        loop {
            match Arc::try_unwrap(self) {
                Ok(source) => return source.fd,
                // A reactor that is being retired has taken the registration out, and is about to
                // drop its reference.
                Err(shared) => self = shared,
            }
            std::thread::yield_now();
        }
    }

    /// The count of edges so far: to be read before the operation is tried.
    #[inline]
    pub(crate) fn edges(&self, interest: Interest) -> u64 {
        self.edges[interest as usize].load(Ordering::Acquire)
    }

    /// Notes that a read that had seen `seen` edges has emptied the source.
    #[inline]
    pub(crate) fn set_drained(&self, seen: u64) {
        if backend::REPORTS_HANG_UP {
            self.drained.store(seen, Ordering::Relaxed);
        }
    }

    /// Whether a read now could only find nothing.
    #[inline]
    pub(crate) fn is_drained(&self, seen: u64) -> bool {
        self.drained.load(Ordering::Relaxed) == seen && !self.hung_up.load(Ordering::Relaxed)
    }

    /// Enlists `wait` with `here`, the reactor of the calling thread's worker, unless there was an
    /// edge after `seen`.
    pub(crate) fn enlist(
        &self,
        interest: Interest,
        role: Role,
        seen: u64,
        here: &Arc<Reactor>,
        wait: &Wait<'_>,
    ) -> Enlisted {
        let mut state = self.state.lock();
        let Some(at) = state.registration(here) else {
            return Enlisted::Unregistered;
        };
        if self.edges(interest) != seen {
            return Enlisted::TryAgain;
        }
        self.waiter
            .store(wait.link(ptr::from_ref(self).addr()), Ordering::Relaxed);
        match role {
            Role::Taker => {
                let takers = at.takers(interest);
                if !takers.is_empty() {
                    self.crowded[interest as usize].store(true, Ordering::Relaxed);
                }
                takers.push_again(wait);
            }
            Role::Watcher => {
                self.watched.store(true, Ordering::Relaxed);
                at.watchers.get_or_insert_default()[interest as usize].push_again(wait);
            }
        }
        Enlisted::Waiting
    }

    /// Takes the caller's own waiter out again, if it is still there, and returns whether it was.
    pub(crate) fn delist(&self, interest: Interest, wait: &Wait<'_>) -> bool {
        let mut state = self.state.lock();
        let mut enlisted = false;
        for at in state.registrations() {
            let watchers = at.watchers.as_deref_mut();
            let watchers = watchers.map(|watchers| &mut watchers[interest as usize]);
            let takers = match interest {
                Interest::Read => &mut at.readers,
                Interest::Write => &mut at.writers,
            };
            for waiters in watchers.into_iter().chain([takers]) {
                enlisted = enlisted || waiters.contains(wait);
                waiters.remove(wait);
            }
        }
        enlisted
    }

    /// Whether the caller, which has the turn, should look for something to pass on: there may be
    /// other takers on its worker.
    #[inline]
    pub(crate) fn is_crowded(&self, interest: Interest) -> bool {
        self.crowded[interest as usize].load(Ordering::Relaxed)
    }

    /// Whether another taker waits with `here`.
    pub(crate) fn has_taker(&self, interest: Interest, here: &Arc<Reactor>) -> bool {
        let mut state = self.state.lock();
        state
            .registration(here)
            .is_some_and(|at| !at.takers(interest).is_empty())
    }

    /// Gives the turn to the next taker that waits with `here`, if there is one.
    pub(crate) fn pass_turn(&self, interest: Interest, here: &Arc<Reactor>) {
        let mut state = self.state.lock();
        if let Some(at) = state.registration(here) {
            at.takers(interest).wake_one_again();
        }
    }

    /// Registers the source with `here`, the reactor of the calling thread's worker, if it is not.
    pub(crate) fn register(self: &Arc<Self>, here: &Arc<Reactor>) -> io::Result<()> {
        // Nobody else registers it with `here` meanwhile: only that worker does, and does not
        // switch in between. An edge cannot be reported before this worker polls again.
        if self.state.lock().registration(here).is_some() {
            return Ok(());
        }
        let key = here.register(self)?;
        let registration = Registration {
            reactor: here.clone(),
            key,
            readers: WaitList::new(),
            writers: WaitList::new(),
            watchers: None,
        };
        let mut state = self.state.lock();
        match &mut state.registration {
            first @ None => *first = Some(registration),
            Some(_) => state.others.get_or_insert_default().push(registration),
        }
        Ok(())
    }

    /// Removes the source from its reactors. Who reads or writes borrows the handle that is going
    /// away; who only wants to know when it is ready may be waiting, and is woken.
    pub(crate) fn deregister(&self) {
        let mut state = self.state.lock();
        let first = state.registration.take();
        let others = state.others.take();
        drop(state);
        let others = others.into_iter().flat_map(|others| *others);
        for mut registration in first.into_iter().chain(others) {
            registration.wake_all();
            registration.reactor.remove(registration.key);
        }
    }

    /// Has all that wait in this direction try again, on whatever workers: the state of the
    /// descriptor has been changed in a way that the kernel reports by no edge.
    pub(crate) fn interrupt(&self, interest: Interest) {
        let mut state = self.state.lock();
        self.count(interest);
        for at in state.registrations() {
            at.takers(interest).wake_all_again();
            if let Some(watchers) = &mut at.watchers {
                watchers[interest as usize].wake_all_again();
            }
        }
    }

    /// Under `state`.
    fn count(&self, interest: Interest) {
        let count = &self.edges[interest as usize];
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Release);
    }

    /// `here` has reported an edge.
    fn edge(&self, here: &Reactor, edge: Edge) {
        let mut state = self.state.lock();
        if edge.hung_up {
            self.hung_up.store(true, Ordering::Relaxed);
        }
        let watched = self.watched.load(Ordering::Relaxed);
        let mut at = state.registration(here);
        for (interest, ready) in [
            (Interest::Read, edge.readable),
            (Interest::Write, edge.writable),
        ] {
            if !ready {
                continue;
            }
            self.count(interest);
            let Some(at) = &mut at else {
                continue;
            };
            at.takers(interest).wake_one_again();
            if watched && let Some(watchers) = &mut at.watchers {
                watchers[interest as usize].wake_all_again();
            }
        }
    }
}

impl State {
    /// The registration with `here`.
    #[inline]
    fn registration(&mut self, here: &Reactor) -> Option<&mut Registration> {
        let is_here = |at: &Registration| ptr::eq(Arc::as_ptr(&at.reactor), here);
        match &mut self.registration {
            Some(first) if is_here(first) => Some(first),
            _ => self.others.as_mut()?.iter_mut().find(|at| is_here(at)),
        }
    }

    fn registrations(&mut self) -> impl Iterator<Item = &mut Registration> {
        let others = self.others.iter_mut().flat_map(|others| others.iter_mut());
        self.registration.iter_mut().chain(others)
    }

    /// Takes the registration with `here` out.
    fn take(&mut self, here: &Reactor) -> Option<Registration> {
        let is_here = |at: &Registration| ptr::eq(Arc::as_ptr(&at.reactor), here);
        if self.registration.as_ref().is_some_and(is_here) {
            let next = self.others.as_mut().and_then(|others| others.pop());
            return mem::replace(&mut self.registration, next);
        }
        let others = self.others.as_mut()?;
        let at = others.iter().position(is_here)?;
        Some(others.swap_remove(at))
    }
}

impl Registration {
    fn is_waited_for(&self) -> bool {
        let watchers = self.watchers.iter().flat_map(|watchers| watchers.iter());
        !self.readers.is_empty()
            || !self.writers.is_empty()
            || watchers.into_iter().any(|watchers| !watchers.is_empty())
    }

    #[inline]
    fn takers(&mut self, interest: Interest) -> &mut WaitList {
        match interest {
            Interest::Read => &mut self.readers,
            Interest::Write => &mut self.writers,
        }
    }

    fn wake_all(&mut self) {
        self.readers.wake_all();
        self.writers.wake_all();
        let watchers = self
            .watchers
            .iter_mut()
            .flat_map(|watchers| watchers.iter_mut());
        watchers.for_each(WaitList::wake_all);
    }
}

impl AsFd for Source {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

pub(crate) use backend::Events;

/// Linux: the poller owns the epoll descriptor, we add to it and wait on it.
#[cfg(all(target_os = "linux", not(hebra_portable_reactor)))]
#[allow(unsafe_code)]
mod backend {
    use std::io;
    use std::os::fd::{AsFd, AsRawFd};
    use std::ptr;
    use std::sync::atomic::{AtomicBool, Ordering};

    use libc::{
        EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP, c_int, c_long, epoll_event,
        timespec,
    };
    use polling::Poller;
    use rustix::event::epoll::{self, EventData, EventFlags};

    use super::{Edge, Nanos};

    pub(super) const REPORTS_HANG_UP: bool = true;

    /// The key of the bell: no slab index goes that far.
    pub(super) const BELL: u64 = u64::MAX;

    /// Few enough to be still in the cache, with what the kernel keeps of them, when it is their
    /// turn.
    const BATCH: usize = 64;

    /// The buffer that one wait fills.
    pub(crate) struct Events {
        buffer: Vec<epoll_event>,
        filled: usize,
    }

    impl Events {
        pub(crate) fn new() -> Events {
            Events {
                buffer: vec![epoll_event { events: 0, u64: 0 }; BATCH],
                filled: 0,
            }
        }

        pub(super) fn len(&self) -> usize {
            self.filled
        }

        /// The key and the edge of an event; `None` beyond the last, and for the bell.
        pub(super) fn get(&self, at: usize) -> Option<(u64, Edge)> {
            let event = self.buffer[..self.filled]
                .get(at)
                .filter(|event| event.u64 != BELL)?;
            let flags = event.events as c_int;
            let gone = flags & (EPOLLHUP | EPOLLERR) != 0;
            let edge = Edge {
                readable: gone || flags & (EPOLLIN | EPOLLRDHUP) != 0,
                writable: gone || flags & EPOLLOUT != 0,
                hung_up: gone || flags & (EPOLLRDHUP | EPOLLPRI) != 0,
            };
            Some((event.u64, edge))
        }
    }

    pub(super) fn add(poller: &Poller, fd: impl AsFd, key: u64) -> io::Result<()> {
        let flags =
            EventFlags::IN | EventFlags::PRI | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        Ok(epoll::add(poller, fd, EventData::new_u64(key), flags)?)
    }

    pub(super) fn wait(
        poller: &Poller,
        events: &mut Events,
        timeout: Option<Nanos>,
    ) -> io::Result<()> {
        // Before Linux 5.11 there are only milliseconds; and some sandboxes refuse what they do not
        // know.
        static COARSE: AtomicBool = AtomicBool::new(false);
        events.filled = 0;
        let epoll = poller.as_fd().as_raw_fd();
        if !COARSE.load(Ordering::Relaxed) {
            match fine_wait(epoll, &mut events.buffer, timeout) {
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    COARSE.store(true, Ordering::Relaxed);
                }
                result => return result.map(|filled| events.filled = filled),
            }
        }
        events.filled = coarse_wait(epoll, &mut events.buffer, timeout)?;
        Ok(())
    }

    /// `epoll_pwait2`, by number: glibc knows it from 2.35 on only.
    fn fine_wait(
        epoll: c_int,
        buffer: &mut [epoll_event],
        timeout: Option<Nanos>,
    ) -> io::Result<usize> {
        let spec = timeout.map(|ns| timespec {
            tv_sec: (ns / 1_000_000_000) as _,
            tv_nsec: (ns % 1_000_000_000) as _,
        });
        let spec = spec.as_ref().map_or(ptr::null(), ptr::from_ref);
        let none = ptr::null::<libc::sigset_t>();
        // SAFETY: the kernel writes at most `buffer.len()` events to `buffer`, reads one `timespec`
        // or none, and no signal set.
        let filled = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                epoll,
                buffer.as_mut_ptr(),
                buffer.len() as c_int,
                spec,
                none,
                0,
            )
        };
        count(filled)
    }

    /// `epoll_wait`, with the time-out rounded up to milliseconds.
    fn coarse_wait(
        epoll: c_int,
        buffer: &mut [epoll_event],
        timeout: Option<Nanos>,
    ) -> io::Result<usize> {
        let timeout = timeout.map_or(-1, |ns| {
            c_int::try_from(ns.div_ceil(1_000_000)).unwrap_or(c_int::MAX)
        });
        // SAFETY: the kernel writes at most `buffer.len()` events to `buffer`.
        let filled =
            unsafe { libc::epoll_wait(epoll, buffer.as_mut_ptr(), buffer.len() as c_int, timeout) };
        count(filled.into())
    }

    fn count(result: c_long) -> io::Result<usize> {
        usize::try_from(result).map_err(|_| io::Error::last_os_error())
    }
}

/// Elsewhere: the poller does it all.
#[cfg(not(all(target_os = "linux", not(hebra_portable_reactor))))]
#[allow(unsafe_code)]
mod backend {
    use std::io;
    use std::os::fd::{AsFd, AsRawFd};
    use std::time::Duration;

    use polling::{Event, PollMode, Poller};

    use super::{Edge, Nanos};

    pub(super) const REPORTS_HANG_UP: bool = false;

    /// The buffer that one wait fills, and what it held.
    pub(crate) struct Events(polling::Events, Vec<Event>);

    impl Events {
        pub(crate) fn new() -> Events {
            Events(polling::Events::new(), Vec::new())
        }

        pub(super) fn len(&self) -> usize {
            self.1.len()
        }

        /// The key and the edge of an event; `None` beyond the last.
        pub(super) fn get(&self, at: usize) -> Option<(u64, Edge)> {
            let event = self.1.get(at)?;
            let edge = Edge {
                readable: event.readable,
                writable: event.writable,
                hung_up: false,
            };
            Some((event.key as u64, edge))
        }
    }

    pub(super) fn add(poller: &Poller, fd: impl AsFd, key: u64) -> io::Result<()> {
        let raw = fd.as_fd().as_raw_fd();
        // SAFETY: the source that owns the descriptor is in the reactor's slab, and leaves it only
        // through `remove`, which deletes the descriptor from the poller first.
        unsafe { poller.add_with_mode(raw, Event::all(key as usize), PollMode::Edge) }
    }

    pub(super) fn wait(
        poller: &Poller,
        events: &mut Events,
        timeout: Option<Nanos>,
    ) -> io::Result<()> {
        events.0.clear();
        events.1.clear();
        poller.wait(&mut events.0, timeout.map(Duration::from_nanos))?;
        events.1.extend(events.0.iter());
        Ok(())
    }
}

/// How a waiting reactor is rung.
#[cfg(all(target_os = "linux", not(hebra_portable_reactor)))]
mod bell {
    use std::io;
    use std::os::fd::OwnedFd;

    use polling::Poller;
    use rustix::event::epoll::{self, EventData, EventFlags};
    use rustix::event::{EventfdFlags, eventfd};

    use super::backend;

    pub(super) struct Eventfd(OwnedFd);

    impl Eventfd {
        pub(super) fn new(poller: &Poller) -> io::Result<Eventfd> {
            let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            let flags = EventFlags::IN | EventFlags::ET;
            epoll::add(poller, &fd, EventData::new_u64(backend::BELL), flags)?;
            Ok(Eventfd(fd))
        }

        pub(super) fn ring(&self, _: &Poller) {
            // The only failure is a counter at its limit, and then the bell is ringing already.
            let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
        }
    }
}

/// How a waiting reactor is rung: through the poller's own notification.
#[cfg(not(all(target_os = "linux", not(hebra_portable_reactor))))]
mod bell {
    use std::io;

    use polling::Poller;

    pub(super) struct Eventfd;

    impl Eventfd {
        pub(super) fn new(_: &Poller) -> io::Result<Eventfd> {
            Ok(Eventfd)
        }

        pub(super) fn ring(&self, poller: &Poller) {
            // It can only fail if the poller is broken, and then the worker's own wait says so.
            let _ = poller.notify();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::array;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::scheduler::os_thread::OsThread;

    #[test]
    fn who_has_tried_before_the_latest_edge_tries_again() {
        let reactor = Reactor::new().unwrap();
        let (end, mut peer) = UnixStream::pair().unwrap();
        let source = Source::new(end.into());
        source.register(&reactor).unwrap();
        let mut events = Events::new();
        reactor.poll(&mut events, Some(0));
        let seen = source.edges(Interest::Read);
        peer.write_all(b"x").unwrap();
        reactor.poll(&mut events, Some(0));

        let thread = Arc::new(OsThread::new());
        let wait = Wait::os(&thread, thread.claim.begin());
        assert_eq!(
            source.enlist(Interest::Read, Role::Taker, seen, &reactor, &wait),
            Enlisted::TryAgain
        );
        assert_eq!(
            source.enlist(
                Interest::Read,
                Role::Taker,
                source.edges(Interest::Read),
                &reactor,
                &wait
            ),
            Enlisted::Waiting
        );
        source.delist(Interest::Read, &wait);
        source.deregister();
    }

    #[test]
    fn edge_wakes_one_taker_and_all_watchers() {
        let reactor = Reactor::new().unwrap();
        let (end, mut peer) = UnixStream::pair().unwrap();
        let source = Source::new(end.into());
        source.register(&reactor).unwrap();
        let mut events = Events::new();
        reactor.poll(&mut events, Some(0));
        let threads: [_; 4] = array::from_fn(|_| Arc::new(OsThread::new()));
        let seen = source.edges(Interest::Read);
        let roles = [Role::Taker, Role::Watcher, Role::Taker, Role::Watcher];
        for (thread, role) in threads.iter().zip(roles) {
            let wait = Wait::os(thread, thread.claim.begin());
            let enlisted = source.enlist(Interest::Read, role, seen, &reactor, &wait);
            assert_eq!(enlisted, Enlisted::Waiting);
        }
        let woken = || {
            threads
                .each_ref()
                .map(|thread| thread.claim.outcome().is_some())
        };
        peer.write_all(b"x").unwrap();
        reactor.poll(&mut events, Some(0));
        assert_eq!(woken(), [true, true, false, true]);
        assert!(source.is_crowded(Interest::Read) && source.has_taker(Interest::Read, &reactor));
        source.pass_turn(Interest::Read, &reactor);
        assert_eq!(woken(), [true; 4]);
        source.deregister();
    }

    #[test]
    fn edge_is_reported_to_each_reactor_until_it_is_retired() {
        let reactors: [_; 2] = array::from_fn(|_| Reactor::new().unwrap());
        let (end, mut peer) = UnixStream::pair().unwrap();
        let source = Source::new(end.into());
        let threads: [_; 2] = array::from_fn(|_| Arc::new(OsThread::new()));
        let mut events = Events::new();
        for reactor in &reactors {
            source.register(reactor).unwrap();
            reactor.poll(&mut events, Some(0));
        }
        let seen = source.edges(Interest::Read);
        for (thread, reactor) in threads.iter().zip(&reactors) {
            let wait = Wait::os(thread, thread.claim.begin());
            let enlisted = source.enlist(Interest::Read, Role::Taker, seen, reactor, &wait);
            assert_eq!(enlisted, Enlisted::Waiting);
        }
        let woken = || {
            threads
                .each_ref()
                .map(|thread| thread.claim.outcome().is_some())
        };
        peer.write_all(b"x").unwrap();
        reactors[1].poll(&mut events, Some(0));
        assert_eq!(woken(), [false, true]);
        assert!(reactors[0].is_waited_for() && !reactors[1].is_waited_for());
        reactors[0].retire();
        assert_eq!(woken(), [true, true]);
        assert_eq!(Arc::strong_count(&reactors[0]), 1);
        source.deregister();
        assert_eq!(Arc::strong_count(&source), 1);
    }

    #[test]
    fn two_workers_may_want_a_source_at_once() {
        let reactors: [_; 2] = array::from_fn(|_| Reactor::new().unwrap());
        let (end, _peer) = UnixStream::pair().unwrap();
        let source = Source::new(end.into());
        std::thread::scope(|scope| {
            for reactor in &reactors {
                scope.spawn(|| (0..5_000).for_each(|_| source.register(reactor).unwrap()));
            }
        });
        source.deregister();
        assert!(
            reactors
                .iter()
                .all(|reactor| reactor.sources.lock().slab.is_empty())
        );
    }
}
