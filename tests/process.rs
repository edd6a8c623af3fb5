//! Child processes.

#![cfg(feature = "runtime")]

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use hebra::channel::readable;
use hebra::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use hebra::thread;
use rustix::process::{
    Pid, Resource, Rlimit, WaitOptions, getrlimit, setrlimit, test_kill_process, waitpid,
};

use support::place::{Ball, everywhere as everywhere_and_on_two, on_another_worker};
use support::{bounded, is_child, on_workers, passes_in_child, wait_until};

mod support;

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(script);
    command
}

/// Runs a test on a green thread, and on a plain OS thread.
fn everywhere(test: impl Fn()) {
    on_workers(1, &test);
    bounded(&test);
}

/// Runs the test once more in a process of its own; `false` in the parent.
fn in_a_process_of_its_own(test: &str) -> bool {
    if is_child() {
        return true;
    }
    bounded(|| passes_in_child(test));
    false
}

/// Refuses new descriptors, and returns the limit from before.
fn limit_descriptors() -> Rlimit {
    let limit = getrlimit(Resource::Nofile);
    let current = Some(3);
    let maximum = limit.maximum;
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).unwrap();
    limit
}

fn exists(pid: u32) -> bool {
    test_kill_process(Pid::from_raw(pid.cast_signed()).unwrap()).is_ok()
}

fn open_descriptors() -> BTreeSet<String> {
    let name = |entry: io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        // One of them is that of this look, and is gone by now.
        let target = std::fs::read_link(&path).ok()?;
        Some(format!("{} -> {}", path.display(), target.display()))
    };
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(name)
        .collect()
}

/// Children of this process, the dead ones among them.
fn children() -> Vec<String> {
    let own = std::process::id().to_string();
    let stats = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let stat = std::fs::read_to_string(entry.unwrap().path().join("stat")).ok()?;
        let (_, rest) = stat.rsplit_once(") ")?;
        (rest.split(' ').nth(1)? == own).then_some(stat)
    });
    stats.collect()
}

#[test]
fn a_command_is_run_as_stds_runs_it() {
    everywhere(|| {
        let output = sh("echo $0 $1 $A $B; pwd; echo complaint >&2; exit 3")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(3));
        assert_eq!(output.stderr, b"complaint\n");
        let output = sh("echo \"$0 $1 $A $B\"; pwd")
            .args(["zero", "one"])
            .env("A", "a")
            .envs([("B", "b"), ("C", "c")])
            .env_remove("C")
            .current_dir("/")
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            "zero one a b\n/\n"
        );
        assert_eq!(
            Command::new("/bin/sh")
                .args(["-c", "echo $HOME"])
                .env_clear()
                .output()
                .unwrap()
                .stdout,
            b"\n"
        );
        assert_eq!(sh("exit 7").status().unwrap().code(), Some(7));
        assert_eq!(sh("kill -9 $$").status().unwrap().signal(), Some(9));
        assert_eq!(
            Command::new("there is no such program")
                .spawn()
                .unwrap_err()
                .kind(),
            ErrorKind::NotFound
        );
        assert_eq!(
            sh("")
                .current_dir("/no such directory")
                .output()
                .unwrap_err()
                .kind(),
            ErrorKind::NotFound
        );
        assert_eq!(
            sh("echo $0").arg0("other").output().unwrap().stdout,
            b"other\n"
        );
        let command = &mut sh("true");
        assert_eq!(command.get_program(), "sh");
        assert!(command.get_args().eq(["-c", "true"]));
        assert_eq!(command.get_current_dir(), None);
        assert_eq!(command.env("A", "b").get_envs().count(), 1);
    });
}

#[test]
fn a_command_can_be_started_more_than_once() {
    everywhere(|| {
        let mut command = sh("cat; echo once");
        for _ in 0..3 {
            // Reads from nothing, and writes to a pipe.
            assert_eq!(command.output().unwrap().stdout, b"once\n");
        }
        // What was chosen stays chosen, and what was not is inherited again.
        assert_eq!(command.stdout(Stdio::null()).output().unwrap().stdout, b"");
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        assert!(child.stdout.is_none() && child.stderr.is_none());
        assert!(child.wait_with_output().unwrap().status.success());
    });
}

#[test]
fn data_goes_both_ways_until_the_pipe_is_closed() {
    everywhere(|| {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut stdin, mut stdout) = (
            child.stdin.take().unwrap(),
            BufReader::new(child.stdout.take().unwrap()),
        );
        for n in 0..100 {
            writeln!(stdin, "line {n}").unwrap();
            let mut line = String::new();
            stdout.read_line(&mut line).unwrap();
            assert_eq!(line, format!("line {n}\n"));
        }
        assert!(child.try_wait().unwrap().is_none());
        drop(stdin);
        assert_eq!(stdout.read(&mut [0]).unwrap(), 0);
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn writing_to_a_child_that_is_gone_is_a_broken_pipe() {
    everywhere(|| {
        let mut child = sh("exit").stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        child.wait().unwrap();
        assert_eq!(stdin.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

/// Sends a number through a `cat`, and reads it.
fn ask((input, output): &(ChildStdin, ChildStdout), question: u64) -> u64 {
    let (mut input, mut output, mut answer) = (input, output, [0; 8]);
    input.write_all(&question.to_ne_bytes()).unwrap();
    output.read_exact(&mut answer).unwrap();
    u64::from_ne_bytes(answer)
}

#[test]
fn pipes_may_be_used_by_one_worker_after_the_other_and_by_os_threads() {
    on_workers(2, || {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let pipes = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let play = |ball: &Ball<_>, me: usize| {
            for n in 0..100 {
                let pipes = ball.take(me);
                assert_eq!(ask(&pipes, n), n);
                ball.give(1 - me, pipes);
            }
        };
        let ball = Ball::new();
        ball.give(0, pipes);
        let other = ball.clone();
        let other = on_another_worker(move || play(&other, 1));
        play(&ball, 0);
        other.join().unwrap();
        let other = ball.clone();
        let other = std::thread::spawn(move || play(&other, 1));
        play(&ball, 0);
        other.join().unwrap();
        drop(ball.take(0));
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn two_readers_and_two_writers_share_the_pipes_of_a_child() {
    const LEN: usize = 300_000;
    everywhere_and_on_two(|place| {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (
            Arc::new(child.stdin.take().unwrap()),
            Arc::new(child.stdout.take().unwrap()),
        );
        let writers = [(); 2].map(|()| {
            let input = input.clone();
            place.spawn(move || (&*input).write_all(&vec![0; LEN]).unwrap())
        });
        let readers = [(); 2].map(|()| {
            let output = output.clone();
            place.spawn(move || {
                let (mut buffer, mut read) = ([0; 5000], 0);
                while let n @ 1.. = (&*output).read(&mut buffer).unwrap() {
                    read += n;
                }
                read
            })
        });
        drop(input);
        writers.into_iter().for_each(|writer| writer.join());
        assert_eq!(
            readers
                .into_iter()
                .map(|reader| reader.join())
                .sum::<usize>(),
            2 * LEN
        );
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn a_read_from_a_child_that_is_silent_can_be_given_up() {
    everywhere(|| {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let given_up = thread::timeout(Duration::from_millis(20), || (&output).read(&mut [0; 8]));
        assert!(given_up.is_err());
        (&input).write_all(b"words").unwrap();
        assert_eq!((&output).read(&mut [0; 8]).unwrap(), 5, "nothing is lost");
        // A pipe that is full, as nobody reads at the other end.
        let given_up = thread::timeout(Duration::from_millis(20), || {
            (&input).write_all(&vec![0; 1 << 20])
        });
        assert!(given_up.is_err());
        assert!(thread::timeout(Duration::from_millis(20), || child.wait()).is_err());
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
    });
}

#[test]
fn waiting_closes_the_pipe_that_the_child_reads_from() {
    everywhere(|| {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        assert!(child.wait().unwrap().success());
        let child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        (child.stdin.as_ref().unwrap()).write_all(b"words").unwrap();
        assert_eq!(child.wait_with_output().unwrap().stdout, b"words");
    });
}

#[test]
fn a_hundred_megabytes_on_both_pipes_are_collected() {
    everywhere(|| {
        let output = sh("head -c 104857600 /dev/zero & head -c 104857600 /dev/zero >&2; wait")
            .output()
            .unwrap();
        assert_eq!(
            (output.stdout.len(), output.stderr.len()),
            (100 << 20, 100 << 20)
        );
        // One after the other, the second one first.
        let output = sh("head -c 1000000 /dev/zero >&2; head -c 1000000 /dev/zero")
            .output()
            .unwrap();
        assert_eq!(
            (output.stdout.len(), output.stderr.len()),
            (1_000_000, 1_000_000)
        );
    });
}

#[test]
fn others_run_while_one_waits_for_a_child() {
    on_workers(1, || {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let waits = thread::spawn(move || child.wait());
        // It ends because this one goes on.
        thread::sleep(Duration::from_millis(2));
        assert!(!waits.is_finished());
        drop(stdin);
        assert!(waits.join().unwrap().unwrap().success());
    });
}

#[test]
fn an_end_is_told_as_often_as_one_asks() {
    everywhere(|| {
        let mut child = sh("exit 5").spawn().unwrap();
        for _ in 0..3 {
            assert_eq!(child.wait().unwrap().code(), Some(5));
            assert_eq!(child.try_wait().unwrap().unwrap().code(), Some(5));
        }
        child.kill().unwrap();

        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        assert!(child.try_wait().unwrap().is_none());
        assert!(exists(child.id()));
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        assert!(!exists(child.id()));
    });
}

#[test]
fn a_wait_that_was_given_up_can_be_taken_up_again() {
    everywhere(|| {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        for _ in 0..3 {
            assert!(thread::timeout(Duration::from_millis(1), || child.wait()).is_err());
        }
        drop(stdin);
        assert!(child.wait().unwrap().success());
    });
}

#[test]
fn a_cancelled_output_or_status_kills_the_child() {
    everywhere(|| {
        let (name, pid_of) = {
            let name = std::env::temp_dir().join(format!(
                "hebra-process-{}-{:?}",
                std::process::id(),
                thread::current().id()
            ));
            (name.clone(), move || {
                std::fs::read_to_string(&name)
                    .ok()?
                    .trim()
                    .parse::<u32>()
                    .ok()
            })
        };
        for collect in [true, false] {
            let _ = std::fs::remove_file(&name);
            let script = format!("echo $$ > '{}'; exec sleep 1000", name.display());
            let late = thread::timeout(Duration::from_millis(200), || match collect {
                true => sh(&script).output().map(drop),
                false => sh(&script).status().map(drop),
            });
            assert!(late.is_err());
            // Perhaps it was killed before it could tell.
            assert!(pid_of().is_none_or(|pid| !exists(pid)));
        }
        let _ = std::fs::remove_file(&name);
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
fn in_a_destructor_of_a_cancelled_thread_a_killed_child_is_waited_for_and_no_other() {
    struct Ends(Child, bool, mpsc::Sender<io::Result<Option<i32>>>);
    impl Drop for Ends {
        fn drop(&mut self) {
            if self.1 {
                self.0.kill().unwrap();
            }
            self.2
                .send(self.0.wait().map(|status| status.signal()))
                .unwrap();
        }
    }
    on_workers(1, || {
        let (sender, told) = mpsc::channel();
        let sleeper = || Command::new("sleep").arg("1000").spawn().unwrap();
        let child = sleeper();
        let pid = child.id();
        cancel_holder_of(Ends(child, true, sender.clone()));
        assert_eq!(told.recv().unwrap().unwrap(), Some(9));
        assert!(!exists(pid));

        let child = sleeper();
        let pid = child.id();
        cancel_holder_of(Ends(child, false, sender));
        assert_ne!(
            told.recv().unwrap().unwrap_err().kind(),
            ErrorKind::Interrupted
        );
        assert!(exists(pid));
        rustix::process::kill_process(
            Pid::from_raw(pid.cast_signed()).unwrap(),
            rustix::process::Signal::KILL,
        )
        .unwrap();
    });
}

#[test]
fn a_thousand_children_leave_no_zombie_and_no_descriptor() {
    if !in_a_process_of_its_own("a_thousand_children_leave_no_zombie_and_no_descriptor") {
        return;
    }
    on_workers(2, || {
        // Whatever is made once is made now.
        sh("").output().unwrap();
        let before = open_descriptors();
        let threads: Vec<_> = (0..20)
            .map(|caller| {
                thread::spawn(move || {
                    for n in 0..50 {
                        let mut command = Command::new("echo");
                        command.arg(n.to_string());
                        if (caller + n) % 2 == 0 {
                            assert_eq!(
                                command.output().unwrap().stdout,
                                format!("{n}\n").as_bytes()
                            );
                        } else {
                            assert!(command.stdout(Stdio::null()).status().unwrap().success());
                        }
                    }
                })
            })
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!(children(), Vec::<String>::new());
        assert_eq!(open_descriptors(), before);
    });
}

#[test]
fn without_a_descriptor_to_spare_the_end_of_a_child_is_waited_for_in_the_pool() {
    if !in_a_process_of_its_own(
        "without_a_descriptor_to_spare_the_end_of_a_child_is_waited_for_in_the_pool",
    ) {
        return;
    }
    let test = || {
        let mut command = std::process::Command::new("cat");
        command.stdin(Stdio::piped()).stdout(Stdio::null());
        let child = command.spawn().unwrap();
        let limit = limit_descriptors();
        let mut child = Child::from(child);
        let stdin = child.stdin.take().unwrap();
        for _ in 0..3 {
            assert!(thread::timeout(Duration::from_millis(5), || child.wait()).is_err());
        }
        assert_eq!(
            readable(&child).recv(),
            Ok(()),
            "then it is for `wait` to wait"
        );
        setrlimit(Resource::Nofile, limit).unwrap();
        drop(stdin);
        assert!(child.wait().unwrap().success());
    };
    on_workers(1, test);
}

fn number<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

/// Where SIGCHLD is ignored the system waits for children itself.
#[test]
fn child_of_a_process_that_ignores_sigchld_fails_as_stds() {
    if !in_a_process_of_its_own("child_of_a_process_that_ignores_sigchld_fails_as_stds") {
        return;
    }
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let theirs = [
        number(std::process::Command::new("true").status()),
        number(std::process::Command::new("echo").output()),
    ];
    assert_eq!(theirs, [Some(libc::ECHILD); 2]);
    everywhere(|| {
        let ours = [
            number(Command::new("true").status()),
            number(Command::new("echo").output()),
        ];
        assert_eq!(ours, theirs);
        let mut child = Command::new("true").spawn().unwrap();
        assert_eq!(readable(&child).recv(), Ok(()), "its end is told");
        assert_eq!(number(child.wait()), Some(libc::ECHILD));
        assert_eq!(number(child.try_wait()), Some(libc::ECHILD));
        assert_eq!(number(child.kill()), Some(libc::ESRCH));
    });
}

/// A child with a number such that the one before is nobody's.
fn after_a_free_number() -> std::process::Child {
    loop {
        let mut before = std::process::Command::new("true").spawn().unwrap();
        let mut command = std::process::Command::new("cat");
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        before.wait().unwrap();
        if child.id() == before.id() + 1 {
            return child;
        }
        child.stdin = None;
        child.wait().unwrap();
    }
}

/// A process that is no child of this one, with a number of choice: it echoes lines to its standard
/// error. `None` if the system does not let one choose.
fn stranger(pid: u32) -> Option<(std::process::ChildStdin, std::process::ChildStderr)> {
    for _ in 0..200 {
        // The shell gets the next number, and what it starts the one after that.
        std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 2).to_string()).ok()?;
        let mut shell = std::process::Command::new("sh")
            .args(["-c", "exec 3<&0; cat <&3 >&2 & echo $!"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let started = io::read_to_string(shell.stdout.take().unwrap()).unwrap();
        let streams = shell.stdin.take().zip(shell.stderr.take());
        shell.wait().unwrap();
        if started.trim() == pid.to_string() {
            return streams;
        }
    }
    None
}

#[test]
fn signal_never_reaches_a_stranger_with_a_childs_number() {
    let test = "signal_never_reaches_a_stranger_with_a_childs_number";
    if !in_a_process_of_its_own(test) {
        return;
    }
    for has_descriptor in [true, false] {
        let mut child = after_a_free_number();
        let input = child.stdin.take();
        let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
        let limit = limit_descriptors();
        if has_descriptor {
            setrlimit(Resource::Nofile, limit).unwrap();
        }
        let mut child = Child::from(child);
        setrlimit(Resource::Nofile, limit).unwrap();
        // It ends, and other code of the process waits for it.
        drop(input);
        waitpid(Some(pid), WaitOptions::empty()).unwrap();
        let Some((mut input, output)) = stranger(child.id()) else {
            println!("skipped: the system does not give away a number of choice");
            return;
        };
        on_workers(1, || {
            assert_eq!(number(child.kill()), Some(libc::ESRCH));
            assert_eq!(number(child.wait()), Some(libc::ECHILD));
        });
        // A signal would have been there before the line.
        input.write_all(b"alive\n").unwrap();
        drop(input);
        assert_eq!(io::read_to_string(output).unwrap(), "alive\n");
    }
}

#[test]
fn the_output_of_one_is_the_input_of_another() {
    everywhere(|| {
        let mut first = sh("printf 'b\\na\\nc\\n'")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let second = Command::new("sort")
            .stdin(first.stdout.take().unwrap())
            .output()
            .unwrap();
        assert_eq!(second.stdout, b"a\nb\nc\n");
        first.wait().unwrap();

        // And that of a file.
        let file = hebra::fs::File::open("/proc/self/comm").unwrap();
        let output = Command::new("cat").stdin(file).output().unwrap();
        assert_eq!(output.stdout, std::fs::read("/proc/self/comm").unwrap());
    });
}

#[test]
fn what_std_has_made_is_taken_over() {
    everywhere(|| {
        let mut command = std::process::Command::new("cat");
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = Child::from(command.spawn().unwrap());
        (child.stdin.as_ref().unwrap()).write_all(b"words").unwrap();
        assert_eq!(child.wait_with_output().unwrap().stdout, b"words");

        let mut command = Command::from(std::process::Command::new("echo"));
        assert_eq!(command.output().unwrap().stdout, b"\n");

        let mut child = Command::new("echo").stdout(Stdio::piped()).spawn().unwrap();
        let pipe = ChildStdout::from(OwnedFd::from(child.stdout.take().unwrap()));
        assert_eq!(io::read_to_string(pipe).unwrap(), "\n");
        child.wait().unwrap();
    });
}
