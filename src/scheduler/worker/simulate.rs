//! What the worker of a simulation does otherwise: one step at a time, and time that passes only
//! while everybody waits.
//!
//! ```text
//!   somebody is runnable -----> the oracle picks one of all that are: woken, yielded or unstarted
//!   nobody is, some sleep ----> the clock jumps to the next deadline
//!   nobody is, none sleeps ---> a deadlock: the run fails with a report of who waits for what
//! ```
//!
//! A thread that waits by yielding in a loop is always runnable, and would make time stand still.
//! So when nothing has come of [`PATIENCE`] resumes in a row but yields, time passes as if
//! everybody were parked; and where there is no deadline, more and more of it, as somebody may be
//! looking at the clock. At some point that counts as a deadlock, too.
//!
//! Threads that hand something over for ever, or of which each spawns the next, make time stand
//! still as well, and look like progress. So a run also fails after [`Plan::steps`] steps without
//! any time passing.
//!
//! [`Plan::steps`]: super::super::oracle::Plan::steps

use std::sync::Arc;

use super::super::audit::Way;
use super::super::claim::Wake;
use super::super::clock::Nanos;
use super::super::oracle::{After, Before};
use super::super::run_queue::{LocalQueue, Slot};
use super::super::task::{Reason, TaskRef};
use super::Worker;

/// So many resumes in a row that end in a yield, and time passes all the same.
const PATIENCE: u64 = 1_000;
/// So many times [`PATIENCE`], and nothing will ever come of it.
const HOPELESS: u64 = 2_000;
/// How much time passes first where nobody has a deadline; each time twice as much, up to an hour.
const TICK: Nanos = 1_000;
const LONGEST_TICK: Nanos = 3_600_000_000_000;

impl Worker {
    /// Lets one of those that can run do so.
    pub(super) fn step(&mut self, queue: &LocalQueue) {
        let local = self.local.clone();
        let Some(oracle) = &local.oracle else { return };
        local.take_posted();
        if !self.has_work(queue) {
            return;
        }
        self.cancel_parked();
        let (woken, kept, unstarted) = (
            queue.len(),
            local.local_starts.borrow().len(),
            local.unstarted.borrow().len(),
        );
        let ready = woken + kept + unstarted;
        let mut pick = oracle.pick(ready);
        self.quota = 1;
        let (task, before) = if pick < woken {
            let slot = queue.bring_forward(pick).expect("the pick is in the queue");
            let task = self.table[slot as usize].task.clone();
            let before = before(&task);
            if matches!(before, Before::Parked(..)) && oracle.comes_to(Way::Woken, &task) {
                local.cancel_for_audit(&task);
            }
            self.run_ready::<false>(queue);
            (task, before)
        } else {
            pick -= woken;
            let is_kept = pick < kept;
            let task = if is_kept {
                local.local_starts.borrow_mut().swap(0, pick);
                local.local_starts.borrow()[0].task.clone()
            } else {
                local.unstarted.borrow_mut().swap(0, pick - kept);
                local.unstarted.borrow()[0].task.clone()
            };
            if oracle.comes_to(Way::Starting, &task) {
                local.cancel_for_audit(&task);
            }
            if is_kept {
                self.start_local(queue);
            } else {
                self.start_unstarted(queue);
            }
            (task, Before::Unstarted)
        };
        let after = self.after(&task);
        let yields = oracle.stepped(&task, ready, before, after, local.now());
        if let (Some(attempt), After::Parks(_)) = (oracle.attempt(), after) {
            attempt.parks(&task);
        }
        if let Some((steps, recent)) = oracle.reached_limit() {
            self.end_live_lock(steps, &recent);
        } else if yields > 0 && yields.is_multiple_of(PATIENCE) {
            self.lose_patience(yields / PATIENCE);
        }
    }

    /// Cancels a parked thread, if an audit wants that now.
    fn cancel_parked(&self) -> bool {
        let task = self
            .local
            .oracle
            .as_ref()
            .and_then(|oracle| oracle.attempt()?.takes_parked());
        task.inspect(|task| self.local.cancel_for_audit(task))
            .is_some()
    }

    fn after(&self, task: &TaskRef) -> After {
        let lives = |slot: Slot| {
            self.table
                .get(slot as usize)
                .is_some_and(|entry| Arc::ptr_eq(&entry.task, task))
        };
        match task.reason() {
            _ if !task.home().is_some_and(|home| lives(home.slot)) => After::Ends,
            Reason::Running => After::Yields,
            reason => After::Parks(reason),
        }
    }

    /// Nobody can run: lets time pass until somebody can.
    pub(super) fn pass_time(&mut self) {
        let inbox = &self.local.shared.posts[self.local.index].inbox;
        if self.must_wind_down() || !inbox.begin_sleep() {
            return;
        }
        inbox.end_sleep();
        let deadline = self.local.timers.borrow().next_deadline();
        if self.cancel_parked() {
            return;
        }
        match deadline {
            Some(deadline) => self.local.shared.clock.advance_to(deadline),
            None if self.has_sleepers() => {
                self.give_up("time stands still (no deadlock: a thread sleeps for ever)");
            }
            None => self.give_up("deadlock"),
        }
    }

    /// Whether a thread sleeps. If there is no deadline, it does so for ever.
    fn has_sleepers(&self) -> bool {
        let mut tasks = self.table.iter().map(|(_, entry)| &entry.task);
        tasks.any(|task| task.reason() == Reason::Sleep)
    }

    /// The limit of steps without any time passing has been reached.
    #[cold]
    fn end_live_lock(&mut self, steps: u64, recent: &str) {
        self.give_up(&format!(
            "live-lock: {steps} steps and no time has passed (HEBRA_STEPS allows more); the last \
             ones were of {recent};"
        ));
    }

    /// Nothing has happened but yields, so often.
    fn lose_patience(&mut self, times: u64) {
        let tick = (TICK << times.min(32)).min(LONGEST_TICK);
        let deadline = self.local.timers.borrow().next_deadline();
        self.local
            .shared
            .clock
            .advance_to(deadline.unwrap_or(self.local.now().saturating_add(tick)));
        if deadline.is_none() && times.is_multiple_of(HOPELESS) {
            self.give_up("live-lock: nothing happens but yields");
        }
    }
}

/// What a thread that is about to be resumed has been doing.
fn before(task: &TaskRef) -> Before {
    match task.reason() {
        Reason::Running => Before::Yielded,
        reason => Before::Parked(reason, task.claim.outcome().unwrap_or(Wake::Woken)),
    }
}
