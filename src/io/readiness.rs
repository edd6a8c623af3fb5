//! [`Outlook`]: a descriptor for those who only want to know when it is ready.
//!
//! They hold receivers, which may outlive the descriptor. So they never own it: what they do with
//! it they do under a lock, and who closes the descriptor takes it away under the same lock first,
//! and wakes those who wait. After that nobody looks at its number any more.
//!
//! A green thread is enlisted with the source, as who reads is, and the reactor wakes it. An OS
//! thread polls a duplicate of the descriptor, together with its own bell, and is enlisted here to
//! be told of the end. As long as its wait lasts that duplicate lives; closing the descriptor ends
//! the wait.
//!
//! Its lock comes before all of the reactor's.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use super::descriptor::{Interest, flags, is_ready, refuse_in_simulation};
use crate::channel::Receiver;
use crate::channel::object::{Look, Object};
use crate::lock::Lock;
use crate::park::Wait;
use crate::scheduler::reactor::{Enlisted, Reactor, Role, Source};
use crate::scheduler::wait_list::WaitList;
use crate::scheduler::worker;

/// See the module.
pub(super) struct Outlook(Lock<State>);

struct State {
    /// `None` when the descriptor has been closed.
    source: Option<Arc<Source>>,
    /// OS threads that wait.
    waiting: WaitList,
    /// The system has refused to watch the descriptor: who tries to read or write will be told
    /// why.
    refused: bool,
}

impl Outlook {
    pub(super) fn new(source: Arc<Source>) -> Arc<Outlook> {
        Arc::new(Outlook(Lock::new(State {
            source: Some(source),
            waiting: WaitList::new(),
            refused: false,
        })))
    }

    /// The descriptor is to be closed. Green threads that wait are the source's to wake.
    pub(super) fn close(&self) {
        let mut state = self.0.lock();
        state.source = None;
        state.waiting.wake_all();
    }

    /// Makes a channel that has a message when there is something to do in this direction.
    pub(super) fn receiver(self: &Arc<Self>, interest: Interest) -> Receiver<()> {
        Receiver::of_object(Arc::new(Direction {
            outlook: self.clone(),
            interest,
        }))
    }
}

/// Makes a channel that always has a message.
pub(crate) fn always() -> Receiver<()> {
    Receiver::of_object(Arc::new(Always))
}

struct Always;

impl Object<()> for Always {
    fn look(&self) -> Look {
        Look::Ready
    }

    fn enlist(&self, _: &Wait<'_>) -> bool {
        false
    }

    fn delist(&self, _: &Wait<'_>) -> bool {
        false
    }

    fn message(&self, _: Option<Instant>) {}
}

/// One direction of a descriptor.
struct Direction {
    outlook: Arc<Outlook>,
    interest: Interest,
}

impl Object<()> for Direction {
    fn look(&self) -> Look {
        let mut state = self.outlook.0.lock();
        let refused = std::mem::take(&mut state.refused);
        match &state.source {
            None => Look::Gone,
            Some(source) if refused || is_ready(source, self.interest) => Look::Ready,
            Some(_) => Look::NotReady,
        }
    }

    fn enlist(&self, wait: &Wait<'_>) -> bool {
        let mut state = self.outlook.0.lock();
        let Some(source) = state.source.clone() else {
            return false;
        };
        let enlisted = match worker::with(|local, _| local.reactor().clone()) {
            Some(here) => self.enlist_green(&source, &here, wait),
            None if is_ready(&source, self.interest) => Some(false),
            None => self.watch(&source, wait).map(|()| {
                state.waiting.push(wait.waiter());
                true
            }),
        };
        state.refused = enlisted.is_none();
        enlisted.unwrap_or(false)
    }

    fn delist(&self, wait: &Wait<'_>) -> bool {
        let mut state = self.outlook.0.lock();
        let enlisted = state.waiting.contains(wait);
        state.waiting.remove(wait);
        enlisted
            || state
                .source
                .as_ref()
                .is_some_and(|source| source.delist(self.interest, wait))
    }

    fn message(&self, _: Option<Instant>) {}
}

impl Direction {
    /// As `enlist`; `None` if the source cannot be registered.
    fn enlist_green(
        &self,
        source: &Arc<Source>,
        here: &Arc<Reactor>,
        wait: &Wait<'_>,
    ) -> Option<bool> {
        loop {
            let seen = source.edges(self.interest);
            if is_ready(source, self.interest) {
                return Some(false);
            }
            match source.enlist(self.interest, Role::Watcher, seen, here, wait) {
                Enlisted::Waiting => return Some(true),
                Enlisted::TryAgain => {}
                Enlisted::Unregistered => {
                    refuse_in_simulation("a descriptor").ok()?;
                    source.register(here).ok()?;
                }
            }
        }
    }

    /// Has the OS thread that is about to wait wait for the descriptor, too; `None` if the process
    /// is out of descriptors.
    fn watch(&self, source: &Source, wait: &Wait<'_>) -> Option<()> {
        let fd = source.as_fd().try_clone_to_owned().ok()?;
        wait.os_thread()?.watch(fd, flags(self.interest)).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;
    use crate::channel::{after, bounded, select};
    use crate::io::Io;
    use crate::thread;

    fn pair() -> (Io, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        (Io::adopt(near.into()), far)
    }

    fn is_waited_for(io: &Io) -> bool {
        let with_outlook = io.outlook().0.lock().waiting.is_empty();
        !with_outlook
            || worker::with(|local, _| local.reactor().is_waited_for()).unwrap_or_default()
    }

    /// A select that ends in each of its ways leaves nobody behind in any of the lists.
    fn go_each_way(spawn: impl Fn(Box<dyn FnOnce() + Send>)) {
        let ((one, mut other), (quiet, _far)) = (pair(), pair());
        let (sender, receiver) = bounded(1);
        let (ready, silent, room) = (
            one.readiness(Interest::Read),
            quiet.readiness(Interest::Read),
            quiet.readiness(Interest::Write),
        );
        for way in 0..3 {
            match way {
                0 => {
                    let mut other = other.try_clone().unwrap();
                    spawn(Box::new(move || other.write_all(b"x").unwrap()));
                }
                1 => {
                    let sender = sender.clone();
                    spawn(Box::new(move || sender.send(()).unwrap()));
                }
                _ => {}
            }
            let limit = Duration::from_millis(if way == 2 { 5 } else { 50_000 });
            let gone = select! {
                recv(silent) -> _ => unreachable!("nobody has written"),
                recv(ready) -> _ => 0,
                recv(receiver) -> _ => 1,
                recv(after(limit)) -> _ => 2,
            };
            assert_eq!(
                (gone, is_waited_for(&one), is_waited_for(&quiet)),
                (way, false, false)
            );
            if way == 0 {
                rustix::io::read(&one, &mut [0; 8]).unwrap();
            }
        }
        assert_eq!(
            (
                silent.recv_timeout(Duration::from_millis(1)).is_err(),
                room.recv()
            ),
            (true, Ok(()))
        );
        assert!(!is_waited_for(&quiet));
        other.flush().unwrap();
    }

    #[test]
    fn who_goes_another_way_leaves_no_waiter_behind() {
        let runtime = crate::Runtime::new(crate::Config::default().workers(1)).unwrap();
        runtime.run(|| go_each_way(|f| drop(thread::spawn(f))));
        go_each_way(|f| drop(std::thread::spawn(f)));
    }

    #[test]
    fn who_is_cancelled_leaves_no_waiter_behind() {
        let runtime = crate::Runtime::new(crate::Config::default().workers(1)).unwrap();
        runtime.run(|| {
            let (io, _far) = pair();
            let ready = io.readiness(Interest::Read);
            let waiting =
                thread::spawn(move || select! { recv(ready) -> _ => (), recv(crate::channel::never::<()>()) -> _ => () });
            while !is_waited_for(&io) {
                thread::yield_now();
            }
            waiting.cancel();
            assert!(waiting.join().is_err());
            assert!(!is_waited_for(&io));
        });
    }
}
