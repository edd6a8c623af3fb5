//! Deadlocks outside of simulation. One is reported only where the process has no other OS threads,
//! and a test harness has some: so each case is a process of its own, this program once more, and
//! the parent plays those who come from outside.

use std::fmt::Debug;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::panic::{self, AssertUnwindSafe};
use std::process::{Child, Command, ExitCode, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hebra::thread::{self, Builder, JoinHandle};
use hebra::{Config, Runtime};

/// Longer than it takes to report a deadlock: two looks at a table, of which the first comes a
/// second after somebody has run.
const LONG: Duration = Duration::from_secs(4);
/// How long a child may take from when it is looked at.
const BOUND: Duration = Duration::from_secs(30);

/// How a case ends.
enum End {
    /// With a report that has these lines, each of which is to begin and end like that.
    Report(&'static [(&'static str, &'static str)]),
    /// Without one: it ends by itself, when its standard input has been closed or its peer has
    /// written.
    Quiet,
    /// The process is aborted, after these words.
    Abort(&'static [&'static str]),
    /// It would wait for ever.
    Never,
}

const CASES: &[(&str, fn(), End)] = &[
    (
        "a circle of joins on one worker is a deadlock",
        || circle(1),
        CIRCLE,
    ),
    (
        "a circle of joins on two workers is a deadlock",
        || circle(2),
        CIRCLE,
    ),
    (
        "two locks that are taken crosswise on two workers are a deadlock",
        crosswise,
        CIRCLE,
    ),
    (
        "a thread that parks alone is a deadlock",
        || alone(1),
        ALONE,
    ),
    (
        "a thread that parks alone is a deadlock with three workers",
        || alone(3),
        ALONE,
    ),
    (
        "a scope that waits for a parked thread is a deadlock",
        scope,
        SCOPE,
    ),
    (
        "while somebody sleeps there is no deadlock",
        after_a_timer,
        ALONE,
    ),
    (
        "a thread on each worker and nobody to wake them is a deadlock",
        scattered,
        SCATTERED,
    ),
    (
        "when the threads of the blocking pool are gone there is a deadlock",
        after_a_blocking_call,
        ALONE,
    ),
    ("every run finds its own deadlock", twice, ALONE),
    (
        "threads that do not end even when cancelled end the process",
        stubborn,
        STUBBORN,
    ),
    (
        "a runtime without time for its end unwinds all the same",
        no_time,
        ALONE,
    ),
    (
        "sleeping for ever is no deadlock",
        || forever(|| thread::sleep(Duration::MAX)),
        End::Never,
    ),
    (
        "parking with the longest time-out is no deadlock",
        || forever(|| thread::park_timeout(Duration::MAX)),
        End::Never,
    ),
    (
        "waiting for the end of time is no deadlock",
        || forever(|| assert!(hebra::channel::after(Duration::MAX).recv().is_err())),
        End::Never,
    ),
    (
        "an interval of for ever is no deadlock",
        || {
            forever(|| {
                let mut interval = hebra::time::interval(Duration::MAX);
                interval.tick();
                interval.tick();
            })
        },
        End::Never,
    ),
    (
        "a condition with the longest time-out is no deadlock",
        || {
            forever(|| {
                let (mutex, condition) = (hebra::sync::Mutex::new(()), hebra::sync::Condvar::new());
                drop(condition.wait_timeout(mutex.lock().unwrap(), Duration::MAX));
            })
        },
        End::Never,
    ),
    (
        "receiving with the longest time-out is no deadlock",
        || {
            forever(|| {
                let (_sender, receiver) = hebra::channel::bounded::<()>(1);
                let _ = receiver.recv_timeout(Duration::MAX);
            })
        },
        End::Never,
    ),
    (
        "acquiring with the longest time-out is no deadlock",
        || {
            forever(|| {
                drop(hebra::sync::Semaphore::new(0).acquire_timeout(Duration::MAX));
            })
        },
        End::Never,
    ),
    ("a socket may wake", || socket(1), End::Quiet),
    (
        "a socket of another worker may wake",
        || socket(2),
        End::Quiet,
    ),
    ("an OS thread may wake", os_thread, End::Quiet),
    (
        "a worker that blocks or computes may wake",
        busy_worker,
        End::Quiet,
    ),
    (
        "a handle may spawn onto a started runtime",
        started,
        End::Quiet,
    ),
    (
        "an OS thread that waits for ever may wake for all we know",
        idle_os_thread,
        End::Never,
    ),
];

fn main() -> ExitCode {
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    if let Some(case) = std::env::var_os("HEBRA_CASE") {
        let (_, run, _) = CASES
            .iter()
            .find(|(name, ..)| case == *name)
            .expect("a case");
        run();
        return ExitCode::SUCCESS;
    }
    if cfg!(not(target_os = "linux")) || cfg!(hebra_sanitizer) {
        let reason = "where it is not known which OS threads there are, no deadlock is reported";
        CASES
            .iter()
            .for_each(|(name, ..)| println!("test {name} ... ignored, {reason}"));
        println!(
            "test result: ok. 0 passed; 0 failed; {} ignored: {reason}",
            CASES.len()
        );
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    let cases = CASES
        .iter()
        .filter(|(name, ..)| asked.iter().all(|part| name.contains(part.as_str())));
    // They do little but wait.
    let started: Vec<_> = cases
        .map(|(name, _, end)| (name, end, Process::start(name)))
        .collect();
    for (name, end, process) in started {
        match process.judge(end) {
            Ok(()) => println!("test {name} ... ok"),
            Err(what) => {
                failed += 1;
                println!("test {name} ... FAILED\n{what}");
            }
        }
    }
    println!(
        "test result: {}. {failed} failed",
        if failed == 0 { "ok" } else { "FAILED" }
    );
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A case in a process of its own, which ends when this is dropped.
struct Process {
    child: Child,
    listener: TcpListener,
    started: Instant,
}

impl Process {
    fn start(case: &str) -> Process {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let child = Command::new(std::env::current_exe().unwrap())
            .env("HEBRA_CASE", case)
            .env("HEBRA_PEER", listener.local_addr().unwrap().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Process {
            child,
            listener,
            started: Instant::now(),
        }
    }

    fn judge(mut self, end: &End) -> Result<(), String> {
        if let End::Quiet | End::Never = end {
            std::thread::sleep((self.started + LONG).saturating_duration_since(Instant::now()));
            if let Some(status) = self.child.try_wait().unwrap() {
                return Err(format!(
                    "it has ended: {status}, {}",
                    rest(self.child.stderr.take().unwrap())
                ));
            }
        }
        if let End::Never = end {
            return Ok(());
        }
        drop(self.child.stdin.take());
        self.listener.set_nonblocking(true).unwrap();
        if let Ok((mut peer, _)) = self.listener.accept() {
            peer.write_all(b"hello").unwrap();
        }
        let Output {
            status,
            stdout,
            stderr,
        } = self.wait()?;
        let (stdout, stderr) = (
            String::from_utf8_lossy(&stdout),
            String::from_utf8_lossy(&stderr),
        );
        let is_as_expected = match end {
            End::Report(expected) => {
                let lines = by_name(&stdout);
                let fits = |(line, (first, last)): (&String, &(&str, &str))| {
                    line.starts_with(first) && line.ends_with(last)
                };
                status.success()
                    && lines.len() == expected.len()
                    && lines.iter().zip(*expected).all(fits)
            }
            End::Quiet => status.success() && !stderr.contains("deadlock"),
            End::Abort(words) => {
                !status.success() && words.iter().all(|words| stderr.contains(words))
            }
            End::Never => unreachable!("that has been judged"),
        };
        if is_as_expected {
            Ok(())
        } else {
            Err(format!(
                "{status}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
            ))
        }
    }

    fn wait(&mut self) -> Result<Output, String> {
        let begin = Instant::now();
        while begin.elapsed() < BOUND {
            if let Some(status) = self.child.try_wait().unwrap() {
                let (stdout, stderr) = (
                    self.child.stdout.take().unwrap(),
                    self.child.stderr.take().unwrap(),
                );
                return Ok(Output {
                    status,
                    stdout: rest(stdout).into(),
                    stderr: rest(stderr).into(),
                });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err("it hangs".into())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a report with names instead of numbers, and the threads in the order of those:
/// their numbers tell who has waited longest.
fn by_name(report: &str) -> Vec<String> {
    let numbered = report
        .lines()
        .filter_map(|line| line.strip_prefix("  #")?.split_once(' '));
    let mut named = report.to_owned();
    for (number, rest) in numbered {
        let name = rest.split_inclusive('\'').take(2).collect::<String>();
        named = named
            .replace(&format!("  #{number} "), "  ")
            .replace(&format!("#{number}"), &name);
    }
    let mut lines: Vec<String> = named.lines().map(str::to_owned).collect();
    lines.sort_by(|a, b| {
        b.starts_with("deadlock")
            .cmp(&a.starts_with("deadlock"))
            .then_with(|| a.cmp(b))
    });
    lines
}

fn rest(mut pipe: impl Read) -> String {
    let mut text = String::new();
    pipe.read_to_string(&mut text).unwrap();
    text
}

fn runtime(workers: usize) -> Runtime {
    Runtime::new(Config::default().workers(workers)).unwrap()
}

/// Runs `f`, which ends in a deadlock, and prints the report.
fn report<T: Debug>(runtime: &Runtime, f: impl FnOnce() -> T) {
    let payload = panic::catch_unwind(AssertUnwindSafe(|| runtime.run(f))).unwrap_err();
    println!(
        "{}",
        payload
            .downcast_ref::<String>()
            .expect("a report is a string")
    );
}

/// Counts who has not been unwound.
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Alive {
        count.fetch_add(1, SeqCst);
        Alive(count.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

const CIRCLE: End = End::Report(&[
    ("deadlock at ", "s"),
    ("  'anna' (tests/deadlock.rs:", ", waits for 'bert'"),
    ("  'bert' (tests/deadlock.rs:", ", waits for 'anna'"),
    ("  'main' (tests/deadlock.rs:", "s"),
    ("  in a circle: ", ""),
]);

fn circle(workers: usize) {
    let alive = Arc::default();
    report(&runtime(workers), || {
        let handles: [Arc<Mutex<Option<JoinHandle<()>>>>; 2] = Default::default();
        for (at, name) in ["anna", "bert"].into_iter().enumerate() {
            let (other, alive) = (handles[1 - at].clone(), Alive::new(&alive));
            let joins = move || {
                let _alive = alive;
                thread::sleep(Duration::from_millis(20));
                let other = other.lock().unwrap().take();
                other.unwrap().join().unwrap();
            };
            *handles[at].lock().unwrap() =
                Some(Builder::new().name(name.into()).spawn(joins).unwrap());
        }
        thread::park();
    });
    assert_eq!(alive.load(SeqCst), 0, "everybody unwinds");
}

fn crosswise() {
    let locks: [Arc<hebra::sync::Mutex<()>>; 2] = Default::default();
    let both = Arc::new(hebra::sync::Barrier::new(2));
    report(&runtime(2), || {
        for (at, name) in ["anna", "bert"].into_iter().enumerate() {
            let (mine, theirs, both) = (locks[at].clone(), locks[1 - at].clone(), both.clone());
            let takes_both = move || {
                let _mine = mine.lock().unwrap();
                both.wait();
                let _theirs = theirs.lock().unwrap();
            };
            Builder::new().name(name.into()).spawn(takes_both).unwrap();
        }
        thread::park();
    });
}

const ALONE: End = End::Report(&[("deadlock at ", "s"), ("  'main' (tests/deadlock.rs:", "s")]);

fn alone(workers: usize) {
    report(&runtime(workers), thread::park);
}

const SCOPE: End = End::Report(&[
    ("deadlock at ", "s"),
    ("  '<unnamed>' (tests/deadlock.rs:", "s"),
    ("  'main' (tests/deadlock.rs:", "s"),
]);

fn scope() {
    let alive = Arc::default();
    let mut borrowed = 0;
    report(&runtime(1), || {
        thread::scope(|s| {
            s.spawn(|| {
                let _alive = Alive::new(&alive);
                borrowed += 1;
                thread::park();
            });
        });
    });
    assert_eq!((borrowed, alive.load(SeqCst)), (1, 0));
}

fn after_a_timer() {
    let start = Instant::now();
    report(&runtime(2), || {
        thread::spawn(|| thread::sleep(LONG)).join().unwrap();
        thread::park();
    });
    assert!(start.elapsed() >= LONG);
}

fn after_a_blocking_call() {
    hebra::blocking::set_keep_alive(Duration::from_secs(2));
    report(&runtime(2), || {
        hebra::blocking::unblock(|| ());
        thread::park();
    });
}

const SCATTERED: End = End::Report(&[
    ("deadlock at ", "s"),
    ("  '0' (tests/deadlock.rs:", "s"),
    ("  '1' (tests/deadlock.rs:", "s"),
    ("  '2' (tests/deadlock.rs:", "s"),
    ("  'main' (tests/deadlock.rs:", ", waits for '0'"),
]);

/// One thread on each worker: they park when each has seen the others begin.
fn scattered() {
    let alive = Arc::default();
    report(&runtime(3), || {
        let there = Arc::new(AtomicUsize::new(0));
        let handles: Vec<_> = (0..3)
            .map(|at| {
                let (there, alive) = (there.clone(), Alive::new(&alive));
                let stay = move || {
                    let _alive = alive;
                    there.fetch_add(1, SeqCst);
                    // Blocks its worker until there is one on each.
                    while there.load(SeqCst) < 3 {
                        std::thread::yield_now();
                    }
                    thread::park();
                };
                Builder::new().name(at.to_string()).spawn(stay).unwrap()
            })
            .collect();
        let [first, second, third] = <[_; 3]>::try_from(handles).unwrap();
        first.join().unwrap();
        second.join().unwrap();
        third.join().unwrap();
    });
    assert_eq!(alive.load(SeqCst), 0, "everybody unwinds");
}

fn twice() {
    let runtime = runtime(2);
    let first = panic::catch_unwind(AssertUnwindSafe(|| runtime.run(thread::park)));
    assert!(first.is_err());
    assert_eq!(runtime.run(|| thread::spawn(|| 1).join().unwrap()), 1);
    report(&runtime, thread::park);
}

const STUBBORN: End = End::Abort(&[
    "hebra: deadlock at ",
    "hebra: the runtime cannot end: ",
    "  #1 'stubborn'",
    ": parked since ",
]);

fn stubborn() {
    let config = Config::default()
        .workers(1)
        .shutdown_timeout(Duration::from_millis(100));
    Runtime::new(config).unwrap().run(|| {
        Builder::new()
            .name("stubborn".into())
            .spawn(|| thread::shield(thread::park))
            .unwrap();
        thread::park();
    });
}

fn no_time() {
    let config = Config::default()
        .workers(2)
        .shutdown_timeout(Duration::ZERO);
    report(&Runtime::new(config).unwrap(), thread::park);
}

fn socket(workers: usize) {
    runtime(workers).run(|| {
        let read = || {
            let mut stream =
                hebra::net::TcpStream::connect(std::env::var("HEBRA_PEER").unwrap()).unwrap();
            let mut buffer = [0; 5];
            stream.read_exact(&mut buffer).unwrap();
            buffer
        };
        assert_eq!(thread::spawn(read).join().unwrap(), *b"hello");
    });
}

/// Returns when the parent has closed our standard input.
fn wait_for_parent() {
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
}

fn os_thread() {
    runtime(1).run(|| {
        let root = thread::current();
        std::thread::spawn(move || {
            wait_for_parent();
            root.unpark();
        });
        thread::park();
    });
}

fn busy_worker() {
    runtime(2).run(|| {
        let root = thread::current();
        thread::spawn(move || {
            wait_for_parent();
            root.unpark();
        });
        thread::park();
    });
}

fn started() {
    let handle = runtime(1);
    let handle = handle.start().unwrap();
    let parked = handle.spawn(thread::park);
    wait_for_parent();
    handle.spawn(|| ()).join().unwrap();
    parked.thread().unpark();
    parked.join().unwrap();
}

fn idle_os_thread() {
    std::thread::spawn(std::thread::park);
    runtime(1).run(thread::park);
}

/// Waits with a deadline that will not come, and is alone.
fn forever(wait: impl FnOnce()) {
    runtime(1).run(wait);
}
