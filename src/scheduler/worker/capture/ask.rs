//! Asks workers for a capture, and interrupts those that do not come to it.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{Ordering, compiler_fence, fence};
use std::time::{Duration, Instant};

use super::super::local;
use super::super::{Post, Shared};
use super::{AnsweredBy, Capture, TABLES};
use crate::stack_walk::Registers;

/// How long a worker may take to begin, after it has been interrupted.
const BEGIN_PATIENCE: Duration = Duration::from_secs(1);
/// How long it may take once it has begun: a hundred times what a million threads take.
const END_PATIENCE: Duration = Duration::from_secs(60);
/// How often the asker looks whether it has been answered.
const LOOK: Duration = Duration::from_micros(100);

/// What one worker has written down.
pub(crate) struct CaptureAnswer {
    /// The kernel's number of its OS thread; 0: the worker has not begun, or has ended.
    pub(crate) tid: u32,
    pub(crate) by: AnsweredBy,
    pub(crate) capture: Box<Capture>,
}

/// A request to one worker.
struct Request<'a> {
    post: &'a Post,
    tid: u32,
    /// From `into_raw`. It is the worker's once that has taken it out of `Post::wanted`, until it
    /// answers.
    capture: *mut Capture,
}

impl<'a> Request<'a> {
    fn new(post: &'a Post) -> Request<'a> {
        let (tid, slots) = TABLES[post.inbox.worker() as usize].size();
        let capture = Box::into_raw(Capture::new(slots));
        post.wanted.store(capture, Ordering::SeqCst);
        Request { post, tid, capture }
    }

    fn is_answered(&self) -> bool {
        // SAFETY: allocated until `finish`; the field is atomic, and no other is looked at before
        // this says that the worker has done with it.
        let answered = unsafe { &(*self.capture).answered };
        answered.load(Ordering::Acquire) != AnsweredBy::Nobody as u8
    }

    /// Whether the worker writes.
    fn is_begun(&self) -> bool {
        self.post.wanted.load(Ordering::Acquire).is_null()
    }

    /// Takes the request back. `None` if the worker has begun and does not end: the memory is
    /// leaked then, as it may still be written to.
    fn finish(self) -> Option<CaptureAnswer> {
        let kept = self
            .post
            .wanted
            .compare_exchange(
                self.capture,
                ptr::null_mut(),
                Ordering::AcqRel,
                Ordering::Acquire,
            )
            .is_ok();
        (kept || self.is_answered()).then(|| {
            // SAFETY: from `into_raw`. Either the worker has not taken it and cannot any more, or it
            // has answered, which is the last that it does with it.
            let capture = unsafe { Box::from_raw(self.capture) };
            CaptureAnswer {
                tid: self.tid,
                by: capture.answered_by(),
                capture,
            }
        })
    }
}

/// Has all workers of a runtime write down their green threads. One that does not begin within
/// `patience` is interrupted by a signal.
pub(crate) fn capture_all(shared: &Arc<Shared>, patience: Duration) -> Vec<CaptureAnswer> {
    // One dump at a time: a second one would find the requests of the first.
    let _turn = shared.dumps.lock();
    let requests: Vec<Request<'_>> = shared.posts.iter().map(Request::new).collect();
    // A worker looks at `wanted` after it has announced its sleep; this is the other way round.
    fence(Ordering::SeqCst);
    shared.posts.iter().for_each(|post| {
        post.inbox.rouse();
    });
    let began = Instant::now();
    let wait = |is_done: &dyn Fn(&Request<'_>) -> bool, time: Duration| {
        let is_done = |request: &Request<'_>| request.tid == 0 || is_done(request);
        while !requests.iter().all(is_done) && began.elapsed() < time {
            std::thread::sleep(LOOK);
        }
    };
    // The caller's own worker cannot come to it while it waits here.
    if !local::is_worker() {
        wait(&|request| request.is_begun(), patience);
    }
    for request in requests
        .iter()
        .filter(|one| one.tid != 0 && !one.is_begun())
    {
        interrupt(request.tid);
    }
    wait(&|request| request.is_begun(), patience + BEGIN_PATIENCE);
    wait(
        &|request| request.is_answered() || !request.is_begun(),
        END_PATIENCE,
    );
    requests.into_iter().filter_map(Request::finish).collect()
}

/// Go's choice, for its reasons: debuggers pass it on, libc does not use it, one too many does no
/// harm, and hardly any program has a use of its own for it.
const SIGNAL: c_int = libc::SIGURG;

/// Has the OS thread of that number run [`on_signal`]. Nothing happens if the program handles that
/// signal itself.
fn interrupt(tid: u32) {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        // SAFETY: all zeros is a value of it.
        let (mut action, mut previous): (libc::sigaction, libc::sigaction) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        // SAFETY: it only reads what is there.
        unsafe { libc::sigaction(SIGNAL, ptr::null(), &mut previous) };
        let is_free = matches!(previous.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN);
        // SAFETY: a handler of that kind, which keeps to what a handler may do: it allocates
        // nothing and locks nothing.
        is_free && unsafe { libc::sigaction(SIGNAL, &action, ptr::null_mut()) } == 0
    });
    if *installed {
        // SAFETY: a signal to an OS thread of this process; where that is over, an error.
        unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, SIGNAL) };
    }
}

/// Captures the green threads of the worker that the calling OS thread is, if a green thread runs
/// there; otherwise the loop comes to it at once.
extern "C" fn on_signal(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the place of this OS thread's error number, which the interrupted code may look at
    // next.
    let errno = unsafe { *libc::__errno_location() };
    // The interrupted code may be about to change what is read here: the compiler must not have
    // moved that. The worker has the other fence, around the resume.
    compiler_fence(Ordering::SeqCst);
    local::capture_in_handler(registers(context));
    compiler_fence(Ordering::SeqCst);
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
}

#[cfg(all(
    feature = "dump",
    target_arch = "x86_64",
    target_os = "linux",
    not(hebra_sanitizer)
))]
fn registers(context: *mut c_void) -> Registers {
    // SAFETY: what the kernel hands to a handler of this kind.
    let all = unsafe { &(*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let register = |number: c_int| all[number as usize].cast_unsigned();
    Registers {
        pc: register(libc::REG_RIP),
        sp: register(libc::REG_RSP),
        bp: register(libc::REG_RBP),
    }
}

#[cfg(not(all(
    feature = "dump",
    target_arch = "x86_64",
    target_os = "linux",
    not(hebra_sanitizer)
)))]
fn registers(_: *mut c_void) -> Registers {
    Registers {}
}
