//! The machine under the bench: CPU placement, limits, CPU clocks, and memory as `/proc` tells it.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// Where servers and single-worker runtimes run; the load runs on [`LOAD_CPU`].
pub const SERVER_CPU: usize = 0;
pub const LOAD_CPU: usize = 1;

/// Pins the calling OS thread, and what it starts from here on, to `cpu`.
///
/// Says so and carries on when the machine has no such CPU: the figures are noisier then, not
/// wrong.
pub fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    if let Err(error) = sched_setaffinity(None, &set) {
        eprintln!("not pinned to CPU {cpu}: {error}");
    }
}

/// Runs `f` pinned to `cpu`, so that a process it starts inherits the pin before its first
/// instruction.
pub fn pinned<T>(cpu: usize, f: impl FnOnce() -> T) -> T {
    let before = sched_getaffinity(None);
    pin(cpu);
    let result = f();
    if let Ok(before) = before {
        sched_setaffinity(None, &before).expect("the set was this thread's a moment ago");
    }
    result
}

/// Gives this process, and those that it starts, the right of way over the machine's other
/// programs, if the environment says `HEBRA_URGENT=1` and it may. Where Linux groups programs by
/// session the whole session has it: start the bench by `setsid`.
pub fn be_urgent() -> bool {
    if std::env::var_os("HEBRA_URGENT").is_none_or(|value| value != "1") {
        return false;
    }
    // There is no such file where there are no such groups.
    let _ = fs::write("/proc/self/autogroup", "-20");
    setpriority_process(None, -20).is_ok()
}

/// Lets this process run only while its CPU has nobody else to run; whoever wakes there takes the
/// CPU from it at once. Of an ordinary process, even one of the least priority, Linux lets the
/// slice of time end first, which may be milliseconds.
pub fn give_way() -> io::Result<()> {
    let priority = libc::sched_param { sched_priority: 0 };
    // SAFETY: the call reads `priority`, and what it changes is how the calling process is
    // scheduled.
    #[allow(unsafe_code)]
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &priority) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Raises the soft limit of open files to the hard one. Processes started later inherit it.
pub fn raise_fd_limit() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    Ok(setrlimit(Resource::Nofile, raised)?)
}

/// CPU time that this process has used.
pub fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// CPU time that all threads of process `pid` have used, those that have ended included.
pub fn cpu_time_of(pid: u32) -> io::Result<Duration> {
    let clock = cpu_clock_of(pid)?;
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is a timespec that the call may write.
    #[allow(unsafe_code)]
    let result = unsafe { libc::clock_gettime(clock, &mut time) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// How long the first OS thread of process `pid` has been runnable while others had its CPU.
pub fn waited_for_cpu(pid: u32) -> io::Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/schedstat"))?;
    let ns = stat
        .split_whitespace()
        .nth(1)
        .and_then(|ns| ns.parse().ok());
    Ok(Duration::from_nanos(ns.unwrap_or(0)))
}

fn cpu_clock_of(pid: u32) -> io::Result<libc::clockid_t> {
    let mut clock = 0;
    // SAFETY: `clock` is a clockid_t that the call may write.
    #[allow(unsafe_code)]
    let error = unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) };
    match error {
        0 => Ok(clock),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// CPU time of all children that have ended and been waited for, in ticks of 10 ms.
pub fn cpu_time_of_ended_children() -> io::Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The second field, the command's name in parentheses, may hold spaces: count from behind it.
    let fields = stat.rsplit(')').next().unwrap_or("").split_whitespace();
    let ticks = fields
        .skip(13)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum::<u64>();
    Ok(Duration::from_millis(ticks * 10))
}

/// What this process holds, in bytes.
#[derive(Clone, Copy)]
pub struct Memory {
    pub resident: u64,
    pub page_tables: u64,
    /// In use by `malloc`'s callers; part of `resident` where touched.
    pub heap: u64,
    /// Lines of `/proc/self/maps`; the kernel allows `vm.max_map_count`, 65,530 by default.
    pub mappings: u64,
}

impl Memory {
    pub fn now() -> io::Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let kib = |name| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(first_number).unwrap_or(0) << 10
        };
        Ok(Self {
            resident: kib("VmRSS:"),
            page_tables: kib("VmPTE:"),
            heap: heap_in_use(),
            mappings: fs::read_to_string("/proc/self/maps")?.lines().count() as u64,
        })
    }

    /// Resident pages and the page tables that map them.
    pub fn total(&self) -> u64 {
        self.resident + self.page_tables
    }

    /// How much of each kind has come since `before`.
    pub fn since(&self, before: &Memory) -> Memory {
        Memory {
            resident: self.resident.saturating_sub(before.resident),
            page_tables: self.page_tables.saturating_sub(before.page_tables),
            heap: self.heap.saturating_sub(before.heap),
            mappings: self.mappings,
        }
    }
}

fn heap_in_use() -> u64 {
    // SAFETY: mallinfo2 has no preconditions; it adds up the allocator's own counters under its own
    // locks.
    #[allow(unsafe_code)]
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) as u64
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}
