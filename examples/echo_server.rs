//! Sends back what it receives: one green thread per connection.
//!
//! Usage: `echo_server [ADDRESS]`

use std::io::{self, Read, Write};
use std::time::Duration;

use hebra::net::{TcpListener, TcpStream};
use hebra::thread;

fn echo(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}

fn main() -> io::Result<()> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:7000".into());
    hebra::run(|| {
        let listener = TcpListener::bind(address)?;
        println!("listening on {}", listener.local_addr()?);
        for connection in listener.connections() {
            let (stream, _) = connection?;
            // No memory for a stack: this one is closed, and let some others end first.
            if thread::Builder::new().spawn(move || echo(stream)).is_err() {
                thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    })
}
