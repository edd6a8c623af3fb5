//! `wrk` as the load: one run of it is one window.

use std::io;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use super::machine;
use super::process::Server;
use super::service::Window;

pub fn is_installed() -> bool {
    static FOUND: LazyLock<bool> = LazyLock::new(|| {
        let version = Command::new("wrk")
            .arg("-v")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        version.is_ok()
    });
    *FOUND
}

/// Runs wrk on this thread's CPU with `connections`, each with `depth` requests in flight.
///
/// The server's CPU time is that of the whole run and so includes accepting and closing the
/// connections.
pub fn window(
    server: &Server,
    path: &str,
    connections: usize,
    depth: usize,
    seconds: u64,
) -> io::Result<Window> {
    let mut command = Command::new("wrk");
    command.args([
        "--latency",
        "-t",
        "1",
        "-c",
        &connections.to_string(),
        "-d",
        &seconds.to_string(),
    ]);
    let script = std::env::temp_dir().join(format!("hebra-bench-{}.lua", std::process::id()));
    if depth > 1 {
        std::fs::write(&script, pipeline(path, depth))?;
        command.arg("-s").arg(&script);
    }
    command.arg(format!("http://{}{path}", server.address));

    let (client_before, server_before) =
        (machine::cpu_time_of_ended_children()?, server.cpu_time()?);
    let output = command.output()?;
    let (client_after, server_after) = (machine::cpu_time_of_ended_children()?, server.cpu_time()?);
    if depth > 1 {
        std::fs::remove_file(&script)?;
    }

    let text = String::from_utf8_lossy(&output.stdout);
    let parsed = parse(&text).filter(|_| output.status.success());
    let (requests, elapsed) = parsed.ok_or_else(|| {
        let complaint = String::from_utf8_lossy(&output.stderr);
        io::Error::other(format!(
            "wrk ended with {}, printing {text}{complaint}",
            output.status
        ))
    })?;
    Ok(Window {
        requests,
        errors: errors(&text),
        elapsed,
        server_cpu: server_after - server_before,
        client_cpu: client_after - client_before,
        // wrk measures a pipelined request from an answer that has nothing to do with it.
        latency: if depth > 1 {
            Vec::new()
        } else {
            ["50%", "99%"]
                .into_iter()
                .filter_map(|q| latency(&text, q))
                .collect()
        },
    })
}

fn pipeline(path: &str, depth: usize) -> String {
    format!(
        "local batch\n\
         init = function()\n\
           local requests = {{}}\n\
           for i = 1, {depth} do requests[i] = wrk.format('GET', '{path}') end\n\
           batch = table.concat(requests)\n\
         end\n\
         request = function() return batch end\n"
    )
}

/// Requests and time from `  818041 requests in 3.00s, 77.24MB read`.
fn parse(text: &str) -> Option<(u64, Duration)> {
    let line = text.lines().find(|line| line.contains(" requests in "))?;
    let (requests, rest) = line.trim().split_once(" requests in ")?;
    let elapsed = rest.split(',').next()?;
    Some((requests.parse().ok()?, time(elapsed)?))
}

/// The sum of `Socket errors: connect 0, read 0, write 0, timeout 0` and `Non-2xx or 3xx responses:
/// 0`, both optional.
fn errors(text: &str) -> u64 {
    let complaints = text
        .lines()
        .filter(|line| line.contains("Socket errors:") || line.contains("Non-2xx or 3xx"));
    let counts = complaints.filter_map(|line| line.split_once(':'));
    let words = counts.flat_map(|(_, counts)| counts.split([' ', ',']));
    words.filter_map(|word| word.parse::<u64>().ok()).sum()
}

/// The value of `     99%    1.02ms`.
fn latency(text: &str, quantile: &str) -> Option<Duration> {
    let values = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix(quantile));
    values.map(str::trim).find_map(time)
}

fn time(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 5] = [
        ("us", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    let (number, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic())?);
    let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
    Some(Duration::from_secs_f64(
        number.parse::<f64>().ok()? * seconds,
    ))
}
