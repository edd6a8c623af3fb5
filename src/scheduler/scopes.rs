//! The cancel scopes that a thread is in: `cancel`, `timeout` and `shield` are faces of this one
//! stack.
//!
//! ```text
//!   root            cancelled by a handle, or by the end of the runtime; green threads only
//!    |  Cancel      cancelled by its deadline, or by whoever holds its switch
//!    |  Shield      what is outside of it does not reach inside
//!    v  Cancel      innermost
//! ```
//!
//! A thread *is cancelled* if a scope that it is in is, from the innermost one up to the nearest
//! shield; the root counts if there is no shield. Cancelling unwinds the thread up to the outermost
//! such scope, which alone catches: one further in would let the thread go on inside of what is
//! cancelled.
//!
//! Only the thread itself enters and leaves scopes, and only it, or its worker between resumes,
//! looks at them. Others turn a [`Switch`] and send word to the worker. A scope is entered and left
//! by number, for a generator may be suspended inside of one.

use crate::atomic::{AtomicBool, Ordering};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Instant;

/// What others cancel a scope with.
#[derive(Debug, Default)]
pub(crate) struct Switch(AtomicBool);

impl Switch {
    pub(crate) fn turn(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_turned(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What a scope does.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Cancels what is inside at a point in time; never, if that is too far away to be said.
    Deadline(Option<Instant>),
    /// Cancels what is inside when the switch is turned.
    Switch(Arc<Switch>),
    /// Keeps cancellations of what is outside from what is inside.
    Shield,
}

#[derive(Debug)]
struct Scope {
    id: u64,
    kind: Kind,
    /// Its deadline has passed.
    expired: bool,
}

impl Scope {
    fn is_cancelled(&self) -> bool {
        match &self.kind {
            Kind::Deadline(_) => self.expired,
            Kind::Switch(switch) => switch.is_turned(),
            Kind::Shield => false,
        }
    }
}

/// The cancel scopes that one thread is in.
#[derive(Debug, Default)]
pub(crate) struct Scopes {
    /// Innermost last.
    scopes: Vec<Scope>,
    /// The nearest deadline that no shield hides: cancel points look at it, so it is kept.
    deadline: Option<Instant>,
}

thread_local! {
    /// Scopes that were entered on this OS thread: one may be left by another green thread of it, and must not be taken for its own.
    static ENTERED: Cell<u64> = const { Cell::new(0) };
}

/// How a scope was left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    /// An unwinding that is due to a cancellation ends here.
    pub(crate) catches: bool,
    /// The thread is cancelled further out all the same, be it behind a shield.
    pub(crate) pending: bool,
}

impl Scopes {
    pub(crate) const fn new() -> Scopes {
        Scopes {
            scopes: Vec::new(),
            deadline: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.scopes.is_empty()
    }

    /// Forgets those that a thread has never left, as the generator that it left them in was
    /// forgotten itself.
    pub(crate) fn clear(&mut self) {
        self.scopes.clear();
        self.deadline = None;
    }

    /// Enters a scope and returns its number.
    pub(crate) fn enter(&mut self, kind: Kind) -> u64 {
        let id = ENTERED.get() + 1;
        ENTERED.set(id);
        self.deadline = match kind {
            Kind::Deadline(deadline) => self.deadline.into_iter().chain(deadline).min(),
            Kind::Switch(_) => self.deadline,
            Kind::Shield => None,
        };
        self.scopes.push(Scope {
            id,
            kind,
            expired: false,
        });
        id
    }

    /// Leaves the scope of that number; `root` tells whether the thread as a whole has been
    /// cancelled. `None` if it is none of these.
    pub(crate) fn leave(&mut self, id: u64, root: bool) -> Option<Left> {
        let scope = match self.scopes.pop_if(|scope| scope.id == id) {
            Some(scope) => scope,
            None => self
                .scopes
                .remove(self.scopes.iter().rposition(|scope| scope.id == id)?),
        };
        if self.scopes.is_empty() {
            self.deadline = None;
            return Some(Left {
                catches: scope.is_cancelled() && !root,
                pending: root,
            });
        }
        self.deadline = self.nearest_deadline();
        let catches = scope.is_cancelled() && !self.is_cancelled(root);
        Some(Left {
            catches,
            pending: root || self.scopes.iter().any(Scope::is_cancelled),
        })
    }

    /// From the innermost on, those that no shield hides.
    fn visible(&self) -> impl Iterator<Item = &Scope> {
        self.scopes
            .iter()
            .rev()
            .take_while(|scope| !matches!(scope.kind, Kind::Shield))
    }

    /// Whether the thread is cancelled; `root` tells whether it has been as a whole.
    pub(crate) fn is_cancelled(&self, root: bool) -> bool {
        let shielded = self
            .scopes
            .iter()
            .any(|scope| matches!(scope.kind, Kind::Shield));
        root && !shielded || self.visible().any(Scope::is_cancelled)
    }

    /// Notes which deadlines have passed.
    pub(crate) fn expire(&mut self, now: Instant) {
        for scope in &mut self.scopes {
            if let Kind::Deadline(Some(deadline)) = scope.kind {
                scope.expired |= deadline <= now;
            }
        }
    }

    /// The nearest deadline that no shield hides.
    #[inline]
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    fn nearest_deadline(&self) -> Option<Instant> {
        let deadlines = self.visible().filter_map(|scope| match scope.kind {
            Kind::Deadline(deadline) => deadline,
            Kind::Switch(_) | Kind::Shield => None,
        });
        deadlines.min()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_outermost_cancelled_scope_catches() {
        let now = Instant::now();
        let mut scopes = Scopes::new();
        let outer = scopes.enter(Kind::Deadline(Some(now)));
        let inner = scopes.enter(Kind::Deadline(Some(now)));
        assert!(!scopes.is_cancelled(false));
        scopes.expire(now);
        assert!(scopes.is_cancelled(false));
        assert_eq!(
            scopes.leave(inner, false),
            Some(Left {
                catches: false,
                pending: true
            })
        );
        assert_eq!(
            scopes.leave(outer, false),
            Some(Left {
                catches: true,
                pending: false
            })
        );
        assert_eq!(scopes.leave(outer, false), None);
    }

    #[test]
    fn a_shield_hides_what_is_outside_of_it() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut scopes = Scopes::new();
        let switch = Arc::new(Switch::default());
        scopes.enter(Kind::Deadline(Some(now)));
        scopes.enter(Kind::Switch(switch.clone()));
        let shield = scopes.enter(Kind::Shield);
        assert_eq!(scopes.deadline(), None);
        scopes.expire(now);
        switch.turn();
        assert!(!scopes.is_cancelled(true));
        let inner = scopes.enter(Kind::Deadline(Some(later)));
        assert_eq!(scopes.deadline(), Some(later));
        scopes.expire(later);
        assert!(scopes.is_cancelled(true));
        assert_eq!(
            scopes.leave(inner, true),
            Some(Left {
                catches: true,
                pending: true
            })
        );
        assert_eq!(
            scopes.leave(shield, true),
            Some(Left {
                catches: false,
                pending: true
            })
        );
    }

    #[test]
    fn the_root_is_caught_by_no_scope() {
        let mut scopes = Scopes::new();
        let scope = scopes.enter(Kind::Deadline(None));
        assert!(scopes.is_cancelled(true));
        assert_eq!(
            scopes.leave(scope, true),
            Some(Left {
                catches: false,
                pending: true
            })
        );
    }
}
