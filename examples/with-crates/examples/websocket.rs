//! WebSockets by `tungstenite`, which knows nothing of green threads, over hebra's streams: an echo
//! server.
//!
//! `cargo run --example websocket -- 127.0.0.1:9001`

use std::error::Error;

use hebra::net::{TcpListener, TcpStream};
use tungstenite::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:9001".into());
    hebra::run(|| {
        let listener = TcpListener::bind(address)?;
        println!("listening on {}", listener.local_addr()?);
        for stream in listener.incoming() {
            let stream = stream?;
            hebra::thread::spawn(move || {
                if let Err(error) = echo(stream) {
                    eprintln!("{error}");
                }
            });
        }
        Ok(())
    })
}

/// Sends each message back, until the client says goodbye.
fn echo(stream: TcpStream) -> Result<(), Box<dyn Error>> {
    let mut socket = tungstenite::accept(stream)?;
    loop {
        match socket.read() {
            Ok(message @ (Message::Text(_) | Message::Binary(_))) => socket.send(message)?,
            // Pings and goodbyes are answered by the library.
            Ok(_) => {}
            Err(tungstenite::Error::ConnectionClosed) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
