//! [`Oracle`]: what a simulation has instead of chance. It says who runs next, and keeps the record of what it has said.
//!
//! Its generator is SplitMix64 (G. Steele, D. Lea, C. Flood, *Fast splittable pseudorandom number
//! generators*, OOPSLA 2014): one addition and a mix, a whole period from every seed. A number
//! below `n` is the upper half of a product (D. Lemire, *Fast random integer generation in an
//! interval*, 2019) without its rejection step: the bias is one in 2⁶⁴/n.
//!
//! The schedule and the values for user code are two sequences, so that drawing a value does not
//! change who runs.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io::Write;
use std::sync::Arc;

use super::audit::{Attempt, Way};
use super::claim::Wake;
use super::clock::Nanos;
use super::task::{Reason, TaskRef};
use crate::lock::Lock;

/// Where the record of a simulation goes, line by line.
pub(crate) type Record = Arc<Lock<dyn Write + Send>>;

/// What a simulation is started with.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) record: Option<Record>,
    /// Whom to cancel, and when.
    pub(crate) attempt: Option<Arc<Attempt>>,
    /// How many steps there may be without any time passing.
    pub(crate) steps: u64,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

/// Of how many steps before the limit it is noted whose they were; and how many threads are named.
const LAST_STEPS: u64 = 64;
const FEW: usize = 8;

/// Decides for the one worker of a simulation; see the module.
pub(crate) struct Oracle {
    seed: u64,
    schedule: SplitMix,
    values: SplitMix,
    /// The green threads of this run by their id, numbered as they were spawned. Ids differ from
    /// run to run. Never iterated over.
    numbers: RefCell<HashMap<u64, usize>>,
    /// Resumes so far.
    steps: Cell<u64>,
    /// How many of the last resumes in a row ended in a yield.
    yields: Cell<u64>,
    /// When the last resume was, and how many have been at that time; its limit.
    time: Cell<Nanos>,
    at_once: Cell<u64>,
    limit: u64,
    /// Whose the last resumes before the limit were.
    recent: RefCell<BTreeSet<String>>,
    record: Option<Record>,
    attempt: Option<Arc<Attempt>>,
}

/// Why a green thread was resumed.
#[derive(Clone, Copy)]
pub(crate) enum Before {
    Unstarted,
    Yielded,
    Parked(Reason, Wake),
}

/// What it has done then.
#[derive(Clone, Copy)]
pub(crate) enum After {
    Yields,
    Parks(Reason),
    Ends,
}

impl Oracle {
    pub(crate) fn new(plan: &Plan) -> Oracle {
        Oracle {
            seed: plan.seed,
            schedule: SplitMix::new(plan.seed),
            values: SplitMix::new(!plan.seed),
            numbers: RefCell::default(),
            steps: Cell::new(0),
            yields: Cell::new(0),
            time: Cell::new(0),
            at_once: Cell::new(0),
            limit: plan.steps,
            recent: RefCell::default(),
            record: plan.record.clone(),
            attempt: plan.attempt.clone(),
        }
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns a number below `count`, which is not zero.
    pub(crate) fn pick(&self, count: usize) -> usize {
        if count == 1 {
            0
        } else {
            ((u128::from(self.schedule.next()) * count as u128) >> 64) as usize
        }
    }

    /// Returns a value for user code.
    pub(crate) fn value(&self) -> u64 {
        self.values.next()
    }

    /// Gives a green thread the next number.
    pub(crate) fn spawned(&self, task: &TaskRef, now: Nanos) {
        let mut numbers = self.numbers.borrow_mut();
        let number = numbers.len();
        numbers.insert(task.id(), number);
        drop(numbers);
        if let Some(attempt) = &self.attempt {
            attempt.spawned(number, task);
        }
        if self.record.is_some() {
            self.write(format_args!("{} spawn {}", Seconds(now), self.who(task)));
        }
    }

    /// The number of the thread with that id.
    pub(crate) fn number(&self, id: u64) -> Option<usize> {
        self.numbers.borrow().get(&id).copied()
    }

    /// Notes one resume, of one of `ready` threads, and returns how many in a row have ended in a
    /// yield.
    pub(crate) fn stepped(
        &self,
        task: &TaskRef,
        ready: usize,
        before: Before,
        after: After,
        now: Nanos,
    ) -> u64 {
        // Without a record nobody needs the words, which take longer than the step.
        if self.record.is_some() {
            self.write(format_args!(
                "{} {} {}, of {ready} ready: {before} -> {after}",
                self.steps.get(),
                Seconds(now),
                self.who(task)
            ));
        }
        self.steps.set(self.steps.get() + 1);
        self.note_time(task, now);
        if let (Some(attempt), After::Ends) = (&self.attempt, after) {
            attempt.ended(self.number(task.id()).unwrap_or_default());
        }
        match after {
            After::Yields => self.yields.set(self.yields.get() + 1),
            After::Parks(_) | After::Ends => self.yields.set(0),
        }
        self.yields.get()
    }

    /// Counts the resumes at one time.
    fn note_time(&self, task: &TaskRef, now: Nanos) {
        if self.time.replace(now) != now {
            self.at_once.set(0);
        }
        self.at_once.set(self.at_once.get() + 1);
        if self.limit.saturating_sub(self.at_once.get()) < LAST_STEPS {
            self.recent.borrow_mut().insert(self.who(task));
        }
    }

    /// If there have been as many resumes at one time as there may be: their number, and whose the
    /// last ones were. They are counted anew from then on.
    pub(crate) fn reached_limit(&self) -> Option<(u64, String)> {
        if self.at_once.get() < self.limit {
            return None;
        }
        self.at_once.set(0);
        let recent = self.recent.take();
        let mut names: Vec<&str> = recent.iter().take(FEW).map(String::as_str).collect();
        if recent.len() > FEW {
            names.push("others");
        }
        Some((self.limit, names.join(", ")))
    }

    /// What is audited in this simulation, if it is.
    pub(crate) fn attempt(&self) -> Option<&Arc<Attempt>> {
        self.attempt.as_ref()
    }

    /// A thread has come to a point of that kind; `true` if it is to be cancelled there.
    pub(crate) fn comes_to(&self, way: Way, task: &TaskRef) -> bool {
        self.attempt
            .as_ref()
            .is_some_and(|attempt| attempt.comes_to(way, task))
    }

    /// Adds a line to the record.
    pub(crate) fn write(&self, line: fmt::Arguments<'_>) {
        if let Some(record) = &self.record {
            // In one piece, as others may write to the same file. A record that cannot be written
            // must not end what it records.
            let _ = record.lock().write_all(format!("{line}\n").as_bytes());
        }
    }

    /// A thread by its number, name and origin.
    pub(crate) fn who(&self, task: &TaskRef) -> String {
        let number = self.number(task.id()).unwrap_or_default();
        format!(
            "#{number} '{}' ({})",
            task.name().unwrap_or("<unnamed>"),
            task.location()
        )
    }
}

impl fmt::Display for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Before::Unstarted => f.write_str("starts"),
            Before::Yielded => f.write_str("goes on"),
            Before::Parked(reason, Wake::Woken) => write!(f, "{reason}, woken"),
            Before::Parked(reason, Wake::TimedOut) => write!(f, "{reason}, timed out"),
            Before::Parked(reason, Wake::Cancelled) => write!(f, "{reason}, cancelled"),
        }
    }
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            After::Yields => f.write_str("yields"),
            After::Parks(reason) => reason.fmt(f),
            After::Ends => f.write_str("ends"),
        }
    }
}

/// A time of the clock, to the nanosecond.
pub(crate) struct Seconds(pub(crate) Nanos);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:09}s",
            self.0 / 1_000_000_000,
            self.0 % 1_000_000_000
        )
    }
}

/// A pseudo-random sequence; see the module.
struct SplitMix(Cell<u64>);

impl SplitMix {
    fn new(seed: u64) -> SplitMix {
        SplitMix(Cell::new(seed))
    }

    fn next(&self) -> u64 {
        let state = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(state);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oracle(seed: u64) -> Oracle {
        Oracle::new(&Plan {
            seed,
            record: None,
            attempt: None,
            steps: u64::MAX,
        })
    }

    #[test]
    fn the_generator_gives_the_published_sequence() {
        let sequence = SplitMix::new(1234567);
        let published = [
            6457827717110365317,
            3203168211198807973,
            9817491932198370423,
            4593380528125082431,
            16408922859458223821,
        ];
        assert_eq!(published.map(|_| sequence.next()), published);
    }

    #[test]
    fn picks_are_below_the_count_and_every_one_comes() {
        for count in 1..20 {
            let oracle = oracle(count as u64);
            let mut seen = vec![0; count];
            (0..100 * count).for_each(|_| seen[oracle.pick(count)] += 1);
            assert!(seen.iter().all(|times| *times > 50), "{seen:?}");
        }
    }

    #[test]
    fn values_do_not_change_the_schedule() {
        let (a, b) = (oracle(9), oracle(9));
        for _ in 0..100 {
            a.value();
            assert_eq!(a.pick(1000), b.pick(1000));
        }
    }
}
