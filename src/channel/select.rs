//! [`Select`]: one of several operations, whichever can go first.
//!
//! # How one is selected
//!
//! 1. Try each operation, in random order: the first that would not wait is reserved, and that is
//!    it.
//! 2. Enlist in all of the channels. If one of them turns out not to have to wait, go back to 1.
//! 3. Wait. Whoever comes to one of the channels and wins this thread's claim has selected that
//!    operation, and its entry is gone: no other can be, as a wait is claimed once.
//! 4. Leave the other channels.
//!
//! An [object](super::object) has nothing to reserve: it ends the wait only to have everything
//! looked at again, from 1 on.
//!
//! A select that does not wait leaves out 3, not 2: that one channel was empty a moment ago, and
//! the next one is now, does not mean that there was ever nothing to receive. To have stood in all
//! of them at once does. It enlists for a wait that has ended already, so that it cannot be chosen
//! and never suspends. Nor does it wait for a sender that has yet to make its message: if there is
//! nothing else it chooses one such sender, and leaves the message to the next receiver.
//!
//! A select that waits and goes back from 2 to 1 takes the entries out again; one may have been
//! chosen meanwhile. Then the wait has been ended, and has to be entered to be left: the thread
//! suspends, and is resumed at once.
//!
//! A selected operation is reserved and not done: the message of a send is made only then. See
//! [`State`](super::state) for what is reserved; [`SelectedOperation`] gives it back if it is
//! dropped undone.

use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::entries::{Fate, Key, List};
use super::object::Look;
use super::queue::{Promise, Queue};
use super::receiver::Flavor;
use super::state::{Held, Place};
use super::{
    ReadyTimeoutError, RecvError, SelectTimeoutError, SendError, TryReadyError, TrySelectError,
};
use super::{Receiver, Sender};
use crate::park::{self, Mode, Wait, deadline_after};
use crate::scheduler::claim::{Epoch, Wake};
use crate::scheduler::task::Reason;

/// What a selected operation has got.
#[derive(Clone, Copy)]
enum Reserved {
    /// A place, or a receiver.
    Place,
    /// The message in this entry.
    Message(Key),
    /// The message that will be in this entry, if a sender that was selected makes it.
    Promise(Key),
    /// A message from time itself, that was due then, or that an object is ready.
    Taken(Option<Instant>),
    /// Nothing: the operation fails.
    Failure,
}

/// As what the thread is enlisted for an operation.
#[derive(Clone, Copy)]
enum Standing {
    /// Its entry among a channel's.
    Entry(Key),
    /// A waiter of this wait, with an object.
    Waiter(Epoch),
}

/// What an operation does of a select, whatever its messages are.
trait Operation {
    /// Reserves what it needs, if that is there at once. `None` is a first answer; enlisting gives
    /// the final one.
    ///
    /// Of a channel that time sends to, `waited` is when the message was due that the thread has
    /// waited for. The message of a sender that is to make it is waited for as `limit` says.
    fn reserve(&self, waited: Option<Instant>, limit: Limit) -> Option<Reserved>;

    /// Chooses a sender that is to make its message, for a select that cannot wait for that: see
    /// [`State`](super::state). Returns whether there was one.
    fn choose_sender(&self) -> bool;

    /// Gives back what was reserved.
    fn release(&self, reserved: Reserved);

    /// Whether it would not wait.
    fn is_ready(&self) -> bool;

    /// When it will not wait any more without anybody's doing.
    fn due(&self) -> Option<Instant>;

    /// Enlists the thread.
    ///
    /// # Errors
    /// It would not wait.
    fn enlist(&self, wait: &Wait<'_>, purpose: Purpose) -> Result<Option<Standing>, Ready>;

    /// Takes the thread out, and tells what has become of its entry. One that was chosen stays as
    /// what is reserved.
    fn withdraw(&self, standing: Standing) -> (Fate, Reserved);

    /// Waits for a promise to be kept, until `deadline`; `None` if it is not.
    fn await_promise(&self, reserved: Reserved, deadline: Option<Instant>) -> Option<Reserved>;
}

/// An operation need not wait.
struct Ready;

/// What a thread is enlisted for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// To have something reserved.
    Have,
    /// To be told that something can be had.
    Watch,
    /// To find out that nothing can be had without waiting, a sender's message that is yet to be
    /// made included.
    Poll,
}

impl<T> Operation for Sender<T> {
    fn reserve(&self, _: Option<Instant>, _: Limit) -> Option<Reserved> {
        if !self.queue.may_send() {
            return None;
        }
        let place = self.queue.lock().reserve_place();
        match place {
            Place::Reserved(claimed) => {
                drop(claimed);
                Some(Reserved::Place)
            }
            Place::Disconnected => Some(Reserved::Failure),
            Place::Nothing => None,
        }
    }

    fn choose_sender(&self) -> bool {
        false
    }

    fn release(&self, reserved: Reserved) {
        if let Reserved::Place = reserved {
            let claimed = self.queue.lock().release_place();
            drop(claimed);
        }
    }

    fn is_ready(&self) -> bool {
        self.queue.lock().is_sendable(None)
    }

    fn due(&self) -> Option<Instant> {
        None
    }

    fn enlist(&self, wait: &Wait<'_>, purpose: Purpose) -> Result<Option<Standing>, Ready> {
        let mut state = self.queue.lock();
        let key = match () {
            () if state.is_sendable(Some(wait)) => return Err(Ready),
            () if purpose != Purpose::Have => state.enlist_watcher(List::SendWatchers, wait),
            () => state.enlist_sender(wait, &mut None),
        };
        Ok(Some(Standing::Entry(key)))
    }

    fn withdraw(&self, standing: Standing) -> (Fate, Reserved) {
        let fate = match standing {
            Standing::Entry(key) => self.queue.lock().entries.withdraw_sender(key),
            Standing::Waiter(_) => Fate::Over,
        };
        (fate, Reserved::Place)
    }

    fn await_promise(&self, reserved: Reserved, _: Option<Instant>) -> Option<Reserved> {
        Some(reserved)
    }
}

impl<T> Operation for Receiver<T> {
    fn reserve(&self, waited: Option<Instant>, limit: Limit) -> Option<Reserved> {
        match &self.flavor {
            Flavor::Queue(queue) if !queue.may_receive() => None,
            Flavor::Queue(queue) => hold_message(queue, limit),
            Flavor::Object(object) => match object.take(waited) {
                (Look::Ready, due) => Some(Reserved::Taken(due)),
                (Look::NotReady, _) => None,
                (Look::Gone, _) => Some(Reserved::Failure),
            },
            Flavor::Never => None,
        }
    }

    fn choose_sender(&self) -> bool {
        let Flavor::Queue(queue) = &self.flavor else {
            return false;
        };
        if queue.capacity() != Some(0) {
            return false;
        }
        let chosen = queue.lock().choose_sender();
        chosen.is_some()
    }

    fn release(&self, reserved: Reserved) {
        if let (Reserved::Message(key), Flavor::Queue(queue)) = (reserved, &self.flavor) {
            let claimed = queue.lock().release_message(key);
            drop(claimed);
        }
    }

    fn is_ready(&self) -> bool {
        match &self.flavor {
            Flavor::Queue(queue) => queue.lock().is_worth_a_look(),
            Flavor::Object(object) => object.look() != Look::NotReady,
            Flavor::Never => false,
        }
    }

    fn due(&self) -> Option<Instant> {
        match &self.flavor {
            Flavor::Object(object) => object.due(),
            Flavor::Queue(_) | Flavor::Never => None,
        }
    }

    fn enlist(&self, wait: &Wait<'_>, purpose: Purpose) -> Result<Option<Standing>, Ready> {
        let queue = match &self.flavor {
            Flavor::Queue(queue) => queue,
            Flavor::Object(object) if object.enlist(wait) => {
                return Ok(Some(Standing::Waiter(wait.epoch())));
            }
            Flavor::Object(_) => return Err(Ready),
            Flavor::Never => return Ok(None),
        };
        let mut state = queue.lock();
        let ready = match purpose {
            Purpose::Have => state.is_receivable(Some(wait)),
            Purpose::Watch => state.is_worth_a_look(),
            Purpose::Poll => state.is_pollable(),
        };
        let key = match purpose {
            _ if ready => return Err(Ready),
            Purpose::Have => state.enlist_receiver(wait),
            Purpose::Watch | Purpose::Poll => state.enlist_watcher(List::RecvWatchers, wait),
        };
        Ok(Some(Standing::Entry(key)))
    }

    fn withdraw(&self, standing: Standing) -> (Fate, Reserved) {
        match (standing, &self.flavor) {
            (Standing::Entry(key), Flavor::Queue(queue)) => {
                let fate = queue.lock().entries.withdraw_receiver(key);
                (
                    fate,
                    if fate == Fate::Promised {
                        Reserved::Promise(key)
                    } else {
                        Reserved::Message(key)
                    },
                )
            }
            (Standing::Waiter(epoch), Flavor::Object(object)) => {
                let enlisted = park::with_wait(epoch, |wait| object.delist(wait));
                (
                    if enlisted { Fate::Waiting } else { Fate::Over },
                    Reserved::Failure,
                )
            }
            _ => (Fate::Over, Reserved::Failure),
        }
    }

    fn await_promise(&self, reserved: Reserved, deadline: Option<Instant>) -> Option<Reserved> {
        match (reserved, &self.flavor) {
            (Reserved::Promise(key), Flavor::Queue(queue)) => {
                hold_promise(queue, key, deadline).ok()
            }
            _ => Some(reserved),
        }
    }
}

fn hold_message<T>(queue: &Queue<T>, limit: Limit) -> Option<Reserved> {
    loop {
        let held = match limit {
            Limit::Now => queue.lock().hold_polled(),
            Limit::At(_) => queue.lock().hold_message(),
        };
        match held {
            Held::Message(key, claimed) => {
                drop(claimed);
                return Some(Reserved::Message(key));
            }
            Held::Expected(key, claimed) => {
                drop(claimed);
                match hold_promise(queue, key, limit.deadline()) {
                    Ok(reserved) => return Some(reserved),
                    Err(Promise::GivenUp) => return None,
                    Err(_) => {}
                }
            }
            Held::Nothing => return None,
            Held::Disconnected => return Some(Reserved::Failure),
        }
    }
}

#[cold]
fn hold_promise<T>(
    queue: &Queue<T>,
    key: Key,
    deadline: Option<Instant>,
) -> Result<Reserved, Promise> {
    match queue.await_message(key, deadline) {
        Promise::Kept => Ok(Reserved::Message(key)),
        promise => Err(promise),
    }
}

/// One operation of a select: what the macros make lists of.
#[derive(Clone)]
pub struct Case<'a> {
    operation: &'a dyn Operation,
    index: usize,
    /// Of the channel, and one more for a receive: the operation must be completed on the same.
    address: usize,
    /// While the thread is enlisted for it.
    standing: Option<Standing>,
}

impl<'a> Case<'a> {
    /// A send.
    #[inline]
    pub fn send<T>(sender: &'a Sender<T>, index: usize) -> Case<'a> {
        Case {
            operation: sender,
            index,
            address: sender.address(),
            standing: None,
        }
    }

    /// A receive.
    #[inline]
    pub fn recv<T>(receiver: &'a Receiver<T>, index: usize) -> Case<'a> {
        Case {
            operation: receiver,
            index,
            address: receiver.address(),
            standing: None,
        }
    }

    fn selected(&self, reserved: Reserved) -> SelectedOperation<'a> {
        let Case {
            operation,
            index,
            address,
            ..
        } = *self;
        SelectedOperation {
            operation,
            index,
            address,
            reserved: Some(reserved),
        }
    }
}

// SAFETY: a case holds a borrowed sender or receiver of messages that may not be `Send`, and hides
// their type. By it a message is moved between a channel's buffer and its entries, under the channel's
// lock, but none is made, used, received or dropped: that takes the sender or the receiver itself, which
// a thread can have only where their own `Send` and `Sync` let it. What else is in a case is plain data.
#[allow(unsafe_code)]
unsafe impl Send for Case<'_> {}
// SAFETY: as above; a shared case does nothing at all but be cloned.
#[allow(unsafe_code)]
unsafe impl Sync for Case<'_> {}

impl fmt::Debug for Case<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

impl<T> Sender<T> {
    /// Names the operation, whichever clone is asked.
    fn address(&self) -> usize {
        Arc::as_ptr(&self.queue).addr()
    }
}

impl<T> Receiver<T> {
    /// Names the operation, whichever clone is asked.
    fn address(&self) -> usize {
        let channel = match &self.flavor {
            Flavor::Queue(queue) => Arc::as_ptr(queue).addr(),
            Flavor::Object(object) => Arc::as_ptr(object).addr(),
            Flavor::Never => 0,
        };
        // Not that of a sender: both are aligned to more than that.
        channel + 1
    }
}

/// How long a select waits.
#[derive(Clone, Copy)]
enum Limit {
    Now,
    At(Option<Instant>),
}

impl Limit {
    /// Counts the operation. One that cannot wait never switches threads (law 5).
    #[inline]
    fn charge(self) {
        match self {
            Limit::Now => park::charge(),
            Limit::At(_) => park::charge_or_yield(),
        }
    }

    fn deadline(self) -> Option<Instant> {
        match self {
            Limit::Now => None,
            Limit::At(deadline) => deadline,
        }
    }

    fn has_passed(self) -> bool {
        match self {
            Limit::Now => true,
            Limit::At(deadline) => deadline.is_some_and(|deadline| deadline <= park::now()),
        }
    }
}

/// How a wait for several operations has ended.
enum Ended {
    /// This one was chosen, and has got this.
    Selected(usize, Reserved),
    /// See what there is.
    Again,
    /// As `Again`: a channel that time sends to has a message, which was due then.
    Due(Instant),
    /// Time is up, and at one moment all operations would have had to wait.
    TimedOut,
    /// The thread is cancelled, and unwinds already.
    Cancelled,
}

fn run<'a>(cases: &mut [Case<'a>], limit: Limit, biased: bool) -> Option<SelectedOperation<'a>> {
    limit.charge();
    if !biased {
        shuffle(cases);
    }
    let mut waited = None;
    loop {
        for case in &*cases {
            if let Some(reserved) = case.operation.reserve(waited, limit) {
                return Some(case.selected(reserved));
            }
        }
        match wait(cases, limit, Purpose::Have) {
            Ended::Selected(at, reserved) => return Some(cases[at].selected(reserved)),
            Ended::Due(due) => waited = Some(due),
            Ended::Again => {}
            Ended::TimedOut => {
                if let Limit::Now = limit {
                    // One at most: who polls has asked for one message.
                    let _ = cases.iter().any(|case| case.operation.choose_sender());
                }
                return None;
            }
            Ended::Cancelled => return cases.first().map(|case| case.selected(Reserved::Failure)),
        }
    }
}

fn run_ready(cases: &mut [Case<'_>], limit: Limit, biased: bool) -> Option<usize> {
    limit.charge();
    if !biased {
        shuffle(cases);
    }
    loop {
        if let Some(case) = cases.iter().find(|case| case.operation.is_ready()) {
            return Some(case.index);
        }
        match wait(cases, limit, Purpose::Watch) {
            Ended::Selected(..) | Ended::Due(_) | Ended::Again => {}
            Ended::TimedOut => return None,
            Ended::Cancelled if matches!(limit, Limit::At(Some(_))) => return None,
            Ended::Cancelled => return cases.first().map(|case| case.index),
        }
    }
}

/// Enlists for all operations, and waits for one of them, if there is time to wait.
fn wait(cases: &mut [Case<'_>], limit: Limit, purpose: Purpose) -> Ended {
    let deadline = match limit {
        Limit::Now if purpose == Purpose::Have => return look(cases, Purpose::Poll),
        Limit::Now => return look(cases, purpose),
        Limit::At(_) if limit.has_passed() => return look(cases, purpose),
        Limit::At(deadline) => deadline,
    };
    let due = cases.iter().filter_map(|case| case.operation.due()).min();
    let until = due.into_iter().chain(deadline).min();
    let mut selected = None;
    let wake = park::park(Reason::Select, until, Mode::CancelPoint, |wait| {
        if !enlist(cases, wait, purpose) {
            let claimed;
            (claimed, selected) = withdraw(cases);
            if !claimed {
                return None;
            }
        }
        Some(|_: &Wait<'_>| {
            withdraw(cases);
        })
    });
    match wake {
        Wake::Cancelled => Ended::Cancelled,
        Wake::TimedOut if due.is_none_or(|due| due > park::now()) && limit.has_passed() => {
            Ended::TimedOut
        }
        Wake::TimedOut => due.map_or(Ended::Again, Ended::Due),
        Wake::Woken => {
            let (_, chosen) = withdraw(cases);
            let selected = selected.or(chosen);
            let kept = selected.and_then(|(at, reserved)| {
                let operation = cases[at].operation;
                Some((at, operation.await_promise(reserved, deadline)?))
            });
            kept.map_or(Ended::Again, |(at, reserved)| Ended::Selected(at, reserved))
        }
    }
}

/// Finds out whether there is a moment at which all operations would have to wait, and never
/// suspends: the wait that it enlists for has ended already, so nobody can choose one of its
/// entries. Whoever tries takes the entry off its list, and that is seen here.
fn look(cases: &mut [Case<'_>], purpose: Purpose) -> Ended {
    park::with_ended_wait(|wait| {
        let all_wait = enlist(cases, wait, purpose);
        let (met, selected) = withdraw(cases);
        debug_assert!(selected.is_none(), "an ended wait is not claimed");
        if all_wait && !met {
            Ended::TimedOut
        } else {
            Ended::Again
        }
    })
}

/// Enlists for the operations, up to the first that would not wait; `false` if there is one.
fn enlist(cases: &mut [Case<'_>], wait: &Wait<'_>, purpose: Purpose) -> bool {
    for case in &mut *cases {
        match case.operation.enlist(wait, purpose) {
            Ok(standing) => case.standing = standing,
            Err(Ready) => return false,
        }
    }
    true
}

/// Takes all entries out. Returns whether the wait has been ended by way of one of them, and the
/// one that was chosen, if one was.
fn withdraw(cases: &mut [Case<'_>]) -> (bool, Option<(usize, Reserved)>) {
    let (mut claimed, mut selected) = (false, None);
    for (at, case) in cases.iter_mut().enumerate() {
        let Some(standing) = case.standing.take() else {
            continue;
        };
        let (fate, reserved) = case.operation.withdraw(standing);
        claimed |= fate != Fate::Waiting;
        if let Fate::Chosen | Fate::Promised = fate {
            debug_assert!(selected.is_none(), "one wait, one operation");
            selected = Some((at, reserved));
        }
    }
    (claimed, selected)
}

/// Brings the cases into random order (Fisher and Yates).
fn shuffle(cases: &mut [Case<'_>]) {
    if cases.len() < 2 {
        return;
    }
    // One draw does for all: what is left of it is stirred for the next choice. A number below n is
    // the upper half of a product.
    let mut word = park::random();
    for last in (1..cases.len()).rev() {
        let other = ((word >> 32) * (last as u64 + 1)) >> 32;
        cases.swap(last, other as usize);
        word = word.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
    }
}

/// What the macros call. An `Option` is moved out of its variable in each arm, and so no arm
/// borrows the handles of another.
pub(super) mod expanded {
    use super::*;

    /// Selects without waiting, if that is possible.
    #[inline]
    pub fn try_select<'a>(cases: &mut [Case<'a>], biased: bool) -> Option<SelectedOperation<'a>> {
        run(cases, Limit::Now, biased)
    }

    /// Selects.
    #[inline]
    pub fn select<'a>(cases: &mut [Case<'a>], biased: bool) -> Option<SelectedOperation<'a>> {
        run(cases, Limit::At(None), biased)
    }

    /// Selects, and waits for `timeout` at most.
    #[inline]
    pub fn select_timeout<'a>(
        cases: &mut [Case<'a>],
        timeout: Duration,
        biased: bool,
    ) -> Option<SelectedOperation<'a>> {
        run(cases, Limit::At(deadline_after(timeout)), biased)
    }

    /// Whether the operation at `index` was selected.
    #[inline]
    pub fn is(selected: &Option<SelectedOperation<'_>>, index: usize) -> bool {
        selected
            .as_ref()
            .is_some_and(|operation| operation.index() == index)
    }

    /// Completes a receive.
    #[inline]
    pub fn recv<T>(
        selected: Option<SelectedOperation<'_>>,
        receiver: &Receiver<T>,
    ) -> Result<T, RecvError> {
        selected.expect(SELECTED).recv(receiver)
    }

    /// Completes a send.
    #[inline]
    pub fn send<T>(
        selected: Option<SelectedOperation<'_>>,
        sender: &Sender<T>,
        message: T,
    ) -> Result<(), SendError<T>> {
        selected.expect(SELECTED).send(sender, message)
    }

    const SELECTED: &str = "the arm of the operation that was selected";
}

/// Selects one of a list of operations that is known only when the program runs.
///
/// If several could go first, one of them is selected at random. A selected operation must be
/// completed, with the sender or receiver that was added, or a clone. [`select!`](macro@super::select) is
/// this for a list that is known when the program is compiled.
///
/// A list is `Send` and `Sync`, whatever the messages are, and so can be made by one thread and used by
/// another.
///
/// ```
/// use hebra::channel::{unbounded, Select};
///
/// let (sender, receiver) = unbounded();
/// let (_other, silent) = unbounded::<u32>();
/// sender.send("here").unwrap();
///
/// let mut select = Select::new();
/// let first = select.recv(&receiver);
/// let second = select.recv(&silent);
/// let operation = select.select();
/// match operation.index() {
///     i if i == first => assert_eq!(operation.recv(&receiver), Ok("here")),
///     i if i == second => assert!(operation.recv(&silent).is_ok()),
///     _ => unreachable!(),
/// }
/// ```
#[derive(Clone, Default)]
pub struct Select<'a> {
    cases: Vec<Case<'a>>,
    next_index: usize,
    biased: bool,
}

impl<'a> Select<'a> {
    /// Makes an empty list, from which a random one of those that can go first is selected.
    pub fn new() -> Select<'a> {
        Select::default()
    }

    /// Makes an empty list, from which the first of those that can go first is selected.
    ///
    /// ```
    /// use hebra::channel::{unbounded, Select};
    ///
    /// let (sender, receiver) = unbounded::<u32>();
    /// sender.send(1).unwrap();
    /// let mut select = Select::new_biased();
    /// let receive = select.recv(&receiver);
    /// let send = select.send(&sender);
    /// let operation = select.select();
    /// assert_eq!(operation.index(), receive);
    /// operation.recv(&receiver).unwrap();
    /// # let _ = send;
    /// ```
    pub fn new_biased() -> Select<'a> {
        Select {
            biased: true,
            ..Select::default()
        }
    }

    /// Adds a send, and returns its index.
    pub fn send<T>(&mut self, sender: &'a Sender<T>) -> usize {
        self.push(Case::send(sender, self.next_index))
    }

    /// Adds a receive, and returns its index.
    pub fn recv<T>(&mut self, receiver: &'a Receiver<T>) -> usize {
        self.push(Case::recv(receiver, self.next_index))
    }

    fn push(&mut self, case: Case<'a>) -> usize {
        self.cases.push(case);
        self.next_index += 1;
        self.next_index - 1
    }

    /// Removes an operation, because its channel is disconnected, say. The indices of the others
    /// stay.
    ///
    /// # Panics
    /// If there is no operation with this index.
    ///
    /// ```
    /// use hebra::channel::{unbounded, Select};
    ///
    /// let (sender, receiver) = unbounded::<u32>();
    /// drop(sender);
    /// let mut select = Select::new();
    /// let gone = select.recv(&receiver);
    /// let operation = select.select();
    /// assert!(operation.recv(&receiver).is_err());
    /// select.remove(gone);
    /// assert!(select.try_select().is_err());
    /// ```
    pub fn remove(&mut self, index: usize) {
        assert!(
            index < self.next_index,
            "index out of bounds; {index} >= {}",
            self.next_index
        );
        let at = self
            .cases
            .iter()
            .position(|case| case.index == index)
            .expect("no operation with this index");
        // In order, as the order counts for a biased one that has never been shuffled.
        self.cases.remove(at);
    }

    /// Selects an operation that does not have to wait.
    ///
    /// # Errors
    /// All would have to.
    pub fn try_select(&mut self) -> Result<SelectedOperation<'a>, TrySelectError> {
        run(&mut self.cases, Limit::Now, self.biased).ok_or(TrySelectError)
    }

    /// Selects an operation, and waits until one does not have to.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point, and then nothing is selected. In a
    /// destructor of a thread that is being cancelled an operation is selected that fails, if
    /// all would have to wait.
    ///
    /// # Panics
    /// If there are no operations.
    pub fn select(&mut self) -> SelectedOperation<'a> {
        assert!(
            !self.cases.is_empty(),
            "no operations have been added to `Select`"
        );
        run(&mut self.cases, Limit::At(None), self.biased)
            .expect("without a deadline time is never up")
    }

    /// Selects an operation, and waits for `timeout` at most until one does not have to.
    ///
    /// # Cancellation
    /// As [`select`](Select::select).
    ///
    /// # Errors
    /// Time is up.
    pub fn select_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<SelectedOperation<'a>, SelectTimeoutError> {
        match deadline_after(timeout) {
            Some(deadline) => self.select_deadline(deadline),
            None => Ok(self.select()),
        }
    }

    /// Selects an operation, and waits until `deadline` at most until one does not have to.
    ///
    /// # Cancellation
    /// As [`select`](Select::select).
    ///
    /// # Errors
    /// The deadline has passed.
    pub fn select_deadline(
        &mut self,
        deadline: impl Into<Instant>,
    ) -> Result<SelectedOperation<'a>, SelectTimeoutError> {
        run(
            &mut self.cases,
            Limit::At(Some(deadline.into())),
            self.biased,
        )
        .ok_or(SelectTimeoutError)
    }

    /// Returns the index of an operation that would not have to wait. Another thread may be
    /// quicker, and then it would again.
    ///
    /// # Errors
    /// All would have to wait.
    pub fn try_ready(&mut self) -> Result<usize, TryReadyError> {
        run_ready(&mut self.cases, Limit::Now, self.biased).ok_or(TryReadyError)
    }

    /// Waits until an operation would not have to wait, and returns its index. Another thread may
    /// be quicker, and then it would again.
    ///
    /// # Cancellation
    /// Parks the current thread; this is a cancel point. In a destructor of a thread that is being
    /// cancelled it returns at once.
    ///
    /// # Panics
    /// If there are no operations.
    ///
    /// ```
    /// use hebra::channel::{unbounded, Select};
    ///
    /// let (sender, receiver) = unbounded();
    /// let mut select = Select::new();
    /// let receive = select.recv(&receiver);
    /// assert!(select.try_ready().is_err());
    /// sender.send(5).unwrap();
    /// assert_eq!(select.ready(), receive);
    /// assert_eq!(receiver.try_recv(), Ok(5));
    /// ```
    pub fn ready(&mut self) -> usize {
        assert!(
            !self.cases.is_empty(),
            "no operations have been added to `Select`"
        );
        run_ready(&mut self.cases, Limit::At(None), self.biased)
            .expect("without a deadline time is never up")
    }

    /// As [`ready`](Select::ready), but for `timeout` at most.
    ///
    /// # Cancellation
    /// As [`ready`](Select::ready).
    ///
    /// # Errors
    /// Time is up.
    pub fn ready_timeout(&mut self, timeout: Duration) -> Result<usize, ReadyTimeoutError> {
        match deadline_after(timeout) {
            Some(deadline) => self.ready_deadline(deadline),
            None => Ok(self.ready()),
        }
    }

    /// As [`ready`](Select::ready), but until `deadline` at most.
    ///
    /// # Cancellation
    /// As [`ready`](Select::ready).
    ///
    /// # Errors
    /// The deadline has passed.
    pub fn ready_deadline(
        &mut self,
        deadline: impl Into<Instant>,
    ) -> Result<usize, ReadyTimeoutError> {
        run_ready(
            &mut self.cases,
            Limit::At(Some(deadline.into())),
            self.biased,
        )
        .ok_or(ReadyTimeoutError)
    }
}

impl fmt::Debug for Select<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("Select { .. }")
    }
}

/// An operation that was selected and has to be completed: by [`send`](SelectedOperation::send) or
/// [`recv`](SelectedOperation::recv), with the same sender or receiver, or a clone of it.
///
/// What it has reserved goes back to the channel if it is dropped undone; dropping it is a mistake,
/// though, and panics, unless the thread unwinds.
///
/// Until then it has a message, or a place, that nobody else can have. So others may have found the
/// channel empty and disconnected, and gone, when a thread that is cancelled between selecting and
/// receiving gives its message back. It is the first in the channel again, and if a receiver waits,
/// that gets it; if there is none any more it is dropped with the channel, though its sender, on a
/// channel of no capacity as well, has been told that it was sent. So complete an operation before
/// you wait for something else.
///
/// Do not forget one ([`mem::forget`](std::mem::forget)): its message or its place is lost then. On a
/// channel of no capacity a receiver that was promised the message of a send waits for it until its
/// time is up or it is cancelled, and calls that cannot wait do not select another such sender.
///
/// As in crossbeam it is neither `Send` nor `Sync`: the thread that has selected completes.
#[must_use]
pub struct SelectedOperation<'a> {
    operation: &'a dyn Operation,
    index: usize,
    address: usize,
    /// `None` when it is done.
    reserved: Option<Reserved>,
}

impl SelectedOperation<'_> {
    /// Returns the index of the operation, as it was added.
    #[inline]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Completes a send. It does not wait.
    ///
    /// # Errors
    /// The receivers are gone. The message comes back.
    ///
    /// # Panics
    /// If another channel's sender was selected, or a receiver.
    #[inline]
    pub fn send<T>(mut self, sender: &Sender<T>, msg: T) -> Result<(), SendError<T>> {
        assert!(
            sender.address() == self.address,
            "passed a sender that wasn't selected"
        );
        match self.reserved.take() {
            Some(Reserved::Place) => {
                let mut msg = Some(msg);
                let claimed = sender.queue.lock().send_reserved(&mut msg);
                drop(claimed);
                match msg {
                    None => Ok(()),
                    Some(msg) => Err(SendError(msg)),
                }
            }
            _ => Err(SendError(msg)),
        }
    }

    /// Completes a receive. It does not wait.
    ///
    /// # Errors
    /// The channel is empty, and its senders are gone.
    ///
    /// # Panics
    /// If another channel's receiver was selected, or a sender.
    #[inline]
    pub fn recv<T>(mut self, receiver: &Receiver<T>) -> Result<T, RecvError> {
        assert!(
            receiver.address() == self.address,
            "passed a receiver that wasn't selected"
        );
        match (self.reserved.take(), &receiver.flavor) {
            (Some(Reserved::Message(key)), Flavor::Queue(queue)) => {
                let mut message = None;
                queue.lock().entries.remove(key, &mut message);
                message.ok_or(RecvError)
            }
            (Some(Reserved::Taken(due)), Flavor::Object(object)) => Ok(object.message(due)),
            _ => Err(RecvError),
        }
    }
}

// What is selected is plain data, and dropping it undone leaves no broken state to be seen.
impl UnwindSafe for SelectedOperation<'_> {}
impl RefUnwindSafe for SelectedOperation<'_> {}

impl fmt::Debug for SelectedOperation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad("SelectedOperation { .. }")
    }
}

impl Drop for SelectedOperation<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(reserved) = self.reserved {
            abandon(self.operation, reserved);
        }
    }
}

#[cold]
fn abandon(operation: &dyn Operation, reserved: Reserved) {
    operation.release(reserved);
    if !std::thread::panicking() {
        panic!("dropped `SelectedOperation` without completing the operation");
    }
}
