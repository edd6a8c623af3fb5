//! The sieve of Eratosthenes as a chain of green threads, one for each prime found: each sends on
//! what its prime does not divide.
//!
//! With `primes`, which does the same with generators, it shows what a hand-over costs that may go
//! anywhere. When the last prime has been printed its receiver goes, and the chain ends from
//! behind: a thread whose receiver is gone has nobody to sieve for.

use hebra::channel::{Receiver, bounded};
use hebra::thread;

/// Starts a thread that sends what `numbers` yields, until nobody listens.
fn send_all(numbers: impl Iterator<Item = u64> + Send + 'static) -> Receiver<u64> {
    let (sender, receiver) = bounded(64);
    thread::spawn(move || {
        for number in numbers {
            if sender.send(number).is_err() {
                return;
            }
        }
    });
    receiver
}

fn main() {
    let how_many = std::env::args()
        .nth(1)
        .map_or(100, |arg| arg.parse().expect("a number of primes"));
    hebra::run(|| {
        let mut numbers = send_all(2..);
        for _ in 0..how_many {
            let prime = numbers.recv().expect("there is always another one");
            println!("{prime}");
            numbers = send_all(numbers.into_iter().filter(move |n| n % prime != 0));
        }
    });
}
