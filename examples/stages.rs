//! A pipeline with back-pressure and an ordered end: documents come in, are cut into words by
//! several threads at a time, and counted.
//!
//! Every stage is a function from a receiver to a receiver, and ends when its input does; then its
//! senders go, and the next stage ends. So nothing is lost on the way. If the last stage has seen
//! enough, its receiver goes, and the stages end in the other direction. The channels between them
//! hold a few messages: a stage that is faster than the next one waits for it, and memory stays as
//! it is.
//!
//! Usage: `stages [DOCUMENTS [ENOUGH]]`

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hebra::channel::{Receiver, bounded};
use hebra::thread;

/// Messages that wait between two stages.
const ROOM: usize = 4;
/// Threads that cut documents.
const CUTTERS: usize = 3;

/// How many documents are on their way, now and at most.
#[derive(Default)]
struct Load {
    now: AtomicUsize,
    peak: AtomicUsize,
}

impl Load {
    fn enter(&self) {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.peak.fetch_max(now, Ordering::Relaxed);
    }

    fn leave(&self) {
        self.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// First stage: where documents come from. It runs ahead of the others by what there is room for.
fn documents(count: usize, load: &Arc<Load>) -> Receiver<String> {
    let (sender, receiver) = bounded(ROOM);
    let load = load.clone();
    thread::spawn(move || {
        for n in 0..count {
            load.enter();
            if sender
                .send(format!("the {n} quick foxes and the {n} lazy dogs"))
                .is_err()
            {
                return eprintln!("documents: nobody wants more than {n}");
            }
        }
    });
    receiver
}

/// Second stage: several threads that do the same. The output is closed when the last of them has
/// ended.
fn words(documents: Receiver<String>) -> Receiver<Vec<String>> {
    let (sender, receiver) = bounded(ROOM);
    for _ in 0..CUTTERS {
        let (documents, sender) = (documents.clone(), sender.clone());
        thread::spawn(move || {
            for document in documents {
                let words = document.split(' ').map(str::to_owned).collect();
                if sender.send(words).is_err() {
                    return;
                }
            }
        });
    }
    receiver
}

/// Last stage: counts the words of documents until there are no more, or `enough` have been seen.
fn count(
    words: Receiver<Vec<String>>,
    enough: usize,
    load: &Load,
) -> (usize, BTreeMap<String, usize>) {
    let (mut seen, mut counts) = (0, BTreeMap::new());
    for words in words.into_iter().take(enough) {
        load.leave();
        seen += 1;
        for word in words {
            *counts.entry(word).or_default() += 1;
        }
    }
    (seen, counts)
}

fn main() {
    let mut arguments = std::env::args()
        .skip(1)
        .map(|argument| argument.parse().expect("a number"));
    let (how_many, enough) = (
        arguments.next().unwrap_or(1000),
        arguments.next().unwrap_or(usize::MAX),
    );
    hebra::run(|| {
        let load = Arc::default();
        let (seen, counts) = count(words(documents(how_many, &load)), enough, &load);
        let peak = load.peak.load(Ordering::Relaxed);
        // In the two channels, in the hands of the threads, and one that waits to be sent.
        assert!(
            peak <= 2 * ROOM + 2 * CUTTERS + 2,
            "{peak} documents at a time"
        );
        println!(
            "{seen} documents, {} times 'the', {} different words",
            counts["the"],
            counts.len()
        );
    });
}
