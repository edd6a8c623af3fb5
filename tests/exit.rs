//! `exit` on a green thread: the destructors of the OS thread's thread-locals run on the green
//! thread's stack. What waits in them fails or returns, and the process ends with its status.

#![cfg(all(feature = "runtime", target_os = "linux", target_env = "gnu"))]

use std::cell::RefCell;
use std::os::unix::process::ExitStatusExt;
use std::process::Output;
use std::sync::OnceLock;
use std::thread::LocalKey;
use std::time::Duration;

use hebra::channel::{self, Receiver, Sender};
use hebra::sync::{Arc, Barrier, Condvar, Mutex, RwLock};
use hebra::thread::{self, JoinHandle};
use hebra::{Config, Runtime};

use support::{bounded, child, is_child, stderr};

mod support;

const STATUS: i32 = 7;
const CASE: &str = "HEBRA_EXIT_CASE";

/// Calls a closure when it is dropped.
struct AtDrop(Box<dyn FnOnce()>);

struct Late(RefCell<Option<AtDrop>>);

impl Drop for Late {
    fn drop(&mut self) {
        if let Some(AtDrop(call)) = self.0.take() {
            call();
        }
    }
}

thread_local! {
    /// Used before the runtime runs, and so destroyed after the scheduler's thread-locals.
    static LAST: Late = const { Late(RefCell::new(None)) };
    /// Used on a green thread, and so destroyed first.
    static FIRST: Late = const { Late(RefCell::new(None)) };
}

fn set(key: &'static LocalKey<Late>, call: impl FnOnce() + 'static) {
    key.with(|late| *late.0.borrow_mut() = Some(AtDrop(Box::new(call))));
}

/// What destructors wait for, none of which will come.
struct Never {
    full: Sender<u8>,
    empty: Receiver<u8>,
    _keeps: (Sender<u8>, Receiver<u8>),
    thread: Option<JoinHandle<()>>,
}

impl Never {
    fn new() -> Never {
        let (full, receiver) = channel::bounded(1);
        full.send(0).unwrap();
        let (sender, empty) = channel::bounded(1);
        let thread = thread::spawn(loop_for_ever);
        Never {
            full,
            empty,
            _keeps: (sender, receiver),
            thread: Some(thread),
        }
    }
}

fn loop_for_ever() {
    loop {
        thread::yield_now();
    }
}

type Action = (&'static str, fn(&mut Never));

const ACTIONS: &[Action] = &[
    ("yields", |_| (0..100).for_each(|_| thread::yield_now())),
    ("sleeps", |_| thread::sleep(Duration::from_secs(3600))),
    ("parks", |_| thread::park()),
    ("sends", |never| assert!(never.full.send(1).is_err())),
    ("receives", |never| assert!(never.empty.recv().is_err())),
    ("joins", |never| {
        assert!(never.thread.take().unwrap().join().is_err());
    }),
    ("spawns", |_| {
        assert!(thread::spawn(|| 1).join().is_err());
        assert!(thread::spawn_local(|| 1).join().is_err());
    }),
    ("opens a scope", |_| {
        thread::scope(|s| assert!(s.spawn(|| 1).join().is_err()));
        assert!(thread::race([|| 1]).is_err());
    }),
    ("fills a set", |_| {
        let mut set = thread::JoinSet::new();
        set.spawn(|| 1);
        assert!(set.join_next().unwrap().is_err());
    }),
    ("locks", |_| {
        *Mutex::new(0).lock().unwrap() += 1;
        *RwLock::new(0).write().unwrap() += 1;
    }),
    ("waits for a condition", |_| {
        let mutex = Mutex::new(());
        drop(Condvar::new().wait(mutex.lock().unwrap()));
    }),
    ("waits in a shield", |_| {
        thread::shield(|| thread::sleep(Duration::from_secs(3600)));
    }),
    ("waits with a time-out", |never| {
        let _ = thread::timeout(Duration::from_secs(3600), || never.empty.recv());
    }),
    ("waits at a barrier", |_| {
        let _ = std::panic::catch_unwind(|| Barrier::new(2).wait());
    }),
    ("writes", |_| {
        use std::io::Write;
        hebra::io::stdout().write_all(b"bye\n").unwrap();
    }),
];

/// Ways to end the process from a green thread.
const WAYS: &[(&str, fn())] = &[
    ("std", || std::process::exit(STATUS)),
    // SAFETY: no other OS thread calls `exit`.
    ("libc", || unsafe { libc::exit(STATUS) }),
    ("a panic hook", || {
        std::panic::set_hook(Box::new(|_| std::process::exit(STATUS)));
        panic!("of which the hook makes an exit");
    }),
];

fn expect_status(output: &Output, case: &str) {
    assert_eq!(
        output.status.code(),
        Some(STATUS),
        "{case}: {}\n{}",
        output.status,
        stderr(output)
    );
}

/// Ends this process from a green thread of a runtime with so many workers, `way`, with `action` in
/// the first and the last destructor.
fn exit_with(workers: usize, way: fn(), action: fn(&mut Never)) {
    // SAFETY: its default action ends the process, should it hang.
    unsafe { libc::alarm(30) };
    LAST.with(|_| ());
    let runtime = Runtime::new(Config::default().workers(workers)).unwrap();
    runtime.run(move || {
        let exiting = move || {
            for _ in 0..100 {
                thread::spawn_local(|| {
                    LAST.with(|_| loop_for_ever());
                });
            }
            let (mut first, mut last) = (Never::new(), Never::new());
            set(&LAST, move || action(&mut last));
            set(&FIRST, move || action(&mut first));
            // So many that the worker has watched for `exit` anew.
            (0..50).for_each(|_| thread::yield_now());
            way();
        };
        if workers > 1 {
            // Started by another worker, as this one is kept busy.
            thread::spawn(exiting);
            loop {
                std::hint::spin_loop();
            }
        }
        exiting();
    });
}

#[test]
fn waits_in_destructors_fail_during_exit() {
    if is_child() {
        let case = std::env::var(CASE).unwrap();
        let numbers: Vec<usize> = case.split(' ').map(|n| n.parse().unwrap()).collect();
        exit_with(numbers[0], WAYS[numbers[1]].1, ACTIONS[numbers[2]].1);
    }
    for (action, (does, _)) in ACTIONS.iter().enumerate() {
        let cases = (0..WAYS.len()).map(|way| (1, way)).chain([(2, 0)]);
        for (workers, way) in cases.take(if action < 4 { 4 } else { 1 }) {
            let case = format!("{workers} {way} {action}");
            let name = "waits_in_destructors_fail_during_exit";
            let output = bounded(|| child(name, &[(CASE, &case)]));
            let way = WAYS[way].0;
            expect_status(&output, &format!("{does}, {way}, {workers} workers"));
        }
    }
}

#[test]
fn lock_held_by_a_neighbour_is_not_waited_for() {
    if is_child() {
        let mutex = Arc::new(Mutex::new(()));
        exit_with(
            1,
            || std::process::exit(STATUS),
            |_| {
                static HELD: OnceLock<Arc<Mutex<()>>> = OnceLock::new();
                let mutex = HELD.get_or_init(Arc::default);
                std::mem::forget(mutex.try_lock());
                let again = std::panic::catch_unwind(|| drop(mutex.lock()));
                assert!(again.is_err(), "nobody will unlock it");
            },
        );
        drop(mutex);
    }
    let output = bounded(|| child("lock_held_by_a_neighbour_is_not_waited_for", &[]));
    expect_status(&output, "a held lock");
    assert!(
        stderr(&output).contains("waits for what will not come"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn waits_in_atexit_handlers_fail() {
    extern "C" fn handler() {
        thread::sleep(Duration::from_secs(3600));
        let (sender, receiver) = channel::bounded::<u8>(0);
        assert!(sender.send(1).is_err() && receiver.recv().is_err());
        assert!(thread::spawn(|| ()).join().is_err());
    }
    if is_child() {
        // SAFETY: the handler does not unwind.
        unsafe { libc::atexit(handler) };
        exit_with(1, || std::process::exit(STATUS), |_| ());
    }
    let output = bounded(|| child("waits_in_atexit_handlers_fail", &[]));
    expect_status(&output, "atexit");
}

#[test]
fn runtime_in_a_destructor_is_not_waited_for() {
    if is_child() {
        exit_with(
            1,
            || std::process::exit(STATUS),
            |_| {
                let runtime = Runtime::new(Config::default().workers(1)).unwrap();
                runtime.start().unwrap().spawn(loop_for_ever);
                drop(runtime);
            },
        );
    }
    let output = bounded(|| child("runtime_in_a_destructor_is_not_waited_for", &[]));
    expect_status(&output, "a runtime");
    assert_eq!(output.status.signal(), None);
}

/// An OS thread's own thread-locals go on working as before: only `exit` from a green thread
/// refuses to wait.
#[test]
fn destructors_of_an_os_thread_wait_as_ever() {
    let (sender, receiver) = channel::bounded(0);
    let os_thread = std::thread::spawn(move || {
        set(&LAST, move || sender.send(1).unwrap());
        let runtime = Runtime::new(Config::default().workers(1)).unwrap();
        runtime.run(thread::yield_now);
    });
    assert_eq!(bounded(|| receiver.recv()), Ok(1));
    os_thread.join().unwrap();
}
