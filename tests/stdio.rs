//! Standard input, output and error. Each test talks to itself in a process of its own.

#![cfg(feature = "runtime")]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hebra::io::{stderr, stdin, stdout};
use hebra::{io, thread};

use support::{bounded, is_child, on_workers, wait_until};

mod support;

/// The same test in a process of its own, with pipes.
struct Other {
    process: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Other {
    /// Starts it, and skips what the test runner says first.
    fn start(test: &str) -> Other {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env("HEBRA_CHILD", "1");
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        while line.trim() != "ready" {
            line.clear();
            assert!(output.read_line(&mut line).unwrap() > 0, "it has ended");
            line = line.rsplit("... ").next().unwrap().to_owned();
        }
        Other { process, output }
    }

    fn say(&mut self, text: &str) {
        self.process
            .stdin
            .as_mut()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }

    /// Closes its input, and returns what it has written since, without what the test runner says
    /// last.
    fn end(mut self) -> String {
        drop(self.process.stdin.take());
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        let mut complaints = String::new();
        self.process
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut complaints)
            .unwrap();
        assert!(self.process.wait().unwrap().success(), "{rest}{complaints}");
        let end = rest
            .rfind("ok\n\ntest result: ok")
            .or_else(|| rest.rfind(".\n\ntest result: ok"));
        rest.truncate(end.expect("the test runner's last words"));
        rest
    }
}

/// In the other process: runs `there` on one worker, and says that it does.
fn there(body: impl FnOnce()) {
    on_workers(1, || {
        writeln!(stdout(), "ready").unwrap();
        body();
    });
}

/// What the test `name` does in the other process, and what it does here.
fn test(name: &str, in_other: impl FnOnce(), here: impl FnOnce(Other)) {
    if is_child() {
        there(in_other)
    } else {
        bounded(|| here(Other::start(name)))
    }
}

#[test]
fn lines_are_read() {
    test(
        "lines_are_read",
        || {
            let mut line = String::new();
            assert_eq!(stdin().read_line(&mut line).unwrap(), 6);
            assert_eq!(line, "first\n");
            assert_eq!(stdin().read_line(&mut line).unwrap(), 7);
            assert_eq!(line, "first\nsecond\n");
            let mut some = [0; 4];
            stdin().read_exact(&mut some).unwrap();
            assert_eq!(&some, b"thir");
            let mut until = Vec::new();
            stdin().lock().read_until(b' ', &mut until).unwrap();
            assert_eq!(until, b"d, ");
            let lines: Vec<String> = stdin().lines().map(Result::unwrap).collect();
            assert_eq!(lines, ["longer", "", "last"]);
            assert_eq!(stdin().read_line(&mut line).unwrap(), 0);
            assert_eq!(io::read_to_string(stdin()).unwrap(), "");
        },
        |mut other| {
            other.say("first\nsecond\nthird, longer\n\nlast");
            other.end();
        },
    );
}

#[test]
fn all_is_read() {
    const LEN: usize = 1_000_000;
    test(
        "all_is_read",
        || {
            let mut line = String::new();
            stdin().read_line(&mut line).unwrap();
            let text = io::read_to_string(stdin()).unwrap();
            assert!(text.len() == LEN && text.bytes().all(|byte| byte == b'x'));
            let mut none = Vec::new();
            assert_eq!(stdin().read_to_end(&mut none).unwrap(), 0);
        },
        |mut other| {
            other.say("a line\n");
            other.say(&"x".repeat(LEN));
            other.end();
        },
    );
}

#[test]
fn others_run_while_one_waits_for_input() {
    test(
        "others_run_while_one_waits_for_input",
        || {
            let reader = thread::spawn(|| {
                let mut line = String::new();
                stdin().read_line(&mut line).unwrap();
                line
            });
            // The answer comes after this only.
            writeln!(stdout(), "go on").unwrap();
            assert_eq!(reader.join().unwrap(), "so I do\n");
        },
        |mut other| {
            assert_eq!(other.line(), "go on\n");
            other.say("so I do\n");
            other.end();
        },
    );
}

#[test]
fn a_line_that_was_given_up_in_the_middle_is_read_whole() {
    test(
        "a_line_that_was_given_up_in_the_middle_is_read_whole",
        || {
            let mut lock = stdin().lock();
            let short = Duration::from_millis(1);
            let mut line = String::new();
            for _ in 0..100 {
                assert!(thread::timeout(short, || lock.read_line(&mut line)).is_err());
                assert!(thread::timeout(short, || lock.read_to_end(&mut Vec::new())).is_err());
            }
            drop(lock);
            let mut piece = [0; 1];
            writeln!(stdout(), "the rest").unwrap();
            assert_eq!(stdin().read_line(&mut line).unwrap(), 8);
            assert_eq!(line, "partial\n");
            assert!(thread::timeout(short, || stdin().lock().fill_buf().map(drop)).is_err());
            writeln!(stdout(), "more").unwrap();
            stdin().read_exact(&mut piece).unwrap();
            assert_eq!(&piece, b"x");
        },
        |mut other| {
            other.say("par");
            assert_eq!(other.line(), "the rest\n");
            other.say("tial\n");
            assert_eq!(other.line(), "more\n");
            other.say("x");
            other.end();
        },
    );
}

#[test]
fn of_two_readers_each_gets_whole_lines() {
    test(
        "of_two_readers_each_gets_whole_lines",
        || {
            let count = Arc::new(AtomicUsize::new(0));
            let readers = [(); 4].map(|()| {
                let count = count.clone();
                thread::spawn(move || {
                    let mut line = String::new();
                    while stdin().read_line(&mut line).unwrap() > 0 {
                        let (name, number) = line.trim().split_once(' ').unwrap();
                        assert_eq!(name, "line");
                        count.fetch_add(number.parse().unwrap(), Ordering::SeqCst);
                        line.clear();
                    }
                })
            });
            readers
                .into_iter()
                .for_each(|reader| reader.join().unwrap());
            assert_eq!(count.load(Ordering::SeqCst), (0..1000).sum());
        },
        |mut other| {
            (0..1000).for_each(|n| other.say(&format!("line {n}\n")));
            other.end();
        },
    );
}

#[test]
fn a_reader_that_does_not_read_keeps_only_the_writer_waiting() {
    const LINES: usize = 20_000;
    test(
        "a_reader_that_does_not_read_keeps_only_the_writer_waiting",
        || {
            let writer = thread::spawn(|| {
                (0..LINES / 100).for_each(|n| {
                    let lines: String = (n * 100..n * 100 + 100)
                        .map(|n| format!("line {n}\n"))
                        .collect();
                    stdout().write_all(lines.as_bytes()).unwrap();
                })
            });
            // Which fills the pipe, and has to wait.
            thread::sleep(Duration::from_millis(50));
            assert!(!writer.is_finished());
            writeln!(stderr(), "still here").unwrap();
            writer.join().unwrap();
        },
        |mut other| {
            let mut told = String::new();
            BufReader::new(other.process.stderr.as_mut().unwrap())
                .read_line(&mut told)
                .unwrap();
            assert_eq!(told, "still here\n");
            (0..LINES).for_each(|n| assert_eq!(other.line(), format!("line {n}\n")));
            other.end();
        },
    );
}

#[test]
fn what_std_prints_keeps_its_place() {
    test(
        "what_std_prints_keeps_its_place",
        || {
            for n in 0..10 {
                writeln!(stdout(), "ours {n}").unwrap();
                // Not `println!`, which the test runner may catch.
                writeln!(std::io::stdout(), "std's {n}").unwrap();
            }
            write!(stdout(), "without an end").unwrap();
            stdout().flush().unwrap();
        },
        |mut other| {
            for n in 0..10 {
                assert_eq!(other.line(), format!("ours {n}\n"));
                assert_eq!(other.line(), format!("std's {n}\n"));
            }
            assert!(other.end().starts_with("without an end"));
        },
    );
}

#[test]
fn who_locks_it_is_not_interrupted_and_may_lock_it_again() {
    test(
        "who_locks_it_is_not_interrupted_and_may_lock_it_again",
        || {
            let writers = [(); 10].map(|()| {
                thread::spawn(|| {
                    for n in 0..20 {
                        let mut lock = stdout().lock();
                        write!(lock, "a {n} ").unwrap();
                        thread::yield_now();
                        let mut again = stdout().lock();
                        write!(again, "b {n} ").unwrap();
                        drop(again);
                        write!(stdout(), "c {n} ").unwrap();
                        lock.write_all(b"d\n").unwrap();
                    }
                })
            });
            writers
                .into_iter()
                .for_each(|writer| writer.join().unwrap());
        },
        |mut other| {
            for _ in 0..200 {
                let line = other.line();
                let n = line.split(' ').nth(1).unwrap();
                assert_eq!(line, format!("a {n} b {n} c {n} d\n"));
            }
            other.end();
        },
    );
}

#[test]
fn a_destructor_of_a_cancelled_thread_can_still_write() {
    struct Says(&'static str);
    impl Drop for Says {
        fn drop(&mut self) {
            writeln!(stdout(), "{}", self.0).unwrap();
        }
    }
    test(
        "a_destructor_of_a_cancelled_thread_can_still_write",
        || {
            let started = Arc::new(AtomicBool::new(false));
            let in_thread = started.clone();
            let cancelled = thread::spawn(move || {
                let _says = Says("farewell");
                in_thread.store(true, Ordering::SeqCst);
                thread::park();
            });
            wait_until(|| started.load(Ordering::SeqCst));
            cancelled.cancel();
            assert!(cancelled.join().is_err());
        },
        |mut other| {
            assert_eq!(other.line(), "farewell\n");
            other.end();
        },
    );
}

#[test]
fn the_end_of_the_process_writes_out_what_is_buffered() {
    if is_child() {
        there(|| write!(stdout(), "without an end").unwrap());
        std::process::exit(0);
    }
    bounded(|| {
        let mut other = Other::start("the_end_of_the_process_writes_out_what_is_buffered");
        assert_eq!(other.line(), "without an end");
    });
}

#[test]
fn lock_moved_to_another_thread_is_held_by_that_one() {
    test(
        "lock_moved_to_another_thread_is_held_by_that_one",
        || {
            static HAS_WRITTEN: AtomicBool = AtomicBool::new(false);
            let mut lock = stdout().lock();
            write!(lock, "a ").unwrap();
            let other = thread::spawn_local(move || {
                write!(lock, "b ").unwrap();
                HAS_WRITTEN.store(true, Ordering::SeqCst);
                thread::yield_now();
                write!(stdout(), "c ").unwrap();
                drop(stdout().lock());
                lock.write_all(b"d\n").unwrap();
                lock.flush().unwrap();
            });
            wait_until(|| HAS_WRITTEN.load(Ordering::SeqCst));
            // The first has it no longer.
            writeln!(stdout(), "e").unwrap();
            other.join().unwrap();
            let mut errors = stderr().lock();
            let other = thread::spawn_local(move || writeln!(errors, "not lost").unwrap());
            other.join().unwrap();
            let mut input = stdin().lock();
            let other = thread::spawn_local(move || {
                let mut line = String::new();
                input.read_line(&mut line).unwrap();
                write!(stdout(), "{line}").unwrap();
            });
            other.join().unwrap();
        },
        |mut other| {
            assert_eq!(other.line(), "a b c d\n");
            assert_eq!(other.line(), "e\n");
            other.say("f\n");
            assert_eq!(other.line(), "f\n");
            other.end();
        },
    );
}
