//! Names for addresses.

use std::collections::HashMap;
use std::fmt;

/// A function, perhaps one that was compiled into another.
#[derive(Debug, Clone)]
pub(super) struct Symbol {
    pub(super) function: String,
    pub(super) file: Option<String>,
    pub(super) line: Option<u32>,
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.function)?;
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "  {file}:{line}"),
            (Some(file), None) => write!(f, "  {file}"),
            (None, _) => Ok(()),
        }
    }
}

/// What was found before: a hundred thousand stacks have few addresses.
#[derive(Default)]
pub(super) struct Symbols(HashMap<u64, Vec<Symbol>>);

impl Symbols {
    /// The functions at an address, innermost first. One at least.
    pub(super) fn at(&mut self, address: u64) -> &[Symbol] {
        self.0.entry(address).or_insert_with(|| {
            let mut found = look_up(address);
            if found.is_empty() {
                found.push(Symbol {
                    function: format!("{address:#x}"),
                    file: None,
                    line: None,
                });
            }
            found
        })
    }
}

#[cfg(feature = "dump")]
fn look_up(address: u64) -> Vec<Symbol> {
    let mut found = Vec::new();
    backtrace::resolve(
        std::ptr::without_provenance_mut(address as usize),
        |symbol| {
            let Some(name) = symbol.name() else { return };
            let file = symbol.filename().map(|file| file.display().to_string());
            found.push(Symbol {
                // Without the hash at its end.
                function: format!("{name:#}"),
                file,
                line: symbol.lineno(),
            });
        },
    );
    found
}

#[cfg(not(feature = "dump"))]
fn look_up(_: u64) -> Vec<Symbol> {
    Vec::new()
}

/// Whether a function is part of how green threads are run, and says nothing of what this one does.
pub(super) fn is_plumbing(function: &str) -> bool {
    const PLUMBING: &[&str] = &[
        "hebra::",
        "corosensei::",
        "core::ops::function::",
        "core::panic::",
        "std::panic",
        "__rust_try",
        "stack_init_trampoline",
        "std::sys::backtrace::__rust_",
    ];
    let function = function.trim_start_matches(['<', '&']);
    PLUMBING.iter().any(|begin| function.starts_with(begin))
}
