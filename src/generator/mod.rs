//! Generators: coroutines that exchange values with whoever resumes them.
//!
//! The protocol is Python's (PEP 342, 380 and 479), the names are those of
//! [`core::ops::Coroutine`]; the body runs on a stack of its own, so it may yield from any depth of
//! its calls, at the same cost. Where the two differ is marked in the table.
//!
//! | Case | Here | Python |
//! |---|---|---|
//! | creation | runs nothing and takes no stack | runs nothing |
//! | first resume | carries the first input, the body's second argument | *differs:* must send `None`, else `TypeError` |
//! | `return v` | [`GeneratorState::Complete`] | *differs:* `StopIteration(v)`, in band |
//! | resume after the end | [`try_resume`](Generator::try_resume) gives the input back; [`resume`](Generator::resume) panics | *differs:* `StopIteration` |
//! | resume from within | does not compile: `resume` borrows exclusively; through a `RefCell` it is the cell's panic | `ValueError` |
//! | the body panics | the panic continues in the resumer with its payload; the generator is done | the same |
//! | [`throw`](Generator::throw) at a yield | unwinds from there; a body that catches it may go on | the same |
//! | `throw` before the first resume, or after the end | runs nothing, returns the payload | the same |
//! | [`close`](Generator::close) | unwinds from the yield, destructors innermost first; returns what the body returns after all | the same (3.13) |
//! | a yield during `close` | unwinds again at once; in the end `close` panics, a body that will not go is abandoned | `RuntimeError` |
//! | a panic during `close` | continues in the closer; from a drop too, unless the thread unwinds already | *differs:* a drop prints it |
//! | a panic in a destructor while the body unwinds | the end of the process, as everywhere in Rust | no such case |
//! | drop while suspended | `close`, but yields during it are reported only if the body is abandoned | the same |
//! | resume, `throw`, `close` and drop in a destructor while the thread unwinds | as at any time: the body has a panic count of its own | no such case |
//! | [`yield_from`](Yielder::yield_from) | inputs, `throw` and `close` go straight to the innermost, at a cost that does not grow with the depth | the same, O(depth) |
//! | `yield_from` of a generator that is done | a panic: what it returned is gone | *differs:* returns `None` at once |
//! | iteration | with `Input = ()`: [`iter`](Generator::iter) and `IntoIterator`, fused; then [`take_return`](Generator::take_return) | the value is lost |
//! | a yield in a destructor while the body unwinds | a panic, and with it the end of the process: the panic would leak into the resumer | allowed |
//! | a yielder used on another stack | a panic | – |
//! | a yield inside of a time-out or another cancel scope that the body has opened | a panic in the body: it would cancel whoever runs meanwhile | allowed; PEP 789 would forbid it |
//! | copy, pickle, other threads | not `Clone`, `Send` or `Sync` | `TypeError` |
//! | borrowing the environment | [`Generator::scoped`] | free |
//!
//! # Thread-locals
//!
//! What is on a suspended generator's stack may refer to thread-locals. When an OS thread ends its
//! thread-locals are destroyed, the youngest first, and a generator that is kept in one of them
//! must not run its destructors over those that are gone. Where it can be seen that the
//! thread is ending the generator is abandoned instead: its stack stays, its destructors do not
//! run.
//!
//! It can be seen if no generator was run on that OS thread before the thread-local that keeps the
//! suspended one was first used. So the rule: *whoever keeps suspended generators in a
//! `thread_local!` must use it before any generator runs there, or let no body yield
//! inside of another key's `with`.* On a green thread none of this matters: thread-locals outlive
//! it.
//!
//! # How a delegation costs nothing
//!
//! ```text
//!   resumer --- resume ---> outer --- yield_from ---> inner --- yield_from ---> innermost
//!      ^                                                                            |
//!      +------------------------ yield_ suspends the outermost ---------------------+
//! ```
//!
//! A yielder knows its *root*: the generator that was resumed from outside. To yield is to suspend
//! the root, wherever on top of it the code has got to, and the next resume of the root returns
//! there. In between nobody is woken to pass a value on.

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::panic::{self, AssertUnwindSafe, Location};
use std::ptr;
use std::thread;

use body::{Body, Taken};
use ended::Place;
use footing::Footing;
use parcel::Parcel;

use crate::coroutine::{Coroutine, Resumed, Suspender};
use crate::panic_count;
use crate::report::say;
use crate::stack::{self, Label, What};
use crate::unwinding::{discard, is_unwinding, set_in_destructor};

mod body;
mod ended;
mod footing;
#[deny(unsafe_code)]
mod iter;
mod parcel;
mod scoped;
mod yielder;

#[cfg(feature = "runtime")]
pub(crate) use footing::{Hold, generator_here};
pub use iter::{IntoIter, Iter};
pub use scoped::ScopedGenerator;
use yielder::Standing;
pub use yielder::Yielder;

const DEFAULT_STACK_SIZE: usize = 256 << 10;

type Payload = Box<dyn Any + Send>;

/// The payload that unwinds a generator which is closed.
struct CloseUnwind;

/// What a resume brings instead of an input.
enum Order {
    Throw(Payload),
    Close,
    /// Nothing but the input, and another root: somebody delegates to it.
    Join,
}

/// What [`Generator::resume`] came back with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GeneratorState<Yield, Return> {
    /// The body has yielded this value and is suspended.
    Yielded(Yield),
    /// The body has returned this value; the generator is done.
    Complete(Return),
}

/// Where a generator stands; see [`Generator::status`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GeneratorStatus {
    /// The body has not begun.
    Created,
    /// The body is running. Only code that runs inside of it could see that, and it cannot: a
    /// resume borrows the generator.
    Running,
    /// The body waits at a yield.
    Suspended,
    /// The body has returned, unwound or was dropped unrun.
    Done,
}

/// The error of [`Generator::try_resume`] on a generator that is done: gives the input back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Finished<Input>(pub Input);

impl<Input> fmt::Debug for Finished<Input> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Finished(..)")
    }
}

impl<Input> fmt::Display for Finished<Input> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the generator has finished")
    }
}

impl<Input> std::error::Error for Finished<Input> {}

/// A body that can be left at every [`yield_`](Yielder::yield_) and re-entered by
/// [`resume`](Generator::resume).
///
/// ```
/// use hebra::{Generator, GeneratorState};
///
/// // A running average: numbers go in, averages come out.
/// let mut average = Generator::new(|y, first: f64| {
///     let (mut sum, mut count) = (first, 1.0);
///     loop {
///         sum += y.yield_(sum / count);
///         count += 1.0;
///     }
/// });
/// # let _: &mut Generator<f64, f64, ()> = &mut average;
/// assert_eq!(average.resume(10.0), GeneratorState::Yielded(10.0));
/// assert_eq!(average.resume(20.0), GeneratorState::Yielded(15.0));
/// ```
///
/// A generator with `Input = ()` is an iterator:
///
/// ```
/// use hebra::Generator;
///
/// let squares = Generator::new(|y, ()| (1..=4).for_each(|n| y.yield_(n * n)));
/// assert_eq!(squares.into_iter().collect::<Vec<u32>>(), [1, 4, 9, 16]);
/// ```
///
/// It stays on its OS thread, and cannot be copied:
///
/// ```compile_fail,E0277
/// fn send<T: Send>(_: T) {}
/// send(hebra::Generator::<(), (), ()>::new(|_, ()| ()));
/// ```
/// ```compile_fail,E0277
/// fn share<T: Sync>(_: T) {}
/// share(hebra::Generator::<(), (), ()>::new(|_, ()| ()));
/// ```
/// ```compile_fail,E0277
/// fn copy<T: Clone>(_: T) {}
/// copy(hebra::Generator::<(), (), ()>::new(|_, ()| ()));
/// ```
pub struct Generator<Input, Yield, Return> {
    state: State<Input, Yield, Return>,
    stack_size: usize,
    location: &'static Location<'static>,
    /// What the body has returned to an iterator, until somebody takes it.
    returned: Option<Return>,
    /// Neither `Send` nor `Sync`.
    marker: PhantomData<*mut ()>,
}

/// The input's parcel is empty if there is an order. How the body has ended lies in its [`Place`].
type Running<Input, Yield> = Coroutine<Parcel<Input>, Parcel<Yield>, ()>;

enum State<Input, Yield, Return> {
    Created(Body<'static, Input, Yield, Return>),
    Started(Running<Input, Yield>, Standing<Input, Yield>, Place<Return>),
    Done,
}

/// What a body begins with, in the frame of [`Generator::start`].
struct Launch<'a, Input, Yield, Return> {
    body: Cell<Option<Taken<'a, Input, Yield, Return>>>,
    limit: usize,
    /// Where the input is, in the frame of the resumer.
    input: *const Input,
    ended: Place<Return>,
    delegator: Option<&'a Yielder<Input, Yield>>,
    size: usize,
    /// Is told who uses the stack.
    owner: stack::Owner,
    /// Where the yielder is, as soon as there is one.
    yielder: Cell<Option<Standing<Input, Yield>>>,
}

impl<Input: 'static, Yield: 'static, Return: 'static> Generator<Input, Yield, Return> {
    /// Makes a generator that will run `body` with its yielder and the input of the first resume.
    ///
    /// Its stack of 256 KiB is taken from a pool of this OS thread at the first resume.
    #[track_caller]
    #[inline]
    pub fn new<F>(body: F) -> Generator<Input, Yield, Return>
    where
        F: FnOnce(&Yielder<Input, Yield>, Input) -> Return + 'static,
    {
        Generator::with_stack_size(DEFAULT_STACK_SIZE, body)
    }

    /// As [`new`](Generator::new), with a stack of `size` bytes: rounded up to a power of two of at
    /// least 16 KiB, guard page and up to 2 KiB of colouring included. Memory is taken page by
    /// page, as the body uses it.
    #[track_caller]
    #[inline]
    pub fn with_stack_size<F>(size: usize, body: F) -> Generator<Input, Yield, Return>
    where
        F: FnOnce(&Yielder<Input, Yield>, Input) -> Return + 'static,
    {
        Generator::from_body(size, Body::new(body), Location::caller())
    }
}

impl<Input, Yield, Return> Generator<Input, Yield, Return> {
    #[inline]
    fn from_body(
        stack_size: usize,
        body: Body<'static, Input, Yield, Return>,
        location: &'static Location<'static>,
    ) -> Generator<Input, Yield, Return> {
        Generator {
            state: State::Created(body),
            stack_size,
            location,
            returned: None,
            marker: PhantomData,
        }
    }

    /// Runs the body until it yields or returns. `input` is what its `yield_` returns, or its
    /// second argument the first time.
    ///
    /// # Panics
    /// Panics if the generator is done, or if there is no memory for its stack. A panic in the body
    /// continues here, with its payload.
    #[inline]
    #[track_caller]
    pub fn resume(&mut self, input: Input) -> GeneratorState<Yield, Return> {
        let mut input = ManuallyDrop::new(input);
        // SAFETY: the input is not used any more unless it is left alone.
        match unsafe { self.try_continue(&mut input) } {
            // SAFETY: the body has sent it.
            Some(Resumed::Suspended(value)) => GeneratorState::Yielded(unsafe { value.open() }),
            Some(Resumed::Finished(())) => self.complete(),
            // SAFETY: as above.
            None => match unsafe { self.begin(&mut input) } {
                Some(state) => state,
                None => {
                    // Its destructor may panic: not while this panic unwinds.
                    drop(ManuallyDrop::into_inner(input));
                    panic!(
                        "resume of a generator that has finished; ask is_done, or use try_resume"
                    )
                }
            },
        }
    }

    /// As [`resume`](Generator::resume), but a generator that is done gives the input back.
    ///
    /// # Errors
    /// [`Finished`], with the input, if the generator is done.
    ///
    /// # Panics
    /// Panics if there is no memory for its stack. A panic in the body continues here, with its
    /// payload.
    #[inline]
    pub fn try_resume(
        &mut self,
        input: Input,
    ) -> Result<GeneratorState<Yield, Return>, Finished<Input>> {
        let mut input = ManuallyDrop::new(input);
        // SAFETY: the input is not used any more unless it is left alone.
        match unsafe { self.try_continue(&mut input) } {
            // SAFETY: the body has sent it.
            Some(Resumed::Suspended(value)) => Ok(GeneratorState::Yielded(unsafe { value.open() })),
            Some(Resumed::Finished(())) => Ok(self.complete()),
            // SAFETY: as above.
            None => unsafe { self.begin(&mut input) }
                .ok_or_else(|| Finished(ManuallyDrop::into_inner(input))),
        }
    }

    /// Resumes a suspended body. Any other leaves the input alone, and so does one whose resumer
    /// unwinds: `None`.
    ///
    /// # Safety
    /// The input is not used afterwards, unless it is left alone.
    #[inline(always)]
    unsafe fn try_continue(
        &mut self,
        input: &mut ManuallyDrop<Input>,
    ) -> Option<Resumed<Parcel<Yield>, ()>> {
        match &mut self.state {
            State::Started(coroutine, ..) if !thread::panicking() => {
                // SAFETY: passed on to the caller, in whose frame it is.
                Some(coroutine.resume(unsafe { Parcel::of(input) }))
            }
            _ => None,
        }
    }

    #[cold]
    #[inline(never)]
    fn complete(&mut self) -> GeneratorState<Yield, Return> {
        match self.finish() {
            Ok(value) => GeneratorState::Complete(value),
            Err(payload) => panic::resume_unwind(payload),
        }
    }

    /// The first resume, or one in a destructor. `None`, with the input left alone: the generator is
    /// done.
    ///
    /// # Safety
    /// As `try_continue`.
    #[inline(never)]
    unsafe fn begin(
        &mut self,
        input: &mut ManuallyDrop<Input>,
    ) -> Option<GeneratorState<Yield, Return>> {
        let started = match &mut self.state {
            // Not for a delegate: it runs in the name of its delegator, and if that unwinds, neither
            // may yield.
            State::Created(_) if thread::panicking() => {
                in_destructor(None::<Standing<Input, Yield>>, || self.start(input, None))
            }
            State::Created(_) => self.start(input, None),
            State::Started(coroutine, yielder, _) => {
                // SAFETY: passed on to the caller, in whose frame it is.
                let input = unsafe { Parcel::of(input) };
                match in_destructor(Some(*yielder), || coroutine.resume(input)) {
                    Resumed::Suspended(value) => Resumed::Suspended(value),
                    Resumed::Finished(()) => Resumed::Finished(self.finish()),
                }
            }
            State::Done => return None,
        };
        match started {
            // SAFETY: the body has sent it.
            Resumed::Suspended(value) => Some(GeneratorState::Yielded(unsafe { value.open() })),
            Resumed::Finished(Ok(value)) => Some(GeneratorState::Complete(value)),
            Resumed::Finished(Err(payload)) => panic::resume_unwind(payload),
        }
    }

    /// Resumes a suspended body with an order instead of an input. `None`: it is not suspended, and
    /// done now.
    #[cold]
    #[inline(never)]
    fn command(&mut self, order: Order) -> Result<Resumed<Parcel<Yield>, ()>, Order> {
        let State::Started(coroutine, yielder, _) = &mut self.state else {
            self.state = State::Done;
            return Err(order);
        };
        yielder.within(yielder).command(order);
        Ok(if thread::panicking() {
            in_destructor(Some(*yielder), || coroutine.resume(Parcel::empty()))
        } else {
            coroutine.resume(Parcel::empty())
        })
    }

    /// Takes a stack and runs the body on it; the input is moved out, or dropped. `delegator` is the yielder of the generator that
    /// delegates to this one.
    #[inline]
    fn start(
        &mut self,
        input: &mut ManuallyDrop<Input>,
        delegator: Option<&Yielder<Input, Yield>>,
    ) -> Resumed<Parcel<Yield>, Result<Return, Payload>> {
        let stack = match stack::acquire(self.stack_size) {
            Ok(stack) => stack,
            Err(error) => {
                // SAFETY: the caller has left it to this call.
                unsafe { ManuallyDrop::drop(input) };
                no_stack(error)
            }
        };
        let ended = Place::on(&stack);
        stack.set_label(&Label {
            what: What::Generator,
            name: None,
            location: self.location,
        });
        let State::Created(body) = &mut self.state else {
            unreachable!("only a created generator is started")
        };
        let launch = Launch {
            body: Cell::new(Some(body.take())),
            input: ptr::from_mut(input).cast(),
            ended,
            limit: stack.limit(),
            delegator,
            size: stack.base() - stack.limit(),
            owner: stack.owner(),
            yielder: Cell::new(None),
        };
        let given = &launch;
        let run = move |raw: &_, _| {
            let yielder = Yielder::new(Suspender::new(raw), Footing::new(given.limit, given.size));
            yielder.settle(given.delegator);
            given.owner.set(&raw const yielder.footing);
            given.yielder.set(Some(Standing::new(&yielder)));
            let body = given.body.take().expect("it starts once");
            let (input, ended) = (given.input, given.ended);
            let body = AssertUnwindSafe(|| {
                // SAFETY: the resumer has the input in its frame and has left it to this call. The
                // place for the value is there as long as the coroutine.
                unsafe { body.run(&yielder, input, ended.value()) }
            });
            let panicked = panic::catch_unwind(body).err();
            // SAFETY: as above; a body that has not panicked has written its value.
            unsafe { ended.complete(panicked, yielder.refusals()) };
        };
        // SAFETY: `launch` is looked at before the body runs, and then `start` is in its resume
        // below. What the body borrows is `'static`, for `new` asks for that, or `scoped`
        // ends the generator, or the process, before it ends.
        let mut coroutine = unsafe { Coroutine::new_scoped(stack, Place::<Return>::ROOM, run) };
        let resumed = coroutine.resume(Parcel::empty());
        let (state, resumed) = match resumed {
            Resumed::Suspended(value) => {
                let yielder = launch.yielder.get();
                let yielder = yielder.expect("it has told before it ran the body");
                let state = State::Started(coroutine, yielder, ended);
                (state, Resumed::Suspended(value))
            }
            Resumed::Finished(()) => {
                // SAFETY: the body has completed it, at the base of the stack, which goes back to
                // the pool with the coroutine.
                let (result, _) = unsafe { ended.take() };
                drop(coroutine);
                (State::Done, Resumed::Finished(result))
            }
        };
        // The body has been taken, there is nothing to be dropped.
        mem::forget(mem::replace(&mut self.state, state));
        resumed
    }

    /// The body has ended: its stack goes back to the pool.
    fn finish(&mut self) -> Result<Return, Payload> {
        self.finish_counting().0
    }

    /// As `finish`; tells how often the body has tried to yield while it was closed.
    fn finish_counting(&mut self) -> (Result<Return, Payload>, usize) {
        let State::Started(_, _, ended) = &self.state else {
            unreachable!("only a body that has started ends")
        };
        // SAFETY: the body has completed it, at the base of the stack that the coroutine has still.
        let ended = unsafe { ended.take() };
        self.state = State::Done;
        ended
    }

    /// Makes the body unwind from the yield at which it is suspended, with `payload`, as if it had
    /// panicked there (without the hook).
    ///
    /// A body that catches the unwinding may go on: what it then yields or returns is the result.
    /// On a generator that has not begun or is done nothing runs; it is done, and the payload
    /// comes back.
    ///
    /// # Errors
    /// The payload that came out of the body: the given one, or one of its own.
    ///
    /// ```
    /// use hebra::{Generator, GeneratorState};
    /// use std::panic::{AssertUnwindSafe, catch_unwind};
    ///
    /// let mut g = Generator::new(|y, ()| {
    ///     let caught = catch_unwind(AssertUnwindSafe(|| y.yield_("first")));
    ///     y.yield_(caught.unwrap_err().downcast_ref::<&str>().copied().unwrap());
    /// });
    /// g.resume(());
    /// assert_eq!(g.throw(Box::new("thrown")).unwrap(), GeneratorState::Yielded("thrown"));
    /// ```
    pub fn throw(
        &mut self,
        payload: Box<dyn Any + Send>,
    ) -> Result<GeneratorState<Yield, Return>, Box<dyn Any + Send>> {
        match self.command(Order::Throw(payload)) {
            // SAFETY: the body has sent it.
            Ok(Resumed::Suspended(value)) => Ok(GeneratorState::Yielded(unsafe { value.open() })),
            Ok(Resumed::Finished(())) => self.finish().map(GeneratorState::Complete),
            Err(Order::Throw(payload)) => Err(payload),
            Err(Order::Close | Order::Join) => unreachable!("the order comes back as it was given"),
        }
    }

    /// Ends the generator: a suspended body unwinds from its yield, and its destructors run,
    /// innermost first. One that has not begun is dropped unrun.
    ///
    /// If the body catches the unwinding and returns, its value is the result.
    ///
    /// # Panics
    /// A panic in the body meanwhile continues here. Panics if the body has yielded again: each
    /// such yield unwinds at once, and a body that goes on all the same is abandoned, with its
    /// stack and without its remaining destructors. A body that asks
    /// [`is_closing`](Yielder::is_closing) need not try.
    #[track_caller]
    pub fn close(&mut self) -> Option<Return> {
        match self.unwind() {
            Unwound::Clean(returned) => returned,
            Unwound::Panicked(payload) => panic::resume_unwind(payload),
            Unwound::Ignored | Unwound::Abandoned => panic!("{IGNORED}"),
        }
    }

    fn unwind(&mut self) -> Unwound<Return> {
        match self.command(Order::Close) {
            Err(_) => Unwound::Clean(None),
            Ok(Resumed::Suspended(_)) => {
                // The value is left behind, too: if its destructor panicked, nobody would learn
                // what has become of the body.
                self.abandon();
                Unwound::Abandoned
            }
            Ok(Resumed::Finished(())) => {
                let (result, refusals) = self.finish_counting();
                let ignored = refusals > 0;
                match result {
                    Err(payload) if !payload.is::<CloseUnwind>() => Unwound::Panicked(payload),
                    _ if ignored => Unwound::Ignored,
                    result => Unwound::Clean(result.ok()),
                }
            }
        }
    }

    /// Leaves a suspended body where it stands, for good: its stack is not used again, nor are its
    /// destructors run.
    fn abandon(&mut self) {
        mem::forget(mem::replace(&mut self.state, State::Done));
    }

    /// Returns where the generator stands.
    pub fn status(&self) -> GeneratorStatus {
        match self.state {
            State::Created(_) => GeneratorStatus::Created,
            State::Started(..) => GeneratorStatus::Suspended,
            State::Done => GeneratorStatus::Done,
        }
    }

    /// Returns whether the generator is done: it cannot be resumed any more.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Takes the value that the body has returned while the generator was iterated over.
    pub fn take_return(&mut self) -> Option<Return> {
        self.returned.take()
    }
}

/// Runs a body for a resumer that unwinds: in a destructor. The resumer's panic count is taken from
/// the OS thread meanwhile, so that `panicking` tells whether the body itself unwinds.
///
/// `yielder` is that of the resumed generator, if it has started.
#[cold]
#[inline(never)]
fn in_destructor<Input, Yield, T>(
    yielder: Option<Standing<Input, Yield>>,
    resume: impl FnOnce() -> T,
) -> T {
    struct Flag(bool);

    impl Drop for Flag {
        fn drop(&mut self) {
            set_in_destructor(self.0);
        }
    }

    if !is_unwinding() {
        return resume();
    }
    let _count = panic_count::take();
    if is_unwinding()
        && let Some(yielder) = yielder
    {
        // The system has refused the means. Then the body has to know whose unwinding it sees.
        yielder.within(&yielder).look();
    }
    let _flag = Flag(set_in_destructor(true));
    resume()
}

#[cold]
fn no_stack(error: std::io::Error) -> ! {
    panic!("there is no stack for a generator: {error}");
}

/// For what can neither go on nor be left behind.
#[cold]
fn end_process(why: &str) -> ! {
    say(format_args!("{why}"));
    std::process::abort();
}

const IGNORED: &str = "a generator has ignored its close: it has yielded again";

/// What came of a close.
enum Unwound<Return> {
    Clean(Option<Return>),
    Panicked(Payload),
    /// It has tried to yield, but is unwound.
    Ignored,
    /// It has gone on trying, and is left behind.
    Abandoned,
}

impl<Input, Yield, Return> Drop for Generator<Input, Yield, Return> {
    /// Closes the generator, and drops what the body returns. A panic of the body continues here, and
    /// a body that goes on yielding until it is abandoned is reported by a panic; unless the thread
    /// unwinds already: then both are dropped. A body that has yielded again but is unwound, at
    /// which `close` panics, is not reported.
    ///
    /// A generator that other code has delegated to and forgotten is abandoned, and so is one that is
    /// dropped when the thread-locals of an ending OS thread are gone.
    #[inline]
    fn drop(&mut self) {
        if matches!(self.state, State::Started(..)) {
            self.end();
        }
    }
}

impl<Input, Yield, Return> Generator<Input, Yield, Return> {
    #[cold]
    #[inline(never)]
    fn end(&mut self) {
        // Thread-locals are being destroyed, and what is on that stack may refer to one that is
        // gone. Or it is kept in one of them, and somebody had delegated to it who was
        // forgotten: then it is not from here that it can be resumed.
        let is_lent =
            matches!(&self.state, State::Started(coroutine, ..) if !coroutine.is_suspended());
        if is_lent || !stack::is_pool_alive() {
            return self.abandon();
        }
        match self.unwind() {
            unwound if is_unwinding() => discard(unwound),
            Unwound::Panicked(payload) => panic::resume_unwind(payload),
            Unwound::Abandoned => panic!("{IGNORED}"),
            Unwound::Clean(_) | Unwound::Ignored => {}
        }
    }
}

impl<Input, Yield, Return> fmt::Debug for Generator<Input, Yield, Return> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generator")
            .field("status", &self.status())
            .field("location", &format_args!("{}", self.location))
            .finish_non_exhaustive()
    }
}
