//! What only some systems have, with the API of [`std::os`].

pub mod unix;

#[cfg(any(target_os = "linux", target_os = "android"))]
pub mod linux {
    //! What only Linux has.

    pub mod net {
        //! Linux's own in networking: abstract names of Unix sockets are made and read with
        //! [`SocketAddrExt`].

        pub use std::os::linux::net::SocketAddrExt;
    }
}
