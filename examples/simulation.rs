//! A client that pays over a bad line and tries again, against a server that is slow, refuses, or
//! loses requests and answers; in a thousand schedules, hours of virtual time.
//!
//! `cargo run --release --example simulation [-- --naive]`: a naive server books whatever it is
//! asked to, and the simulation finds the seed with which somebody pays twice.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hebra::{sim, thread, time};

const TIMEOUT: Duration = Duration::from_secs(1);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const ATTEMPTS: u32 = 8;
/// The pauses double, and jitter makes each up to twice as long.
const LONGEST: Duration = Duration::from_secs(ATTEMPTS as u64 + (1 << ATTEMPTS) / 5);

#[derive(Default)]
struct Server {
    /// Orders, as they were booked.
    ledger: RefCell<Vec<u64>>,
    naive: bool,
}

struct Refused;

impl Server {
    fn pay(&self, order: u64) -> Result<(), Refused> {
        lose_some();
        thread::sleep(up_to(TIMEOUT * 3 / 2));
        if one_in(4) {
            return Err(Refused);
        }
        let is_new = !self.ledger.borrow().contains(&order);
        if self.naive || is_new {
            self.ledger.borrow_mut().push(order);
        }
        lose_some();
        Ok(())
    }
}

/// What is lost is never heard of again.
fn lose_some() {
    if one_in(5) {
        thread::sleep(Duration::MAX);
    }
}

fn one_in(n: u64) -> bool {
    sim::random().is_multiple_of(n)
}

fn up_to(most: Duration) -> Duration {
    most.mul_f64((sim::random() >> 11) as f64 / (1_u64 << 53) as f64)
}

/// Pays an order; `false` if it is not known whether that has worked.
fn pay(server: &Rc<Server>, order: u64) -> bool {
    let mut pause = FIRST_PAUSE;
    for _ in 0..ATTEMPTS {
        let server = server.clone();
        let request = thread::spawn_local(move || server.pay(order));
        // Who gives up waiting does not stop the server.
        if let Ok(Ok(Ok(()))) = thread::timeout(TIMEOUT, || request.join()) {
            return true;
        }
        thread::sleep(pause + up_to(pause));
        pause *= 2;
    }
    false
}

fn main() {
    let naive = std::env::args().any(|argument| argument == "--naive");
    let (mut runs, virtual_time, start) = (0, Cell::new(Duration::ZERO), Instant::now());
    sim::check(0..1_000, || {
        let began = time::now();
        let server = Rc::new(Server {
            naive,
            ..Server::default()
        });
        let clients = (0..4).map(|order| {
            let server = server.clone();
            thread::spawn_local(move || pay(&server, order))
        });
        let outcomes: Vec<bool> = clients
            .collect::<Vec<_>>()
            .into_iter()
            .map(|client| client.join().unwrap())
            .collect();
        for (order, has_paid) in (0..).zip(outcomes) {
            let booked = server
                .ledger
                .borrow()
                .iter()
                .filter(|booked| **booked == order)
                .count();
            assert!(booked <= 1, "order {order} has been booked {booked} times");
            assert!(
                booked == 1 || !has_paid,
                "order {order} is said to be paid, and is not"
            );
        }
        assert!(
            began.elapsed() <= LONGEST,
            "somebody has waited for {:?}",
            began.elapsed()
        );
        virtual_time.set(virtual_time.get() + began.elapsed());
        runs += 1;
    });
    let hours = virtual_time.get().as_secs_f64() / 3600.0;
    println!(
        "{runs} runs, {hours:.1} h of virtual time in {:.1?}: nobody has paid twice",
        start.elapsed()
    );
}
