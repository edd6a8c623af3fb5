//! An HTTP/1.1 server: one green thread per connection, and handlers are plain functions that may
//! block. Usage: `http_server [ADDRESS] [WORKERS] [TIMEOUT_MS]`; `/proxy` shows what the server
//! that `UPSTREAM` names has to say.

use hebra::{Config, Runtime, net, thread};
use httparse::{Error, Request, Status};
use std::io::{self, ErrorKind, Read, Write};
use std::{borrow::Cow, cell::Cell, env, mem::MaybeUninit, net::Shutdown, time::Duration};

// One a worker, in turn, and so always in its cache. A handler that sleeps takes it along, and the
// next one gets a new one.
thread_local!(static OUTPUT: Cell<String> = const { Cell::new(String::new()) });
const MAX_HEAD: usize = 16 << 10;

fn response(status: &str, body: &str) -> Cow<'static, str> {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into()
}

fn handle(request: &Request) -> Cow<'static, str> {
    match request.path.unwrap_or_default() {
        "/plaintext" => {
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!"
                .into()
        }
        "/" => response(
            "200 OK",
            "Hello! There are /plaintext, /sleep and /proxy, too.\n",
        ),
        "/sleep" => {
            thread::sleep(Duration::from_millis(100));
            response("200 OK", "Good morning.\n")
        }
        "/proxy" => ask_upstream().map_or(response("502 Bad Gateway", ""), |answer| {
            response("200 OK", &answer)
        }),
        _ => response("404 Not Found", ""),
    }
}

fn ask_upstream() -> io::Result<String> {
    let mut upstream = net::TcpStream::connect(env::var("UPSTREAM").map_err(io::Error::other)?)?;
    upstream.set_read_timeout(Some(Duration::from_secs(2)))?;
    upstream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    io::read_to_string(upstream)
}

/// Answers the requests in `input` from `next` on, and moves it behind them. An `Err` is the last
/// response.
fn answer(input: &[u8], next: &mut usize, output: &mut String) -> Result<(), Cow<'static, str>> {
    while *next < input.len() {
        let (mut headers, mut request) =
            ([const { MaybeUninit::uninit() }; 32], Request::new(&mut []));
        let head = match request.parse_with_uninit_headers(&input[*next..], &mut headers) {
            Ok(Status::Complete(head)) => head,
            Ok(Status::Partial) if input.len() - *next < MAX_HEAD => return Ok(()),
            Err(error) if error != Error::TooManyHeaders => {
                return Err(response("400 Bad Request", ""));
            }
            _ => return Err(response("431 Request Header Fields Too Large", "")),
        };
        let field = |name| {
            request
                .headers
                .iter()
                .find(|field| field.name.eq_ignore_ascii_case(name))
                .map(|field| field.value)
        };
        let digits = field("transfer-encoding")
            .or(field("content-length"))
            .unwrap_or(b"0");
        let length = digits.iter().try_fold(0u32, |n, &digit| {
            n.checked_mul(10)?
                .checked_add(char::from(digit).to_digit(10)?)
        });
        *next += head + length.ok_or_else(|| response("400 Bad Request", ""))? as usize;
        let response = handle(&request);
        if request.version == Some(0)
            || field("connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close"))
        {
            return Err(response);
        }
        output.push_str(&response);
    }
    Ok(())
}

fn serve(mut stream: net::TcpStream, timeout: Duration) -> io::Result<()> {
    stream
        .set_nodelay(true)
        .and(stream.set_read_timeout(Some(timeout)))
        .and(stream.set_write_timeout(Some(timeout)))?;
    let (mut input, mut filled, mut next) = (vec![0; 1024], 0, 0);
    loop {
        let (read, mut output) = (stream.read(&mut input[filled..]), OUTPUT.take());
        let answered = match read {
            Ok(n) if n > 0 => {
                answer(&input[..filled + n], &mut next, &mut output).inspect(|()| filled += n)
            }
            Err(error) if error.kind() == ErrorKind::TimedOut && filled > 0 => {
                Err(response("408 Request Timeout", ""))
            }
            ended => return ended.map(drop),
        };
        stream.write_all(output.as_bytes())?;
        if let Err(last) = answered {
            stream.write_all(
                last.replacen("\r\n", "\r\nConnection: close\r\n", 1)
                    .as_bytes(),
            )?;
            // To close with unread data would reset the connection, and the peer might lose the
            // response.
            return stream
                .shutdown(Shutdown::Write)
                .and(io::copy(&mut stream.take(1 << 20), &mut io::sink()))
                .map(drop);
        }
        output.clear();
        OUTPUT.set(output);
        input.copy_within(next.min(filled)..filled, 0);
        (filled, next) = (filled.saturating_sub(next), next.saturating_sub(filled));
        input.resize((2 * filled).clamp(input.len(), MAX_HEAD), 0);
    }
}

fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let address = arguments.next().unwrap_or("127.0.0.1:8080".into());
    let mut number = |default| {
        arguments
            .next()
            .map_or(Ok(default), |number| number.parse())
            .map_err(io::Error::other)
    };
    let config = Config::default()
        .stack_size(64 << 10)
        .workers(number(std::thread::available_parallelism()?.get())?);
    let timeout = Duration::from_millis(number(10_000)? as u64);
    Runtime::new(config)?.run(|| {
        let listener = net::TcpListener::bind(address)?;
        println!("listening on {}", listener.local_addr()?);
        for connection in listener.connections() {
            let (stream, _) = connection?;
            // No memory for a stack: this one is closed, and let some others end first.
            if thread::Builder::new()
                .spawn(move || serve(stream, timeout))
                .is_err()
            {
                thread::sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    })
}
