//! Every public name of the std modules that hebra mirrors exists in hebra, or is left out on
//! purpose.
//!
//! The names are read from the documentation that is installed with the compiler (the component
//! `rust-docs`; without it the test is skipped). From them two programs are made, one that imports
//! every item, and one that names every method and variant, and asks for every implementation of a
//! trait; a check a line. The compiler says in which lines something is missing.
#![cfg(feature = "runtime")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// The modules that are mirrored.
const MODULES: &[&str] = &[
    "fs",
    "io",
    "io::prelude",
    "net",
    "os::fd",
    "os::linux::fs",
    "os::linux::net",
    "os::linux::process",
    "os::linux::raw",
    "os::unix::ffi",
    "os::unix::fs",
    "os::unix::io",
    "os::unix::net",
    "os::unix::prelude",
    "os::unix::process",
    "os::unix::raw",
    "os::unix::thread",
    "process",
    "sync",
    "sync::mpsc",
    "thread",
    "time",
];

/// The types that are hebra's own, with methods and traits to be compared. All others are std's.
const OWN: &[&str] = &[
    "fs::DirBuilder",
    "fs::DirEntry",
    "fs::File",
    "fs::OpenOptions",
    "fs::ReadDir",
    "io::PipeReader",
    "io::PipeWriter",
    "io::Stderr",
    "io::StderrLock",
    "io::Stdin",
    "io::StdinLock",
    "io::Stdout",
    "io::StdoutLock",
    "net::Incoming",
    "net::TcpListener",
    "net::TcpStream",
    "net::UdpSocket",
    "os::unix::net::Incoming",
    "os::unix::net::UnixDatagram",
    "os::unix::net::UnixListener",
    "os::unix::net::UnixStream",
    "process::Child",
    "process::ChildStderr",
    "process::ChildStdin",
    "process::ChildStdout",
    "process::Command",
    "sync::Barrier",
    "sync::BarrierWaitResult",
    "sync::Condvar",
    "sync::LazyLock",
    "sync::Mutex",
    "sync::MutexGuard",
    "sync::Once",
    "sync::OnceLock",
    "sync::OnceState",
    "sync::RwLock",
    "sync::RwLockReadGuard",
    "sync::RwLockWriteGuard",
    "sync::WaitTimeoutResult",
    "sync::mpsc::IntoIter",
    "sync::mpsc::Iter",
    "sync::mpsc::Receiver",
    "sync::mpsc::Sender",
    "sync::mpsc::SyncSender",
    "sync::mpsc::TryIter",
    "thread::AccessError",
    "thread::Builder",
    "thread::JoinHandle",
    "thread::LocalKey",
    "thread::Scope",
    "thread::ScopedJoinHandle",
    "thread::Thread",
    "thread::ThreadId",
    "time::Instant",
];

/// What is left out, and why. An entry that is not missing is an error, too.
const LEFT_OUT: &[(&str, &str)] = &[
    ("impl std::io::IsTerminal for std::fs::File", SEALED),
    ("impl std::io::IsTerminal for std::io::Stderr", SEALED),
    (
        "impl std::io::IsTerminal for std::io::StderrLock<'_>",
        SEALED,
    ),
    ("impl std::io::IsTerminal for std::io::Stdin", SEALED),
    (
        "impl std::io::IsTerminal for std::io::StdinLock<'_>",
        SEALED,
    ),
    ("impl std::io::IsTerminal for std::io::Stdout", SEALED),
    (
        "impl std::io::IsTerminal for std::io::StdoutLock<'_>",
        SEALED,
    ),
    (
        "impl<T> std::marker::Send for std::thread::JoinHandle<T>",
        OF_SPAWN_LOCAL,
    ),
    (
        "impl<T> std::marker::Sync for std::thread::JoinHandle<T>",
        OF_SPAWN_LOCAL,
    ),
    (
        "impl<T> std::os::unix::thread::JoinHandleExt for std::thread::JoinHandle<T>",
        "a green thread has no thread of C of its own",
    ),
];

const SEALED: &str = "std lets nobody implement it; `is_terminal` is a method of the type";
const OF_SPAWN_LOCAL: &str = "the handle of `spawn_local` gives a result that need not be `Send`";

/// Traits that say nothing about how a type is used.
const OF_NO_USE: &[&str] = &["Drop", "StructuralPartialEq"];

/// Where the documentation of std is.
fn documentation() -> Option<PathBuf> {
    let output = Command::new(rustc())
        .args(["--print", "sysroot"])
        .output()
        .ok()?;
    let sysroot = String::from_utf8(output.stdout).ok()?;
    let path = Path::new(sysroot.trim()).join("share/doc/rust/html/std");
    path.is_dir().then_some(path)
}

fn rustc() -> String {
    std::env::var("RUSTC").unwrap_or_else(|_| String::from("rustc"))
}

/// What stands between the first `start` and the next `end`, and what follows.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<(&'a str, &'a str)> {
    let (_, text) = text.split_once(start)?;
    let at = text.find(end)?;
    Some((&text[..at], &text[at..]))
}

/// The parts of `text` that begin with `start` and go on to the next one.
fn chunks<'a>(text: &'a str, start: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(start).skip(1)
}

fn is_unstable(html: &str) -> bool {
    html.contains("stab unstable")
}

/// The text of a piece of HTML. Links to items become their paths.
fn text(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        text += &rest[..at];
        let Some((tag, after)) = rest[at..].split_once('>') else {
            break;
        };
        rest = after;
        if let Some((title, _)) = between(tag, "title=\"", "\"") {
            text += title.split(' ').next_back().unwrap_or(title);
            rest = rest.split_once("</a>").map_or("", |(_, rest)| rest);
        }
    }
    text += rest;
    let text = text
        .replace("where", " where ")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&amp;", "&")
        .replace("&nbsp;", " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The stable items of a module, and for those with a page of their own its file.
fn items(docs: &Path, module: &str) -> BTreeMap<String, Option<PathBuf>> {
    let dir = docs.join(module.replace("::", "/"));
    let Ok(index) = fs::read_to_string(dir.join("index.html")) else {
        // The prelude of `io`, for one, is all re-exports.
        return BTreeMap::new();
    };
    let mut found = BTreeMap::new();
    for entry in chunks(&index, "<dt") {
        let entry = entry.split("</dt>").next().unwrap_or(entry);
        if is_unstable(entry) {
            continue;
        }
        if let Some((name, _)) = between(entry, "id=\"reexport.", "\"") {
            found.insert(name.to_owned(), None);
        } else if let Some((href, _)) = between(entry, "href=\"", "\"")
            && let Some((kind, name)) = href.strip_suffix(".html").and_then(|f| f.split_once('.'))
            && !href.contains('/')
            && kind != "macro"
        {
            found.insert(name.to_owned(), Some(dir.join(href)));
        }
    }
    found
}

/// How many types a method is generic over: `fn wait_while<'a, T, F>(…)` over two.
fn type_parameters(header: &str) -> usize {
    let name = header.split('(').next().unwrap_or(header);
    let Some((_, parameters)) = name.split_once('<') else {
        return 0;
    };
    let mut depth = 0;
    let parameters = parameters.split(|c| {
        match c {
            '<' => depth += 1,
            '>' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    });
    parameters
        .filter(|parameter| !parameter.trim().is_empty() && !parameter.trim().starts_with('\''))
        .count()
}

/// The stable methods, constants and variants of a type, each with as many type parameters as it
/// has: a call may name them.
fn members(page: &str) -> BTreeSet<String> {
    let own = page
        .split("id=\"trait-implementations\"")
        .next()
        .unwrap_or(page);
    let mut found = BTreeSet::new();
    for section in chunks(own, "<section id=\"") {
        let Some((id, _)) = section.split_once('"') else {
            continue;
        };
        let Some((kind, name)) = id.split_once('.') else {
            continue;
        };
        let is_member = matches!(kind, "method" | "associatedconstant" | "variant");
        if is_member && !is_unstable(section) {
            let name = name.split('-').next().unwrap_or(name);
            let header = between(section, "<h4 class=\"code-header\">", "</h4>");
            found.insert(
                match header.map_or(0, |(header, _)| type_parameters(&text(header))) {
                    0 => name.to_owned(),
                    count => format!("{name}::<{}>", vec!["_"; count].join(", ")),
                },
            );
        }
    }
    found
}

/// The traits that a type has, as `impl<T> Trait for Type<T> where …`.
fn implementations(page: &str) -> BTreeSet<String> {
    let traits = page
        .split_once("id=\"trait-implementations-list\"")
        .map_or("", |(_, after)| after)
        .split("id=\"blanket-implementations\"")
        .next()
        .unwrap_or("");
    let mut found = BTreeSet::new();
    for section in chunks(traits, "<section id=\"impl-") {
        let section = section.split("</section>").next().unwrap_or(section);
        if !is_unstable(section)
            && let Some((header, _)) = between(section, "<h3 class=\"code-header\">", "</h3>")
        {
            found.insert(text(header));
        }
    }
    found
}

/// `path` with hebra's types in the place of std's.
fn ours(path: &str, mirrored: &BTreeSet<String>) -> String {
    let mut result = String::new();
    let mut rest = path;
    while let Some(at) = rest.find("std::") {
        result += &rest[..at];
        rest = &rest[at..];
        let end = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':')
            .unwrap_or(rest.len());
        let (path, after) = rest.split_at(end);
        match mirrored.contains(&path["std::".len()..]) {
            true => result += &path.replacen("std", "hebra", 1),
            false => result += path,
        }
        rest = after;
    }
    result + rest
}

/// A function that compiles if the implementation exists.
fn assertion(header: &str, mirrored: &BTreeSet<String>) -> Option<String> {
    let header = header.strip_prefix("impl")?;
    let (generics, rest) = match header.strip_prefix('<') {
        None => ("", header),
        Some(_) => {
            let mut depth = 0;
            let end = header.char_indices().find(|&(at, c)| {
                match c {
                    '<' => depth += 1,
                    '>' if !header[..at].ends_with('-') => depth -= 1,
                    _ => {}
                }
                depth == 0
            })?;
            header.split_at(end.0 + 1)
        }
    };
    let (wanted, rest) = rest.trim().split_once(" for ")?;
    let name = wanted.split('<').next()?.rsplit("::").next()?;
    let is_elsewhere = ["::windows::", "::wasi::"]
        .iter()
        .any(|system| header.contains(system));
    if wanted.starts_with('!') || is_elsewhere || OF_NO_USE.contains(&name) {
        return None;
    }
    let (of, condition) = rest
        .split_once(" where ")
        .map_or((rest, ""), |(of, c)| (of, c));
    let condition = match condition.trim_end_matches(',') {
        "" => String::new(),
        condition => format!("where {}", ours(condition, mirrored)),
    };
    let (wanted, of) = (ours(wanted, mirrored), ours(of, mirrored));
    let generics = ours(generics, mirrored);
    Some(format!(
        "{generics}(x: Box<{of}>) -> Box<impl {wanted} + ?Sized> {condition} {{ x }}"
    ))
}

/// The libraries that may be the one that this test was built with, the newest first.
fn libraries() -> Vec<PathBuf> {
    let dir = std::env::current_exe().unwrap();
    let dir = dir.parent().unwrap().to_owned();
    let mut found: Vec<(SystemTime, PathBuf)> = fs::read_dir(dir)
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            let is_one = name.starts_with("libhebra-") && name.ends_with(".rlib");
            is_one.then_some((entry.metadata().ok()?.modified().ok()?, entry.path()))
        })
        .collect();
    found.sort();
    found.into_iter().rev().map(|(_, path)| path).collect()
}

/// Compiles a program against `library`, and returns the lines in which something is missing, each
/// with what the compiler says.
fn compile(library: &Path, lines: &[String]) -> BTreeMap<usize, String> {
    let dir = std::env::temp_dir().join(format!("hebra-names-{}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    let source = dir.join("names.rs");
    fs::write(&source, lines.join("\n")).unwrap();
    let output = Command::new(rustc())
        .args([
            "--edition",
            "2024",
            "--crate-type",
            "lib",
            "--emit",
            "metadata",
        ])
        .args(["--error-format", "json", "--cap-lints", "allow", "--extern"])
        .arg(format!("hebra={}", library.display()))
        .arg("-L")
        .arg(format!(
            "dependency={}",
            library.parent().unwrap().display()
        ))
        .arg("--out-dir")
        .arg(&dir)
        .arg(&source)
        .output()
        .unwrap();
    fs::remove_dir_all(dir).unwrap();
    let mut missing = BTreeMap::new();
    let mut unstable = BTreeSet::new();
    for line in String::from_utf8_lossy(&output.stderr).lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else {
            continue;
        };
        let code = message["code"]["code"].as_str().unwrap_or_default();
        // What is generic cannot be inferred from a name alone: that is no answer.
        if message["level"] != "error" || ["E0282", "E0283", "E0284", "E0034"].contains(&code) {
            continue;
        }
        let said = message["message"].as_str().unwrap_or_default();
        for span in message["spans"].as_array().into_iter().flatten() {
            if span["is_primary"] == true {
                let at = span["line_start"].as_u64().unwrap() as usize - 1;
                missing.insert(at, format!("{code} {said}"));
                // A trait or a name that the compiler does not give to anybody yet.
                if code == "E0658" {
                    unstable.insert(at);
                }
            }
        }
    }
    missing.retain(|at, _| !unstable.contains(at));
    missing
}

/// Checks, one a line: what is checked, and the line.
#[derive(Default)]
struct Checks {
    names: Vec<String>,
    lines: Vec<String>,
}

impl Checks {
    fn add(&mut self, name: String, line: String) {
        self.names.push(name);
        self.lines.push(line);
    }

    fn missing(&self, library: &Path) -> BTreeMap<String, String> {
        compile(library, &self.lines)
            .into_iter()
            .map(|(at, said)| (self.names[at].clone(), said))
            .collect()
    }
}

#[test]
fn std_names_exist_in_hebra_or_are_left_out_on_purpose() {
    let Some(docs) = documentation() else {
        println!("skipped: the documentation of std is not installed (rustup component rust-docs)");
        return;
    };
    let mut checks = Checks::default();
    let mut pages = BTreeMap::new();
    for module in MODULES {
        for (name, page) in items(&docs, module) {
            let path = format!("{module}::{name}");
            let line = format!("pub use hebra::{path} as i{};", checks.lines.len());
            if let Some(page) = page {
                pages.insert(path.clone(), page);
            }
            checks.add(path, line);
        }
    }
    assert!(
        checks.lines.len() > 200,
        "the documentation is not as it was: {}",
        checks.lines.len()
    );
    if cfg!(hebra_sanitizer) {
        println!("skipped: a library with a sanitizer cannot be read without");
        return;
    }
    // A library that does not even have `run` is of another configuration.
    let probe = [String::from("pub use hebra::run;")];
    let library = libraries()
        .into_iter()
        .find(|library| compile(library, &probe).is_empty())
        .expect("the test was built with a library");
    let mut missing = checks.missing(&library);

    let mirrored: BTreeSet<String> = pages
        .keys()
        .filter(|path| !missing.contains_key(*path))
        .cloned()
        .collect();
    let mut checks = Checks::default();
    let is_function = |page: &Path| {
        let name = page.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with("fn."))
    };
    for (path, page) in pages.iter().filter(|(_, page)| is_function(page)) {
        let declaration = fs::read_to_string(page).unwrap();
        let declaration = between(
            &declaration,
            "<pre class=\"rust item-decl\"><code>",
            "</code>",
        );
        let declaration = declaration.map_or(String::new(), |(html, _)| text(html));
        let Some((_, declaration)) = declaration.split_once("fn ") else {
            continue;
        };
        let count = type_parameters(declaration);
        if count > 0 && mirrored.contains(path) {
            let arguments = vec!["_"; count].join(", ");
            let line = format!(
                "fn f{}() {{ _ = hebra::{path}::<{arguments}>; }}",
                checks.lines.len()
            );
            checks.add(format!("{path}::<{arguments}>"), line);
        }
    }
    for path in OWN {
        let page = pages
            .get(*path)
            .unwrap_or_else(|| panic!("std has no {path}"));
        let page = fs::read_to_string(page).unwrap();
        for name in members(&page) {
            let line = format!(
                "fn m{}() {{ _ = hebra::{path}::{name}; }}",
                checks.lines.len()
            );
            checks.add(format!("{path}::{name}"), line);
        }
        for header in implementations(&page) {
            if let Some(assertion) = assertion(&header, &mirrored) {
                let line = format!("fn i{}{assertion}", checks.lines.len());
                checks.add(header, line);
            }
        }
    }
    assert!(
        checks.lines.len() > 500,
        "the documentation is not as it was: {}",
        checks.lines.len()
    );
    missing.extend(checks.missing(&library));

    let left_out: BTreeSet<&str> = LEFT_OUT.iter().map(|(name, _)| *name).collect();
    let mut errors = Vec::new();
    for (name, said) in &missing {
        if !left_out.contains(&**name) {
            errors.push(format!("missing: {name}: {said}"));
        }
    }
    for name in left_out {
        if !missing.contains_key(name) {
            errors.push(format!("not missing: {name}"));
        }
    }
    assert!(errors.is_empty(), "{}", errors.join("\n"));
}
