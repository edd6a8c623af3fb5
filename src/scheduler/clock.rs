//! The clock that deadlines are measured on.
//!
//! Inside the scheduler a point in time is a `u64`: nanoseconds since the runtime's [`Clock`] was
//! made. That is 584 years, compares in one instruction and takes half of an `Instant`.
//! [`Instant`]s come in at the public API and go no further.
//!
//! A *virtual* clock stands still until its worker sets it: in a simulation time passes only while
//! everybody is parked.

use crate::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Nanoseconds since the runtime's clock was made.
pub(crate) type Nanos = u64;

/// A runtime's source of time.
#[derive(Debug)]
pub(crate) struct Clock {
    base: Instant,
    /// Where a virtual clock stands; `None`: this is the system's. Set by the only worker, read by
    /// anybody.
    stands_at: Option<AtomicU64>,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock {
            base: Instant::now(),
            stands_at: None,
        }
    }

    /// A clock that stands at its beginning.
    pub(crate) fn new_virtual() -> Clock {
        Clock {
            base: Instant::now(),
            stands_at: Some(AtomicU64::new(0)),
        }
    }

    #[inline]
    pub(crate) fn now(&self) -> Nanos {
        match &self.stands_at {
            None => self.at(Instant::now()),
            Some(at) => at.load(Ordering::Relaxed),
        }
    }

    /// What [`now`](Clock::now) says, as an `Instant`.
    #[inline]
    pub(crate) fn read(&self) -> Instant {
        match &self.stands_at {
            None => Instant::now(),
            Some(at) => self.instant(at.load(Ordering::Relaxed)),
        }
    }

    /// Sets a virtual clock, if that is not earlier than where it stands.
    pub(crate) fn advance_to(&self, now: Nanos) {
        if let Some(at) = &self.stands_at {
            at.fetch_max(now, Ordering::Relaxed);
        }
    }

    /// The instant of `nanos`.
    pub(crate) fn instant(&self, nanos: Nanos) -> Instant {
        self.base + Duration::from_nanos(nanos)
    }

    /// Converts a deadline; one before the clock's beginning becomes 0, one beyond its end its end.
    pub(crate) fn at(&self, instant: Instant) -> Nanos {
        let since = instant.saturating_duration_since(self.base);
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_clock_stands_until_it_is_set_and_never_goes_back() {
        let clock = Clock::new_virtual();
        let begin = clock.read();
        assert_eq!((clock.now(), clock.at(begin)), (0, 0));
        clock.advance_to(5_000);
        clock.advance_to(4_000);
        assert_eq!(clock.now(), 5_000);
        assert_eq!(clock.read() - begin, Duration::from_micros(5));
        assert_eq!(clock.at(clock.read()), 5_000);
    }
}
