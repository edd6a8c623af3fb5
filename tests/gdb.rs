//! The gdb commands of `gdb/hebra.py`, on a live process, on a core file and on that of a stripped
//! binary. Where there is no gdb, or it may not attach, each test says so and ends.

//!
//! Not under a sanitizer: corosensei keeps a coroutine's registers elsewhere then.

#![cfg(all(
    feature = "runtime",
    target_os = "linux",
    target_arch = "x86_64",
    not(hebra_sanitizer)
))]

mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hebra::sync::Mutex;
use hebra::{Generator, thread};

use support::{bounded, is_child};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/gdb/hebra.py");

// What the process under the debugger does

#[inline(never)]
fn sleep_in_a_function_of_its_own() {
    thread::sleep(Duration::from_secs(3600));
    std::hint::black_box(());
}

#[inline(never)]
fn transfer(from: &Mutex<u64>, to: &Mutex<u64>, both: &hebra::sync::Barrier) {
    let mut from = from.lock().unwrap();
    both.wait();
    *to.lock().unwrap() += *from;
    *from = 0;
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) {
    let builder = thread::Builder::new().name(name.to_owned());
    drop(builder.spawn(body).unwrap());
}

/// Starts a thread for each thing that the tests look at, says that it is ready, and stays, with a
/// thread that computes on the only worker.
fn be_debugged() {
    let runtime = hebra::Runtime::new(hebra::Config::default().workers(1)).unwrap();
    runtime.run(|| {
        for _ in 0..3 {
            spawn("sleeper", sleep_in_a_function_of_its_own);
        }
        let (a, b) = (Arc::new(Mutex::new(1)), Arc::new(Mutex::new(1)));
        let both = Arc::new(hebra::sync::Barrier::new(2));
        let (a2, b2, both2) = (a.clone(), b.clone(), both.clone());
        spawn("a to b", move || transfer(&a, &b, &both));
        spawn("b to a", move || transfer(&b2, &a2, &both2));
        spawn("generates", || {
            let mut nap = Generator::<(), (), ()>::new(|_, ()| sleep_in_a_function_of_its_own());
            nap.resume(());
        });
        // A yield each lets them get to where they wait.
        (0..10).for_each(|_| thread::yield_now());
        spawn("hog", || {
            println!("\nready");
            loop {
                std::hint::spin_loop();
            }
        });
        thread::sleep(Duration::from_secs(3600));
    });
}

/// Not a test: what the others debug.
#[test]
fn debugged_process() {
    if is_child() {
        be_debugged();
    }
}

// The tests

struct Debugged(Child);

impl Debugged {
    fn start(program: &Path) -> Debugged {
        let mut child = Command::new(program)
            .args(["debugged_process", "--exact", "--nocapture"])
            .env("HEBRA_CHILD", "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let is_ready = lines.map_while(Result::ok).any(|line| line == "ready");
        assert!(is_ready, "it has ended: {:?}", child.wait());
        Debugged(child)
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Debugged {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What gdb prints when it is given a process or core and the commands. `None`, with a word, if
/// there is no gdb here or it must not look.
fn gdb(target: &[&str], commands: &[&str]) -> Option<String> {
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch", "-iex", "set debuginfod enabled off"]);
    gdb.args(target).args(["-x", SCRIPT]);
    commands.iter().for_each(|command| {
        gdb.args(["-ex", command]);
    });
    let output = match gdb.stdin(Stdio::null()).output() {
        Ok(output) => output,
        Err(error) => {
            println!("skipped: gdb cannot be run here: {error}");
            return None;
        }
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    for refusal in [
        "Operation not permitted",
        "Scripting in the \"Python\" language is not",
    ] {
        if errors.contains(refusal) {
            println!("skipped: gdb must not attach or has no Python: {errors}");
            return None;
        }
    }
    assert!(!errors.contains("Error"), "{errors}\n{text}");
    Some(text)
}

fn me() -> PathBuf {
    std::env::current_exe().unwrap()
}

/// The line that says something of the first green thread of that name.
fn line<'a>(text: &'a str, name: &str) -> &'a str {
    let name = format!("'{name}' (spawned at ");
    text.lines()
        .find(|line| line.starts_with('#') && line.contains(&name))
        .unwrap_or_else(|| panic!("no line of {name} in\n{text}"))
}

fn assert_threads(text: &str) {
    assert!(line(text, "sleeper").contains("sleeping for "), "{text}");
    assert!(line(text, "a to b").contains("locking for "), "{text}");
    assert!(line(text, "a to b").contains("waits for #"), "{text}");
    assert!(line(text, "generates").contains("sleeping"), "{text}");
    assert!(line(text, "hog").contains("running on OS thread"), "{text}");
    assert!(line(text, "sleeper").contains("tests/gdb.rs:"), "{text}");
    assert!(text.contains("2 in a circle: #"), "{text}");
    assert!(text.contains("worker 0 (tid "), "{text}");
}

const COMMANDS: &[&str] = &[
    "hebra threads",
    "hebra locks",
    "hebra workers",
    "hebra bt generates",
];

#[test]
fn gdb_shows_the_green_threads_of_a_live_process() {
    bounded(|| {
        let debugged = Debugged::start(&me());
        let Some(text) = gdb(&["-p", &debugged.pid()], COMMANDS) else {
            return;
        };
        assert_threads(&text);
        // From the generator's stack into that of the green thread which resumes it.
        let stack = text.rsplit_once("'generates'").unwrap().1;
        let frame = |name: &str| {
            stack
                .find(name)
                .unwrap_or_else(|| panic!("{name} in\n{stack}"))
        };
        assert!(
            frame("sleep_in_a_function_of_its_own") < frame("be_debugged"),
            "{stack}"
        );

        let groups = gdb(&["-p", &debugged.pid()], &["hebra groups"]).unwrap();
        assert!(groups.contains("\n3 x #"), "{groups}");
        let walked = gdb(
            &["-p", &debugged.pid()],
            &["hebra thread sleeper", "bt", "hebra thread none"],
        );
        let walked = walked.unwrap();
        assert!(
            walked.contains("sleep_in_a_function_of_its_own"),
            "{walked}"
        );
    });
}

/// A folder of this process, which goes when this is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = format!("hebra-gdb-{name}-{}", std::process::id());
        let folder = std::env::temp_dir().join(folder);
        std::fs::create_dir(&folder).unwrap();
        Folder(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Ends the process with SIGABRT where the kernel writes cores into the working directory.
fn core_of(program: &Path, folder: &Path) -> Option<PathBuf> {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    if pattern.starts_with('|') || pattern.contains('/') {
        println!("skipped: core files go elsewhere: {pattern}");
        return None;
    }
    let shell = format!(
        "ulimit -c unlimited && exec '{}' debugged_process --exact --nocapture",
        program.display()
    );
    let mut child = Command::new("sh")
        .args(["-c", &shell])
        .current_dir(folder)
        .env("HEBRA_CHILD", "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "ready"));
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::ABORT).unwrap();
    child.wait().unwrap();
    let core = std::fs::read_dir(folder)
        .unwrap()
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .find(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with("core")
        });
    if core.is_none() {
        println!("skipped: the kernel has written no core file");
    }
    core
}

#[test]
fn gdb_shows_the_green_threads_of_a_core_file() {
    bounded(|| {
        let folder = Folder::new("core");
        let Some(core) = core_of(&me(), &folder.0) else {
            return;
        };
        let (program, core) = (me(), core.to_str().unwrap().to_owned());
        if let Some(text) = gdb(&[program.to_str().unwrap(), &core], COMMANDS) {
            assert_threads(&text);
            assert!(text.contains("sleep_in_a_function_of_its_own"), "{text}");
        }
    });
}

#[test]
fn gdb_shows_the_green_threads_of_a_stripped_binary() {
    bounded(|| {
        let folder = Folder::new("stripped");
        let stripped = folder.0.join("stripped");
        let strip = Command::new("strip")
            .arg("-o")
            .arg(&stripped)
            .arg(me())
            .status();
        if !strip.is_ok_and(|status| status.success()) {
            return println!("skipped: there is no strip here");
        }
        let Some(core) = core_of(&stripped, &folder.0) else {
            return;
        };
        let (program, core) = (
            stripped.to_str().unwrap(),
            core.to_str().unwrap().to_owned(),
        );
        if let Some(text) = gdb(&[program, &core], COMMANDS) {
            assert_threads(&text);
            assert!(text.contains("    #0 0x"), "{text}");
        }
    });
}
