//! What an idle TLS connection holds, before and after the dead pages of its stack are given back,
//! and what its handshake costs.
//!
//! `cargo bench --bench tls -- [--quick] [CONNECTIONS…]`, by default 10,000. The server is one
//! hebra worker with stacks of the default size: a green thread per connection that shakes hands by
//! `rustls`, echoes, and waits. The clients are in another process, so that the memory is that of
//! one end; they stay connected, all at once. After the pages have been given back each has one
//! more message echoed.
//!
//! The floor is `rustls` alone, both ends in memory: what its server's end of a connection holds,
//! and what the handshake and the echo cost the two ends together. No session is resumed.

#[allow(dead_code, reason = "each bench uses its part of the shared code")]
#[path = "../../../benches/support/mod.rs"]
mod support;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hebra::net::{TcpListener, TcpStream};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, RootCertStore, ServerConfig,
    ServerConnection, StreamOwned,
};

use support::machine::{self, Memory};
use support::process::{self, READY, Server};
use support::stats::{duration, figure, thousands};
use support::{Options, floor};

const MESSAGE: &[u8] = b"a message";
/// Connections that the floor makes.
const FLOOR_COUNT: usize = 1_000;
/// Handshakes under way at a time.
const AT_A_TIME: usize = 64;
/// The memory counts as given back when it has become no less for so long: the server looks once a
/// second, and passes over whoever has not been idle for a second by then.
const SETTLED: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(20);

type Client = StreamOwned<ClientConnection, TcpStream>;

fn main() -> io::Result<()> {
    let options = Options::from_args();
    machine::raise_fd_limit()?;
    match options.role.as_deref() {
        Some("serve") => serve(&Identity::from_words(&options.words)),
        Some(role) => panic!("tls has no role {role}"),
        None => {
            machine::pin(machine::LOAD_CPU);
            let identity = Identity::new();
            let floor = Floor::measure(&identity)?;
            let counts = options.numbers(&[options.pick(10_000, 1_000)]);
            counts
                .into_iter()
                .try_for_each(|count| measure(count, &identity, &floor, &options))
        }
    }
}

fn measure(count: usize, identity: &Identity, floor: &Floor, options: &Options) -> io::Result<()> {
    let server = Server::start(process::myself("serve", options)?.args(identity.to_words()))?;
    let mut control = Control::connect(server.address)?;
    let (config, name) = (identity.client(), Identity::name());
    let runtime = support::runtime(1);
    // What is needed once is not a connection's.
    drop(runtime.run(|| shake_hands(server.address, &config, &name))?);
    let before = control.memory()?;

    let cpu = || Ok::<_, io::Error>(machine::cpu_time() + server.cpu_time()?);
    let (start, cpu_before, server_before) = (Instant::now(), cpu()?, server.cpu_time()?);
    let clients = runtime.run(|| connect(count, server.address, &config, &name))?;
    let (elapsed, both_ends, at_server) = (
        start.elapsed(),
        cpu()? - cpu_before,
        server.cpu_time()? - server_before,
    );
    let awake = control.memory()?.since(&before);
    let asleep = control.settled()?.since(&before);
    runtime.run(|| {
        clients
            .into_iter()
            .try_for_each(|mut client| echo_once(&mut client))
    })?;

    let each = |bytes: u64| bytes as f64 / count as f64;
    println!("{} TLS connections, all open at once", thousands(count));
    for (when, held) in [("before", &awake), ("after", &asleep)] {
        println!(
            "  idle, {when} pages are given back: {} bytes each   rustls alone {} bytes   ratio {}   resident {} (of it heap {}), page tables {}",
            figure(each(held.total())),
            figure(floor.bytes),
            figure(each(held.total()) / floor.bytes),
            figure(each(held.resident)),
            figure(each(held.heap)),
            figure(each(held.page_tables)),
        );
    }
    let per = |time: Duration| duration(time.div_f64(count as f64));
    println!(
        "  connect, handshake and echo, {AT_A_TIME} at a time: {} per second   CPU, both ends: {}   rustls alone {}   ratio {}   at the \
         server {}",
        thousands((count as f64 / elapsed.as_secs_f64()) as u64),
        per(both_ends),
        duration(floor.time),
        figure(both_ends.as_secs_f64() / count as f64 / floor.time.as_secs_f64()),
        per(at_server),
    );
    Ok(())
}

/// Opens `count` connections.
fn connect(
    count: usize,
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &ServerName<'static>,
) -> io::Result<Vec<Client>> {
    hebra::thread::scope(|s| {
        let part = |nth| {
            (nth..count)
                .step_by(AT_A_TIME)
                .map(|_| shake_hands(address, config, name))
        };
        let parts: Vec<_> = (0..AT_A_TIME)
            .map(|nth| s.spawn(move || part(nth).collect::<io::Result<Vec<_>>>()))
            .collect();
        let join = |part: hebra::thread::ScopedJoinHandle<_>| {
            part.join().expect("a client does not panic")
        };
        Ok(parts
            .into_iter()
            .map(join)
            .collect::<io::Result<Vec<_>>>()?
            .into_iter()
            .flatten()
            .collect())
    })
}

fn shake_hands(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &ServerName<'static>,
) -> io::Result<Client> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let connection =
        ClientConnection::new(config.clone(), name.clone()).map_err(io::Error::other)?;
    let mut client = StreamOwned::new(connection, stream);
    echo_once(&mut client)?;
    Ok(client)
}

fn echo_once(client: &mut Client) -> io::Result<()> {
    client.write_all(MESSAGE)?;
    let mut answer = [0; MESSAGE.len()];
    client.read_exact(&mut answer)?;
    if answer == *MESSAGE {
        Ok(())
    } else {
        Err(io::Error::other("the answer is another one"))
    }
}

/// The first connection is the bench's own, and without TLS: whoever sends a byte there is told
/// what the server holds.
fn serve(identity: &Identity) -> io::Result<()> {
    process::end_with_parent()?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    println!("{READY}{}", listener.local_addr()?);
    let (control, _) = listener.accept()?;
    thread::spawn(move || tell(control));
    let config = identity.server();
    hebra::Runtime::new(hebra::Config::default().workers(1))?.run(|| {
        let listener = TcpListener::from(listener);
        for connection in listener.connections() {
            let (stream, _) = connection?;
            stream.set_nodelay(true)?;
            let config = config.clone();
            // Whatever goes wrong the client notices.
            hebra::thread::spawn(move || echo(stream, config));
        }
        Ok(())
    })
}

fn echo(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<()> {
    let connection = ServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}

/// Answers each byte with three numbers.
fn tell(mut control: std::net::TcpStream) -> io::Result<()> {
    while control.read(&mut [0])? > 0 {
        let Memory {
            resident,
            page_tables,
            heap,
            ..
        } = Memory::now()?;
        control.write_all(
            [resident, page_tables, heap]
                .map(u64::to_le_bytes)
                .as_flattened(),
        )?;
    }
    Ok(())
}

/// The other end of [`tell`].
struct Control(std::net::TcpStream);

impl Control {
    fn connect(address: SocketAddr) -> io::Result<Control> {
        Ok(Control(std::net::TcpStream::connect(address)?))
    }

    fn memory(&mut self) -> io::Result<Memory> {
        self.0.write_all(&[0])?;
        let mut answer = [[0; 8]; 3];
        self.0.read_exact(answer.as_flattened_mut())?;
        let [resident, page_tables, heap] = answer.map(u64::from_le_bytes);
        Ok(Memory {
            resident,
            page_tables,
            heap,
            mappings: 0,
        })
    }

    /// What the server holds when it gives back no more.
    fn settled(&mut self) -> io::Result<Memory> {
        let start = Instant::now();
        let (mut least, mut since) = (self.memory()?, start);
        while since.elapsed() < SETTLED && start.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(50));
            let now = self.memory()?;
            if now.total() < least.total() {
                (least, since) = (now, Instant::now());
            }
        }
        Ok(least)
    }
}

/// `rustls` alone.
struct Floor {
    /// What the server's end of a connection holds.
    bytes: f64,
    /// What a handshake and an echo take.
    time: Duration,
}

impl Floor {
    fn measure(identity: &Identity) -> io::Result<Floor> {
        let (client, server, name) = (identity.client(), identity.server(), Identity::name());
        let connection = || in_memory(&client, &server, &name).map_err(io::Error::other);
        floor::touch_pages(FLOOR_COUNT);
        drop(connection()?);
        let (start, before) = (Instant::now(), Memory::now()?);
        let connections = (0..FLOOR_COUNT)
            .map(|_| connection())
            .collect::<io::Result<Vec<_>>>()?;
        let (elapsed, held) = (start.elapsed(), Memory::now()?.since(&before));
        drop(connections);
        Ok(Floor {
            bytes: held.heap as f64 / FLOOR_COUNT as f64,
            time: elapsed.div_f64(FLOOR_COUNT as f64),
        })
    }
}

/// Shakes hands and echoes without a network, and returns the server's end.
fn in_memory(
    client: &Arc<ClientConfig>,
    server: &Arc<ServerConfig>,
    name: &ServerName<'static>,
) -> Result<ServerConnection, Box<dyn std::error::Error + Send + Sync>> {
    let mut client = ClientConnection::new(client.clone(), name.clone())?;
    let mut server = ServerConnection::new(server.clone())?;
    client.writer().write_all(MESSAGE)?;
    let (mut wire, mut message) = (Vec::new(), [0; MESSAGE.len()]);
    while client.is_handshaking() || client.wants_write() {
        carry(&mut client, &mut server, &mut wire)?;
        carry(&mut server, &mut client, &mut wire)?;
    }
    server.reader().read_exact(&mut message)?;
    server.writer().write_all(&message)?;
    carry(&mut server, &mut client, &mut wire)?;
    client.reader().read_exact(&mut message)?;
    Ok(server)
}

/// Carries what one end has to say to the other.
fn carry<F, T>(
    from: &mut ConnectionCommon<F>,
    to: &mut ConnectionCommon<T>,
    wire: &mut Vec<u8>,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    while from.wants_write() {
        from.write_tls(wire)?;
    }
    let mut rest = &wire[..];
    while !rest.is_empty() {
        to.read_tls(&mut rest)?;
        to.process_new_packets()?;
    }
    wire.clear();
    Ok(())
}

/// A certificate for `localhost` that nobody has signed, and its key.
struct Identity {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Identity {
    fn new() -> Identity {
        let certified = rcgen::generate_simple_self_signed([String::from("localhost")])
            .expect("the name is a valid one");
        Identity {
            certificate: certified.cert.der().to_vec(),
            key: certified.signing_key.serialize_der(),
        }
    }

    fn name() -> ServerName<'static> {
        ServerName::try_from("localhost").expect("the name is a valid one")
    }

    /// As two words of a command line.
    fn to_words(&self) -> [String; 2] {
        [&self.certificate, &self.key]
            .map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn from_words(words: &[String]) -> Identity {
        let byte = |at: usize, word: &String| {
            u8::from_str_radix(&word[at..at + 2], 16).expect("two hexadecimal digits")
        };
        let bytes = |word: &String| {
            (0..word.len())
                .step_by(2)
                .map(|at| byte(at, word))
                .collect()
        };
        Identity {
            certificate: bytes(&words[0]),
            key: bytes(&words[1]),
        }
    }

    fn server(&self) -> Arc<ServerConfig> {
        let certificate = CertificateDer::from(self.certificate.clone());
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.clone()));
        let config = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key);
        Arc::new(config.expect("the key is that of the certificate"))
    }

    /// The configuration of a client that trusts this certificate alone.
    fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from(self.certificate.clone()))
            .expect("the certificate is a valid one");
        let mut config = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Arc::new(config)
    }
}
