//! [`Walker`]: the return addresses of a stack, from the registers with which its code stopped.
//!
//! It may run in a signal handler, of code that was interrupted anywhere: so it neither allocates
//! nor locks, and it reads nothing but unwind tables and memory of our own stacks. An address that
//! is elsewhere ends the walk: a line too few, never a fault. framehop does the unwinding.
//!
//! # Where a stack ends
//!
//! The first frame of every coroutine returns to one address in corosensei, which
//! [`SavedState`](crate::coroutine::SavedState) knows. There rbp is the address of the *parent
//! link*: where the registers are of whatever has resumed the coroutine. For a generator inside a
//! green thread that is the green thread's stack, and the walk goes on in it; the link of a green
//! thread leads to its worker's stack, which is none of ours. That of a parked one is out of date,
//! and still leads to no stack of ours.
//!
//! # Why not
//! - *`std::backtrace`, libgcc's unwinder*: they lock and allocate, and crash in a signal handler
//!   that has interrupted a switch, where the unwind tables do not say the truth.
//! - *Frame pointers*: the program would have to be built with them.

use std::ffi::{c_int, c_void};
use std::ops::Range;
use std::slice;

use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{
    ExplicitModuleSectionInfo, FrameAddress, Module, MustNotAllocateDuringUnwind, Unwinder as _,
};

use crate::coroutine::SavedState;
use crate::stack;

type Unwinder = UnwinderX86_64<&'static [u8], MustNotAllocateDuringUnwind>;
type Cache = CacheX86_64<MustNotAllocateDuringUnwind>;

/// The registers that a walk begins with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Registers {
    pub(crate) pc: u64,
    pub(crate) sp: u64,
    pub(crate) bp: u64,
}

impl Registers {
    /// What a suspended coroutine has saved at that address of its stack.
    pub(crate) fn saved_at(address: usize) -> Option<Registers> {
        let mut stack = OwnStacks::default();
        Some(Registers {
            pc: stack.read(address as u64)?,
            bp: stack.read(address as u64 + 16)?,
            sp: address as u64 + 24,
        })
    }
}

/// Unwinds the stacks of one dump. It knows the modules that were loaded when it was made.
pub(crate) struct Walker {
    unwinder: Unwinder,
    cache: Box<Cache>,
    root: u64,
}

impl Walker {
    /// `None` where coroutines are not as expected. Takes some fifty microseconds.
    pub(crate) fn new() -> Option<Walker> {
        let mut unwinder = Unwinder::new();
        // SAFETY: the callback is called with the pointer that it is given here, before this
        // returns.
        unsafe { libc::dl_iterate_phdr(Some(add_module), (&raw mut unwinder).cast()) };
        Some(Walker {
            unwinder,
            cache: Box::new(Cache::new_in()),
            root: SavedState::get()?.root as u64,
        })
    }

    /// Calls `frame` with each address, innermost first, until it returns `false`. Each lies inside
    /// of the call, not behind it. Returns whether the walk has got to the end of the stack.
    pub(crate) fn walk(&mut self, start: Registers, mut frame: impl FnMut(u64) -> bool) -> bool {
        let mut stack = OwnStacks::default();
        let mut read = |address| stack.read(address).ok_or(());
        let mut address = FrameAddress::from_instruction_pointer(start.pc);
        let mut registers = UnwindRegsX86_64::new(start.pc, start.sp, start.bp);
        loop {
            if !frame(address.address_for_lookup()) {
                return false;
            }
            let caller =
                self.unwinder
                    .unwind_frame(address, &mut registers, &mut self.cache, &mut read);
            let Ok(Some(mut caller)) = caller else {
                return false;
            };
            if caller == self.root {
                if !frame(caller - 1) {
                    return false;
                }
                // Into the stack of what has resumed this one, if that is one of ours.
                let parent = read(registers.bp());
                let linked = parent.and_then(|at| Ok((read(at)?, read(at + 8)?, at + 24)));
                let Ok((bp, pc, sp)) = linked else {
                    return true;
                };
                registers = UnwindRegsX86_64::new(pc, sp, bp);
                caller = pc;
            }
            match FrameAddress::from_return_address(caller) {
                Some(next) => address = next,
                None => return false,
            }
        }
    }
}

/// Reads words of our stacks, and of nothing else.
#[derive(Default)]
struct OwnStacks {
    /// The usable part of the one that was read last.
    last: Range<usize>,
}

impl OwnStacks {
    fn read(&mut self, address: u64) -> Option<u64> {
        let address = usize::try_from(address).ok()?;
        if !self.last.contains(&address) {
            self.last = stack::bounds_at(address).filter(|bounds| bounds.contains(&address))?;
        }
        if !address.is_multiple_of(8) {
            return None;
        }
        let word: *const u64 = std::ptr::with_exposed_provenance(address);
        // SAFETY: an aligned word between the limit and the base of a slot, whose slab stays mapped
        // for ever (`stack`, invariant 1), and whose guard has been passed. Its own code is
        // suspended or interrupted, so nothing writes meanwhile; volatile, as it is another stack's
        // memory and any bytes are a value.
        Some(unsafe { word.read_volatile() })
    }
}

/// Adds one loaded module to the [`Unwinder`] behind `unwinder`.
///
/// # Safety
/// To be called by `dl_iterate_phdr`, with such a pointer.
unsafe extern "C" fn add_module(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    unwinder: *mut c_void,
) -> c_int {
    // SAFETY: as promised by the caller; nothing else uses either meanwhile.
    let (unwinder, info) = unsafe { (&mut *unwinder.cast::<Unwinder>(), &*info) };
    // SAFETY: the loader says so.
    let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    if let Some(module) = module(info.dlpi_addr, headers) {
        unwinder.add_module(module);
    }
    0
}

/// The module that was loaded with that offset, if it has an index of unwind tables in the form
/// that linkers write.
fn module(base: u64, headers: &[libc::Elf64_Phdr]) -> Option<Module<&'static [u8]>> {
    let loaded = || {
        headers
            .iter()
            .filter(|header| header.p_type == libc::PT_LOAD)
    };
    let end = |header: &libc::Elf64_Phdr| header.p_vaddr + header.p_memsz;
    let bytes = |range: Range<u64>| -> &'static [u8] {
        let start: *const u8 = std::ptr::with_exposed_provenance((base + range.start) as usize);
        // SAFETY: inside of a loaded segment that is not written to. A module that is unloaded
        // while a dump is made would take it away; the walk is short, and Rust's own modules stay.
        unsafe { slice::from_raw_parts(start, (range.end - range.start) as usize) }
    };
    let index = headers
        .iter()
        .find(|header| header.p_type == libc::PT_GNU_EH_FRAME)?;
    let index = index.p_vaddr..end(index);
    let head = bytes(index.clone());
    // Version 1, and the table's address as a signed offset of four bytes (DW_EH_PE_pcrel | sdata4).
    let [1, 0x1b, _, _, a, b, c, d, ..] = *head else {
        return None;
    };
    let offset = i32::from_le_bytes([a, b, c, d]);
    let table = (index.start + 4).wrapping_add_signed(offset.into());
    let segment = loaded().find(|header| (header.p_vaddr..end(header)).contains(&table))?;
    let table = table..segment.p_vaddr + segment.p_filesz;
    let code = loaded().find(|header| header.p_flags & libc::PF_X != 0)?;
    let code = code.p_vaddr..code.p_vaddr + code.p_filesz;
    let start = loaded().map(|header| header.p_vaddr).min()?;
    let end = loaded().map(end).max()?;
    Some(Module::new(
        String::new(),
        base + start..base + end,
        base + start,
        ExplicitModuleSectionInfo {
            base_svma: start,
            text_svma: Some(code.clone()),
            text: Some(bytes(code)),
            eh_frame: Some(bytes(table.clone())),
            eh_frame_svma: Some(table),
            eh_frame_hdr: Some(head),
            eh_frame_hdr_svma: Some(index),
            ..Default::default()
        },
    ))
}
