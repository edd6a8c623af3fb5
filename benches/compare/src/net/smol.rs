//! smol: one task per connection, on a `LocalExecutor` for one worker, else on an `Executor` that several threads run.

use std::io;
use std::thread;

use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::{TcpListener, TcpStream};
use smol::{Executor, LocalExecutor};

use super::http::{self, Requests};
use super::{ADDRESS, ECHO_READ, Service, ready};

pub fn serve(service: Service, workers: usize) -> io::Result<()> {
    if workers == 1 {
        let executor = LocalExecutor::new();
        let accept = accept(|stream| executor.spawn(connection(stream, service)).detach());
        return smol::block_on(executor.run(accept));
    }
    let executor = Executor::new();
    let accept = accept(|stream| executor.spawn(connection(stream, service)).detach());
    thread::scope(|scope| {
        for _ in 1..workers {
            scope.spawn(|| smol::block_on(executor.run(smol::future::pending::<()>())));
        }
        smol::block_on(executor.run(accept))
    })
}

async fn accept(spawn: impl Fn(TcpStream)) -> io::Result<()> {
    let listener = TcpListener::bind(ADDRESS).await?;
    ready(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        spawn(stream);
    }
}

async fn connection(stream: TcpStream, service: Service) -> io::Result<()> {
    match service {
        Service::Echo => echo(stream).await,
        Service::Http => answer(stream).await,
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
