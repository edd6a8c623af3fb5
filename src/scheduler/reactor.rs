//! One worker's poller: it turns the kernel's readiness edges into wakes.
//!
//! A [`Source`] is one file descriptor. It is registered once, edge-triggered, for both directions,
//! at the first wait on it, with the reactor of the worker where that wait happens. A wait after
//! that costs two short critical sections and no system call: the waiter is put into the source's
//! list, the edge takes it out.
//!
//! # Edges are counted
//!
//! Each direction counts the edges that the kernel has reported. Who wants to wait has read the
//! count *before* it tried the operation, and is refused if the count has moved since: then there
//! may be something to do, and it tries again. So no edge is lost between the try and the wait,
//! however many threads use the source and on whatever workers they run:
//!
//! ```text
//!   seen = edges; try -> WouldBlock; lock { edges == seen ? enlist : try again }
//!                                    lock { edges += 1; wake everybody enlisted }      <- the reactor
//! ```
//!
//! The same count makes one more system call superfluous. A read that filled only a part of its
//! buffer has emptied the socket: until the next edge a further read has nothing to find, and may
//! wait at once. But one edge reports both data and the peer's FIN that came with it, and there
//! will be no second one; so the registration asks for `EPOLLRDHUP`, and a source that has seen it
//! (or a hang-up, or an error) always tries.
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
//! A source's `moving` is locked before a reactor's `sources`, and that before a source's `state`;
//! never the other way round.

use crate::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::io;
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
        sources
            .slab
            .iter()
            .any(|(_, (_, source))| source.state.lock().is_waited_for())
    }

    fn remove(&self, key: u64) {
        let mut sources = self.sources.lock();
        let (_, source) = sources.slab.remove(index(key));
        // It can only fail if somebody closed the descriptor behind our back, and then it is gone
        // anyway.
        let _ = self.poller.delete(&source.fd);
        drop(sources);
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
                source.edge(edge);
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
    /// Edges seen, by [`Interest`]; written under `state`, read by anybody.
    edges: [AtomicU64; 2],
    /// The count of read edges at which a short read found the end of the data.
    drained: AtomicU64,
    /// The address of the record of who waits, for prefetching alone.
    waiter: AtomicUsize,
    state: BiasedLock<State>,
    /// Held by who registers it: between two steps of that it is in a poller and in no state, and
    /// a second one would add it again.
    moving: Lock<()>,
}

#[derive(Default)]
#[repr(C)]
struct State {
    registration: Option<Registration>,
    readers: WaitList,
    writers: WaitList,
}

struct Registration {
    reactor: Arc<Reactor>,
    key: u64,
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
            edges: [AtomicU64::new(0), AtomicU64::new(0)],
            drained: AtomicU64::new(u64::MAX),
            waiter: AtomicUsize::new(0),
            hung_up: AtomicBool::new(false),
            state: BiasedLock::default(),
            moving: Lock::default(),
        })
    }

    /// Takes the descriptor out. The source must have been deregistered and its last other owner
    /// gone.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
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

    /// Enlists `wait` unless there was an edge after `seen`, or the source belongs to another
    /// reactor than `here` and may move.
    pub(crate) fn enlist(
        &self,
        interest: Interest,
        seen: u64,
        here: &Arc<Reactor>,
        wait: &Wait<'_>,
    ) -> Enlisted {
        let mut state = self.state.lock();
        let stays = match &state.registration {
            None => false,
            // With others waiting it stays where it is, and wakes us across workers.
            Some(at) => Arc::ptr_eq(&at.reactor, here) || state.is_waited_for(),
        };
        if !stays {
            return Enlisted::Unregistered;
        }
        if self.edges(interest) != seen {
            return Enlisted::TryAgain;
        }
        self.waiter
            .store(wait.link(ptr::from_ref(self).addr()), Ordering::Relaxed);
        state.waiters(interest).push_again(wait);
        Enlisted::Waiting
    }

    /// Takes one's own waiter out again, if it is still there, and returns whether it was.
    pub(crate) fn delist(&self, interest: Interest, wait: &Wait<'_>) -> bool {
        let mut state = self.state.lock();
        let waiters = state.waiters(interest);
        let enlisted = waiters.contains(wait);
        waiters.remove(wait);
        enlisted
    }

    /// Registers the source with `here`, taking it away from where it was registered before.
    pub(crate) fn register(self: &Arc<Self>, here: &Arc<Reactor>) -> io::Result<()> {
        let _moving = self.moving.lock();
        let before = {
            let mut state = self.state.lock();
            if state.is_waited_for() {
                return Ok(());
            }
            state.registration.take()
        };
        if let Some(before) = before {
            before.reactor.remove(before.key);
        }
        let key = here.register(self)?;
        self.state.lock().registration = Some(Registration {
            reactor: here.clone(),
            key,
        });
        Ok(())
    }

    /// Removes the source from its reactor. Who reads or writes borrows the handle that is going
    /// away; who only wants to know when it is ready may be waiting, and is woken.
    pub(crate) fn deregister(&self) {
        let mut state = self.state.lock();
        let registration = state.registration.take();
        state.readers.wake_all();
        state.writers.wake_all();
        drop(state);
        if let Some(registration) = registration {
            registration.reactor.remove(registration.key);
        }
    }

    fn edge(&self, edge: Edge) {
        let mut state = self.state.lock();
        if edge.hung_up {
            self.hung_up.store(true, Ordering::Relaxed);
        }
        for (count, ready) in self.edges.iter().zip([edge.readable, edge.writable]) {
            count.store(
                count.load(Ordering::Relaxed) + u64::from(ready),
                Ordering::Release,
            );
        }
        if edge.readable {
            state.readers.wake_all_again();
        }
        if edge.writable {
            state.writers.wake_all_again();
        }
    }
}

impl State {
    fn is_waited_for(&self) -> bool {
        !self.readers.is_empty() || !self.writers.is_empty()
    }

    fn waiters(&mut self, interest: Interest) -> &mut WaitList {
        match interest {
            Interest::Read => &mut self.readers,
            Interest::Write => &mut self.writers,
        }
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
            source.enlist(Interest::Read, seen, &reactor, &wait),
            Enlisted::TryAgain
        );
        assert_eq!(
            source.enlist(
                Interest::Read,
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
