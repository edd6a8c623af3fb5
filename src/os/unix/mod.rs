//! What Unix systems have in common, with the API of [`std::os::unix`].

pub mod ffi {
    //! Strings of the system as bytes: [`std::os::unix::ffi`]'s own.

    pub use std::os::unix::ffi::{OsStrExt, OsStringExt};
}

pub mod fs;

pub mod io {
    //! Owned and borrowed file descriptors: [`std::os::unix::io`]'s own.

    pub use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
}

pub mod net;

pub mod prelude {
    //! The traits of [`std::os::unix::prelude`].

    pub use super::ffi::{OsStrExt, OsStringExt};
    pub use super::fs::{
        DirEntryExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt,
    };
    pub use super::io::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
    pub use super::process::{CommandExt, ExitStatusExt};
    pub use super::thread::JoinHandleExt;
}

#[allow(unsafe_code)]
pub mod process;

pub mod raw {
    //! Types of C: [`std::os::unix::raw`]'s own.

    #[expect(deprecated, reason = "as in std")]
    pub use std::os::unix::raw::{
        blkcnt_t, blksize_t, dev_t, gid_t, ino_t, mode_t, nlink_t, off_t, pid_t, pthread_t, time_t,
        uid_t,
    };
}

pub mod thread {
    //! Threads of C: [`std::os::unix::thread`]'s own, for std's threads. A green thread has none of
    //! its own.

    pub use std::os::unix::thread::{JoinHandleExt, RawPthread};
}
