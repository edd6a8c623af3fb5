//! The pool's threads, and the queue that they are fed from.
//!
//! `spare` says whether a new job will find a thread: threads that wait or are about to, less jobs
//! in the queue. It is changed under the lock before anybody can see what it counts, so no job
//! waits while a thread could be had:
//!
//! ```text
//!   a job comes:                     spare > 0: spare -= 1       a thread waits for it
//!                                    threads < max: threads += 1 a thread is made for it
//!                                    else spare -= 1             it waits for a thread
//!   a thread has done a job:         spare += 1
//!     and the system refuses it:     threads -= 1, spare -= 1   it waits for a thread; its caller asks for one again, and
//!                                                               after a while withdraws it and runs it itself
//!   a caller asks again:             spare < 0: threads += 1, spare += 1
//!   a job is withdrawn:              spare += 1                 an empty shell stays in the queue, and is not counted
//!   a thread has waited in vain:     spare > 0: spare -= 1, threads -= 1, and it ends; else there is a job for it on the way
//! ```

use std::io;
use std::sync::{Arc, LazyLock};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use crate::lock::Lock;
use crate::scheduler::claim::Wake;
use crate::scheduler::waiter::Waiter;

const DEFAULT_MAX_THREADS: usize = 512;
const DEFAULT_KEEP_ALIVE: Duration = Duration::from_secs(5);

/// What a thread of the pool is called. Linux has room for 15 bytes.
const NAME: &str = "hebra-blocking";

/// The process's pool.
pub(super) static POOL: LazyLock<Pool> = LazyLock::new(Pool::new);

/// Something for a thread of the pool to do.
pub(super) trait Job: Send + Sync {
    /// Does it. Must not unwind.
    fn run(&self) -> Ran;
}

/// What has come of a job.
pub(super) enum Ran {
    /// It is done; this one waits for it.
    Done(Option<Waiter>),
    /// It had been withdrawn.
    Withdrawn,
}

/// Where a job is that was submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Submitted {
    /// In the queue, and a thread will take it.
    Taken,
    /// In the queue, but the system has refused the thread for it: all others are busy, and may be
    /// for ever. [`Pool::make_up`] tries again.
    Waiting,
    /// The system refuses a thread and there is no other: the caller has to run it.
    Refused,
}

/// The threads, and their queue; see the module.
pub(super) struct Pool {
    state: Lock<State>,
    sender: Sender<Arc<dyn Job>>,
    receiver: Receiver<Arc<dyn Job>>,
}

struct State {
    threads: usize,
    spare: isize,
    max_threads: usize,
    keep_alive: Duration,
}

impl Pool {
    fn new() -> Pool {
        let state = State {
            threads: 0,
            spare: 0,
            max_threads: DEFAULT_MAX_THREADS,
            keep_alive: DEFAULT_KEEP_ALIVE,
        };
        let (sender, receiver) = unbounded();
        Pool {
            state: Lock::new(state),
            sender,
            receiver,
        }
    }

    pub(super) fn set_max_threads(&self, max: usize) {
        self.state.lock().max_threads = max;
    }

    pub(super) fn set_keep_alive(&self, keep_alive: Duration) {
        self.state.lock().keep_alive = keep_alive;
    }

    /// Has a thread of the pool run `job`.
    pub(super) fn submit(&'static self, job: Arc<dyn Job>) -> Submitted {
        let grow = {
            let mut state = self.state.lock();
            let grow = state.spare <= 0 && state.threads < state.max_threads;
            if grow {
                state.threads += 1;
            } else {
                state.spare -= 1;
            }
            grow
        };
        let mut submitted = Submitted::Taken;
        if grow && self.start_thread().is_err() {
            let mut state = self.state.lock();
            state.threads -= 1;
            if state.threads == 0 {
                return Submitted::Refused;
            }
            state.spare -= 1;
            submitted = Submitted::Waiting;
        }
        self.sender.send(job).expect("the pool keeps a receiver");
        submitted
    }

    /// Makes a thread that was refused before. `false` if it is refused again. The jobs that wait
    /// may have found others meanwhile: then there is nothing to do.
    pub(super) fn make_up(&'static self) -> bool {
        {
            let mut state = self.state.lock();
            if state.spare >= 0 || state.threads >= state.max_threads {
                return true;
            }
            state.threads += 1;
            state.spare += 1;
        }
        let made = self.start_thread().is_ok();
        if !made {
            let mut state = self.state.lock();
            state.threads -= 1;
            state.spare -= 1;
        }
        made
    }

    /// Notes that a job in the queue is not to be run.
    pub(super) fn withdraw(&self) {
        self.state.lock().spare += 1;
    }

    fn start_thread(&'static self) -> io::Result<()> {
        thread::Builder::new()
            .name(String::from(NAME))
            .spawn(|| self.run())
            .map(drop)
    }

    fn run(&self) {
        loop {
            let keep_alive = self.state.lock().keep_alive;
            match self.receiver.recv_timeout(keep_alive) {
                Ok(job) => {
                    let ran = job.run();
                    drop(job);
                    if let Ran::Done(waiter) = ran {
                        // First, so that calls that come one after the other find this thread.
                        self.state.lock().spare += 1;
                        waiter.inspect(|waiter| _ = waiter.wake(Wake::Woken));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    let mut state = self.state.lock();
                    if state.spare > 0 {
                        state.spare -= 1;
                        state.threads -= 1;
                        return;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => unreachable!("the pool keeps a sender"),
            }
        }
    }
}
