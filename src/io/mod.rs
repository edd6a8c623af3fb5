//! Input and output: [`std::io`]'s traits and adapters, and what has to wait in hebra's way.
//!
//! The traits, errors and adapters are std's own, so `use std::io` becomes `use hebra::io` and
//! nothing else changes. What std does by blocking the thread stands here again, and parks.
//! [`Pollable`] is for every descriptor that has no type of its own in hebra.
//!
//! Inside, this is the layer under the sockets: a type that waits for a descriptor is a face of an
//! `Io`, which knows how to wait, and takes from here what all such faces have in common.

mod descriptor;
mod face;
mod loan;
mod pipe;
mod pollable;
mod readiness;
mod socket;
mod stdio;

pub(crate) use self::readiness::always;
pub(crate) use descriptor::{Interest, Io, Limit, cancelled, refuse_in_simulation};
pub(crate) use face::{by_reference, conversions, readiness, settings, timeouts};
pub(crate) use pipe::{pipe_end, pipe_reader, pipe_writer};
pub(crate) use socket::{OnPause, accept_steadily, limit_buffers, socket, socket_pair};

pub use pipe::{PipeReader, PipeWriter, pipe};
pub use pollable::Pollable;
pub use std::io::{
    BufRead, BufReader, BufWriter, Bytes, Chain, Cursor, Empty, Error, ErrorKind, IntoInnerError,
    IoSlice, IoSliceMut, IsTerminal, LineWriter, Lines, Read, Repeat, Result, Seek, SeekFrom, Sink,
    Split, Take, Write, WriterPanicked, copy, empty, read_to_string, repeat, sink,
};
pub use stdio::{Stderr, StderrLock, Stdin, StdinLock, Stdout, StdoutLock, stderr, stdin, stdout};

pub mod prelude {
    //! The traits of [`std::io::prelude`], to be imported all at once.

    pub use std::io::{BufRead, Read, Seek, Write};
}
