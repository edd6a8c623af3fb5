//! The audit of cancellation: it finds what is broken, passes what is right, and what hebra itself
//! has goes through it.

#![cfg(feature = "runtime")]

use std::collections::VecDeque;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hebra::sim::{self, Audit};
use hebra::thread::{self, Cancelled, JoinSet, Thread};
use hebra::time;

use support::{bounded, child, is_child, stderr};

mod support;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// What a primitive of the test may do wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Who is cancelled drops what it has been handed.
    Loses,
    /// Who is cancelled remains enlisted, and is handed something later.
    Remains,
}

/// A channel that hands a message to who waits for one.
struct Mailbox {
    fault: Fault,
    state: Mutex<Letters>,
}

#[derive(Default)]
struct Letters {
    arrived: VecDeque<u32>,
    waiting: VecDeque<Arc<Slot>>,
}

struct Slot {
    letter: Mutex<Option<u32>>,
    owner: Thread,
}

impl Mailbox {
    fn new(fault: Fault) -> Arc<Mailbox> {
        Arc::new(Mailbox {
            fault,
            state: Mutex::default(),
        })
    }

    fn send(&self, letter: u32) {
        let mut state = self.state.lock().unwrap();
        match state.waiting.pop_front() {
            Some(slot) => {
                *slot.letter.lock().unwrap() = Some(letter);
                slot.owner.unpark();
            }
            None => state.arrived.push_back(letter),
        }
    }

    fn receive(&self) -> u32 {
        let slot = Arc::new(Slot {
            letter: Mutex::default(),
            owner: thread::current(),
        });
        {
            let mut state = self.state.lock().unwrap();
            if let Some(letter) = state.arrived.pop_front() {
                return letter;
            }
            state.waiting.push_back(slot.clone());
        }
        let _withdraw = Withdraw {
            mailbox: self,
            slot: &slot,
        };
        loop {
            if let Some(letter) = slot.letter.lock().unwrap().take() {
                return letter;
            }
            thread::park();
        }
    }
}

struct Withdraw<'a> {
    mailbox: &'a Mailbox,
    slot: &'a Arc<Slot>,
}

impl Drop for Withdraw<'_> {
    fn drop(&mut self) {
        if self.mailbox.fault == Fault::Remains {
            return;
        }
        let mut state = self.mailbox.state.lock().unwrap();
        state.waiting.retain(|slot| !Arc::ptr_eq(slot, self.slot));
        let handed = self.slot.letter.lock().unwrap().take();
        drop(state);
        if let Some(letter) = handed
            && self.mailbox.fault != Fault::Loses
        {
            self.mailbox.send(letter);
        }
    }
}

/// Of two letters the victim gets one or none; another gets the rest.
fn two_receivers(fault: Fault) -> impl FnMut(&Audit) {
    move |audit| {
        let mailbox = Mailbox::new(fault);
        let theirs = mailbox.clone();
        let got = Arc::new(AtomicUsize::new(0));
        let count = got.clone();
        let victim = audit.spawn(move || {
            theirs.receive();
            count.fetch_add(1, SeqCst);
        });
        let others = mailbox.clone();
        let other = thread::spawn(move || others.receive());
        let senders = mailbox.clone();
        thread::spawn(move || {
            senders.send(1);
            thread::yield_now();
            senders.send(2);
        });
        other.join().unwrap();
        let _ = victim.join();
        thread::sleep(SECOND);
        let left = mailbox.state.lock().unwrap().arrived.len();
        assert_eq!(
            left + got.load(SeqCst),
            1,
            "letters left and received by the victim"
        );
    }
}

/// A semaphore that hands its permit to who waits first.
struct Permits {
    fault: Fault,
    state: Mutex<Free>,
}

struct Free {
    permits: usize,
    waiting: VecDeque<Arc<Ticket>>,
}

struct Ticket {
    granted: AtomicBool,
    owner: Thread,
}

impl Permits {
    fn acquire(&self) -> Permit<'_> {
        let ticket = Arc::new(Ticket {
            granted: AtomicBool::new(false),
            owner: thread::current(),
        });
        {
            let mut free = self.state.lock().unwrap();
            if free.permits > 0 {
                free.permits -= 1;
                return Permit(self);
            }
            free.waiting.push_back(ticket.clone());
        }
        let result = panic::catch_unwind(AssertUnwindSafe(|| {
            while !ticket.granted.load(SeqCst) {
                thread::park();
            }
        }));
        let Err(payload) = result else {
            return Permit(self);
        };
        if self.fault != Fault::Remains {
            self.state
                .lock()
                .unwrap()
                .waiting
                .retain(|other| !Arc::ptr_eq(other, &ticket));
        }
        if ticket.granted.load(SeqCst) && self.fault != Fault::Loses {
            self.release();
        }
        panic::resume_unwind(payload);
    }

    fn release(&self) {
        let mut free = self.state.lock().unwrap();
        match free.waiting.pop_front() {
            Some(ticket) => {
                ticket.granted.store(true, SeqCst);
                ticket.owner.unpark();
            }
            None => free.permits += 1,
        }
    }
}

struct Permit<'a>(&'a Permits);

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

fn three_who_acquire(fault: Fault) -> impl FnMut(&Audit) {
    move |audit| {
        let state = Mutex::new(Free {
            permits: 1,
            waiting: VecDeque::new(),
        });
        let permits = Arc::new(Permits { fault, state });
        let work = |permits: Arc<Permits>| {
            move || {
                let _permit = permits.acquire();
                thread::sleep(SECOND);
            }
        };
        let victim = audit.spawn(work(permits.clone()));
        let others = [(); 2].map(|()| thread::spawn(work(permits.clone())));
        let _ = victim.join();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(permits.state.lock().unwrap().permits, 1, "permits");
    }
}

/// The message of the panic with which the audit ends.
fn failure(f: impl FnMut(&Audit)) -> String {
    bounded(|| {
        let result = panic::catch_unwind(AssertUnwindSafe(|| sim::cancel_everywhere(0..20, f)));
        let Err(payload) = result else {
            return String::from("nothing found");
        };
        match payload.downcast::<String>() {
            Ok(text) => *text,
            Err(payload) => (*payload
                .downcast::<&str>()
                .expect("a panic's payload is text"))
            .to_owned(),
        }
    })
}

#[test]
fn what_keeps_the_law_passes() {
    bounded(|| {
        assert!(sim::cancel_everywhere(0..50, two_receivers(Fault::None)) > 200);
        assert!(sim::cancel_everywhere(0..50, three_who_acquire(Fault::None)) > 200);
    });
}

#[test]
fn a_message_lost_is_found() {
    let report = failure(two_receivers(Fault::Loses));
    assert!(
        report.contains("letters left and received by the victim"),
        "{report}"
    );
}

#[test]
fn a_message_to_who_has_gone_is_found() {
    let report = failure(two_receivers(Fault::Remains));
    let deadlock = report.starts_with("deadlock at")
        && report.contains("the audited thread was cancelled while parked in wait no. 1");
    assert!(
        deadlock || report.contains("letters left and received by the victim"),
        "{report}"
    );
}

#[test]
fn a_permit_leaked_is_found() {
    let report = failure(three_who_acquire(Fault::Loses));
    assert!(
        report.starts_with("deadlock at") || report.contains("permits"),
        "{report}"
    );
}

#[test]
fn a_wake_up_lost_is_found_and_the_report_says_where_the_thread_was_cancelled() {
    let report = failure(three_who_acquire(Fault::Remains));
    assert!(report.starts_with("deadlock at"), "{report}");
    assert!(
        report.ends_with("\n  the audited thread was cancelled as it came to cancel point no. 1"),
        "{report}"
    );
}

#[test]
fn a_thread_left_behind_is_found() {
    let report = failure(|audit| {
        let victim = audit.spawn(|| {
            let orphan = thread::spawn(|| thread::sleep(HOUR));
            orphan.join().unwrap();
        });
        let _ = victim.join();
    });
    assert!(
        report.starts_with("the cancelled thread has left green threads behind:\n  #2 '<unnamed>' (tests/sim_cancel.rs:"),
        "{report}"
    );
    // One that the uncancelled run leaves, too, is none of the cancellation's business.
    let expected = failure(|audit| {
        thread::spawn(|| thread::sleep(HOUR));
        let _ = audit.spawn(|| thread::sleep(SECOND)).join();
    });
    assert_eq!(expected, "nothing found");
}

#[test]
fn every_point_and_every_way_comes() {
    bounded(|| {
        let (mut seen, mut unbegun) = (Vec::new(), 0);
        let runs = sim::cancel_everywhere(0..2, |audit| {
            let steps = Arc::new(AtomicUsize::new(0));
            let count = steps.clone();
            let began = Arc::new(AtomicBool::new(false));
            let begins = began.clone();
            let victim = audit.spawn(move || {
                begins.store(true, SeqCst);
                for _ in 0..3 {
                    thread::sleep(SECOND);
                    count.fetch_add(1, SeqCst);
                }
            });
            let ended = victim.join();
            if let Err(payload) = &ended {
                let at = payload
                    .downcast_ref::<Cancelled>()
                    .unwrap()
                    .location()
                    .unwrap();
                assert!(at.file().ends_with("sim_cancel.rs"), "{at}");
            }
            assert_eq!(Arc::strong_count(&began), 1, "what it has captured is gone");
            unbegun += usize::from(!began.load(SeqCst));
            seen.push((ended.is_ok(), steps.load(SeqCst)));
        });
        assert_eq!(
            (runs, unbegun),
            (seen.len(), 2),
            "of each seed one is cancelled before it begins"
        );
        // For each of the two seeds: uncancelled, and cancelled after none, one and two sleeps, in
        // several ways.
        for steps in 0..3 {
            assert!(
                seen.iter().filter(|one| **one == (false, steps)).count() >= 2 * 2,
                "{seen:?}"
            );
        }
        assert!(
            !seen.contains(&(false, 3)) || seen.contains(&(true, 3)),
            "{seen:?}"
        );
    });
}

#[test]
fn each_way_cancels_where_it_says() {
    let name = "each_way_cancels_where_it_says";
    if is_child() {
        sim::cancel_everywhere([0], |audit| {
            let victim = audit.spawn(|| {
                thread::park();
                thread::sleep(HOUR);
            });
            thread::sleep(SECOND);
            victim.thread().unpark();
            let _ = victim.join();
        });
        return;
    }
    // What the victim does in the last run, in which it is cancelled: with `cancels` where that
    // happens.
    let steps = |aim: &str| {
        let text = stderr(&child(name, &[("HEBRA_CANCEL", aim), ("HEBRA_TRACE", "1")]));
        let (_, last) = text
            .rsplit_once("seed 0\n")
            .unwrap_or_else(|| panic!("{text}"));
        let steps = last
            .lines()
            .filter(|line| line.contains("#1 ") && !line.contains("spawn"));
        let steps = steps.map(|line| {
            if line.contains(" cancels ") {
                "cancels"
            } else {
                line.split_once(" ready: ").unwrap().1
            }
        });
        steps.collect::<Vec<_>>().join("; ")
    };
    assert_eq!(steps("starting:1"), "cancels; starts -> ends");
    assert_eq!(steps("arriving:1"), "cancels; starts -> ends");
    assert_eq!(
        steps("arriving:2"),
        "starts -> parked; cancels; parked, woken -> ends"
    );
    assert_eq!(
        steps("parked:1"),
        "starts -> parked; cancels; parked, cancelled -> ends"
    );
    assert_eq!(
        steps("parked:1+1"),
        "starts -> parked; cancels; parked, cancelled -> ends"
    );
    assert_eq!(
        steps("parked:2"),
        "starts -> parked; parked, woken -> sleeping; cancels; sleeping, cancelled -> ends"
    );
    assert_eq!(
        steps("woken:1"),
        "starts -> parked; cancels; parked, woken -> ends"
    );
    assert_eq!(
        steps("woken:2"),
        "starts -> parked; parked, woken -> sleeping; cancels; sleeping, timed out -> ends"
    );
}

#[test]
fn a_failure_can_be_repeated() {
    let name = "a_failure_can_be_repeated";
    if is_child() {
        sim::cancel_everywhere(5..8, |audit| {
            eprintln!("the body runs");
            let fine = audit.spawn(|| {
                thread::sleep(SECOND);
                thread::sleep(SECOND);
            });
            let begin = time::now();
            assert!(
                fine.join().is_ok() || begin.elapsed() != SECOND,
                "one second"
            );
        });
        return;
    }
    let text = stderr(&child(name, &[]));
    let (_, how) = text
        .split_once("HEBRA_SEED=")
        .unwrap_or_else(|| panic!("{text}"));
    let (seed, how) = how
        .split_once(" HEBRA_CANCEL=")
        .unwrap_or_else(|| panic!("{text}"));
    let (aim, _) = how
        .split_once(&format!(" cargo test {name} repeats it"))
        .unwrap_or_else(|| panic!("{text}"));
    let again = child(name, &[("HEBRA_SEED", seed), ("HEBRA_CANCEL", aim)]);
    assert!(!again.status.success());
    assert_eq!(
        stderr(&again).matches("the body runs\n").count(),
        2,
        "the uncancelled run and the failing one: {}",
        stderr(&again)
    );
    let nowhere = child(name, &[("HEBRA_SEED", seed), ("HEBRA_CANCEL", "parked:99")]);
    assert!(
        stderr(&nowhere).contains("names a point that the thread does not come to"),
        "{}",
        stderr(&nowhere)
    );
    let unreadable = child(name, &[("HEBRA_CANCEL", "soon")]);
    assert!(
        stderr(&unreadable).contains("HEBRA_CANCEL is to be like"),
        "{}",
        stderr(&unreadable)
    );
}

#[test]
fn an_audit_of_nobody_is_a_mistake() {
    assert!(failure(|_| ()).contains("nobody to cancel"));
}

/// Counts who holds a share of it: what a thread owns or borrows.
#[derive(Clone, Default)]
struct Shares(Arc<()>);

impl Shares {
    fn assert_all_back(&self) {
        assert_eq!(
            Arc::strong_count(&self.0),
            1,
            "a thread has ended and its values are there"
        );
    }
}

/// Puts `body` through the audit: whatever happens it ends, nothing is left, and it ends with the
/// cancellation or with its result.
fn audited<T: PartialEq + std::fmt::Debug + 'static>(
    seeds: u64,
    expected: T,
    body: fn(&Shares) -> T,
) -> usize {
    bounded(|| {
        sim::cancel_everywhere(0..seeds, |audit| {
            let shares = Shares::default();
            let theirs = shares.clone();
            match audit.spawn(move || body(&theirs)).join() {
                Ok(value) => assert_eq!(value, expected),
                Err(payload) => assert!(payload.is::<Cancelled>()),
            }
            shares.assert_all_back();
        })
    })
}

#[test]
fn sleeps_and_intervals() {
    audited(20, 3 * SECOND, |_| {
        let begin = time::now();
        thread::sleep(SECOND);
        let mut ticks = time::interval(SECOND);
        ticks.tick();
        ticks.tick();
        thread::sleep_until(begin + 3 * SECOND);
        begin.elapsed()
    });
}

#[test]
fn yields_and_tokens() {
    audited(20, (), |_| {
        let me = thread::current();
        thread::spawn(move || me.unpark());
        thread::yield_now();
        thread::park();
        thread::park_timeout(SECOND);
    });
}

#[test]
fn joins() {
    // Whoever is cancelled while it joins detaches the thread, and that goes on: until it ends
    // here.
    audited(20, 7, |_| {
        let inner = thread::spawn(|| thread::spawn(|| 7).join().unwrap());
        inner.join().unwrap()
    });
}

#[test]
fn scopes() {
    audited(20, [1, 2, 3], |shares| {
        let mut values = [0; 3];
        thread::scope(|s| {
            for (at, value) in values.iter_mut().enumerate() {
                let shares = shares.clone();
                s.spawn(move || {
                    thread::sleep(SECOND * at as u32);
                    *value = at + 1;
                    drop(shares);
                });
            }
            thread::sleep(SECOND);
        });
        values
    });
}

#[test]
fn scopes_in_scopes_and_joins_in_them() {
    audited(10, 12, |shares| {
        thread::scope(|outer| {
            let sums = [1, 2].map(|n| {
                let shares = shares.clone();
                outer.spawn(move || {
                    let _shares = &shares;
                    thread::scope(|inner| {
                        let two = [(); 2]
                            .map(|()| inner.spawn(|| n + thread::timeout(SECOND, || 1).unwrap()));
                        thread::yield_now();
                        two.into_iter().map(|one| one.join().unwrap()).sum::<i32>()
                    })
                })
            });
            sums.into_iter().map(|sum| sum.join().unwrap()).sum::<i32>() + 2
        })
    });
}

#[test]
fn scopes_that_fail() {
    audited(20, "no", |shares| {
        let result = thread::try_scope(|s| {
            let shares = [shares.clone(), shares.clone()];
            let [a, b] = shares;
            s.spawn(move || {
                thread::sleep(HOUR);
                drop(a);
                Ok(())
            });
            s.spawn(move || {
                thread::sleep(SECOND);
                drop(b);
                Err::<(), _>("no")
            });
            Ok::<(), &str>(())
        });
        match result.unwrap_err().first() {
            thread::Failure::Error(error) => error,
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn sets() {
    audited(20, vec![1, 2, 3], |shares| {
        let mut set = JoinSet::new();
        for n in [3, 1, 2] {
            let shares = shares.clone();
            set.spawn(move || {
                thread::sleep(SECOND * n);
                drop(shares);
                n
            });
        }
        let mut ended = Vec::new();
        while let Some(result) = set.join_next() {
            ended.push(result.unwrap());
        }
        ended
    });
}

#[test]
fn races() {
    audited(20, 1, |shares| {
        let contenders = [3, 1, 2].map(|n| {
            let shares = shares.clone();
            move || {
                thread::sleep(SECOND * n);
                drop(shares);
                n
            }
        });
        thread::race(contenders).unwrap()
    });
}

#[test]
fn time_outs_and_shields() {
    audited(20, (true, 2 * SECOND), |shares| {
        let begin = time::now();
        let _shares = shares.clone();
        let outer = thread::timeout(HOUR, || {
            let late = thread::timeout(SECOND, || thread::sleep(HOUR));
            thread::shield(|| thread::sleep(SECOND));
            thread::yield_now();
            late.is_err()
        });
        (outer.unwrap(), begin.elapsed())
    });
}
