//! Generators as iterators.

use std::iter::FusedIterator;

use super::{Finished, Generator, GeneratorState};

impl<Yield, Return> Generator<(), Yield, Return> {
    /// Iterates over what the body yields, up to its end. Then
    /// [`take_return`](Generator::take_return) has what it returned.
    #[inline]
    pub fn iter(&mut self) -> Iter<'_, Yield, Return> {
        Iter { generator: self }
    }

    #[inline]
    fn advance(&mut self) -> Option<Yield> {
        match self.try_resume(()) {
            Ok(GeneratorState::Yielded(value)) => Some(value),
            Ok(GeneratorState::Complete(value)) => {
                self.returned = Some(value);
                None
            }
            Err(Finished(())) => None,
        }
    }
}

impl<Yield, Return> IntoIterator for Generator<(), Yield, Return> {
    type Item = Yield;
    type IntoIter = IntoIter<Yield, Return>;

    #[inline]
    fn into_iter(self) -> IntoIter<Yield, Return> {
        IntoIter { generator: self }
    }
}

impl<'a, Yield, Return> IntoIterator for &'a mut Generator<(), Yield, Return> {
    type Item = Yield;
    type IntoIter = Iter<'a, Yield, Return>;

    #[inline]
    fn into_iter(self) -> Iter<'a, Yield, Return> {
        self.iter()
    }
}

/// What a generator yields, borrowed; made by [`Generator::iter`].
#[derive(Debug)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct Iter<'a, Yield, Return> {
    generator: &'a mut Generator<(), Yield, Return>,
}

impl<Yield, Return> Iterator for Iter<'_, Yield, Return> {
    type Item = Yield;

    #[inline]
    fn next(&mut self) -> Option<Yield> {
        self.generator.advance()
    }
}

impl<Yield, Return> FusedIterator for Iter<'_, Yield, Return> {}

/// What a generator yields; made by its `into_iter`.
#[derive(Debug)]
#[must_use = "iterators are lazy and do nothing unless consumed"]
pub struct IntoIter<Yield, Return> {
    generator: Generator<(), Yield, Return>,
}

impl<Yield, Return> IntoIter<Yield, Return> {
    /// Returns the generator.
    pub fn into_inner(self) -> Generator<(), Yield, Return> {
        self.generator
    }
}

impl<Yield, Return> Iterator for IntoIter<Yield, Return> {
    type Item = Yield;

    #[inline]
    fn next(&mut self) -> Option<Yield> {
        self.generator.advance()
    }
}

impl<Yield, Return> FusedIterator for IntoIter<Yield, Return> {}
