//! Files and directories, with the API of [`std::fs`].
//!
//! The kernel can only do these things blocking, so they are done in the [blocking
//! pool](crate::blocking), and the green thread that asks is parked meanwhile. On a plain OS thread
//! they are done on the spot, as in std. What does not block is std's own: [`Metadata`],
//! [`Permissions`], [`FileType`], [`FileTimes`]. The extension traits of [`std::os::unix::fs`] are
//! implemented for our types.
//!
//! # Cancellation
//!
//! Everything here parks the current thread, and is a cancel point, but for closing a file. What
//! has not begun when the thread is cancelled will not; but nobody can take a call back that is in
//! the kernel. It goes on, and what it does happens: a file is removed, created or written to,
//! though the thread that wanted it has given up. A file that it opens is closed; what it has read
//! is not lost, the next [read](File) from that handle finds it.
//!
//! In a destructor of a thread that is being cancelled calls are made and waited for all the same,
//! as a disk has an end: a temporary file is removed, a buffer written out. Only reads and writes
//! of what is no file of a disk, a FIFO or a terminal, fail there at once.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

pub use std::fs::{FileTimes, FileType, Metadata, Permissions, TryLockError};

use crate::blocking::unblock;

mod file;
mod read_dir;

pub use file::{File, OpenOptions};
pub use read_dir::{DirEntry, ReadDir};

/// Runs `f` in the pool with a path of its own.
fn on_path<P, T>(
    path: P,
    f: impl FnOnce(PathBuf) -> io::Result<T> + Send + 'static,
) -> io::Result<T>
where
    P: AsRef<Path>,
    T: Send + 'static,
{
    let path = path.as_ref().to_owned();
    unblock(|| f(path))
}

/// As [`on_path`], with two.
fn on_paths<P, Q, T>(
    from: P,
    to: Q,
    f: impl FnOnce(PathBuf, PathBuf) -> io::Result<T> + Send + 'static,
) -> io::Result<T>
where
    P: AsRef<Path>,
    Q: AsRef<Path>,
    T: Send + 'static,
{
    let to = to.as_ref().to_owned();
    on_path(from, |from| f(from, to))
}

/// Reads a whole file, as [`std::fs::read`].
///
/// ```
/// hebra::run(|| -> std::io::Result<()> {
///     assert!(!hebra::fs::read("/proc/self/comm")?.is_empty());
///     Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// As std's.
pub fn read<P: AsRef<Path>>(path: P) -> io::Result<Vec<u8>> {
    on_path(path, std::fs::read)
}

/// Reads a whole file as text, as [`std::fs::read_to_string`].
///
/// # Errors
/// As std's.
pub fn read_to_string<P: AsRef<Path>>(path: P) -> io::Result<String> {
    on_path(path, std::fs::read_to_string)
}

/// Writes a whole file, as [`std::fs::write`]. `contents` are copied.
///
/// # Errors
/// As std's.
pub fn write<P: AsRef<Path>, C: AsRef<[u8]>>(path: P, contents: C) -> io::Result<()> {
    let contents = contents.as_ref().to_owned();
    on_path(path, |path| std::fs::write(path, contents))
}

/// Copies a file with its permissions, and returns its length, as [`std::fs::copy`].
///
/// # Errors
/// As std's.
pub fn copy<P: AsRef<Path>, Q: AsRef<Path>>(from: P, to: Q) -> io::Result<u64> {
    on_paths(from, to, std::fs::copy)
}

/// Renames a file or directory, replacing what is there, as [`std::fs::rename`].
///
/// # Errors
/// As std's.
pub fn rename<P: AsRef<Path>, Q: AsRef<Path>>(from: P, to: Q) -> io::Result<()> {
    on_paths(from, to, std::fs::rename)
}

/// Makes a second name of a file, as [`std::fs::hard_link`].
///
/// # Errors
/// As std's.
pub fn hard_link<P: AsRef<Path>, Q: AsRef<Path>>(original: P, link: Q) -> io::Result<()> {
    on_paths(original, link, std::fs::hard_link)
}

/// Makes a symbolic link, as [`std::fs::soft_link`].
///
/// # Errors
/// As std's.
#[deprecated(note = "replaced with `hebra::os::unix::fs::symlink`")]
pub fn soft_link<P: AsRef<Path>, Q: AsRef<Path>>(original: P, link: Q) -> io::Result<()> {
    on_paths(original, link, std::os::unix::fs::symlink)
}

/// Returns where a symbolic link points to, as [`std::fs::read_link`].
///
/// # Errors
/// As std's.
pub fn read_link<P: AsRef<Path>>(path: P) -> io::Result<PathBuf> {
    on_path(path, std::fs::read_link)
}

/// Returns the absolute path without links, as [`std::fs::canonicalize`].
///
/// # Errors
/// As std's.
pub fn canonicalize<P: AsRef<Path>>(path: P) -> io::Result<PathBuf> {
    on_path(path, std::fs::canonicalize)
}

/// Asks about a file, following links, as [`std::fs::metadata`].
///
/// # Errors
/// As std's.
pub fn metadata<P: AsRef<Path>>(path: P) -> io::Result<Metadata> {
    on_path(path, std::fs::metadata)
}

/// Asks about a file or link, as [`std::fs::symlink_metadata`].
///
/// # Errors
/// As std's.
pub fn symlink_metadata<P: AsRef<Path>>(path: P) -> io::Result<Metadata> {
    on_path(path, std::fs::symlink_metadata)
}

/// Returns whether there is something at `path`, as [`std::fs::exists`].
///
/// # Errors
/// As std's: whether it exists cannot be found out.
pub fn exists<P: AsRef<Path>>(path: P) -> io::Result<bool> {
    on_path(path, std::fs::exists)
}

/// Sets who may do what with a file, as [`std::fs::set_permissions`].
///
/// # Errors
/// As std's.
pub fn set_permissions<P: AsRef<Path>>(path: P, permissions: Permissions) -> io::Result<()> {
    on_path(path, |path| std::fs::set_permissions(path, permissions))
}

/// Removes a file, as [`std::fs::remove_file`].
///
/// # Errors
/// As std's.
pub fn remove_file<P: AsRef<Path>>(path: P) -> io::Result<()> {
    on_path(path, std::fs::remove_file)
}

/// Makes a directory, as [`std::fs::create_dir`].
///
/// # Errors
/// As std's.
pub fn create_dir<P: AsRef<Path>>(path: P) -> io::Result<()> {
    on_path(path, std::fs::create_dir)
}

/// Makes a directory and those that it is to be in, as [`std::fs::create_dir_all`].
///
/// # Errors
/// As std's.
pub fn create_dir_all<P: AsRef<Path>>(path: P) -> io::Result<()> {
    on_path(path, std::fs::create_dir_all)
}

/// Removes an empty directory, as [`std::fs::remove_dir`].
///
/// # Errors
/// As std's.
pub fn remove_dir<P: AsRef<Path>>(path: P) -> io::Result<()> {
    on_path(path, std::fs::remove_dir)
}

/// Removes a directory with all that is in it, as [`std::fs::remove_dir_all`].
///
/// # Errors
/// As std's.
pub fn remove_dir_all<P: AsRef<Path>>(path: P) -> io::Result<()> {
    on_path(path, std::fs::remove_dir_all)
}

/// Returns an iterator over what is in a directory, as [`std::fs::read_dir`].
///
/// ```
/// hebra::run(|| -> std::io::Result<()> {
///     for entry in hebra::fs::read_dir("/proc/self/task")? {
///         assert!(entry?.file_type()?.is_dir());
///     }
///     Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
///
/// # Errors
/// As std's.
pub fn read_dir<P: AsRef<Path>>(path: P) -> io::Result<ReadDir> {
    let path = path.as_ref().to_owned();
    let source = on_path(&path, std::fs::read_dir)?;
    Ok(ReadDir::new(path, source))
}

/// Makes directories, as [`std::fs::DirBuilder`].
#[derive(Default)]
pub struct DirBuilder {
    recursive: bool,
    mode: Option<u32>,
}

impl DirBuilder {
    /// Makes a builder of single directories with the mode 0o777, as far as the umask lets it.
    pub fn new() -> DirBuilder {
        DirBuilder::default()
    }

    /// Whether the directories that it is to be in are made, too; then it is no error if it exists.
    pub fn recursive(&mut self, recursive: bool) -> &mut DirBuilder {
        self.recursive = recursive;
        self
    }

    /// Makes the directory.
    ///
    /// # Errors
    /// As [`std::fs::DirBuilder::create`].
    pub fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        let builder = self.to_std();
        on_path(path, move |path| builder.create(path))
    }

    fn to_std(&self) -> std::fs::DirBuilder {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(self.recursive);
        if let Some(mode) = self.mode {
            std::os::unix::fs::DirBuilderExt::mode(&mut builder, mode);
        }
        builder
    }
}

impl fmt::Debug for DirBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_std().fmt(f)
    }
}

impl std::os::unix::fs::DirBuilderExt for DirBuilder {
    fn mode(&mut self, mode: u32) -> &mut DirBuilder {
        self.mode = Some(mode);
        self
    }
}
