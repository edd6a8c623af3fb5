//! The scheduler, on one page.
//!
//! A [`worker`] is an OS thread that resumes green threads, each a coroutine in its table with a
//! record, the [`task`]. What is ready stands in its [`run_queue`]; others reach it through its
//! inbox. A green thread that has to wait opens an epoch of its [`claim`] word, hands a [`waiter`]
//! to whatever it waits for, and suspends; who wins the claim makes it runnable. Its deadline
//! stands in the worker's [`timers`], on the runtime's [`clock`]; its sockets are watched by the
//! worker's [`reactor`]. When all workers sleep and nobody could wake them, that is a [`deadlock`].
//!
//! ```text
//!          park: begin epoch, enlist waiter, suspend                wake: win the claim, push the slot
//!   running ---------------------------------------------> parked ---------------------------------------> ready
//!      ^                                                                                                     |
//!      +------------------------------------ the loop: pop the slot, resume ---------------------------------+
//! ```
//!
//! The five laws that everything here keeps:
//!
//! 1. *Exactly once.* A wait ends once: wake, time-out and cancellation race for one
//!    compare-exchange ([`claim`]).
//! 2. *Home.* A started green thread stays on its worker; others can only put it into that worker's
//!    inbox ([`run_queue`]).
//! 3. *Nobody drops a started coroutine.* Cancelling is a flag and a wake; the unwinding starts in
//!    the thread itself, in `park`.
//! 4. *An unwinding thread does not linger.* See `park`.
//! 5. *No surprise switch.* Only a call that may wait can switch threads or be cancelled; a call that
//!    cannot wait adds to its thread's debt at most, which the next call that may wait pays. See
//!    `docs/calls.md`.

pub(crate) mod audit;
pub(crate) mod claim;
pub(crate) mod clock;
pub(crate) mod deadlock;
pub(crate) mod ending;
pub(crate) mod inbox;
pub(crate) mod locals;
pub(crate) mod oracle;
pub(crate) mod os_thread;
pub(crate) mod reactor;
pub(crate) mod run_queue;
pub(crate) mod scopes;
mod standstill;
#[allow(unsafe_code)]
mod sweep;
pub(crate) mod task;
pub(crate) mod timers;
pub(crate) mod wait_list;
#[cfg(test)]
mod wait_list_tests;
pub(crate) mod waiter;
#[allow(unsafe_code)]
pub(crate) mod worker;
