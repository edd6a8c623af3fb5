//! Time on the clock of the runtime: [`std::time`]'s `Instant`, and ticks at an interval.
//!
//! On a green thread the clock is its runtime's. That is the system's, but in a
//! [simulation](crate::sim) a virtual one, which stands still while anybody runs and jumps to the
//! next deadline when everybody waits. Code that asks for the time here, and not of
//! [`std::time::Instant::now`], can be simulated. On a plain OS thread the clock is the system's.
//! [`SystemTime`] is std's own: the time of day is the system's, in a simulation, too.

use std::fmt;
use std::ops::{Add, AddAssign, Sub, SubAssign};

use crate::park::{self, Mode, Wait};
use crate::scheduler::claim::Wake;
use crate::scheduler::task::Reason;

/// The time of day is the system's, in a simulation, too. What a simulation is to repeat
/// must ask for an [`Instant`].
pub use std::time::{SystemTime, UNIX_EPOCH};

pub use std::time::{Duration, SystemTimeError, TryFromFloatSecsError};

/// A point in time on the calling thread's clock, as [`std::time::Instant`].
///
/// It *is* one of those, and converts from and to it at no cost; only [`now`](Instant::now) and
/// [`elapsed`](Instant::elapsed) differ. Those of two simulations, or of one and the world outside,
/// have nothing to do with each other.
///
/// ```
/// use hebra::time::{Duration, Instant};
///
/// hebra::sim::run(0, || {
///     let start = Instant::now();
///     hebra::thread::sleep(Duration::from_secs(3600));
///     assert_eq!(start.elapsed(), Duration::from_secs(3600));
/// });
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(std::time::Instant);

impl Instant {
    /// Returns what the calling thread's clock says.
    pub fn now() -> Instant {
        Instant(park::now())
    }

    /// Returns the time from `earlier` to this, or zero if that is the later one.
    pub fn duration_since(&self, earlier: Instant) -> Duration {
        self.0.duration_since(earlier.0)
    }

    /// Returns the time from `earlier` to this, or `None` if that is the later one.
    pub fn checked_duration_since(&self, earlier: Instant) -> Option<Duration> {
        self.0.checked_duration_since(earlier.0)
    }

    /// Returns the time from `earlier` to this, or zero if that is the later one.
    pub fn saturating_duration_since(&self, earlier: Instant) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }

    /// Returns the time from this to now, or zero if this lies ahead.
    pub fn elapsed(&self) -> Duration {
        Instant::now().duration_since(*self)
    }

    /// Returns `self + duration`, or `None` if that is further away than an `Instant` can say.
    pub fn checked_add(&self, duration: Duration) -> Option<Instant> {
        self.0.checked_add(duration).map(Instant)
    }

    /// Returns `self - duration`, or `None` if that is further away than an `Instant` can say.
    pub fn checked_sub(&self, duration: Duration) -> Option<Instant> {
        self.0.checked_sub(duration).map(Instant)
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;

    /// # Panics
    /// If the result is further away than an `Instant` can say; see [`Instant::checked_add`].
    fn add(self, duration: Duration) -> Instant {
        Instant(self.0 + duration)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;

    /// # Panics
    /// If the result is further away than an `Instant` can say; see [`Instant::checked_sub`].
    fn sub(self, duration: Duration) -> Instant {
        Instant(self.0 - duration)
    }
}

impl SubAssign<Duration> for Instant {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

impl Sub<Instant> for Instant {
    type Output = Duration;

    /// The time from `earlier` to this, or zero if that is the later one.
    fn sub(self, earlier: Instant) -> Duration {
        self.duration_since(earlier)
    }
}

impl From<std::time::Instant> for Instant {
    fn from(instant: std::time::Instant) -> Instant {
        Instant(instant)
    }
}

impl From<Instant> for std::time::Instant {
    fn from(instant: Instant) -> std::time::Instant {
        instant.0
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Returns what the calling thread's clock says; the same as [`Instant::now`].
pub fn now() -> Instant {
    Instant::now()
}

/// Stops the current thread until `deadline`; `None` is never.
pub(crate) fn sleep_to(deadline: Option<std::time::Instant>) -> Wake {
    let deadline = deadline.or_else(|| park::deadline_after(Duration::MAX));
    park::park(Reason::Sleep, deadline, Mode::CancelPoint, |_| {
        Some(|_: &Wait<'_>| ())
    })
}

/// Makes an [`Interval`] that ticks now, and from then on once a `period`.
///
/// # Panics
/// Panics if `period` is zero.
///
/// ```
/// use hebra::time::{Duration, Instant, interval};
///
/// hebra::sim::run(0, || {
///     let start = Instant::now();
///     let mut minute = interval(Duration::from_secs(60));
///     for _ in 0..=10 {
///         minute.tick();
///     }
///     assert_eq!(start.elapsed(), Duration::from_secs(600));
/// });
/// ```
pub fn interval(period: Duration) -> Interval {
    interval_at(Instant::now(), period)
}

/// Makes an [`Interval`] that ticks at `start`, and from then on once a `period`.
///
/// # Panics
/// Panics if `period` is zero.
pub fn interval_at(start: impl Into<Instant>, period: Duration) -> Interval {
    assert!(
        !period.is_zero(),
        "an interval needs a period that is not zero"
    );
    Interval {
        next: Some(start.into()),
        period,
        behavior: MissedTickBehavior::default(),
    }
}

/// What [`Interval::tick`] does with ticks that came and went while nobody asked for them.
///
/// With a period of 10, and a caller who takes 25 for what it does after the tick at 10:
///
/// ```text
///   ticks     0     10     20     30     40     50     60
///   Skip      0     10                 35 40     50     60      the late one at once; then the next of the grid
///   Delay     0     10                 35     45     55         the late one at once; from then on a new grid
///   Burst     0     10                 35,35  40     50     60  every one that was missed, one after the other
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissedTickBehavior {
    /// One tick at once for all that were missed, then the next of the old grid.
    ///
    /// The default: nothing is done twice, and what is to happen at full minutes goes on happening
    /// at full minutes.
    #[default]
    Skip,
    /// One tick at once, and a new grid that begins with it.
    Delay,
    /// All that were missed, each at once: their number is right in the long run.
    Burst,
}

/// Ticks once a period; made by [`interval`].
#[derive(Debug, Clone)]
pub struct Interval {
    /// When it ticks next; `None` is further away than an `Instant` can say.
    next: Option<Instant>,
    period: Duration,
    behavior: MissedTickBehavior,
}

impl Interval {
    /// Waits for the next tick, and returns when that was due. Returns at once if it was due
    /// already; what comes of the others that were missed [`MissedTickBehavior`] says.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point, and the tick is not taken. In a destructor
    /// of a thread that is being cancelled it returns at once.
    pub fn tick(&mut self) -> Instant {
        park::charge_or_yield();
        loop {
            let now = Instant::now();
            if let Some(due) = self.next
                && due <= now
            {
                self.next = self.after(due, now);
                return due;
            }
            if sleep_to(self.next.map(Into::into)) == Wake::Cancelled {
                return now;
            }
        }
    }

    /// When the tick follows that was due at `due` and is taken `now`.
    fn after(&self, due: Instant, now: Instant) -> Option<Instant> {
        let next = due.checked_add(self.period)?;
        if now < next {
            return Some(next);
        }
        match self.behavior {
            MissedTickBehavior::Burst => Some(next),
            MissedTickBehavior::Delay => now.checked_add(self.period),
            MissedTickBehavior::Skip => {
                let into_period = (now - due).as_nanos() % self.period.as_nanos();
                let left = self.period - duration_from_nanos(into_period);
                now.checked_add(left)
            }
        }
    }

    /// Forgets ticks that were missed: the next comes a period from now.
    pub fn reset(&mut self) {
        self.next = Instant::now().checked_add(self.period);
    }

    /// Returns the time from tick to tick.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// Returns what is done about missed ticks.
    pub fn missed_tick_behavior(&self) -> MissedTickBehavior {
        self.behavior
    }

    /// Sets what is done about missed ticks; [`MissedTickBehavior::Skip`] unless set.
    pub fn set_missed_tick_behavior(&mut self, behavior: MissedTickBehavior) {
        self.behavior = behavior;
    }
}

/// `Duration::from_nanos` for more than 584 years.
fn duration_from_nanos(nanos: u128) -> Duration {
    const SECOND: u128 = 1_000_000_000;
    Duration::new((nanos / SECOND) as u64, (nanos % SECOND) as u32)
}
