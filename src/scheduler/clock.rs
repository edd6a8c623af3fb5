//! The clock that deadlines are measured on.
//!
//! Inside the scheduler a point in time is a `u64`: nanoseconds since the runtime's [`Clock`] was made. That is 584 years,
//! compares in one instruction and takes half of an `Instant`. [`Instant`]s come in at the public API and go no further.

use std::time::{Duration, Instant};

/// Nanoseconds since the runtime's clock was made.
pub(crate) type Nanos = u64;

/// A runtime's source of time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    base: Instant,
}

impl Clock {
    pub(crate) fn new() -> Clock {
        Clock { base: Instant::now() }
    }

    pub(crate) fn now(&self) -> Nanos {
        self.at(Instant::now())
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
