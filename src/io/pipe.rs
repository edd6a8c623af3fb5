//! [`pipe`]: an anonymous pipe, and what its ends share with the pipes of a child.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{FromRawFd, OwnedFd};

use super::descriptor::{Interest, Io, refuse_in_simulation};
use super::socket::{limit_buffers, limit_written};
use crate::scheduler::task::Reason;

/// Makes an anonymous pipe, as [`std::io::pipe`]. Both ends are closed in a program that a child
/// process executes.
///
/// ```
/// use hebra::io::{Read, Write, pipe};
///
/// hebra::run(|| -> std::io::Result<()> {
///     let (mut reader, mut writer) = pipe()?;
///     let producer = hebra::thread::spawn(move || writer.write_all(b"hello"));
///     let mut greeting = String::new();
///     reader.read_to_string(&mut greeting)?;
///     assert_eq!(greeting, "hello");
///     producer.join().unwrap()
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// As std's; `Unsupported` in a simulation.
pub fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    refuse_in_simulation("a pipe")?;
    let (reader, writer) = io::pipe()?;
    Ok((PipeReader::from(reader), PipeWriter::from(writer)))
}

/// The end of a pipe that is read from, as [`std::io::PipeReader`]; made by [`pipe`].
///
/// # Cancellation
/// Reading parks the current thread while the pipe is empty; this is a cancel point.
pub struct PipeReader(Io);

/// The end of a pipe that is written to, as [`std::io::PipeWriter`]; made by [`pipe`].
///
/// # Cancellation
/// Writing parks the current thread while the pipe is full; this is a cancel point.
pub struct PipeWriter(Io);

impl Io {
    /// `read(2)`, for what is no socket. Where there is no room for anything the system returns 0
    /// at once.
    pub(crate) fn read_pipe(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.retry(Interest::Read, Reason::Read, |fd| {
            rustix::io::read(fd, &mut *buf)
        })
    }

    pub(crate) fn read_pipe_vectored(&self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let (bufs, _) = limit_buffers(bufs);
        self.retry(Interest::Read, Reason::Read, |fd| {
            rustix::io::readv(fd, bufs)
        })
    }

    pub(crate) fn write_pipe(&self, buf: &[u8]) -> io::Result<usize> {
        self.retry(Interest::Write, Reason::Write, |fd| {
            rustix::io::write(fd, buf)
        })
    }

    pub(crate) fn write_pipe_vectored(&self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let bufs = limit_written(bufs);
        self.retry(Interest::Write, Reason::Write, |fd| {
            rustix::io::writev(fd, bufs)
        })
    }
}

/// `Read` for an end of a pipe and a reference to it.
macro_rules! pipe_reader {
    ($($pipe:ident)*) => {$(
        $crate::io::pipe_reader!(@ &$pipe);
        $crate::io::pipe_reader!(@ $pipe);
        $crate::io::pipe_end!($pipe);
    )*};
    (@ $pipe:ty) => {
        impl std::io::Read for $pipe {
            fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
                self.0.read_pipe(buf)
            }

            fn read_vectored(
                &mut self,
                bufs: &mut [std::io::IoSliceMut<'_>],
            ) -> std::io::Result<usize> {
                self.0.read_pipe_vectored(bufs)
            }
        }
    };
}

/// `Write` for an end of a pipe and a reference to it.
macro_rules! pipe_writer {
    ($($pipe:ident)*) => {$(
        $crate::io::pipe_writer!(@ &$pipe);
        $crate::io::pipe_writer!(@ $pipe);
        $crate::io::pipe_end!($pipe);
    )*};
    (@ $pipe:ty) => {
        impl std::io::Write for $pipe {
            fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
                self.0.write_pipe(buf)
            }

            fn write_vectored(
                &mut self,
                bufs: &[std::io::IoSlice<'_>],
            ) -> std::io::Result<usize> {
                self.0.write_pipe_vectored(bufs)
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
    };
}

/// What both kinds of ends have.
macro_rules! pipe_end {
    ($pipe:ident) => {
        $crate::io::readiness!($pipe);

        impl std::os::fd::AsFd for $pipe {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                std::os::fd::AsFd::as_fd(&self.0)
            }
        }

        impl std::os::fd::AsRawFd for $pipe {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(self))
            }
        }

        impl std::os::fd::IntoRawFd for $pipe {
            fn into_raw_fd(self) -> std::os::fd::RawFd {
                std::os::fd::IntoRawFd::into_raw_fd(std::os::fd::OwnedFd::from(self))
            }
        }

        /// Takes the descriptor out, in blocking mode.
        impl From<$pipe> for std::os::fd::OwnedFd {
            fn from(pipe: $pipe) -> std::os::fd::OwnedFd {
                pipe.0.into_fd()
            }
        }

        impl From<std::os::fd::OwnedFd> for $pipe {
            fn from(fd: std::os::fd::OwnedFd) -> $pipe {
                $pipe($crate::io::Io::adopt(fd))
            }
        }

        /// Gives it to a child.
        impl From<$pipe> for std::process::Stdio {
            fn from(pipe: $pipe) -> std::process::Stdio {
                std::os::fd::OwnedFd::from(pipe).into()
            }
        }
    };
}

pub(crate) use {pipe_end, pipe_reader, pipe_writer};

pipe_reader! { PipeReader }
pipe_writer! { PipeWriter }

macro_rules! anonymous {
    ($($pipe:ident)*) => {$(
        impl std::fmt::Debug for $pipe {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let fd = std::os::fd::AsRawFd::as_raw_fd(self);
                f.debug_struct(stringify!($pipe)).field("fd", &fd).finish()
            }
        }

        impl $pipe {
            /// Makes a second handle of the same end, with a descriptor of its own.
            ///
            /// # Errors
            #[doc = concat!("As [`std::io::", stringify!($pipe), "::try_clone`].")]
            pub fn try_clone(&self) -> io::Result<$pipe> {
                self.0.try_clone().map($pipe)
            }
        }

        impl FromRawFd for $pipe {
            #[allow(unsafe_code)]
            unsafe fn from_raw_fd(fd: std::os::fd::RawFd) -> $pipe {
                // SAFETY: the caller's promise, that `fd` is open and to be owned, is what is asked
                // for here.
                $pipe::from(unsafe { OwnedFd::from_raw_fd(fd) })
            }
        }

        impl From<io::$pipe> for $pipe {
            fn from(pipe: io::$pipe) -> $pipe {
                $pipe::from(OwnedFd::from(pipe))
            }
        }

        /// Turns it into one of std's, in blocking mode.
        impl From<$pipe> for io::$pipe {
            fn from(pipe: $pipe) -> io::$pipe {
                io::$pipe::from(OwnedFd::from(pipe))
            }
        }
    )*};
}

anonymous! { PipeReader PipeWriter }
