//! What stacks cost while their threads are parked.

#![cfg(feature = "runtime")]
#![cfg(target_os = "linux")]

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use hebra::{Generator, thread};

mod support;
use support::{bounded, child, is_child, on_workers};

const PAGE: usize = 4096;

/// Whether the page at `address` is in memory.
fn is_resident(address: usize) -> bool {
    let mut entry = [0; 8];
    let pagemap = File::open("/proc/self/pagemap").expect("a process may look at its own pages");
    pagemap
        .read_exact_at(&mut entry, (address / PAGE * 8) as u64)
        .expect("the address is mapped");
    u64::from_ne_bytes(entry) >> 63 == 1
}

/// Touches 64 KiB of the stack below the caller, and returns an address in the middle of it.
#[inline(never)]
fn go_deep() -> usize {
    let mut deep = [1u8; 64 << 10];
    black_box(&mut deep).as_ptr().addr() + (32 << 10)
}

/// Runs `park` on a green thread that has been deep and keeps a value in its frame, and waits until
/// its dead page is gone.
fn dead_page_goes(park: impl FnOnce() + Send + 'static) {
    on_workers(1, || {
        let (deep, intact) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (tell, done) = (deep.clone(), intact.clone());
        let parked = thread::spawn(move || {
            let kept = black_box([7u8; 512]);
            tell.store(go_deep(), SeqCst);
            park();
            done.store(black_box(&kept).iter().all(|&byte| byte == 7), SeqCst);
        });
        while deep.load(SeqCst) == 0 {
            thread::yield_now();
        }
        assert!(
            is_resident(deep.load(SeqCst)),
            "what was touched is in memory"
        );
        while is_resident(deep.load(SeqCst)) {
            thread::sleep(Duration::from_millis(20));
        }
        parked.thread().unpark();
        parked.join().unwrap();
        assert!(
            intact.load(SeqCst),
            "what is above the point where it parked stays"
        );
    });
}

#[test]
fn a_thread_parked_for_long_gives_back_the_dead_pages_of_its_stack() {
    dead_page_goes(thread::park);
}

#[test]
fn a_thread_parked_in_a_generator_gives_back_the_dead_pages_of_the_generators_stack() {
    on_workers(1, || {
        let deep = Arc::new(AtomicUsize::new(0));
        let tell = deep.clone();
        let parked = thread::spawn(move || {
            let mut generator = Generator::<(), u8, ()>::new(move |y, ()| {
                let kept = black_box([7u8; 512]);
                tell.store(go_deep(), SeqCst);
                thread::park();
                kept.iter().for_each(|&byte| y.yield_(byte));
            });
            generator.iter().map(usize::from).sum::<usize>()
        });
        while deep.load(SeqCst) == 0 {
            thread::yield_now();
        }
        while is_resident(deep.load(SeqCst)) {
            thread::sleep(Duration::from_millis(20));
        }
        parked.thread().unpark();
        assert_eq!(parked.join().unwrap(), 7 * 512);
    });
}

#[test]
fn a_thread_that_has_given_pages_back_can_go_deep_again() {
    dead_page_goes(|| {
        thread::park();
        black_box(go_deep());
    });
}

// A sanitizer makes mappings of its own.
#[cfg(not(hebra_sanitizer))]
#[test]
fn generators_leave_mappings_and_give_theirs_back() {
    const TEST: &str = "generators_leave_mappings_and_give_theirs_back";
    fn mappings() -> usize {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("it is readable");
        maps.lines().count()
    }
    fn all_there_are() -> Vec<Generator<(), (), ()>> {
        let start = || {
            let mut g = Generator::with_stack_size(16 << 10, |y, ()| y.yield_(()));
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| g.resume(()))).ok()?;
            Some(g)
        };
        std::iter::from_fn(start).collect()
    }
    bounded(|| {
        if !is_child() {
            let output = child(TEST, &[("HEBRA_STACK_GUARD", "mprotect")]);
            assert!(output.status.success(), "{output:?}");
            return;
        }
        std::panic::set_hook(Box::new(|_| ()));
        let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").expect("readable");
        let limit: usize = limit.trim().parse().expect("a number");
        let mut before = 0;
        for _ in 0..3 {
            let all = all_there_are();
            assert!(all.len() > limit / 2 * 9 / 10 && all.len() >= before);
            before = all.len();
            // There are mappings for an OS thread, with its stack and its guard.
            let threads: Vec<_> = (0..100)
                .map(|_| std::thread::Builder::new().spawn(std::thread::park))
                .collect::<Result<_, _>>()
                .expect("there is memory for a hundred OS threads");
            for thread in threads {
                thread.thread().unpark();
                thread.join().unwrap();
            }
            drop(all);
            assert!(mappings() < limit / 10, "{}", mappings());
        }
    });
}
