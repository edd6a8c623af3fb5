//! Directories, read in the blocking pool some hundred entries at a time.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt;
use std::fs::{FileType, Metadata};
use std::io;
use std::iter::FusedIterator;
use std::path::PathBuf;
use std::sync::Arc;

use crate::blocking::{Lane, unblock};

/// Entries that one trip to the pool brings.
const BATCH: usize = 256;

/// What is in a directory; made by [`read_dir`](super::read_dir()). As [`std::fs::ReadDir`].
///
/// # Cancellation
/// `next` parks the current thread now and then; this is a cancel point. No entry is lost.
pub struct ReadDir {
    /// The directory, as it was given.
    path: PathBuf,
    lane: Arc<Lane<Entries>>,
}

/// What has been read ahead, and where more comes from.
struct Entries {
    ahead: VecDeque<io::Result<DirEntry>>,
    /// `None` when it has ended.
    source: Option<std::fs::ReadDir>,
}

impl ReadDir {
    pub(super) fn new(path: PathBuf, source: std::fs::ReadDir) -> ReadDir {
        let entries = Entries {
            ahead: VecDeque::new(),
            source: Some(source),
        };
        ReadDir {
            path,
            lane: Arc::new(Lane::new(entries)),
        }
    }
}

impl Iterator for ReadDir {
    type Item = io::Result<DirEntry>;

    fn next(&mut self) -> Option<io::Result<DirEntry>> {
        let mut entries = self.lane.enter();
        if entries.ahead.is_empty() && entries.source.is_some() {
            entries = unblock(move || {
                entries.read_ahead();
                entries
            });
        }
        entries.ahead.pop_front()
    }
}

impl FusedIterator for ReadDir {}

impl Entries {
    fn read_ahead(&mut self) {
        let Some(source) = &mut self.source else {
            return;
        };
        let before = self.ahead.len();
        self.ahead
            .extend(source.take(BATCH).map(|entry| entry.map(DirEntry::new)));
        if self.ahead.len() < before + BATCH {
            self.source = None;
        }
    }
}

impl fmt::Debug for ReadDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadDir").field(&self.path).finish()
    }
}

/// One entry of a directory, as [`std::fs::DirEntry`].
pub struct DirEntry {
    entry: Arc<std::fs::DirEntry>,
    /// Most file systems tell it with the name.
    file_type: Option<FileType>,
}

impl DirEntry {
    fn new(entry: std::fs::DirEntry) -> DirEntry {
        DirEntry {
            file_type: entry.file_type().ok(),
            entry: Arc::new(entry),
        }
    }

    /// Returns the path: that of the directory, as it was given, and the name.
    pub fn path(&self) -> PathBuf {
        self.entry.path()
    }

    /// Returns the name.
    pub fn file_name(&self) -> OsString {
        self.entry.file_name()
    }

    /// Asks about the entry; a link is not followed.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point.
    ///
    /// # Errors
    /// As [`std::fs::DirEntry::metadata`].
    pub fn metadata(&self) -> io::Result<Metadata> {
        let entry = self.entry.clone();
        unblock(move || entry.metadata())
    }

    /// Returns what the entry is; a link is not followed.
    ///
    /// # Cancellation
    /// As [`metadata`](DirEntry::metadata), on the few file systems that do not tell it with the
    /// name.
    ///
    /// # Errors
    /// As [`std::fs::DirEntry::file_type`].
    pub fn file_type(&self) -> io::Result<FileType> {
        match self.file_type {
            Some(file_type) => Ok(file_type),
            None => self.metadata().map(|metadata| metadata.file_type()),
        }
    }
}

impl std::os::unix::fs::DirEntryExt for DirEntry {
    fn ino(&self) -> u64 {
        self.entry.ino()
    }
}

impl fmt::Debug for DirEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("DirEntry").field(&self.path()).finish()
    }
}
