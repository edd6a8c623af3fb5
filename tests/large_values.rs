#![cfg(feature = "runtime")]
//! Values of many kilobytes, handed from thread to thread by value: through a channel a green thread's
//! stack can pass at least as large a one as an OS thread's of the same size can with std or crossbeam.

mod support;

use std::hint::black_box;

use support::{child, is_child};

const STACK: usize = 256 << 10;

/// What is tried, in KiB.
const SIZES: [usize; 9] = [2, 4, 6, 8, 12, 16, 24, 32, 48];

struct Large<const N: usize>([u8; N]);

impl<const N: usize> Large<N> {
    #[inline(always)]
    fn new() -> Large<N> {
        Large([1; N])
    }

    #[inline(never)]
    fn check(&self) {
        assert_eq!(black_box(&self.0)[N - 1], 1);
    }
}

impl<const N: usize> Clone for Large<N> {
    fn clone(&self) -> Large<N> {
        Large(self.0)
    }
}

/// Says what is done with a value of `N` bytes.
macro_rules! operations {
    ($($name:ident: $reference:block, $ours:block;)*) => {
        const OPERATIONS: &[&str] = &[$(stringify!($name)),*];

        $(
            mod $name {
                use super::*;

                #[inline(never)]
                pub fn reference<const N: usize>() $reference

                #[inline(never)]
                pub fn ours<const N: usize>() $ours
            }
        )*

        fn operate<const N: usize>(name: &str, ours: bool) {
            match (name, ours) {
                $(
                    (stringify!($name), false) => $name::reference::<N>(),
                    (stringify!($name), true) => $name::ours::<N>(),
                )*
                _ => unreachable!("{name} is no operation"),
            }
        }
    };
}

operations! {
    unbounded: {
        let (sender, receiver) = crossbeam_channel::unbounded();
        sender.send(Large::<N>::new()).unwrap();
        receiver.recv().unwrap().check();
        sender.try_send(Large::<N>::new()).unwrap();
        receiver.try_iter().for_each(|value| value.check());
    }, {
        let (sender, receiver) = hebra::channel::unbounded();
        sender.send(Large::<N>::new()).unwrap();
        receiver.recv().unwrap().check();
        sender.try_send(Large::<N>::new()).unwrap();
        receiver.try_iter().for_each(|value| value.check());
    };

    bounded: {
        let (sender, receiver) = crossbeam_channel::bounded(2);
        sender.send(Large::<N>::new()).unwrap();
        receiver.recv().unwrap().check();
    }, {
        let (sender, receiver) = hebra::channel::bounded(2);
        sender.send(Large::<N>::new()).unwrap();
        receiver.recv().unwrap().check();
    };

    rendezvous: {
        let (sender, receiver) = crossbeam_channel::bounded::<Large<N>>(0);
        let other = std::thread::spawn(move || receiver.recv().unwrap().check());
        sender.send(Large::<N>::new()).unwrap();
        other.join().unwrap();
    }, {
        let (sender, receiver) = hebra::channel::bounded::<Large<N>>(0);
        let other = hebra::thread::spawn(move || receiver.recv().unwrap().check());
        sender.send(Large::<N>::new()).unwrap();
        other.join().unwrap();
    };

    select: {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        crossbeam_channel::select! { send(sender, Large::<N>::new()) -> sent => sent.unwrap() }
        crossbeam_channel::select! {
            recv(receiver) -> value => value.unwrap().check(),
            recv(crossbeam_channel::never::<()>()) -> _ => {}
        }
    }, {
        let (sender, receiver) = hebra::channel::bounded(1);
        hebra::channel::select! { send(sender, Large::<N>::new()) -> sent => sent.unwrap() }
        hebra::channel::select! {
            recv(receiver) -> value => value.unwrap().check(),
            recv(hebra::channel::never::<()>()) -> _ => {}
        }
    };

    mpsc: {
        let (sender, receiver) = std::sync::mpsc::sync_channel(2);
        sender.send(Large::<N>::new()).unwrap();
        receiver.recv().unwrap().check();
    }, {
        let (sender, receiver) = hebra::sync::mpsc::sync_channel(2);
        sender.send(Large::<N>::new()).unwrap();
        receiver.recv().unwrap().check();
    };

    oneshot: {
        let (sender, receiver) = std::sync::mpsc::channel();
        sender.send(Large::<N>::new()).unwrap();
        receiver.recv().unwrap().check();
    }, {
        let (sender, receiver) = hebra::sync::oneshot::channel();
        sender.send(Large::<N>::new()).unwrap();
        receiver.recv().unwrap().check();
    };

    broadcast: {
        let (sender, receiver) = std::sync::mpsc::channel();
        sender.send(Large::<N>::new()).unwrap();
        receiver.recv().unwrap().check();
    }, {
        let (sender, mut receiver) = hebra::channel::broadcast::channel(2);
        let mut other = sender.subscribe();
        assert!(sender.send(Large::<N>::new()).is_ok());
        receiver.recv().ok().unwrap().check();
        other.recv().ok().unwrap().check();
    };

    watch: {
        let (sender, receiver) = std::sync::mpsc::channel();
        sender.send(Large::<N>::new()).unwrap();
        receiver.recv().unwrap().check();
    }, {
        let (sender, receiver) = hebra::channel::watch::channel(Large::<N>::new());
        assert!(sender.send(Large::<N>::new()).is_ok());
        receiver.borrow().check();
    };

    spawn: {
        let value = Large::<N>::new();
        std::thread::spawn(move || value.check()).join().unwrap();
    }, {
        let value = Large::<N>::new();
        hebra::thread::spawn(move || value.check()).join().unwrap();
    };

    join: {
        std::thread::Builder::new()
            .stack_size(STACK)
            .spawn(Large::<N>::new)
            .unwrap()
            .join()
            .ok()
            .unwrap()
            .check();
    }, {
        hebra::thread::spawn(Large::<N>::new).join().ok().unwrap().check();
    };

    scope: {
        let value = Large::<N>::new();
        std::thread::scope(|scope| scope.spawn(move || value.check()).join().unwrap());
    }, {
        let value = Large::<N>::new();
        hebra::thread::scope(|scope| scope.spawn(move || value.check()).join().unwrap());
    };

    spawn_local: {
        let value = Large::<N>::new();
        std::thread::spawn(move || value.check()).join().unwrap();
    }, {
        let value = Large::<N>::new();
        hebra::thread::spawn_local(move || value.check()).join().unwrap();
    };

    set: {
        let value = Large::<N>::new();
        std::thread::spawn(move || value.check()).join().unwrap();
    }, {
        let value = Large::<N>::new();
        let mut set = hebra::thread::JoinSet::new();
        set.spawn(move || value.check());
        set.join_next().unwrap().unwrap();
    };

    once_lock: {
        let cell = std::sync::OnceLock::new();
        cell.get_or_init(Large::<N>::new).check();
        cell.into_inner().unwrap().check();
    }, {
        let cell = hebra::sync::OnceLock::new();
        cell.get_or_init(Large::<N>::new).check();
        cell.into_inner().unwrap().check();
    };

    mutex: {
        let mutex = std::sync::Mutex::new(Large::<N>::new());
        mutex.lock().unwrap().check();
        mutex.into_inner().unwrap().check();
    }, {
        let mutex = hebra::sync::Mutex::new(Large::<N>::new());
        mutex.lock().unwrap().check();
        mutex.into_inner().unwrap().check();
    };
}

/// The child: one operation, on a thread with a stack of its own.
#[test]
fn child_moves_one_value() {
    if !is_child() {
        return;
    }
    let operation = std::env::var("OPERATION").unwrap();
    let kib: usize = std::env::var("KIB").unwrap().parse().unwrap();
    let ours = std::env::var_os("OURS").is_some();
    let run = move || match kib {
        2 => operate::<{ 2 << 10 }>(&operation, ours),
        4 => operate::<{ 4 << 10 }>(&operation, ours),
        6 => operate::<{ 6 << 10 }>(&operation, ours),
        8 => operate::<{ 8 << 10 }>(&operation, ours),
        12 => operate::<{ 12 << 10 }>(&operation, ours),
        16 => operate::<{ 16 << 10 }>(&operation, ours),
        24 => operate::<{ 24 << 10 }>(&operation, ours),
        32 => operate::<{ 32 << 10 }>(&operation, ours),
        _ => operate::<{ 48 << 10 }>(&operation, ours),
    };
    if ours {
        let config = hebra::Config::default().workers(1).stack_size(STACK);
        let runtime = hebra::Runtime::new(config).unwrap();
        runtime.run(|| hebra::thread::spawn(run).join().unwrap());
    } else {
        let thread = std::thread::Builder::new().stack_size(STACK);
        thread.spawn(run).unwrap().join().unwrap();
    }
}

/// The largest value that an operation can be done with.
fn largest(operation: &str, ours: bool) -> usize {
    let fits = |kib: usize| {
        let kib = kib.to_string();
        let mut environment = vec![("OPERATION", operation), ("KIB", &kib)];
        if ours {
            environment.push(("OURS", "1"));
        }
        child("child_moves_one_value", &environment)
            .status
            .success()
    };
    let at = SIZES.partition_point(|kib| fits(*kib));
    at.checked_sub(1).map_or(0, |at| SIZES[at])
}

#[test]
fn large_values_fit_where_they_fit_with_std() {
    // A sanitizer puts red zones between the values of a frame.
    if cfg!(panic = "abort") || cfg!(hebra_sanitizer) {
        return;
    }
    let mut short = Vec::new();
    for operation in OPERATIONS {
        let (reference, ours) = (largest(operation, false), largest(operation, true));
        println!("{operation}: {ours} KiB, and {reference} KiB with std or crossbeam");
        if ours < reference {
            short.push(operation);
        }
    }
    assert!(
        short.is_empty(),
        "less than with std or crossbeam: {short:?}"
    );
}
