//! [`Locals`]: the values that one green thread keeps under the keys of `hebra::thread_local!`.
//!
//! Only its home worker's OS thread ever touches them, so they need not be `Send`. Keys are few: a
//! scan finds one faster than hashing would.

use std::any::Any;
use std::rc::Rc;

/// The address of a key, which is a `static`.
pub(crate) type Key = usize;

/// What stands under a key.
pub(crate) enum Found {
    /// Shared, so that whoever uses it may park meanwhile, and the table may grow.
    Value(Rc<dyn Any>),
    /// Its destructor runs, or has run, in this end of the thread.
    Destroyed,
    Nothing,
}

struct Entry {
    key: Key,
    /// `None`: destroyed.
    value: Option<Rc<dyn Any>>,
    needs_drop: bool,
}

/// The values of one green thread, in the order in which they were initialised.
#[derive(Default)]
pub(crate) struct Locals(Vec<Entry>);

impl Locals {
    #[inline]
    pub(crate) fn find(&self, key: Key) -> Found {
        match self.0.iter().find(|entry| entry.key == key) {
            None => Found::Nothing,
            Some(Entry { value: None, .. }) => Found::Destroyed,
            Some(Entry {
                value: Some(value), ..
            }) => Found::Value(value.clone()),
        }
    }

    /// Keeps `value` under `key`, and returns what stood there.
    pub(crate) fn insert(
        &mut self,
        key: Key,
        value: Rc<dyn Any>,
        needs_drop: bool,
    ) -> Option<Rc<dyn Any>> {
        match self.0.iter_mut().find(|entry| entry.key == key) {
            Some(entry) => entry.value.replace(value),
            None => {
                self.0.push(Entry {
                    key,
                    value: Some(value),
                    needs_drop,
                });
                None
            }
        }
    }

    /// Takes out the value that is to be destroyed next: the one whose key was initialised last.
    /// Values without a destructor stay, as others' destructors may use them.
    pub(crate) fn pop(&mut self) -> Option<Rc<dyn Any>> {
        self.0
            .iter_mut()
            .rev()
            .filter(|entry| entry.needs_drop)
            .find_map(|entry| entry.value.take())
    }
}
