//! What a connection's thread does, green or not, in every peer whose streams are `Read + Write`.

use std::io::{self, Read, Write};

use super::http::{self, Requests};
use super::{ECHO_READ, Service};

/// Serves one connection until its peer ends it.
pub fn serve(stream: impl Read + Write, service: Service) -> io::Result<()> {
    match service {
        Service::Echo => echo(stream),
        Service::Http => answer(stream),
    }
}

fn echo(mut stream: impl Read + Write) -> io::Result<()> {
    let mut buffer = [0; ECHO_READ];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}

fn answer(mut stream: impl Read + Write) -> io::Result<()> {
    let mut requests = Requests::new();
    loop {
        let read = stream.read(requests.space())?;
        if read == 0 {
            return Ok(());
        }
        let Ok(output) = requests.answer(read) else { return Ok(()) };
        stream.write_all(&output)?;
        http::recycle(output);
    }
}
