//! A dump as text: grouped, or whole.

use std::collections::HashMap;
use std::fmt;

use super::symbols::{Symbols, is_plumbing};
use super::{Answered, Dump, State, Thread};

/// Members of a group that are named.
const NAMED: usize = 3;

impl fmt::Display for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        head(self, f)?;
        // Threads come longest wait first, and so do the groups.
        let mut places = HashMap::new();
        let mut groups: Vec<Vec<&Thread>> = Vec::new();
        for one in &self.threads {
            let alike = (
                &one.frames,
                one.state,
                one.reason,
                one.location,
                one.waits_for,
            );
            let at = *places.entry(alike).or_insert(groups.len());
            match groups.get_mut(at) {
                Some(group) => group.push(one),
                None => groups.push(vec![one]),
            }
        }
        let mut symbols = Symbols::default();
        for group in groups {
            let (first, last) = (group[0], group[group.len() - 1]);
            write!(f, "\n{} × {}", group.len(), doing(self, first))?;
            if group.len() > 1 && first.state == State::Parked {
                write!(f, " … {:.1?}", last.since)?;
            }
            write!(f, "; spawned at {}: ", first.location)?;
            let named = group.iter().take(NAMED).map(|one| one.title());
            f.write_str(&named.collect::<Vec<_>>().join(", "))?;
            f.write_str(if group.len() > NAMED { ", …\n" } else { "\n" })?;
            frames(first, &mut symbols, false, f)?;
        }
        Ok(())
    }
}

/// Writes every thread, with all its frames.
pub(super) struct Full<'a>(pub(super) &'a Dump);

impl fmt::Display for Full<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Full(dump) = self;
        head(dump, f)?;
        let mut symbols = Symbols::default();
        for one in &dump.threads {
            let (title, location) = (one.title(), one.location);
            write!(f, "\n{title}, worker {}: {}", one.worker, doing(dump, one))?;
            writeln!(f, "; spawned at {location}")?;
            if one.is_cancelled {
                match one.cancelled_at {
                    Some(at) => writeln!(f, "    (cancelled at {at})")?,
                    None => writeln!(f, "    (cancelled by the end of its runtime)")?,
                }
            }
            frames(one, &mut symbols, true, f)?;
        }
        Ok(())
    }
}

/// Totals, workers, what has not started, circles.
fn head(dump: &Dump, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let count = |state| dump.threads.iter().filter(|one| one.state == state).count();
    let unstarted: usize = dump.unstarted.iter().map(|(_, count)| count).sum();
    writeln!(
        f,
        "hebra: {} green threads on {} workers ({} parked, {} ready, {} running, {unstarted} unstarted); captured in {:.1?}",
        dump.threads.len() + unstarted,
        dump.workers.len(),
        count(State::Parked),
        count(State::Ready),
        count(State::Running),
        dump.took,
    )?;
    for (number, worker) in dump.workers.iter().enumerate() {
        write!(f, "worker {number} (tid {}): ", worker.tid)?;
        let mut here = dump.threads.iter().filter(|one| one.worker == number);
        match (
            worker.answered,
            here.find(|one| one.state == State::Running),
        ) {
            (Answered::No, _) => write!(f, "has not answered")?,
            (Answered::SignalHandler, Some(one)) => {
                write!(
                    f,
                    "busy with {}, {} ready behind it",
                    one.title(),
                    worker.ready
                )?;
            }
            (Answered::Loop, _) | (_, None) => {
                write!(
                    f,
                    "{} green threads, {} ready",
                    worker.threads, worker.ready
                )?;
            }
        }
        match worker.left_out {
            0 => writeln!(f)?,
            more => writeln!(f, "; {more} more are left out")?,
        }
    }
    for (place, count) in &dump.unstarted {
        writeln!(f, "{count} unstarted, spawned at {place}")?;
    }
    for cycle in dump.cycles() {
        let titles: Vec<String> = cycle.iter().map(|one| one.title()).collect();
        writeln!(
            f,
            "{} in a circle: {} -> #{}",
            cycle.len(),
            titles.join(" -> "),
            cycle[0].number
        )?;
    }
    Ok(())
}

/// What a thread does, for how long, and for whom it waits.
fn doing(dump: &Dump, one: &Thread) -> String {
    let state = one.state.words();
    if one.state != State::Parked {
        return state.to_owned();
    }
    let text = format!("{state}, {} for {:.1?}", one.reason, one.since);
    match one.waits_for.map(|at| &dump.threads[at]) {
        Some(owner) => {
            let (title, state) = (owner.title(), owner.state.words());
            format!(
                "{text}, until {title} ({state}, worker {}) lets go",
                owner.worker
            )
        }
        None if one.owner != 0 => format!("{text}, until an OS thread lets go"),
        None => text,
    }
}

fn frames(
    one: &Thread,
    symbols: &mut Symbols,
    is_full: bool,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    for address in &one.frames {
        for symbol in symbols.at(*address) {
            if is_full || !is_plumbing(&symbol.function) {
                writeln!(f, "    {symbol}")?;
            }
        }
    }
    if one.is_cut && !one.frames.is_empty() {
        writeln!(f, "    (the rest of the stack is missing)")?;
    }
    Ok(())
}
