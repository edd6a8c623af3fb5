//! [`Task`]: the scheduler's record of one green thread.
//!
//! One allocation holds the record and, as its unsized tail, what only `hebra::thread` understands:
//! the closure before the thread has run, its result afterwards. The scheduler sees the tail as
//! [`Body`] and can only run it.
//!
//! ```text
//!   unstarted --- a worker takes it: home and slot are set, it gets a stack ---> started --- its body returns ---> finished
//! ```
//!
//! An unstarted task belongs to nobody and may be taken by any worker; a started one belongs to its
//! home worker (law 2).

use crate::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::cell::Cell;
use std::fmt;
use std::io;
use std::panic::Location;
use std::ptr::{self, NonNull};
use std::sync::{Arc, OnceLock};

use super::claim::{Claim, Token};
use super::clock::Nanos;
use super::run_queue::Home;

/// A green thread's record, whatever its body.
pub(crate) type TaskRef = Arc<Task<dyn Body>>;

/// What a green thread does.
pub(crate) trait Body: Send + Sync {
    /// Runs on the green thread's own stack, once. Must not unwind.
    fn run(&self, start: Start);
}

/// The body of a green thread whose closure its worker keeps, as it need not be `Send`.
pub(crate) struct KeptByWorker;

impl Body for KeptByWorker {
    fn run(&self, _: Start) {
        unreachable!("the worker runs the closure that it keeps");
    }
}

/// What a builder can give a green thread.
#[derive(Debug, Default)]
pub(crate) struct Attributes {
    pub(crate) name: Option<Box<str>>,
    /// Instead of the runtime's.
    pub(crate) stack_size: Option<usize>,
}

/// How a green thread begins.
#[derive(Debug)]
pub(crate) enum Start {
    /// Run the closure.
    Run,
    /// The runtime is shutting down: drop the closure unrun.
    Discard,
    /// The runtime is over: drop the closure unrun, where the caller stands.
    Refused,
    /// There is no stack to run it on: drop the closure unrun, on a smaller one. If there is none
    /// either, the worker's loop does it.
    NoStack(io::Error),
}

/// Why a thread is parked, in words: what dumps and deadlock reports print.
macro_rules! reasons {
    ($($name:ident = $words:literal,)*) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub(crate) enum Reason {
            $($name,)*
        }

        impl Reason {
            pub(crate) const ALL: &[Reason] = &[$(Reason::$name,)*];

            pub(crate) const fn words(self) -> &'static str {
                match self {
                    $(Reason::$name => $words,)*
                }
            }
        }
    };
}

reasons! {
    Running = "not parked",
    Sleep = "sleeping",
    Park = "parked",
    Join = "joining",
    Accept = "accepting",
    Connect = "connecting",
    Read = "reading",
    Write = "writing",
    Lock = "locking",
    Condvar = "waiting on a condition variable",
    Barrier = "waiting at a barrier",
    Once = "waiting for an initialisation",
    Acquire = "acquiring permits",
    Event = "waiting for an event",
    Group = "waiting for a group",
    Send = "sending",
    Receive = "receiving",
    Select = "selecting",
    Scope = "waiting for the threads of a scope",
    Future = "awaiting a future",
    Blocking = "waiting for a blocking call",
    Signal = "waiting for a signal",
    Child = "waiting for a child process",
    Shutdown = "waiting for a runtime to end",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// In `home`: somebody has cancelled the thread.
const CANCEL: u64 = 1 << 63;

/// In `attention`: the next cancel point unwinds.
const CANCELLED: u8 = 1;
/// In `attention`: the thread is in a cancel scope of its own.
const SCOPED: u8 = 2;
/// In `attention`: an audit wants to know of its cancel points.
const MARKED: u8 = 4;

/// The scheduler's record of one green thread; see the module. What a wait and a wake need stands
/// first, in one cache line with the reference counts.
#[repr(C)]
pub(crate) struct Task<B: ?Sized = dyn Body> {
    pub(crate) claim: Claim,
    /// A [`Home`], as worker + 1 and slot, 0 before the start; and [`CANCEL`]. The worker that
    /// starts the thread sets the one, whoever cancels it the other, and the second of them
    /// sees what the first has done.
    home: AtomicU64,
    /// A [`Reason`]; written by the thread itself, read by anybody.
    reason: AtomicU8,
    /// The open wait is not to be ended by a cancellation. Home worker only.
    shielded: AtomicBool,
    /// The dead pages below the open wait have been given back. Home worker only.
    swept: AtomicBool,
    /// [`CANCELLED`], [`SCOPED`] and [`MARKED`]: what a cancel point has to look at. Home worker only.
    attention: AtomicU8,
    /// A cancel point has unwound, and the scope that catches has not been left. Home worker only.
    raised: AtomicBool,
    /// The thread is parked, and `waits_for` is where the id of the thread stands that it waits
    /// for. Home worker only.
    owned: AtomicBool,
    /// The payload of a cancellation's unwinding is alive. Home worker only.
    cancelling: AtomicBool,
    /// The thread runs the body of a generator that its unwinding has resumed; see `unwinding`. Home
    /// worker only.
    in_destructor: AtomicBool,
    /// When the thread parked, by its worker's last reading of the clock.
    since: AtomicU64,
    /// Where its stack ended when it parked last. For prefetching, and for giving back dead pages.
    stack_end: AtomicUsize,
    /// The address of what the thread waits for, to be brought into the cache before the thread
    /// runs; null for nothing. Never followed, unless `owned`.
    waits_for: AtomicPtr<AtomicU64>,
    location: &'static Location<'static>,
    /// What most threads never need. A record with a small body is then an allocation of 120
    /// bytes, which matters: up to there glibc keeps what is freed for the next one, and does
    /// not give the pages back between two bursts of spawns.
    rare: OnceLock<Box<Rare>>,
    pub(crate) body: B,
}

#[derive(Default)]
pub(crate) struct Rare {
    token: Token,
    /// 0 until somebody asks for the id.
    id: AtomicU64,
    attributes: Attributes,
    /// Where it was cancelled, by whoever did so first; empty if that was the end of the runtime.
    cancelled_at: OnceLock<&'static Location<'static>>,
}

/// Offsets in a record, for debuggers.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Layout {
    claim: usize,
    home: usize,
    reason: usize,
    owned: usize,
    since: usize,
    waits_for: usize,
    rare: usize,
    /// In what `rare` points to.
    id: usize,
}

impl Layout {
    pub(crate) const fn new() -> Layout {
        use std::mem::offset_of;
        type Plain = Task<KeptByWorker>;
        Layout {
            claim: offset_of!(Plain, claim),
            home: offset_of!(Plain, home),
            reason: offset_of!(Plain, reason),
            owned: offset_of!(Plain, owned),
            since: offset_of!(Plain, since),
            waits_for: offset_of!(Plain, waits_for),
            rare: offset_of!(Plain, rare),
            id: offset_of!(Rare, id),
        }
    }
}

/// Lends a lock as a record has one, and the address of what is in its box.
pub(crate) fn find_rare<T>(find: impl FnOnce(&OnceLock<Box<Rare>>, usize) -> T) -> T {
    let rare = OnceLock::from(Box::<Rare>::default());
    let address = rare.get().map_or(0, |rare| ptr::from_ref(&**rare).addr());
    find(&rare, address)
}

impl<B> Task<B> {
    pub(crate) fn new(
        attributes: Attributes,
        location: &'static Location<'static>,
        body: B,
    ) -> Task<B> {
        let plain = attributes.name.is_none() && attributes.stack_size.is_none();
        Task {
            claim: Claim::new(),
            home: AtomicU64::new(0),
            reason: AtomicU8::new(Reason::Running as u8),
            shielded: AtomicBool::new(false),
            swept: AtomicBool::new(false),
            attention: AtomicU8::new(0),
            raised: AtomicBool::new(false),
            cancelling: AtomicBool::new(false),
            in_destructor: AtomicBool::new(false),
            since: AtomicU64::new(0),
            stack_end: AtomicUsize::new(0),
            owned: AtomicBool::new(false),
            waits_for: AtomicPtr::new(ptr::null_mut()),
            location,
            rare: if plain {
                OnceLock::new()
            } else {
                OnceLock::from(Box::new(Rare {
                    attributes,
                    ..Rare::default()
                }))
            },
            body,
        }
    }
}

impl<B: ?Sized> Task<B> {
    fn rare(&self) -> &Rare {
        self.rare.get_or_init(Box::default)
    }

    pub(crate) fn name(&self) -> Option<&str> {
        self.rare.get()?.attributes.name.as_deref()
    }

    /// The token of `park` and `unpark`.
    pub(crate) fn token(&self) -> &Token {
        &self.rare().token
    }

    /// Where the green thread was spawned.
    pub(crate) fn location(&self) -> &'static Location<'static> {
        self.location
    }

    /// The stack size that was asked for, if one was.
    pub(crate) fn stack_size(&self) -> Option<usize> {
        self.rare.get()?.attributes.stack_size
    }

    /// Returns the process-wide unique id, drawing it at the first call: most green threads are
    /// never asked.
    pub(crate) fn id(&self) -> u64 {
        self.id_word().load(Ordering::Relaxed)
    }

    /// The id, or 0 if nothing has asked for it yet.
    pub(crate) fn id_if_drawn(&self) -> u64 {
        self.rare
            .get()
            .map_or(0, |rare| rare.id.load(Ordering::Relaxed))
    }

    /// Where the id stands, which has been drawn: for whoever waits for this thread.
    pub(crate) fn id_word(&self) -> &AtomicU64 {
        let id = &self.rare().id;
        if id.load(Ordering::Relaxed) == 0 {
            // Whoever draws second has drawn in vain.
            let _ = id.compare_exchange(0, next_id(), Ordering::Relaxed, Ordering::Relaxed);
        }
        id
    }

    pub(crate) fn home(&self) -> Option<Home> {
        home_of(self.home.load(Ordering::Relaxed))
    }

    /// Starts the task at `home`. Only the worker that took it may call this, once: a green thread
    /// never moves. Whoever is to look it up learns of the thread through a lock that is taken
    /// later. Returns whether the thread was cancelled before.
    pub(crate) fn settle(&self, home: Home) -> bool {
        let word = (u64::from(home.worker) + 1) << 32 | u64::from(home.slot);
        let before = self.home.fetch_or(word, Ordering::AcqRel);
        debug_assert!(home_of(before).is_none(), "a green thread never moves");
        before & CANCEL != 0
    }

    /// Cancels the thread as a whole, from any thread. Returns its home, if it has one and has not
    /// been told yet.
    pub(crate) fn request_cancel(&self, at: Option<&'static Location<'static>>) -> Option<Home> {
        if let Some(at) = at
            && !self.is_cancel_requested()
        {
            let _ = self.rare().cancelled_at.set(at);
        }
        let before = self.home.fetch_or(CANCEL, Ordering::AcqRel);
        home_of(before).filter(|_| before & CANCEL == 0)
    }

    /// Whether the thread has been cancelled as a whole.
    pub(crate) fn is_cancel_requested(&self) -> bool {
        self.home.load(Ordering::Acquire) & CANCEL != 0
    }

    /// Where it was cancelled, if not by the end of its runtime.
    pub(crate) fn cancelled_at(&self) -> Option<&'static Location<'static>> {
        self.rare.get()?.cancelled_at.get().copied()
    }

    /// Why the thread is parked.
    pub(crate) fn reason(&self) -> Reason {
        Reason::ALL[usize::from(self.reason.load(Ordering::Relaxed))]
    }

    pub(crate) fn set_parked(&self, reason: Reason, since: Nanos, shielded: bool) {
        self.shielded.store(shielded, Ordering::Relaxed);
        self.swept.store(false, Ordering::Relaxed);
        self.reason.store(reason as u8, Ordering::Relaxed);
        self.since.store(since, Ordering::Relaxed);
    }

    /// When the thread parked, if it is parked.
    pub(crate) fn since(&self) -> Nanos {
        self.since.load(Ordering::Relaxed)
    }

    pub(crate) fn is_swept(&self) -> bool {
        self.swept.load(Ordering::Relaxed)
    }

    pub(crate) fn set_swept(&self) {
        self.swept.store(true, Ordering::Relaxed);
    }

    /// The address at which its stack ended when it parked last: its own stack, or that of a
    /// generator that it parked in.
    pub(crate) fn stack_end(&self) -> usize {
        self.stack_end.load(Ordering::Relaxed)
    }

    pub(crate) fn set_stack_end(&self, address: usize) {
        self.stack_end.store(address, Ordering::Relaxed);
    }

    pub(crate) fn waits_for(&self) -> usize {
        self.waits_for.load(Ordering::Relaxed).addr()
    }

    pub(crate) fn set_waits_for(&self, address: usize) {
        self.waits_for
            .store(ptr::without_provenance_mut(address), Ordering::Relaxed);
    }

    /// Where the id stands of the thread that this one waits for, if it is parked and has lent
    /// that.
    pub(crate) fn owner(&self) -> Option<NonNull<AtomicU64>> {
        NonNull::new(self.waits_for.load(Ordering::Relaxed))
            .filter(|_| self.owned.load(Ordering::Relaxed))
    }

    /// The last thing before the thread suspends: lends the id of whom it waits for, until
    /// [`set_running`](Task::set_running).
    pub(crate) fn set_owner(&self, owner: &AtomicU64) {
        self.waits_for
            .store(ptr::from_ref(owner).cast_mut(), Ordering::Relaxed);
        self.owned.store(true, Ordering::Relaxed);
    }

    pub(crate) fn set_running(&self) {
        self.owned.store(false, Ordering::Relaxed);
        self.reason.store(Reason::Running as u8, Ordering::Relaxed);
    }

    /// Whether a cancel point has anything to look at.
    #[inline]
    pub(crate) fn needs_attention(&self) -> bool {
        self.attention.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.attention.load(Ordering::Relaxed) & CANCELLED != 0
    }

    pub(crate) fn is_scoped(&self) -> bool {
        self.attention.load(Ordering::Relaxed) & SCOPED != 0
    }

    pub(crate) fn set_attention(&self, cancelled: bool, scoped: bool) {
        let bits = if cancelled { CANCELLED } else { 0 } | if scoped { SCOPED } else { 0 };
        let marked = self.attention.load(Ordering::Relaxed) & MARKED;
        self.attention.store(bits | marked, Ordering::Relaxed);
    }

    /// Whether an audit wants to know of the thread's cancel points.
    pub(crate) fn is_marked(&self) -> bool {
        self.attention.load(Ordering::Relaxed) & MARKED != 0
    }

    pub(crate) fn set_marked(&self) {
        self.attention.fetch_or(MARKED, Ordering::Relaxed);
    }

    pub(crate) fn is_shielded(&self) -> bool {
        self.shielded.load(Ordering::Relaxed)
    }

    /// Whether a cancel point has unwound, and the scope that catches has not been left.
    pub(crate) fn is_raised(&self) -> bool {
        self.raised.load(Ordering::Relaxed)
    }

    /// Notes that a cancel point unwinds, or that the scope that was cancelled has been left.
    pub(crate) fn set_raised(&self, raised: bool) {
        self.raised.store(raised, Ordering::Relaxed);
    }

    /// Whether the payload of a cancellation's unwinding is alive.
    pub(crate) fn is_cancelling(&self) -> bool {
        self.cancelling.load(Ordering::Relaxed)
    }

    /// Returns what it was.
    pub(crate) fn set_cancelling(&self, cancelling: bool) -> bool {
        self.cancelling.swap(cancelling, Ordering::Relaxed)
    }

    /// Whether the thread runs the body of a generator that its unwinding has resumed.
    pub(crate) fn is_in_destructor(&self) -> bool {
        self.in_destructor.load(Ordering::Relaxed)
    }

    /// Returns what was noted before.
    pub(crate) fn set_in_destructor(&self, value: bool) -> bool {
        let before = self.is_in_destructor();
        self.in_destructor.store(value, Ordering::Relaxed);
        before
    }
}

fn home_of(word: u64) -> Option<Home> {
    let worker = u32::try_from((word & !CANCEL) >> 32).ok()?.checked_sub(1)?;
    Some(Home {
        worker,
        slot: word as u32,
    })
}

impl<B: ?Sized> fmt::Display for Task<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name().unwrap_or("<unnamed>");
        write!(f, "green thread '{name}' (spawned at {})", self.location)
    }
}

/// Draws an id for a thread, green or OS.
pub(crate) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // Locks go by it, so no two may have the same. At one a nanosecond there are enough for 584
    // years.
    NEXT.fetch_add(1, Ordering::Relaxed)
}

thread_local! {
    /// The id of the thread whose code this OS thread runs; 0 if nobody has asked for it since that began to run.
    static CURRENT: Cell<u64> = const { Cell::new(0) };
}

/// The id of the thread that calls it, which is `id()` unless it has been asked before.
#[inline]
pub(crate) fn current_id(id: impl FnOnce() -> u64) -> u64 {
    match CURRENT.get() {
        0 => {
            CURRENT.set(id());
            CURRENT.get()
        }
        id => id,
    }
}

/// Notes that this OS thread is about to run another thread's code.
#[inline]
pub(crate) fn forget_current_id() {
    CURRENT.set(0);
}
