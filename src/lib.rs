#![cfg_attr(feature = "runtime", doc = include_str!("../README.md"))]
#![cfg_attr(
    not(feature = "runtime"),
    doc = "hebra without its runtime: stackful generators; see [`generator`]."
)]
#![deny(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations, unreachable_pub)]

#[cfg(not(unix))]
compile_error!("hebra is written for Unix");

// L1: memory and switching
#[cfg(feature = "runtime")]
mod atomic;
#[allow(unsafe_code)]
mod coroutine;
mod lock;
#[allow(unsafe_code)]
mod panic_count;
mod report;
#[allow(unsafe_code)]
mod stack;
#[cfg(feature = "runtime")]
#[cfg_attr(
    not(all(
        feature = "dump",
        target_arch = "x86_64",
        target_os = "linux",
        not(hebra_sanitizer)
    )),
    path = "stack_walk_none.rs"
)]
#[allow(unsafe_code)]
mod stack_walk;
mod unwinding;

// L2: generators, usable alone
#[allow(unsafe_code)]
pub mod generator;

// L3: the scheduler
#[cfg(feature = "runtime")]
mod scheduler;

// L4: the one function that blocks
#[cfg(feature = "runtime")]
mod park;

// L5: what users know from std
#[cfg(feature = "runtime")]
pub mod blocking;
#[cfg(feature = "runtime")]
pub mod channel;
#[cfg(feature = "runtime")]
pub mod future;
#[cfg(feature = "runtime")]
pub mod io;
#[cfg(feature = "runtime")]
mod runtime;
#[cfg(feature = "runtime")]
pub mod sync;
#[cfg(feature = "runtime")]
pub mod thread;
#[cfg(feature = "runtime")]
pub mod time;

// L6: mirrors of std's I/O
#[cfg(feature = "runtime")]
pub mod fs;
#[cfg(feature = "runtime")]
pub mod net;
#[cfg(feature = "runtime")]
pub mod os;
#[cfg(feature = "runtime")]
pub mod process;
#[cfg(feature = "runtime")]
#[allow(unsafe_code)]
pub mod signal;

// L7: nobody imports these
#[cfg(feature = "runtime")]
pub mod sim;

#[cfg(feature = "runtime")]
pub mod dump;

/// Longer pages: how to come from elsewhere, what a call may do, and what hebra's speed is.
#[cfg(all(feature = "runtime", any(doc, doctest)))]
pub mod guide {
    #[doc = include_str!("../docs/from-std.md")]
    pub mod from_std {}
    #[doc = include_str!("../docs/from-tokio.md")]
    pub mod from_tokio {}
    #[doc = include_str!("../docs/from-go.md")]
    pub mod from_go {}
    #[doc = include_str!("../docs/from-asyncio.md")]
    pub mod from_asyncio {}
    #[doc = include_str!("../docs/calls.md")]
    pub mod calls {}
    #[doc = include_str!("../docs/performance.md")]
    pub mod performance {}
}

pub use generator::{Generator, GeneratorState, Yielder};
#[cfg(feature = "runtime")]
pub use runtime::{Config, Handle, Runtime, Straggler, Unfinished, run};
