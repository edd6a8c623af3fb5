//! [`Runtime`]: a set of workers with one configuration.

use std::convert::Infallible;
use std::io;
use std::num::NonZeroUsize;
use std::panic::{self, AssertUnwindSafe, Location};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::report::say;
use crate::scheduler::oracle::Plan;
use crate::scheduler::run_queue;
use crate::scheduler::task::{Attributes, KeptByWorker, Start, Task};
use crate::scheduler::worker::{self, Shared, Worker};

const DEFAULT_STACK_SIZE: usize = 256 << 10;
const DEFAULT_GRACE: Duration = Duration::from_secs(5);

/// How a [`Runtime`] is made.
///
/// ```
/// let config = hebra::Config::default().workers(1).stack_size(64 << 10);
/// let runtime = hebra::Runtime::new(config)?;
/// assert_eq!(runtime.run(|| 6 * 7), 42);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Config {
    workers: Option<usize>,
    stack_size: usize,
    thread_name: String,
    shutdown_timeout: Duration,
    /// Only `sim` sets it.
    plan: Option<Plan>,
}

impl Default for Config {
    /// One worker a processor, stacks of 256 KiB, OS threads called `hebra-1` and so on, a shutdown time-out of 5 s.
    fn default() -> Config {
        Config {
            workers: None,
            stack_size: DEFAULT_STACK_SIZE,
            thread_name: String::from("hebra"),
            shutdown_timeout: DEFAULT_GRACE,
            plan: None,
        }
    }
}

impl Config {
    /// Sets the number of workers, the calling OS thread included: 1 to 1,024. The default is
    /// [`std::thread::available_parallelism`].
    pub fn workers(mut self, workers: usize) -> Config {
        self.workers = Some(workers);
        self
    }

    /// Sets the default size of a green thread's stack, in bytes; see
    /// [`Builder::stack_size`](crate::thread::Builder::stack_size). 256 KiB unless set.
    pub fn stack_size(mut self, size: usize) -> Config {
        self.stack_size = size;
        self
    }

    /// Sets what the workers' OS threads are called: `name-1`, `name-2` … The calling OS thread keeps its name.
    pub fn thread_name(mut self, name: impl Into<String>) -> Config {
        self.thread_name = name.into();
        self
    }

    /// Sets how long the end of [`Runtime::run`] waits for cancelled green threads on other workers before it leaves them behind.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Config {
        self.shutdown_timeout = timeout;
        self
    }

    /// Makes the runtime a simulation.
    pub(crate) fn simulated(mut self, plan: Plan) -> Config {
        self.plan = Some(plan);
        self
    }
}

/// A set of workers that run green threads.
#[derive(Debug)]
pub struct Runtime {
    config: Config,
    workers: usize,
}

impl Runtime {
    /// Makes a runtime; its workers' OS threads live from the beginning to the end of a [`run`](Runtime::run).
    ///
    /// # Errors
    /// `InvalidInput` if a number of the configuration is out of range.
    pub fn new(config: Config) -> io::Result<Runtime> {
        let available = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let workers = config.workers.unwrap_or_else(available);
        if !(1..=1024).contains(&workers) {
            let message = format!("a runtime has 1 to 1,024 workers, not {workers}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        crate::stack::check_size(config.stack_size)?;
        Ok(Runtime { config, workers })
    }

    /// Runs `f` on a green thread, with the calling OS thread as the first worker, and returns its result after an orderly shutdown.
    ///
    /// When `f` has returned, every other green thread is cancelled: it unwinds from where it is parked, or from the next place
    /// where it would park. `run` waits for that. A green thread on another worker that has not ended after
    /// [`Config::shutdown_timeout`] is reported on standard error and left behind, with its stack and its worker's OS thread; for one
    /// on the calling OS thread `run` goes on waiting, as leaving its stack behind could not be made safe.
    ///
    /// # Panics
    /// Continues a panic of `f`. Panics on a green thread, in the destructor of a thread-local, and if the system refuses the descriptors or OS threads of the workers.
    #[track_caller]
    pub fn run<F, T>(&self, f: F) -> T
    where
        F: FnOnce() -> T,
    {
        assert!(!worker::is_green(), "a runtime was to be run on a green thread of another; use hebra::thread::spawn there");
        assert!(run_queue::is_available(), "a runtime cannot run while this OS thread's thread-locals are being destroyed");
        let location = Location::caller();
        let shared = Shared::new(self.workers, self.config.stack_size, self.config.plan.clone());
        let shared = shared.expect("a worker needs three file descriptors");
        let first = Worker::new(shared.clone(), 0);
        let mut result = None;
        let mut others = Vec::new();
        let (alive, ended) = crossbeam_channel::bounded(0);
        let root = Box::new(|start: Start| {
            result = Some(match start {
                Start::Run => panic::catch_unwind(AssertUnwindSafe(f)),
                Start::NoStack(error) => Err(Box::new(error) as _),
                Start::Discard => unreachable!("the runtime stops when the root has run"),
            });
            worker::destroy_locals();
            shared.stop(self.config.shutdown_timeout);
        });
        for index in 1..self.workers {
            let name = format!("{}-{index}", self.config.thread_name);
            let (shared_there, alive) = (shared.clone(), alive.clone());
            let started = std::thread::Builder::new().name(name).spawn(move || {
                Worker::new(shared_there, index).run();
                drop(alive);
            });
            match started {
                Ok(handle) => others.push(handle),
                Err(error) => {
                    shared.stop(Duration::ZERO);
                    panic!("the system refuses an OS thread for a worker: {error}");
                }
            }
        }
        let attributes = Attributes { name: Some("main".into()), stack_size: None };
        let task = Arc::new(Task::new(attributes, location, KeptByWorker));
        if let Err(error) = first.run_root(task, root) {
            shared.stop(Duration::ZERO);
            panic!("there is no stack for the first green thread: {error}");
        }
        drop(alive);
        wait_for(others, &ended, self.config.shutdown_timeout);
        match (result.expect("the root has run"), shared.take_failure()) {
            (_, Some((report, true))) | (Ok(_), Some((report, false))) => panic!("{report}"),
            (Ok(value), None) => value,
            (Err(payload), _) => panic::resume_unwind(payload),
        }
    }
}

/// Joins the workers' OS threads, each of which holds a sender of `ended`; those that have not ended in time are left behind.
fn wait_for(workers: Vec<JoinHandle<()>>, ended: &Receiver<Infallible>, timeout: Duration) {
    // Either way it returns without a message: because all senders are gone, or because time is up.
    let all_ended = matches!(ended.recv_timeout(timeout), Err(RecvTimeoutError::Disconnected));
    for worker in workers {
        if all_ended || worker.is_finished() {
            // A worker aborts the process rather than panic.
            let _ = worker.join();
        } else {
            let name = worker.thread().name().unwrap_or("<unnamed>").to_owned();
            say(format_args!("worker {name} still has green threads that have not ended; it is left behind"));
        }
    }
}

/// Runs `f` on a green thread of a new runtime with the default [`Config`], and returns its result; see [`Runtime::run`].
///
/// ```
/// use std::time::Duration;
///
/// let total: u32 = hebra::run(|| {
///     let threads: Vec<_> = (0..100).map(|n| hebra::thread::spawn(move || {
///         hebra::thread::sleep(Duration::from_millis(1));
///         n
///     })).collect();
///     threads.into_iter().map(|thread| thread.join().unwrap()).sum()
/// });
/// assert_eq!(total, 4950);
/// ```
///
/// # Panics
/// As [`Runtime::run`].
#[track_caller]
pub fn run<F, T>(f: F) -> T
where
    F: FnOnce() -> T,
{
    let runtime = Runtime::new(Config::default()).expect("the default configuration is in range");
    runtime.run(f)
}
