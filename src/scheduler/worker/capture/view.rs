//! [`TableView`]: where a worker's table is in memory, for debuggers and core files.
//!
//! A debugger finds it through a static array that has an element for each worker number. The table
//! is a local variable of the loop and its entries move when it grows; so the worker writes down
//! where they are at the start of each green thread, when an entry has got its place.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::super::super::clock::Nanos;
use super::super::super::run_queue::MAX_WORKERS;

/// The table of one worker. Written by that worker alone.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct TableView {
    /// The address of the entry of slot 0; 0 before the first green thread has started.
    base: AtomicUsize,
    /// From one entry to the next, in bytes; 0 until there were two.
    stride: AtomicUsize,
    /// What `CLOCK_MONOTONIC` said when the runtime's clock was at 0, in nanoseconds; 0 if the
    /// runtime's clock is a virtual one.
    epoch: AtomicU64,
    /// Green threads that the table has had at a time, at most.
    slots: AtomicUsize,
    /// The kernel's number of the OS thread; 0: no worker has this number now.
    tid: AtomicU32,
}

/// By worker number; see [`Home`](super::super::super::run_queue::Home).
pub(crate) static TABLES: [TableView; MAX_WORKERS] = [const { TableView::new() }; MAX_WORKERS];

impl TableView {
    const fn new() -> TableView {
        TableView {
            base: AtomicUsize::new(0),
            stride: AtomicUsize::new(0),
            epoch: AtomicU64::new(0),
            slots: AtomicUsize::new(0),
            tid: AtomicU32::new(0),
        }
    }

    /// The calling OS thread becomes the worker. `now` is the time on its clock, unless that is a
    /// virtual one.
    pub(in super::super) fn open(&self, now: Option<Nanos>) {
        let monotonic = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let nanos = monotonic.tv_sec as u64 * 1_000_000_000 + monotonic.tv_nsec as u64;
        self.epoch
            .store(now.map_or(0, |now| nanos.saturating_sub(now)), Relaxed);
        #[cfg(target_os = "linux")]
        self.tid.store(
            rustix::thread::gettid()
                .as_raw_nonzero()
                .get()
                .cast_unsigned(),
            Relaxed,
        );
    }

    /// The worker ends.
    pub(in super::super) fn close(&self) {
        self.base.store(0, Relaxed);
        self.slots.store(0, Relaxed);
        self.tid.store(0, Relaxed);
    }

    /// An entry has got its place, at `address`. `first` says where that of slot 0 is: when slot 1
    /// is used for the first time, slot 0 is in use as well.
    #[inline]
    pub(in super::super) fn note(
        &self,
        slot: usize,
        address: usize,
        first: impl FnOnce() -> Option<usize>,
    ) {
        let mut stride = self.stride.load(Relaxed);
        if stride == 0
            && slot == 1
            && let Some(first) = first()
        {
            stride = address - first;
            self.stride.store(stride, Relaxed);
        }
        self.base.store(address - slot * stride, Relaxed);
        if slot >= self.slots.load(Relaxed) {
            self.slots.store(slot + 1, Relaxed);
        }
    }

    /// The number of the OS thread, and how many green threads it has had at a time.
    pub(super) fn size(&self) -> (u32, usize) {
        (self.tid.load(Relaxed), self.slots.load(Relaxed))
    }
}
