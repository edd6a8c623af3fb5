//! What Unix systems have besides in the way of files, with the API of [`std::os::unix::fs`]: done
//! in the [blocking pool](crate::blocking), as in [`hebra::fs`](crate::fs). The traits are std's
//! own, implemented for our types.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

pub use std::os::unix::fs::{
    DirBuilderExt, DirEntryExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt,
};

use crate::blocking::unblock;

/// Makes `dir` the root of all paths of this process, as [`std::os::unix::fs::chroot`].
///
/// # Cancellation
/// As [`symlink`].
///
/// # Errors
/// As std's.
pub fn chroot<P: AsRef<Path>>(dir: P) -> io::Result<()> {
    let dir = dir.as_ref().to_owned();
    unblock(|| std::os::unix::fs::chroot(dir))
}

/// Makes a symbolic link, as [`std::os::unix::fs::symlink`].
///
/// # Cancellation
/// Parks the current thread; this is a cancel point. See [`hebra::fs`](crate::fs).
///
/// # Errors
/// As std's.
pub fn symlink<P: AsRef<Path>, Q: AsRef<Path>>(original: P, link: Q) -> io::Result<()> {
    let (original, link) = (original.as_ref().to_owned(), link.as_ref().to_owned());
    unblock(|| std::os::unix::fs::symlink(original, link))
}

/// Sets who a file belongs to, as [`std::os::unix::fs::chown`].
///
/// # Cancellation
/// As [`symlink`].
///
/// # Errors
/// As std's.
pub fn chown<P: AsRef<Path>>(path: P, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    unblock(move || std::os::unix::fs::chown(path, uid, gid))
}

/// Sets who a file or link belongs to, as [`std::os::unix::fs::lchown`].
///
/// # Cancellation
/// As [`symlink`].
///
/// # Errors
/// As std's.
pub fn lchown<P: AsRef<Path>>(path: P, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    let path = path.as_ref().to_owned();
    unblock(move || std::os::unix::fs::lchown(path, uid, gid))
}

/// Sets who an open file belongs to, as [`std::os::unix::fs::fchown`].
///
/// # Cancellation
/// As [`symlink`].
///
/// # Errors
/// As std's; and when the process is out of file descriptors, as the pool uses one of its own.
pub fn fchown<F: AsFd>(fd: F, uid: Option<u32>, gid: Option<u32>) -> io::Result<()> {
    let fd = fd.as_fd().try_clone_to_owned()?;
    unblock(move || std::os::unix::fs::fchown(fd, uid, gid))
}
