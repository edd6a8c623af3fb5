//! The pipes to and from a child.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::process::Stdio;

use crate::io::{Interest, Io, readiness};
use crate::scheduler::task::Reason;

/// Our end of a pipe that a child reads from, as [`std::process::ChildStdin`]. Writing parks;
/// closing it tells the child that there is no more.
pub struct ChildStdin(Io);

/// Our end of a pipe that a child writes to, as [`std::process::ChildStdout`]. Reading parks.
pub struct ChildStdout(Io);

/// Our end of a pipe that a child complains to, as [`std::process::ChildStderr`]. Reading parks.
pub struct ChildStderr(Io);

impl Write for &ChildStdin {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.retry(Interest::Write, Reason::Write, |fd| {
            rustix::io::write(fd, buf)
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for ChildStdin {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

macro_rules! read {
    ($($pipe:ident)*) => {$(
        impl Read for &$pipe {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                self.0.retry(Interest::Read, Reason::Read, |fd| rustix::io::read(fd, &mut *buf))
            }
        }

        impl Read for $pipe {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                (&*self).read(buf)
            }
        }
    )*};
}

read! { ChildStdout ChildStderr }

macro_rules! conversions {
    ($($pipe:ident)*) => {$(
        readiness!($pipe);

        impl fmt::Debug for $pipe {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($pipe)).field("fd", &self.as_raw_fd()).finish()
            }
        }

        impl AsFd for $pipe {
            fn as_fd(&self) -> BorrowedFd<'_> {
                self.0.as_fd()
            }
        }

        impl AsRawFd for $pipe {
            fn as_raw_fd(&self) -> RawFd {
                self.0.as_fd().as_raw_fd()
            }
        }

        impl IntoRawFd for $pipe {
            fn into_raw_fd(self) -> RawFd {
                OwnedFd::from(self).into_raw_fd()
            }
        }

        /// Takes the descriptor out, in blocking mode.
        impl From<$pipe> for OwnedFd {
            fn from(pipe: $pipe) -> OwnedFd {
                pipe.0.into_fd()
            }
        }

        impl From<OwnedFd> for $pipe {
            fn from(fd: OwnedFd) -> $pipe {
                $pipe(Io::adopt(fd))
            }
        }

        impl From<std::process::$pipe> for $pipe {
            fn from(pipe: std::process::$pipe) -> $pipe {
                $pipe::from(OwnedFd::from(pipe))
            }
        }

        /// Gives it to another child.
        impl From<$pipe> for Stdio {
            fn from(pipe: $pipe) -> Stdio {
                OwnedFd::from(pipe).into()
            }
        }
    )*};
}

conversions! { ChildStdin ChildStdout ChildStderr }
