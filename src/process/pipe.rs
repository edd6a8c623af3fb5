//! The pipes to and from a child.

use std::fmt;
use std::os::fd::OwnedFd;

use crate::io::{Io, pipe_reader, pipe_writer};

/// Our end of a pipe that a child reads from, as [`std::process::ChildStdin`]. Writing parks;
/// closing it tells the child that there is no more.
pub struct ChildStdin(Io);

/// Our end of a pipe that a child writes to, as [`std::process::ChildStdout`]. Reading parks.
pub struct ChildStdout(Io);

/// Our end of a pipe that a child complains to, as [`std::process::ChildStderr`]. Reading parks.
pub struct ChildStderr(Io);

pipe_writer! { ChildStdin }
pipe_reader! { ChildStdout ChildStderr }

macro_rules! of_child {
    ($($pipe:ident)*) => {$(
        impl fmt::Debug for $pipe {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($pipe)).finish_non_exhaustive()
            }
        }

        impl From<std::process::$pipe> for $pipe {
            fn from(pipe: std::process::$pipe) -> $pipe {
                $pipe::from(OwnedFd::from(pipe))
            }
        }
    )*};
}

of_child! { ChildStdin ChildStdout ChildStderr }
