//! What a deadlock looks like in words: who waits for what, since when, and who for whom in a
//! circle.

use std::fmt::Write;

use super::clock::Nanos;
use super::oracle::Seconds;
use super::task::Reason;

/// A green thread that is parked and that nobody will wake.
#[derive(Debug, Clone)]
pub(crate) struct Stuck {
    pub(crate) id: u64,
    /// Name and origin.
    pub(crate) who: String,
    /// What it is called for short: by its number in a simulation, where that is the same in every
    /// run.
    pub(crate) number: usize,
    pub(crate) reason: Reason,
    pub(crate) since: Nanos,
    /// The id of the thread that it waits for, or 0.
    pub(crate) owner: u64,
}

/// Writes a report in lines, without a last line break.
pub(crate) fn report(what: &str, now: Nanos, stuck: &[Stuck]) -> String {
    let mut text = format!("{what} at {}", Seconds(now));
    for one in stuck {
        let Stuck {
            number,
            who,
            reason,
            since,
            ..
        } = one;
        // A `String` takes whatever is written to it.
        let _ = write!(
            text,
            "\n  #{number} {who}: {reason} since {}",
            Seconds(*since)
        );
        if let Some(owner) = owner(one, stuck) {
            let _ = write!(text, ", waits for #{}", owner.number);
        } else if one.owner != 0 {
            text.push_str(", waits for a thread that is not among these");
        }
    }
    for cycle in cycles(stuck) {
        let links: Vec<String> = cycle.iter().map(|one| format!("#{}", one.number)).collect();
        let _ = write!(
            text,
            "\n  in a circle: {} -> #{}",
            links.join(" -> "),
            cycle[0].number
        );
    }
    text
}

fn owner<'a>(one: &Stuck, stuck: &'a [Stuck]) -> Option<&'a Stuck> {
    stuck
        .iter()
        .find(|other| one.owner != 0 && other.id == one.owner)
}

/// Every circle of threads that wait for one another, each beginning with its first in the list.
fn cycles(stuck: &[Stuck]) -> Vec<Vec<&Stuck>> {
    let mut found = Vec::new();
    for first in stuck {
        // A thread waits for one other at most: whoever is in a circle comes back to itself,
        // through no more than everybody.
        let mut cycle = vec![first];
        let mut next = owner(first, stuck);
        while let Some(one) = next.filter(|one| one.id != first.id && cycle.len() < stuck.len()) {
            cycle.push(one);
            next = owner(one, stuck);
        }
        let closes = next.is_some_and(|one| one.id == first.id);
        if closes && cycle.iter().all(|one| one.number >= first.number) {
            found.push(cycle);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stuck(number: usize, owner: u64) -> Stuck {
        let who = format!("'{number}'");
        Stuck {
            id: number as u64 + 1,
            who,
            number,
            reason: Reason::Lock,
            since: 0,
            owner,
        }
    }

    fn numbers(threads: &[Stuck]) -> Vec<Vec<usize>> {
        cycles(threads)
            .into_iter()
            .map(|cycle| cycle.into_iter().map(|one| one.number).collect())
            .collect()
    }

    #[test]
    fn every_circle_is_named_once_and_who_only_waits_for_one_is_not_in_it() {
        // 0 -> 1 -> 2 -> 1; 3 -> 3; 4 -> 5 -> 4; 6 waits for nobody; 7 for somebody else.
        let owners = [2, 3, 2, 4, 6, 5, 0, 99];
        let threads: Vec<Stuck> = owners
            .iter()
            .enumerate()
            .map(|(number, owner)| stuck(number, *owner))
            .collect();
        assert_eq!(numbers(&threads), [vec![1, 2], vec![3], vec![4, 5]]);
    }

    #[test]
    fn a_report_says_who_waits_for_whom() {
        let text = report(
            "deadlock",
            1_500_000_000,
            &[stuck(0, 2), stuck(1, 1), stuck(2, 77)],
        );
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "deadlock at 1.500000000s");
        assert_eq!(
            lines[1],
            "  #0 '0': locking since 0.000000000s, waits for #1"
        );
        assert_eq!(
            lines[3],
            "  #2 '2': locking since 0.000000000s, waits for a thread that is not among these"
        );
        assert_eq!(lines[4], "  in a circle: #0 -> #1 -> #0");
    }
}
