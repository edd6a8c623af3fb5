//! What every type that is a face of an [`Io`](super::Io) has, written once: std's conversions,
//! settings and traits.
//!
//! The types are tuple structs around one `Io`.

/// The conversions that std's types have: `conversions!(TcpStream, std::net::TcpStream)`.
macro_rules! conversions {
    ($ours:ident, $std:ty) => {
        impl std::os::fd::AsFd for $ours {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                std::os::fd::AsFd::as_fd(&self.0)
            }
        }

        impl std::os::fd::AsRawFd for $ours {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(self))
            }
        }

        impl std::os::fd::IntoRawFd for $ours {
            fn into_raw_fd(self) -> std::os::fd::RawFd {
                std::os::fd::IntoRawFd::into_raw_fd(std::os::fd::OwnedFd::from(self))
            }
        }

        impl std::os::fd::FromRawFd for $ours {
            #[allow(unsafe_code)]
            unsafe fn from_raw_fd(fd: std::os::fd::RawFd) -> $ours {
                // SAFETY: the caller's promise, that `fd` is open and his to give, is what is asked for here.
                let fd = unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) };
                $ours::from(fd)
            }
        }

        #[doc = concat!("Takes the descriptor out, in the mode that [`set_nonblocking`](", stringify!($ours),
                                                            "::set_nonblocking) has chosen: blocking unless told otherwise.")]
        impl From<$ours> for std::os::fd::OwnedFd {
            fn from(ours: $ours) -> std::os::fd::OwnedFd {
                ours.0.into_fd()
            }
        }

        /// Adopts a descriptor. If it is non-blocking, operations on it fail with `WouldBlock`, as they would in std.
        ///
        /// Others who share its open file keep the mode that they know; only that of a listener, or of a stream that
        /// is not connected, is non-blocking as long as it is adopted.
        impl From<std::os::fd::OwnedFd> for $ours {
            fn from(fd: std::os::fd::OwnedFd) -> $ours {
                $ours($crate::io::Io::adopt(fd))
            }
        }

        /// Adopts one of std's, with its time-outs.
        impl From<$std> for $ours {
            fn from(std: $std) -> $ours {
                $ours::from(std::os::fd::OwnedFd::from(std))
            }
        }

        /// Turns it into one of std's, with its time-outs.
        impl From<$ours> for $std {
            fn from(ours: $ours) -> $std {
                <$std>::from(std::os::fd::OwnedFd::from(ours))
            }
        }
    };
}

/// What a `select!` can wait for.
macro_rules! readiness {
    ($ours:ident) => {
        impl $crate::channel::Readiness for $ours {
            fn until_readable(&self) -> $crate::channel::Receiver<()> {
                self.0.readiness($crate::io::Interest::Read)
            }

            fn until_writable(&self) -> $crate::channel::Receiver<()> {
                self.0.readiness($crate::io::Interest::Write)
            }
        }
    };
}

/// What all sockets can be told and asked.
macro_rules! settings {
    ($ours:ident) => {
        $crate::io::readiness!($ours);

        impl $ours {
            /// Makes a second handle of the same socket, with a descriptor of its own. Time-outs
            /// and the non-blocking mode are common to both.
            pub fn try_clone(&self) -> std::io::Result<$ours> {
                self.0.try_clone().map($ours)
            }

            /// Takes the error that is pending on the socket, if there is one.
            pub fn take_error(&self) -> std::io::Result<Option<std::io::Error>> {
                self.0.take_error()
            }

            /// Whether operations that would have to wait fail with `WouldBlock` instead, for all
            /// handles of this socket.
            pub fn set_nonblocking(&self, nonblocking: bool) -> std::io::Result<()> {
                self.0.set_nonblocking(nonblocking);
                Ok(())
            }
        }
    };
}

/// How long a socket that carries data may wait.
macro_rules! timeouts {
    ($ours:ident) => {
        impl $ours {
            /// Limits how long a read may wait; `None` for ever. Unlike in std a read that takes longer always fails with `TimedOut`.
            ///
            /// # Errors
            /// `InvalidInput` if the time-out is zero.
            pub fn set_read_timeout(&self, timeout: Option<std::time::Duration>) -> std::io::Result<()> {
                self.0.set_timeout($crate::io::Interest::Read, timeout)
            }

            /// Limits how long a write may wait; `None` for ever. Unlike in std a write that takes longer always fails with `TimedOut`.
            ///
            /// # Errors
            /// `InvalidInput` if the time-out is zero.
            pub fn set_write_timeout(&self, timeout: Option<std::time::Duration>) -> std::io::Result<()> {
                self.0.set_timeout($crate::io::Interest::Write, timeout)
            }

            #[doc = concat!("Returns the limit set with [`set_read_timeout`](", stringify!($ours), "::set_read_timeout).")]
            pub fn read_timeout(&self) -> std::io::Result<Option<std::time::Duration>> {
                Ok(self.0.timeout($crate::io::Interest::Read))
            }

            #[doc = concat!("Returns the limit set with [`set_write_timeout`](", stringify!($ours), "::set_write_timeout).")]
            pub fn write_timeout(&self) -> std::io::Result<Option<std::time::Duration>> {
                Ok(self.0.timeout($crate::io::Interest::Write))
            }
        }
    };
}

/// `Read` and `Write` for a type whose reference has them.
macro_rules! by_reference {
    ($ours:ident) => {
        impl std::io::Read for $ours {
            fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
                (&*self).read(buf)
            }

            fn read_vectored(
                &mut self,
                bufs: &mut [std::io::IoSliceMut<'_>],
            ) -> std::io::Result<usize> {
                (&*self).read_vectored(bufs)
            }
        }

        impl std::io::Write for $ours {
            fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
                (&*self).write(buf)
            }

            fn write_vectored(&mut self, bufs: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
                (&*self).write_vectored(bufs)
            }

            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
    };
}

pub(crate) use {by_reference, conversions, readiness, settings, timeouts};
