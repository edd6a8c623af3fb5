//! Random programs with an oracle: trees of scopes and cancellations, mixes of locks and channels
//! over two runtimes and OS threads, and generators that are resumed, thrown into, closed,
//! forgotten and moved.
//!
//! Each test runs for `HEBRA_FUZZ_SECONDS` (2), each round with a seed of its own. A failure and a
//! hang print the seed; `HEBRA_FUZZ_SEED` repeats that round alone.

#![cfg(feature = "runtime")]

mod support;

use std::any::Any;
use std::cell::Cell;
use std::mem;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use hebra::channel;
use hebra::generator::GeneratorStatus;
use hebra::sync::{Condvar, Mutex, RwLock, Semaphore};
use hebra::thread;
use hebra::{Config, Generator, GeneratorState, Runtime, Yielder};

use support::random::{Random, rounds};

const FOR_EVER: Duration = Duration::from_secs(3600);

/// The payload of a panic that a program makes on purpose. It does not reach the panic hook.
struct Planted(u64);

fn panic_on_purpose(number: u64) -> ! {
    panic::resume_unwind(Box::new(Planted(number)))
}

fn is_planted(payload: &(dyn Any + Send)) -> bool {
    payload.is::<Planted>()
}

/// What a round has found. A failed assertion on a thread of the program could be caught by it.
#[derive(Default)]
struct Findings(std::sync::Mutex<Vec<String>>);

impl Findings {
    fn check(&self, holds: bool, law: &str) {
        if !holds {
            self.0.lock().unwrap().push(law.to_owned());
        }
    }

    fn assert_none(&self) {
        let found = mem::take(&mut *self.0.lock().unwrap());
        assert!(found.is_empty(), "{found:?}");
    }
}

/// Counts itself while it exists.
struct Present<'a>(&'a AtomicUsize);

impl<'a> Present<'a> {
    fn new(count: &'a AtomicUsize) -> Present<'a> {
        count.fetch_add(1, SeqCst);
        Present(count)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Checks when it is dropped, also by unwinding, that nothing is left.
struct NoneLeft<'a>(&'a AtomicUsize, &'a Findings, &'static str);

impl Drop for NoneLeft<'_> {
    fn drop(&mut self) {
        self.1.check(self.0.load(SeqCst) == 0, self.2);
    }
}

/// A program of scopes.
enum Tree {
    Yield(u64),
    Sleep(Duration),
    /// Only where something else ends it.
    SleepForEver,
    Panic(u64),
    Sequence(Vec<Tree>),
    /// A panic of a child is caught in it.
    Scope(Vec<Tree>),
    /// A child with `true` returns an error.
    TryScope(Vec<(Tree, bool)>),
    Race(Vec<Tree>),
    Timeout(Duration, Box<Tree>),
    Shield(Box<Tree>),
    /// The parent cancels these children.
    Cancel(Vec<Tree>),
}

fn micros(random: &mut Random, below: u64) -> Duration {
    Duration::from_micros(random.below(below))
}

fn tree(random: &mut Random, depth: u64) -> Tree {
    if depth == 0 {
        return match random.below(8) {
            0..4 => Tree::Yield(random.below(5)),
            4..7 => Tree::Sleep(micros(random, 300)),
            _ => Tree::Panic(random.next()),
        };
    }
    let children = |random: &mut Random| -> Vec<Tree> {
        let count = random.below(4);
        (0..count).map(|_| tree(random, depth - 1)).collect()
    };
    match random.below(9) {
        0 => tree(random, 0),
        1 => Tree::Sequence(children(random)),
        2 => Tree::Scope(children(random)),
        3 | 4 => {
            let children = children(random);
            let fails = children.into_iter().map(|tree| (tree, random.one_in(5)));
            Tree::TryScope(fails.collect())
        }
        5 => {
            let mut contenders = vec![tree(random, depth - 1)];
            for _ in 0..random.below(3) {
                contenders.push(if random.one_in(2) {
                    Tree::SleepForEver
                } else {
                    tree(random, depth - 1)
                });
            }
            Tree::Race(contenders)
        }
        6 => {
            let body = if random.one_in(2) {
                Tree::SleepForEver
            } else {
                tree(random, depth - 1)
            };
            Tree::Timeout(micros(random, 400), Box::new(body))
        }
        7 => Tree::Shield(Box::new(tree(random, depth - 1))),
        _ => {
            let mut cancelled = children(random);
            cancelled.push(Tree::SleepForEver);
            Tree::Cancel(cancelled)
        }
    }
}

fn run_tree(tree: &Tree, present: &AtomicUsize, findings: &Findings) {
    let _present = Present::new(present);
    match tree {
        Tree::Yield(times) => (0..*times).for_each(|_| thread::yield_now()),
        Tree::Sleep(duration) => thread::sleep(*duration),
        Tree::SleepForEver => thread::sleep(FOR_EVER),
        Tree::Panic(number) => panic_on_purpose(*number),
        Tree::Sequence(steps) => steps
            .iter()
            .for_each(|step| run_tree(step, present, findings)),
        Tree::Scope(children) => {
            let inside = AtomicUsize::new(0);
            let _left = NoneLeft(&inside, findings, "a scope ends after its children");
            thread::scope(|s| {
                for child in children {
                    let inside = &inside;
                    s.spawn(move || {
                        let _inside = Present::new(inside);
                        let run = || run_tree(child, present, findings);
                        match catch_unwind(AssertUnwindSafe(run)) {
                            Err(payload) if !is_planted(&*payload) => panic::resume_unwind(payload),
                            _ => {}
                        }
                    });
                }
            });
        }
        Tree::TryScope(children) => {
            let (inside, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let left = NoneLeft(&inside, findings, "a try_scope ends after its children");
            let result = thread::try_scope(|s| {
                for (child, fails) in children {
                    let (inside, failed) = (&inside, &failed);
                    s.spawn(move || {
                        let _inside = Present::new(inside);
                        let run = || run_tree(child, present, findings);
                        if let Err(payload) = catch_unwind(AssertUnwindSafe(run)) {
                            if is_planted(&*payload) {
                                failed.fetch_add(1, SeqCst);
                            }
                            panic::resume_unwind(payload);
                        }
                        if *fails {
                            failed.fetch_add(1, SeqCst);
                            return Err(());
                        }
                        Ok(())
                    });
                }
                Ok(())
            });
            drop(left);
            let told = result.map_or_else(|error| error.failures().len(), |()| 0);
            findings.check(
                told == failed.load(SeqCst),
                "a try_scope returns each failure",
            );
        }
        Tree::Race(contenders) => {
            let (inside, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let left = NoneLeft(&inside, findings, "a race ends after its contenders");
            let winner = thread::race(contenders.iter().enumerate().map(|(number, contender)| {
                let (inside, ended) = (&inside, &ended);
                move || {
                    let _inside = Present::new(inside);
                    run_tree(contender, present, findings);
                    ended.fetch_or(1 << number, SeqCst);
                    number
                }
            }));
            drop(left);
            match winner {
                Ok(number) => {
                    let ended = ended.load(SeqCst) >> number & 1 == 1;
                    findings.check(ended, "the winner of a race has finished");
                }
                Err(payload) => {
                    findings.check(
                        is_planted(&*payload),
                        "a race is lost only by a panic of a contender",
                    );
                }
            }
        }
        Tree::Timeout(duration, body) => {
            let start = std::time::Instant::now();
            let result = thread::timeout(*duration, || run_tree(body, present, findings));
            let early = result.is_err() && start.elapsed() < *duration;
            findings.check(!early, "a time-out waits for its duration");
            let never = result.is_ok() && matches!(**body, Tree::SleepForEver);
            findings.check(!never, "a time-out does not return what has not finished");
        }
        Tree::Shield(body) => {
            let run = || run_tree(body, present, findings);
            let result = thread::shield(|| catch_unwind(AssertUnwindSafe(run)));
            if let Err(payload) = result {
                findings.check(
                    is_planted(&*payload),
                    "no cancellation reaches a shielded body",
                );
                panic::resume_unwind(payload);
            }
        }
        Tree::Cancel(children) => {
            let inside = AtomicUsize::new(0);
            let _left = NoneLeft(
                &inside,
                findings,
                "cancelled children end before their scope",
            );
            thread::scope(|s| {
                let spawn = |child| {
                    let inside = &inside;
                    s.spawn(move || {
                        let _inside = Present::new(inside);
                        run_tree(child, present, findings);
                    })
                };
                let handles: Vec<_> = children.iter().map(spawn).collect();
                handles.iter().for_each(thread::ScopedJoinHandle::cancel);
                for handle in handles {
                    match handle.join() {
                        Err(payload) if !is_planted(&*payload) => {
                            let cancelled = payload.is::<thread::Cancelled>();
                            findings.check(cancelled, "a cancelled child is joined as cancelled");
                        }
                        _ => {}
                    }
                }
            });
        }
    }
}

#[test]
fn random_trees_of_scopes_end_as_they_should() {
    rounds("random_trees_of_scopes_end_as_they_should", |random| {
        let workers = 1 + random.below(3) as usize;
        let runtime = Runtime::new(Config::default().workers(workers)).unwrap();
        let findings = Arc::new(Findings::default());
        let present = Arc::new(AtomicUsize::new(0));
        runtime.run(|| {
            for _ in 0..8 {
                let depth = 1 + random.below(4);
                let tree = tree(random, depth);
                let handle = thread::spawn({
                    let (findings, present) = (findings.clone(), present.clone());
                    move || {
                        let run = || run_tree(&tree, &present, &findings);
                        let result = catch_unwind(AssertUnwindSafe(run));
                        findings.check(thread::deadline().is_none(), "no deadline is left behind");
                        findings.check(!std::thread::panicking(), "no panic is left behind");
                        if let Err(payload) = result {
                            panic::resume_unwind(payload);
                        }
                    }
                });
                let cancels = random.one_in(3);
                if cancels {
                    thread::sleep(micros(random, 400));
                    if random.one_in(2) {
                        std::thread::scope(|os| drop(os.spawn(|| handle.cancel())));
                    } else {
                        handle.cancel();
                    }
                }
                if let Err(payload) = handle.join() {
                    let fits = is_planted(&*payload) || cancels;
                    findings.check(fits, "a thread is cancelled only by a canceller");
                }
                findings.check(present.load(SeqCst) == 0, "all that began has ended");
                findings.check(!thread::is_cancelled(), "the root is not cancelled");
            }
        });
        drop(runtime);
        findings.assert_none();
    });
}

/// A message that counts itself while it exists.
struct Message {
    value: usize,
    exist: Arc<AtomicUsize>,
}

impl Message {
    fn new(value: usize, exist: &Arc<AtomicUsize>) -> Message {
        exist.fetch_add(1, SeqCst);
        let exist = exist.clone();
        Message { value, exist }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.exist.fetch_sub(1, SeqCst);
    }
}

/// What the actors of a mix share.
struct Common {
    findings: Findings,
    mutex: Mutex<(usize, usize)>,
    inside: AtomicUsize,
    increments: AtomicUsize,
    rwlock: RwLock<(usize, usize)>,
    semaphore: Semaphore,
    permits: AtomicUsize,
    tokens: Mutex<usize>,
    token: Condvar,
    exist: Arc<AtomicUsize>,
    sent: AtomicUsize,
    received: AtomicUsize,
}

const PERMITS: usize = 2;

/// Uses the locks and ends.
fn use_locks(common: &Common, random: &mut Random) {
    for _ in 0..random.below(60) {
        match random.below(6) {
            0 | 1 => {
                let mut pair = common.mutex.lock().unwrap();
                let _inside = Present::new(&common.inside);
                let alone = common.inside.load(SeqCst) == 1;
                common.findings.check(alone, "a mutex has one holder");
                common
                    .findings
                    .check(pair.0 == pair.1, "a critical section is seen whole");
                // A cancellation between the two would leave them different, and rightly.
                if random.one_in(4) {
                    thread::shield(|| {
                        pair.0 += 1;
                        thread::yield_now();
                        pair.1 += 1;
                    });
                } else {
                    pair.0 += 1;
                    pair.1 += 1;
                }
                common.increments.fetch_add(1, SeqCst);
            }
            2 => {
                let pair = common.rwlock.read().unwrap();
                let whole = pair.0 == pair.1;
                common.findings.check(whole, "a reader sees no writer");
                if random.one_in(2) {
                    thread::yield_now();
                    let whole = pair.0 == pair.1;
                    common
                        .findings
                        .check(whole, "no writer while there are readers");
                }
            }
            3 => {
                let mut pair = common.rwlock.write().unwrap();
                pair.0 += 1;
                thread::shield(thread::yield_now);
                pair.1 += 1;
            }
            4 => {
                let wait = || common.semaphore.acquire().map(drop);
                let _ = thread::timeout(micros(random, 200), wait);
                let _permit = common.semaphore.acquire().unwrap();
                let _inside = Present::new(&common.permits);
                let within = common.permits.load(SeqCst) <= PERMITS;
                common
                    .findings
                    .check(within, "a semaphore gives no more than it has");
                thread::yield_now();
            }
            _ => {
                let lock = || drop(common.mutex.lock().unwrap());
                let _ = thread::timeout(micros(random, 100), lock);
                let _ = thread::timeout(micros(random, 100), || common.rwlock.write().map(drop));
            }
        }
    }
}

fn send_all(common: &Common, random: &mut Random, senders: &[channel::Sender<Message>]) {
    for value in 1..=random.below(60) as usize {
        let sender = &senders[random.below(senders.len() as u64) as usize];
        let message = Message::new(value, &common.exist);
        let sent = match random.below(4) {
            0 => sender.try_send(message).is_ok(),
            1 => sender.send_timeout(message, micros(random, 200)).is_ok(),
            2 => hebra::channel::select! {
                send(sender, message) -> result => result.is_ok(),
                default(micros(random, 200)) => false,
            },
            _ => sender.send(message).is_ok(),
        };
        if sent {
            common.sent.fetch_add(value, SeqCst);
        }
    }
}

/// Receives until there are no senders.
fn receive_all(
    common: &Common,
    random: &mut Random,
    first: &channel::Receiver<Message>,
    second: &channel::Receiver<Message>,
) {
    // More than all senders send.
    for _ in 0..100_000 {
        let received = match random.below(4) {
            0 => thread::timeout(micros(random, 200), || first.recv())
                .map_or(Ok(None), |r| r.map(Some)),
            1 => Ok(second.try_recv().ok()),
            2 => hebra::channel::select! {
                recv(first) -> message => message.map(Some),
                recv(second) -> message => Ok(message.ok()),
            },
            _ => second
                .recv_timeout(micros(random, 200))
                .map_or(Ok(None), |m| Ok(Some(m))),
        };
        match received {
            Ok(Some(message)) => drop(common.received.fetch_add(message.value, SeqCst)),
            Ok(None) => {}
            Err(_) => break,
        }
    }
    for _ in 0..100_000 {
        match second.recv() {
            Ok(message) => drop(common.received.fetch_add(message.value, SeqCst)),
            Err(_) => return,
        }
    }
}

fn take_token(common: &Common, random: &mut Random) {
    let mut tokens = common.tokens.lock().unwrap();
    if random.one_in(3) {
        // It may time out with a token there, and looks again below.
        tokens = common
            .token
            .wait_timeout(tokens, micros(random, 300))
            .unwrap()
            .0;
    }
    let mut tokens = common
        .token
        .wait_while(tokens, |tokens| *tokens == 0)
        .unwrap();
    *tokens -= 1;
}

#[test]
fn random_mixes_of_locks_and_channels_lose_nothing() {
    rounds(
        "random_mixes_of_locks_and_channels_lose_nothing",
        |random| {
            let runtimes: Vec<_> = (0..2)
                .map(|_| Config::default().workers(1 + random.below(2) as usize))
                .map(|config| Runtime::new(config).unwrap())
                .collect();
            let handles: Vec<_> = runtimes.iter().map(|r| r.start().unwrap()).collect();
            let common = Arc::new(Common {
                findings: Findings::default(),
                mutex: Mutex::new((0, 0)),
                inside: AtomicUsize::new(0),
                increments: AtomicUsize::new(0),
                rwlock: RwLock::new((0, 0)),
                semaphore: Semaphore::new(PERMITS),
                permits: AtomicUsize::new(0),
                tokens: Mutex::new(0),
                token: Condvar::new(),
                exist: Arc::default(),
                sent: AtomicUsize::new(0),
                received: AtomicUsize::new(0),
            });
            let (first, second) = match random.below(3) {
                0 => (channel::bounded(0), channel::bounded(3)),
                1 => (channel::bounded(1), channel::unbounded()),
                _ => (channel::unbounded(), channel::bounded(0)),
            };
            let senders = [first.0, second.0];
            let receivers = [first.1, second.1];
            let count = 8 + random.below(16);
            let (mut green, mut os) = (Vec::new(), Vec::new());
            for number in 0..count {
                let seed = random.next();
                let common = common.clone();
                let (senders, receivers) = (senders.clone(), receivers.clone());
                let part = number % 4;
                // The receivers that are kept below end the wait of a sender; a token is given below.
                let actor = move || {
                    let random = &mut Random::new(seed);
                    match part {
                        0 => {
                            drop((senders, receivers));
                            use_locks(&common, random);
                        }
                        1 => {
                            drop(receivers);
                            send_all(&common, random, &senders);
                        }
                        2 => {
                            drop(senders);
                            receive_all(&common, random, &receivers[0], &receivers[1]);
                        }
                        _ => {
                            drop((senders, receivers));
                            take_token(&common, random);
                        }
                    }
                };
                if random.one_in(4) {
                    os.push(std::thread::spawn(actor));
                } else {
                    let handle = &handles[random.below(2) as usize];
                    green.push(handle.spawn(actor));
                }
            }
            // One receiver is never cancelled, so that no sender waits for ever.
            os.push(std::thread::spawn({
                let (common, seed) = (common.clone(), random.next());
                move || {
                    receive_all(
                        &common,
                        &mut Random::new(seed),
                        &receivers[0],
                        &receivers[1],
                    )
                }
            }));
            drop(senders);
            // One token a taker, cancelled or not: each notification must reach one that takes it.
            os.push(std::thread::spawn({
                let common = common.clone();
                move || {
                    for _ in 0..count {
                        *common.tokens.lock().unwrap() += 1;
                        common.token.notify_one();
                    }
                }
            }));
            let mut cancelled = Vec::new();
            for (number, handle) in green.iter().enumerate() {
                if random.one_in(4) {
                    std::thread::sleep(micros(random, 100));
                    handle.cancel();
                    cancelled.push(number);
                }
            }
            for handle in os {
                handle.join().unwrap();
            }
            for (number, handle) in green.into_iter().enumerate() {
                if let Err(payload) = handle.join() {
                    if !payload.is::<thread::Cancelled>() {
                        panic::resume_unwind(payload);
                    }
                    let fits = cancelled.contains(&number);
                    common
                        .findings
                        .check(fits, "a thread is cancelled only by a canceller");
                }
            }
            for runtime in runtimes {
                runtime.shutdown(Duration::from_secs(30)).unwrap();
            }
            let check = |holds, law| common.findings.check(holds, law);
            let pair = *common.mutex.lock().unwrap();
            check(
                pair.0 == common.increments.load(SeqCst),
                "no increment is lost",
            );
            check(common.semaphore.available() == PERMITS, "no permit is lost");
            check(
                common.exist.load(SeqCst) == 0,
                "each message is dropped once",
            );
            check(
                common.received.load(SeqCst) == common.sent.load(SeqCst),
                "what is sent is received once",
            );
            common.findings.assert_none();
        },
    );
}

/// What a generator program shares with its driver.
struct Stage {
    findings: Findings,
    present: Arc<AtomicUsize>,
    /// What the driver has resumed with, or thrown.
    given: Cell<u64>,
    /// How many values were yielded.
    yielded: Cell<u64>,
}

/// Exists once in each body that runs.
struct InBody(Arc<AtomicUsize>);

impl Drop for InBody {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

type Program = Generator<u64, u64, u64>;

fn program(stage: &Rc<Stage>, seed: u64, depth: u64) -> Program {
    let stage = stage.clone();
    Generator::new(move |y, input| {
        stage
            .findings
            .check(input == stage.given.get(), "a body begins with its input");
        stage.present.fetch_add(1, SeqCst);
        let _in_body = InBody(stage.present.clone());
        play(&stage, y, &mut Random::new(seed), depth)
    })
}

fn play(stage: &Rc<Stage>, y: &Yielder<u64, u64>, random: &mut Random, depth: u64) -> u64 {
    let step = || {
        let number = stage.yielded.get() + 1;
        // Refused while closing, and then not counted.
        if !y.is_closing() {
            stage.yielded.set(number);
        }
        let input = y.yield_(number);
        stage
            .findings
            .check(input == stage.given.get(), "a yield returns its input");
    };
    for _ in 0..random.below(8) {
        match random.below(8) {
            0..3 => step(),
            3 => {
                // Some go on after they were thrown into, or closed.
                if let Err(payload) = catch_unwind(AssertUnwindSafe(step)) {
                    if let Some(Planted(number)) = payload.downcast_ref() {
                        let same = *number == stage.given.get();
                        stage
                            .findings
                            .check(same, "a body is thrown what was given");
                    }
                    if random.one_in(2) || y.is_closing() {
                        panic::resume_unwind(payload);
                    }
                }
            }
            4 if depth > 0 => {
                let mut inner = program(stage, random.next(), depth - 1);
                // A delegate may have begun before.
                if random.one_in(3)
                    && let GeneratorState::Complete(_) = inner.resume(stage.given.get())
                {
                    continue;
                }
                if random.one_in(3) {
                    inner = *Box::new(inner);
                }
                y.yield_from(&mut inner, stage.given.get());
            }
            5 if depth > 0 => {
                let mut own = program(stage, random.next(), depth - 1);
                for _ in 0..random.below(4) {
                    if own.is_done() {
                        break;
                    }
                    own.resume(stage.given.get());
                }
            }
            6 if depth > 0 => {
                let result = catch_unwind(AssertUnwindSafe(|| panic_on_purpose(stage.given.get())));
                stage
                    .findings
                    .check(result.is_err(), "a panic in a body can be caught");
            }
            _ => thread::yield_now(),
        }
    }
    if random.one_in(8) {
        panic_on_purpose(stage.given.get());
    }
    random.next()
}

fn drive(stage: &Rc<Stage>, random: &mut Random, forgotten: &Cell<bool>) {
    let count = 1 + random.below(4);
    let mut programs: Vec<Program> = (0..count)
        .map(|_| program(stage, random.next(), 3))
        .collect();
    let check = |holds, law| stage.findings.check(holds, law);
    for _ in 0..random.below(60) {
        if programs.is_empty() {
            break;
        }
        let at = random.below(programs.len() as u64) as usize;
        let given = random.next();
        stage.given.set(given);
        match random.below(16) {
            0..9 => {
                let g = &mut programs[at];
                let was_done = g.is_done();
                match catch_unwind(AssertUnwindSafe(|| g.try_resume(given))) {
                    Ok(Ok(GeneratorState::Yielded(number))) => {
                        check(number == stage.yielded.get(), "a value is the last yielded");
                        check(g.status() == GeneratorStatus::Suspended, "it is suspended");
                    }
                    Ok(Ok(GeneratorState::Complete(_))) => check(g.is_done(), "it is done"),
                    Ok(Err(finished)) => {
                        check(was_done && finished.0 == given, "the input comes back");
                    }
                    Err(payload) => {
                        check(
                            is_planted(&*payload) || thread::is_cancelled(),
                            "its own panic",
                        );
                        check(g.is_done(), "a panic ends a generator");
                        if !is_planted(&*payload) {
                            panic::resume_unwind(payload);
                        }
                    }
                }
            }
            9..11 => {
                let g = &mut programs[at];
                match g.throw(Box::new(Planted(given))) {
                    Ok(GeneratorState::Yielded(number)) => {
                        check(number == stage.yielded.get(), "a value is the last yielded");
                    }
                    Ok(GeneratorState::Complete(_)) => check(g.is_done(), "it is done"),
                    Err(payload) => {
                        check(g.is_done(), "what is thrown through ends a generator");
                        if !is_planted(&*payload) {
                            panic::resume_unwind(payload);
                        }
                    }
                }
            }
            11 | 12 => {
                let g = &mut programs[at];
                let result = catch_unwind(AssertUnwindSafe(|| g.close()));
                check(g.is_done(), "a closed generator is done");
                if let Err(payload) = result
                    && !is_planted(&*payload)
                {
                    panic::resume_unwind(payload);
                }
            }
            13 => {
                forgotten.set(true);
                mem::forget(programs.swap_remove(at));
            }
            14 => {
                let moved = Box::new(programs.swap_remove(at));
                programs.insert(0, *moved);
            }
            _ => drop(programs.swap_remove(at)),
        }
    }
}

#[test]
fn random_generator_programs_end_as_they_should() {
    rounds("random_generator_programs_end_as_they_should", |random| {
        let runtime = Runtime::new(Config::default().workers(2)).unwrap();
        let actors = 1 + random.below(4);
        runtime.run(|| {
            let mut handles = Vec::new();
            for _ in 0..actors {
                let seed = random.next();
                handles.push(thread::spawn(move || {
                    let stage = Rc::new(Stage {
                        findings: Findings::default(),
                        present: Arc::default(),
                        given: Cell::new(0),
                        yielded: Cell::new(0),
                    });
                    let forgotten = Cell::new(false);
                    let run = || drive(&stage, &mut Random::new(seed), &forgotten);
                    let result = catch_unwind(AssertUnwindSafe(run));
                    if !forgotten.get() {
                        let left = stage.present.load(SeqCst);
                        stage
                            .findings
                            .check(left == 0, "the destructors of a body run");
                    }
                    let panicking = std::thread::panicking();
                    stage.findings.check(!panicking, "no panic is left behind");
                    let found = mem::take(&mut *stage.findings.0.lock().unwrap());
                    (found, result.err())
                }));
            }
            for handle in &handles {
                if random.one_in(3) {
                    thread::sleep(micros(random, 100));
                    handle.cancel();
                }
            }
            for handle in handles {
                match handle.join() {
                    Ok((found, payload)) => {
                        assert!(found.is_empty(), "{found:?}");
                        if let Some(payload) = payload {
                            // A cancellation or a planted panic: no assertion, ours or hebra's.
                            let message = payload.is::<String>() || payload.is::<&str>();
                            assert!(!message, "a driver has panicked");
                        }
                    }
                    Err(payload) => assert!(payload.is::<thread::Cancelled>()),
                }
            }
        });
    });
}
