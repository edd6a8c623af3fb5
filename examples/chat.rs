//! A chat server: one room, any number of clients, and an end at ctrl-c that lets nobody miss the
//! last words.
//!
//! The first line of a client is its name; each line that follows goes to everybody. A client that
//! reads too slowly misses messages, and is told how many: nobody else waits for it.
//!
//! Usage: `chat [ADDRESS]`; try it with `nc localhost 7000`.

use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hebra::channel::broadcast::{Receiver, RecvError, Sender};
use hebra::net::{TcpListener, TcpStream};
use hebra::signal::{SIGINT, Signals};
use hebra::thread::{self, JoinSet};

/// A line that all clients see. One text, however many they are.
type Line = Arc<str>;
/// What clients have at most before they miss something.
const BACKLOG: usize = 256;
/// What is read and written for the clients, each by a green thread of its own.
type Clients = Mutex<JoinSet<io::Result<()>>>;

/// Hears what one client has to say.
fn listen(stream: &TcpStream, room: &Sender<Line>) -> io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let Some(name) = lines.next().transpose()? else {
        return Ok(());
    };
    let say = |text: String| {
        // It fails if nobody is there to hear it.
        let _ = room.send(text.into());
    };
    say(format!("* {name} has come"));
    let said = lines.try_for_each(|line| line.map(|line| say(format!("{name}: {line}"))));
    say(format!("* {name} has gone"));
    said
}

/// Tells one client what is said in the room, until nobody is left to say anything.
fn tell(mut stream: &TcpStream, mut room: Receiver<Line>) -> io::Result<()> {
    loop {
        match room.recv() {
            Ok(line) => stream.write_all(format!("{line}\n").as_bytes())?,
            Err(RecvError::Lagged(missed)) => writeln!(stream, "* you have missed {missed} lines")?,
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

/// Takes clients until it is cancelled.
fn accept(
    listener: &TcpListener,
    room: &Sender<Line>,
    listeners: &Clients,
    tellers: &Clients,
) -> io::Result<()> {
    for connection in listener.connections() {
        let stream = Arc::new(connection?.0);
        let (news, to) = (room.subscribe(), stream.clone());
        spawn(tellers, move || tell(&to, news));
        let room = room.clone();
        // Who tells this client something finds out when it has gone.
        spawn(listeners, move || {
            listen(&stream, &room).and(stream.shutdown(Shutdown::Both))
        });
    }
    Ok(())
}

fn spawn(clients: &Clients, serve: impl FnOnce() -> io::Result<()> + Send + 'static) {
    // Nothing waits while this is locked, so a lock of std's will do.
    let mut clients = clients.lock().expect("nothing panics under it");
    while clients.try_join_next().is_some() {}
    clients.spawn(serve);
}

/// Waits until all have ended; they fail as their clients do.
fn join(clients: Clients) {
    let mut clients = clients.into_inner().expect("nothing has panicked under it");
    if thread::timeout(Duration::from_secs(2), || {
        while clients.join_next().is_some() {}
    })
    .is_err()
    {
        clients.cancel_all();
    }
}

fn main() -> io::Result<()> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:7000".into());
    hebra::run(|| {
        let interrupt = Signals::new([SIGINT])?;
        let listener = TcpListener::bind(address)?;
        let room = Sender::new(BACKLOG);
        let (listeners, tellers) = (Clients::default(), Clients::default());
        thread::scope(|scope| {
            let acceptor = scope.spawn(|| accept(&listener, &room, &listeners, &tellers));
            println!("listening on {}", listener.local_addr()?);
            let signal = interrupt.wait();
            acceptor.cancel();
            signal
        })?;
        // First nobody hears the clients any more, then all senders go, and the room closes when
        // everybody has been told everything.
        listeners
            .lock()
            .expect("nothing has panicked under it")
            .cancel_all();
        join(listeners);
        let _ = room.send("* the server goes; goodbye".into());
        drop(room);
        join(tellers);
        Ok(())
    })
}
