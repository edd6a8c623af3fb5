//! `hebra::io::Pollable` waits for any descriptor: from plain OS threads, and on green threads of
//! one worker and of two.

#![cfg(feature = "runtime")]

use std::fs::File;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, PipeReader, PipeWriter, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hebra::io::Pollable;
use hebra::thread;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, fcntl_getfl};

use support::place::{
    Ball, Guard, Handle, Place, SHORT, assert_cancelled, everywhere, on_another_worker,
    on_one_and_two, open_descriptors, pattern, read_pattern, write_pattern,
};
use support::{bounded, is_child, on_workers, passes_in_child};

mod support;

/// Long enough for nobody to see its end.
const LONG: Duration = Duration::from_secs(50);

fn pipe() -> (Pollable<PipeReader>, Pollable<PipeWriter>) {
    let (reader, writer) = io::pipe().unwrap();
    (
        Pollable::new(reader).unwrap(),
        Pollable::new(writer).unwrap(),
    )
}

/// Two of std's sockets that are connected to each other.
fn pair() -> (Pollable<UnixStream>, Pollable<UnixStream>) {
    let (near, far) = UnixStream::pair().unwrap();
    (Pollable::new(near).unwrap(), Pollable::new(far).unwrap())
}

/// A counter that reads wait for.
fn counter() -> Pollable<OwnedFd> {
    Pollable::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap()).unwrap()
}

fn add(counter: impl AsFd, n: u64) {
    rustix::io::write(counter, &n.to_ne_bytes()).unwrap();
}

fn take(fd: &OwnedFd) -> io::Result<u64> {
    let mut count = [0; 8];
    rustix::io::read(fd, &mut count)?;
    Ok(u64::from_ne_bytes(count))
}

fn is_nonblocking(fd: impl AsFd) -> bool {
    fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
}

/// Sends back what comes, until the end.
fn echo(mut stream: &Pollable<UnixStream>) {
    let mut buffer = [0; 4096];
    while let n @ 1.. = stream.read(&mut buffer).unwrap() {
        stream.write_all(&buffer[..n]).unwrap();
    }
}

/// One question and its answer, through an [`echo`] at the other end.
fn ask(mut stream: &Pollable<UnixStream>, question: u64) {
    stream.write_all(&question.to_ne_bytes()).unwrap();
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(u64::from_ne_bytes(answer), question);
}

// Data

#[test]
fn bytes_go_through_a_pipe_in_order() {
    everywhere(|place| {
        let (reader, writer) = pipe();
        let writer = place.spawn(move || write_pattern(writer, 1_000_000).unwrap());
        assert_eq!(read_pattern(reader).unwrap(), 1_000_000);
        writer.join();
    });
}

#[test]
fn a_socket_is_read_and_written_at_the_same_time() {
    everywhere(|place| {
        let (near, far) = pair();
        let server = place.spawn(move || echo(&far));
        let near = Arc::new(near);
        let writing = near.clone();
        let writer = place.spawn(move || {
            write_pattern(&*writing, 1_000_000).unwrap();
            writing.get_ref().shutdown(Shutdown::Write).unwrap();
        });
        assert_eq!(read_pattern(&*near).unwrap(), 1_000_000);
        writer.join();
        server.join();
    });
}

#[test]
fn operations_of_ones_own_wait_until_they_can_be_done() {
    everywhere(|place| {
        let counter = Arc::new(counter());
        let waiting = counter.clone();
        let reader = place.spawn_waiting(move || {
            [(); 3]
                .map(|()| waiting.read_with(take).unwrap())
                .iter()
                .sum::<u64>()
        });
        for n in 1..=3 {
            add(&*counter, n * 10);
            // A counter adds up what nobody has taken, so the others would never come.
            support::wait_until(|| counter.readable_timeout(Duration::ZERO).is_err());
        }
        assert_eq!(reader.join(), 60);

        // It is full at its largest value, and then writes wait.
        add(&*counter, u64::MAX - 1);
        let waiting = counter.clone();
        let writer = place.spawn_waiting(move || {
            waiting
                .write_with(|fd| Ok(rustix::io::write(fd, &5u64.to_ne_bytes())?))
                .unwrap();
        });
        assert_eq!(counter.read_with(take).unwrap(), u64::MAX - 1);
        writer.join();
        assert_eq!(counter.read_with(take).unwrap(), 5);
    });
}

#[test]
fn vectored_operations_go_through() {
    everywhere(|_| {
        let (mut reader, mut writer) = pipe();
        assert_eq!(
            writer
                .write_vectored(&[IoSlice::new(b"one "), IoSlice::new(b"two")])
                .unwrap(),
            7
        );
        let (mut first, mut second) = ([0; 2], [0; 10]);
        assert_eq!(
            reader
                .read_vectored(&mut [&mut first[..], &mut second[..]].map(IoSliceMut::new))
                .unwrap(),
            7
        );
        assert_eq!((&first, &second[..5]), (b"on", &b"e two"[..]));
        writer.flush().unwrap();
        let pair = pair();
        let (mut near, mut far) = (&pair.0, &pair.1);
        assert_eq!(
            near.write_vectored(&[IoSlice::new(b"one "), IoSlice::new(b"two")])
                .unwrap(),
            7
        );
        assert_eq!(
            far.read_vectored(&mut [IoSliceMut::new(&mut second)])
                .unwrap(),
            7
        );
        near.flush().unwrap();
    });
}

#[test]
fn the_value_may_be_borrowed_and_shared() {
    everywhere(|_| {
        let (reader, mut writer) = io::pipe().unwrap();
        let (one, other) = (
            Pollable::new(&reader).unwrap(),
            Pollable::new(reader.as_fd()).unwrap(),
        );
        writer.write_all(b"data").unwrap();
        one.readable().unwrap();
        other.readable().unwrap();
        let read = other.read_with(|fd: &BorrowedFd<'_>| Ok(rustix::io::read(fd, &mut [0; 8])?));
        assert_eq!(read.unwrap(), 4);
        assert_eq!(
            one.readable_timeout(SHORT).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
    });
}

#[test]
fn an_operation_may_itself_wait_for_something_else() {
    everywhere(|place| {
        let (near, far) = pair();
        let other = place.spawn(move || echo(&far));
        let counter = Arc::new(counter());
        let waiting = counter.clone();
        let reader = place.spawn_waiting(move || {
            waiting.read_with(|fd| {
                ask(&near, 7);
                take(fd)
            })
        });
        add(&*counter, 3);
        assert_eq!(reader.join().unwrap(), 3);
        other.join();
    });
}

#[test]
fn what_an_operation_fails_with_is_passed_on_and_an_interrupted_one_is_run_again() {
    everywhere(|_| {
        let counter = counter();
        let error = counter
            .read_with(|_| Err::<(), _>(io::Error::other("mine")))
            .unwrap_err();
        assert_eq!(error.to_string(), "mine");
        let mut interruptions = 3;
        let result = counter.write_with(|_| {
            if interruptions > 0 {
                interruptions -= 1;
                return Err(ErrorKind::Interrupted.into());
            }
            Ok(42)
        });
        assert_eq!((result.unwrap(), interruptions), (42, 0));
    });
}

// Readiness

#[test]
fn readiness_is_told_as_long_as_it_lasts() {
    everywhere(|_| {
        let (mut reader, mut writer) = pipe();
        assert_eq!(
            reader.readable_timeout(SHORT).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        writer.writable().unwrap();
        writer.write_all(b"data").unwrap();
        for _ in 0..3 {
            reader.readable().unwrap();
            writer.writable().unwrap();
        }
        assert_eq!(reader.read(&mut [0; 8]).unwrap(), 4);
        assert_eq!(
            reader.readable_timeout(SHORT).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        drop(writer);
        reader.readable().unwrap();
        reader.readable().unwrap();
    });
}

#[test]
fn all_who_wait_for_readiness_are_told() {
    everywhere(|place| {
        let counter = Arc::new(counter());
        let waiting: Vec<_> = (0..10)
            .map(|_| {
                let counter = counter.clone();
                place.spawn_waiting(move || counter.readable().unwrap())
            })
            .collect();
        add(&*counter, 1);
        waiting.into_iter().for_each(Handle::join);
        assert_eq!(counter.read_with(take).unwrap(), 1);
    });
}

// The end

#[test]
fn a_waiting_read_sees_the_end_when_the_writer_goes() {
    everywhere(|place| {
        let (mut reader, writer) = pipe();
        let waiting = place.spawn_waiting(move || reader.read(&mut [0; 8]).unwrap());
        drop(writer);
        assert_eq!(waiting.join(), 0);
    });
}

#[test]
fn a_waiting_write_fails_when_the_reader_goes() {
    everywhere(|place| {
        let (reader, writer) = pipe();
        let waiting =
            place.spawn_waiting(move || write_pattern(writer, 16 << 20).unwrap_err().kind());
        drop(reader);
        assert_eq!(waiting.join(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn a_half_closed_connection_still_carries_data_the_other_way_and_a_reset_is_told() {
    everywhere(|place| {
        let (near, far) = pair();
        let server = place.spawn_waiting(move || {
            assert_eq!(read_pattern(&far).unwrap(), 0);
            write_pattern(&far, 100_000).unwrap();
        });
        near.get_ref().shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_pattern(&near).unwrap(), 100_000);
        server.join();

        let (mut near, far) = pair();
        near.write_all(b"never read").unwrap();
        let reader = place.spawn_waiting(move || near.read(&mut [0; 64]).unwrap_err().kind());
        drop(far);
        assert_eq!(reader.join(), ErrorKind::ConnectionReset);
    });
}

// Time-outs

#[test]
fn every_wait_can_be_limited_and_what_has_timed_out_has_not_happened() {
    everywhere(|place| {
        let (mut reader, writer) = pipe();
        let soon = || Instant::now() + SHORT;
        let read = |mut reader: &PipeReader| reader.read(&mut [0; 8]);
        let began = Instant::now();
        let errors = [
            reader.readable_timeout(SHORT).unwrap_err(),
            reader.readable_deadline(soon()).unwrap_err(),
            reader.read_with_timeout(SHORT, read).unwrap_err(),
            reader.read_with_deadline(soon(), read).unwrap_err(),
        ];
        assert!(began.elapsed() >= 4 * SHORT);
        assert!(
            errors
                .iter()
                .all(|error| error.kind() == ErrorKind::TimedOut),
            "{errors:?}"
        );

        let mut len = 0;
        let mut write =
            |mut writer: &PipeWriter| writer.write(&pattern(len, 1)).inspect(|n| len += n);
        while writer.write_with_timeout(SHORT, &mut write).is_ok() {}
        let errors = [
            writer.writable_timeout(SHORT).unwrap_err(),
            writer.writable_deadline(soon()).unwrap_err(),
            writer.write_with_timeout(SHORT, &mut write).unwrap_err(),
            writer.write_with_deadline(soon(), &mut write).unwrap_err(),
        ];
        assert!(
            errors
                .iter()
                .all(|error| error.kind() == ErrorKind::TimedOut),
            "{errors:?}"
        );
        let reading = place.spawn_waiting(move || {
            let len = reader.read_with_timeout(LONG, read).unwrap();
            reader.readable_deadline(Instant::now() + LONG).unwrap();
            reader.read_exact(&mut vec![0; 1 << 20]).unwrap_err();
            len
        });
        writer.writable_timeout(LONG).unwrap();
        writer
            .write_with_deadline(Instant::now() + LONG, &mut write)
            .unwrap();
        drop(writer);
        assert_eq!(reading.join(), 8);
    });
}

#[test]
fn a_scope_that_is_over_ends_every_wait() {
    everywhere(|_| {
        let counter = counter();
        assert!(thread::timeout(SHORT, || counter.readable()).is_err());
        assert!(thread::timeout(SHORT, || counter.read_with(take)).is_err());
        assert!(thread::timeout(SHORT, || counter.read_with_timeout(LONG, take)).is_err());
        add(&counter, 5);
        assert_eq!(
            thread::timeout(LONG, || counter.read_with(take).unwrap()),
            Ok(5)
        );
    });
}

// Several threads on one

#[test]
fn each_byte_goes_to_one_of_the_readers_whoever_writes_it() {
    everywhere(|place| {
        let (reader, writer) = pipe();
        let (reader, writer, counts) = (
            Arc::new(reader),
            Arc::new(writer),
            Arc::new(Mutex::new([0; 256])),
        );
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (reader, counts) = (reader.clone(), counts.clone());
                place.spawn_waiting(move || {
                    let mut buffer = [0; 7];
                    while let n @ 1.. = (&*reader).read(&mut buffer).unwrap() {
                        let mut counts = counts.lock().unwrap();
                        buffer[..n]
                            .iter()
                            .for_each(|&byte| counts[usize::from(byte)] += 1);
                    }
                })
            })
            .collect();
        let writers: Vec<_> = (0..3)
            .map(|_| {
                let writer = writer.clone();
                place.spawn(move || {
                    (0..=255).for_each(|byte| (&*writer).write_all(&[byte; 100]).unwrap())
                })
            })
            .collect();
        writers.into_iter().for_each(Handle::join);
        drop(writer);
        readers.into_iter().for_each(Handle::join);
        assert_eq!(*counts.lock().unwrap(), [300; 256]);
    });
}

/// Takes the socket, asks a question, gives it back; `rounds` times.
fn play(ball: &Ball<Pollable<UnixStream>>, me: usize, rounds: u64) {
    for round in 0..rounds {
        let stream = ball.take(me);
        ask(&stream, round);
        ball.give(1 - me, stream);
    }
}

#[test]
fn it_may_be_used_by_one_worker_after_the_other() {
    on_workers(2, || {
        let (near, far) = pair();
        thread::spawn(move || echo(&far));
        let ball = Ball::new();
        ball.give(0, near);
        let other = ball.clone();
        let other = on_another_worker(move || play(&other, 1, 500));
        play(&ball, 0, 500);
        other.join().unwrap();
    });
}

#[test]
fn it_may_be_used_by_green_threads_and_os_threads_in_turn() {
    on_one_and_two(|_| {
        let (near, far) = pair();
        thread::spawn(move || echo(&far));
        let ball = Ball::new();
        ball.give(0, near);
        let other = ball.clone();
        let other = std::thread::spawn(move || play(&other, 1, 500));
        play(&ball, 0, 500);
        ball.take(0);
        other.join().unwrap();
    });
}

// Descriptors that come and go

#[test]
fn whoever_waits_goes_on_when_a_clone_is_closed() {
    everywhere(|place| {
        let (reader, mut writer) = pipe();
        let clone = reader.get_ref().try_clone().unwrap();
        let reader = Arc::new(reader);
        let waiting = reader.clone();
        let waiting = place.spawn_waiting(move || (&*waiting).read(&mut [0; 8]).unwrap());
        drop((clone, reader));
        writer.write_all(b"data").unwrap();
        assert_eq!(waiting.join(), 4);
        let kind = writer.write(b"x").unwrap_err().kind();
        assert_eq!(
            kind,
            ErrorKind::BrokenPipe,
            "with the last handle the reading end is gone"
        );
    });
}

#[test]
fn what_is_waited_for_stays_though_the_value_gets_another_descriptor_in_its_place() {
    // Alone in its process: other tests would take the number.
    if !is_child() {
        return passes_in_child(
            "what_is_waited_for_stays_though_the_value_gets_another_descriptor_in_its_place",
        );
    }
    everywhere(|_| {
        let (mut reader, mut writer) = pipe();
        assert!(reader.readable_timeout(SHORT).is_err(), "it is registered");
        let number = reader.as_raw_fd();
        let (other, mut other_writer) = io::pipe().unwrap();
        drop(std::mem::replace(reader.get_mut(), other));
        // The number is free, and this takes it.
        let stranger = eventfd(7, EventfdFlags::CLOEXEC).unwrap();
        assert_eq!(stranger.as_raw_fd(), number);
        other_writer.write_all(b"x").unwrap();
        assert!(
            reader.readable_timeout(SHORT).is_err(),
            "neither the stranger nor the new one counts"
        );
        writer.write_all(b"old").unwrap();
        reader.readable().unwrap();
        assert_eq!(
            reader.read(&mut [0; 8]).unwrap(),
            1,
            "but what is read is the new one"
        );
    });
}

#[test]
fn what_the_system_cannot_tell_of_is_refused() {
    everywhere(|_| {
        let executable = std::env::current_exe().unwrap();
        for path in [
            &*executable,
            executable.parent().unwrap(),
            "/dev/null".as_ref(),
        ] {
            let file = File::open(path).unwrap();
            let error = Pollable::new(&file).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{path:?}: {error}");
            assert!(error.to_string().contains("ready"), "{error}");
            assert!(!is_nonblocking(&file), "and left as it was");
        }
    });
}

#[test]
fn the_mode_of_the_open_file_is_put_back() {
    bounded(|| {
        let (reader, _writer) = io::pipe().unwrap();
        let reader = Pollable::new(reader).unwrap();
        assert!(is_nonblocking(&reader));
        let reader = reader.into_inner();
        assert!(!is_nonblocking(&reader));
        rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK).unwrap();
        assert!(
            is_nonblocking(Pollable::new(reader).unwrap().into_inner()),
            "it was so before"
        );
    });
}

#[test]
fn it_leaves_no_descriptor_behind() {
    if !is_child() {
        return passes_in_child("it_leaves_no_descriptor_behind");
    }
    let before = open_descriptors();
    everywhere(|place| {
        let before = open_descriptors();
        for _ in 0..100 {
            let (near, far) = pair();
            assert_eq!(
                open_descriptors(),
                before + 4,
                "its own, and the one that is waited for"
            );
            let server = place.spawn(move || echo(&far));
            ask(&near, 1);
            drop(near.into_inner());
            server.join();
        }
        assert_eq!(open_descriptors(), before, "{place:?}");
    });
    assert_eq!(open_descriptors(), before);
}

// Cancellation

#[test]
fn whoever_waits_can_be_cancelled_and_nothing_is_lost() {
    on_one_and_two(|place| {
        let counter = Arc::new(counter());
        let [ready, ready_timeout, with, with_timeout] = [(); 4].map(|()| counter.clone());
        assert_cancelled(place, move || ready.readable());
        assert_cancelled(place, move || ready_timeout.readable_timeout(LONG));
        assert_cancelled(place, move || with.read_with(take));
        assert_cancelled(place, move || with_timeout.read_with_timeout(LONG, take));
        add(&*counter, u64::MAX - 1);
        let [ready, with] = [(); 2].map(|()| counter.clone());
        assert_cancelled(place, move || ready.writable());
        assert_cancelled(place, move || {
            with.write_with(|fd| Ok(rustix::io::write(fd, &5u64.to_ne_bytes())?))
        });
        assert_eq!(counter.read_with(take).unwrap(), u64::MAX - 1);

        let (mut reader, mut writer) = pipe();
        assert_cancelled(place, move || reader.read(&mut [0; 8]));
        let (_reader, full) = pipe();
        assert_cancelled(place, move || write_pattern(full, 16 << 20));
        assert_eq!(
            writer.write(b"x").unwrap_err().kind(),
            ErrorKind::BrokenPipe,
            "its reader was unwound"
        );
    });
}

#[test]
fn a_wait_in_a_destructor_of_a_cancelled_thread_fails_at_once() {
    struct WaitsOnDrop(Pollable<OwnedFd>, Arc<Mutex<Vec<ErrorKind>>>);
    impl Drop for WaitsOnDrop {
        fn drop(&mut self) {
            let kinds = [
                self.0.readable().unwrap_err().kind(),
                self.0.read_with(take).unwrap_err().kind(),
            ];
            self.1.lock().unwrap().extend(kinds);
        }
    }
    on_one_and_two(|place| {
        let results = Arc::new(Mutex::new(Vec::new()));
        let waits = WaitsOnDrop(counter(), results.clone());
        assert_cancelled(place, move || waits.0.readable());
        let results = results.lock().unwrap();
        assert!(
            results.len() == 2 && !results.contains(&ErrorKind::Interrupted),
            "{results:?}"
        );
    });
}

#[test]
fn threads_that_wait_are_unwound_when_the_runtime_ends() {
    for workers in [1, 2] {
        let dropped = Arc::new(AtomicUsize::new(0));
        on_workers(workers, || {
            let place = Place::Workers(workers);
            let [one, other] = [(); 2].map(|()| Guard(dropped.clone()));
            let (ready, with) = (counter(), counter());
            place.spawn_waiting(move || (one, ready.readable()).1);
            place.spawn_waiting(move || (other, with.read_with(take)).1);
        });
        assert_eq!(dropped.load(SeqCst), 2, "{workers} workers");
    }
}

#[test]
fn it_describes_itself_and_is_as_shareable_as_its_value() {
    fn has_them<T: Send + Sync + Unpin + UnwindSafe + RefUnwindSafe>() {}
    has_them::<Pollable<UnixStream>>();
    bounded(|| {
        let counter = counter();
        assert_eq!(
            format!("{counter:?}"),
            format!("Pollable({:?})", counter.get_ref())
        );
    });
}

#[test]
fn drop_and_cancellation_give_the_mode_back() {
    on_workers(1, || {
        let (reader, writer) = io::pipe().unwrap();
        drop(Pollable::new(reader.try_clone().unwrap()).unwrap());
        assert!(!is_nonblocking(&reader));
        let pollable = Pollable::new(reader.try_clone().unwrap()).unwrap();
        let second = Pollable::new(reader.try_clone().unwrap()).unwrap();
        let waiting = thread::spawn(move || (&pollable).read(&mut [0]).map(drop));
        thread::yield_now();
        assert!(is_nonblocking(&reader) && !is_nonblocking(&writer));
        waiting.cancel();
        assert!(waiting.join().is_err());
        assert!(is_nonblocking(&reader), "another one still needs it");
        drop(second.into_inner());
        assert!(!is_nonblocking(&reader));
    });
}
