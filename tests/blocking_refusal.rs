//! The blocking pool where the system refuses it a thread.
//!
//! Not under a sanitizer, which takes the place of `pthread_create` itself.

#![cfg(all(feature = "runtime", target_os = "linux", not(hebra_sanitizer)))]

use std::ffi::{c_int, c_void};
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::channel;

use hebra::blocking::unblock;
use hebra::thread;

use support::{on_workers, wait_until};

mod support;

static REFUSES: AtomicBool = AtomicBool::new(false);

type Start = extern "C" fn(*mut c_void) -> *mut c_void;
type Create = unsafe extern "C" fn(
    *mut libc::pthread_t,
    *const libc::pthread_attr_t,
    Start,
    *mut c_void,
) -> c_int;

/// Takes the place of the system's, which it calls where it does not refuse.
#[unsafe(no_mangle)]
unsafe extern "C" fn pthread_create(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    if REFUSES.load(SeqCst) {
        return libc::EAGAIN;
    }
    // SAFETY: the next definition of this symbol has this type, and the arguments are its.
    unsafe {
        let real = libc::dlsym(libc::RTLD_NEXT, c"pthread_create".as_ptr());
        mem::transmute::<*mut c_void, Create>(real)(thread, attributes, start, argument)
    }
}

#[test]
fn refused_thread_does_not_leave_a_call_unmade() {
    on_workers(1, || {
        let (release, held) = channel::<()>();
        let begun = std::sync::Arc::new(AtomicBool::new(false));
        let tell = begun.clone();
        let stuck = thread::spawn(move || {
            unblock(move || {
                tell.store(true, SeqCst);
                held.recv().unwrap_err();
            });
        });
        wait_until(|| begun.load(SeqCst));
        REFUSES.store(true, SeqCst);
        assert!(hebra::fs::read("/proc/self/stat").is_ok());
        assert!(hebra::net::lookup_host("localhost").is_ok());
        // Where threads can be had again, what waits is taken up.
        let waiting = thread::spawn(|| unblock(|| std::thread::current().name().map(String::from)));
        thread::yield_now();
        REFUSES.store(false, SeqCst);
        let name = waiting.join().unwrap();
        assert_eq!(name.as_deref(), Some("hebra-blocking"));
        assert!(!stuck.is_finished());
        drop(release);
        stuck.join().unwrap();
    });
}
