//! Values on their way from one stack to the other.
//!
//! A value that fits into a word travels in it. A larger one stays where it is, and its address
//! travels: the side that has sent it is suspended until the other has taken it out. Passed by
//! value, an unoptimised build would copy it in each of the dozen frames in between, and a few
//! kilobytes would overflow a stack.

use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr;

/// A value that is being handed over. Dropped unopened, it is forgotten.
pub(super) struct Parcel<T> {
    /// The value, or where it is.
    word: MaybeUninit<*const T>,
    marker: PhantomData<T>,
}

impl<T> Parcel<T> {
    const FITS: bool =
        size_of::<T>() <= size_of::<*const T>() && align_of::<T>() <= align_of::<*const T>();

    pub(super) fn empty() -> Parcel<T> {
        Parcel {
            word: MaybeUninit::uninit(),
            marker: PhantomData,
        }
    }

    /// # Safety
    /// `value` is not used any more, and stays in place until the parcel has been opened.
    #[inline(always)]
    pub(super) unsafe fn of(value: &mut ManuallyDrop<T>) -> Parcel<T> {
        let value: *const T = ptr::from_mut(value).cast();
        let mut parcel: Parcel<T> = Parcel::empty();
        if Self::FITS {
            // SAFETY: it fits.
            unsafe { parcel.word.as_mut_ptr().cast::<T>().copy_from(value, 1) };
        } else {
            parcel.word.write(value);
        }
        parcel
    }

    /// # Safety
    /// The parcel was made by `of` and is not empty.
    #[inline(always)]
    pub(super) unsafe fn open(self) -> T {
        let value: *const T = if Self::FITS {
            self.word.as_ptr().cast()
        } else {
            // SAFETY: `of` has written it.
            unsafe { self.word.assume_init() }
        };
        // SAFETY: the caller of `of` has left the value to this call.
        unsafe { value.read() }
    }
}

impl<T> Clone for Parcel<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Parcel<T> {}
