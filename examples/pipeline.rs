//! A mail server's side of a dialogue, without a socket: lines go in, replies come out, three
//! stages delegate to one another.
//!
//! Each stage is a generator of its own that returns what it has found out; `yield_from` lets the
//! client talk to it directly. What is usually an enum of states and a `match` on it is here the
//! place where the code has got to.

use hebra::{Generator, GeneratorState};

/// Takes the client's lines, yields replies, and returns what the stage was for.
type Stage<T> = Generator<String, String, T>;

struct Mail {
    client: String,
    from: String,
    to: Vec<String>,
    lines: Vec<String>,
}

/// First stage: who is there?
fn greeting() -> Stage<String> {
    Generator::new(|y, mut line: String| {
        loop {
            match line.strip_prefix("HELO ") {
                Some(client) => return client.to_owned(),
                None => line = y.yield_("503 say HELO first".into()),
            }
        }
    })
}

/// Second stage: from whom, and to whom? It ends when the client wants to send its message.
fn envelope() -> Stage<(String, Vec<String>)> {
    Generator::new(|y, mut line: String| {
        let from = loop {
            match line.strip_prefix("MAIL FROM:") {
                Some(sender) => break sender.to_owned(),
                None => line = y.yield_("503 the sender first".into()),
            }
        };
        let mut to = Vec::new();
        let mut reply = "250 sender noted";
        loop {
            line = y.yield_(reply.into());
            reply = match line.strip_prefix("RCPT TO:") {
                Some(recipient) => {
                    to.push(recipient.to_owned());
                    "250 recipient noted"
                }
                None if line == "DATA" && !to.is_empty() => return (from, to),
                None => "503 recipients, then DATA",
            };
        }
    })
}

/// Third stage: the message itself, up to a line with nothing but a dot.
fn message() -> Stage<Vec<String>> {
    Generator::new(|y, mut line| {
        let mut lines = Vec::new();
        while line != "." {
            lines.push(line);
            line = y.yield_(String::new());
        }
        lines
    })
}

/// The stages, one after the other.
fn session() -> Stage<Mail> {
    Generator::new(|y, line| {
        let client = y.yield_from(&mut greeting(), line);
        let line = y.yield_(format!("250 hello {client}"));
        let (from, to) = y.yield_from(&mut envelope(), line);
        let line = y.yield_("354 go on, end with a dot".into());
        let lines = y.yield_from(&mut message(), line);
        Mail {
            client,
            from,
            to,
            lines,
        }
    })
}

fn main() {
    let mut session = session();
    let client = "MAIL FROM:eve|HELO example.org|DATA|MAIL FROM:ann|MAIL FROM:eve|RCPT TO:bob|RCPT TO:carol|DATA|Dear Bob,|come!|.";
    for line in client.split('|') {
        match session.resume(line.to_owned()) {
            GeneratorState::Yielded(reply) => println!("{line:20} {reply}"),
            GeneratorState::Complete(Mail {
                client,
                from,
                to,
                lines,
            }) => {
                println!(
                    "{line:20} 250 {} lines by {from} at {client} to {}",
                    lines.len(),
                    to.join(" and ")
                );
            }
        }
    }
}
