//! Signals of the system: SIGINT, SIGTERM and their like, waited for instead of handled.
//!
//! ```
//! use hebra::signal::{SIGINT, SIGTERM, Signals};
//!
//! hebra::run(|| -> std::io::Result<()> {
//!     let signals = Signals::new([SIGINT, SIGTERM])?;
//!     hebra::thread::spawn(move || {
//!         let signal = signals.wait().unwrap();
//!         println!("signal {signal}: no more connections");
//!     });
//!     // … serve …
//!     Ok(())
//! })?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! # How a signal comes through
//!
//! A handler may be run at any instant, on any thread, in the middle of anything: it can neither
//! lock nor allocate. So all that it touches stands fast. Each [`Signals`] has a *post*, with a
//! count for each signal and a pipe as its bell; the posts are a list that only grows, and one
//! whose listener is gone waits for the next one. What the handler finds is never freed, and never
//! another's descriptor.
//!
//! ```text
//!   FIRST --> Post --> Post --> Post      the handler: for each post that wants the signal: count += 1; if not rung: rung, write a byte
//!                                         a waiter:    read a byte, not rung; take 1 from a count; none there: wait for a byte
//! ```
//!
//! A handler that finds the bell rung may leave it at that: who has read the byte, or will, looks
//! at the counts after it has said so. A waiter that leaves something behind rings again, as it may
//! have read the byte that woke another. So there are never more than a few bytes in the pipe, and
//! a handler's write never fails.

use std::borrow::Borrow;
use std::ffi::{c_int, c_void};
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::channel::{Readiness, Receiver, never};
use crate::io::{Interest, Io, Limit, refuse_in_simulation};
use crate::lock::Lock;
use crate::scheduler::task::Reason;

pub use libc::{
    SIGABRT, SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGIO, SIGPIPE, SIGPROF, SIGQUIT, SIGSYS,
    SIGTERM, SIGTRAP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGUSR1, SIGUSR2, SIGVTALRM, SIGWINCH,
    SIGXCPU, SIGXFSZ,
};

/// One more than the largest number of a signal.
const SIGNALS: usize = 65;

/// What comes of a fault in the code at hand: there is nothing to go on with.
const FAULTS: [c_int; 4] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL];

/// Listens for signals.
///
/// From [`new`](Signals::new) on each of them is kept for [`wait`](Signals::wait), and does nothing
/// else: SIGTERM does not end the process. Each listener gets every signal, and any number of
/// threads may wait for one listener: each signal goes to one of them. As long as a signal is
/// pending the kernel does not send a second one of its kind; those that it sends are counted, and
/// none is lost. Signals of different kinds come in the order of their numbers.
///
/// When the last listener for a signal is dropped, what was there before is put back: SIGTERM ends
/// the process again. A handler that was there before is called meanwhile, too.
pub struct Signals {
    post: &'static Post,
    /// The bell's reading end.
    bell: Io,
}

/// What the handler tells one listener; see the module.
struct Post {
    /// A bit for each signal.
    wanted: AtomicU64,
    counts: [AtomicU32; SIGNALS],
    rung: AtomicBool,
    /// A pipe: where it is rung, and where that is heard. Both non-blocking.
    ring: OwnedFd,
    hear: OwnedFd,
    /// It has a listener.
    taken: AtomicBool,
    next: OnceLock<Box<Post>>,
}

static FIRST: OnceLock<Box<Post>> = OnceLock::new();

/// What was done at each signal before us, as an address; for the handler.
static PREVIOUS: [AtomicUsize; SIGNALS] = [const { AtomicUsize::new(libc::SIG_DFL) }; SIGNALS];

/// The signals that are listened for. Held while listeners come and go, never by the handler.
static INSTALLED: Lock<[Option<Installed>; SIGNALS]> = Lock::new([const { None }; SIGNALS]);

struct Installed {
    listeners: usize,
    previous: libc::sigaction,
}

impl Signals {
    /// Begins to listen for `signals`.
    ///
    /// # Errors
    /// `InvalidInput` if one of them is no signal, cannot be caught (SIGKILL, SIGSTOP), or tells of
    /// a fault in the program itself (SIGSEGV, SIGBUS, SIGFPE, SIGILL). Also when the process
    /// is out of file descriptors.
    pub fn new<I>(signals: I) -> io::Result<Signals>
    where
        I: IntoIterator,
        I::Item: Borrow<c_int>,
    {
        refuse_in_simulation("a signal")?;
        let mut wanted = 0;
        for signal in signals {
            let signal = *signal.borrow();
            if !(1..SIGNALS as c_int).contains(&signal) || FAULTS.contains(&signal) {
                let message = format!("{signal} is no signal that can be waited for");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            wanted |= bit(signal);
        }
        let mut installed = INSTALLED.lock();
        let post = free_post()?;
        let bell = Io::new(post.hear.try_clone()?);
        // First, so that the first signal that does not do what it did before is noted.
        post.counts
            .iter()
            .for_each(|count| count.store(0, Ordering::Relaxed));
        post.wanted.store(wanted, Ordering::Release);
        post.taken.store(true, Ordering::Relaxed);
        for signal in each(wanted) {
            if let Err(error) = install(&mut installed, signal) {
                each(wanted)
                    .take_while(|before| *before < signal)
                    .for_each(|before| remove(&mut installed, before));
                post.leave();
                return Err(error);
            }
        }
        Ok(Signals { post, bell })
    }

    /// Waits for the next signal, and returns its number.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    ///
    /// # Errors
    /// Only in a destructor of a thread that is being cancelled.
    pub fn wait(&self) -> io::Result<c_int> {
        self.wait_within(Limit::Deadline(None))
    }

    /// As [`wait`](Signals::wait), for `timeout` at most.
    ///
    /// # Errors
    /// `TimedOut` if it passes.
    pub fn wait_timeout(&self, timeout: Duration) -> io::Result<c_int> {
        self.wait_within(Limit::Timeout(timeout))
    }

    /// As [`wait`](Signals::wait), until `deadline` at most.
    ///
    /// # Errors
    /// `TimedOut` if it passes.
    pub fn wait_deadline(&self, deadline: Instant) -> io::Result<c_int> {
        self.wait_within(Limit::Deadline(Some(deadline)))
    }

    /// Returns the next signal, if it has come already.
    pub fn try_wait(&self) -> Option<c_int> {
        self.listen()
    }

    fn wait_within(&self, limit: Limit) -> io::Result<c_int> {
        self.bell
            .retry_within(limit, Interest::Read, Reason::Signal, |_| {
                self.listen().ok_or(Errno::AGAIN)
            })
    }

    fn listen(&self) -> Option<c_int> {
        let _ = rustix::io::read(&self.bell, &mut [0; 8]);
        self.post.rung.swap(false, Ordering::AcqRel);
        self.post.take()
    }
}

/// [`readable`](crate::channel::readable) tells when a signal has come, in a `select!`, say.
/// Nothing is ever written.
impl Readiness for Signals {
    fn until_readable(&self) -> Receiver<()> {
        self.bell.readiness(Interest::Read)
    }

    fn until_writable(&self) -> Receiver<()> {
        never()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        let mut installed = INSTALLED.lock();
        each(self.post.wanted.load(Ordering::Relaxed))
            .for_each(|signal| remove(&mut installed, signal));
        self.post.leave();
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signals: Vec<c_int> = each(self.post.wanted.load(Ordering::Relaxed)).collect();
        f.debug_tuple("Signals").field(&signals).finish()
    }
}

/// Waits for SIGINT, which a terminal sends at Ctrl-C.
///
/// Until this is called, and again when it has returned, SIGINT ends the process: so a second
/// Ctrl-C ends a program that does not end. Use [`Signals`] to keep it for good.
///
/// # Cancellation
/// Parks the current thread; this is a cancel point.
///
/// # Errors
/// As [`Signals::new`] and [`Signals::wait`].
pub fn ctrl_c() -> io::Result<()> {
    Signals::new([SIGINT])?.wait().map(drop)
}

impl Post {
    fn new() -> io::Result<Post> {
        let (hear, ring) = io::pipe()?;
        rustix::io::ioctl_fionbio(&ring, true)?;
        rustix::io::ioctl_fionbio(&hear, true)?;
        Ok(Post {
            wanted: AtomicU64::new(0),
            counts: [const { AtomicU32::new(0) }; SIGNALS],
            rung: AtomicBool::new(false),
            ring: ring.into(),
            hear: hear.into(),
            taken: AtomicBool::new(false),
            next: OnceLock::new(),
        })
    }

    /// Any thread, in a handler.
    fn put(&self, signal: c_int) {
        if self.wanted.load(Ordering::Acquire) & bit(signal) != 0 {
            self.counts[signal as usize].fetch_add(1, Ordering::Release);
            self.ring();
        }
    }

    fn ring(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            let _ = rustix::io::write(&self.ring, &[0]);
        }
    }

    fn take(&self) -> Option<c_int> {
        let wanted = self.wanted.load(Ordering::Relaxed);
        let less = |count: u32| count.checked_sub(1);
        let count = |signal: c_int| &self.counts[signal as usize];
        let taken = each(wanted).find(|signal| {
            count(*signal)
                .fetch_update(Ordering::Acquire, Ordering::Relaxed, less)
                .is_ok()
        })?;
        if each(wanted).any(|signal| count(signal).load(Ordering::Relaxed) > 0) {
            self.ring();
        }
        Some(taken)
    }

    /// Under the lock of `INSTALLED`.
    fn leave(&self) {
        self.wanted.store(0, Ordering::Relaxed);
        self.taken.store(false, Ordering::Relaxed);
    }
}

fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

fn each(signals: u64) -> impl Iterator<Item = c_int> {
    (1..SIGNALS as c_int).filter(move |signal| signals & bit(*signal) != 0)
}

/// Finds a post without a listener, or makes one. Under the lock of `INSTALLED`.
fn free_post() -> io::Result<&'static Post> {
    let mut place = &FIRST;
    while let Some(post) = place.get() {
        if !post.taken.load(Ordering::Relaxed) {
            return Ok(post);
        }
        place = &post.next;
    }
    let post = Box::new(Post::new()?);
    Ok(place.get_or_init(|| post))
}

/// Adds a listener for a signal, and our handler with the first one.
fn install(installed: &mut [Option<Installed>; SIGNALS], signal: c_int) -> io::Result<()> {
    let entry = &mut installed[signal as usize];
    if let Some(installed) = entry {
        installed.listeners += 1;
        return Ok(());
    }
    let previous = change_action(signal, None)?;
    PREVIOUS[signal as usize].store(previous.sa_sigaction, Ordering::Relaxed);
    let mut ours = previous;
    ours.sa_sigaction = on_signal as *const () as usize;
    // On the alternate stack, as that of a green thread is small; and one at a time, as the
    // alternate stack is small, too.
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: the pointer is that of a whole set.
    unsafe { libc::sigfillset(&mut ours.sa_mask) };
    change_action(signal, Some(&ours))?;
    *entry = Some(Installed {
        listeners: 1,
        previous,
    });
    Ok(())
}

/// Takes a listener for a signal away, and our handler with the last one.
fn remove(installed: &mut [Option<Installed>; SIGNALS], signal: c_int) {
    let entry = &mut installed[signal as usize];
    let Some(Installed {
        listeners,
        previous,
    }) = entry
    else {
        return;
    };
    *listeners -= 1;
    if *listeners == 0 {
        // Somebody may have put a handler in place after us; it is not ours to remove then.
        let is_ours = change_action(signal, None)
            .is_ok_and(|now| now.sa_sigaction == on_signal as *const () as usize);
        if is_ours {
            let _ = change_action(signal, Some(previous));
        }
        *entry = None;
    }
}

/// Sets what a signal does, if `new` says so; returns what it did.
fn change_action(signal: c_int, new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    let mut old = MaybeUninit::uninit();
    // SAFETY: both pointers are valid or null; all that is ever set is `on_signal`, which is
    // async-signal-safe, or what was there before.
    match unsafe {
        libc::sigaction(
            signal,
            new.map_or(ptr::null(), ptr::from_ref),
            old.as_mut_ptr(),
        )
    } {
        // SAFETY: a successful call has written it.
        0 => Ok(unsafe { old.assume_init() }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The handler. It reads what never goes away, changes atomics and writes to pipes, and calls what
/// was there before.
extern "C" fn on_signal(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let mut post = FIRST.get();
    while let Some(here) = post {
        here.put(signal);
        post = here.next.get();
    }
    let address = PREVIOUS[signal as usize].load(Ordering::Relaxed);
    if address != libc::SIG_DFL && address != libc::SIG_IGN {
        let handler = Handler { address };
        // SAFETY: neither default nor ignored, so it is the address of a function. It gets all
        // three arguments whatever its SA_SIGINFO says, which is also how the kernel calls
        // it.
        let function = unsafe { handler.function };
        function(signal, info, context);
    }
}

/// The first member of C's `struct sigaction`, which is a union there too.
union Handler {
    address: usize,
    function: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void),
}
