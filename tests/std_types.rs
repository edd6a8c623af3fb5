//! What the names do not say: forms of `Debug`, sizes, type parameters, texts of panics and names of
//! threads are std's.
#![cfg(feature = "runtime")]

use std::fmt::Debug;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hebra::thread::{self, Builder};
use support::{bounded, on_workers};

mod support;

fn same(ours: &dyn Debug, theirs: &dyn Debug) {
    assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
}

#[test]
fn debug_forms_are_those_of_std() {
    bounded(|| {
        same(&hebra::io::stdin(), &std::io::stdin());
        same(&hebra::io::stdout(), &std::io::stdout());
        same(&hebra::io::stderr(), &std::io::stderr());
        same(&hebra::io::stdin().lock(), &std::io::stdin().lock());
        same(&hebra::io::stdout().lock(), &std::io::stdout().lock());
        same(&hebra::io::stderr().lock(), &std::io::stderr().lock());
        let dir = std::env::temp_dir();
        let read = |path| {
            (
                hebra::fs::read_dir(path).unwrap(),
                std::fs::read_dir(path).unwrap(),
            )
        };
        let (mut ours, mut theirs) = read(&dir);
        same(&ours, &theirs);
        if let (Some(Ok(one)), Some(Ok(_))) = (ours.next(), theirs.next()) {
            assert_eq!(format!("{one:?}"), format!("DirEntry({:?})", one.path()));
        }
        same(
            hebra::fs::OpenOptions::new().read(true),
            std::fs::OpenOptions::new().read(true),
        );
        same(
            hebra::fs::DirBuilder::new().recursive(true),
            std::fs::DirBuilder::new().recursive(true),
        );
        same(
            hebra::process::Command::new("true").arg("x"),
            std::process::Command::new("true").arg("x"),
        );
        let piped = |command: &str| {
            let mut command = std::process::Command::new(command);
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
            command
        };
        let mut theirs = piped("cat").spawn().unwrap();
        let mut ours = hebra::process::Command::from(piped("cat")).spawn().unwrap();
        same(&ours, &theirs);
        (theirs.stdin, ours.stdin) = (None, None);
        theirs.wait().unwrap();
        ours.wait().unwrap();
        same(&ours, &theirs);
    });
}

#[test]
fn debug_forms_of_locks_are_those_of_std() {
    use hebra::sync as ours;
    use std::sync as theirs;
    same(&ours::Mutex::new(1), &theirs::Mutex::new(1));
    same(&ours::RwLock::new(1), &theirs::RwLock::new(1));
    same(&ours::Condvar::new(), &theirs::Condvar::new());
    same(&ours::Barrier::new(1), &theirs::Barrier::new(1));
    same(
        &ours::Barrier::new(1).wait(),
        &theirs::Barrier::new(1).wait(),
    );
    same(&ours::Once::new(), &theirs::Once::new());
    same(&ours::OnceLock::from(1), &theirs::OnceLock::from(1));
    same(&ours::OnceLock::<u8>::new(), &theirs::OnceLock::<u8>::new());
    same(&ours::LazyLock::new(|| 1), &theirs::LazyLock::new(|| 1));
    same(&ours::mpsc::channel::<u8>(), &theirs::mpsc::channel::<u8>());
    same(
        &ours::mpsc::sync_channel::<u8>(1),
        &theirs::mpsc::sync_channel::<u8>(1),
    );
}

#[test]
fn debug_forms_of_threads_are_those_of_std() {
    let std = format!("{:?}", std::thread::spawn(|| ()));
    let (ours, thread, id) = on_workers(1, || {
        let handle = thread::spawn(|| ());
        let thread = format!("{:?}", handle.thread());
        (format!("{handle:?}"), thread, handle.thread().id())
    });
    assert_eq!(ours, std);
    assert_eq!(thread, format!("Thread {{ id: {id:?}, name: None, .. }}"));
    assert!(format!("{id:?}").starts_with("ThreadId("));
}

#[test]
fn thread_id_leaves_room_for_an_option() {
    assert_eq!(size_of::<Option<thread::ThreadId>>(), 8);
}

#[test]
fn type_parameters_can_be_named() {
    use hebra::sync::{Condvar, LazyLock, Mutex, Once, OnceLock};
    let once = Once::new();
    once.call_once::<fn()>(|| ());
    once.call_once_force::<fn(&hebra::sync::OnceState)>(|_| ());
    assert_eq!(OnceLock::new().get_or_init::<fn() -> u8>(|| 1), &1);
    assert_eq!(*LazyLock::<u8, fn() -> u8>::new(|| 1), 1);
    let (mutex, condvar) = (Mutex::new(1), Condvar::new());
    let guard = condvar.wait_while::<u8, fn(&mut u8) -> bool>(mutex.lock().unwrap(), |_| false);
    let result = condvar.wait_timeout_while::<u8, fn(&mut u8) -> bool>(
        guard.unwrap(),
        Duration::ZERO,
        |_| false,
    );
    assert_eq!(*result.unwrap().0, 1);
    on_workers(1, || {
        let joined = thread::spawn::<fn() -> u8, u8>(|| 1).join();
        assert_eq!(joined.unwrap(), 1);
        let joined = Builder::new().spawn::<fn() -> u8, u8>(|| 1).unwrap().join();
        assert_eq!(joined.unwrap(), 1);
    });
}

/// The text of a panic.
fn text(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).unwrap_err();
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(payload) => (*payload.downcast::<&str>().unwrap()).to_owned(),
    }
}

#[test]
fn poisoned_once_and_lazy_lock_say_so_as_stds() {
    let once = hebra::sync::Once::new();
    text(|| once.call_once(|| panic!("once")));
    let said = text(|| once.call_once(|| ()));
    assert_eq!(said, "Once instance has previously been poisoned");
    let lazy = hebra::sync::LazyLock::<u8>::new(|| panic!("lazy"));
    text(|| _ = *lazy);
    let said = text(|| _ = *lazy);
    assert_eq!(said, "LazyLock instance has previously been poisoned");
}

#[test]
fn lazy_lock_gives_what_it_has_and_lets_it_be_changed() {
    use hebra::sync::LazyLock;
    let mut lazy = LazyLock::new(|| 1);
    assert_eq!(LazyLock::get(&lazy), None);
    assert_eq!(LazyLock::get_mut(&mut lazy), None);
    *LazyLock::force_mut(&mut lazy) += 1;
    *lazy += 1;
    *LazyLock::get_mut(&mut lazy).unwrap() += 1;
    assert_eq!(LazyLock::get(&lazy), Some(&4));
}

#[test]
fn thread_name_with_a_zero_panics_as_stds() {
    let builder = || std::thread::Builder::new().name("a\0b".into());
    let theirs = text(|| drop(builder().spawn(|| ())));
    on_workers(1, || {
        let builder = || Builder::new().name("a\0b".into());
        let expected = "thread name may not contain interior null bytes";
        assert!(theirs.starts_with(expected), "{theirs}");
        let says = |f: &mut dyn FnMut()| assert!(text(f).starts_with(expected));
        says(&mut || drop(builder().spawn(|| ())));
        says(&mut || drop(builder().spawn_local(|| ())));
        says(&mut || thread::scope(|s| drop(builder().spawn_scoped(s, || ()))));
    });
}

#[test]
fn handle_of_a_thread_is_lent() {
    on_workers(1, || {
        let handle = thread::spawn(thread::park);
        let thread: &thread::Thread = handle.thread();
        assert_eq!(thread.id(), handle.thread().id());
        thread.unpark();
        handle.join().unwrap();
        thread::scope(|s| {
            let handle = s.spawn(thread::park);
            handle.thread().unpark();
            handle.join().unwrap();
        });
    });
}

/// Safe to be called, as the thread is joined before the borrow ends.
#[test]
fn unchecked_thread_borrows_and_is_joined() {
    on_workers(2, || {
        let words = [String::from("borrowed")];
        for _ in 0..100 {
            let builder = Builder::new().name("unchecked".into());
            // SAFETY: it is joined in the same statement, by a thread that is not cancelled.
            let handle = unsafe { builder.spawn_unchecked(|| &words[0]) }.unwrap();
            assert_eq!(handle.thread().name(), Some("unchecked"));
            assert_eq!(handle.join().unwrap(), "borrowed");
        }
        // SAFETY: as above.
        let handle = unsafe { Builder::new().spawn_unchecked(|| panic!("{}", words[0])) };
        let payload = handle.unwrap().join().unwrap_err();
        assert_eq!(*payload.downcast::<String>().unwrap(), "borrowed");
        // SAFETY: nothing is borrowed.
        let handle = unsafe { Builder::new().spawn_unchecked(thread::park) }.unwrap();
        handle.cancel();
        assert!(handle.join().unwrap_err().is::<thread::Cancelled>());
    });
}

#[test]
#[expect(deprecated, reason = "they exist in std")]
fn deprecated_functions_do_what_stds_do() {
    on_workers(1, || {
        let start = hebra::time::Instant::now();
        thread::sleep_ms(2);
        thread::park_timeout_ms(2);
        assert!(start.elapsed() >= Duration::from_millis(2));
        static ONCE: hebra::sync::Once = hebra::sync::ONCE_INIT;
        ONCE.call_once(|| ());
        assert!(ONCE.is_completed());
        for addr in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            let theirs = std::net::TcpListener::bind(addr);
            let (Ok(ours), Ok(theirs)) = (hebra::net::TcpListener::bind(addr), theirs) else {
                continue;
            };
            assert_eq!(ours.only_v6().ok(), theirs.only_v6().ok());
            let set = [ours.set_only_v6(true), theirs.set_only_v6(true)];
            let [ours, theirs] = set.map(|set| set.map_err(|error| error.raw_os_error()));
            assert_eq!(ours, theirs);
        }
    });
}

#[test]
fn panicking_is_of_the_calling_green_thread() {
    struct Asks(Arc<std::sync::atomic::AtomicBool>);

    impl Drop for Asks {
        fn drop(&mut self) {
            let seen = thread::panicking();
            // The neighbour runs meanwhile.
            thread::yield_now();
            let seen = seen && thread::panicking();
            self.0.store(seen, std::sync::atomic::Ordering::Relaxed);
        }
    }

    on_workers(1, || {
        let seen = Arc::default();
        let asks = Asks(Arc::clone(&seen));
        let panics = thread::spawn(move || {
            let _asks = asks;
            panic!("asked");
        });
        let neighbour = thread::spawn(|| {
            (0..10).any(|_| {
                thread::yield_now();
                thread::panicking()
            })
        });
        assert!(!neighbour.join().unwrap());
        assert!(panics.join().is_err());
        assert!(seen.load(std::sync::atomic::Ordering::Relaxed));
    });
}

#[test]
fn outputs_and_pipes_are_given_to_a_child() {
    on_workers(1, || {
        let (mut reader, writer) = hebra::io::pipe().unwrap();
        let mut command = hebra::process::Command::new("sh");
        command
            .args(["-c", "echo child; echo complaint >&2"])
            .stdout(writer.try_clone().unwrap())
            .stderr(hebra::io::stderr());
        let status = command.status().unwrap();
        drop(command);
        assert!(status.success());
        { writer }.write_all(b"parent\n").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "child\nparent\n");

        let Output { status, stdout, .. } = hebra::process::Command::new("echo")
            .stderr(hebra::io::stdout())
            .output()
            .unwrap();
        assert!(status.success());
        assert_eq!(stdout, b"\n");
    });
}

#[test]
fn pre_exec_runs_in_the_child() {
    use hebra::os::unix::process::{CommandExt, parent_id};
    on_workers(1, || {
        let mut command = hebra::process::Command::new("true");
        // SAFETY: it calls nothing.
        unsafe { command.pre_exec(|| Err(std::io::ErrorKind::PermissionDenied.into())) };
        let error = command.status().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
        let mut command = hebra::process::Command::new("true");
        // SAFETY: it calls nothing that is not safe in a handler of signals.
        unsafe { command.pre_exec(|| Err(std::io::Error::from_raw_os_error(libc::EXDEV))) };
        let error = command.status().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EXDEV));
        assert!(parent_id() > 0);
    });
}
