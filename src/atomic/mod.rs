//! The atomics of the scheduler and of the synchronisation primitives. `examples/with-crates/tests/loom.rs` puts loom's
//! in their place; under `--cfg hebra_chaos` each operation is delayed at random.

#[cfg(hebra_chaos)]
mod chaos;

#[cfg(hebra_chaos)]
pub(crate) use chaos::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, delay, fence,
};
pub(crate) use std::sync::atomic::Ordering;
#[cfg(not(hebra_chaos))]
pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, fence,
};
