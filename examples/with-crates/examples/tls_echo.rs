//! TLS by `rustls`, which knows nothing of green threads, over hebra's streams: a server and its
//! clients in one process.
//!
//! `cargo run --release --example tls_echo -- 10000` makes ten thousand connections, five hundred
//! at a time; each shakes hands, has a message echoed and says goodbye.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hebra::net::{TcpListener, TcpStream};
use hebra::thread;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};

const AT_A_TIME: usize = 500;

fn main() -> Result<(), Box<dyn Error>> {
    let connections = std::env::args()
        .nth(1)
        .map_or(Ok(10), |count| count.parse())?;
    let (server, client) = configs()?;
    hebra::run(|| -> Result<(), Box<dyn Error>> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        thread::spawn(move || serve(&listener, &server));

        let (left, echoed) = (AtomicUsize::new(connections), AtomicUsize::new(0));
        thread::scope(|s| {
            for _ in 0..AT_A_TIME.min(connections) {
                s.spawn(|| {
                    while left
                        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                            left.checked_sub(1)
                        })
                        .is_ok()
                    {
                        match talk(address, client.clone()) {
                            Ok(()) => _ = echoed.fetch_add(1, Ordering::Relaxed),
                            Err(error) => eprintln!("a client: {error}"),
                        }
                    }
                });
            }
        });
        println!(
            "{} of {connections} connections had their message echoed",
            echoed.into_inner()
        );
        Ok(())
    })
}

/// A certificate for `localhost` that nobody has signed, the server that shows it, and the client
/// that trusts it alone.
fn configs() -> Result<(Arc<ServerConfig>, Arc<ClientConfig>), Box<dyn Error>> {
    let certified = rcgen::generate_simple_self_signed([String::from("localhost")])?;
    let certificate = certified.cert.der().clone();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(
        certified.signing_key.serialize_der(),
    ));
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let server = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    let client = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((Arc::new(server), Arc::new(client)))
}

fn serve(listener: &TcpListener, config: &Arc<ServerConfig>) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept()?;
        let config = config.clone();
        thread::spawn(move || {
            if let Err(error) = echo(stream, config) {
                eprintln!("the server: {error}");
            }
        });
    }
}

fn echo(stream: TcpStream, config: Arc<ServerConfig>) -> Result<(), Box<dyn Error>> {
    let mut stream = StreamOwned::new(ServerConnection::new(config)?, stream);
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}

fn talk(address: SocketAddr, config: Arc<ClientConfig>) -> Result<(), Box<dyn Error>> {
    let connection = ClientConnection::new(config, ServerName::try_from("localhost")?)?;
    let mut stream = StreamOwned::new(connection, TcpStream::connect(address)?);
    stream.write_all(b"a message")?;
    let mut answer = [0; 9];
    stream.read_exact(&mut answer)?;
    if &answer != b"a message" {
        return Err("the answer is another one".into());
    }
    stream.conn.send_close_notify();
    Ok(stream.flush()?)
}
