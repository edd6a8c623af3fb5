//! Open files.
//!
//! A read or a write goes through a buffer of our own, because the pool cannot be lent the
//! caller's: the caller may be cancelled, and then its buffer is gone while the kernel still fills
//! it. A copy costs less than a tenth of a trip to the pool.
//!
//! What uses the file's position takes its turn in a lane, so that a call that its caller has given
//! up comes before whatever is asked for afterwards; and what such a read has brought stays in the
//! lane for the next one:
//!
//! ```text
//!   a file of a disk:    reads, writes, seeks --- one lane        the kernel's position = ours + what is unread
//!   FIFO, terminal ...:  reads --- one lane, writes --- another   a reader that waits must not keep a writer from writing
//! ```
//!
//! What Linux has in memory it hands out at once when it is asked so (`RWF_NOWAIT`), a tenth of the
//! cost of a trip to the pool. So a read asks for that first, and goes to the pool if it is
//! refused: because there is something to wait for, or because the file is of a kind that does not
//! know the question.
//!
//! A file opened with `O_DIRECT` wants a buffer whose address is a multiple of the disk's block, as
//! the caller's then is. So our buffers are aligned, too, whenever their length is one that
//! `O_DIRECT` accepts; whether the file was opened so is not asked, as it may change.

use std::fmt;
use std::fs::{FileTimes, Metadata, Permissions, TryLockError};
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use rustix::io::Errno;

use crate::blocking::{Lane, Turn, unblock};
use crate::fs::on_path;
use crate::io::cancelled;
use crate::park;
use crate::thread;

/// The most that one read or write moves.
const CHUNK: usize = 256 << 10;
/// A buffer that has grown beyond this is given back after use.
const KEPT: usize = 64 << 10;
/// What a file opened with `O_DIRECT` may ask of the address of a buffer: the largest block of
/// common disks, and a page. And the least that it asks of a length: the smallest block.
const ALIGNMENT: usize = 4096;
const SMALLEST_BLOCK: usize = 512;
/// `off_t` is signed: the system takes what is beyond for negative, and -1 for "here".
const LAST_OFFSET: u64 = i64::MAX.cast_unsigned();

/// How soon [`File::lock`] looks again, at first and at last.
const FIRST_PAUSE: Duration = Duration::from_micros(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

type TryLock = fn(&std::fs::File) -> Result<(), TryLockError>;

/// An open file, as [`std::fs::File`].
///
/// Reads and writes move at most 256 KiB at a time. What Linux has in memory is read on the spot;
/// otherwise they take a trip to the pool, of some microseconds, through a buffer.
/// [`read_to_end`](Read::read_to_end) takes one trip in all. As in std nothing is kept back: what
/// has been written is with the kernel, and `flush` has nothing to do.
///
/// Dropping it closes the descriptor on the spot. That is quick on a disk; a network file system
/// may write everything back first, so [`sync_all`](File::sync_all) before.
///
/// # Cancellation
/// See [the module](crate::fs): a cancelled read loses nothing, a cancelled write may or may not
/// have happened, in part or in full.
///
/// ```
/// use std::io::{Read, Seek, Write};
///
/// hebra::run(|| -> std::io::Result<()> {
///     let path = std::env::temp_dir().join(format!("hebra-{}", std::process::id()));
///     let mut file = hebra::fs::File::options().read(true).write(true).create_new(true).open(&path)?;
///     file.write_all(b"hello")?;
///     file.rewind()?;
///     let mut text = String::new();
///     file.read_to_string(&mut text)?;
///     assert_eq!(text, "hello");
///     hebra::fs::remove_file(path)
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct File {
    file: Arc<std::fs::File>,
    position: Position,
}

/// What goes with the open file: common to all clones.
#[derive(Clone)]
struct Position {
    reads: Arc<Lane<Buffers>>,
    /// The same lane if it is a file of a disk.
    writes: Arc<Lane<Buffers>>,
    on_disk: bool,
    /// It has said that it does not know [`read_at_once`].
    refuses: Arc<AtomicBool>,
}

#[derive(Default)]
struct Buffers {
    incoming: Vec<u8>,
    /// How much of `incoming` has been handed out; or is left free in front, to align the rest.
    handed_out: usize,
    outgoing: Vec<u8>,
    /// How much of `outgoing` is left free in front, to align the rest.
    free: usize,
}

/// Empties `bytes` and makes room for `len`, and returns where they are to begin: where a file
/// opened with `O_DIRECT` finds the address right, if it can find `len` right. What is in front is
/// zeros.
fn begin_aligned(bytes: &mut Vec<u8>, len: usize) -> usize {
    bytes.clear();
    if len == 0 || !len.is_multiple_of(SMALLEST_BLOCK) {
        return 0;
    }
    bytes.reserve_exact(len + ALIGNMENT);
    let address = bytes.as_ptr().addr();
    let free = address.next_multiple_of(ALIGNMENT) - address;
    bytes.resize(free, 0);
    free
}

/// A copy of `buf`, as [`begin_aligned`] has it, and where it begins.
fn copy_aligned(buf: &[u8]) -> (Vec<u8>, usize) {
    let mut bytes = Vec::new();
    let start = begin_aligned(&mut bytes, buf.len());
    bytes.extend_from_slice(buf);
    (bytes, start)
}

impl Position {
    fn of(file: &std::fs::File) -> Position {
        use rustix::fs::FileType;
        let kind = rustix::fs::fstat(file).map(|stat| FileType::from_raw_mode(stat.st_mode));
        let on_disk = matches!(
            kind,
            Ok(FileType::RegularFile | FileType::BlockDevice | FileType::Directory)
        );
        let reads = Arc::new(Lane::new(Buffers::default()));
        let writes = if on_disk {
            reads.clone()
        } else {
            Arc::new(Lane::new(Buffers::default()))
        };
        Position {
            reads,
            writes,
            on_disk,
            refuses: Arc::default(),
        }
    }

    /// Reads what there is without waiting, at `offset` or where the file's position is. `None`:
    /// the pool has to.
    fn read_at_once(
        &self,
        file: &std::fs::File,
        buf: &mut [u8],
        offset: Option<u64>,
    ) -> Option<io::Result<usize>> {
        let len = buf.len().min(CHUNK);
        if self.refuses.load(Ordering::Relaxed) {
            return None;
        }
        match read_at_once(file, &mut buf[..len], offset) {
            Ok(read) => Some(Ok(read)),
            // An address or an offset that `O_DIRECT` does not like says nothing about the next
            // read.
            Err(Errno::AGAIN | Errno::INVAL) => None,
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::PERM) => {
                self.refuses.store(true, Ordering::Relaxed);
                None
            }
            Err(error) => Some(Err(error.into())),
        }
    }

    fn enter(&self, lane: &Arc<Lane<Buffers>>) -> io::Result<Turn<Buffers>> {
        if self.on_disk {
            Ok(lane.enter())
        } else {
            lane.enter_unless_cancelled()
        }
    }

    /// Makes a call in the pool, with a turn that comes back.
    fn call<T: Send + 'static>(
        &self,
        turn: Turn<Buffers>,
        f: impl FnOnce(&mut Buffers) -> io::Result<T> + Send + 'static,
    ) -> io::Result<(Turn<Buffers>, io::Result<T>)> {
        if self.on_disk {
            Ok(turn.unblock(f))
        } else {
            turn.try_unblock(f)
        }
    }
}

#[cfg(target_os = "linux")]
fn read_at_once(
    file: &std::fs::File,
    buf: &mut [u8],
    offset: Option<u64>,
) -> rustix::io::Result<usize> {
    use rustix::io::ReadWriteFlags;
    let here = u64::MAX;
    rustix::io::preadv2(
        file,
        &mut [io::IoSliceMut::new(buf)],
        offset.unwrap_or(here),
        ReadWriteFlags::NOWAIT,
    )
}

#[cfg(not(target_os = "linux"))]
fn read_at_once(_: &std::fs::File, _: &mut [u8], _: Option<u64>) -> rustix::io::Result<usize> {
    Err(Errno::NOSYS)
}

/// Lets the others run now and then, where nobody has to wait.
fn take_turns() {
    // It may tell that the thread is cancelled and unwinds: then it reads all the same.
    park::charge_system_call_or_yield();
}

impl Buffers {
    fn unread(&self) -> &[u8] {
        &self.incoming[self.handed_out..]
    }

    /// Forgets what is unread, if the file can be set back to where it began.
    fn step_back(&mut self, mut file: &std::fs::File) {
        let unread = self.unread().len() as i64;
        if unread > 0 && file.seek(SeekFrom::Current(-unread)).is_ok() {
            self.forget_read();
        }
    }

    fn forget_read(&mut self) {
        self.incoming.clear();
        self.incoming.shrink_to(KEPT + ALIGNMENT);
        self.handed_out = 0;
    }

    /// Reads up to `len` bytes.
    fn read(&mut self, mut file: &std::fs::File, len: usize) -> io::Result<()> {
        let start = begin_aligned(&mut self.incoming, len);
        self.incoming.resize(start + len, 0);
        let result = file.read(&mut self.incoming[start..]);
        self.incoming
            .truncate(start + result.as_ref().unwrap_or(&0));
        self.handed_out = start;
        result.map(drop)
    }

    /// Hands out what fits into `buf`.
    fn hand_out(&mut self, buf: &mut [u8]) -> usize {
        let unread = self.unread();
        let len = unread.len().min(buf.len());
        buf[..len].copy_from_slice(&unread[..len]);
        self.handed_out += len;
        if self.unread().is_empty() {
            self.forget_read();
        }
        len
    }

    fn write(&mut self, mut file: &std::fs::File) -> io::Result<usize> {
        self.step_back(file);
        let result = file.write(&self.outgoing[self.free..]);
        self.outgoing.clear();
        self.outgoing.shrink_to(KEPT + ALIGNMENT);
        result
    }
}

impl File {
    /// Opens a file for reading, as [`std::fs::File::open`].
    ///
    /// # Errors
    /// As std's.
    pub fn open<P: AsRef<Path>>(path: P) -> io::Result<File> {
        on_path(path, |path| std::fs::File::open(path).map(File::from))
    }

    /// Opens a file for writing, makes it if it does not exist and empties it if it does, as
    /// [`std::fs::File::create`].
    ///
    /// # Errors
    /// As std's.
    pub fn create<P: AsRef<Path>>(path: P) -> io::Result<File> {
        on_path(path, |path| std::fs::File::create(path).map(File::from))
    }

    /// Makes a file that does not exist yet, for reading and writing, as
    /// [`std::fs::File::create_new`].
    ///
    /// # Errors
    /// As std's.
    pub fn create_new<P: AsRef<Path>>(path: P) -> io::Result<File> {
        on_path(path, |path| std::fs::File::create_new(path).map(File::from))
    }

    /// Returns options to be chosen from; the same as [`OpenOptions::new`].
    pub fn options() -> OpenOptions {
        OpenOptions::new()
    }

    /// Waits until all that has been written is on the disk, the file's attributes included.
    ///
    /// # Errors
    /// As [`std::fs::File::sync_all`].
    pub fn sync_all(&self) -> io::Result<()> {
        self.ask(std::fs::File::sync_all)
    }

    /// Waits until what has been written is on the disk, and as much of the attributes as it takes
    /// to read it.
    ///
    /// # Errors
    /// As [`std::fs::File::sync_data`].
    pub fn sync_data(&self) -> io::Result<()> {
        self.ask(std::fs::File::sync_data)
    }

    /// Cuts the file off, or extends it by zeros, to `size` bytes.
    ///
    /// # Errors
    /// As [`std::fs::File::set_len`].
    pub fn set_len(&self, size: u64) -> io::Result<()> {
        self.ask(move |file| file.set_len(size))
    }

    /// Asks about the file.
    ///
    /// # Errors
    /// As [`std::fs::File::metadata`].
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.ask(std::fs::File::metadata)
    }

    /// Makes a second handle of the same open file, with a descriptor of its own. The position is
    /// common to both.
    ///
    /// # Errors
    /// As [`std::fs::File::try_clone`].
    pub fn try_clone(&self) -> io::Result<File> {
        Ok(File {
            file: Arc::new(self.file.try_clone()?),
            position: self.position.clone(),
        })
    }

    /// Sets who may do what with the file.
    ///
    /// # Errors
    /// As [`std::fs::File::set_permissions`].
    pub fn set_permissions(&self, permissions: Permissions) -> io::Result<()> {
        self.ask(|file| file.set_permissions(permissions))
    }

    /// Sets when the file was used.
    ///
    /// # Errors
    /// As [`std::fs::File::set_times`].
    pub fn set_times(&self, times: FileTimes) -> io::Result<()> {
        self.ask(move |file| file.set_times(times))
    }

    /// Sets when the file was written to.
    ///
    /// # Errors
    /// As [`std::fs::File::set_modified`].
    pub fn set_modified(&self, time: SystemTime) -> io::Result<()> {
        self.set_times(FileTimes::new().set_modified(time))
    }

    /// Waits until nobody else has locked the file, and locks it, as [`std::fs::File::lock`]. The
    /// lock goes with the open file, clones included, and only those are kept off who lock it, too.
    ///
    /// The system only offers to block, which could fill the pool with calls that wait while the
    /// owner of the lock needs a thread of it. So this tries, again and again, after pauses of 50 µs
    /// at first and 10 ms at last: who waits longest does not come first.
    ///
    /// # Cancellation
    /// Parks the current thread while the file is locked; this is a cancel point, and then the file
    /// was not locked. In a destructor of a thread that is being cancelled it fails instead of
    /// waiting.
    ///
    /// # Errors
    /// As std's.
    pub fn lock(&self) -> io::Result<()> {
        self.lock_in_pauses(std::fs::File::try_lock)
    }

    /// Waits until nobody else has locked the file but to share it, and locks it so; see
    /// [`lock`](File::lock) and [`std::fs::File::lock_shared`].
    ///
    /// # Cancellation
    /// As [`lock`](File::lock).
    ///
    /// # Errors
    /// As std's.
    pub fn lock_shared(&self) -> io::Result<()> {
        self.lock_in_pauses(std::fs::File::try_lock_shared)
    }

    /// Locks the file if nobody else has, as [`std::fs::File::try_lock`].
    ///
    /// # Cancellation
    /// See [the module](crate::fs); cancelled, the file was not locked.
    ///
    /// # Errors
    /// As std's.
    pub fn try_lock(&self) -> Result<(), TryLockError> {
        self.lock_at_once(std::fs::File::try_lock)
    }

    /// Locks the file if nobody else has but to share it, as [`std::fs::File::try_lock_shared`].
    ///
    /// # Cancellation
    /// As [`try_lock`](File::try_lock).
    ///
    /// # Errors
    /// As std's.
    pub fn try_lock_shared(&self) -> Result<(), TryLockError> {
        self.lock_at_once(std::fs::File::try_lock_shared)
    }

    /// Unlocks the file, as [`std::fs::File::unlock`].
    ///
    /// # Errors
    /// As std's.
    pub fn unlock(&self) -> io::Result<()> {
        self.ask(std::fs::File::unlock)
    }

    /// Tries to lock the file, and waits for the outcome: a lock that nobody knows of would never be
    /// given up.
    fn lock_at_once(&self, try_lock: TryLock) -> Result<(), TryLockError> {
        park::cancel_point();
        thread::shield(|| self.ask(move |file| Ok(try_lock(file)))).map_err(TryLockError::Error)?
    }

    fn lock_in_pauses(&self, try_lock: TryLock) -> io::Result<()> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.lock_at_once(try_lock) {
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
                Ok(()) => return Ok(()),
            }
            if park::cancel_point() {
                return Err(cancelled());
            }
            thread::sleep(pause);
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    /// Returns whether the file is a terminal. [`IsTerminal`](std::io::IsTerminal) cannot be
    /// implemented outside of std.
    pub fn is_terminal(&self) -> bool {
        io::IsTerminal::is_terminal(&*self.file)
    }

    /// Makes a call in the pool that has nothing to do with the position.
    fn ask<T: Send + 'static>(
        &self,
        f: impl FnOnce(&std::fs::File) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let file = self.file.clone();
        unblock(move || f(&file))
    }
}

/// The operations, on `&File`; those of `File` itself go through here.
impl Read for &File {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() && !self.position.on_disk {
            // Past the lane: a read that its caller has given up may be waiting there for ever.
            return self.ask(|mut file| file.read(&mut []));
        }
        take_turns();
        let mut turn = self.position.enter(&self.position.reads)?;
        if turn.unread().is_empty() {
            if let Some(result) = self.position.read_at_once(&self.file, buf, None) {
                return result;
            }
            let (file, len) = (self.file.clone(), buf.len().min(CHUNK));
            let (back, result) = self
                .position
                .call(turn, move |buffers| buffers.read(&file, len))?;
            result?;
            turn = back;
        }
        Ok(turn.hand_out(buf))
    }

    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        let turn = self.position.enter(&self.position.reads)?;
        let file = self.file.clone();
        let (mut turn, result) = self.position.call(turn, move |buffers| {
            (&*file).read_to_end(&mut buffers.incoming)
        })?;
        let read = turn.unread().len();
        buf.extend_from_slice(turn.unread());
        turn.forget_read();
        result.map(|_| read)
    }

    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        let mut bytes = Vec::new();
        let result = self.read_to_end(&mut bytes);
        let not_text = |_| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "stream did not contain valid UTF-8",
            )
        };
        buf.push_str(str::from_utf8(&bytes).map_err(not_text)?);
        result
    }
}

impl Write for &File {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut turn = self.position.enter(&self.position.writes)?;
        let len = bufs
            .iter()
            .fold(0, |len: usize, buf| len.saturating_add(buf.len()));
        let mut room = len.min(CHUNK);
        turn.free = begin_aligned(&mut turn.outgoing, room);
        for buf in bufs {
            let buf = &buf[..buf.len().min(room)];
            turn.outgoing.extend_from_slice(buf);
            room -= buf.len();
        }
        let file = self.file.clone();
        self.position
            .call(turn, move |buffers| buffers.write(&file))?
            .1
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for &File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let mut file = &*self.file;
        if !self.position.on_disk {
            return file.seek(to);
        }
        let turn = &mut self.position.reads.enter();
        turn.step_back(file);
        match to {
            // Only what asks for the length may have to ask the disk.
            SeekFrom::End(_) => self.ask(move |mut file| file.seek(to)),
            SeekFrom::Start(_) | SeekFrom::Current(_) => file.seek(to),
        }
    }
}

impl Read for File {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    fn read_to_end(&mut self, buf: &mut Vec<u8>) -> io::Result<usize> {
        (&*self).read_to_end(buf)
    }

    fn read_to_string(&mut self, buf: &mut String) -> io::Result<usize> {
        (&*self).read_to_string(buf)
    }
}

impl Write for File {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        (&*self).seek(to)
    }
}

impl FileExt for File {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if offset > LAST_OFFSET {
            return Err(Errno::INVAL.into());
        }
        take_turns();
        if let Some(result) = self.position.read_at_once(&self.file, buf, Some(offset)) {
            return result;
        }
        let len = buf.len().min(CHUNK);
        let (bytes, start) = self.ask(move |file| {
            let mut bytes = Vec::new();
            let start = begin_aligned(&mut bytes, len);
            bytes.resize(start + len, 0);
            let read = file.read_at(&mut bytes[start..], offset)?;
            bytes.truncate(start + read);
            Ok((bytes, start))
        })?;
        let bytes = &bytes[start..];
        buf[..bytes.len()].copy_from_slice(bytes);
        Ok(bytes.len())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let (bytes, start) = copy_aligned(&buf[..buf.len().min(CHUNK)]);
        self.ask(move |file| file.write_at(&bytes[start..], offset))
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for File {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl IntoRawFd for File {
    fn into_raw_fd(self) -> RawFd {
        OwnedFd::from(self).into_raw_fd()
    }
}

impl From<std::fs::File> for File {
    fn from(file: std::fs::File) -> File {
        File {
            position: Position::of(&file),
            file: Arc::new(file),
        }
    }
}

impl FromRawFd for File {
    #[allow(unsafe_code)]
    unsafe fn from_raw_fd(fd: RawFd) -> File {
        // SAFETY: the caller's promise, that `fd` is open and to be owned, is what is asked for here.
        File::from(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

impl From<OwnedFd> for File {
    fn from(fd: OwnedFd) -> File {
        File::from(std::fs::File::from(fd))
    }
}

/// Takes the descriptor out. Waits for a cancelled call that is still using the file's position.
/// What a cancelled read has brought from a FIFO or a terminal is lost, if nobody has read it
/// since.
///
/// # Panics
/// If a cancelled call is still using the descriptor for something else, and there is none left to
/// make a second one.
impl From<File> for std::fs::File {
    fn from(ours: File) -> std::fs::File {
        if ours.position.on_disk {
            ours.position.reads.enter().step_back(&ours.file);
        }
        Arc::try_unwrap(ours.file).unwrap_or_else(|file| {
            file.try_clone().expect("a file that a cancelled call is still using needs a second descriptor to be converted")
        })
    }
}

/// As the conversion to std's file.
impl From<File> for OwnedFd {
    fn from(ours: File) -> OwnedFd {
        std::fs::File::from(ours).into()
    }
}

/// As the conversion to std's file.
impl From<File> for Stdio {
    fn from(ours: File) -> Stdio {
        std::fs::File::from(ours).into()
    }
}

/// How a file is to be opened, as [`std::fs::OpenOptions`].
///
/// ```
/// use hebra::fs::OpenOptions;
/// use std::os::unix::fs::OpenOptionsExt;
///
/// hebra::run(|| {
///     let file = OpenOptions::new().read(true).write(true).custom_flags(0).open("/dev/null");
///     assert!(file.is_ok());
/// });
/// ```
#[derive(Clone)]
pub struct OpenOptions(std::fs::OpenOptions);

impl fmt::Debug for OpenOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl OpenOptions {
    /// Makes a set of options with nothing chosen.
    #[expect(clippy::new_without_default, reason = "as in std")]
    pub fn new() -> OpenOptions {
        OpenOptions(std::fs::OpenOptions::new())
    }

    /// Opens the file.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point. A file that is opened for a thread that
    /// has given up is closed.
    ///
    /// # Errors
    /// As [`std::fs::OpenOptions::open`].
    pub fn open<P: AsRef<Path>>(&self, path: P) -> io::Result<File> {
        let options = self.0.clone();
        on_path(path, move |path| options.open(path).map(File::from))
    }
}

/// The switches, which std documents.
macro_rules! switches {
    ($($name:ident: $what:literal;)*) => {
        impl OpenOptions {
            $(
                #[doc = $what]
                pub fn $name(&mut self, $name: bool) -> &mut OpenOptions {
                    self.0.$name($name);
                    self
                }
            )*
        }
    };
}

switches! {
    read: "Whether the file can be read.";
    write: "Whether the file can be written to.";
    append: "Whether writes go to the end of the file, wherever that is by then.";
    truncate: "Whether the file is emptied.";
    create: "Whether the file is made if it does not exist.";
    create_new: "Whether the file is made, and it is an error if it exists.";
}

impl OpenOptionsExt for OpenOptions {
    fn mode(&mut self, mode: u32) -> &mut OpenOptions {
        self.0.mode(mode);
        self
    }

    fn custom_flags(&mut self, flags: i32) -> &mut OpenOptions {
        self.0.custom_flags(flags);
        self
    }
}
