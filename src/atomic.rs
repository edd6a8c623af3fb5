//! The atomics of those protocols that a model checker goes through: `tests/loom.rs` puts its own
//! in their place.

pub(crate) use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
