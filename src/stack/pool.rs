//! Where stacks come from and go to: a free list per OS thread, one per process, and the slabs
//! behind them.
//!
//! ```text
//!             pop, push: a few ns                  lock, up to 32 at once             guard, up to 32 at once
//!   Stack  ⇄  OS thread's list  ⇄  process-wide list  ←  slab (carve)  ←  mmap (grow)
//!             LIFO: the warmest next     pages given back
//! ```
//!
//! - An OS thread keeps as many free stacks as its list has capacity, see [`bound`]. When it is
//!   full, the coldest quarter gives its pages back in one batch and moves to the process-wide
//!   list. A quarter, because the batch stalls a worker: 256 stacks, 64 µs.
//! - Under [`Guard::Protect`] stacks are scarce, so the threads' lists stay at capacity 0 and every
//!   stack goes straight to the process-wide list, warm: a reservation made anywhere can be used
//!   anywhere. That list is bounded in the same way, and those that give their pages back lose
//!   their guards, too, until they are handed out again.
//! - The same road is taken while an OS thread's own list is being, or has been, torn down.
//! - A list has room for every slot it may be given *before* it is given one: a drop never
//!   allocates, so it cannot fail, not even when the process has run out of mappings.
//! - Slabs double from 64 to 16,384 slots, at most 8 GiB: a single generator reserves little, a
//!   million stacks take 68 slabs. Carving doubles too, from 1 to 32 slots, which bounds the page
//!   tables made for slots that nobody uses yet.

use super::{
    BATCH, Class, Free, Guard, PAGE_TABLE_SPAN, Slot, Stack, discard_free, map, overflow,
    remove_guards,
};
use std::cell::RefCell;
use std::io;
use std::iter;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// Stacks that move from the process-wide list, or out of a slab, at once.
const REFILL: usize = 32;
const _: () = assert!(REFILL <= BATCH);

/// Free stacks of a class that stay warm in one list: 256 MiB if every page of them had been
/// touched, at most 1,024, at least 16.
///
/// 1,024 shallow stacks hold 4 MiB, and a server whose number of connections swings by less never
/// pays for a page twice (1.7 µs each, a hundred times a warm stack).
fn bound(class: Class) -> usize {
    ((256 << 20) / class.size()).clamp(16, 1024)
}

/// Takes a stack that reserves `size` bytes, guard page, label and colour included, rounded up to a
/// power of two ≥ 16 KiB.
///
/// # Errors
/// `InvalidInput` above 1 TiB; otherwise the kernel's refusal to reserve or guard memory, and what
/// to do about it.
#[inline]
pub(crate) fn acquire(size: usize) -> io::Result<Stack> {
    let Some(class) = Class::of(size) else {
        return Err(too_large(size));
    };
    match POOL.try_with(|pool| pool.lists[class.index()].borrow_mut().pop()) {
        Ok(Some(free)) => Ok(free.into_stack()),
        _ => refill(class),
    }
}

/// Checks that [`acquire`] accepts a size, without taking a stack.
///
/// # Errors
/// `InvalidInput` above 1 TiB.
#[cfg(any(test, feature = "runtime"))]
pub(crate) fn check_size(size: usize) -> io::Result<()> {
    Class::of(size).map(drop).ok_or_else(|| too_large(size))
}

/// Whether this OS thread's pool is there still: once thread-locals are being destroyed it may be
/// gone.
pub(crate) fn is_pool_alive() -> bool {
    POOL.try_with(|_| ()).is_ok()
}

/// Takes a stack back; it is the next one to be handed out.
#[inline]
pub(super) fn release(free: Free) {
    let list = free.0.class().index();
    let mut free = Some(free);
    let _ = POOL.try_with(|pool| {
        let mut list = pool.lists[list].borrow_mut();
        if list.len() < list.capacity() {
            list.extend(free.take());
        }
    });
    if let Some(free) = free {
        make_room(free);
    }
}

/// Whether to take the stack of a green thread already when it is spawned, because it may be
/// refused later.
#[cfg(any(test, feature = "runtime"))]
#[inline]
pub(crate) fn needs_reservation() -> bool {
    match SCARCE.load(Relaxed) {
        PLENTY => false,
        SHORT => true,
        _ => {
            note_growth(true);
            needs_reservation()
        }
    }
}

/// [`PLENTY`], [`SHORT`], or 0 when nobody has asked yet. A hint: nothing depends on its order.
static SCARCE: AtomicU8 = AtomicU8::new(0);
const PLENTY: u8 = 1;
const SHORT: u8 = 2;

#[cold]
fn note_growth(succeeded: bool) {
    let plenty = succeeded && Guard::current() == Guard::Install;
    SCARCE.store(if plenty { PLENTY } else { SHORT }, Relaxed);
}

/// The free stacks of one OS thread, by class; the end of a list is the warmest.
struct ThreadPool {
    lists: [RefCell<Vec<Free>>; Class::COUNT],
}

thread_local! {
    static POOL: ThreadPool = const { ThreadPool { lists: [const { RefCell::new(Vec::new()) }; Class::COUNT] } };
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        for list in &mut self.lists {
            let list = list.get_mut();
            if let Some(Free(slot)) = list.first() {
                discard_free(list);
                Shared::of(slot.class()).put_cold(list.drain(..));
            }
        }
    }
}

/// The slow half of [`acquire`]: some for this OS thread's list, and one for the caller.
#[cold]
#[inline(never)]
fn refill(class: Class) -> io::Result<Stack> {
    let stack = refill_quietly(class)?;
    overflow::ensure_alternate_stack();
    Ok(stack)
}

/// [`refill`] without a look at the alternate signal stack, which is itself made of one of these.
pub(super) fn refill_quietly(class: Class) -> io::Result<Stack> {
    let guard = Guard::current();
    let mut shared = Shared::of(class);
    let free = shared.take(class, guard)?;
    if guard == Guard::Install {
        let _ = POOL.try_with(|pool| {
            let mut list = pool.lists[class.index()].borrow_mut();
            open(&mut list, class);
            let count = (list.capacity() - list.len()).min(REFILL - 1);
            list.extend(shared.take_more(count));
        });
    }
    Ok(free.into_stack())
}

/// Gives an OS thread's list the capacity that makes it usable; without memory for that it stays
/// closed.
fn open(list: &mut Vec<Free>, class: Class) {
    if list.capacity() == 0 {
        let _ = list.try_reserve_exact(bound(class));
    }
}

/// The slow half of [`release`]: this OS thread's list is full, not open, or gone.
#[cold]
#[inline(never)]
fn make_room(free: Free) {
    let class = free.0.class();
    let mut free = Some(free);
    if Guard::current() == Guard::Install {
        overflow::ensure_alternate_stack();
        let _ = POOL.try_with(|pool| {
            let mut list = pool.lists[class.index()].borrow_mut();
            open(&mut list, class);
            if list.capacity() > 0 {
                if list.len() == list.capacity() {
                    let quarter = list.len().div_ceil(4);
                    discard_free(&list[..quarter]);
                    Shared::of(class).put_cold(list.drain(..quarter));
                }
                list.extend(free.take());
            }
        });
    }
    if let Some(free) = free {
        Shared::of(class).put_warm(free, bound(class), Guard::current());
    }
}

/// The process-wide stock of one class.
struct Shared {
    /// Carved and unused; capacity for every slot that was ever carved. The end is the warmest.
    free: Vec<Free>,
    /// How many at the front of `free` hold no pages.
    cold: usize,
    /// How many of these, from the front, have no guard either. Only under [`Guard::Protect`].
    bare: usize,
    /// Addresses of the newest slab that are not carved yet; the older slabs are carved to the
    /// end.
    uncarved: Range<usize>,
    /// How many slots were ever carved, and out of how many slabs.
    carved: usize,
    slabs: u32,
}

impl Shared {
    const fn new() -> Shared {
        Shared {
            free: Vec::new(),
            cold: 0,
            bare: 0,
            uncarved: 0..0,
            carved: 0,
            slabs: 0,
        }
    }

    fn of(class: Class) -> MutexGuard<'static, Shared> {
        static SHARED: [Mutex<Shared>; Class::COUNT] =
            [const { Mutex::new(Shared::new()) }; Class::COUNT];
        SHARED[class.index()]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the warmest, or a new one.
    fn take(&mut self, class: Class, guard: Guard) -> io::Result<Free> {
        if self.free.is_empty() {
            let carved = self.carve(class, guard);
            note_growth(carved.is_ok());
            carved?;
        }
        let free = self.free.pop().expect("`carve` leaves at least one");
        if self.free.len() < self.bare
            && let (_, Some(error)) = guard.apply(&[free.0])
        {
            self.free.push(free); // There is room: it was just there.
            note_growth(false);
            return Err(cannot_guard(error, guard));
        }
        self.cold = self.cold.min(self.free.len());
        self.bare = self.bare.min(self.free.len());
        Ok(free)
    }

    /// Takes up to `count` of those that are there, the warmest last.
    fn take_more(&mut self, count: usize) -> impl Iterator<Item = Free> {
        let keep = self.free.len().saturating_sub(count).max(self.bare);
        self.cold = self.cold.min(keep);
        self.free.drain(keep..)
    }

    /// Adds stacks whose pages were given back.
    fn put_cold(&mut self, stacks: impl Iterator<Item = Free>) {
        // Behind warm ones they count as warm: giving back the pages of a stack that has none is
        // cheap.
        let all_cold = self.cold == self.free.len();
        self.free.extend(stacks);
        if all_cold {
            self.cold = self.free.len();
        }
    }

    /// Adds a stack as it is; beyond `bound` warm ones, the coldest quarter of them gives its pages
    /// back, and under [`Guard::Protect`] its mappings.
    fn put_warm(&mut self, free: Free, bound: usize, guard: Guard) {
        self.free.push(free);
        if self.free.len() - self.cold > bound {
            let cold = self.cold + bound.div_ceil(4);
            discard_free(&self.free[self.cold..cold]);
            self.cold = cold;
            if guard == Guard::Protect {
                self.bare += remove_guards(&self.free[self.bare..cold]);
            }
        }
    }

    /// Guards some more slots and adds them to the free ones, of which there are none.
    fn carve(&mut self, class: Class, guard: Guard) -> io::Result<()> {
        if self.uncarved.is_empty() {
            self.grow(class)?;
            if guard == Guard::Protect {
                // Touches a page, so that the kernel keeps one record (`anon_vma`) of who shares the
                // slab's pages: pieces with records of their own would not become one mapping again
                // when the guard between them is removed.
                Slot::new(self.uncarved.start, class).label().clear();
            }
        }
        // Mappings are not spent in advance.
        let limit = if guard == Guard::Protect {
            1
        } else {
            self.carved.clamp(1, REFILL)
        };
        let size = class.size();
        let mut slots = [Slot::new(self.uncarved.start, class); REFILL];
        let mut count = 0;
        for (slot, start) in slots
            .iter_mut()
            .zip(self.uncarved.clone().step_by(size))
            .take(limit)
        {
            *slot = Slot::new(start, class);
            count += 1;
        }
        // Room for all that will ever come back, so that no drop has to allocate.
        self.free
            .try_reserve(self.carved + count)
            .map_err(|_| out_of_memory())?;
        let (done, error) = guard.apply(&slots[..count]);
        if let (0, Some(error)) = (done, error) {
            return Err(cannot_guard(error, guard));
        }
        self.uncarved.start += done * size;
        self.carved += done;
        // Lowest address last: it goes out first.
        self.free
            .extend(slots[..done].iter().rev().map(|slot| Free(*slot)));
        self.cold = self.free.len();
        Ok(())
    }

    /// Maps a slab; a smaller one when the kernel does not grant the size that is due.
    fn grow(&mut self, class: Class) -> io::Result<()> {
        let size = class.size();
        let mut slots = (64_usize << self.slabs.min(8)).min((8 << 30) / size).max(1);
        let start = loop {
            match map(slots * size, size.max(PAGE_TABLE_SPAN)) {
                Ok(start) => break start,
                Err(error) if slots == 1 => return Err(cannot_map(error, size)),
                Err(_) => slots /= 2,
            }
        };
        overflow::install();
        self.uncarved = start..start + slots * size;
        self.slabs += 1;
        Slab::add(self.uncarved.clone(), class);
        Ok(())
    }
}

/// One mapping that is full of slots.
#[derive(Debug)]
#[repr(C)]
struct Slab {
    plain: PlainSlab,
    addresses: Range<usize>,
    class: Class,
    next: OnceLock<Box<Slab>>,
}

/// What a debugger reads of a slab, and of nothing else: plain words at the start of it.
#[derive(Debug)]
#[repr(C)]
struct PlainSlab {
    start: usize,
    end: usize,
    /// Bytes of a slot.
    size: usize,
    /// The address of the next slab, or 0.
    next: AtomicUsize,
}

/// The address of the first slab, or 0: for debuggers.
pub(super) static FIRST_SLAB: AtomicUsize = AtomicUsize::new(0);

/// All slabs, a list that only ever grows at its end: so a signal handler can walk it at any moment
/// without a lock.
static SLABS: OnceLock<Box<Slab>> = OnceLock::new();

impl Slab {
    fn add(addresses: Range<usize>, class: Class) {
        let plain = PlainSlab {
            start: addresses.start,
            end: addresses.end,
            size: class.size(),
            next: AtomicUsize::new(0),
        };
        let mut slab = Box::new(Slab {
            plain,
            addresses,
            class,
            next: OnceLock::new(),
        });
        let address = std::ptr::from_ref(&*slab).expose_provenance();
        let (mut link, mut plain) = (&SLABS, &FIRST_SLAB);
        // Each failure to set the end shows one more slab that is there already.
        while let Err(back) = link.set(slab) {
            slab = back;
            let last = link.get().expect("`set` fails only where there is a value");
            (link, plain) = (&last.next, &last.plain.next);
        }
        plain.store(address, Relaxed);
    }
}

/// The slot that an address lies in, if it lies in one. Safe to call in a signal handler.
pub(super) fn slot_at(address: usize) -> Option<Slot> {
    let mut slabs = iter::successors(SLABS.get(), |slab| slab.next.get());
    let class = slabs.find(|slab| slab.addresses.contains(&address))?.class;
    Some(Slot::new(address & !(class.size() - 1), class))
}

#[cold]
fn too_large(size: usize) -> io::Error {
    let max = 1_usize << Class::MAX;
    io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("a stack of {size} bytes was asked for; the most is {max}"),
    )
}

fn out_of_memory() -> io::Error {
    io::Error::new(
        io::ErrorKind::OutOfMemory,
        "no memory for the list of free stacks",
    )
}

fn cannot_map(error: io::Error, size: usize) -> io::Error {
    let message = format!(
        "cannot reserve {} KiB of address space for a stack: mmap: {error}; look at the limits on address space \
         (ulimit -v), on overcommitted memory (vm.overcommit_memory, vm.overcommit_ratio) and on the number of \
         mappings (vm.max_map_count{}), or use smaller or fewer stacks",
        size >> 10,
        max_map_count()
    );
    io::Error::new(error.kind(), message)
}

fn cannot_guard(error: io::Error, guard: Guard) -> io::Error {
    let message = match guard {
        Guard::Protect => format!(
            "cannot make the guard page of a stack: mprotect: {error}; this process has probably used up its memory \
             mappings (vm.max_map_count{}), of which each guarded stack takes two and a sixteenth is left to other uses: raise the limit with \
             `sysctl -w vm.max_map_count=N`, run fewer green threads at once, or use Linux 6.13 or later without \
             HEBRA_STACK_GUARD=mprotect, where guards take none",
            max_map_count()
        ),
        Guard::Install => format!(
            "cannot make the guard page of a stack: madvise(MADV_GUARD_INSTALL): {error}; \
             free some memory, or set HEBRA_STACK_GUARD=mprotect to use mprotect instead"
        ),
    };
    io::Error::new(error.kind(), message)
}

/// How many mappings a process may have, if that can be read.
pub(super) fn mapping_limit() -> Option<usize> {
    let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?;
    limit.trim_end().parse().ok()
}

/// ` = N`, if the limit can be read.
fn max_map_count() -> String {
    mapping_limit().map_or_else(String::new, |limit| format!(" = {limit}"))
}

#[cfg(test)]
#[allow(unsafe_code)]
pub(super) mod tests {
    use super::super::tests::{case, child, faults, read, resident, write};
    use super::*;
    use std::collections::HashSet;
    use std::sync::mpsc;
    use std::thread;

    /// New stacks, guarded as asked for. Each test has a class to itself: the process-wide lists
    /// are shared.
    pub(in super::super) fn fresh(class: Class, guard: Guard, count: usize) -> Vec<Stack> {
        let mut shared = Shared::new();
        let stacks = (0..count).map(|_| shared.take(class, guard).unwrap().into_stack());
        let stacks = stacks.collect();
        // What is carved and not handed out goes to the real lists.
        Shared::of(class).put_cold(shared.free.into_iter());
        stacks
    }

    /// How many of the class lie in the process-wide list.
    pub(in super::super) fn free(class: Class) -> usize {
        Shared::of(class).free.len()
    }

    fn mappings() -> usize {
        std::fs::read_to_string("/proc/self/maps")
            .unwrap()
            .lines()
            .count()
    }

    #[test]
    fn last_in_is_first_out() {
        let size = 64 << 10;
        let (first, second) = (acquire(size).unwrap(), acquire(size).unwrap());
        let bases = (first.base(), second.base());
        write(first.base() - 1);
        drop(second);
        drop(first);
        let (first, second) = (acquire(size).unwrap(), acquire(size).unwrap());
        assert_eq!((first.base(), second.base()), bases);
        assert_eq!(read(first.base() - 1), 1, "the stack is still warm");
    }

    #[test]
    fn full_list_gives_back_the_coldest_and_loses_none() {
        let size = 512 << 10;
        let class = Class::of(size).unwrap();
        let bound = bound(class);
        assert_eq!(bound, 512);
        let stacks: Vec<Stack> = (0..bound + 1).map(|_| acquire(size).unwrap()).collect();
        let slots: Vec<Slot> = stacks.iter().map(|stack| stack.slot).collect();
        for stack in stacks {
            write(stack.base() - 1);
            write(stack.limit());
            drop(stack);
        }
        // More than `bound + 1` were carved and some of them lay at the bottom of the list, so the
        // quarter that went holds them too.
        let gone = slots
            .iter()
            .filter(|slot| !resident(slot.base() - 1))
            .count();
        assert!(
            (1..=bound / 4).contains(&gone),
            "{gone} gave their pages back"
        );
        for (position, slot) in slots.iter().enumerate() {
            assert_eq!(
                resident(slot.base() - 1),
                position >= gone,
                "the coldest go first"
            );
            assert_eq!(resident(slot.limit()), position >= gone, "all pages go");
            assert!(faults(slot.start()) && !faults(slot.limit()));
        }
        let again: HashSet<usize> = (0..bound + 1)
            .map(|_| acquire(size).unwrap())
            .map(|stack| stack.base())
            .collect();
        assert_eq!(
            again.len(),
            1,
            "one stack is enough for those who come one after the other"
        );
        let carved = Shared::of(class).carved;
        let again: Vec<Stack> = (0..carved).map(|_| acquire(size).unwrap()).collect();
        let again: HashSet<usize> = again.iter().map(Stack::base).collect();
        assert!(slots.iter().all(|slot| again.contains(&slot.base())));
        assert_eq!(Shared::of(class).carved, carved, "all came back");
    }

    #[test]
    fn what_an_os_thread_leaves_behind_is_cold_and_goes_to_the_others() {
        let size = 1 << 20;
        let slots = thread::spawn(move || {
            let stacks: Vec<Stack> = (0..100).map(|_| acquire(size).unwrap()).collect();
            stacks.iter().for_each(|stack| write(stack.base() - 1));
            stacks.iter().map(|stack| stack.slot).collect::<Vec<Slot>>()
        });
        let slots = slots.join().unwrap();
        if Guard::current() == Guard::Install {
            assert!(slots.iter().all(|slot| !resident(slot.base() - 1)));
        }
        let slots: HashSet<usize> = slots.iter().map(|slot| slot.base()).collect();
        let stacks: Vec<Stack> = (0..127).map(|_| acquire(size).unwrap()).collect();
        let reused = stacks
            .iter()
            .filter(|stack| slots.contains(&stack.base()))
            .count();
        assert_eq!(reused, 100, "127 were carved, 100 of them used");
    }

    #[test]
    fn os_thread_being_torn_down_can_acquire_and_drop() {
        const SIZE: usize = 2 << 20;
        struct Late(mpsc::Sender<usize>, Option<Stack>);
        impl Drop for Late {
            fn drop(&mut self) {
                self.1 = None;
                let stack = acquire(SIZE).unwrap();
                write(stack.base() - 1);
                self.0.send(stack.base()).unwrap();
            }
        }
        thread_local! {
            static BEFORE: RefCell<Option<Late>> = const { RefCell::new(None) };
            static AFTER: RefCell<Option<Late>> = const { RefCell::new(None) };
        }
        let (sender, bases) = mpsc::channel();
        let thread = thread::spawn(move || {
            BEFORE.set(Some(Late(sender.clone(), None)));
            let (one, two) = (acquire(SIZE).unwrap(), acquire(SIZE).unwrap());
            BEFORE.with_borrow_mut(|late| late.as_mut().unwrap().1 = Some(one));
            AFTER.set(Some(Late(sender, Some(two))));
        });
        thread.join().unwrap();
        assert_eq!(bases.iter().count(), 2);
        // All are back: as many as were carved can be had without carving.
        let carved = Shared::of(Class::of(SIZE).unwrap()).carved;
        let stacks: Vec<Stack> = (0..carved).map(|_| acquire(SIZE).unwrap()).collect();
        assert_eq!(Shared::of(Class::of(SIZE).unwrap()).carved, carved);
        assert_eq!(
            stacks.iter().map(Stack::base).collect::<HashSet<_>>().len(),
            carved
        );
    }

    #[test]
    fn process_wide_list_keeps_few_warm() {
        let class = Class(15);
        let mut shared = Shared::new();
        let stacks: Vec<Free> = (0..20)
            .map(|_| shared.take(class, Guard::Protect).unwrap())
            .collect();
        let slots: Vec<Slot> = stacks.iter().map(|free| free.0).collect();
        for free in stacks {
            write(free.0.base() - 1);
            shared.put_warm(free, 8, Guard::Install);
        }
        let warm = slots.iter().map(|slot| resident(slot.base() - 1));
        let warm: Vec<bool> = warm.collect();
        assert_eq!(warm, [vec![false; 12], vec![true; 8]].concat());
        assert_eq!(shared.take(class, Guard::Protect).unwrap().0, slots[19]);
        assert_eq!(shared.take_more(3).last().unwrap().0, slots[18]);
        assert_eq!((shared.free.len(), shared.cold), (16, 12));
        let rest: Vec<Free> = shared.take_more(100).collect();
        assert_eq!((rest.len(), shared.cold), (16, 0));
        shared.put_cold(rest.into_iter());
        assert_eq!(shared.cold, 16);
    }

    #[test]
    fn many_stacks_take_few_mappings_and_no_page_until_touched() {
        if Guard::current() == Guard::Protect {
            return;
        }
        let before = mappings();
        let stacks: Vec<Stack> = (0..20_000).map(|_| acquire(512 << 10).unwrap()).collect();
        assert!(
            mappings() < before + 100,
            "{before} mappings became {}",
            mappings()
        );
        assert!(stacks.iter().all(|stack| !resident(stack.base() - 1)));
        let class = Class::of(512 << 10).unwrap();
        let shared = Shared::of(class);
        assert!(shared.slabs < 12);
        assert!(shared.carved < 20_000 + REFILL);
        let next = Slot::new(shared.uncarved.start, class);
        assert!(!resident(next.start()) && !faults(next.start()));
        let stack = stacks[12_345].slot;
        assert_eq!(slot_at(stack.start()), Some(stack));
        assert_eq!(slot_at(stack.end() - 1), Some(stack));
        assert_eq!(slot_at(before.wrapping_add(1)), None);
    }

    #[test]
    fn guard_is_chosen_by_the_environment() {
        if case().is_some() {
            let chosen = Guard::current();
            let stacks = [(); 9].map(|_| acquire(16 << 10).unwrap());
            assert!(stacks.iter().all(|stack| faults(stack.limit() - 1)));
            let lists = POOL.with(|pool| pool.lists[0].borrow().capacity());
            assert_eq!(lists > 0, chosen == Guard::Install);
            println!("{chosen:?} {}", needs_reservation());
            return;
        }
        let test = concat!(module_path!(), "::guard_is_chosen_by_the_environment");
        for (value, expected) in [("mprotect", "Protect true"), ("auto", "Install false")] {
            let output = child(test, "1", &[("HEBRA_STACK_GUARD", value)]);
            assert!(output.status.success(), "{output:?}");
            assert!(
                String::from_utf8_lossy(&output.stdout).contains(expected),
                "{output:?}"
            );
        }
    }

    // A sanitizer needs the memory that is refused here.
    #[cfg(not(hebra_sanitizer))]
    #[test]
    fn running_out_of_mappings_is_an_error_and_loses_no_stack() {
        if case().is_some() {
            assert!(needs_reservation());
            let size = 16 << 10;
            // Some guards that can be given up later: a page with other rights between each two.
            let ballast = map(400 * 4096, 4096).unwrap();
            let ballast = (0..400).map(|page| Slot::new(ballast + page * 4096, Class(12)));
            let ballast: Vec<Slot> = ballast.step_by(2).collect();
            Guard::Protect.apply(&ballast[..100]);
            let mut stacks = Vec::with_capacity(100_000);
            let error = loop {
                match acquire(size) {
                    Ok(stack) => stacks.push(stack),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
            let text = error.to_string();
            let limit = max_map_count();
            assert!(text.contains("mprotect") && text.contains(&limit), "{text}");
            assert!(limit.len() > 4, "{limit}");
            let count = stacks.len();
            assert!(count > 10_000);
            assert!(mappings() < mapping_limit().unwrap() * 31 / 32);
            assert!(stacks.iter().all(|stack| faults(stack.limit() - 1)));
            // Again and again, without losing a slot.
            let uncarved = Shared::of(Class(14)).uncarved.clone();
            for _ in 0..10 {
                assert!(acquire(size).is_err() && needs_reservation());
            }
            assert_eq!(Shared::of(Class(14)).uncarved, uncarved);
            // All that were refused nothing come back, on any OS thread.
            let last = stacks.pop().unwrap().base();
            assert_eq!(acquire(size).unwrap().base(), last);
            let before = mappings();
            stacks.clear();
            assert!(mappings() < 4_000, "{before} became {}", mappings());
            stacks.extend((0..count).map(|_| acquire(size).unwrap()));
            assert!(acquire(size).is_err());
            // With guards to spend, it goes on where it stopped.
            let ballast = ballast[..100].iter().copied().map(Free);
            assert_eq!(remove_guards(&ballast.collect::<Vec<_>>()), 100);
            assert_eq!(acquire(size).unwrap().slot.start(), uncarved.start);
            println!("done");
            return;
        }
        let test = concat!(
            module_path!(),
            "::running_out_of_mappings_is_an_error_and_loses_no_stack"
        );
        let output = child(test, "1", &[("HEBRA_STACK_GUARD", "mprotect")]);
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("done"),
            "{output:?}"
        );
        assert!(output.status.success(), "{output:?}");
    }

    // A sanitizer needs the memory that is refused here.
    #[cfg(not(hebra_sanitizer))]
    #[test]
    fn running_out_of_address_space_is_an_error_and_passes() {
        if case().is_some() {
            assert!(!needs_reservation());
            let limit = |bytes| {
                let limit = libc::rlimit {
                    rlim_cur: bytes,
                    rlim_max: libc::RLIM_INFINITY,
                };
                // SAFETY: a limit of this test's own process.
                assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
            };
            limit(3 << 30);
            // 64 do not fit, so it makes do with fewer.
            let stacks: Vec<Stack> = std::iter::from_fn(|| acquire(256 << 20).ok()).collect();
            assert!((4..12).contains(&stacks.len()), "{}", stacks.len());
            assert!(needs_reservation());
            let error = acquire(256 << 20).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
            assert!(error.to_string().contains("ulimit -v"), "{error}");
            limit(libc::RLIM_INFINITY);
            acquire(256 << 20).unwrap();
            assert!(!needs_reservation());
            println!("done");
            return;
        }
        let test = concat!(
            module_path!(),
            "::running_out_of_address_space_is_an_error_and_passes"
        );
        let output = child(test, "1", &[]);
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("done"),
            "{output:?}"
        );
        assert!(output.status.success(), "{output:?}");
    }
}
