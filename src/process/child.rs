//! [`Child`]: a process that was started, and its end.
//!
//! The end is told by a descriptor of the process. Where there is none a thread of the blocking
//! pool waits in the kernel: for each [`wait`](Child::wait) of its own, and for those who ask for
//! the [readiness](Child::until_readable) it closes a pipe afterwards.
//!
//! # The number of a process can change hands
//!
//! It is the child's until somebody has waited for it: this `Child`, or other code of the process,
//! or the system itself where SIGCHLD is ignored. Then the system may give it to any process, and a
//! signal would end a stranger. So the descriptor is opened when the child has just been started,
//! and signals go to that; where there is none the kernel is asked before whether the number is a
//! child of ours. Once it says no (`ECHILD`) the number is never used again.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::panic::{self, AssertUnwindSafe};
use std::process::{ExitStatus, Output};
use std::sync::{Arc, OnceLock};

use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::{ChildStderr, ChildStdin, ChildStdout};
use crate::blocking::{self, Lane, Pending, try_unblock};
use crate::channel::{Readiness, Receiver, never};
use crate::io::{Interest, Io, always};
use crate::park;
use crate::scheduler::task::Reason;
use crate::scheduler::worker;
use crate::thread;

/// A process that was started, as [`std::process::Child`].
///
/// Dropping it does nothing to the process, as in std: it runs on, and when it has ended it is left
/// to the system as a zombie, until this process ends. So [`wait`](Child::wait) for it.
///
/// A `select!` waits for its end, too: [`readable`](crate::channel::readable) is a channel that has
/// a message from then on, until the process has been waited for. Then it is disconnected, and what
/// `readable` makes from there on has a message at once. There is nothing to be written: what
/// [`writable`](crate::channel::writable) makes never has a message. If the system is out of
/// descriptors or threads there is a message at once, and [`wait`](Child::wait) waits all the same.
///
/// ```
/// use std::time::Duration;
/// use hebra::channel::{after, readable, select};
/// use hebra::process::Command;
///
/// hebra::run(|| -> std::io::Result<()> {
///     let mut child = Command::new("sleep").arg("60").spawn()?;
///     select! {
///         recv(readable(&child)) -> _ => {}
///         recv(after(Duration::from_millis(10))) -> _ => child.kill()?,
///     }
///     assert!(!child.wait()?.success());
///     Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Child {
    /// Where the process reads from, if that is a pipe.
    pub stdin: Option<ChildStdin>,
    /// What the process writes, if that is a pipe.
    pub stdout: Option<ChildStdout>,
    /// What the process complains of, if that is a pipe.
    pub stderr: Option<ChildStderr>,
    process: std::process::Child,
    /// How its end is waited for.
    end: End,
    /// It has been killed: its end is near.
    killed: bool,
}

enum End {
    /// A descriptor of the process, which is readable when that has ended.
    Descriptor(Io),
    /// For a thread of the pool, one at a time, and one more that tells; `None` if there is no such
    /// thread, or no pipe.
    Pool(Arc<Lane<()>>, OnceLock<Option<Teller>>),
    /// It has been waited for: its number may be another's already.
    Over,
    /// Somebody else has waited for it, or the system has, so nothing is known of its end. Its
    /// number may be another's already.
    Lost,
}

/// A pipe that a thread of the pool closes when the process has ended.
struct Teller {
    told: Io,
    /// What does that, unless it is dropped before; nothing else is done with it.
    _call: AssertUnwindSafe<Pending<Box<dyn FnOnce() + Send>, ()>>,
}

impl Child {
    /// Returns the number of the process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Ends the process at once, by SIGKILL. It still has to be waited for, but not for long: so
    /// then [`wait`](Child::wait) is no cancel point, and does its work in the destructors of a
    /// thread that is being cancelled, too.
    ///
    /// Does nothing once the process has been waited for. No signal is sent to a number that is not
    /// the child's any more.
    ///
    /// # Errors
    /// As [`std::process::Child::kill`]; "no such process" (`ESRCH`) if the process has been waited
    /// for elsewhere, or has ended where SIGCHLD is ignored.
    pub fn kill(&mut self) -> io::Result<()> {
        match &self.end {
            End::Over => return Ok(()),
            End::Lost => return Err(Errno::SRCH.into()),
            End::Descriptor(io) => match kill_by_descriptor(io) {
                Ok(()) => {}
                // A filter of system calls may refuse the question; the number tells which it is.
                Err(Errno::NOSYS | Errno::PERM) => self.kill_by_number()?,
                Err(error) => return Err(error.into()),
            },
            End::Pool(..) => self.kill_by_number()?,
        }
        self.killed = true;
        Ok(())
    }

    /// Asks first whether the number is still a child's. In between it can only change hands if
    /// another thread of this process waits for the child, or SIGCHLD is ignored.
    fn kill_by_number(&mut self) -> io::Result<()> {
        if wait_in_kernel(self.pid()?, WaitIdOptions::NOHANG) == Err(Errno::CHILD) {
            self.end = End::Lost;
            return Err(Errno::SRCH.into());
        }
        self.process.kill()
    }

    /// Returns how the process has ended, if it has.
    ///
    /// # Errors
    /// As [`std::process::Child::try_wait`]; "no child processes" (`ECHILD`) if the process has been
    /// waited for elsewhere, or has ended where SIGCHLD is ignored.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        let result = reap(&self.end, &mut self.process);
        self.note_end(&result);
        result
    }

    /// Closes the pipe that the process reads from, and waits until it has ended.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point, unless the process has been
    /// [killed](Child::kill).
    ///
    /// # Errors
    /// As [`std::process::Child::wait`]; see [`try_wait`](Child::try_wait).
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        if !self.killed {
            park::charge_or_yield();
        }
        drop(self.stdin.take());
        if let Some(status) = self.try_wait()? {
            return Ok(status);
        }
        let result = if self.killed {
            thread::shield(|| self.wait_for_end())
        } else {
            self.wait_for_end()
        }
        .map(Some);
        self.note_end(&result);
        result.map(|status| status.expect("it has been waited for"))
    }

    /// Remembers what a wait has come to.
    fn note_end(&mut self, result: &io::Result<Option<ExitStatus>>) {
        match result {
            Ok(Some(_)) => self.end = End::Over,
            Ok(None) => {}
            Err(error) if is_lost(error) => self.end = End::Lost,
            Err(_) => {}
        }
    }

    fn pid(&self) -> rustix::io::Result<Pid> {
        Pid::from_raw(self.id().cast_signed()).ok_or(Errno::CHILD)
    }

    fn wait_for_end(&mut self) -> io::Result<ExitStatus> {
        let pid = self.pid()?;
        let process = &mut self.process;
        match &self.end {
            end @ End::Descriptor(io) => {
                io.retry(Interest::Read, Reason::Child, |_| {
                    match reap(end, process) {
                        Ok(None) => Err(Errno::AGAIN),
                        Ok(Some(status)) => Ok(Ok(status)),
                        Err(error) => Ok(Err(error)),
                    }
                })?
            }
            End::Pool(lane, _) => loop {
                // Somebody may have waited before, and given up; then that call is still under way.
                let turn = lane.enter_unless_cancelled()?;
                if let Some(status) = process.try_wait()? {
                    return Ok(status);
                }
                try_unblock(move || {
                    // Whether it fails or is interrupted: the next look at the process says what to
                    // do.
                    let _ = wait_in_kernel(pid, WaitIdOptions::empty());
                    drop(turn);
                })?;
            },
            End::Over => Ok(process.wait()?),
            End::Lost => Err(Errno::CHILD.into()),
        }
    }

    /// Closes the pipe that the process reads from, reads all that it writes into pipes, both at a
    /// time, and waits until it has ended.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point. The process runs on then, and what was
    /// read is lost.
    ///
    /// # Errors
    /// As [`std::process::Child::wait_with_output`].
    pub fn wait_with_output(mut self) -> io::Result<Output> {
        self.output()
    }

    pub(super) fn output(&mut self) -> io::Result<Output> {
        drop(self.stdin.take());
        let (stdout, stderr) = match (self.stdout.take(), self.stderr.take()) {
            (Some(stdout), Some(stderr)) => read_both(stdout, stderr)?,
            (stdout, stderr) => (read_all(stdout)?, read_all(stderr)?),
        };
        Ok(Output {
            status: self.wait()?,
            stdout,
            stderr,
        })
    }
}

impl End {
    fn of(pid: Pid) -> End {
        match open(pid) {
            Ok(fd) => End::Descriptor(Io::new(fd)),
            // No such descriptors on this system, or none left.
            Err(_) => End::pool(),
        }
    }

    fn pool() -> End {
        End::Pool(Arc::new(Lane::new(())), OnceLock::new())
    }
}

impl Teller {
    fn of(pid: Pid) -> Option<Teller> {
        let (told, teller) = io::pipe().ok()?;
        let call: Box<dyn FnOnce() + Send> = Box::new(move || {
            while wait_in_kernel(pid, WaitIdOptions::empty()) == Err(Errno::INTR) {}
            drop(teller);
        });
        Some(Teller {
            told: Io::new(told.into()),
            _call: AssertUnwindSafe(blocking::try_begin(call)?),
        })
    }
}

impl Readiness for Child {
    fn until_readable(&self) -> Receiver<()> {
        let Ok(pid) = self.pid() else { return always() };
        match &self.end {
            End::Descriptor(io) => io.readiness(Interest::Read),
            End::Pool(_, teller) => match teller.get_or_init(|| Teller::of(pid)) {
                Some(teller) => teller.told.readiness(Interest::Read),
                None => always(),
            },
            End::Over | End::Lost => always(),
        }
    }

    fn until_writable(&self) -> Receiver<()> {
        never()
    }
}

/// Takes the status of the process from the kernel, if it has ended.
fn reap(end: &End, process: &mut std::process::Child) -> io::Result<Option<ExitStatus>> {
    match end {
        // The question is about this very process, whichever has its number by now.
        End::Descriptor(io) => match has_ended(io) {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(Errno::CHILD) => return Err(Errno::CHILD.into()),
            // A kernel, or a filter of system calls, that does not know the question.
            Err(_) => {}
        },
        // std knows the status.
        End::Over => {}
        End::Pool(..) => {}
        End::Lost => return Err(Errno::CHILD.into()),
    }
    process.try_wait()
}

/// The number is not a child's any more.
fn is_lost(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::CHILD)
}

/// Waits until the process has ended, unless `options` say not to, and leaves it to be waited for.
fn wait_in_kernel(pid: Pid, options: WaitIdOptions) -> rustix::io::Result<()> {
    let options = options | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(pid), options).map(drop)
}

#[cfg(all(target_os = "linux", not(hebra_portable_reactor)))]
mod descriptor {
    //! What Linux can do with a descriptor of a process.

    use super::*;
    use rustix::process::{PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    use std::os::fd::AsFd;

    pub(super) fn open(pid: Pid) -> rustix::io::Result<OwnedFd> {
        pidfd_open(pid, PidfdFlags::empty())
    }

    pub(super) fn kill_by_descriptor(io: &Io) -> rustix::io::Result<()> {
        pidfd_send_signal(io, Signal::KILL)
    }

    pub(super) fn has_ended(io: &Io) -> rustix::io::Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        Ok(waitid(WaitId::PidFd(io.as_fd()), options)?.is_some())
    }
}

#[cfg(not(all(target_os = "linux", not(hebra_portable_reactor))))]
mod descriptor {
    //! Processes have no descriptors.

    use super::*;

    pub(super) fn open(_: Pid) -> rustix::io::Result<OwnedFd> {
        Err(Errno::NOSYS)
    }

    pub(super) fn kill_by_descriptor(_: &Io) -> rustix::io::Result<()> {
        Err(Errno::NOSYS)
    }

    pub(super) fn has_ended(_: &Io) -> rustix::io::Result<bool> {
        Err(Errno::NOSYS)
    }
}

use descriptor::{has_ended, kill_by_descriptor, open};

fn read_all<R: Read>(pipe: Option<R>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Reads two pipes at the same time: whoever fills one of them may be waiting for the other to be
/// emptied.
fn read_both(stdout: ChildStdout, stderr: ChildStderr) -> io::Result<(Vec<u8>, Vec<u8>)> {
    if worker::is_green() {
        return thread::scope(|s| {
            let stderr = s.spawn(|| read_all(Some(stderr)));
            let stdout = read_all(Some(stdout))?;
            Ok((
                stdout,
                stderr
                    .join()
                    .unwrap_or_else(|payload| panic::resume_unwind(payload))?,
            ))
        });
    }
    let stderr = blocking::begin(|| read_all(Some(stderr)));
    Ok((read_all(Some(stdout))?, stderr.wait()?))
}

impl From<std::process::Child> for Child {
    fn from(mut process: std::process::Child) -> Child {
        let end = match process.try_wait() {
            Ok(Some(_)) => End::Over,
            // It has just been a child of ours, so the number is still its own.
            Ok(None) => match Pid::from_raw(process.id().cast_signed()) {
                Some(pid) => End::of(pid),
                None => End::Lost,
            },
            Err(error) if is_lost(&error) => End::Lost,
            Err(_) => End::pool(),
        };
        Child {
            stdin: process.stdin.take().map(ChildStdin::from),
            stdout: process.stdout.take().map(ChildStdout::from),
            stderr: process.stderr.take().map(ChildStderr::from),
            end,
            process,
            killed: false,
        }
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Child {
            stdin,
            stdout,
            stderr,
            ..
        } = self;
        let mut debug = f.debug_struct("Child");
        debug
            .field("stdin", stdin)
            .field("stdout", stdout)
            .field("stderr", stderr);
        debug.finish_non_exhaustive()
    }
}

/// A child that nobody but us knows of, so that nobody else could end it.
pub(super) struct KillOnDrop(Option<Child>);

impl KillOnDrop {
    pub(super) fn new(child: Child) -> KillOnDrop {
        KillOnDrop(Some(child))
    }

    pub(super) fn get(&mut self) -> &mut Child {
        self.0.as_mut().expect("only disarm takes it")
    }

    pub(super) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // Either can only fail if there is no such process any more; then neither signals nor
            // waits for the number, which may be another's.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::channel::{after, readable, select};

    /// A process that ends when its input does, of which no descriptor tells.
    fn cat() -> Child {
        let mut child = crate::process::Command::new("cat")
            .stdin(crate::process::Stdio::piped())
            .spawn()
            .unwrap();
        child.end = End::pool();
        child
    }

    fn go_both_ways() {
        let mut child = cat();
        select! {
            recv(readable(&child)) -> _ => panic!("it has not ended"),
            recv(after(Duration::from_millis(5))) -> _ => {}
        }
        let ended = readable(&child);
        drop(child.stdin.take());
        select! {
            recv(ended) -> told => assert_eq!(told, Ok(())),
            recv(after(Duration::from_secs(50))) -> _ => panic!("nobody has told"),
        }
        assert_eq!(readable(&child).try_recv(), Ok(()));
        assert!(child.try_wait().unwrap().unwrap().success());
        assert!(ended.recv().is_err(), "what was told of is over");
        assert_eq!(readable(&child).recv(), Ok(()));
        assert!(child.wait().unwrap().success());
    }

    #[test]
    fn where_no_descriptor_tells_of_the_end_a_thread_of_the_pool_does() {
        crate::run(go_both_ways);
        go_both_ways();
    }

    #[test]
    fn it_may_be_waited_for_while_a_thread_of_the_pool_is_to_tell() {
        crate::run(|| {
            let mut child = cat();
            let ended = readable(&child);
            assert!(ended.try_recv().is_err());
            assert!(child.wait().unwrap().success());
            assert!(ended.recv().is_err());
        });
    }
}
