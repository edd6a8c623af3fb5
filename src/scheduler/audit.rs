//! [`Attempt`]: one simulation in which a marked green thread is cancelled at a chosen point; see `hebra::sim::cancel_everywhere`.
//!
//! The marked threads count together what they pass; whoever of them comes to the point that the
//! [`Aim`] names is cancelled there, once in a run. Without an aim nobody is cancelled, and who is
//! left at the end is what later runs are compared with.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::Location;
use std::sync::MutexGuard;

use super::task::TaskRef;
use crate::lock::Lock;

/// When a thread is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// It is about to begin.
    Starting,
    /// It runs, and comes to a cancel point.
    Arriving,
    /// It is parked, and so many others have run since.
    Parked,
    /// Its wait has been ended, and it has not been resumed.
    Woken,
}

impl Way {
    pub(crate) const ALL: [Way; 4] = [Way::Starting, Way::Arriving, Way::Parked, Way::Woken];

    /// What it is called in the environment.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Way::Starting => "starting",
            Way::Arriving => "arriving",
            Way::Parked => "parked",
            Way::Woken => "woken",
        }
    }
}

/// Where a thread is cancelled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aim {
    pub(crate) way: Way,
    /// At which point of that kind, from 1.
    pub(crate) nth: u64,
    /// How many others have run, or how often time has passed, since it parked; 0 for other ways.
    pub(crate) after: u64,
}

/// As the environment says it.
impl fmt::Debug for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Aim { way, nth, after } = self;
        match way {
            Way::Parked => write!(f, "{}:{nth}+{after}", way.name()),
            _ => write!(f, "{}:{nth}", way.name()),
        }
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nth = self.nth;
        match self.way {
            Way::Starting if nth == 1 => f.write_str("before it began"),
            Way::Starting => write!(f, "before it began, as no. {nth}"),
            Way::Arriving => write!(f, "as it came to cancel point no. {nth}"),
            Way::Parked => write!(
                f,
                "while parked in wait no. {nth}, {} steps after that began",
                self.after
            ),
            Way::Woken => write!(
                f,
                "when it had been woken from wait no. {nth} and not resumed"
            ),
        }
    }
}

/// A green thread that was alive at the end, by the order of spawning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Alive {
    pub(crate) number: usize,
    pub(crate) name: Option<String>,
    pub(crate) location: &'static Location<'static>,
}

/// One run of an audit; see the module.
pub(crate) struct Attempt {
    aim: Option<Aim>,
    /// What a cancelled thread is told of where it was cancelled.
    at: &'static Location<'static>,
    state: Lock<State>,
}

#[derive(Default)]
struct State {
    /// How many threads have been marked.
    marked: usize,
    /// Points of the aim's kind that have been passed.
    passed: u64,
    /// Who is in the wait in which it is to be cancelled, and how many steps have been since.
    parked: Option<(TaskRef, u64)>,
    /// Somebody has been cancelled.
    hit: bool,
    /// The run is over: what happens now is its end.
    over: bool,
    alive: BTreeMap<usize, Alive>,
}

impl Attempt {
    pub(crate) fn new(aim: Option<Aim>, at: &'static Location<'static>) -> Attempt {
        Attempt {
            aim,
            at,
            state: Lock::default(),
        }
    }

    pub(crate) fn location(&self) -> &'static Location<'static> {
        self.at
    }

    pub(crate) fn marked(&self) -> usize {
        self.state.lock().marked
    }

    /// Whether there was such a point, if not such a moment of it.
    pub(crate) fn is_reached(&self) -> bool {
        self.aim
            .is_some_and(|aim| self.state.lock().passed >= aim.nth)
    }

    /// Where somebody has been cancelled, if anybody has come there.
    pub(crate) fn hit(&self) -> Option<Aim> {
        self.aim.filter(|_| self.state.lock().hit)
    }

    /// Makes a green thread that has not begun one of those that are cancelled.
    pub(crate) fn mark(&self, task: &TaskRef) {
        task.set_marked();
        self.state.lock().marked += 1;
    }

    pub(crate) fn spawned(&self, number: usize, task: &TaskRef) {
        let alive = Alive {
            number,
            name: task.name().map(str::to_owned),
            location: task.location(),
        };
        self.state.lock().alive.insert(number, alive);
    }

    pub(crate) fn ended(&self, number: usize) {
        self.state.lock().alive.remove(&number);
    }

    /// Ends the time in which anybody is cancelled, and returns who is alive.
    pub(crate) fn finish(&self) -> Vec<Alive> {
        let mut state = self.state.lock();
        state.over = true;
        let parked = state.parked.take();
        let alive = state.alive.values().cloned().collect();
        drop(state);
        drop(parked);
        alive
    }

    /// A thread has come to a point of that kind; `true` if it is to be cancelled there.
    pub(crate) fn comes_to(&self, way: Way, task: &TaskRef) -> bool {
        let Some(mut state) = self.pass(way, task) else {
            return false;
        };
        state.hit = true;
        true
    }

    /// A thread has parked.
    pub(crate) fn parks(&self, task: &TaskRef) {
        if let Some(mut state) = self.pass(Way::Parked, task) {
            state.parked = Some((task.clone(), 0));
        }
    }

    /// Counts a point. Returns the state if that is the one at which somebody is cancelled.
    fn pass(&self, way: Way, task: &TaskRef) -> Option<MutexGuard<'_, State>> {
        let aim = self.aim.filter(|aim| aim.way == way && task.is_marked())?;
        let mut state = self.state.lock();
        if state.over {
            return None;
        }
        state.passed += 1;
        (state.passed == aim.nth).then_some(state)
    }

    /// A step begins: takes the parked thread, if it is to be cancelled before that.
    pub(crate) fn takes_parked(&self) -> Option<TaskRef> {
        let after = self.aim?.after;
        let mut state = self.state.lock();
        let (task, steps) = state.parked.as_mut()?;
        let waits = task.claim.outcome().is_none();
        let due = *steps == after;
        *steps += 1;
        if waits && !due {
            return None;
        }
        // Else it has been woken, and there is no such moment.
        state.hit |= waits;
        let parked = state.parked.take();
        drop(state);
        parked.map(|(task, _)| task).filter(|_| waits)
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("aim", &self.aim)
            .finish_non_exhaustive()
    }
}
