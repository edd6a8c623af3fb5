//! What the benches share: the command line, the figures, the machine, the floors and the load.
//!
//! A figure is never printed alone. Each bench measures its *floor* — the least that the same work
//! can cost without hebra: raw corosensei, a hand-written epoll server, an OS thread — in the same
//! run, in rounds that alternate (A B A B …), and prints both medians with their ratio. The machine
//! is noisy; the ratio is what to compare.

pub mod epoll_server;
pub mod floor;
pub mod hand_over;
pub mod histogram;
pub mod load;
pub mod machine;
pub mod mix;
pub mod process;
pub mod service;
pub mod stats;
pub mod wrk;

/// What the command line asked for.
///
/// `cargo bench --bench NAME -- [--quick] [WORD…]`; a bench that re-executes itself adds `--role
/// NAME`.
#[derive(Clone)]
pub struct Options {
    /// Fewer and shorter rounds: a smoke test with figures, not a measurement.
    pub quick: bool,
    /// What this process is, when the bench has re-executed itself; `None` in the process that the
    /// user started.
    pub role: Option<String>,
    /// The other words: sizes to run, or the arguments of the role.
    pub words: Vec<String>,
}

impl Options {
    /// Reads the command line. `--bench`, which cargo adds, is dropped.
    pub fn from_args() -> Self {
        let mut options = Self {
            quick: false,
            role: None,
            words: Vec::new(),
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--bench" => {}
                "--quick" => options.quick = true,
                "--role" => options.role = args.next(),
                _ => options.words.push(arg),
            }
        }
        options
    }

    /// `full`, or `quick` under `--quick`.
    pub fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// The words as numbers, or `default` if there are none.
    pub fn numbers(&self, default: &[usize]) -> Vec<usize> {
        if self.words.is_empty() {
            return default.to_vec();
        }
        let number = |word: &String| {
            word.parse()
                .unwrap_or_else(|_| panic!("`{word}` is not a number; usage: cargo bench --bench NAME -- [--quick] [NUMBER…]"))
        };
        self.words.iter().map(number).collect()
    }
}

/// A runtime of `workers` workers and 64 KiB stacks: what the benches of green threads run on that
/// do not weigh them.
///
/// # Panics
/// If the runtime cannot be made; a bench has nothing left to do then.
pub fn runtime(workers: usize) -> hebra::Runtime {
    let config = hebra::Config::default()
        .workers(workers)
        .stack_size(64 << 10);
    hebra::Runtime::new(config)
        .expect("a runtime needs an epoll descriptor, an eventfd and its worker threads")
}
