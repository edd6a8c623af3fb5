//! Where tests of things that wait run: on OS threads, on one worker and on two.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hebra::thread::{self, Thread};

use super::{bounded, on_workers, wait_until};

/// Long enough for nobody to wait for it in vain, short enough to be waited for.
pub const SHORT: Duration = Duration::from_millis(20);

/// Where a test body and its helpers run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Place {
    OsThreads,
    Workers(usize),
}

/// What [`Place::spawn`] has spawned.
pub enum Handle<T> {
    Os(std::thread::JoinHandle<T>),
    Green(thread::JoinHandle<T>),
}

impl Place {
    pub fn spawn<T: Send + 'static>(self, f: impl FnOnce() -> T + Send + 'static) -> Handle<T> {
        match self {
            Place::OsThreads => Handle::Os(std::thread::spawn(f)),
            Place::Workers(_) => Handle::Green(thread::spawn(f)),
        }
    }

    /// Spawns `f`, and returns when it waits for I/O for the first time; on two workers, when it
    /// has started. It must wait before long.
    pub fn spawn_waiting<T: Send + 'static>(
        self,
        f: impl FnOnce() -> T + Send + 'static,
    ) -> Handle<T> {
        let started = Arc::new(AtomicUsize::new(0));
        let announced = started.clone();
        let handle = self.spawn(move || {
            announced.store(
                rustix::thread::gettid().as_raw_nonzero().get() as usize,
                SeqCst,
            );
            f()
        });
        wait_until(|| started.load(SeqCst) > 0);
        if self == Place::OsThreads {
            let stat = format!("/proc/self/task/{}/stat", started.load(SeqCst));
            // A thread that has waited and ended already has no such file.
            wait_until(|| {
                std::fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") S "))
            });
        }
        handle
    }
}

impl<T> Handle<T> {
    pub fn is_finished(&self) -> bool {
        match self {
            Handle::Os(handle) => handle.is_finished(),
            Handle::Green(handle) => handle.is_finished(),
        }
    }

    pub fn join(self) -> T {
        let result = match self {
            Handle::Os(handle) => handle.join(),
            Handle::Green(handle) => handle.join(),
        };
        result.unwrap_or_else(|payload| std::panic::resume_unwind(payload))
    }
}

/// Runs `body` on OS threads, on one worker and on two.
pub fn everywhere(body: impl Fn(Place)) {
    bounded(|| body(Place::OsThreads));
    on_one_and_two(body);
}

pub fn on_one_and_two(body: impl Fn(Place)) {
    for workers in [1, 2] {
        on_workers(workers, || body(Place::Workers(workers)));
    }
}

/// How many descriptors the process has open.
pub fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

const PERIOD: usize = 251;
const LONGEST_PIECE: usize = 70_001;

/// What is sent: bytes that depend on their place, so that what is lost, doubled or exchanged
/// shows.
pub fn pattern(from: usize, len: usize) -> Vec<u8> {
    (from..from + len).map(|at| (at % PERIOD) as u8).collect()
}

/// Writes the first `len` bytes of the pattern in pieces of many sizes.
pub fn write_pattern(mut stream: impl Write, len: usize) -> io::Result<()> {
    let bytes = pattern(0, PERIOD + LONGEST_PIECE);
    let (mut at, mut size) = (0, 1);
    while at < len {
        let piece = size.min(len - at);
        stream.write_all(&bytes[at % PERIOD..][..piece])?;
        (at, size) = (at + piece, size * 3 % LONGEST_PIECE);
    }
    Ok(())
}

/// Reads to the end, and returns the length of the pattern that has come.
pub fn read_pattern(mut stream: impl Read) -> io::Result<usize> {
    let (mut buffer, expected, mut len) = ([0; 16 << 10], pattern(0, PERIOD + (16 << 10)), 0);
    loop {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            return Ok(len);
        }
        assert!(
            buffer[..n] == expected[len % PERIOD..][..n],
            "wrong data after {len} bytes"
        );
        len += n;
    }
}

/// Runs `f` on a worker other than the caller's: this one does nothing else until somebody has
/// taken it.
pub fn on_another_worker<T: Send + 'static>(
    f: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    let (here, taken) = (
        std::thread::current().id(),
        Arc::new(AtomicBool::new(false)),
    );
    let taking = taken.clone();
    let handle = thread::spawn(move || {
        assert_ne!(std::thread::current().id(), here);
        taking.store(true, SeqCst);
        f()
    });
    while !taken.load(SeqCst) {
        std::hint::spin_loop();
    }
    handle
}

/// Something that two threads give to each other, back and forth.
pub struct Ball<T>([Mutex<(Option<T>, Option<Thread>)>; 2]);

impl<T> Ball<T> {
    pub fn new() -> Arc<Ball<T>> {
        Arc::new(Ball([(); 2].map(|()| Mutex::new((None, None)))))
    }

    pub fn give(&self, to: usize, value: T) {
        let mut side = self.0[to].lock().unwrap();
        side.0 = Some(value);
        if let Some(waiting) = side.1.take() {
            waiting.unpark();
        }
    }

    pub fn take(&self, me: usize) -> T {
        loop {
            let mut side = self.0[me].lock().unwrap();
            if let Some(value) = side.0.take() {
                return value;
            }
            side.1 = Some(thread::current());
            drop(side);
            thread::park();
        }
    }
}

/// Tells that it has been dropped.
pub struct Guard(pub Arc<AtomicUsize>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

/// Runs `f` on a green thread until it waits, cancels that, and makes sure that it has unwound.
pub fn assert_cancelled<T: Send + 'static>(place: Place, f: impl FnOnce() -> T + Send + 'static) {
    let unwound = Arc::new(AtomicUsize::new(0));
    let guard = Guard(unwound.clone());
    let Handle::Green(handle) = place.spawn_waiting(move || (guard, f()).1) else {
        panic!("OS threads are not cancelled");
    };
    handle.cancel();
    let Err(payload) = handle.join() else {
        panic!("it did not wait")
    };
    assert!(
        payload.is::<thread::Cancelled>(),
        "it was cancelled, and nothing else"
    );
    assert_eq!(unwound.load(SeqCst), 1);
}
