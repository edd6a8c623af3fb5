//! What only Linux has, with the API of [`std::os::linux`].

pub mod fs {
    //! Linux's own in files: [`std::os::linux::fs`]'s own.

    pub use std::os::linux::fs::MetadataExt;
}

pub mod net;

pub mod raw {
    //! Linux's own types of C: [`std::os::linux::raw`]'s own.

    #[expect(deprecated, reason = "as in std")]
    pub use std::os::linux::raw::{
        blkcnt_t, blksize_t, dev_t, ino_t, mode_t, nlink_t, off_t, pthread_t, stat, time_t,
    };
}
