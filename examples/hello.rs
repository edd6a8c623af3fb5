//! A hundred green threads sleep at the same time; their results are joined in order.

use std::time::Duration;

fn main() {
    let total: u32 = hebra::run(|| {
        let threads: Vec<_> = (1..=100)
            .map(|n| {
                hebra::thread::spawn(move || {
                    hebra::thread::sleep(Duration::from_millis(10));
                    n
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .sum()
    });
    println!("hello from 100 green threads: {total}");
}
