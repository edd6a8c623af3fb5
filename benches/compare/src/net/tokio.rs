//! tokio: one task per connection, on the current-thread or the multi-thread runtime.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;

use super::http::{self, Requests};
use super::{ADDRESS, ECHO_READ, Service, ready};

pub fn serve_current_thread(service: Service) -> io::Result<()> {
    Builder::new_current_thread().enable_io().build()?.block_on(accept(service))
}

/// The acceptor is a task, as tokio advises: a future of `block_on` is no worker's.
pub fn serve_multi_thread(service: Service, workers: usize) -> io::Result<()> {
    let runtime = Builder::new_multi_thread().worker_threads(workers).enable_io().build()?;
    runtime.block_on(async { tokio::spawn(accept(service)).await.map_err(io::Error::other)? })
}

async fn accept(service: Service) -> io::Result<()> {
    let listener = TcpListener::bind(ADDRESS).await?;
    ready(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        match service {
            Service::Echo => drop(tokio::spawn(echo(stream))),
            Service::Http => drop(tokio::spawn(answer(stream))),
        }
    }
}

async fn echo(mut stream: TcpStream) -> io::Result<()> {
    let mut buffer = [0; ECHO_READ];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n]).await?,
        }
    }
}

async fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut requests = Requests::new();
    loop {
        let read = stream.read(requests.space()).await?;
        if read == 0 {
            return Ok(());
        }
        let Ok(output) = requests.answer(read) else { return Ok(()) };
        stream.write_all(&output).await?;
        http::recycle(output);
    }
}
