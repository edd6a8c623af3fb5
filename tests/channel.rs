//! Channels: one set of laws, kept by crossbeam's and by ours alike: ours on OS threads, on one
//! worker and on two.

#![cfg(feature = "runtime")]

mod support;

/// Where the laws are tried: how a test runs, and what its threads are.
mod worlds {
    pub mod os {
        pub use std::thread::{sleep, spawn, yield_now};

        pub fn run<T>(test: impl FnOnce() -> T) -> T {
            crate::support::bounded(test)
        }
    }

    pub mod one_worker {
        pub use hebra::thread::{sleep, spawn, yield_now};

        pub fn run<T>(test: impl FnOnce() -> T) -> T {
            crate::support::on_workers(1, test)
        }
    }

    pub mod two_workers {
        pub use hebra::thread::{sleep, spawn, yield_now};

        pub fn run<T>(test: impl FnOnce() -> T) -> T {
            crate::support::on_workers(2, test)
        }
    }
}

/// A test of `channel` in its `world`.
macro_rules! law {
    (fn $name:ident() $body:block) => {
        #[test]
        fn $name() {
            world::run(|| $body);
        }
    };
}

macro_rules! laws {
    ($name:ident: $channel:path, $world:ident) => {
        #[allow(clippy::duplicate_mod, reason = "the laws are the same for all")]
        #[path = "channel_laws"]
        mod $name {
            use crate::worlds::$world as world;
            use $channel as channel;

            mod hand_over;
            mod select;
        }
    };
}

laws!(crossbeam: crossbeam_channel, os);
laws!(os_threads: hebra::channel, os);
laws!(one_worker: hebra::channel, one_worker);
laws!(two_workers: hebra::channel, two_workers);
