//! Channels, with the API of crossbeam-channel 0.5, between green threads and OS threads in any
//! mix.
//!
//! Any number of senders and receivers share a channel; each message goes to one receiver.
//! [`bounded`] channels hold so many messages at most, and a sender waits while they are full; at a
//! capacity of 0 sender and receiver meet. [`unbounded`] ones hold any number. [`select!`] waits
//! for the first of several operations, on whatever channels. Not everything that can be waited for
//! is sent through one, so the rest comes in the shape of a receiver: [`after`], [`at`] and
//! [`tick`] are channels that time sends to, [`finished`] is one that the end of a thread
//! disconnects, [`readable`] and [`writable`] are ones that a socket sends to, [`never()`] one that
//! nobody does.
//!
//! ```
//! use hebra::{channel, thread};
//!
//! hebra::run(|| {
//!     let (sender, receiver) = channel::bounded(2);
//!     for n in 1..=3 {
//!         let sender = sender.clone();
//!         thread::spawn(move || sender.send(n * n).unwrap());
//!     }
//!     drop(sender); // The clones are left: the channel is disconnected when the last of them goes.
//!     assert_eq!(receiver.iter().sum::<u32>(), 14);
//! });
//! ```
//!
//! Where `crossbeam_channel` is used, `hebra::channel` can take its place: names, methods, the
//! grammar of [`select!`] and the error types, which are crossbeam's own, are the same. What
//! differs:
//!
//! - No thread spins: a thread that waits is parked, also for the message of a sender that was
//!   selected and has yet to make it. [`try_recv`](Receiver::try_recv), and a `select!` with
//!   `default`, cannot wait: when they meet a sender that waits in a `select!`, on a channel of no
//!   capacity, they select it and find nothing, and its message is for the next receiver.
//! - Waits are cancel points. Cancelled means that it did not happen: no message is taken or lost.
//! - A [`SelectedOperation`] that is dropped undone gives back what it had reserved; it does not
//!   panic in the middle of an unwinding. One that is forgotten does not keep a receiver or the end
//!   of a channel waiting for ever.
//! - A select that has sent to receivers that are gone says so.
//! - If the last receiver is dropped and the destructor of a message that is left panics, the other
//!   messages are dropped as well before the panic goes on; crossbeam leaks them.
//! - [`tick`] does not drift in a `select!` either.
//! - [`finished`], [`readable`] and [`writable`] are not in crossbeam. They are functions that make
//!   receivers, and not cases of their own, so that the grammar of `select!` is crossbeam's, and
//!   [`Select`] can do whatever `select!` can.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::park::deadline_after;
use crate::thread::JoinHandle;

mod alarm;
pub mod broadcast;
mod entries;
mod macros;
pub(crate) mod object;
mod queue;
mod receiver;
mod select;
mod sender;
mod state;
pub mod watch;

pub use crossbeam_channel::{
    ReadyTimeoutError, RecvError, RecvTimeoutError, SelectTimeoutError, SendError,
    SendTimeoutError, TryReadyError, TryRecvError, TrySelectError, TrySendError,
};

pub use object::Readiness;
pub use receiver::{IntoIter, Iter, Receiver, TryIter};
pub use select::{Select, SelectedOperation};
pub use sender::Sender;

#[doc(inline)]
pub use crate::{__select as select, __select_biased as select_biased};

/// What the macros expand to.
#[doc(hidden)]
pub mod internal {
    pub use super::select::Case;
    pub use super::select::expanded::{is, recv, select, select_timeout, send, try_select};
}

use alarm::Alarm;
use queue::Queue;
use receiver::Flavor;

/// Makes a channel that holds any number of messages.
///
/// ```
/// use hebra::channel::unbounded;
///
/// let (sender, receiver) = unbounded();
/// (0..100).for_each(|n| sender.send(n).unwrap());
/// assert_eq!(receiver.len(), 100);
/// ```
pub fn unbounded<T>() -> (Sender<T>, Receiver<T>) {
    pair(None)
}

/// Makes a channel that holds `cap` messages at most: then senders wait. With 0 a sender waits
/// until its message is received.
///
/// ```
/// use hebra::{channel, thread};
///
/// hebra::run(|| {
///     let (sender, receiver) = channel::bounded(1);
///     let producer = thread::spawn(move || (0..10).for_each(|n| sender.send(n).unwrap()));
///     assert_eq!(receiver.iter().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
///     producer.join().unwrap();
/// });
/// ```
pub fn bounded<T>(cap: usize) -> (Sender<T>, Receiver<T>) {
    pair(Some(cap))
}

fn pair<T>(capacity: Option<usize>) -> (Sender<T>, Receiver<T>) {
    let queue = Arc::new(Queue::new(capacity));
    (
        Sender {
            queue: queue.clone(),
        },
        Receiver {
            flavor: Flavor::Queue(queue),
        },
    )
}

/// Makes a channel that delivers one message after `duration`: the time at which it was due.
///
/// ```
/// use std::time::Duration;
/// use hebra::channel::{after, select, unbounded};
///
/// let (_sender, receiver) = unbounded::<u32>();
/// select! {
///     recv(receiver) -> _ => unreachable!(),
///     recv(after(Duration::from_millis(1))) -> _ => println!("nobody has sent"),
/// }
/// ```
pub fn after(duration: Duration) -> Receiver<Instant> {
    deadline_after(duration).map_or_else(never, at)
}

/// Makes a channel that delivers one message at `when`: that time.
///
/// ```
/// use std::time::{Duration, Instant};
/// use hebra::channel::at;
///
/// let when = Instant::now() + Duration::from_millis(1);
/// assert_eq!(at(when).recv(), Ok(when));
/// assert!(Instant::now() >= when);
/// ```
pub fn at(when: impl Into<Instant>) -> Receiver<Instant> {
    Receiver {
        flavor: Flavor::Object(Alarm::new(when.into(), None)),
    }
}

/// Makes a channel that delivers a message every `duration`: the time at which it was due.
///
/// It holds one message at most. For a receiver that waits the next is due `duration` after the last
/// was due, and so the ticks do not drift. If the last was there before it was asked for, the next is
/// due `duration` after it was taken: ticks that were missed are not made up for.
///
/// ```
/// use std::time::{Duration, Instant};
/// use hebra::channel::tick;
///
/// let start = Instant::now();
/// assert_eq!(tick(Duration::from_millis(1)).iter().take(3).count(), 3);
/// assert!(start.elapsed() >= Duration::from_millis(3));
/// ```
pub fn tick(duration: Duration) -> Receiver<Instant> {
    let first = deadline_after(duration);
    first.map_or_else(never, |first| Receiver {
        flavor: Flavor::Object(Alarm::new(first, Some(duration))),
    })
}

/// Makes a channel that is disconnected when the thread of `handle` has ended. Nothing is ever sent
/// to it.
///
/// With it a `select!` waits for the end of a thread, and whatever else it waits for; then
/// [`join`](JoinHandle::join) returns at once.
///
/// ```
/// use std::time::Duration;
/// use hebra::channel::{after, finished, select};
/// use hebra::thread;
///
/// hebra::run(|| {
///     let worker = thread::spawn(|| 6 * 7);
///     let answer = select! {
///         recv(finished(&worker)) -> _ => worker.join().ok(),
///         recv(after(Duration::from_secs(60))) -> _ => None,
///     };
///     assert_eq!(answer, Some(42));
/// });
/// ```
pub fn finished<T>(handle: &JoinHandle<T>) -> Receiver<Infallible> {
    let (sender, receiver) = bounded(0);
    handle.keep_until_end(Box::new(sender));
    receiver
}

/// Makes a channel that has a message whenever a read from `source` would find something: data, a
/// connection, the end, or an error.
///
/// With it a `select!` waits for a socket, and whatever else it waits for. The message says no more
/// than that a read is worth a try: it stays there until somebody has read, and another thread may
/// be quicker. To look costs a system call for each such operation of a `select!`, each time: to
/// wait for a crowd of sockets, have a green thread wait for each.
///
/// The channel is disconnected when `source` has been closed; it does not keep it open. If the
/// system cannot watch `source` there is a message at once, and the read says why.
///
/// ```
/// use std::io::Read;
/// use std::time::Duration;
/// use hebra::channel::{after, bounded, readable, select};
/// use hebra::net::{TcpListener, TcpStream};
/// use hebra::thread;
///
/// hebra::run(|| -> std::io::Result<()> {
///     let listener = TcpListener::bind("127.0.0.1:0")?;
///     let mut client = TcpStream::connect(listener.local_addr()?)?;
///     let (_quit, quitting) = bounded::<()>(0);
///     thread::spawn(move || std::io::Write::write_all(&mut listener.accept()?.0, b"hello"));
///     let mut buffer = [0; 16];
///     let len = select! {
///         recv(readable(&client)) -> _ => client.read(&mut buffer)?,
///         recv(quitting) -> _ => 0,
///         recv(after(Duration::from_secs(60))) -> _ => 0,
///     };
///     assert!(len > 0);
///     Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn readable(source: &(impl Readiness + ?Sized)) -> Receiver<()> {
    source.until_readable()
}

/// Makes a channel that has a message whenever a write to `sink` would find room, or an error.
///
/// It is as [`readable`] in all else.
///
/// ```
/// use hebra::channel::{readable, select, writable};
/// use hebra::os::unix::net::UnixStream;
///
/// hebra::run(|| -> std::io::Result<()> {
///     let (stream, _peer) = UnixStream::pair()?;
///     select! {
///         recv(readable(&stream)) -> _ => unreachable!("nobody has written"),
///         recv(writable(&stream)) -> _ => {}
///     }
///     Ok(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn writable(sink: &(impl Readiness + ?Sized)) -> Receiver<()> {
    sink.until_writable()
}

/// Makes a channel that never delivers a message and is never disconnected: for a `select!` with an
/// operation that is not always there.
///
/// ```
/// use hebra::channel::{never, select, unbounded, Receiver};
///
/// let (sender, receiver) = unbounded();
/// sender.send(1).unwrap();
/// let other: Option<Receiver<u32>> = None;
/// select! {
///     recv(receiver) -> message => assert_eq!(message, Ok(1)),
///     recv(other.unwrap_or(never())) -> _ => unreachable!(),
/// }
/// ```
pub const fn never<T>() -> Receiver<T> {
    Receiver {
        flavor: Flavor::Never,
    }
}
