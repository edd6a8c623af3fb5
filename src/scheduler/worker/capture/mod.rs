//! Captures what a worker's green threads do: for dumps, and for debuggers.
//!
//! # Who captures
//!
//! The table of a worker changes only between two resumes (law 2). So it can be read by the worker
//! itself between two resumes, and by a signal handler on the worker's OS thread while a green
//! thread runs there: nothing changes it before the handler returns. Nobody else may read it.
//!
//! ```text
//!   the asker                                  the worker
//!   1 post.wanted = buffer; wake the worker    its loop: take the buffer, capture in batches, answer
//!   2 no answer in time? tgkill                its signal handler: take the buffer, capture all, answer
//!   3 wait for the answer
//! ```
//!
//! Taking the buffer is one swap, so either the loop does it or the handler. A worker that goes to
//! sleep looks for a request after it has announced that, as it does for everything else.
//!
//! The loop captures [`BATCH`] threads a tick and runs others in between; a thread that is about to
//! be resumed and has not been captured is captured first. So what one worker has written is a
//! picture of the moment at which it began, and nobody waits long for it.

use std::panic::Location;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, Ordering};

use slab::Slab;

use super::super::clock::Nanos;
use super::super::run_queue::Slot;
use super::super::task::Reason;
use super::local::Local;
use super::shared::Post;
use super::{Entry, Worker};
use crate::stack_walk::{Registers, Walker};

mod ask;
mod view;

pub(crate) use ask::{CaptureAnswer, capture_all};
pub(super) use view::{TABLES, TableView};

/// A green thread as it was at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Captured {
    /// 0 if nothing has ever asked for it.
    pub(crate) id: u64,
    pub(crate) state: CapturedState,
    pub(crate) reason: Reason,
    pub(crate) since: Nanos,
    /// The id of the thread that it waits for, or 0.
    pub(crate) owner: u64,
    pub(crate) location: &'static Location<'static>,
    pub(crate) cancelled_at: Option<&'static Location<'static>>,
    pub(crate) is_cancelled: bool,
    name: [u8; NAME],
    name_length: Option<u8>,
    /// Its frames in [`Capture::addresses`].
    first_frame: usize,
    frames: u16,
    /// The stack is longer, or could not be followed to its end.
    pub(crate) is_cut: bool,
}

/// What a started green thread did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CapturedState {
    Parked,
    /// It can run, and waits for its turn.
    Ready,
    Running,
}

/// How a worker has answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AnsweredBy {
    Nobody,
    Loop,
    SignalHandler,
}

/// Bytes of a name that are kept.
const NAME: usize = 40;
/// Frames of a stack that are kept.
const FRAMES: usize = 96;
/// Green threads that the loop captures between two looks at anything else.
const BATCH: usize = 256;
/// For how many threads and frames there is room beyond those that the worker had when it was asked.
const SLACK: usize = 1 << 12;

/// What one worker writes down. Its memory is there beforehand, as the writer may be in a signal
/// handler: reserved, and touched only as far as it is used.
pub(crate) struct Capture {
    pub(crate) threads: Vec<Captured>,
    pub(crate) addresses: Vec<u64>,
    pub(crate) unstarted: Vec<&'static Location<'static>>,
    /// Green threads for which there was no room.
    pub(crate) left_out: usize,
    /// When it was done, on the runtime's clock.
    pub(crate) at: Nanos,
    walker: Option<Walker>,
    /// Which slots have been captured, as bits; only while the loop is at it.
    seen: Vec<u64>,
    /// The first slot that the loop has not looked at.
    next: usize,
    /// An [`AnsweredBy`]; written last, and released: then the worker has forgotten this.
    answered: AtomicU8,
}

impl Captured {
    /// The beginning of its name, if it has one.
    pub(crate) fn name(&self) -> Option<String> {
        let length = usize::from(self.name_length?);
        Some(String::from_utf8_lossy(&self.name[..length]).into_owned())
    }
}

impl Capture {
    /// Room for `threads` green threads and their stacks.
    fn new(threads: usize) -> Box<Capture> {
        let threads = threads + SLACK;
        Box::new(Capture {
            threads: Vec::with_capacity(threads),
            addresses: Vec::with_capacity(threads * FRAMES / 2),
            unstarted: Vec::with_capacity(SLACK),
            left_out: 0,
            at: 0,
            walker: Walker::new(),
            seen: Vec::new(),
            next: 0,
            answered: AtomicU8::new(AnsweredBy::Nobody as u8),
        })
    }

    pub(crate) fn answered_by(&self) -> AnsweredBy {
        match self.answered.load(Ordering::Acquire) {
            1 => AnsweredBy::Loop,
            2 => AnsweredBy::SignalHandler,
            _ => AnsweredBy::Nobody,
        }
    }

    /// The frames of a thread, innermost first.
    pub(crate) fn frames(&self, thread: &Captured) -> &[u64] {
        &self.addresses[thread.first_frame..][..usize::from(thread.frames)]
    }

    /// Writes down one green thread. Neither allocates nor locks. `registers` are those of a thread
    /// that runs.
    fn add(&mut self, entry: &Entry, registers: Option<Registers>) {
        if self.threads.len() == self.threads.capacity() {
            self.left_out += 1;
            return;
        }
        let task = &entry.task;
        let is_running = registers.is_some();
        let state = match task.claim.is_waiting() {
            _ if is_running => CapturedState::Running,
            true => CapturedState::Parked,
            false => CapturedState::Ready,
        };
        let (mut name, mut name_length) = ([0; NAME], None);
        if let Some(text) = task.name() {
            let mut length = text.len().min(NAME);
            while !text.is_char_boundary(length) {
                length -= 1;
            }
            name[..length].copy_from_slice(&text.as_bytes()[..length]);
            name_length = Some(length as u8);
        }
        let first_frame = self.addresses.len();
        let registers = registers.or_else(|| Registers::saved_at(entry.coroutine.saved()?));
        let mut is_cut = true;
        if let (Some(walker), Some(registers)) = (&mut self.walker, registers) {
            let room = (self.addresses.capacity() - first_frame).min(FRAMES);
            let addresses = &mut self.addresses;
            is_cut = !walker.walk(registers, |address| {
                let has_room = addresses.len() - first_frame < room;
                if has_room {
                    addresses.push(address);
                }
                has_room
            });
        }
        self.threads.push(Captured {
            id: task.id_if_drawn(),
            state,
            reason: task.reason(),
            since: task.since(),
            owner: if is_running {
                0
            } else {
                super::deadlock::owner(task)
            },
            location: task.location(),
            cancelled_at: task.cancelled_at(),
            is_cancelled: task.is_cancel_requested(),
            name,
            name_length,
            first_frame,
            frames: (self.addresses.len() - first_frame) as u16,
            is_cut,
        });
    }

    /// Writes down the threads that have not started, as far as there is room.
    fn add_unstarted(&mut self, local: &Local) {
        let room = self.unstarted.capacity();
        // A signal handler may have interrupted a spawn: then the list is left out.
        if let Ok(unstarted) = local.unstarted.try_borrow() {
            let places = unstarted.iter().map(|one| one.task.location());
            self.unstarted.extend(places.take(room));
        }
        if let Ok(unstarted) = local.local_starts.try_borrow() {
            let places = unstarted.iter().map(|one| one.task.location());
            self.unstarted
                .extend(places.take(room - self.unstarted.len()));
        }
    }

    /// In a signal handler: captures all threads of a table, of which the one that runs has these
    /// registers, and answers.
    pub(super) fn all(mut self: Box<Self>, table: &Slab<Entry>, local: &Local, running: Registers) {
        for (slot, entry) in table {
            let is_running = slot == local.slot.get() as usize;
            self.add(entry, is_running.then_some(running));
        }
        self.add_unstarted(local);
        self.at = local.shared.clock.now();
        // From here on it is the asker's again.
        Box::leak(self).answer(AnsweredBy::SignalHandler);
    }

    fn mark(&mut self, slot: usize) -> bool {
        let (word, bit) = (slot / 64, 1 << (slot % 64));
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        let is_new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        is_new
    }

    fn answer(&self, by: AnsweredBy) {
        self.answered.store(by as u8, Ordering::Release);
    }
}

impl Post {
    #[inline]
    fn is_capture_wanted(&self) -> bool {
        !self.wanted.load(Ordering::Relaxed).is_null()
    }

    /// Takes the request, if there is one. It must be answered.
    pub(super) fn take_wanted(&self) -> Option<Box<Capture>> {
        let wanted = NonNull::new(self.wanted.swap(ptr::null_mut(), Ordering::AcqRel))?;
        // SAFETY: from `into_raw`, and this is the only one that has taken it. The asker frees it
        // when it has been answered, by which time it has been leaked again.
        Some(unsafe { Box::from_raw(wanted.as_ptr()) })
    }
}

impl Worker {
    /// Takes a request for a capture, if there is one, or goes on with it.
    #[inline]
    pub(super) fn serve_capture(&mut self) {
        if self.capture.is_some() || self.local.post().is_capture_wanted() {
            self.go_on_capturing();
        }
    }

    /// Whether there is a request that keeps it from sleeping.
    pub(super) fn is_capturing(&self) -> bool {
        self.capture.is_some() || !self.local.post().wanted.load(Ordering::SeqCst).is_null()
    }

    #[cold]
    fn go_on_capturing(&mut self) {
        if self.capture.is_none() {
            self.capture = self.local.post().take_wanted();
        }
        let Some(capture) = &mut self.capture else {
            return;
        };
        let end = self.table.capacity();
        let until = (capture.next + BATCH).min(end);
        for slot in capture.next..until {
            if let Some(entry) = self.table.get(slot)
                && capture.mark(slot)
            {
                capture.add(entry, None);
            }
        }
        capture.next = until;
        if until == end {
            capture.add_unstarted(&self.local);
            capture.at = self.local.shared.clock.now();
            if let Some(capture) = self.capture.take() {
                // From here on it is the asker's again.
                Box::leak(capture).answer(AnsweredBy::Loop);
            }
        }
    }

    /// A green thread is about to be resumed while the loop captures.
    #[cold]
    pub(super) fn capture_first(&mut self, slot: Slot) {
        if let (Some(capture), Some(entry)) = (&mut self.capture, self.table.get(slot as usize))
            && slot as usize >= capture.next
            && capture.mark(slot as usize)
        {
            capture.add(entry, None);
        }
    }

    /// A green thread starts while the loop captures: it was none when that began.
    #[cold]
    pub(super) fn leave_out_of_capture(&mut self, slot: Slot) {
        if let Some(capture) = &mut self.capture {
            capture.mark(slot as usize);
        }
    }
}
