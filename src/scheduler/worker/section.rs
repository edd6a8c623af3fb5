//! The section `.hebra`: what a debugger must know of this build to read green threads.
//!
//! It is found by its name in the list of sections, which a stripped binary keeps; so neither debug
//! information nor symbols are needed. All fields are words, in the order of [`Section`]; the magic
//! string ends in a version, which changes with the layout. `gdb/hebra.py` reads it.
//!
//! The offsets that the compiler knows are constants. What belongs to other crates has no offsets
//! to ask for: [`prepare`] looks at a value and finds where the words are that it must contain.

use std::mem::MaybeUninit;
use std::panic::Location;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::super::run_queue::MAX_WORKERS;
use super::super::task::{self, Reason};
use super::capture::{TABLES, TableView};
use crate::stack;

const MAX_REASONS: usize = 32;
const WORD: usize = size_of::<usize>();

/// See the module.
#[repr(C)]
struct Section {
    magic: [u8; 16],
    stacks: stack::Layout,
    record: task::Layout,
    /// Where the [`TableView`]s of all worker numbers are, and how many.
    tables: &'static [TableView; MAX_WORKERS],
    workers: usize,
    /// Bytes of a `TableView`.
    view: usize,
    /// In an entry of a table: the word with the address of the saved registers; 0: not known.
    saved: AtomicUsize,
    /// The return address at which a stack ends.
    root: AtomicUsize,
    /// In a `OnceLock<Box<_>>` of a record: the word of the box.
    boxed: AtomicUsize,
    /// In a [`Location`]: the address and length of the file's name, the line, the column.
    location: [AtomicUsize; 4],
    reasons: [&'static str; MAX_REASONS],
}

// SAFETY: the loader puts it into a section of its own, which nothing else writes to. It is a static
// with a size of its own, so no other object is laid out around it.
#[used]
#[unsafe(link_section = ".hebra")]
static SECTION: Section = Section {
    magic: *b"hebra debug 0001",
    stacks: stack::Layout::new(),
    record: task::Layout::new(),
    tables: &TABLES,
    workers: MAX_WORKERS,
    view: size_of::<TableView>(),
    saved: AtomicUsize::new(0),
    root: AtomicUsize::new(0),
    boxed: AtomicUsize::new(usize::MAX),
    location: [const { AtomicUsize::new(usize::MAX) }; 4],
    reasons: {
        let mut words = [""; MAX_REASONS];
        let mut at = 0;
        while at < Reason::ALL.len() {
            words[at] = Reason::ALL[at].words();
            at += 1;
        }
        words
    },
};

/// Fills in what is not known before the process runs. Cheap when that has been done.
#[track_caller]
pub(super) fn prepare() {
    if SECTION.location[0].load(Relaxed) != usize::MAX {
        return;
    }
    #[cfg(all(target_arch = "x86_64", not(hebra_sanitizer)))]
    if let Some(saved) = crate::coroutine::SavedState::get() {
        SECTION
            .saved
            .store(super::COROUTINE_IN_ENTRY + saved.pointer, Relaxed);
        SECTION.root.store(saved.root, Relaxed);
    }
    if let Some(at) = task::find_rare(|lock, address| find(lock, address, WORD)) {
        SECTION.boxed.store(at, Relaxed);
    }
    let here = Location::caller();
    let file = here.file();
    let places = [
        find(here, file.as_ptr().addr(), WORD),
        // With or without the zero byte at its end.
        find(here, file.len(), WORD).or_else(|| find(here, file.len() + 1, WORD)),
        find(here, here.line() as usize, 4),
        find(here, here.column() as usize, 4),
    ];
    for (to, found) in SECTION.location.iter().zip(places).rev() {
        to.store(found.unwrap_or(usize::MAX - 1), Relaxed);
    }
}

/// The offset of the word of `value` that is `word`, of so many bytes.
fn find<T>(value: &T, word: usize, bytes: usize) -> Option<usize> {
    let start = std::ptr::from_ref(value).cast::<MaybeUninit<u8>>();
    (0..=size_of::<T>().checked_sub(bytes)?)
        .step_by(bytes)
        .find(|at| {
            let is_same = |(n, byte): (usize, u8)| {
                // SAFETY: inside of `value`, which is borrowed. Bytes of padding stand only behind
                // a field that is shorter than a word; they are read only if that field has the
                // value of the first half of an address, which no state of a lock has.
                let found = unsafe { start.add(at + n).read().assume_init() };
                found == byte
            };
            word.to_ne_bytes()[..bytes]
                .iter()
                .copied()
                .enumerate()
                .all(is_same)
        })
}
