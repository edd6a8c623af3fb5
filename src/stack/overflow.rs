//! Says which green thread or generator has overflowed its stack, and then aborts.
//!
//! ```text
//!   SIGSEGV, SIGBUS ──► on_fault, on this OS thread's alternate stack
//!                          │ fault address in the guard page of a slot? ──yes──► one line on stderr, abort()
//!                          └──no──► what was there before us: std's handler, the default, a debugger's, …
//! ```
//!
//! - The handler runs where everything may be broken: it takes no lock, allocates nothing, reads
//!   only memory that is never unmapped (the list of slabs, the label in the slot) and formats into
//!   a buffer on its own stack.
//! - It is installed with the first slab, in front of whatever was there. std's handler reports
//!   overflows of OS threads and is still reached.
//! - A fault in a guard page that is not an overflow, a wild pointer, is reported as one: the two
//!   cannot be told apart portably.
//! - An OS thread that was not started by std may have no alternate stack: it gets a stack of the
//!   pool for as long as it lives.

use super::{Class, LabelCell, Slot, Stack, What, auxiliary, pool};
use std::ffi::{c_int, c_void};
use std::fmt::{self, Write};
use std::io;
use std::mem::{self, MaybeUninit};
use std::ptr;
use std::sync::{Once, OnceLock};

/// The signals for an access to a page that does not allow it; which one depends on the system.
const SIGNALS: [c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];
/// What was there before us, per signal of [`SIGNALS`]; set before our handler can run.
static PREVIOUS: [OnceLock<libc::sigaction>; 2] = [const { OnceLock::new() }; 2];

/// Puts the handler in place, once per process.
pub(super) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        for (signal, previous) in SIGNALS.into_iter().zip(&PREVIOUS) {
            let Ok(old) = change_action(signal, None) else {
                continue;
            };
            let old = previous.get_or_init(|| old);
            // Keep what the previous handler relies on: its mask, and whether it can be interrupted
            // by itself.
            let mut new = *old;
            new.sa_sigaction = on_fault as *const () as usize;
            new.sa_flags = libc::SA_SIGINFO
                | libc::SA_ONSTACK
                | old.sa_flags & (libc::SA_RESTART | libc::SA_NODEFER);
            // Without the handler overflows still kill the process, only without a word.
            let _ = change_action(signal, Some(&new));
        }
    });
}

/// Sets what a signal does, if `new` says so; returns what it did.
fn change_action(signal: c_int, new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    let mut old = MaybeUninit::uninit();
    // SAFETY: both pointers are valid or null; all that is ever set is `on_fault`, which is
    // async-signal-safe, or the default.
    match unsafe {
        libc::sigaction(
            signal,
            new.map_or(ptr::null(), ptr::from_ref),
            old.as_mut_ptr(),
        )
    } {
        // SAFETY: a successful call has written it.
        0 => Ok(unsafe { old.assume_init() }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The handler. The kernel passes a valid `info`, because of `SA_SIGINFO`.
extern "C" fn on_fault(signal: c_int, info: &libc::siginfo_t, context: *mut c_void) {
    // Only signals of the kernel itself have a fault address.
    if info.si_code > 0 {
        // SAFETY: a SIGSEGV or SIGBUS of the kernel carries an address.
        let address = unsafe { info.si_addr() }.addr();
        let slot = pool::slot_at(address).filter(|slot| address < slot.limit());
        if let Some(slot) = slot {
            report(slot);
            std::process::abort();
        }
    }
    pass_on(signal, info, context);
}

/// Does what would have happened without us.
fn pass_on(signal: c_int, info: &libc::siginfo_t, context: *mut c_void) {
    let position = SIGNALS.iter().position(|each| *each == signal);
    let Some(previous) = position.and_then(|position| PREVIOUS[position].get()) else {
        return;
    };
    let fault = info.si_code > 0;
    match previous.sa_sigaction {
        // The kernel does not let a fault be ignored.
        libc::SIG_IGN if !fault => {}
        libc::SIG_IGN | libc::SIG_DFL => {
            reset(signal, previous);
            // A fault repeats when we return; a signal that somebody sent has to be sent again.
            if !fault {
                // SAFETY: it stays pending until this handler returns.
                unsafe { libc::raise(signal) };
            }
        }
        address => {
            if previous.sa_flags & libc::SA_RESETHAND != 0 {
                reset(signal, previous);
            }
            let handler = Handler { address };
            // SAFETY: neither default nor ignored, so it is the address of a function. It gets all
            // three arguments whatever its SA_SIGINFO says, which is also how the
            // kernel calls it.
            let function = unsafe { handler.function };
            function(signal, info, context);
        }
    }
}

/// The first member of C's `struct sigaction`, which is a union there too.
union Handler {
    address: usize,
    function: extern "C" fn(c_int, &libc::siginfo_t, *mut c_void),
}

/// Gives a signal its default action.
fn reset(signal: c_int, previous: &libc::sigaction) {
    let mut action = *previous;
    action.sa_sigaction = libc::SIG_DFL;
    action.sa_flags = 0;
    let _ = change_action(signal, Some(&action));
}

/// Prints the report.
#[cold]
fn report(slot: Slot) {
    let mut line = Line {
        bytes: [0; 512],
        length: 0,
    };
    let _ = describe(slot, &mut line);
    line.bytes[line.length] = b'\n';
    // SAFETY: the buffer has that many bytes. Nothing can be done about a failure.
    unsafe {
        libc::write(
            libc::STDERR_FILENO,
            line.bytes.as_ptr().cast(),
            line.length + 1,
        )
    };
}

fn describe(slot: Slot, line: &mut Line) -> fmt::Result {
    let size = slot.class().size() >> 10;
    let mut name = [0; LabelCell::NAME];
    let Some((label, cut)) = slot.label().get(&mut name) else {
        return write!(
            line,
            "hebra: a stack of {size} KiB has overflowed that belongs to no green thread or generator"
        );
    };
    let at = label.location;
    let more = if cut { "…" } else { "" };
    match (label.what, label.name) {
        (What::GreenThread, None) => {
            write!(line, "hebra: green thread <unnamed> (spawned at {at})")?
        }
        (What::GreenThread, Some(name)) => {
            write!(line, "hebra: green thread '{name}{more}' (spawned at {at})")?
        }
        (What::Generator, None) => write!(line, "hebra: a generator (created at {at})")?,
        (What::Generator, Some(name)) => {
            write!(line, "hebra: generator '{name}{more}' (created at {at})")?
        }
    }
    let remedy = match label.what {
        What::GreenThread => "thread::Builder::stack_size or Config::stack_size",
        What::Generator => "a larger stack_size when you create it",
    };
    write!(
        line,
        " has overflowed its stack of {size} KiB; give it more with {remedy}"
    )
}

/// A line of text that is cut when it is full; the last byte is kept for the line feed.
struct Line {
    bytes: [u8; 512],
    length: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.length..511];
        let count = room.len().min(text.len());
        room[..count].copy_from_slice(&text.as_bytes()[..count]);
        self.length += count;
        Ok(())
    }
}

/// What signal handlers get at least, besides the kernel's frame. std's alternate stacks have 8 KiB:
/// enough to say that a stack has overflowed, but not to unwind one (18 KiB).
const HANDLER_ROOM: usize = 64 << 10;

/// Sees to it that this OS thread has an alternate stack with room for our handlers, in place of a
/// smaller one; cheap when it has.
pub(crate) fn ensure_alternate_stack() {
    thread_local! {
        static ALTERNATE: Option<AlternateStack> = AlternateStack::new();
    }
    // While the OS thread is being torn down it is too late; an overflow is then a bare SIGSEGV.
    let _ = ALTERNATE.try_with(|_| ());
}

/// The alternate stack of an OS thread that had none, or a smaller one; gone before the thread is.
/// The smaller one is not put back: std frees its own before thread-locals are destroyed.
struct AlternateStack {
    /// Always there, except when it must be leaked.
    stack: Option<Stack>,
}

impl AlternateStack {
    fn new() -> Option<AlternateStack> {
        let needed = minimum_signal_stack().saturating_add(HANDLER_ROOM);
        let current = change_alternate_stack(Change::Nothing).ok()?;
        if current.ss_flags & libc::SS_DISABLE == 0 && current.ss_size >= needed {
            return None;
        }
        // The kernel's frame, as large as the processor's registers need, and room for the handler.
        let stack = pool::refill_quietly(Class::of(needed)?).ok()?;
        change_alternate_stack(Change::Use(&stack)).ok()?;
        Some(AlternateStack { stack: Some(stack) })
    }
}

impl Drop for AlternateStack {
    fn drop(&mut self) {
        let limit = self.stack.as_ref().map(Stack::limit);
        let unused = match change_alternate_stack(Change::Nothing) {
            Ok(current) if Some(current.ss_sp.addr()) == limit => {
                change_alternate_stack(Change::Disable).is_ok()
            }
            Ok(_) => true,
            Err(_) => false,
        };
        if !unused {
            // This very destructor runs on it, because a signal handler has ended the thread.
            mem::forget(self.stack.take());
        }
    }
}

enum Change<'a> {
    Nothing,
    /// The stack must not be dropped before another change.
    Use(&'a Stack),
    Disable,
}

/// Sets this OS thread's alternate stack, if `change` says so; returns what it was.
fn change_alternate_stack(change: Change<'_>) -> io::Result<libc::stack_t> {
    let mut old = libc::stack_t {
        ss_sp: ptr::null_mut(),
        ss_flags: 0,
        ss_size: 0,
    };
    let mut new = libc::stack_t {
        ss_sp: ptr::null_mut(),
        ss_flags: libc::SS_DISABLE,
        ss_size: libc::SIGSTKSZ,
    };
    if let Change::Use(stack) = change {
        new.ss_sp = ptr::with_exposed_provenance_mut(stack.limit());
        new.ss_size = stack.base() - stack.limit();
        new.ss_flags = 0;
    }
    let new = if matches!(change, Change::Nothing) {
        ptr::null()
    } else {
        ptr::from_ref(&new)
    };
    // SAFETY: both pointers are valid or null, and a stack that is set is owned by the
    // `AlternateStack` that disables it.
    match unsafe { libc::sigaltstack(new, &mut old) } {
        0 => Ok(old),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Bytes that the kernel needs on an alternate stack for the state of the processor, if it says so.
fn minimum_signal_stack() -> usize {
    /// `AT_MINSIGSTKSZ`, not in libc for every architecture.
    const AT_MINSIGSTKSZ: libc::c_ulong = 51;
    auxiliary(AT_MINSIGSTKSZ).unwrap_or(libc::MINSIGSTKSZ)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{case, child, write};
    use super::super::{Label, acquire};
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::panic::Location;
    use std::thread;

    fn labelled(what: What, name: Option<&str>) -> Stack {
        let stack = acquire(256 << 10).unwrap();
        stack.set_label(&Label {
            what,
            name,
            location: Location::caller(),
        });
        stack
    }

    extern "C" fn by_hand(_: c_int, info: &libc::siginfo_t, _: *mut c_void) {
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(if info.si_code > 0 { 42 } else { 43 }) };
    }

    fn set_handler(handler: usize, flags: c_int) {
        let mut action = change_action(libc::SIGSEGV, None).unwrap();
        (action.sa_sigaction, action.sa_flags) = (handler, flags);
        change_action(libc::SIGSEGV, Some(&action)).unwrap();
    }

    fn raise() {
        // SAFETY: a signal to oneself.
        unsafe { libc::raise(libc::SIGSEGV) };
    }

    extern "C" fn foreign(_: *mut c_void) -> *mut c_void {
        // This OS thread is not std's, and has no alternate stack of its own.
        let before = change_alternate_stack(Change::Nothing).unwrap();
        assert_ne!(before.ss_flags & libc::SS_DISABLE, 0);
        let stack = labelled(What::GreenThread, Some("abroad"));
        let now = change_alternate_stack(Change::Nothing).unwrap();
        assert_eq!(now.ss_flags, 0);
        assert!(now.ss_size >= 40 << 10);
        if case().as_deref() == Some("foreign thread") {
            write(stack.limit() - 8);
        }
        ptr::null_mut()
    }

    fn start_foreign() {
        let mut thread = MaybeUninit::uninit();
        // SAFETY: a thread that takes no argument, joined below.
        let started = unsafe {
            libc::pthread_create(thread.as_mut_ptr(), ptr::null(), foreign, ptr::null_mut())
        };
        assert_eq!(started, 0);
        // SAFETY: it was started.
        unsafe { libc::pthread_join(thread.assume_init(), ptr::null_mut()) };
    }

    #[inline(never)]
    extern "C" fn recurse(depth: usize) -> usize {
        let room = std::hint::black_box([depth; 100]);
        if depth == usize::MAX {
            0
        } else {
            room[7] + recurse(depth + 1)
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn recurse_on(stack: &Stack) {
        // SAFETY: runs the function on a stack that is ours, and comes back never.
        unsafe {
            std::arch::asm!(
                "mov r12, rsp", "mov rsp, {base}", "call {recurse}", "mov rsp, r12",
                base = in(reg) stack.base(), recurse = sym recurse, in("rdi") 0,
                out("r12") _, clobber_abi("C"),
            );
        }
    }

    fn act(case: &str) {
        match case {
            "named" => write(labelled(What::GreenThread, Some("eel")).limit() - 8),
            "unnamed" => write(labelled(What::GreenThread, None).limit() - 4096),
            "long" => write(labelled(What::GreenThread, Some(&"long ".repeat(99))).limit() - 8),
            "generator" => write(labelled(What::Generator, None).limit() - 8),
            "nobody's" => write(acquire(64 << 10).unwrap().limit() - 8),
            #[cfg(target_arch = "x86_64")]
            "recursion" => recurse_on(&labelled(What::GreenThread, Some("deep"))),
            "os thread" => {
                let _stack = labelled(What::GreenThread, None);
                let deep = thread::Builder::new()
                    .name("plain".into())
                    .spawn(|| recurse(0));
                let _ = deep.unwrap().join();
            }
            "foreign thread" => start_foreign(),
            "above the guard" => {
                let stack = labelled(What::GreenThread, None);
                let page = ptr::with_exposed_provenance_mut(stack.limit());
                // SAFETY: a page of a stack that nothing runs on.
                unsafe { libc::mprotect(page, 4096, libc::PROT_NONE) };
                write(stack.limit());
            }
            "elsewhere" => {
                let _stack = labelled(What::GreenThread, None);
                write(16);
            }
            "default" | "ignored" | "handled" => {
                match case {
                    "default" => set_handler(libc::SIG_DFL, 0),
                    "ignored" => set_handler(libc::SIG_IGN, 0),
                    _ => set_handler(by_hand as *const () as usize, libc::SA_SIGINFO),
                }
                let _stack = labelled(What::GreenThread, None);
                if case == "ignored" {
                    raise();
                    println!("still here");
                }
                write(16);
            }
            "sent" => {
                set_handler(libc::SIG_DFL, 0);
                let _stack = labelled(What::GreenThread, None);
                raise();
            }
            _ => unreachable!(),
        }
        unreachable!("{case} has ended the process");
    }

    /// What a child that does `case` prints, and how it ends: signal or exit code.
    fn outcome(case: &str) -> (String, Option<i32>, Option<i32>) {
        let test = concat!(
            module_path!(),
            "::overflow_is_reported_and_all_else_passed_on"
        );
        let output = child(test, case, &[]);
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        (text, output.status.signal(), output.status.code())
    }

    #[test]
    fn overflow_is_reported_and_all_else_passed_on() {
        if let Some(case) = case() {
            return act(&case);
        }
        let file = file!();
        for (case, expected) in [
            (
                "named",
                format!("hebra: green thread 'eel' (spawned at {file}:"),
            ),
            (
                "unnamed",
                format!("hebra: green thread <unnamed> (spawned at {file}:"),
            ),
            (
                "long",
                "hebra: green thread 'long long long long long long long long …' (".into(),
            ),
            (
                "generator",
                format!("hebra: a generator (created at {file}:"),
            ),
            ("nobody's", "hebra: a stack of 64 KiB has overflowed".into()),
            #[cfg(target_arch = "x86_64")]
            ("recursion", "hebra: green thread 'deep' (".into()),
            ("foreign thread", "hebra: green thread 'abroad' (".into()),
        ] {
            let (text, signal, _) = outcome(case);
            assert_eq!(signal, Some(libc::SIGABRT), "{case}: {text}");
            let line = text.lines().find(|line| line.contains(&expected));
            let line = line.unwrap_or_else(|| panic!("{case}: {expected:?} is not in {text}"));
            if case != "nobody's" {
                assert!(
                    line.contains(") has overflowed its stack of 256 KiB; give it "),
                    "{line}"
                );
                assert!(
                    line.ends_with("stack_size") || case == "generator",
                    "{line}"
                );
            }
            assert_eq!(text.matches("hebra: ").count(), 1, "{case}: {text}");
        }
        for (case, expected, signal, code) in [
            // std's report, which ends in SIGABRT too.
            ("os thread", "thread 'plain'", Some(libc::SIGABRT), None),
            ("elsewhere", "", Some(libc::SIGSEGV), None),
            ("above the guard", "", Some(libc::SIGSEGV), None),
            ("default", "", Some(libc::SIGSEGV), None),
            ("ignored", "still here", Some(libc::SIGSEGV), None),
            ("sent", "", Some(libc::SIGSEGV), None),
            ("handled", "", None, Some(42)),
        ] {
            let (text, by_signal, with_code) = outcome(case);
            assert_eq!((by_signal, with_code), (signal, code), "{case}: {text}");
            assert!(
                text.contains(expected) && !text.contains("hebra: "),
                "{case}: {text}"
            );
        }
    }

    #[test]
    fn foreign_os_threads_give_their_alternate_stack_back() {
        for _ in 0..3 {
            start_foreign();
        }
        let class = Class::of(minimum_signal_stack() + HANDLER_ROOM).unwrap();
        let free = pool::tests::free(class);
        start_foreign();
        assert_eq!(pool::tests::free(class), free);
    }
}
