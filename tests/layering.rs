//! Reads the sources and holds the layers: a module may use only what lies below it.

use std::fs;
use std::path::{Path, PathBuf};

/// Layer of a top-level module, and its order among those of the same layer where that is fixed.
const LAYERS: &[(&str, u32)] = &[
    ("atomic", 0),
    ("lock", 1),
    ("report", 0),
    ("unwinding", 0),
    ("stack", 10),
    ("coroutine", 11),
    ("stack_walk", 12),
    ("stack_walk_none", 12),
    ("panic_count", 12),
    ("generator", 20),
    ("scheduler", 30),
    ("park", 40),
    ("time", 50),
    ("runtime", 51),
    ("thread", 52),
    ("future", 53),
    ("channel", 54),
    ("sync", 55),
    ("blocking", 56),
    ("io", 58),
    ("net", 60),
    ("os", 61),
    ("fs", 60),
    ("process", 60),
    ("signal", 60),
    ("sim", 70),
    ("dump", 70),
];

/// The order inside the scheduler.
const SCHEDULER: &[(&str, u32)] = &[
    ("clock", 0),
    ("claim", 0),
    ("locals", 0),
    ("scopes", 0),
    ("inbox", 0),
    ("standstill", 0),
    ("run_queue", 1),
    ("task", 2),
    ("os_thread", 3),
    ("waiter", 4),
    ("wait_list", 5),
    ("wait_list_tests", 6),
    ("ending", 6),
    ("sweep", 4),
    ("audit", 3),
    ("oracle", 4),
    ("deadlock", 6),
    ("timers", 6),
    ("reactor", 6),
    ("worker", 7),
];

const NOT_NAMES: &[&str] = &[
    "util", "utils", "common", "helpers", "inner", "prelude", "types", "misc",
];

fn sources() -> Vec<(PathBuf, String)> {
    fn walk(dir: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in fs::read_dir(dir).expect("src can be read") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source is text");
                found.push((path, text));
            }
        }
    }
    let mut found = Vec::new();
    walk(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut found,
    );
    found
}

/// `scheduler/worker.rs` is `["scheduler", "worker"]`, `net/mod.rs` is `["net"]`.
fn module(path: &Path) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let relative = path
        .strip_prefix(root)
        .expect("below src")
        .with_extension("");
    let mut parts: Vec<String> = relative
        .iter()
        .map(|part| part.to_str().expect("ASCII").to_owned())
        .collect();
    if parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    parts
}

/// What stands in code, without comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(|line| line.split("//").next().unwrap_or(""))
        .filter(|line| !line.trim().is_empty())
}

/// The paths after every occurrence of `prefix` in code: `crate::stack::Stack` gives `["stack",
/// "Stack"]`.
fn paths<'a>(text: &'a str, prefix: &'a str) -> impl Iterator<Item = Vec<&'a str>> {
    code(text).flat_map(move |line| {
        line.match_indices(prefix).map(move |(at, _)| {
            let rest = &line[at + prefix.len()..];
            let end = rest
                .find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':')
                .unwrap_or(rest.len());
            rest[..end]
                .split("::")
                .filter(|part| !part.is_empty())
                .collect()
        })
    })
}

fn rank(table: &[(&str, u32)], name: &str) -> Option<u32> {
    table
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, rank)| *rank)
}

#[test]
fn every_module_has_a_layer() {
    for (path, _) in sources() {
        let module = module(&path);
        if module != ["lib"] {
            assert!(
                rank(LAYERS, &module[0]).is_some(),
                "{} stands in no layer",
                path.display()
            );
        }
    }
}

#[test]
fn modules_use_only_lower_layers() {
    for (path, text) in sources() {
        let module = module(&path);
        let Some(own) = rank(LAYERS, &module[0]) else {
            continue;
        };
        for used in paths(&text, "crate::") {
            let Some(other) = used.first().and_then(|first| rank(LAYERS, first)) else {
                continue;
            };
            let same = module[0] == used[0];
            assert!(
                same || other < own,
                "{} uses crate::{}, which is not below it",
                path.display(),
                used.join("::")
            );
        }
    }
}

#[test]
fn inside_the_scheduler_the_order_holds() {
    for (path, text) in sources() {
        let module = module(&path);
        if module.len() < 2 || module[0] != "scheduler" {
            continue;
        }
        let own =
            rank(SCHEDULER, &module[1]).unwrap_or_else(|| panic!("{} has no rank", path.display()));
        for used in paths(&text, "use super::") {
            let Some(other) = used.first().and_then(|first| rank(SCHEDULER, first)) else {
                continue;
            };
            assert!(
                other < own,
                "{} uses super::{}, which is not below it",
                path.display(),
                used.join("::")
            );
        }
    }
}

#[test]
fn what_must_not_be_mentioned_is_not() {
    let forbidden: &[(&str, &[&str])] = &[
        ("net", &["Worker", "Coroutine", "polling", "reactor"]),
        ("generator", &["scheduler", "worker"]),
        ("wait_list", &["Worker", "worker"]),
        ("timers", &["Worker", "worker::"]),
        ("waiter", &["Worker", "worker::"]),
    ];
    for (path, text) in sources() {
        let module = module(&path);
        for (name, words) in forbidden
            .iter()
            .filter(|(name, _)| module.iter().any(|part| part == name))
        {
            for (line, word) in
                code(&text).flat_map(|line| words.iter().map(move |word| (line, word)))
            {
                assert!(
                    !line.contains(word),
                    "{name} ({}) mentions {word}: {line}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn corosensei_is_named_in_one_file() {
    for (path, text) in sources() {
        let named = code(&text).any(|line| line.contains("corosensei"));
        let module = module(&path);
        let names: Vec<&str> = module.iter().map(String::as_str).collect();
        assert!(
            !named || [&["coroutine"][..], &["dump", "symbols"]].contains(&&names[..]),
            "{} names corosensei",
            path.display()
        );
    }
}

#[test]
fn modules_are_named_for_what_they_are() {
    for (path, _) in sources() {
        for part in module(&path) {
            assert!(
                !NOT_NAMES.contains(&part.as_str()),
                "{} is named for nothing",
                path.display()
            );
        }
    }
}

#[test]
fn every_unsafe_block_says_why() {
    for (path, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or("");
            let is_unsafe = code.contains("unsafe {") || code.contains("unsafe impl");
            let explained = lines[at.saturating_sub(8)..at]
                .iter()
                .any(|before| before.contains("SAFETY:"));
            assert!(
                !is_unsafe || explained,
                "{}:{} has no SAFETY comment",
                path.display(),
                at + 1
            );
        }
    }
}

/// How many `unsafe` blocks each file has, its tests left out. Each is a proof that somebody has to
/// check: a new one is entered here on purpose, with its reason in the commit, and one that has
/// become superfluous is taken out.
const UNSAFE_BLOCKS: &[(&str, usize)] = &[
    ("coroutine.rs", 9),
    ("fs/file.rs", 1),
    ("generator/body.rs", 5),
    ("generator/ended.rs", 3),
    ("generator/footing.rs", 1),
    ("generator/mod.rs", 16),
    ("generator/parcel.rs", 3),
    ("generator/scoped.rs", 1),
    ("generator/yielder.rs", 4),
    ("io/face.rs", 1),
    ("io/pipe.rs", 1),
    ("lock/biased.rs", 2),
    ("net/inherited.rs", 2),
    ("os/unix/net/address.rs", 1),
    ("os/unix/process.rs", 1),
    ("scheduler/reactor.rs", 3),
    ("scheduler/sweep.rs", 1),
    ("scheduler/worker/capture/ask.rs", 9),
    ("scheduler/worker/capture/mod.rs", 1),
    ("scheduler/worker/deadlock.rs", 1),
    ("scheduler/worker/local.rs", 8),
    ("scheduler/worker/mod.rs", 2),
    ("scheduler/worker/section.rs", 1),
    ("signal.rs", 4),
    ("stack/mod.rs", 8),
    ("stack/overflow.rs", 7),
    ("stack_walk.rs", 5),
    ("sync/mutex.rs", 2),
    ("sync/rwlock.rs", 3),
    ("thread/family.rs", 3),
    ("thread/packet.rs", 4),
    ("thread/race.rs", 1),
    ("thread/scope.rs", 2),
    ("thread/try_scope.rs", 1),
];

/// Implementations of `Send` and `Sync` by hand, in the same way.
const UNSAFE_IMPLS: &[(&str, usize)] = &[
    ("channel/select.rs", 2),
    ("coroutine.rs", 1),
    ("lock/sync_cell.rs", 2),
    ("panic_count.rs", 1),
    ("sync/mutex.rs", 1),
    ("sync/rwlock.rs", 2),
    ("thread/packet.rs", 1),
];

/// How often `word` stands in a source, without its comments and its tests.
fn count(text: &str, word: &str) -> usize {
    let tests = text
        .find("#[cfg(test)]\nmod tests")
        .or(text.find("#[cfg(test)]\n#[allow(unsafe_code)]\npub(super) mod tests"));
    code(&text[..tests.unwrap_or(text.len())])
        .map(|line| line.matches(word).count())
        .sum()
}

#[test]
fn unsafe_blocks_do_not_become_more_unnoticed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (word, table) in [("unsafe {", UNSAFE_BLOCKS), ("unsafe impl", UNSAFE_IMPLS)] {
        let mut found: Vec<(String, usize)> = Vec::new();
        for (path, text) in sources() {
            let path = path
                .strip_prefix(&root)
                .expect("below src")
                .to_str()
                .expect("ASCII")
                .to_owned();
            found.extend(Some((path, count(&text, word))).filter(|(_, count)| *count > 0));
        }
        found.sort();
        let expected: Vec<(String, usize)> = table
            .iter()
            .map(|(path, count)| (String::from(*path), *count))
            .collect();
        assert_eq!(found, expected, "`{word}` by file: found, and expected");
    }
}
