//! What only some systems have, with the API of [`std::os`].

pub mod fd {
    //! Owned and borrowed file descriptors: [`std::os::fd`]'s own.

    pub use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
}

#[cfg(any(target_os = "linux", target_os = "android"))]
pub mod linux;
pub mod unix;
