//! The HTTP handler of all Rust servers: every complete request of what has come is answered by one write.

use std::cell::Cell;
use std::mem::MaybeUninit;

use httparse::{Request, Status};

pub const PATH: &str = "/plaintext";
pub const REQUEST: &str = "GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
pub const RESPONSE: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!";

/// Bytes to ask of one read: a batch of [`DEPTH`](super::DEPTH) requests, and some.
pub const READ: usize = 1024;
/// A request is no longer than this.
const MAX_REQUEST: usize = 16 << 10;

// One an OS thread, and so always in its cache. Who is suspended while he writes takes it along, and the next one gets a new one.
thread_local!(static OUTPUT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) });

/// The peer has sent what this server does not answer; the connection is to be closed.
#[derive(Debug)]
pub struct Refused;

/// Appends the answers to the requests that are complete in `input` to `output`. Returns where the first incomplete one begins.
pub fn answer(input: &[u8], output: &mut Vec<u8>) -> Result<usize, Refused> {
    let mut next = 0;
    while next < input.len() {
        let mut headers = [const { MaybeUninit::uninit() }; 32];
        let mut request = Request::new(&mut []);
        let head = match request.parse_with_uninit_headers(&input[next..], &mut headers) {
            Ok(Status::Complete(head)) => head,
            Ok(Status::Partial) if input.len() - next < MAX_REQUEST => break,
            _ => return Err(Refused),
        };
        let has = |name| request.headers.iter().any(|field| field.name.eq_ignore_ascii_case(name));
        let unusual = has("transfer-encoding") || has("content-length") || has("connection");
        if unusual || request.version != Some(1) || request.path != Some(PATH) {
            return Err(Refused);
        }
        output.extend_from_slice(RESPONSE.as_bytes());
        next += head;
    }
    Ok(next)
}

/// What one connection keeps between reads.
pub struct Requests {
    input: Vec<u8>,
    /// Bytes of `input` that are the start of a request whose rest has not come.
    filled: usize,
}

impl Requests {
    pub fn new() -> Self {
        Self { input: vec![0; READ], filled: 0 }
    }

    /// Where the next read goes.
    #[inline]
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.input[self.filled..]
    }

    /// Takes the `read` bytes that came; returns the answers, perhaps none. They go back by [`recycle`].
    #[inline]
    pub fn answer(&mut self, read: usize) -> Result<Vec<u8>, Refused> {
        let filled = self.filled + read;
        let mut output = OUTPUT.take();
        let next = answer(&self.input[..filled], &mut output)?;
        self.input.copy_within(next..filled, 0);
        self.filled = filled - next;
        let size = (2 * self.filled).clamp(self.input.len(), MAX_REQUEST + READ);
        self.input.resize(size, 0);
        Ok(output)
    }
}

/// Keeps the memory of `output` for the answers to come.
#[inline]
pub fn recycle(mut output: Vec<u8>) {
    output.clear();
    OUTPUT.set(output);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_answered_however_they_are_cut() {
        let batch = REQUEST.repeat(3);
        for cut in 0..=batch.len() {
            let (mut requests, mut answers) = (Requests::new(), Vec::new());
            for part in [&batch[..cut], &batch[cut..]] {
                requests.space()[..part.len()].copy_from_slice(part.as_bytes());
                let output = requests.answer(part.len()).expect("they are well-formed");
                answers.extend_from_slice(&output);
                recycle(output);
            }
            assert_eq!(answers, RESPONSE.repeat(3).as_bytes());
            assert_eq!(requests.filled, 0);
        }
    }

    #[test]
    fn what_is_not_the_agreed_request_is_refused() {
        for request in [
            "GET / HTTP/1.1\r\n\r\n",
            "GET /plaintext HTTP/1.0\r\n\r\n",
            "\0",
            "GET /plaintext HTTP/1.1\r\nConnection: close\r\n\r\n",
        ] {
            assert!(answer(request.as_bytes(), &mut Vec::new()).is_err(), "{request:?}");
        }
    }
}
