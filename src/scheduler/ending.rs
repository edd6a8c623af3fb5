//! [`Ending`]: how far the end of a runtime has come, for whoever waits for it.
//!
//! ```text
//!   a worker:   Silent --- its last green thread has ended ---> Ended
//!                  |                                              ^
//!                  +--- time is up: it says who has not ---> Left +  if those end all the same
//! ```
//!
//! A worker stays silent for ever if a green thread computes, or blocks the OS thread.

use std::fmt;
use std::panic::Location;

use super::task::{Reason, TaskRef};
use super::wait_list::WaitList;
use super::waiter::Wait;
use crate::lock::Lock;

/// What is known of the end of each worker.
#[derive(Debug)]
pub(crate) struct Ending(Lock<State>);

#[derive(Debug)]
struct State {
    answers: Vec<Answer>,
    waiting: WaitList,
}

/// What one worker has said of its end.
#[derive(Debug)]
pub(super) enum Answer {
    Silent,
    /// These had not ended when time was up.
    Left(Vec<Straggler>),
    Ended,
}

/// A green thread that did not end in time when its runtime was shut down.
#[derive(Debug, Clone)]
pub struct Straggler {
    name: Option<String>,
    location: &'static Location<'static>,
    reason: Reason,
}

impl Straggler {
    pub(super) fn new(task: &TaskRef) -> Straggler {
        Straggler {
            name: task.name().map(str::to_owned),
            location: task.location(),
            reason: task.reason(),
        }
    }

    /// Returns the thread's name, if it has one.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// Returns where the thread was spawned.
    pub fn location(&self) -> &'static Location<'static> {
        self.location
    }

    /// Returns what the thread waited for when time was up, in words: `"sleeping"`.
    pub fn waits_for(&self) -> &'static str {
        self.reason.words()
    }
}

impl fmt::Display for Straggler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_deref().unwrap_or("<unnamed>");
        write!(
            f,
            "green thread '{name}' (spawned at {}): {}",
            self.location, self.reason
        )
    }
}

impl Ending {
    pub(super) fn new(workers: usize) -> Ending {
        let answers = (0..workers).map(|_| Answer::Silent).collect();
        Ending(Lock::new(State {
            answers,
            waiting: WaitList::new(),
        }))
    }

    /// Notes the answer of a worker.
    pub(super) fn answer(&self, worker: usize, answer: Answer) {
        let mut state = self.0.lock();
        state.answers[worker] = answer;
        state.waiting.wake_all();
    }

    /// Whether every worker has answered.
    pub(crate) fn is_complete(&self) -> bool {
        self.0.lock().is_complete()
    }

    /// Enlists who waits for the answers; `false` if they are all there.
    pub(crate) fn enlist(&self, wait: &Wait<'_>) -> bool {
        let mut state = self.0.lock();
        let incomplete = !state.is_complete();
        if incomplete {
            state.waiting.push(wait.waiter());
        }
        incomplete
    }

    pub(crate) fn delist(&self, wait: &Wait<'_>) {
        self.0.lock().waiting.remove(wait);
    }

    pub(crate) fn has_ended(&self, worker: usize) -> bool {
        matches!(self.0.lock().answers[worker], Answer::Ended)
    }

    /// Takes who has been left.
    pub(crate) fn take_left(&self) -> Vec<Straggler> {
        let mut state = self.0.lock();
        let left = state.answers.iter_mut().map(|answer| match answer {
            Answer::Left(left) => std::mem::take(left),
            Answer::Silent | Answer::Ended => Vec::new(),
        });
        left.flatten().collect()
    }
}

impl State {
    fn is_complete(&self) -> bool {
        !self
            .answers
            .iter()
            .any(|answer| matches!(answer, Answer::Silent))
    }
}
