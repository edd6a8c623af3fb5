//! A dump as JSON, one object a line: a million threads are streamed, and a file that was cut off
//! can still be read.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::panic::Location;
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Answered, Dump, State, Thread};

/// Goes up when a field changes its meaning or goes away; not for new fields.
const FORMAT_VERSION: u32 = 1;

pub(super) fn write(dump: &Dump, mut to: impl Write) -> io::Result<()> {
    let time = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let count = |state| dump.threads.iter().filter(|one| one.state == state).count();
    let workers: Vec<String> = dump
        .workers
        .iter()
        .enumerate()
        .map(|(number, worker)| {
            let answered = match worker.answered {
                Answered::Loop => "loop",
                Answered::SignalHandler => "signal",
                Answered::No => "none",
            };
            format!(
                r#"{{"worker":{number},"tid":{},"answeredBy":"{answered}","threads":{},"ready":{},"leftOut":{}}}"#,
                worker.tid, worker.threads, worker.ready, worker.left_out
            )
        })
        .collect();
    let unstarted: Vec<String> = dump
        .unstarted
        .iter()
        .map(|(place, count)| format!(r#"{{"spawnedAt":{},"count":{count}}}"#, location(place)))
        .collect();
    writeln!(
        to,
        r#"{{"hebraDump":{{"formatVersion":{FORMAT_VERSION},"processId":{},"unixTimeNanos":{},"tookNanos":{},"parked":{},"ready":{},"running":{},"workers":[{}],"unstarted":[{}]}}}}"#,
        std::process::id(),
        time.as_nanos(),
        dump.took.as_nanos(),
        count(State::Parked),
        count(State::Ready),
        count(State::Running),
        workers.join(","),
        unstarted.join(","),
    )?;
    for one in &dump.threads {
        write_thread(dump, one, &mut to)?;
    }
    to.flush()
}

fn write_thread(dump: &Dump, one: &Thread, to: &mut impl Write) -> io::Result<()> {
    let owner = one
        .waits_for
        .map_or("null".to_owned(), |at| dump.threads[at].number.to_string());
    let frames: Vec<String> = one
        .frames
        .iter()
        .map(|address| format!("\"{address:#x}\""))
        .collect();
    writeln!(
        to,
        r#"{{"number":{},"name":{},"worker":{},"state":"{}","reason":"{}","sinceNanos":{},"spawnedAt":{},"waitsFor":{owner},"cancelled":{},"cancelledAt":{},"frames":[{}],"cut":{}}}"#,
        one.number,
        one.name.as_deref().map_or("null".to_owned(), string),
        one.worker,
        one.state.words(),
        one.reason,
        one.since.as_nanos(),
        location(one.location),
        one.is_cancelled,
        one.cancelled_at.map_or("null".to_owned(), location),
        frames.join(","),
        one.is_cut,
    )
}

fn location(location: &Location<'_>) -> String {
    string(&location.to_string())
}

/// A string as JSON has it.
fn string(text: &str) -> String {
    let mut json = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => json.extend(['\\', character]),
            // A `String` takes whatever is written to it.
            control if control < ' ' => _ = write!(json, "\\u{:04x}", u32::from(control)),
            other => json.push(other),
        }
    }
    json.push('"');
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_escaped() {
        assert_eq!(string("a \"b\" \\ \n ü"), r#""a \"b\" \\ \u000a ü""#);
    }
}
