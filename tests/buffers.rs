//! Buffers that are empty, and more of them than the system takes at once: every reader and writer
//! does what std's does.
#![cfg(feature = "runtime")]

use std::io::{ErrorKind, IoSlice, IoSliceMut, Read, Result, Write};
use std::time::Duration;

use hebra::io::Pollable;
use hebra::net::{TcpListener, TcpStream, UdpSocket};
use hebra::os::unix::net::{UnixDatagram, UnixStream};
use support::{bounded, on_workers};

mod support;

/// More than `IOV_MAX`, which is 1,024.
const MANY: usize = 3000;
const AT_ONCE: usize = 1024;
const SHORT: Duration = Duration::from_millis(20);

/// On a green thread, and on an OS thread.
fn everywhere(test: impl Fn()) {
    on_workers(1, &test);
    bounded(&test);
}

fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

fn write_many(writer: &mut impl Write) -> usize {
    let bytes = [b'x'; 4];
    let bufs = vec![IoSlice::new(&bytes); MANY];
    writer.write_vectored(&bufs).unwrap()
}

fn read_many(reader: &mut impl Read) -> usize {
    let mut room = vec![[0; 2]; MANY];
    let mut bufs: Vec<_> = room.iter_mut().map(|buf| IoSliceMut::new(buf)).collect();
    reader.read_vectored(&mut bufs).unwrap()
}

/// Reads that have no room return at once though there is nothing to read.
fn read_nothing(reader: &mut impl Read) {
    assert_eq!(reader.read_vectored(&mut []).unwrap(), 0);
    let mut empty = [IoSliceMut::new(&mut []), IoSliceMut::new(&mut [])];
    assert_eq!(reader.read_vectored(&mut empty).unwrap(), 0);
    // The system looks at no more than the first 1,024.
    let mut last = [0; 8];
    let mut bufs: Vec<_> = (0..AT_ONCE).map(|_| IoSliceMut::new(&mut [])).collect();
    bufs.push(IoSliceMut::new(&mut last));
    assert_eq!(reader.read_vectored(&mut bufs).unwrap_or(0), 0);
}

fn is_time_out(result: Result<usize>) -> bool {
    matches!(result, Err(error) if error.kind() == ErrorKind::TimedOut)
}

#[test]
fn tcp_stream_takes_many_and_empty_buffers_as_std() {
    everywhere(|| {
        let (mut near, mut far) = tcp_pair();
        near.set_read_timeout(Some(Duration::from_secs(50)))
            .unwrap();
        assert_eq!(near.read(&mut []).unwrap(), 0);
        assert_eq!(near.peek(&mut []).unwrap(), 0);
        read_nothing(&mut near);
        read_nothing(&mut &near);
        assert_eq!(far.write(&[]).unwrap(), 0);
        assert_eq!(far.write_vectored(&[]).unwrap(), 0);
        assert_eq!(write_many(&mut far), 4 * AT_ONCE);
        near.readable_bytes(4 * AT_ONCE);
        assert_eq!(near.read(&mut []).unwrap(), 0);
        assert_eq!(read_many(&mut near), 2 * AT_ONCE);
        near.set_nonblocking(true).unwrap();
        near.read_exact(&mut [0; 2 * AT_ONCE]).unwrap();
        let error = near.read(&mut []).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "as std's");
    });
}

/// Waits until so many bytes can be read at once.
trait ReadableBytes {
    fn readable_bytes(&self, len: usize);
}

impl ReadableBytes for TcpStream {
    fn readable_bytes(&self, len: usize) {
        let mut bytes = vec![0; len];
        while self.peek(&mut bytes).unwrap() < len {
            hebra::thread::yield_now();
        }
    }
}

#[test]
fn tcp_read_without_room_reports_a_reset() {
    everywhere(|| {
        let (mut near, far) = tcp_pair();
        near.write_all(b"unread").unwrap();
        far.peek(&mut [0]).unwrap();
        // What is unread makes the end a reset.
        drop(far);
        let error = near.peek(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert_eq!(near.read(&mut []).unwrap(), 0, "it has been reported");
    });
}

#[test]
fn unix_stream_takes_many_and_empty_buffers_as_std() {
    everywhere(|| {
        let (mut near, mut far) = UnixStream::pair().unwrap();
        read_nothing(&mut near);
        // Here the system waits, and so does std.
        near.set_read_timeout(Some(SHORT)).unwrap();
        assert!(is_time_out(near.read(&mut [])));
        assert_eq!(write_many(&mut far), 4 * AT_ONCE);
        assert_eq!(near.read(&mut []).unwrap(), 0);
        assert_eq!(read_many(&mut near), 2 * AT_ONCE);
    });
}

#[test]
fn pipes_take_many_and_empty_buffers_as_std() {
    everywhere(|| {
        let (mut reader, mut writer) = hebra::io::pipe().unwrap();
        assert_eq!(reader.read(&mut []).unwrap(), 0);
        read_nothing(&mut reader);
        assert_eq!(write_many(&mut writer), 4 * AT_ONCE);
        assert_eq!(read_many(&mut reader), 2 * AT_ONCE);
    });
}

#[test]
fn pipes_of_a_child_take_many_and_empty_buffers_as_std() {
    use hebra::process::{Command, Stdio};
    everywhere(|| {
        let mut child = Command::new("cat")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        assert_eq!(output.read(&mut []).unwrap(), 0);
        read_nothing(&mut output);
        assert_eq!(write_many(&mut input), 4 * AT_ONCE);
        drop(input);
        assert!(read_many(&mut output) > 0);
        drop(output);
        child.wait().unwrap();
    });
}

#[test]
fn pollable_reads_nothing_without_waiting() {
    everywhere(|| {
        let (near, _far) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut near = Pollable::new(near).unwrap();
        assert_eq!(near.read(&mut []).unwrap(), 0);
        assert_eq!((&near).read(&mut []).unwrap(), 0);
        read_nothing(&mut near);
        read_nothing(&mut &near);
    });
}

#[test]
fn fifo_reads_nothing_beside_a_read_that_was_given_up() {
    bounded(|| {
        let dir = std::env::temp_dir().join(format!("hebra-buffers-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("fifo");
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        hebra::run(|| {
            let fifo = hebra::fs::OpenOptions::new()
                .read(true)
                .write(true)
                .open(&path)
                .unwrap();
            let given_up = hebra::thread::timeout(SHORT, || (&fifo).read(&mut [0; 8]));
            assert!(given_up.is_err());
            assert_eq!((&fifo).read(&mut []).unwrap(), 0);
            (&fifo).write_all(b"x").unwrap();
        });
        std::fs::remove_dir_all(dir).unwrap();
    });
}

#[test]
fn datagram_receive_without_room_waits_as_std() {
    everywhere(|| {
        let (near, far) = UnixDatagram::pair().unwrap();
        near.set_read_timeout(Some(SHORT)).unwrap();
        assert!(is_time_out(near.recv(&mut [])));
        far.send(b"abc").unwrap();
        assert_eq!(near.recv(&mut []).unwrap(), 0);
        assert!(is_time_out(near.recv(&mut [0; 8])), "it was taken");
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(socket.local_addr().unwrap()).unwrap();
        socket.set_read_timeout(Some(SHORT)).unwrap();
        assert!(is_time_out(socket.recv(&mut [])));
    });
}
