//! Files and directories.

#![cfg(feature = "runtime")]

use std::collections::BTreeSet;
use std::io::{self, BufReader, BufWriter, ErrorKind, IoSlice, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::os::unix::fs::{
    DirBuilderExt, DirEntryExt, FileExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt,
};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use hebra::fs::{self, File, OpenOptions, TryLockError};
use hebra::thread;
use rustix::fs::OFlags;

use support::place::{Ball, on_another_worker};
use support::{bounded, is_child, on_workers, passes_in_child, wait_until};

mod support;

/// A directory of a test's own, which goes with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "hebra-fs-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn file(&self, name: &str, contents: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, contents).unwrap();
        path
    }

    fn fifo(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Opens both ends, so that neither open has to wait.
fn open_both(path: impl AsRef<Path>) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

fn pool_threads() -> usize {
    let names = std::fs::read_dir("/proc/self/task").unwrap().map(|task| {
        // It may have ended meanwhile.
        std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default()
    });
    names.filter(|name| name.trim() == "hebra-blocking").count()
}

/// Runs a test on a green thread, and on a plain OS thread.
fn everywhere(test: impl Fn(&Scratch)) {
    on_workers(1, || test(&Scratch::new()));
    bounded(|| test(&Scratch::new()));
}

#[test]
fn the_functions_do_what_stds_do() {
    everywhere(|scratch| {
        let (a, b, c) = (scratch.path("a"), scratch.path("b"), scratch.path("c"));
        assert!(!fs::exists(&a).unwrap());
        assert_eq!(fs::read(&a).unwrap_err().kind(), ErrorKind::NotFound);
        fs::write(&a, "text").unwrap();
        assert!(fs::exists(&a).unwrap());
        assert_eq!(fs::read(&a).unwrap(), b"text");
        assert_eq!(fs::read_to_string(&a).unwrap(), "text");
        assert_eq!(fs::copy(&a, &b).unwrap(), 4);
        assert_eq!(fs::copy(&c, &b).unwrap_err().kind(), ErrorKind::NotFound);
        fs::rename(&b, &c).unwrap();
        assert!(!fs::exists(&b).unwrap());
        fs::hard_link(&c, &b).unwrap();
        assert_eq!(
            fs::metadata(&b).unwrap().ino(),
            fs::metadata(&c).unwrap().ino()
        );
        fs::remove_file(&b).unwrap();

        hebra::os::unix::fs::symlink(&c, &b).unwrap();
        let owner = |path: &Path| {
            std::fs::symlink_metadata(path)
                .map(|metadata| (metadata.uid(), metadata.gid()))
                .unwrap()
        };
        let (uid, gid) = owner(&c);
        hebra::os::unix::fs::chown(&c, Some(uid), Some(gid)).unwrap();
        hebra::os::unix::fs::lchown(&b, Some(uid), None).unwrap();
        hebra::os::unix::fs::fchown(File::open(&c).unwrap(), None, Some(gid)).unwrap();
        assert_eq!((owner(&b), owner(&c)), ((uid, gid), (uid, gid)));
        assert_eq!(fs::read_link(&b).unwrap(), c);
        assert_eq!(
            fs::canonicalize(&b).unwrap(),
            std::fs::canonicalize(&c).unwrap()
        );
        assert!(fs::metadata(&b).unwrap().is_file());
        assert!(fs::symlink_metadata(&b).unwrap().is_symlink());

        let mut permissions = fs::metadata(&c).unwrap().permissions();
        permissions.set_mode(0o600);
        fs::set_permissions(&c, permissions).unwrap();
        assert_eq!(
            std::fs::metadata(&c).unwrap().permissions().mode() & 0o777,
            0o600
        );

        fs::create_dir(scratch.path("d")).unwrap();
        assert_eq!(
            fs::create_dir(scratch.path("d")).unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        fs::create_dir_all(scratch.path("d/e/f")).unwrap();
        assert_eq!(
            fs::remove_dir(scratch.path("d")).unwrap_err().kind(),
            ErrorKind::DirectoryNotEmpty
        );
        fs::remove_dir(scratch.path("d/e/f")).unwrap();
        fs::remove_dir_all(scratch.path("d")).unwrap();
        assert!(!std::fs::exists(scratch.path("d")).unwrap());

        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(scratch.path("g/h"))
            .unwrap();
        assert_eq!(
            std::fs::metadata(scratch.path("g/h"))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o700
        );
        assert!(fs::DirBuilder::new().create(scratch.path("x/y")).is_err());
    });
}

#[test]
fn a_file_is_read_written_and_sought_as_stds() {
    everywhere(|scratch| {
        let path = scratch.path("file");
        assert_eq!(File::open(&path).unwrap_err().kind(), ErrorKind::NotFound);
        let mut file = File::create_new(&path).unwrap();
        assert_eq!(
            File::create_new(&path).unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        assert_eq!(file.write(b"hello, ").unwrap(), 7);
        assert_eq!(
            file.write_vectored(&[IoSlice::new(b"wor"), IoSlice::new(b""), IoSlice::new(b"ld")])
                .unwrap(),
            5
        );
        file.flush().unwrap();
        file.sync_all().unwrap();
        file.sync_data().unwrap();
        assert_eq!(file.stream_position().unwrap(), 12);
        file.rewind().unwrap();
        let mut word = [0; 5];
        file.read_exact(&mut word).unwrap();
        assert_eq!(&word, b"hello");
        assert_eq!(file.seek(SeekFrom::Current(2)).unwrap(), 7);
        let mut rest = String::new();
        assert_eq!(file.read_to_string(&mut rest).unwrap(), 5);
        assert_eq!(rest, "world");
        assert_eq!(file.read(&mut word).unwrap(), 0);
        assert_eq!(file.seek(SeekFrom::End(-5)).unwrap(), 7);
        file.write_all(b"there").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"hello, there");
        assert!(file.seek(SeekFrom::Current(-100)).is_err());

        file.set_len(5).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 5);
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        file.set_modified(time).unwrap();
        assert_eq!(file.metadata().unwrap().modified().unwrap(), time);
        file.set_permissions(PermissionsExt::from_mode(0o640))
            .unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o640);

        let mut only_read = File::open(&path).unwrap();
        assert!(only_read.write(b"x").is_err());
        assert_eq!(File::create(&path).unwrap().metadata().unwrap().len(), 0);
        assert!(format!("{file:?}").contains("file"));
    });
}

#[test]
fn text_that_is_none_is_refused_and_leaves_the_string_alone() {
    everywhere(|scratch| {
        let path = scratch.file("file", b"\xff\xfe");
        let mut text = String::from("before");
        let error = File::open(&path)
            .unwrap()
            .read_to_string(&mut text)
            .unwrap_err();
        assert_eq!(
            (error.kind(), text.as_str()),
            (ErrorKind::InvalidData, "before")
        );
        assert_eq!(
            fs::read_to_string(&path).unwrap_err().kind(),
            ErrorKind::InvalidData
        );
        assert_eq!(
            File::open(&scratch.0)
                .unwrap()
                .read(&mut [0])
                .unwrap_err()
                .kind(),
            ErrorKind::IsADirectory
        );
    });
}

#[test]
fn a_large_file_goes_through_in_pieces_and_unchanged() {
    everywhere(|scratch| {
        let data: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let path = scratch.path("file");
        let mut file = File::create(&path).unwrap();
        let first = file.write(&data).unwrap();
        assert!(first < data.len());
        file.write_all(&data[first..]).unwrap();
        assert!(fs::read(&path).unwrap() == data);

        let mut file = File::open(&path).unwrap();
        let (mut read, mut size) = (Vec::new(), 1);
        loop {
            let mut piece = vec![0; size];
            match file.read(&mut piece).unwrap() {
                0 => break,
                n => read.extend_from_slice(&piece[..n]),
            }
            size = (size * 7 + 3) % 600_000;
        }
        assert!(read == data);
        // std's adapters work, too.
        let mut copy = Vec::new();
        io::copy(&mut BufReader::new(File::open(&path).unwrap()), &mut copy).unwrap();
        assert!(copy == data);
        let mut copy = Vec::new();
        File::open(&path).unwrap().read_to_end(&mut copy).unwrap();
        assert!(copy == data);
    });
}

#[test]
fn options_are_stds() {
    everywhere(|scratch| {
        let path = scratch.file("file", b"abc");
        OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"def")
            .unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"abcdef");
        OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        assert!(OpenOptions::new().open(&path).is_err());
        let made = scratch.path("made");
        OpenOptions::new()
            .write(true)
            .create(true)
            .mode(0o600)
            .open(&made)
            .unwrap();
        assert_eq!(std::fs::metadata(&made).unwrap().mode() & 0o777, 0o600);
        assert!(
            File::options()
                .write(true)
                .create_new(true)
                .open(&made)
                .is_err()
        );
        let link = scratch.path("link");
        std::os::unix::fs::symlink(&made, &link).unwrap();
        assert!(
            OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&link)
                .is_err()
        );
    });
}

#[test]
fn reads_and_writes_at_an_offset_leave_the_position_alone() {
    everywhere(|scratch| {
        let mut file = open_both(scratch.file("file", b"0123456789"));
        let mut buf = [0; 4];
        assert_eq!(file.read_at(&mut buf, 8).unwrap(), 2);
        file.read_exact_at(&mut buf, 3).unwrap();
        assert_eq!(&buf, b"3456");
        file.write_all_at(b"xy", 1).unwrap();
        assert_eq!(file.stream_position().unwrap(), 0);
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "0xy3456789");
    });
}

#[test]
fn offsets_beyond_the_largest_are_refused_as_stds() {
    everywhere(|scratch| {
        let path = scratch.file("file", b"contents");
        let mut ours = open_both(&path);
        let theirs = std::fs::File::from(OwnedFd::from(open_both(&path)));
        ours.read_exact(&mut [0; 3]).unwrap();
        for offset in [u64::MAX, u64::MAX - 1, 1 << 63] {
            let mut buf = [0; 4];
            for result in [
                ours.read_at(&mut buf, offset).map(drop),
                theirs.read_at(&mut buf, offset).map(drop),
                ours.read_exact_at(&mut buf, offset),
                ours.read_at(&mut [], offset).map(drop),
                ours.write_at(b"x", offset).map(drop),
                theirs.write_at(b"x", offset).map(drop),
                ours.set_len(offset),
                theirs.set_len(offset),
                ours.seek(SeekFrom::Start(offset)).map(drop),
                (&theirs).seek(SeekFrom::Start(offset)).map(drop),
            ] {
                let kind = result.unwrap_err().kind();
                assert_eq!(kind, ErrorKind::InvalidInput, "at {offset:#x}");
            }
            assert_eq!(buf, [0; 4]);
        }
        let last = (u64::MAX >> 1) - 4;
        assert_eq!(ours.read_at(&mut [0; 4], last).unwrap(), 0);
        assert_eq!(ours.stream_position().unwrap(), 3, "it has not moved");
        let mut rest = String::new();
        ours.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "tents");
    });
}

/// As much of a buffer as begins at a multiple of a disk's block.
fn aligned(bytes: &mut [u8]) -> &mut [u8] {
    let start = bytes.as_ptr().align_offset(4096);
    &mut bytes[start..]
}

#[test]
fn direct_file_is_read_and_written_as_stds() {
    let direct = OFlags::DIRECT.bits().cast_signed();
    let is_supported = |scratch: &Scratch| {
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create(true).custom_flags(direct);
        let file = file.open(scratch.path("theirs"));
        let mut bytes = vec![7; 3 * 4096];
        file.and_then(|mut file| file.write_all(&aligned(&mut bytes)[..4096]))
            .is_ok()
    };
    everywhere(|scratch| {
        if !is_supported(scratch) {
            println!("skipped: the file system has no O_DIRECT");
            return;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .custom_flags(direct)
            .open(scratch.path("ours"))
            .unwrap();
        let mut bytes: Vec<u8> = (0..160 << 12).map(|n| (n / 7) as u8).collect();
        let bytes = aligned(&mut bytes);
        let mut room = vec![0; 160 << 12];
        let room = aligned(&mut room);
        // The lengths of one block, of several, and of more than one write moves.
        for len in [512, 4096, 24 << 10, 64 << 10, 300 << 10] {
            for _ in 0..3 {
                file.rewind().unwrap();
                file.write_all(&bytes[..len]).unwrap();
                file.rewind().unwrap();
                file.read_exact(&mut room[..len]).unwrap();
                assert!(room[..len] == bytes[..len]);
                file.write_all_at(&bytes[len..2 * len], 0).unwrap();
                file.read_exact_at(&mut room[..len], 0).unwrap();
                assert!(room[..len] == bytes[len..2 * len]);
            }
            let (one, other) = bytes[..len].split_at(len / 2);
            file.rewind().unwrap();
            let gathered = file.write_vectored(&[IoSlice::new(one), IoSlice::new(other)]);
            assert_eq!(gathered.unwrap(), len.min(256 << 10));
        }
        // What std refuses is refused, and does no harm to the next read.
        assert!(file.read_at(&mut room[..512], 7).is_err());
        file.read_exact_at(&mut room[..4096], 0).unwrap();
    });
}

#[test]
fn file_is_locked_against_others_until_it_is_unlocked() {
    everywhere(|scratch| {
        let path = scratch.file("file", b"");
        let (one, other) = (open_both(&path), open_both(&path));
        let is_locked =
            |result: Result<(), TryLockError>| matches!(result, Err(TryLockError::WouldBlock));
        one.lock_shared().unwrap();
        other.try_lock_shared().unwrap();
        assert!(is_locked(one.try_lock()));
        other.unlock().unwrap();
        one.lock().unwrap();
        assert!(is_locked(other.try_lock()));
        assert!(is_locked(other.try_lock_shared()));
        for _ in 0..3 {
            let late = thread::timeout(Duration::from_millis(1), || other.lock());
            assert!(late.is_err());
        }
        one.unlock().unwrap();
        // What was given up has not locked it.
        one.try_lock().unwrap();
        drop(one);
        other.try_lock().unwrap();
    });
}

#[test]
fn file_lock_is_passed_on_between_green_threads() {
    let scratch = Scratch::new();
    let path = scratch.file("file", b"");
    on_workers(2, || {
        let inside = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (path, inside) = (path.clone(), inside.clone());
                thread::spawn(move || {
                    let file = open_both(path);
                    for _ in 0..5 {
                        file.lock().unwrap();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        thread::yield_now();
                        assert_eq!(inside.fetch_sub(1, Ordering::SeqCst), 1);
                        file.unlock().unwrap();
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn in_a_destructor_of_a_cancelled_thread_a_lock_that_is_held_fails() {
    struct Locks(File, Arc<AtomicBool>);

    impl Drop for Locks {
        fn drop(&mut self) {
            self.1.store(self.0.lock().is_err(), Ordering::SeqCst);
        }
    }

    let scratch = Scratch::new();
    let path = scratch.file("file", b"");
    on_workers(1, || {
        let (held, failed) = (open_both(&path), Arc::new(AtomicBool::new(false)));
        held.lock().unwrap();
        cancel_holder_of(Locks(open_both(&path), failed.clone()));
        assert!(failed.load(Ordering::SeqCst));
    });
}

#[test]
fn soft_link_and_terminals_are_as_stds() {
    everywhere(|scratch| {
        let path = scratch.file("file", b"contents");
        #[expect(deprecated, reason = "it exists in std")]
        fs::soft_link(&path, scratch.path("link")).unwrap();
        assert_eq!(fs::read_link(scratch.path("link")).unwrap(), path);
        assert!(!File::open(&path).unwrap().is_terminal());
        fs::remove_file(scratch.path("link")).unwrap();
    });
}

#[test]
fn clones_have_one_position() {
    everywhere(|scratch| {
        let mut file = open_both(scratch.file("file", b"0123456789"));
        let mut clone = file.try_clone().unwrap();
        assert_ne!(file.as_raw_fd(), clone.as_raw_fd());
        let mut buf = [0; 3];
        file.read_exact(&mut buf).unwrap();
        clone.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"345");
        drop(file);
        assert_eq!(clone.stream_position().unwrap(), 6);
    });
}

#[test]
fn a_file_may_be_used_by_one_worker_after_the_other_and_by_os_threads() {
    on_workers(2, || {
        let scratch = Scratch::new();
        let play = |ball: &Ball<(File, u8)>, me: usize| {
            for _ in 0..50 {
                let (mut file, next) = ball.take(me);
                file.write_all(&[next]).unwrap();
                file.seek(SeekFrom::Start(next.into())).unwrap();
                let mut last = [0];
                file.read_exact(&mut last).unwrap();
                assert_eq!(last, [next]);
                ball.give(1 - me, (file, next + 1));
            }
        };
        let ball = Ball::new();
        ball.give(0, (open_both(scratch.file("file", b"")), 0));
        let other = ball.clone();
        let other = on_another_worker(move || play(&other, 1));
        play(&ball, 0);
        other.join().unwrap();
        let other = ball.clone();
        let other = std::thread::spawn(move || play(&other, 1));
        play(&ball, 0);
        other.join().unwrap();
        drop(ball.take(0));
        assert!(
            fs::read(scratch.path("file"))
                .unwrap()
                .into_iter()
                .eq(0..200)
        );
    });
}

#[test]
fn a_file_is_converted_from_stds_and_back() {
    everywhere(|scratch| {
        let path = scratch.file("file", b"0123456789");
        let mut file = File::from(std::fs::File::open(&path).unwrap());
        let mut buf = [0; 3];
        file.read_exact(&mut buf).unwrap();
        let mut file = std::fs::File::from(file);
        file.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"345");
        let mut file = File::from(OwnedFd::from(File::from(OwnedFd::from(file))));
        file.read_exact(&mut buf).unwrap();
        assert_eq!(&buf, b"678");
        let fd = file.as_raw_fd();
        assert_eq!(file.into_raw_fd(), fd);
        assert_eq!(
            std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap(),
            path
        );
    });
}

#[test]
fn a_directory_has_each_entry_once() {
    everywhere(|scratch| {
        let expected: BTreeSet<String> = (0..1000).map(|n| format!("entry-{n}")).collect();
        expected
            .iter()
            .for_each(|name| drop(scratch.file(name, b"x")));
        let mut entries = fs::read_dir(&scratch.0).unwrap();
        let mut found = BTreeSet::new();
        for entry in entries.by_ref() {
            let entry = entry.unwrap();
            assert!(entry.file_type().unwrap().is_file());
            assert_eq!(entry.path(), scratch.0.join(entry.file_name()));
            assert_eq!(entry.metadata().unwrap().ino(), entry.ino());
            assert!(found.insert(entry.file_name().into_string().unwrap()));
        }
        assert_eq!(found, expected);
        assert!(entries.next().is_none());
        assert_eq!(
            fs::read_dir(scratch.path("none")).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        assert!(fs::read_dir(scratch.path("entry-1")).is_err());
    });
}

#[test]
fn a_cancelled_look_into_a_directory_loses_no_entry() {
    on_workers(1, || {
        let scratch = Scratch::new();
        for n in 0..600 {
            scratch.file(&n.to_string(), b"");
        }
        let mut entries = fs::read_dir(&scratch.0).unwrap();
        let (mut found, mut cancelled) = (BTreeSet::new(), 0);
        let mut patience = Duration::ZERO;
        loop {
            match thread::timeout(patience, || entries.next()) {
                Ok(Some(entry)) => {
                    assert!(found.insert(entry.unwrap().file_name()));
                    patience = Duration::ZERO;
                }
                Ok(None) => break,
                Err(_) => {
                    cancelled += 1;
                    patience = Duration::from_secs(3600);
                }
            }
        }
        assert_eq!(found.len(), 600);
        assert!(cancelled > 0, "nothing was tested");
    });
}

#[test]
fn others_run_while_one_waits_for_a_fifo() {
    on_workers(1, || {
        let scratch = Scratch::new();
        let path = scratch.fifo("fifo");
        let there = path.clone();
        // Opening waits for the other end, and so does reading.
        let reader = thread::spawn(move || {
            let mut text = String::new();
            File::open(there)
                .unwrap()
                .read_to_string(&mut text)
                .unwrap();
            text
        });
        thread::sleep(Duration::from_millis(2));
        assert!(!reader.is_finished());
        let mut writer = OpenOptions::new().write(true).open(&path).unwrap();
        for word in ["some ", "words"] {
            writer.write_all(word.as_bytes()).unwrap();
            thread::yield_now();
        }
        drop(writer);
        assert_eq!(reader.join().unwrap(), "some words");
    });
}

#[test]
fn a_reader_that_waits_does_not_keep_the_writer_of_the_same_handle_waiting() {
    on_workers(1, || {
        let scratch = Scratch::new();
        let both = Arc::new(open_both(scratch.fifo("fifo")));
        let reader = thread::spawn({
            let both = both.clone();
            move || {
                let mut word = [0; 4];
                (&*both).read_exact(&mut word).map(|()| word)
            }
        });
        thread::sleep(Duration::from_millis(2));
        (&*both).write_all(b"ping").unwrap();
        assert_eq!(&reader.join().unwrap().unwrap(), b"ping");
    });
}

#[test]
fn what_two_readers_read_goes_to_one_of_them_each() {
    on_workers(2, || {
        let scratch = Scratch::new();
        let both = Arc::new(open_both(scratch.fifo("fifo")));
        let readers = [1, 2].map(|_| {
            let both = both.clone();
            thread::spawn(move || {
                let mut seen = Vec::new();
                loop {
                    let mut byte = [0];
                    (&*both).read_exact(&mut byte).unwrap();
                    match byte[0] {
                        0 => return seen,
                        byte => seen.push(byte),
                    }
                }
            })
        });
        for byte in 1..=200 {
            (&*both).write_all(&[byte]).unwrap();
        }
        (&*both).write_all(&[0, 0]).unwrap();
        let mut seen: Vec<u8> = readers
            .into_iter()
            .flat_map(|reader| reader.join().unwrap())
            .collect();
        seen.sort();
        assert!(seen.into_iter().eq(1..=200));
    });
}

#[test]
fn giving_up_a_read_a_hundred_times_loses_nothing_and_does_not_fill_the_pool() {
    if !is_child() {
        bounded(|| {
            passes_in_child(
                "giving_up_a_read_a_hundred_times_loses_nothing_and_does_not_fill_the_pool",
            )
        });
        return;
    }
    on_workers(1, || {
        let scratch = Scratch::new();
        let mut fifo = open_both(scratch.fifo("fifo"));
        let mut clone = fifo.try_clone().unwrap();
        for _ in 0..100 {
            let mut buf = [0; 100];
            assert!(thread::timeout(Duration::from_micros(100), || fifo.read(&mut buf)).is_err());
            assert!(thread::timeout(Duration::from_micros(100), || clone.read(&mut buf)).is_err());
        }
        assert!(pool_threads() <= 2, "{} threads", pool_threads());
        fifo.write_all(b"kept").unwrap();
        let (mut first, mut rest) = ([0], [0; 3]);
        clone.read_exact(&mut first).unwrap();
        fifo.read_exact(&mut rest).unwrap();
        assert_eq!((&first, &rest), (b"k", b"ept"));
    });
}

#[test]
fn a_time_out_reaches_a_fifo_on_an_os_thread_too() {
    bounded(|| {
        let scratch = Scratch::new();
        let mut fifo = open_both(scratch.fifo("fifo"));
        assert!(thread::timeout(Duration::from_millis(5), || fifo.read(&mut [0; 4])).is_err());
        fifo.write_all(b"kept").unwrap();
        let mut buf = [0; 4];
        thread::timeout(Duration::from_secs(1000), || fifo.read_exact(&mut buf))
            .unwrap()
            .unwrap();
        assert_eq!(&buf, b"kept");
    });
}

#[test]
fn a_file_that_is_opened_for_nobody_is_closed() {
    on_workers(1, || {
        let scratch = Scratch::new();
        let path = scratch.fifo("fifo");
        // Which works as soon as somebody is opening the other end.
        let open_writer = || {
            OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(&path)
        };
        let writer = loop {
            assert!(thread::timeout(Duration::from_millis(1), || File::open(&path)).is_err());
            if let Ok(writer) = open_writer() {
                break writer;
            }
        };
        wait_until(|| {
            (&writer)
                .write(b"x")
                .is_err_and(|error| error.kind() == ErrorKind::BrokenPipe)
        });
    });
}

/// Calls that last about as long as their time-outs, so that some are cancelled before they begin,
/// some while they run and some never.
fn time_outs() -> impl Iterator<Item = Duration> {
    (0..).map(|n| Duration::from_micros(n * 7 % 60))
}

#[test]
fn cancelled_reads_skip_nothing() {
    on_workers(1, || {
        let scratch = Scratch::new();
        let numbers: Vec<u8> = (0..4000_u64).flat_map(u64::to_le_bytes).collect();
        let path = scratch.file("file", &numbers);
        let mut file = open_both(&path);
        file.sync_all().unwrap();
        let (mut expected, mut cancelled) = (0, 0);
        for (round, time_out) in (0..2000).zip(time_outs()) {
            // What is in memory is read on the spot.
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
            let mut number = [0; 8];
            match thread::timeout(time_out, || file.read(&mut number)) {
                Ok(read) => {
                    assert_eq!((read.unwrap(), u64::from_le_bytes(number)), (8, expected));
                    expected += 1;
                }
                Err(_) => cancelled += 1,
            }
            // The other operations find the position where the reads have left it.
            match round % 40 {
                10 => assert_eq!(file.stream_position().unwrap(), expected * 8),
                20 => {
                    expected += 1;
                    assert_eq!(file.seek(SeekFrom::Current(8)).unwrap(), expected * 8);
                }
                30 => {
                    file.write_all(&expected.to_le_bytes()).unwrap();
                    expected += 1;
                }
                39 => file = File::from(std::fs::File::from(file)),
                _ => {}
            }
        }
        let has_a_disk = rustix::fs::statfs(&path).unwrap().f_type != libc::TMPFS_MAGIC;
        assert!(cancelled > 10 || !has_a_disk, "nothing was tested");
    });
}

#[test]
fn what_is_in_memory_is_read_without_the_pool_and_yet_others_get_their_turn() {
    if !is_child() {
        bounded(|| {
            passes_in_child(
                "what_is_in_memory_is_read_without_the_pool_and_yet_others_get_their_turn",
            )
        });
        return;
    }
    on_workers(1, || {
        let scratch = Scratch::new();
        let file = File::from(std::fs::File::open(scratch.file("file", &[7; 4096])).unwrap());
        let done = Arc::new(AtomicBool::new(false));
        let other = thread::spawn({
            let done = done.clone();
            move || done.store(true, Ordering::SeqCst)
        });
        let mut buf = [0; 4096];
        while !done.load(Ordering::SeqCst) {
            file.read_exact_at(&mut buf, 0).unwrap();
            (&file).rewind().unwrap();
            (&file).read_exact(&mut buf).unwrap();
        }
        other.join().unwrap();
        assert_eq!(buf, [7; 4096]);
        assert_eq!(pool_threads(), 0);
    });
}

#[test]
fn cancelled_writes_keep_their_order_and_happen_at_most_once() {
    on_workers(1, || {
        let scratch = Scratch::new();
        let path = scratch.path("file");
        let mut file = File::create(&path).unwrap();
        let (mut done, mut cancelled) = (BTreeSet::new(), 0);
        for (number, time_out) in (0..2000_u64).zip(time_outs()) {
            match thread::timeout(time_out, || file.write_all(&number.to_le_bytes())) {
                Ok(written) => {
                    written.unwrap();
                    done.insert(number);
                }
                Err(_) => cancelled += 1,
            }
        }
        file.sync_all().unwrap();
        let written: Vec<u64> = fs::read(&path)
            .unwrap()
            .chunks(8)
            .map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap()))
            .collect();
        assert!(written.is_sorted_by(|a, b| a < b));
        assert!(done.is_subset(&written.into_iter().collect()));
        assert!(cancelled > 10, "nothing was tested");
    });
}

/// Cancels a thread that holds `value`, and waits for its end.
fn cancel_holder_of(value: impl Send + 'static) {
    let started = Arc::new(AtomicBool::new(false));
    let in_thread = started.clone();
    let holder = thread::spawn(move || {
        let _value = value;
        in_thread.store(true, Ordering::SeqCst);
        thread::park();
    });
    wait_until(|| started.load(Ordering::SeqCst));
    holder.cancel();
    assert!(holder.join().is_err());
}

#[test]
fn in_a_destructor_of_a_cancelled_thread_buffers_are_written_out_and_files_removed() {
    struct Removes(PathBuf);
    impl Drop for Removes {
        fn drop(&mut self) {
            fs::remove_file(&self.0).unwrap();
        }
    }
    on_workers(1, || {
        let scratch = Scratch::new();
        let kept = scratch.path("kept");
        let mut writer = BufWriter::new(File::create(&kept).unwrap());
        writer.write_all(b"buffered").unwrap();
        cancel_holder_of((writer, Removes(scratch.file("temporary", b""))));
        assert_eq!(std::fs::read(&kept).unwrap(), b"buffered");
        assert!(!std::fs::exists(scratch.path("temporary")).unwrap());
    });
}

#[test]
fn in_a_destructor_of_a_cancelled_thread_a_read_that_may_last_for_ever_fails_at_once() {
    struct Reads(File, mpsc::Sender<ErrorKind>);
    impl Drop for Reads {
        fn drop(&mut self) {
            self.1
                .send(self.0.read(&mut [0]).unwrap_err().kind())
                .unwrap();
        }
    }
    on_workers(1, || {
        let scratch = Scratch::new();
        let (sender, error) = mpsc::channel();
        cancel_holder_of(Reads(open_both(scratch.fifo("fifo")), sender));
        assert_ne!(error.recv().unwrap(), ErrorKind::Interrupted);
    });
}

#[test]
fn the_end_of_the_runtime_does_not_wait_for_a_fifo() {
    let scratch = Scratch::new();
    let path = scratch.fifo("fifo");
    let waits = Arc::new(AtomicBool::new(false));
    on_workers(2, || {
        let mut fifo = open_both(&path);
        assert!(fifo.metadata().unwrap().file_type().is_fifo());
        let in_thread = waits.clone();
        thread::spawn(move || {
            in_thread.store(true, Ordering::SeqCst);
            fifo.read(&mut [0])
        });
        wait_until(|| waits.load(Ordering::SeqCst));
    });
}
