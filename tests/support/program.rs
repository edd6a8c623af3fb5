//! Runs the examples of this package as processes, and talks to the servers among them.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Resource, Rlimit};

/// The command that runs an example. Cargo puts them next to the directory of the test binaries.
pub fn example(name: &str) -> Command {
    let mut path = std::env::current_exe().expect("a test binary");
    path.pop();
    path.set_file_name("examples");
    path.push(name);
    assert!(
        path.exists(),
        "there is no {}; `cargo test` builds it, as does `cargo build --examples`",
        path.display()
    );
    Command::new(path)
}

/// A server in a process of its own, which ends when this is dropped.
pub struct Server {
    pub process: Child,
    pub address: SocketAddr,
}

impl Server {
    /// Starts it, and returns when it has said where it listens.
    pub fn start(command: &mut Command) -> Server {
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .and_then(|address| address.parse().ok());
        let Some(address) = address else {
            let _ = process.kill();
            panic!("{command:?} has printed {line:?}: {:?}", process.wait());
        };
        Server { process, address }
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    pub fn open_descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.process.id()))
            .unwrap()
            .count()
    }

    /// Lets it open `more` descriptors, and no further ones.
    pub fn limit_descriptors(&self, more: usize) -> usize {
        let pid = Pid::from_raw(self.process.id().cast_signed()).unwrap();
        let limit = self.open_descriptors() + more;
        let limits = Rlimit {
            current: Some(limit as u64),
            maximum: Some(limit as u64),
        };
        rustix::process::prlimit(Some(pid), Resource::Nofile, limits).unwrap();
        limit
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
