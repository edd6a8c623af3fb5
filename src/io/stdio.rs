//! Standard input, output and error: public as part of [`hebra::io`](crate::io), below which this
//! stands.
//!
//! They are std's own, used in the [blocking pool](crate::blocking): what std has buffered it still
//! has, `println!` and a [`Stdout`] of ours keep the order in which they were called, and the end
//! of the process flushes what std would flush. They are not made non-blocking, as their open files
//! are shared with other processes: the shell would find its terminal changed.
//!
//! What a cancelled read has brought stays in the [`Lane`] of standard input, and so does the
//! beginning of a line whose end has not come.

use std::fmt;
use std::io::{self, BufRead, Read, Write};
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::process::Stdio;
use std::sync::{Arc, LazyLock};

use crate::blocking::{Lane, Turn, unblock};
use crate::lock::Lock;
use crate::thread::{self, ThreadId};

/// What one read asks for.
const CHUNK: usize = 8 << 10;

static STDIN: LazyLock<Arc<Lane<Input>>> = LazyLock::new(|| Arc::new(Lane::new(Input::default())));

/// What has been read, and not been taken by anybody.
#[derive(Default)]
struct Input {
    bytes: Vec<u8>,
    /// Where in `bytes` that begins.
    start: usize,
}

impl Input {
    fn unread(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    fn consume(&mut self, amount: usize) {
        self.start = (self.start + amount).min(self.bytes.len());
        if self.unread().is_empty() {
            self.bytes.clear();
            self.bytes.shrink_to(CHUNK);
            self.start = 0;
        }
    }

    /// Reads some more; 0 bytes at the end.
    fn read(&mut self) -> io::Result<usize> {
        self.bytes.drain(..self.start);
        self.start = 0;
        let len = self.bytes.len();
        self.bytes.resize(len + CHUNK, 0);
        let result = io::stdin().lock().read(&mut self.bytes[len..]);
        self.bytes.truncate(len + *result.as_ref().unwrap_or(&0));
        result
    }
}

/// Returns a handle to standard input, as [`std::io::stdin`].
///
/// ```no_run
/// use hebra::io::{BufRead, stdin};
///
/// hebra::run(|| -> std::io::Result<()> {
///     for line in stdin().lines() {
///         println!("> {}", line?);
///     }
///     Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn stdin() -> Stdin {
    Stdin(())
}

/// A handle to standard input, as [`std::io::Stdin`]. All handles share one buffer.
///
/// # Cancellation
/// Reading parks the current thread; this is a cancel point. Nothing is lost: what has come, the
/// beginning of a line as well, is there for the next read.
pub struct Stdin(());

impl fmt::Debug for Stdin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stdin").finish_non_exhaustive()
    }
}

impl Stdin {
    /// Waits until no other thread has locked standard input, and locks it.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    pub fn lock(&self) -> StdinLock<'static> {
        StdinLock {
            turn: Some(STDIN.enter()),
            handle: PhantomData,
        }
    }

    /// Reads a line with its end, and appends it to `line`. Returns its length, 0 at the end.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    ///
    /// # Errors
    /// As [`std::io::Stdin::read_line`].
    pub fn read_line(&self, line: &mut String) -> io::Result<usize> {
        StdinLock::new().read_line(line)
    }

    /// Locks standard input, and returns an iterator over its lines without their ends.
    pub fn lines(self) -> io::Lines<StdinLock<'static>> {
        self.lock().lines()
    }
}

impl Read for &Stdin {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        StdinLock::new().read(buf)
    }

    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        StdinLock::new().read_to_end(buf)
    }

    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        StdinLock::new().read_to_string(buf)
    }
}

impl Read for Stdin {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        (&*self).read_to_end(buf)
    }

    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        (&*self).read_to_string(buf)
    }
}

/// Standard input, locked; made by [`Stdin::lock`].
pub struct StdinLock<'a> {
    /// `None` from when a read was given up until somebody reads again.
    turn: Option<Turn<Input>>,
    handle: PhantomData<&'a ()>,
}

impl StdinLock<'_> {
    fn new() -> StdinLock<'static> {
        StdinLock {
            turn: None,
            handle: PhantomData,
        }
    }

    fn input(&mut self) -> io::Result<&mut Turn<Input>> {
        if self.turn.is_none() {
            self.turn = Some(STDIN.enter_unless_cancelled()?);
        }
        Ok(self.turn.as_mut().expect("it has just been set"))
    }

    /// Reads some more; 0 bytes at the end.
    fn read_more(&mut self) -> io::Result<usize> {
        self.input()?;
        let turn = self.turn.take().expect("it has just been set");
        let (turn, result) = turn.try_unblock(Input::read)?;
        self.turn = Some(turn);
        result
    }

    /// Reads until `is_enough` says how much is, or to the end, and returns how much there is.
    fn gather(&mut self, is_enough: impl Fn(&[u8]) -> Option<usize>) -> io::Result<usize> {
        let mut seen = 0;
        loop {
            let unread = self.input()?.unread();
            if let Some(enough) = is_enough(&unread[seen..]) {
                return Ok(seen + enough);
            }
            seen = unread.len();
            match self.read_more() {
                Ok(0) => return Ok(seen),
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
    }

    fn take(&mut self, amount: usize) -> io::Result<Vec<u8>> {
        let input = self.input()?;
        let bytes = input.unread()[..amount].to_owned();
        input.consume(amount);
        Ok(bytes)
    }
}

impl Read for StdinLock<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.fill_buf()?.read(buf)?;
        self.consume(len);
        Ok(len)
    }

    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        let all = self.gather(|_| None)?;
        buf.extend(self.take(all)?);
        Ok(all)
    }

    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        let all = self.gather(|_| None)?;
        append(buf, self.take(all)?)
    }
}

impl BufRead for StdinLock<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.input()?.unread().is_empty() {
            self.read_more()?;
        }
        Ok(self.input()?.unread())
    }

    fn consume(&mut self, amount: usize) {
        if let Some(input) = &mut self.turn {
            input.consume(amount);
        }
    }

    fn read_until(&mut self, byte: u8, buf: &mut Vec<u8>) -> io::Result<usize> {
        let len = self.gather(|bytes| Some(bytes.iter().position(|each| *each == byte)? + 1))?;
        buf.extend(self.take(len)?);
        Ok(len)
    }

    fn read_line(&mut self, buf: &mut String) -> io::Result<usize> {
        let mut line = Vec::new();
        self.read_until(b'\n', &mut line)?;
        append(buf, line)
    }
}

fn append(text: &mut String, bytes: Vec<u8>) -> io::Result<usize> {
    let not_text = |_| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "stream did not contain valid UTF-8",
        )
    };
    text.push_str(str::from_utf8(&bytes).map_err(not_text)?);
    Ok(bytes.len())
}

impl fmt::Debug for StdinLock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StdinLock").finish_non_exhaustive()
    }
}

/// One of the two that are written to.
///
/// A thread that has locked it may lock it again, and write without the lock in its hand, as std
/// has it. The id of the thread decides that, and nothing else: a lock can be carried to another
/// green thread of the worker, so what is written through a lock needs no id, and from then on that
/// thread is the one that has locked it.
struct Output {
    lane: Arc<Lane<()>>,
    /// The thread that has locked it, how often, and its turn.
    locked: Lock<Option<(ThreadId, usize, Turn<()>)>>,
}

impl Output {
    fn new() -> Output {
        Output {
            lane: Arc::new(Lane::new(())),
            locked: Lock::new(None),
        }
    }

    fn is_locked_by_caller(&self) -> bool {
        let caller = thread::current().id();
        self.locked
            .lock()
            .as_ref()
            .is_some_and(|(owner, ..)| *owner == caller)
    }

    fn lock(&self) {
        let caller = thread::current().id();
        if let Some((owner, times, _)) = &mut *self.locked.lock()
            && *owner == caller
        {
            *times += 1;
            return;
        }
        let turn = self.lane.enter();
        *self.locked.lock() = Some((caller, 1, turn));
    }

    fn unlock(&self) {
        let mut locked = self.locked.lock();
        if let Some((_, times, _)) = &mut *locked {
            *times -= 1;
            if *times == 0 {
                *locked = None;
            }
        }
    }

    /// Has the pool do something for the calling thread, which has a lock.
    fn call_locked<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        let caller = thread::current().id();
        if let Some((owner, ..)) = &mut *self.locked.lock() {
            *owner = caller;
        }
        unblock(f)
    }

    /// Has the pool do something, in turn.
    fn call<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> T {
        if self.is_locked_by_caller() {
            unblock(f)
        } else {
            self.lane.enter().unblock(|()| f()).1
        }
    }
}

macro_rules! output {
    ($handle:ident, $lock:ident, $function:ident, $output:ident, $std:ident, $what:literal) => {
        static $output: LazyLock<Output> = LazyLock::new(Output::new);

        #[doc = concat!("Returns a handle to standard ", $what, ", as [`std::io::", stringify!($std), "`].")]
        ///
        /// ```
        #[doc = concat!("use hebra::io::{Write, ", stringify!($function), "};")]
        ///
        #[doc = concat!("hebra::run(|| writeln!(", stringify!($function), "(), \"hello\"))?;")]
        /// # Ok::<(), std::io::Error>(())
        /// ```
        pub fn $function() -> $handle {
            $handle(())
        }

        #[doc = concat!("A handle to standard ", $what, ", as [`std::io::", stringify!($handle), "`].")]
        ///
        /// A reader that does not read, of a pipe or a terminal, keeps nobody waiting but those who write. Each call is a trip to the
        /// blocking pool, of some microseconds; `write!` makes one in all.
        ///
        /// # Cancellation
        /// Writing parks the current thread; this is a cancel point. A write that has begun goes on. In a destructor of a thread that is
        /// being cancelled it is made and waited for all the same.
        pub struct $handle(());

        impl fmt::Debug for $handle {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($handle)).finish_non_exhaustive()
            }
        }

        impl $handle {
            #[doc = concat!("Waits until no other thread has locked standard ", $what, ", and locks it. A thread may lock it more")]
            /// than once. A lock that was moved to another green thread is that one's from the first write through it on.
            ///
            /// # Cancellation
            /// Parks the current thread; this is a cancel point.
            pub fn lock(&self) -> $lock<'static> {
                $output.lock();
                $lock(PhantomData)
            }
        }

        #[doc = concat!("Standard ", $what, ", locked; made by [`", stringify!($handle), "::lock`].")]
        pub struct $lock<'a>(PhantomData<(&'a (), *const ())>);

        impl fmt::Debug for $lock<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($lock)).finish_non_exhaustive()
            }
        }

        impl Drop for $lock<'_> {
            fn drop(&mut self) {
                $output.unlock();
            }
        }

        output!(@write &$handle, $output, $std, call);
        output!(@write $lock<'_>, $output, $std, call_locked);

        impl Write for $handle {
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                (&*self).write(buf)
            }

            fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
                (&*self).write_all(buf)
            }

            fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
                (&*self).write_fmt(text)
            }

            fn flush(&mut self) -> io::Result<()> {
                (&*self).flush()
            }
        }
    };
    (@write $type:ty, $output:ident, $std:ident, $call:ident) => {
        impl Write for $type {
            fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
                let bytes = buf[..buf.len().min(CHUNK)].to_owned();
                $output.$call(move || io::$std().write(&bytes))
            }

            fn write_all(&mut self, buf: &[u8]) -> io::Result<()> {
                let bytes = buf.to_owned();
                $output.$call(move || io::$std().write_all(&bytes))
            }

            fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
                self.write_all(text.to_string().as_bytes())
            }

            fn flush(&mut self) -> io::Result<()> {
                $output.$call(|| io::$std().flush())
            }
        }
    };
}

/// Gives a child what this process writes to.
impl From<Stdout> for Stdio {
    fn from(_: Stdout) -> Stdio {
        io::stdout().into()
    }
}

/// Gives a child what this process complains to.
impl From<Stderr> for Stdio {
    fn from(_: Stderr) -> Stdio {
        io::stderr().into()
    }
}

output!(Stdout, StdoutLock, stdout, STDOUT, stdout, "output");
output!(Stderr, StderrLock, stderr, STDERR, stderr, "error");

macro_rules! descriptors {
    ($($type:ty = $number:expr;)*) => {$(
        impl $type {
            /// Returns whether this is a terminal. [`IsTerminal`](std::io::IsTerminal) cannot be
            /// implemented outside of std.
            pub fn is_terminal(&self) -> bool {
                io::IsTerminal::is_terminal(&self.as_fd())
            }
        }

        impl AsFd for $type {
            fn as_fd(&self) -> BorrowedFd<'_> {
                $number
            }
        }

        impl AsRawFd for $type {
            fn as_raw_fd(&self) -> RawFd {
                self.as_fd().as_raw_fd()
            }
        }
    )*};
}

descriptors! {
    Stdin = rustix::stdio::stdin();
    StdinLock<'_> = rustix::stdio::stdin();
    Stdout = rustix::stdio::stdout();
    StdoutLock<'_> = rustix::stdio::stdout();
    Stderr = rustix::stdio::stderr();
    StderrLock<'_> = rustix::stdio::stderr();
}
