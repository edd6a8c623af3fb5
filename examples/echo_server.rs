//! Sends back what it receives: one green thread per connection.
//!
//! Usage: `echo_server [ADDRESS]`

use std::io::{self, Read, Write};

use hebra::net::{TcpListener, TcpStream};

fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7000".into());
    hebra::run(|| {
        let listener = TcpListener::bind(address)?;
        println!("listening on {}", listener.local_addr()?);
        for stream in listener.incoming() {
            let stream = stream?;
            hebra::thread::spawn(move || echo(stream));
        }
        Ok(())
    })
}
