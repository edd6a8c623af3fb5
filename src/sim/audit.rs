//! [`cancel_everywhere`]: cancels a thread at each of its cancel points in turn, and looks at what is left.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::{Announce, asked_seed, from_environment, simulate};
use crate::scheduler::audit::{Aim, Alive, Attempt, Way};
use crate::scheduler::oracle::Plan;
use crate::scheduler::worker;
use crate::thread::{self, JoinHandle};

/// Spawns the thread that [`cancel_everywhere`] cancels.
#[derive(Debug)]
pub struct Audit {
    attempt: Arc<Attempt>,
}

impl Audit {
    /// Spawns a green thread that is to be cancelled. It is as one from [`thread::spawn_local`],
    /// and its `join` fails with [`Cancelled`](thread::Cancelled) in almost every run. The
    /// threads that it spawns in its turn are not cancelled, unless it sees to that. If there
    /// are several, one of them is cancelled in each run.
    ///
    /// # Panics
    /// Panics outside of the call of [`cancel_everywhere`] that has lent the `Audit`.
    #[track_caller]
    pub fn spawn<F, T>(&self, f: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + 'static,
        T: 'static,
    {
        let here = worker::attempt().is_some_and(|attempt| Arc::ptr_eq(&attempt, &self.attempt));
        assert!(
            here,
            "Audit::spawn was called outside of the simulation that it belongs to"
        );
        let handle = thread::spawn_local(f);
        self.attempt.mark(&handle.record());
        handle
    }
}

/// Runs `f` as a simulation again and again, and each time cancels the thread that it spawns with
/// [`Audit::spawn`] at another point: the first, the second, and so on until there are no more, and
/// all that with each of the seeds. Returns how many runs there were.
///
/// A thread is cancelled
/// - before it has begun;
/// - as it comes to a cancel point: that unwinds;
/// - while it is parked, at once, and when one, two and more others have run: the wait has not
///   happened;
/// - when it has been woken but not resumed: the wait has happened, and the next cancel point
///   unwinds.
///
/// Whatever `f` asserts has to hold in each of these runs: that the message is still in the
/// channel, or has been received; that the lock is free, the permit back. Beyond that a run fails
/// as in [`run`](super::run): when there is a deadlock, or a panic that nobody has seen. And it
/// fails when more green threads are left, at the end of `f` and when nobody can run, than in a run
/// without cancellation.
///
/// ```
/// use std::sync::mpsc;
/// use std::time::Duration;
/// use hebra::{sim, thread};
///
/// let runs = sim::cancel_everywhere(0..4, |audit| {
///     let (tell, told) = mpsc::channel();
///     let victim = audit.spawn(move || {
///         thread::scope(|s| {
///             let theirs = tell.clone();
///             s.spawn(move || {
///                 thread::sleep(Duration::from_secs(1));
///                 theirs.send(1).unwrap();
///             });
///             thread::sleep(Duration::from_secs(2));
///         });
///     });
///     let ended = victim.join();
///     // However it has ended, nobody holds a sender any more; if it has not been cancelled the message is there.
///     let messages: Vec<i32> = told.into_iter().collect();
///     assert!(ended.is_err() || messages == [1]);
/// });
/// assert!(runs > 10);
/// ```
///
/// The number of runs grows with the number of cancel points, and the time with its square: let the
/// thread do little, and with a small body try many seeds. What differs from run to run can have
/// points missed; see [`sim`](super).
///
/// # To repeat a failure
/// What fails says where the thread was cancelled. `HEBRA_SEED=3 HEBRA_CANCEL=parked:2+5 cargo test
/// name` repeats that run alone.
///
/// # Panics
/// Continues the panic of a run that has failed. Panics if `f` never calls [`Audit::spawn`], and if
/// `HEBRA_SEED` or `HEBRA_CANCEL` cannot be read.
#[track_caller]
pub fn cancel_everywhere<F>(seeds: impl IntoIterator<Item = u64>, mut f: F) -> usize
where
    F: FnMut(&Audit),
{
    let at = Location::caller();
    let seeds: Vec<u64> =
        asked_seed().map_or_else(|| seeds.into_iter().collect(), |seed| vec![seed]);
    let mut expected = Remaining::default();
    for &seed in &seeds {
        let attempt = Arc::new(Attempt::new(None, at));
        let alive = one(seed, &attempt, |_| (), &mut f);
        assert!(
            attempt.marked() > 0,
            "cancel_everywhere has nobody to cancel: the closure is to call Audit::spawn"
        );
        expected.admit(&alive);
    }
    let mut runs = seeds.len();
    let asked = env::var_os("HEBRA_CANCEL").map(|aim| parse_aim(&aim));
    let mut next = asked.unwrap_or(Aim {
        way: Way::ALL[0],
        nth: 1,
        after: 0,
    });
    loop {
        let (mut hit, mut reached) = (false, false);
        for &seed in &seeds {
            let attempt = Arc::new(Attempt::new(Some(next), at));
            one(seed, &attempt, |alive| expected.compare(alive), &mut f);
            hit |= attempt.hit().is_some();
            reached |= attempt.is_reached();
        }
        runs += seeds.len();
        if let Some(aim) = asked {
            assert!(
                hit,
                "HEBRA_CANCEL names a point that the thread does not come to: {aim}"
            );
            return runs;
        }
        let Some(aim) = following(next, hit, reached) else {
            return runs;
        };
        next = aim;
    }
}

/// What comes after an aim: whether that has been hit, and whether there was such a point.
fn following(aim: Aim, hit: bool, reached: bool) -> Option<Aim> {
    match aim {
        // Every moment at first; of long waits some.
        Aim {
            way: Way::Parked,
            after,
            ..
        } if hit => Some(Aim {
            after: after + 1 + after / 16,
            ..aim
        }),
        Aim { way, nth, .. } if reached => Some(Aim {
            way,
            nth: nth + 1,
            after: 0,
        }),
        Aim { way, .. } => {
            let way = Way::ALL.into_iter().skip_while(|one| *one != way).nth(1)?;
            Some(Aim {
                way,
                nth: 1,
                after: 0,
            })
        }
    }
}

/// One run; returns who was left.
#[track_caller]
fn one(
    seed: u64,
    attempt: &Arc<Attempt>,
    judge: impl FnOnce(&[Alive]),
    f: &mut impl FnMut(&Audit),
) -> Vec<Alive> {
    let announce = Announce {
        seed,
        how: true,
        attempt: Some(attempt.clone()),
    };
    let plan = Plan {
        seed,
        record: from_environment(seed),
        attempt: Some(attempt.clone()),
        steps: super::allowed_steps(),
    };
    let alive = simulate(plan, || {
        f(&Audit {
            attempt: attempt.clone(),
        });
        // When this ends nobody else can run.
        thread::sleep(Duration::from_nanos(1));
        let alive = attempt.finish();
        judge(&alive);
        alive
    });
    std::mem::forget(announce);
    alive
}

/// How many threads may be left at the end of a run, by where they were spawned.
#[derive(Default)]
struct Remaining(BTreeMap<&'static Location<'static>, usize>);

impl Remaining {
    fn count(alive: &[Alive]) -> BTreeMap<&'static Location<'static>, usize> {
        let mut counts = BTreeMap::new();
        // The first is the one that looks.
        for one in alive.iter().filter(|one| one.number > 0) {
            *counts.entry(one.location).or_default() += 1;
        }
        counts
    }

    fn admit(&mut self, alive: &[Alive]) {
        for (location, count) in Remaining::count(alive) {
            let most = self.0.entry(location).or_default();
            *most = count.max(*most);
        }
    }

    fn compare(&self, alive: &[Alive]) {
        let mut left = String::new();
        for (location, count) in Remaining::count(alive) {
            if count <= self.0.get(location).copied().unwrap_or_default() {
                continue;
            }
            for Alive { number, name, .. } in alive.iter().filter(|one| one.location == location) {
                left += &format!(
                    "\n  #{number} '{}' ({location})",
                    name.as_deref().unwrap_or("<unnamed>")
                );
            }
        }
        assert!(
            left.is_empty(),
            "the cancelled thread has left green threads behind:{left}"
        );
    }
}

fn parse_aim(text: &OsStr) -> Aim {
    let aim = text.to_str().and_then(|text| {
        let (name, numbers) = text.trim().split_once(':')?;
        let way = Way::ALL.into_iter().find(|way| way.name() == name)?;
        let (nth, after) = numbers.split_once('+').unwrap_or((numbers, "0"));
        Some(Aim {
            way,
            nth: nth.parse().ok()?,
            after: after.parse().ok()?,
        })
    });
    aim.unwrap_or_else(|| {
        panic!(
            "HEBRA_CANCEL is to be like starting:1, arriving:2, parked:3+4 or woken:5, not {text:?}"
        )
    })
}
