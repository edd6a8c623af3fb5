//! Stacks for coroutines: slots of equal size, each with a guard page, cut out of slabs and pooled
//! per OS thread.
//!
//! ```text
//!   slab: one mmap, aligned to max(slot, 2 MiB), never unmapped
//!   ┌────────┬────────┬────────┬─────── ─ ─ ───────┐
//!   │ slot 0 │ slot 1 │ slot 2 │   not carved yet  │   no guard, no page and no page table until carved
//!   └────────┴────────┴────────┴─────── ─ ─ ───────┘
//!
//!   slot: a power of two ≥ 16 KiB, aligned to its size                low addresses first
//!   ┌────────────┬───────────────────────────────┬──────────────┬──────────────────┐
//!   │ guard page │  usable stack, grows ←────────│ label (64 B) │ colour pad       │
//!   │ faults     │                               │ whose it is  │ 128 B × (0…15)   │
//!   └────────────┴───────────────────────────────┴──────────────┴──────────────────┘
//!   start        limit()                    base()                              end = start + reserved()
//! ```
//!
//! Everything is derived from one address: the slot of an address is the address rounded down to
//! the slot size, and the colour is `(start / size) mod 16`. So a signal handler that knows nothing
//! but the faulting address and the slab it is in finds the label, and a pool holds addresses only.
//!
//! - **Colour.** Hot ends at a power-of-two stride all fall in one set of the L1 cache; staggering
//!   them by 128 B over 2 KiB took a yield among 1,000 green threads from 28 to 7.6 ns. The label
//!   is on the stack's side of the pad because it is written at every start: at the end of the slot
//!   the labels would fight for the one set that the pad keeps the stacks out of. Neighbouring
//!   slots differ in colour, slots 16 apart do not; that costs cache misses, never correctness.
//! - **One page.** Label and pad take at most 1,984 B, so a coroutine that uses up to 2 KiB holds a
//!   single 4 KiB page, plus its share of a page table: guard and top page of a 256 KiB slot lie
//!   under the same table, eight slots to a table.
//!
//! # Invariants
//! 1. *A slab lives as long as the process.* So a [`Slot`] can be looked at for ever, also by a
//!    signal handler. Generations of stacks come and go, and address space that holds no pages
//!    costs only its page tables, 513 B for every slot of 256 KiB that was ever carved; they stay.
//! 2. *One owner.* A carved slot is owned by exactly one [`Stack`], or one [`Free`] in one pool. A
//!    `Free` proves that nobody reads or writes the slot between guard and end, so its pages may be
//!    given back to the kernel.
//! 3. *Never unguarded.* A slot is handed out only with its guard page in place; a slot whose guard
//!    could not be made stays where it is and is tried again at the next request.
//! 4. *Dropping a stack means that nothing runs on it or points into it.* That is its owner's
//!    promise: a `Stack` hands out nothing but addresses.
//! 5. *A label never outlives its stack's use*: it holds a copy of the name, and the drop of the
//!    stack blanks it.
//!
//! # Guards
//! `MADV_GUARD_INSTALL` (Linux 6.13) marks the guard in the page table, so a million guarded stacks
//! are some 30 mappings, and the guard survives `MADV_DONTNEED`. Where the kernel refuses it, or
//! when `HEBRA_STACK_GUARD=mprotect` is in the environment (read once; any other value means
//! automatic), each guard is an `mprotect(PROT_NONE)`: two mappings per stack. A sixteenth of
//! `vm.max_map_count` (65,530) is left to the rest of the process, whose OS threads and allocators
//! need mappings, too: so there are at most some 30,700 such stacks, and the next request is an
//! error that says why. Free stacks beyond those that stay warm lose their guard again, which gives
//! the mappings back. The choice is made once per process. A guard is one page: Rust code touches every page of a large
//! frame in order, C code built without `-fstack-clash-protection` may jump over it.
//!
//! # Outside facts
//! Measured on Linux 6.18: page touch 1.4 µs, guard install 0.31 µs, `MADV_DONTNEED` 1.25 µs alone
//! and 0.25 µs in a batch by `process_madvise`, which takes every advice on one's own process since
//! 6.13, and `PIDFD_SELF` since 6.14. With transparent huge pages one touched byte can take 2 MiB,
//! hence `MADV_NOHUGEPAGE`. `MAP_NORESERVE` keeps reservations out of overcommit accounting.
//!
//! # Why not
//! - *A pidfd of our own for `process_madvise`*: it would refer to the parent after a fork, could
//!   be closed by a daemon's `close_range`, and costs a descriptor. `PIDFD_SELF` has none of that;
//!   where it is unknown, single `madvise` calls do.
//! - *A pointer to the name in the label*: whoever labels a stack would have to promise, in
//!   `unsafe`, how long the name lives. Copying 40 bytes costs a few nanoseconds, and the name is
//!   then also there in a core dump that has no heap.

use std::ffi::{c_int, c_void};
use std::io;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::panic::Location;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

#[allow(unsafe_code)]
mod overflow;
#[deny(unsafe_code)]
mod pool;

#[cfg(feature = "runtime")]
pub(crate) use overflow::ensure_alternate_stack;
#[cfg(any(test, feature = "runtime"))]
pub(crate) use pool::check_size;
#[cfg(feature = "runtime")]
pub(crate) use pool::needs_reservation;
pub(crate) use pool::{acquire, is_pool_alive};

/// Room for a [`LabelCell`] above the base of each stack: one cache line.
const LABEL: usize = 64;
/// Step and number of the offsets by which stacks are staggered.
const COLOUR: usize = 128;
const COLOURS: usize = 16;
/// Bytes that one page table maps on x86_64: slabs start at a multiple, so that slots do not
/// straddle tables needlessly.
const PAGE_TABLE_SPAN: usize = 2 << 20;
/// Ranges per `process_madvise`: most of the gain is there, and the vector (2 KiB) still fits on a
/// small stack.
const BATCH: usize = 128;

/// `MADV_GUARD_INSTALL`, not yet in libc.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MADV_GUARD_INSTALL: c_int = 102;
/// `PIDFD_SELF_THREAD_GROUP`, not yet in libc.
#[cfg(any(target_os = "linux", target_os = "android"))]
const PIDFD_SELF: c_int = -10001;

/// One stack, owned; its drop gives it back, warm, to the pool of the OS thread that it is dropped
/// on.
///
/// It is plain addresses, hence `Send`. Its owner drops it only when nothing runs on it any more
/// (invariant 4).
#[derive(Debug)]
pub(crate) struct Stack {
    slot: Slot,
}

impl Stack {
    /// Where the stack begins: its highest address + 1, a multiple of 64.
    #[inline]
    pub(crate) fn base(&self) -> usize {
        self.slot.base()
    }

    /// The lowest usable address, just above the guard page.
    #[inline]
    pub(crate) fn limit(&self) -> usize {
        self.slot.limit()
    }

    /// Bytes of address space that the stack takes up, guard page, label and colour included.
    #[cfg(test)]
    pub(crate) fn reserved(&self) -> usize {
        self.slot.class().size()
    }

    /// Writes whose stack this is for the overflow report; holds until the next label or the drop.
    ///
    /// Touches the top page, so it belongs to the start of a coroutine, not to the reservation of
    /// its stack.
    #[inline]
    pub(crate) fn set_label(&self, label: &Label<'_>) {
        self.slot.label().set(label);
    }

    /// Notes in the label where the record is of the green thread that runs on this stack: a
    /// debugger gets from the one to the other.
    #[cfg(feature = "runtime")]
    #[inline]
    pub(crate) fn set_record(&self, address: usize) {
        self.slot.label().record.store(address, Relaxed);
    }
}

impl Stack {
    /// What a generator says of itself, after it has been labelled.
    #[inline]
    pub(crate) fn owner(&self) -> Owner {
        Owner(self.slot.label())
    }
}

impl Drop for Stack {
    #[inline]
    fn drop(&mut self) {
        self.slot.label().clear();
        pool::release(Free(self.slot));
    }
}

/// The right to say what uses a stack: where in memory whatever runs on it can be found, by those
/// who run on it too.
pub(crate) struct Owner(&'static LabelCell);

impl Owner {
    /// Holds until the next label or the drop of the stack.
    #[inline]
    pub(crate) fn set<T>(&self, owner: *const T) {
        self.0.set_owner(owner.expose_provenance());
    }
}

/// How stacks lie in memory, in words that a debugger can read.
#[cfg(feature = "runtime")]
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Layout {
    /// Holds the address of the first slab: its start, its end, the bytes of a slot, and the
    /// address of the next slab.
    first_slab: &'static AtomicUsize,
    /// The label of slot `n` of a slab lies `label + colour * (n % colours)` below the slot's end.
    label: usize,
    colour: usize,
    colours: usize,
    /// Offsets in a label; see [`LabelCell`].
    header: usize,
    location: usize,
    name: usize,
    record: usize,
}

#[cfg(feature = "runtime")]
impl Layout {
    pub(crate) const fn new() -> Layout {
        Layout {
            first_slab: &pool::FIRST_SLAB,
            label: LABEL,
            colour: COLOUR,
            colours: COLOURS,
            header: std::mem::offset_of!(LabelCell, header),
            location: std::mem::offset_of!(LabelCell, location),
            name: std::mem::offset_of!(LabelCell, name),
            record: std::mem::offset_of!(LabelCell, record),
        }
    }
}

/// The usable part of the slot that an address lies in, if it lies in one. Safe to call in a signal
/// handler.
#[cfg(feature = "dump")]
pub(crate) fn bounds_at(address: usize) -> Option<std::ops::Range<usize>> {
    let slot = pool::slot_at(address)?;
    Some(slot.limit()..slot.base())
}

/// What the owner of the stack that an address lies in has said of itself, if it is a generator's.
#[cfg(feature = "runtime")]
pub(crate) fn owner_of(address: usize) -> Option<NonZeroUsize> {
    pool::slot_at(address)?.label().owner()
}

/// Whose stack it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// A green thread of the scheduler.
    GreenThread,
    /// A generator.
    Generator,
}

/// What the overflow report says about the owner of a stack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Label<'a> {
    /// The kind of coroutine.
    pub(crate) what: What,
    /// Its name; copied, up to [`LabelCell::NAME`] bytes.
    pub(crate) name: Option<&'a str>,
    /// Where it was spawned or created.
    pub(crate) location: &'static Location<'static>,
}

/// A label in memory. Atomic, because a signal handler may read it at any moment; all zeros is no
/// label.
#[repr(C)]
struct LabelCell {
    /// Bits 0–7: 0 no label, 1 green thread, 2 generator. Bit 8: has a name. Bit 9: the name was
    /// cut. Bit 10: has an owner, in place of a name. From bit 16: the length of the name.
    header: AtomicUsize,
    location: AtomicPtr<Location<'static>>,
    name: [AtomicUsize; 5],
    /// The address of a green thread's record; stale in a generator's label.
    record: AtomicUsize,
}

const _: () = assert!(size_of::<LabelCell>() <= LABEL);

impl LabelCell {
    const WORD: usize = size_of::<usize>();
    /// Longest name that is kept whole, in bytes.
    const NAME: usize = 5 * Self::WORD;
    const NAMED: usize = 1 << 8;
    const CUT: usize = 1 << 9;
    const OWNED: usize = 1 << 10;

    #[inline]
    fn set(&self, label: &Label<'_>) {
        let mut header = match label.what {
            What::GreenThread => 1,
            What::Generator => 2,
        };
        if let Some(name) = label.name {
            header |= self.set_name(name);
        }
        self.location
            .store(ptr::from_ref(label.location).cast_mut(), Relaxed);
        self.header.store(header, Relaxed);
    }

    /// Returns what the header has to say about the name.
    fn set_name(&self, name: &str) -> usize {
        let mut length = name.len().min(Self::NAME);
        while !name.is_char_boundary(length) {
            length -= 1;
        }
        for (cell, bytes) in self
            .name
            .iter()
            .zip(name.as_bytes()[..length].chunks(Self::WORD))
        {
            let mut word = [0; Self::WORD];
            word[..bytes.len()].copy_from_slice(bytes);
            cell.store(usize::from_ne_bytes(word), Relaxed);
        }
        let cut = if length < name.len() { Self::CUT } else { 0 };
        Self::NAMED | cut | length << 16
    }

    /// Only a generator has an owner, and it has no name.
    #[inline]
    fn set_owner(&self, owner: usize) {
        self.name[0].store(owner, Relaxed);
        self.header.store(2 | Self::OWNED, Relaxed);
    }

    #[cfg(feature = "runtime")]
    fn owner(&self) -> Option<NonZeroUsize> {
        let owned = self.header.load(Relaxed) & Self::OWNED != 0;
        owned
            .then(|| NonZeroUsize::new(self.name[0].load(Relaxed)))
            .flatten()
    }

    #[inline]
    fn clear(&self) {
        self.header.store(0, Relaxed);
    }

    /// Reads the label, the name into `name`; the flag says whether the name was cut.
    fn get<'a>(&self, name: &'a mut [u8; Self::NAME]) -> Option<(Label<'a>, bool)> {
        let header = self.header.load(Relaxed);
        let what = match header & 0xff {
            1 => What::GreenThread,
            2 => What::Generator,
            _ => return None,
        };
        for (bytes, cell) in name.chunks_exact_mut(Self::WORD).zip(&self.name) {
            bytes.copy_from_slice(&cell.load(Relaxed).to_ne_bytes());
        }
        let length = (header >> 16).min(Self::NAME);
        let text = str::from_utf8(&name[..length]).unwrap_or("<damaged>");
        // SAFETY: non-null values come from `set` alone, where it was a `&'static Location`.
        let location = unsafe { self.location.load(Relaxed).as_ref() }?;
        let label = Label {
            what,
            name: (header & Self::NAMED != 0).then_some(text),
            location,
        };
        Some((label, header & Self::CUT != 0))
    }
}

/// A size of slots, as the logarithm to base two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Class(u8);

impl Class {
    /// 16 KiB: a guard page, the colours and enough for shallow code.
    const MIN: u8 = 14;
    /// 1 TiB, or 1 GiB where that does not fit.
    const MAX: u8 = if usize::BITS == 64 { 40 } else { 30 };
    const COUNT: usize = (Self::MAX - Self::MIN) as usize + 1;

    /// The smallest class that holds `size` bytes, if there is one.
    #[inline]
    fn of(size: usize) -> Option<Class> {
        let size = size.max(1 << Self::MIN).max(4 * page_size());
        let log2 = usize::BITS - (size - 1).leading_zeros();
        (log2 <= Self::MAX.into()).then_some(Class(log2 as u8))
    }

    #[inline]
    fn size(self) -> usize {
        1 << self.0
    }

    /// Position in tables with an entry per class.
    #[inline]
    fn index(self) -> usize {
        usize::from(self.0 - Self::MIN)
    }
}

/// Where a slot of some slab is: the layout, not the ownership.
///
/// One word: the start, with the class in its low bits, which the alignment leaves free. Two fields
/// are written one by one and then moved as a pair, which the processor's store buffer cannot
/// forward: 11.7 → 7.3 ns for acquire and drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Slot(NonZeroUsize);

impl Slot {
    const CLASS: usize = 63;

    /// The slot of that class at `start`, a multiple of a page.
    #[inline]
    fn new(start: usize, class: Class) -> Slot {
        Slot(NonZeroUsize::new(start | usize::from(class.0)).expect("a class is not 0"))
    }

    #[inline]
    fn start(self) -> usize {
        self.0.get() & !Slot::CLASS
    }

    #[inline]
    fn class(self) -> Class {
        Class((self.0.get() & Slot::CLASS) as u8)
    }

    #[inline]
    fn end(self) -> usize {
        self.start() + self.class().size()
    }

    #[inline]
    fn limit(self) -> usize {
        self.start() + page_size()
    }

    #[inline]
    fn base(self) -> usize {
        let colour = (self.start() >> self.class().0) % COLOURS;
        self.end() - COLOUR * colour - LABEL
    }

    #[inline]
    fn label(self) -> &'static LabelCell {
        let label: *const LabelCell = ptr::with_exposed_provenance(self.base());
        // SAFETY: a `Slot` lies in a slab, which stays mapped (invariant 1); nothing but labels is
        // ever written between base and end; all its fields are atomic, and any bytes are a
        // value of them.
        unsafe { &*label }
    }
}

/// A carved slot that nobody uses (invariant 2).
#[derive(Debug)]
struct Free(Slot);

impl Free {
    #[inline]
    fn into_stack(self) -> Stack {
        Stack { slot: self.0 }
    }

    /// All that is behind the guard (invariant 2).
    fn pages(&self) -> DeadPages<'_> {
        DeadPages::inside(self.0.limit(), self.0.end())
    }
}

/// Whole pages of ours, from one address up to another, whose contents nobody needs: for as long as
/// this lives. There may be none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DeadPages<'a>(usize, usize, PhantomData<&'a Free>);

impl DeadPages<'_> {
    const NONE: DeadPages<'static> = DeadPages(0, 0, PhantomData);

    /// The whole pages inside of a range that is as said.
    fn inside(start: usize, end: usize) -> Self {
        let start = start.next_multiple_of(page_size());
        DeadPages(
            start,
            (end / page_size() * page_size()).max(start),
            PhantomData,
        )
    }

    fn len(self) -> usize {
        self.1 - self.0
    }
}

/// How guard pages are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guard {
    /// By `MADV_GUARD_INSTALL`.
    Install,
    /// By `mprotect`.
    Protect,
}

impl Guard {
    /// This process's way, found out at the first call.
    fn current() -> Guard {
        static CURRENT: OnceLock<Guard> = OnceLock::new();
        *CURRENT.get_or_init(|| {
            if std::env::var_os("HEBRA_STACK_GUARD").is_some_and(|value| value == "mprotect") {
                return Guard::Protect;
            }
            // Try it on a page: a seccomp filter or `mlockall` may refuse what the kernel's version
            // promises. The page stays mapped, which is cheaper than the code to unmap
            // it.
            match map(page_size(), page_size()) {
                Ok(start) if Guard::can_install(start) => Guard::Install,
                _ => Guard::Protect,
            }
        })
    }

    /// Whether guards without mappings work, tried on the page at `start`. An emulator of a kernel
    /// may take any advice for a hint, say yes and do nothing: so one that no kernel knows has to be
    /// refused.
    fn can_install(start: usize) -> bool {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            const UNKNOWN_ADVICE: c_int = 0x7fff;
            let page = DeadPages::inside(start, start + page_size());
            advise(&[page], MADV_GUARD_INSTALL).0 == 1 && advise(&[page], UNKNOWN_ADVICE).0 == 0
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        {
            let _ = start;
            false
        }
    }

    /// Makes the guard pages of `slots` (at most [`BATCH`]) in order; returns how many there are
    /// now, and why not all.
    fn apply(self, slots: &[Slot]) -> (usize, Option<io::Error>) {
        if self == Guard::Protect {
            let failure = slots.iter().enumerate().find_map(|(done, slot)| {
                let error = count_guard().and_then(|()| {
                    protect(*slot, libc::PROT_NONE).inspect_err(|_| {
                        PROTECTED.fetch_sub(1, Relaxed);
                    })
                });
                Some((done, error.err()?))
            });
            return failure.map_or((slots.len(), None), |(done, error)| (done, Some(error)));
        }
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            let mut pages = [DeadPages::NONE; BATCH];
            for (page, slot) in pages.iter_mut().zip(slots) {
                // Whoever owns the slot, its guard page never holds anything.
                *page = DeadPages::inside(slot.start(), slot.limit());
            }
            advise(&pages[..slots.len().min(BATCH)], MADV_GUARD_INSTALL)
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        (0, Some(io::ErrorKind::Unsupported.into()))
    }
}

/// Guards made by `mprotect`, of all classes. A count only: it orders nothing.
static PROTECTED: AtomicUsize = AtomicUsize::new(0);

/// Counts a guard that is about to be made by `mprotect`.
///
/// # Errors
/// `ENOMEM`, as from the kernel, where it would take one of the mappings that are left to the rest
/// of the process.
fn count_guard() -> io::Result<()> {
    /// Asked again when it is reached: it can be raised meanwhile.
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let count = PROTECTED.fetch_add(1, Relaxed) + 1;
    if count > MOST.load(Relaxed) {
        let Some(limit) = pool::mapping_limit() else {
            return Ok(());
        };
        let most = (limit - limit / 16) / 2;
        MOST.store(most, Relaxed);
        if count > most {
            PROTECTED.fetch_sub(1, Relaxed);
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
    }
    Ok(())
}

/// Takes the guards of free stacks away that were made by `mprotect`, in order, as far as the kernel
/// lets it; returns of how many. Each gives two mappings back, as the pages around it were touched
/// before the first guard of their slab was made: so the kernel takes them for one mapping.
fn remove_guards(free: &[Free]) -> usize {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let done = free
        .iter()
        .take_while(|free| protect(free.0, access).is_ok());
    let done = done.count();
    PROTECTED.fetch_sub(done, Relaxed);
    done
}

/// Gives pages back to the kernel, in batches; they read as zero afterwards. Guards stay.
///
/// Best effort: where the kernel refuses (locked memory), the pages stay.
pub(crate) fn discard(pages: &[DeadPages<'_>]) {
    for pages in pages.chunks(BATCH) {
        let mut batch = [DeadPages::NONE; BATCH];
        let mut count = 0;
        for pages in pages.iter().filter(|pages| pages.len() > 0) {
            batch[count] = *pages;
            count += 1;
        }
        let mut left = &batch[..count];
        while !left.is_empty() {
            let (done, _) = advise(left, libc::MADV_DONTNEED);
            // Go on behind a range that was refused.
            left = &left[left.len().min(done + 1)..];
        }
    }
}

/// The pages of the stack at `end` that are dead while what runs on it is suspended with its stack
/// ending there: all that lies more than a page below, so that neither a red zone nor the last
/// frames on the way out are in it. `None` if it is none of our stacks.
///
/// # Safety
/// What runs there is suspended, and stays so as long as the returned value is used.
#[cfg(feature = "runtime")]
pub(crate) unsafe fn dead_below(end: usize) -> Option<DeadPages<'static>> {
    let slot = pool::slot_at(end)?;
    Some(DeadPages::inside(
        slot.limit(),
        end.saturating_sub(page_size()),
    ))
}

/// [`discard`] for all pages of free stacks.
fn discard_free(free: &[Free]) {
    for free in free.chunks(BATCH) {
        let mut pages = [DeadPages::NONE; BATCH];
        for (pages, free) in pages.iter_mut().zip(free) {
            *pages = free.pages();
        }
        discard(&pages[..free.len()]);
    }
}

/// Size of a page, or a multiple of it where it cannot be known.
#[inline]
fn page_size() -> usize {
    if cfg!(any(target_arch = "x86_64", target_arch = "x86")) {
        return 4096;
    }
    if cfg!(not(any(target_os = "linux", target_os = "android"))) {
        // Apple silicon's; a multiple of the other Unixes'.
        return 16384;
    }
    const AT_PAGESZ: libc::c_ulong = 6;
    static SIZE: OnceLock<usize> = OnceLock::new();
    *SIZE.get_or_init(|| auxiliary(AT_PAGESZ).unwrap_or(65536))
}

/// An entry of the auxiliary vector that the kernel gave this process.
fn auxiliary(entry: libc::c_ulong) -> Option<usize> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    // SAFETY: reads a table of constants; an unknown entry is 0.
    let value = unsafe { libc::getauxval(entry) };
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let value = entry & 0;
    (value != 0).then_some(value as usize)
}

/// Reserves `length` bytes of zeroed memory at a multiple of `align` (a power of two, at least a
/// page).
fn map(length: usize, align: usize) -> io::Result<usize> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const LAZY: c_int = libc::MAP_NORESERVE | libc::MAP_STACK;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const LAZY: c_int = libc::MAP_NORESERVE;

    let total = length + align - page_size();
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | LAZY;
    // SAFETY: a new anonymous mapping at an address of the kernel's choice disturbs nobody.
    let address = unsafe { libc::mmap(ptr::null_mut(), total, access, flags, -1, 0) };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let mapped = address.expose_provenance();
    let start = mapped.next_multiple_of(align);
    for (from, to) in [(mapped, start), (start + length, mapped + total)] {
        if from < to {
            // SAFETY: the trimmings belong to the mapping just made, and nobody has seen them. A
            // failure would leave them mapped, which wastes nothing but address space.
            unsafe { libc::munmap(ptr::with_exposed_provenance_mut(from), to - from) };
        }
    }
    #[cfg(any(target_os = "linux", target_os = "android"))]
    // Fails harmlessly in a kernel without huge pages.
    advise(
        &[DeadPages::inside(start, start + length)],
        libc::MADV_NOHUGEPAGE,
    );
    Ok(start)
}

/// Sets how the guard page of a slot may be accessed.
fn protect(slot: Slot, access: c_int) -> io::Result<()> {
    let page: *mut c_void = ptr::with_exposed_provenance_mut(slot.start());
    // SAFETY: a slot's guard page is never used for anything, whoever owns the slot.
    match unsafe { libc::mprotect(page, page_size(), access) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// `madvise` for at most [`BATCH`] ranges of pages, in order; returns how many are done, and why
/// not all.
fn advise(ranges: &[DeadPages<'_>], advice: c_int) -> (usize, Option<io::Error>) {
    let mut done = 0;
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if ranges.len() > 1 {
        let mut vector = [libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        }; BATCH];
        for (entry, pages) in vector.iter_mut().zip(ranges) {
            entry.iov_base = ptr::with_exposed_provenance_mut(pages.0);
            entry.iov_len = pages.len();
        }
        let count = ranges.len().min(BATCH);
        // SAFETY: the vector has `count` entries; whatever the advice does to the pages, nobody
        // needs what they hold.
        let bytes = unsafe {
            libc::syscall(
                libc::SYS_process_madvise,
                PIDFD_SELF,
                vector.as_ptr(),
                count,
                advice,
                0,
            )
        };
        // It reports how far it came, in bytes; the rest, if any, goes one by one and then says
        // why.
        let mut left = usize::try_from(bytes).unwrap_or(0);
        for pages in ranges {
            match left.checked_sub(pages.len()) {
                Some(rest) => left = rest,
                None => break,
            }
            done += 1;
        }
    }
    for pages in &ranges[done..] {
        // SAFETY: as above.
        let result = unsafe {
            libc::madvise(
                ptr::with_exposed_provenance_mut(pages.0),
                pages.len(),
                advice,
            )
        };
        if result != 0 {
            return (done, Some(io::Error::last_os_error()));
        }
        done += 1;
    }
    (done, None)
}

#[cfg(test)]
mod tests {
    use super::pool::tests::fresh;
    use super::*;
    use std::io::pipe;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::FileExt;
    use std::process::{Command, Output};

    /// Runs one test of this binary once more, in a process of its own that sees `case` in
    /// [`case`].
    pub(super) fn child(test: &str, case: &str, environment: &[(&str, &str)]) -> Output {
        let test = test.split_once("::").map_or(test, |(_, path)| path);
        Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env("HEBRA_STACK_CASE", case)
            .env_remove("HEBRA_STACK_GUARD")
            .envs(environment.iter().copied())
            .output()
            .unwrap()
    }

    /// What this process is to do, if it is a [`child`].
    pub(super) fn case() -> Option<String> {
        std::env::var("HEBRA_STACK_CASE").ok()
    }

    pub(super) fn write(address: usize) {
        let byte: *mut u8 = ptr::with_exposed_provenance_mut(address);
        // SAFETY: the tests write to stacks of theirs, or want the fault.
        unsafe { byte.write_volatile(1) };
    }

    pub(super) fn read(address: usize) -> u8 {
        let byte: *const u8 = ptr::with_exposed_provenance(address);
        // SAFETY: the tests read from stacks of theirs.
        unsafe { byte.read_volatile() }
    }

    /// Whether an access to the byte at `address` would fault: the kernel is asked to read it.
    pub(super) fn faults(address: usize) -> bool {
        let (_reader, writer) = pipe().unwrap();
        // SAFETY: the kernel checks the address.
        let written =
            unsafe { libc::write(writer.as_raw_fd(), ptr::with_exposed_provenance(address), 1) };
        written < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::EFAULT)
    }

    /// Whether the page at `address` takes up memory.
    pub(super) fn resident(address: usize) -> bool {
        let mut entry = [0; 8];
        let pages = std::fs::File::open("/proc/self/pagemap").unwrap();
        pages
            .read_exact_at(&mut entry, (address / page_size() * 8) as u64)
            .unwrap();
        u64::from_ne_bytes(entry) >> 63 == 1
    }

    #[test]
    fn sizes_round_up_to_powers_of_two() {
        for (size, reserved) in [
            (0, 16),
            (1, 16),
            (16 << 10, 16),
            ((16 << 10) + 1, 32),
            (200_000, 256),
        ] {
            assert_eq!(acquire(size).unwrap().reserved(), reserved << 10);
        }
        check_size(1 << Class::MAX).unwrap();
        for size in [(1 << Class::MAX) + 1, usize::MAX] {
            assert_eq!(
                acquire(size).unwrap_err().kind(),
                io::ErrorKind::InvalidInput
            );
        }
    }

    #[test]
    fn layout_is_as_drawn_and_neighbours_differ_in_colour() {
        for size in [16 << 10, 256 << 10, 4 << 20] {
            let stacks: Vec<Stack> = (0..64).map(|_| acquire(size).unwrap()).collect();
            let mut slots: Vec<Slot> = stacks.iter().map(|stack| stack.slot).collect();
            slots.sort_by_key(|slot| slot.start());
            for (stack, slot) in stacks.iter().zip(stacks.iter().map(|stack| stack.slot)) {
                assert_eq!(slot.start() % size, 0);
                assert_eq!(slot.end() - slot.start(), stack.reserved());
                assert_eq!(stack.limit(), slot.start() + page_size());
                assert_eq!(stack.base() % LABEL, 0);
                assert!(slot.end() - stack.base() >= LABEL);
                assert!(slot.end() - stack.base() <= 1984);
            }
            for neighbours in slots.windows(COLOURS) {
                if neighbours[COLOURS - 1].start() - neighbours[0].start() == (COLOURS - 1) * size {
                    let mut offsets: Vec<usize> = neighbours
                        .iter()
                        .map(|slot| slot.end() - slot.base())
                        .collect();
                    offsets.sort();
                    offsets.dedup();
                    assert_eq!(offsets.len(), COLOURS);
                }
            }
            for pair in slots.windows(2) {
                assert!(pair[0].end() <= pair[1].start(), "slots overlap");
            }
        }
    }

    #[test]
    fn label_is_read_back_cut_and_blanked() {
        let stack = acquire(32 << 10).unwrap();
        let slot = stack.slot;
        let mut name = [0; LabelCell::NAME];
        assert!(slot.label().get(&mut name).is_none());

        let label = Label {
            what: What::GreenThread,
            name: Some("grün"),
            location: Location::caller(),
        };
        stack.set_label(&label);
        let (read, cut) = slot.label().get(&mut name).unwrap();
        assert_eq!(
            (read.what, read.name, cut),
            (What::GreenThread, Some("grün"), false)
        );
        assert_eq!(read.location, label.location);

        let long = "ü".repeat(40);
        stack.set_label(&Label {
            what: What::Generator,
            name: Some(&long),
            ..label
        });
        let (read, cut) = slot.label().get(&mut name).unwrap();
        assert_eq!(
            (read.what, read.name, cut),
            (What::Generator, Some(&long[..40]), true)
        );
        let odd = format!("x{long}");
        stack.set_label(&Label {
            name: Some(&odd),
            ..label
        });
        assert_eq!(
            slot.label().get(&mut name).unwrap().0.name,
            Some(&odd[..39])
        );

        stack.set_label(&Label {
            name: None,
            ..label
        });
        assert_eq!(slot.label().get(&mut name).unwrap().0.name, None);
        drop(stack);
        assert!(slot.label().get(&mut name).is_none());
    }

    #[test]
    fn guard_page_faults_and_survives_discard() {
        for guard in [Guard::Install, Guard::Protect] {
            let stacks = fresh(Class(16), guard, 40);
            for stack in &stacks {
                let guard_page = stack.slot.start();
                assert!(faults(guard_page) && faults(stack.limit() - 1), "{guard:?}");
                assert!(!faults(stack.limit()) && !faults(stack.base() - 1));
                write(stack.limit());
                write(stack.base() - 1);
            }
            let pages: Vec<_> = stacks
                .iter()
                .map(|stack| DeadPages::inside(stack.limit(), stack.slot.end()))
                .collect();
            discard(&pages);
            for stack in &stacks {
                for address in [stack.limit(), stack.base() - 1] {
                    assert!(!resident(address));
                    assert_eq!(read(address), 0);
                }
                assert!(faults(stack.limit() - 1), "{guard:?}");
            }
        }
    }

    // A sanitizer needs the memory that is refused here.
    #[cfg(not(hebra_sanitizer))]
    #[test]
    fn discard_takes_whole_pages_only_and_goes_on_behind_a_refusal() {
        let page = page_size();
        let stacks = fresh(Class(17), Guard::Install, 3 * BATCH);
        for stack in &stacks {
            for address in [
                stack.limit(),
                stack.limit() + page,
                stack.limit() + 2 * page,
            ] {
                write(address);
            }
        }
        let refused = &stacks[BATCH + 1];
        let locked = ptr::with_exposed_provenance(refused.limit());
        // SAFETY: pins pages of a stack that is not in use.
        assert_eq!(unsafe { libc::mlock(locked, 4 * page) }, 0);
        let inside =
            |stack: &Stack| DeadPages::inside(stack.limit() + 1, stack.limit() + 2 * page + 1);
        discard(&stacks.iter().map(inside).collect::<Vec<_>>());
        // SAFETY: as above.
        assert_eq!(unsafe { libc::munlock(locked, 4 * page) }, 0);
        for stack in &stacks {
            let pages = [0, 1, 2].map(|number| resident(stack.limit() + number * page));
            let refused = stack.base() == refused.base();
            assert_eq!(pages, [true, refused, true]);
        }
    }
}
