//! What a worker does about a deadlock: it finds one together with the others, says who is stuck
//! here, and ends the runtime.
//!
//! ```text
//!   asleep for good, all of them ---> the last one rings everybody ---> each adds its table ---> the last one to do so: the report
//! ```
//!
//! Another OS thread may know a green thread's handle, or an object that one waits for, so where
//! there is any that is not a worker of this runtime, nothing is reported: rather no alarm than a
//! false one. Nor is it where somebody waits for a signal or a child process.
//!
//! The last one looks again a few times, as such a thread may end.
//!
//! A worker sleeps for good only when the [`sweep`](super::super::sweep) is done, a second or two
//! after somebody has run. So all this costs nothing before.

use crate::atomic::{AtomicUsize, Ordering};
use std::mem;
use std::process;

use super::super::clock::Nanos;
use super::super::deadlock::{self, Stuck};
use super::super::task::{Reason, TaskRef};
use super::{Entry, Shared, Stop, Worker};
use crate::report::say;

/// How often the last worker looks again while there are other OS threads.
const DOUBTS: u32 = 4;
/// When it does so first; each time after twice as long. In all that is longer than an idle thread
/// of the blocking pool lives.
const FIRST_DOUBT: Nanos = 1_000_000_000;

/// OS threads of the library that wake no green thread.
static HELPERS: AtomicUsize = AtomicUsize::new(0);

/// The calling OS thread is one of the library's own, stays for the life of the process, and wakes no
/// green thread.
pub(crate) fn note_helper() {
    HELPERS.fetch_add(1, Ordering::Relaxed);
}

impl Shared {
    /// Whether there is anything that a worker could run.
    fn has_news(&self) -> bool {
        let has_news = |post: &super::Post| {
            post.unstarted_len.load(Ordering::Relaxed) > 0 || post.inbox.has_mail()
        };
        self.is_stopping() || self.posts.iter().any(has_news)
    }
}

impl Worker {
    /// Waits for I/O or the bell where this worker has no deadline.
    #[cold]
    pub(super) fn sleep_for_good(&mut self) {
        let shared = self.local.shared.clone();
        let standstill = &shared.standstill;
        if self.stop != Stop::No || standstill.is_found() || self.local.reactor().is_waited_for() {
            return self.poll(None);
        }
        match standstill
            .enter(shared.posts.len())
            .filter(|_| !shared.has_news())
        {
            None => self.poll(None),
            Some(_)
                if !are_all_os_threads(shared.posts.len() + HELPERS.load(Ordering::Relaxed)) =>
            {
                let again = (self.doubts < DOUBTS).then(|| FIRST_DOUBT << self.doubts);
                self.doubts += u32::from(again.is_some());
                self.poll(again);
            }
            Some(suspicion) if !standstill.confirm(suspicion) => self.poll(None),
            Some(_) => {
                let others = shared
                    .posts
                    .iter()
                    .enumerate()
                    .filter(|(index, _)| *index != self.local.index);
                others.for_each(|(_, post)| {
                    post.inbox.rouse();
                });
            }
        }
        if standstill.leave() {
            self.report_stuck();
        }
    }

    /// Adds who is stuck here to the report of the deadlock; the last one to do so fails the
    /// runtime with it.
    fn report_stuck(&self) {
        let shared = &self.local.shared;
        let mut stuck = {
            let mut reported = shared.stuck.lock();
            let (workers, stuck) = &mut *reported;
            *workers += 1;
            stuck.extend(self.stuck());
            if *workers < shared.posts.len() {
                return;
            }
            mem::take(stuck)
        };
        let from_outside = |one: &Stuck| {
            matches!(
                one.reason,
                Reason::Signal | Reason::Child | Reason::Blocking
            )
        };
        if stuck.is_empty() || stuck.iter().any(from_outside) {
            return;
        }
        // Who has waited longest comes first.
        stuck.sort_by_key(|one| one.since);
        stuck
            .iter_mut()
            .enumerate()
            .for_each(|(number, one)| one.number = number);
        shared.fail(deadlock::report("deadlock", shared.clock.now(), &stuck));
    }

    /// Ends a run that does not go on.
    #[cold]
    pub(super) fn give_up(&mut self, what: &str) {
        let report = self.report(what);
        let Some(oracle) = &self.local.oracle else {
            let failure = self
                .local
                .shared
                .take_failure()
                .map(|(report, _)| report)
                .unwrap_or_default();
            say(format_args!(
                "{failure}\nhebra: the runtime cannot end: {report}"
            ));
            process::abort();
        };
        if self.stop != Stop::No {
            // Everybody has been cancelled already. What they have borrowed ends with `run`, so it
            // cannot return.
            say(format_args!("a simulation cannot end: {report}"));
            process::abort();
        }
        oracle.write(format_args!("{report}"));
        self.local.shared.fail(report);
    }

    /// Everybody who is parked here.
    fn stuck(&self) -> Vec<Stuck> {
        let stuck = self
            .table
            .iter()
            .enumerate()
            .map(|(number, (_, Entry { task, .. }))| Stuck {
                id: task.id(),
                who: format!(
                    "'{}' ({})",
                    task.name().unwrap_or("<unnamed>"),
                    task.location()
                ),
                number,
                reason: task.reason(),
                since: task.since(),
                owner: owner(task),
            });
        stuck.collect()
    }

    fn report(&self, what: &str) -> String {
        let mut stuck = self.stuck();
        for one in &mut stuck {
            let number = self
                .local
                .oracle
                .as_ref()
                .and_then(|oracle| oracle.number(one.id));
            one.number = number.unwrap_or(one.number);
        }
        stuck.sort_by_key(|one| one.number);
        let report = deadlock::report(what, self.local.now(), &stuck);
        match self
            .local
            .oracle
            .as_ref()
            .and_then(|oracle| oracle.attempt()?.hit())
        {
            Some(aim) => format!("{report}\n  the audited thread was cancelled {aim}"),
            None => report,
        }
    }
}

/// The id of the thread that a parked one of this worker waits for, or 0. To be called between
/// resumes.
pub(super) fn owner(task: &TaskRef) -> u64 {
    task.owner().map_or(0, |word| {
        // SAFETY: the word was lent to `park_insistently` by a frame of the task's stack, which is
        // parked: nobody else resumes it (law 2) or unwinds it (law 3), so what the frame
        // has borrowed is alive.
        let word = unsafe { word.as_ref() };
        word.load(Ordering::Relaxed)
    })
}

/// Whether the process has no more OS threads than so many, which are known to live.
#[cfg(target_os = "linux")]
fn are_all_os_threads(known: usize) -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == known)
}

/// There may be others.
#[cfg(not(target_os = "linux"))]
fn are_all_os_threads(_: usize) -> bool {
    false
}
