//! The rounds: starts a process for each measurement, in turn, and ends those that hang.
//!
//! A round goes through all cases and, within a case, through all its peers, so that a disturbance of seconds meets a few neighbours in
//! one round and not one peer in all. A peer that fails is a result, with its reason; it is not asked again.

use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::plan::{self, Case, Origin, Peer, Size};
use crate::report;
use crate::results::{AS_WITH_FEWER, Metrics, Outcome, Results};
use crate::{HELP, foreign};

/// There is more to measure than the budget allowed.
const TO_BE_CONTINUED: u8 = 75;

/// What the command line asked for.
struct Options {
    list: bool,
    size: Size,
    peers: Option<Vec<String>>,
    keep: Option<PathBuf>,
    from: Option<PathBuf>,
    budget: Option<Duration>,
    page: bool,
    /// Workloads or beginnings of cases; none is all.
    words: Vec<String>,
}

impl Options {
    fn parse(words: &[String]) -> Result<Self, String> {
        let mut options = Self {
            list: false,
            size: Size::Full,
            peers: None,
            keep: None,
            from: None,
            budget: None,
            page: false,
            words: Vec::new(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().cloned().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--list" => options.list = true,
                "--quick" => options.size = Size::Quick,
                "--peers" => options.peers = Some(value()?.split(',').map(ToOwned::to_owned).collect()),
                "--keep" => options.keep = Some(value()?.into()),
                "--from" => options.from = Some(value()?.into()),
                "--budget" => {
                    let seconds = value()?.parse().map_err(|_| "--budget needs seconds".to_owned())?;
                    options.budget = Some(Duration::from_secs(seconds));
                }
                "--page" => options.page = true,
                unknown if unknown.starts_with('-') => return Err(format!("{unknown} is no option\n\n{HELP}")),
                _ => options.words.push(word.clone()),
            }
        }
        Ok(options)
    }

    fn wants(&self, case: &Case) -> bool {
        let key = case.key();
        self.words.is_empty() || self.words.iter().any(|word| case.workload == word || key.starts_with(word))
    }

    fn wants_peer(&self, case: &Case, peer: &Peer) -> bool {
        let floor = case.floor == Some(peer.name);
        self.peers.as_ref().is_none_or(|peers| floor || peers.iter().any(|name| name == peer.name))
    }
}

/// The driver's whole run.
pub fn drive(words: &[String]) -> ExitCode {
    match run(words) {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<ExitCode, String> {
    let options = Options::parse(words)?;
    let cases: Vec<Case> = plan::cases(options.size).into_iter().filter(|case| options.wants(case)).collect();
    if cases.is_empty() {
        return Err(format!("no case begins with {}; --list names them", options.words.join(" or ")));
    }
    if options.list {
        for case in &cases {
            let peers: Vec<_> = case.measured().map(|peer| peer.name).collect();
            println!("{:<44} {}", case.key(), peers.join(" "));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let (results, complete) = match &options.from {
        Some(file) => (Results::read(file).map_err(|error| format!("{}: {error}", file.display()))?, true),
        None => measure_all(&cases, &options)?,
    };
    if !complete {
        return Ok(ExitCode::from(TO_BE_CONTINUED));
    }
    report::table::print(&cases, &results);
    if options.page {
        report::write(&cases, &results).map_err(|error| error.to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Measures what is not there already; `false` if the budget ended before the work did.
fn measure_all(cases: &[Case], options: &Options) -> Result<(Results, bool), String> {
    let started = Instant::now();
    let mut results = match &options.keep {
        Some(file) if file.exists() => Results::read(file).map_err(|error| format!("{}: {error}", file.display()))?,
        _ => Results::default(),
    };
    let absent = report::about::gather(&mut results, cases);
    for (peer, reason) in &absent {
        eprintln!("skipped: {} ({reason})", plan::peer_named(peer).shown);
    }
    let rounds = cases.iter().map(|case| case.rounds).max().unwrap_or(0);
    for round in 0..rounds {
        for case in cases {
            let key = case.key();
            for peer in case.measured() {
                let done = results.outcomes(&key, peer.name).len() > round || results.failure(&key, peer.name).is_some();
                let skipped = absent.iter().any(|(name, _)| *name == peer.name) || !options.wants_peer(case, peer);
                if done || skipped || round >= case.rounds_of(peer) {
                    continue;
                }
                // Few come near their limit; those of Python do.
                let may_take = if peer.slower > 1 { case.limit } else { case.limit / 2 };
                if options.budget.is_some_and(|budget| started.elapsed() + may_take > budget) {
                    return Ok((results, false));
                }
                progress(&format!("round {} of {rounds}: {key}, {}", round + 1, peer.name));
                let smaller = fails_at_less(cases, case, peer, &results);
                results.push(&key, peer.name, smaller.map_or_else(|| measure(case, peer), Err));
                if let Some(file) = &options.keep {
                    results.write(file).map_err(|error| format!("{}: {error}", file.display()))?;
                }
            }
        }
    }
    progress("");
    Ok((results, true))
}

/// A line that the next one takes the place of.
fn progress(line: &str) {
    if io::stderr().is_terminal() {
        eprint!("\x1b[2K\r{line}");
    }
}

/// Why `peer` need not be asked: it could not do the same with fewer.
fn fails_at_less(cases: &[Case], case: &Case, peer: &Peer, results: &Results) -> Option<String> {
    let fewer = cases.iter().filter(|other| other.is_less_than(case));
    fewer.into_iter().find_map(|other| results.failure(&other.key(), peer.name)).map(|_| AS_WITH_FEWER.to_owned())
}

/// One measurement, in a process of its own.
fn measure(case: &Case, peer: &Peer) -> Outcome {
    let words = case.words(peer);
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let mut command = Command::new(program);
    command.args(&words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Who has no memory left to map should not be asked for a backtrace.
    command.env("RUST_BACKTRACE", "0");
    let process = command.spawn().map_err(|error| error.to_string())?;
    let (status, stdout, stderr) = wait(process, case.limit)?;
    let line = stdout.lines().last().unwrap_or("");
    let metrics = serde_json::from_str(line).ok().and_then(|value| Metrics::from_json(&value));
    match metrics {
        Some(metrics) if status.success() => Ok(metrics),
        _ => Err(complaint(&stderr).unwrap_or_else(|| status.to_string())),
    }
}

/// Waits until `process` has ended, and kills it if that takes longer than `limit`. Its whole output must fit in memory.
fn wait(mut process: Child, limit: Duration) -> Result<(ExitStatus, String, String), String> {
    let outputs = (process.stdout.take(), process.stderr.take());
    let (Some(mut stdout), Some(mut stderr)) = outputs else { unreachable!("both were asked for as pipes") };
    let (sender, ended) = mpsc::channel();
    let errors = thread::spawn(move || read_all(&mut stderr));
    // A grandchild, such as a server, may hold the pipe: it dies with its parent, which is why this thread ends.
    thread::spawn(move || sender.send(read_all(&mut stdout)));
    let output = match ended.recv_timeout(limit) {
        Ok(output) => output,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            // It may just have ended.
            let _ = process.kill();
            let _ = process.wait();
            return Err(format!("not done in {} s", limit.as_secs()));
        }
    };
    let status = process.wait().map_err(|error| error.to_string())?;
    Ok((status, output, errors.join().unwrap_or_default()))
}

fn read_all(pipe: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    match pipe.read_to_end(&mut bytes) {
        Ok(_) | Err(_) => String::from_utf8_lossy(&bytes).into_owned(),
    }
}

/// The first line of what a process complained of that says something.
fn complaint(stderr: &str) -> Option<String> {
    let lines = || stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    // The message of a panic stands below the place; that of a Python exception last.
    let panic = lines().skip_while(|line| !line.contains("panicked at")).nth(1);
    let python = stderr.contains("Traceback").then(|| lines().next_back()).flatten();
    let line = panic.or(python).or_else(|| lines().next())?;
    // Of an `Os { code: 12, kind: OutOfMemory, message: "Cannot allocate memory" }` only what it means.
    let line = match line.split_once("message: \"").and_then(|(before, rest)| Some((before, rest.split_once('"')?.0))) {
        Some((before, message)) => format!("{}: {message}", before.split(':').next().unwrap_or(before)),
        None => line.to_owned(),
    };
    Some(line.chars().take(200).collect())
}

/// A peer that is not there, and why.
pub type Absent = (&'static str, String);

/// The versions of all peers that occur, and those that are not there, with the reason.
pub fn versions(peers: &[&'static Peer]) -> (Vec<(String, String)>, Vec<Absent>) {
    let (mut there, mut absent) = (Vec::new(), Vec::new());
    for &&Peer { name, origin, .. } in peers {
        let version = match origin {
            Origin::Rust(None) => continue,
            Origin::Rust(Some(package)) => Ok(report::about::locked_version(package)),
            Origin::Go => foreign::prepare_go(),
            Origin::Python(module) => foreign::prepare_python(module),
        };
        match version {
            Ok(version) => {
                let whose = origin.to_string();
                if !there.iter().any(|(known, _)| *known == whose) {
                    there.push((whose, version));
                }
            }
            Err(reason) => absent.push((name, reason)),
        }
    }
    (there, absent)
}

#[cfg(test)]
mod tests {
    use super::complaint;

    #[test]
    fn of_a_panic_the_message_is_told() {
        let stderr = "\nthread 'main' (1) panicked at src/x.rs:1:2:\nfailed to alloc: IoError(Os { code: 12, message: \"No memory\" })\nnote: …\n";
        assert_eq!(complaint(stderr).as_deref(), Some("failed to alloc: No memory"));
    }

    #[test]
    fn of_an_exception_the_last_line_is_told() {
        let stderr = "Traceback (most recent call last):\n  File \"x.py\"\nMemoryError: none left\n";
        assert_eq!(complaint(stderr).as_deref(), Some("MemoryError: none left"));
        assert_eq!(complaint("\n"), None);
    }
}
