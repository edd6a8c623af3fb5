//! The biased lock under loom, which goes through all interleavings of a few threads and through
//! what the memory model lets each of them see. What is tested is the very source of the crate,
//! with full fences in place of the asymmetric ones.
//!
//! Each model must also be able to fail: it is run once more with something taken away, and then
//! loom has to find the fault.

#![allow(
    dead_code,
    unused_imports,
    reason = "the sources have more in them than the models need"
)]

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU8, AtomicUsize};

use loom::cell::UnsafeCell;
use loom::thread;

/// loom's in place of std's: its threads share OS threads.
macro_rules! thread_local {
    ($(static $name:ident: $type:ty = const $value:block;)*) => {
        $(loom::thread_local! { static $name: $type = $value; })*
    };
}

#[allow(unsafe_code)]
#[path = "../../../src/lock/biased.rs"]
mod biased;
#[allow(unsafe_code)]
#[path = "../../../src/lock/sync_cell.rs"]
mod sync_cell;

use biased::BiasedLock;

/// What is taken away.
static WEAKENED: AtomicU8 = AtomicU8::new(NOTHING);

const NOTHING: u8 = 0;
const LIGHT_FENCE: u8 = 1;
const HEAVY_FENCE: u8 = 2;
const ORDERINGS: u8 = 3;
const ANNOUNCEMENT: u8 = 4;

fn lacks(what: u8) -> bool {
    WEAKENED.load(SeqCst) == what
}

mod membarrier {
    use std::cell::Cell;

    use loom::sync::atomic::{Ordering, fence};
    use loom::sync::{Condvar, Mutex};

    loom::lazy_static! {
        static ref CHANGED: (Mutex<()>, Condvar) = (Mutex::new(()), Condvar::new());
    }

    std::thread_local! {
        /// loom's threads are all on one OS thread, and a model is run many times.
        pub(super) static WAITED: Cell<bool> = const { Cell::new(false) };
    }

    pub(crate) fn is_available() -> bool {
        true
    }

    pub(crate) fn light_fence() {
        if !super::lacks(super::LIGHT_FENCE) {
            fence(Ordering::SeqCst);
        }
    }

    pub(crate) fn heavy_fence() {
        if !super::lacks(super::HEAVY_FENCE) {
            fence(Ordering::SeqCst);
        }
    }

    pub(crate) fn wait_until(is_so: impl Fn() -> bool) {
        let mut guard = CHANGED.0.lock().expect("nobody panics under it");
        while !is_so() {
            WAITED.set(true);
            guard = CHANGED.1.wait(guard).expect("nobody panics under it");
        }
    }

    pub(crate) fn announce() {
        if !super::lacks(super::ANNOUNCEMENT) {
            drop(CHANGED.0.lock().expect("nobody panics under it"));
            CHANGED.1.notify_all();
        }
    }
}

/// loom's atomics in place of those of `src/atomic.rs`. They are made when they are first used, as
/// loom's cannot be made in a constant.
mod atomic {
    use std::sync::OnceLock;

    pub(crate) use loom::sync::atomic::Ordering;
    use loom::sync::atomic::{self, Ordering::Relaxed};

    fn weakened(order: Ordering) -> Ordering {
        if super::lacks(super::ORDERINGS) {
            Relaxed
        } else {
            order
        }
    }

    macro_rules! atomics {
        ($($name:ident of $value:ty,)*) => {
            $(
                pub(crate) struct $name($value, OnceLock<atomic::$name>);

                impl $name {
                    pub(crate) const fn new(value: $value) -> $name {
                        $name(value, OnceLock::new())
                    }

                    fn cell(&self) -> &atomic::$name {
                        self.1.get_or_init(|| atomic::$name::new(self.0))
                    }

                    pub(crate) fn load(&self, order: Ordering) -> $value {
                        self.cell().load(weakened(order))
                    }

                    pub(crate) fn store(&self, value: $value, order: Ordering) {
                        self.cell().store(value, weakened(order));
                    }
                }
            )*
        };
    }

    atomics! {
        AtomicBool of bool,
        AtomicU32 of u32,
    }
}

/// loom's mutex in place of that of `src/lock/mod.rs`.
mod lock {
    pub(crate) use super::{membarrier, sync_cell};

    use std::sync::OnceLock;

    pub(crate) use loom::sync::MutexGuard as LockGuard;

    pub(crate) struct Lock<T>(std::sync::Mutex<Option<T>>, OnceLock<loom::sync::Mutex<T>>);

    impl<T> Lock<T> {
        pub(crate) const fn new(value: T) -> Lock<T> {
            Lock(std::sync::Mutex::new(Some(value)), OnceLock::new())
        }

        pub(crate) fn lock(&self) -> LockGuard<'_, T> {
            let first =
                || loom::sync::Mutex::new(self.0.lock().unwrap().take().expect("it is made once"));
            self.1
                .get_or_init(first)
                .lock()
                .expect("nobody panics under a lock")
        }
    }
}

/// What a lock guards. loom finds accesses that nothing orders.
struct Counter(UnsafeCell<usize>);

impl Counter {
    fn add_one(&mut self) {
        // SAFETY: loom checks it.
        #[allow(unsafe_code)]
        self.0.with_mut(|value| unsafe { *value += 1 });
    }
}

/// In how many executions somebody has slept until the owner had left.
static SLEPT: AtomicUsize = AtomicUsize::new(0);

/// The first thread, to which the lock is biased by now, takes it `own` times more, and meanwhile
/// each of the others as often as it says.
fn takers(own: usize, others: &'static [usize]) {
    membarrier::WAITED.set(false);
    let lock = Arc::new(BiasedLock::new(Counter(UnsafeCell::new(0))));
    let take =
        |lock: &BiasedLock<Counter>, times: usize| (0..times).for_each(|_| lock.lock().add_one());
    // What loom is to see is made by those who use it first, and is to be there before there are
    // others.
    let _ = format!("{lock:?}");
    // The third time as the owner.
    take(&lock, 3);
    let spawn = |times: &usize| {
        let (lock, times) = (lock.clone(), *times);
        thread::spawn(move || take(&lock, times))
    };
    let threads: Vec<_> = others.iter().map(spawn).collect();
    take(&lock, own);
    threads
        .into_iter()
        .for_each(|other| other.join().expect("no panic"));
    lock.lock().0.with(|value| {
        // SAFETY: loom checks it.
        #[allow(unsafe_code)]
        let count = unsafe { *value };
        assert_eq!(
            count,
            3 + own + others.iter().sum::<usize>(),
            "all have counted"
        );
    });
    if membarrier::WAITED.get() {
        SLEPT.fetch_add(1, SeqCst);
    }
}

fn the_owner_is_robbed_of_its_bias() {
    takers(2, &[1]);
}

fn two_rob_the_owner() {
    takers(1, &[1, 1]);
}

/// The third time in a row it is the owner itself, and those who were may still be about to enter.
fn the_robbers_become_owners() {
    takers(2, &[3, 3]);
}

/// With at most three preemptions, as in `tests/loom.rs`.
fn check(model: fn()) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn main() {
    if cfg!(hebra_sanitizer) {
        println!("not run: the sanitizer does not know loom's coroutines");
        return;
    }
    let models: [(&str, fn()); 3] = [
        (
            "the owner is robbed of its bias",
            the_owner_is_robbed_of_its_bias,
        ),
        ("two rob the owner", two_rob_the_owner),
        ("the robbers become owners", the_robbers_become_owners),
    ];
    for (name, model) in models {
        check(model);
        println!("{name}: ok");
    }
    let slept = SLEPT.load(SeqCst);
    assert!(
        slept > 0,
        "in no execution has anybody met the owner inside"
    );
    println!("in {slept} executions somebody has slept until the owner had left");
    panic::set_hook(Box::new(|_| ()));
    let faults = [
        ("light fences", LIGHT_FENCE),
        ("heavy fences", HEAVY_FENCE),
        ("orderings", ORDERINGS),
        ("announcements", ANNOUNCEMENT),
    ];
    for (what, fault) in faults {
        WEAKENED.store(fault, SeqCst);
        let failed =
            panic::catch_unwind(AssertUnwindSafe(|| check(the_owner_is_robbed_of_its_bias)))
                .is_err();
        if !failed {
            println!("without {what}: loom has not found the fault");
            std::process::exit(1);
        }
        println!("without {what}: fails, as it must");
    }
    println!(
        "test result: ok. {} models passed, and {} faults were found",
        models.len(),
        faults.len()
    );
}
