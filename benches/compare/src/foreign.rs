//! Peers of other languages: whether they are there, their versions, and how a measurement becomes one of them.
//!
//! `go` and `python3` are looked for in `PATH`; `COMPARE_PYTHON` names another interpreter, say one of a virtual environment
//! that has gevent. The Go program is built once, beside this one.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The sources of the foreign peers.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

/// Builds the Go program and tells its version.
///
/// # Errors
/// Why there is no Go to compare with.
pub fn prepare_go() -> Result<String, String> {
    let version = output(Command::new("go").arg("version")).map_err(|_| "no go".to_owned())?;
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(go_program()).arg(".").current_dir(sources().join("go"));
    // Nothing is downloaded: neither modules nor another toolchain.
    build.env("GOFLAGS", "-mod=mod").env("GOPROXY", "off").env("GOTOOLCHAIN", "local");
    output(&mut build).map_err(|error| format!("go build: {error}"))?;
    // `go version go1.27.3 linux/amd64`
    Ok(version.split_whitespace().nth(2).unwrap_or(&version).trim_start_matches("go").to_owned())
}

/// Tells the version of Python, or of a module of its.
///
/// # Errors
/// Why there is no such peer.
pub fn prepare_python(module: Option<&str>) -> Result<String, String> {
    let script = match module {
        None => "import platform; print(platform.python_version())".to_owned(),
        Some(module) => format!("import {module}; print({module}.__version__)"),
    };
    output(Command::new(python_program()).args(["-c", &script])).map_err(|_| format!("no {}", module.unwrap_or("python3")))
}

/// Becomes the Go program; returns only why it could not.
pub fn become_go(role: &str, words: &[String]) -> String {
    let error = Command::new(go_program()).arg(role).args(words).exec();
    format!("{}: {error}", go_program().display())
}

/// Becomes a script of `peers`; returns only why it could not.
pub fn become_python(script: &str, words: &[String]) -> String {
    let error = Command::new(python_program()).arg(sources().join(script)).args(words).exec();
    format!("{script}: {error}")
}

pub fn python_program() -> PathBuf {
    std::env::var_os("COMPARE_PYTHON").map_or_else(|| "python3".into(), PathBuf::from)
}

pub fn go_program() -> PathBuf {
    let myself = std::env::current_exe().expect("the system knows which program this is");
    myself.with_file_name("compare-go")
}

/// What `command` prints, trimmed.
fn output(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(complaint.lines().last().unwrap_or("failed without a word").to_owned())
}
