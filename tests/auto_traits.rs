//! Which of `Send`, `Sync`, `UnwindSafe` and `RefUnwindSafe` each public type has: no more and no
//! less than what is listed here, so that a change of a private field changes none unnoticed.
//!
//! `std_names.rs` holds that what std's type has is not missing, for all `T` at a time. Here generic
//! types are asked about for a `T` of each kind:
//!
//! ```text
//!   ()          Send   Sync
//!   Cell<()>    Send          and not RefUnwindSafe
//!   Stays              Sync   std's MutexGuard
//!   Rc<()>
//! ```
#![cfg(feature = "runtime")]
#![allow(dead_code)]

use std::cell::Cell;
use std::marker::PhantomData;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::path::Path;
use std::rc::Rc;

type Stays = std::sync::MutexGuard<'static, ()>;

/// Whether a type has a trait: an associated constant of the type itself comes before that of a
/// trait, where there is one.
macro_rules! has {
    ($type:ty, $trait:ident) => {{
        struct Probe<T: ?Sized>(PhantomData<T>);

        trait Otherwise {
            const HAS: bool = false;
        }

        impl<T: ?Sized> Otherwise for Probe<T> {}

        impl<T: ?Sized + $trait> Probe<T> {
            const HAS: bool = true;
        }

        <Probe<$type>>::HAS
    }};
}

macro_rules! auto_traits {
    ($($type:ty => $($trait:ident)*;)*) => {$(
        const _: () = assert!(
            has!($type, Send) as usize
                + has!($type, Sync) as usize
                + has!($type, UnwindSafe) as usize
                + has!($type, RefUnwindSafe) as usize
                == { const LISTED: &[&str] = &[$(stringify!($trait)),*]; LISTED.len() }
                $(&& has!($type, $trait))*,
            concat!("not exactly what it has: ", stringify!($type), ":", $(" ", stringify!($trait)),*)
        );
    )*};
}

auto_traits! {
    hebra::Config => Send Sync UnwindSafe RefUnwindSafe;
    hebra::Handle => Send Sync UnwindSafe RefUnwindSafe;
    hebra::Runtime => Send Sync UnwindSafe RefUnwindSafe;
    hebra::Straggler => Send Sync UnwindSafe RefUnwindSafe;
    hebra::Unfinished => Send Sync UnwindSafe RefUnwindSafe;

    hebra::generator::Finished<()> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::generator::Generator<(), (), ()> =>;
    hebra::generator::GeneratorState<(), ()> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::generator::GeneratorStatus => Send Sync UnwindSafe RefUnwindSafe;
    hebra::generator::IntoIter<(), ()> =>;
    hebra::generator::Iter<'static, (), ()> =>;
    hebra::generator::ScopedGenerator<'static, (), (), ()> =>;
    hebra::generator::Yielder<(), ()> =>;

    hebra::channel::IntoIter<()> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::channel::IntoIter<Cell<()>> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::channel::IntoIter<Stays> => UnwindSafe RefUnwindSafe;
    hebra::channel::IntoIter<Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::channel::Iter<'static, ()> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::channel::Iter<'static, Cell<()>> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::channel::Iter<'static, Stays> => UnwindSafe RefUnwindSafe;
    hebra::channel::Iter<'static, Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::channel::Receiver<()> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::channel::Receiver<Cell<()>> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::channel::Receiver<Stays> => UnwindSafe RefUnwindSafe;
    hebra::channel::Receiver<Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::channel::Sender<()> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::channel::Sender<Cell<()>> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::channel::Sender<Stays> => UnwindSafe RefUnwindSafe;
    hebra::channel::Sender<Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::channel::TryIter<'static, ()> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::channel::TryIter<'static, Cell<()>> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::channel::TryIter<'static, Stays> => UnwindSafe RefUnwindSafe;
    hebra::channel::TryIter<'static, Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::channel::broadcast::Receiver<()> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::channel::broadcast::Receiver<Cell<()>> => UnwindSafe RefUnwindSafe;
    hebra::channel::broadcast::Receiver<Stays> => UnwindSafe RefUnwindSafe;
    hebra::channel::broadcast::Receiver<Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::channel::broadcast::RecvError => Send Sync UnwindSafe RefUnwindSafe;
    hebra::channel::broadcast::RecvTimeoutError => Send Sync UnwindSafe RefUnwindSafe;
    hebra::channel::broadcast::Sender<()> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::channel::broadcast::Sender<Cell<()>> => UnwindSafe RefUnwindSafe;
    hebra::channel::broadcast::Sender<Stays> => UnwindSafe RefUnwindSafe;
    hebra::channel::broadcast::Sender<Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::channel::broadcast::TryRecvError => Send Sync UnwindSafe RefUnwindSafe;
    hebra::channel::watch::Receiver<()> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::channel::watch::Receiver<Cell<()>> => UnwindSafe RefUnwindSafe;
    hebra::channel::watch::Receiver<Stays> => UnwindSafe RefUnwindSafe;
    hebra::channel::watch::Receiver<Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::channel::watch::Ref<'static, ()> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::channel::watch::Ref<'static, Cell<()>> =>;
    hebra::channel::watch::Ref<'static, Stays> => UnwindSafe RefUnwindSafe;
    hebra::channel::watch::Ref<'static, Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::channel::watch::Sender<()> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::channel::watch::Sender<Cell<()>> => UnwindSafe RefUnwindSafe;
    hebra::channel::watch::Sender<Stays> => UnwindSafe RefUnwindSafe;
    hebra::channel::watch::Sender<Rc<()>> => UnwindSafe RefUnwindSafe;

    hebra::fs::DirBuilder => Send Sync UnwindSafe RefUnwindSafe;
    hebra::fs::DirEntry => Send Sync UnwindSafe RefUnwindSafe;
    hebra::fs::File => Send Sync UnwindSafe RefUnwindSafe;
    hebra::fs::OpenOptions => Send Sync UnwindSafe RefUnwindSafe;
    hebra::fs::ReadDir => Send Sync UnwindSafe RefUnwindSafe;

    hebra::io::PipeReader => Send Sync UnwindSafe RefUnwindSafe;
    hebra::io::PipeWriter => Send Sync UnwindSafe RefUnwindSafe;
    hebra::io::Pollable<()> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::io::Pollable<Cell<()>> => Send UnwindSafe;
    hebra::io::Pollable<Stays> => Sync UnwindSafe RefUnwindSafe;
    hebra::io::Pollable<Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::io::Stderr => Send Sync UnwindSafe RefUnwindSafe;
    hebra::io::StderrLock<'static> => UnwindSafe RefUnwindSafe;
    hebra::io::Stdin => Send Sync UnwindSafe RefUnwindSafe;
    hebra::io::StdinLock<'static> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::io::Stdout => Send Sync UnwindSafe RefUnwindSafe;
    hebra::io::StdoutLock<'static> => UnwindSafe RefUnwindSafe;

    hebra::net::BindOptions => Send Sync UnwindSafe RefUnwindSafe;
    hebra::net::Connections<'static> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::net::Incoming<'static> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::net::Inherited => Send Sync UnwindSafe RefUnwindSafe;
    hebra::net::IntoIncoming => Send Sync UnwindSafe RefUnwindSafe;
    hebra::net::LookupHost => Send Sync UnwindSafe RefUnwindSafe;
    hebra::net::TcpListener => Send Sync UnwindSafe RefUnwindSafe;
    hebra::net::TcpStream => Send Sync UnwindSafe RefUnwindSafe;
    hebra::net::UdpSocket => Send Sync UnwindSafe RefUnwindSafe;

    hebra::os::unix::net::Connections<'static> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::os::unix::net::Incoming<'static> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::os::unix::net::UnixDatagram => Send Sync UnwindSafe RefUnwindSafe;
    hebra::os::unix::net::UnixListener => Send Sync UnwindSafe RefUnwindSafe;
    hebra::os::unix::net::UnixStream => Send Sync UnwindSafe RefUnwindSafe;

    hebra::process::Child => Send Sync UnwindSafe RefUnwindSafe;
    hebra::process::ChildStderr => Send Sync UnwindSafe RefUnwindSafe;
    hebra::process::ChildStdin => Send Sync UnwindSafe RefUnwindSafe;
    hebra::process::ChildStdout => Send Sync UnwindSafe RefUnwindSafe;
    hebra::process::Command => Send Sync;

    hebra::signal::Signals => Send Sync UnwindSafe RefUnwindSafe;

    hebra::dump::Answered => Send Sync UnwindSafe RefUnwindSafe;
    hebra::dump::Dump => Send Sync UnwindSafe RefUnwindSafe;
    hebra::dump::State => Send Sync UnwindSafe RefUnwindSafe;
    hebra::dump::Thread => Send Sync UnwindSafe RefUnwindSafe;
    hebra::dump::Worker => Send Sync UnwindSafe RefUnwindSafe;

    hebra::sim::Audit => Send Sync UnwindSafe RefUnwindSafe;

    hebra::sync::AcquireTimeoutError => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::Barrier => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::BarrierWaitResult => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::Closed => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::Condvar => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::Event => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::LazyLock<()> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::LazyLock<Cell<()>> => Send UnwindSafe;
    hebra::sync::LazyLock<Stays> => UnwindSafe RefUnwindSafe;
    hebra::sync::LazyLock<Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::sync::Mutex<()> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::Mutex<Cell<()>> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::Mutex<Stays> => UnwindSafe RefUnwindSafe;
    hebra::sync::Mutex<Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::sync::MutexGuard<'static, ()> => Sync UnwindSafe RefUnwindSafe;
    hebra::sync::MutexGuard<'static, Cell<()>> => UnwindSafe RefUnwindSafe;
    hebra::sync::MutexGuard<'static, Stays> => Sync UnwindSafe RefUnwindSafe;
    hebra::sync::MutexGuard<'static, Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::sync::Once => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::OnceLock<()> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::OnceLock<Cell<()>> => Send UnwindSafe;
    hebra::sync::OnceLock<Stays> => UnwindSafe RefUnwindSafe;
    hebra::sync::OnceLock<Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::sync::OnceState => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::OwnedPermit => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::Permit<'static> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::RwLock<()> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::RwLock<Cell<()>> => Send UnwindSafe RefUnwindSafe;
    hebra::sync::RwLock<Stays> => UnwindSafe RefUnwindSafe;
    hebra::sync::RwLock<Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::sync::RwLockReadGuard<'static, ()> => Sync UnwindSafe RefUnwindSafe;
    hebra::sync::RwLockReadGuard<'static, Cell<()>> =>;
    hebra::sync::RwLockReadGuard<'static, Stays> => Sync UnwindSafe RefUnwindSafe;
    hebra::sync::RwLockReadGuard<'static, Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::sync::RwLockWriteGuard<'static, ()> => Sync UnwindSafe RefUnwindSafe;
    hebra::sync::RwLockWriteGuard<'static, Cell<()>> => UnwindSafe RefUnwindSafe;
    hebra::sync::RwLockWriteGuard<'static, Stays> => Sync UnwindSafe RefUnwindSafe;
    hebra::sync::RwLockWriteGuard<'static, Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::sync::Semaphore => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::TryAcquireError => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::WaitGroup => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::WaitTimeoutResult => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::mpsc::IntoIter<()> => Send UnwindSafe RefUnwindSafe;
    hebra::sync::mpsc::IntoIter<Cell<()>> => Send UnwindSafe RefUnwindSafe;
    hebra::sync::mpsc::IntoIter<Stays> => UnwindSafe RefUnwindSafe;
    hebra::sync::mpsc::IntoIter<Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::sync::mpsc::Iter<'static, ()> => UnwindSafe RefUnwindSafe;
    hebra::sync::mpsc::Iter<'static, Cell<()>> => UnwindSafe RefUnwindSafe;
    hebra::sync::mpsc::Iter<'static, Stays> => UnwindSafe RefUnwindSafe;
    hebra::sync::mpsc::Iter<'static, Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::sync::mpsc::Receiver<()> => Send UnwindSafe RefUnwindSafe;
    hebra::sync::mpsc::Receiver<Cell<()>> => Send UnwindSafe RefUnwindSafe;
    hebra::sync::mpsc::Receiver<Stays> => UnwindSafe RefUnwindSafe;
    hebra::sync::mpsc::Receiver<Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::sync::mpsc::Sender<()> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::mpsc::Sender<Cell<()>> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::mpsc::Sender<Stays> => UnwindSafe RefUnwindSafe;
    hebra::sync::mpsc::Sender<Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::sync::mpsc::SyncSender<()> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::mpsc::SyncSender<Cell<()>> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::mpsc::SyncSender<Stays> => UnwindSafe RefUnwindSafe;
    hebra::sync::mpsc::SyncSender<Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::sync::mpsc::TryIter<'static, ()> => UnwindSafe RefUnwindSafe;
    hebra::sync::mpsc::TryIter<'static, Cell<()>> => UnwindSafe RefUnwindSafe;
    hebra::sync::mpsc::TryIter<'static, Stays> => UnwindSafe RefUnwindSafe;
    hebra::sync::mpsc::TryIter<'static, Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::sync::oneshot::Receiver<()> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::oneshot::Receiver<Cell<()>> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::oneshot::Receiver<Stays> => UnwindSafe RefUnwindSafe;
    hebra::sync::oneshot::Receiver<Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::sync::oneshot::RecvTimeoutError<()> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::oneshot::RecvTimeoutError<Cell<()>> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::oneshot::RecvTimeoutError<Stays> => UnwindSafe RefUnwindSafe;
    hebra::sync::oneshot::RecvTimeoutError<Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::sync::oneshot::Sender<()> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::oneshot::Sender<Cell<()>> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::oneshot::Sender<Stays> => UnwindSafe RefUnwindSafe;
    hebra::sync::oneshot::Sender<Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::sync::oneshot::TryRecvError<()> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::oneshot::TryRecvError<Cell<()>> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::sync::oneshot::TryRecvError<Stays> => UnwindSafe RefUnwindSafe;
    hebra::sync::oneshot::TryRecvError<Rc<()>> => UnwindSafe RefUnwindSafe;

    hebra::thread::AccessError => Send Sync UnwindSafe RefUnwindSafe;
    hebra::thread::Builder => Send Sync UnwindSafe RefUnwindSafe;
    hebra::thread::Cancelled => Send Sync UnwindSafe RefUnwindSafe;
    hebra::thread::Elapsed => Send Sync UnwindSafe RefUnwindSafe;
    hebra::thread::Failure<()> => Send;
    hebra::thread::Failure<Cell<()>> => Send;
    hebra::thread::Failure<Stays> =>;
    hebra::thread::Failure<Rc<()>> =>;
    hebra::thread::JoinHandle<()> => Send Sync;
    hebra::thread::JoinHandle<Cell<()>> => Send Sync;
    hebra::thread::JoinHandle<Stays> =>;
    hebra::thread::JoinHandle<Rc<()>> =>;
    hebra::thread::JoinSet<()> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::thread::JoinSet<Cell<()>> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::thread::JoinSet<Stays> => UnwindSafe RefUnwindSafe;
    hebra::thread::JoinSet<Rc<()>> => UnwindSafe RefUnwindSafe;
    hebra::thread::LocalKey<()> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::thread::LocalKey<Cell<()>> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::thread::LocalKey<Stays> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::thread::LocalKey<Rc<()>> => Send Sync UnwindSafe RefUnwindSafe;
    hebra::thread::Scope<'static, 'static> => Send Sync RefUnwindSafe;
    hebra::thread::ScopeError<()> => Send;
    hebra::thread::ScopeError<Cell<()>> => Send;
    hebra::thread::ScopeError<Stays> =>;
    hebra::thread::ScopeError<Rc<()>> =>;
    hebra::thread::ScopedJoinHandle<'static, ()> => Send Sync;
    hebra::thread::ScopedJoinHandle<'static, Cell<()>> => Send Sync;
    hebra::thread::ScopedJoinHandle<'static, Stays> =>;
    hebra::thread::ScopedJoinHandle<'static, Rc<()>> =>;
    hebra::thread::Thread => Send Sync UnwindSafe RefUnwindSafe;
    hebra::thread::ThreadId => Send Sync UnwindSafe RefUnwindSafe;
    hebra::thread::TryScope<'static, 'static, ()> => Send Sync;
    hebra::thread::TryScope<'static, 'static, Cell<()>> => Send Sync;
    hebra::thread::TryScope<'static, 'static, Stays> =>;
    hebra::thread::TryScope<'static, 'static, Rc<()>> =>;
    hebra::thread::TryScopedJoinHandle<'static, ()> => Send Sync;
    hebra::thread::TryScopedJoinHandle<'static, Cell<()>> => Send Sync;
    hebra::thread::TryScopedJoinHandle<'static, Stays> =>;
    hebra::thread::TryScopedJoinHandle<'static, Rc<()>> =>;

    hebra::time::Instant => Send Sync UnwindSafe RefUnwindSafe;
    hebra::time::Interval => Send Sync UnwindSafe RefUnwindSafe;
    hebra::time::MissedTickBehavior => Send Sync UnwindSafe RefUnwindSafe;
}

/// What only reads is as covariant as std's: a guard of what lives long will do for one of what does
/// not. That `MutexGuard` and the others are invariant, as std's, cannot be seen from outside.
fn guard_of_long<'a, 'long: 'short, 'short>(
    guard: hebra::sync::RwLockReadGuard<'a, &'long str>,
) -> hebra::sync::RwLockReadGuard<'a, &'short str> {
    guard
}

/// Listed in the tests of channels.
const ELSEWHERE: &[&str] = &["Select", "SelectedOperation"];

/// The names of the public types that a source declares.
fn declared(source: &str) -> Vec<String> {
    let names = source.lines().filter_map(|line| {
        let line = line.trim_start();
        let name = line
            .strip_prefix("pub struct ")
            .or(line.strip_prefix("pub enum "))?;
        let end = name.find(|c: char| !c.is_alphanumeric())?;
        (end > 0).then(|| name[..end].to_owned())
    });
    names.collect()
}

fn walk(dir: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
        } else {
            found.extend(declared(&std::fs::read_to_string(path).unwrap()));
        }
    }
}

#[test]
fn every_public_type_is_listed() {
    let list = include_str!("auto_traits.rs");
    let mut types = Vec::new();
    walk(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut types,
    );
    assert!(types.len() > 90, "{}", types.len());
    types.retain(|name| {
        let is_listed = [";", "<", " "]
            .iter()
            .any(|end| list.contains(&format!("::{name}{end}")));
        // What macros and private modules declare is no public type.
        !is_listed && !ELSEWHERE.contains(&&**name)
    });
    types.retain(|name| !PRIVATE.contains(&&**name));
    assert_eq!(types, Vec::<String>::new(), "they are not in the list");
}

/// Declared `pub`, but in private modules.
const PRIVATE: &[&str] = &["Case"];
