//! [`Loan`]: non-blocking mode on loan.
//!
//! The mode belongs to the open file, which others may share: clones that are std's, other
//! processes. So an open file that was blocking when it came here gets its mode back when the last
//! of our descriptors of it goes. An open file is told by its inode and its access mode. Where
//! several open files have one inode (all eventfds and timers of a process do), the ones that go
//! first stay non-blocking.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use rustix::fs::{OFlags, fcntl_getfl, fstat};

use super::descriptor::set_nonblocking;
use crate::lock::Lock;

/// How many loans there are of each open file.
static LOANS: Lock<BTreeMap<Key, usize>> = Lock::new(BTreeMap::new());

/// Device, inode, access mode.
type Key = (u64, u64, u32);

/// An open file is in non-blocking mode, and was not before the first loan of it.
#[derive(Debug)]
pub(super) struct Loan(Key);

impl Loan {
    /// Puts an open file into non-blocking mode. `None` if it was in it already, by its user's
    /// will, or if the system does not know it.
    pub(super) fn begin(fd: impl AsFd) -> Option<Loan> {
        let (flags, stat) = (fcntl_getfl(fd.as_fd()).ok()?, fstat(fd.as_fd()).ok()?);
        let mode = (flags & OFlags::ACCMODE).bits();
        #[allow(
            clippy::unnecessary_cast,
            reason = "their types differ between systems"
        )]
        let key = (stat.st_dev as u64, stat.st_ino as u64, mode);
        let mut loans = LOANS.lock();
        let count = loans.get(&key).copied().unwrap_or(0);
        if count == 0 && flags.contains(OFlags::NONBLOCK) {
            return None;
        }
        set_nonblocking(fd, true);
        loans.insert(key, count + 1);
        Some(Loan(key))
    }

    /// Makes one more, for another descriptor of the same open file.
    pub(super) fn share(&self) -> Loan {
        *LOANS.lock().entry(self.0).or_default() += 1;
        Loan(self.0)
    }

    /// Gives `fd` its mode back, if this is the last loan of it; returns whether it was.
    pub(super) fn end(self, fd: impl AsFd) -> bool {
        let mut loans = LOANS.lock();
        let count = loans.remove(&self.0).unwrap_or(1);
        if count > 1 {
            loans.insert(self.0, count - 1);
            return false;
        }
        set_nonblocking(fd, false);
        true
    }
}
