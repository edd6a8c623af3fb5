//! Runs the generators' examples as processes and compares what they print.

use std::path::PathBuf;
use std::process::Command;

/// Where cargo puts examples: next to the directory of the test binaries.
fn example(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().expect("a test binary");
    path.pop();
    path.set_file_name("examples");
    path.push(name);
    assert!(
        path.exists(),
        "there is no {}; `cargo test` builds it, as does `cargo build --examples`",
        path.display()
    );
    path
}

#[track_caller]
fn prints(name: &str, expected: &[&str]) {
    let output = Command::new(example(name)).output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("it prints text");
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    assert_eq!(lines, expected);
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn tree_is_walked_in_order() {
    prints("generator", &["1 2 3 4 5 6 7 8 9 10 11 12 13 14 15"]);
}

#[test]
fn running_average_is_driven_by_sends() {
    prints(
        "running_average",
        &[
            "20.0 °C, 20.00 °C on average",
            "22.0 °C, 21.00 °C on average",
            "27.0 °C, 23.00 °C on average",
            "19.0 °C, 22.00 °C on average",
            "4 readings, 22.00 °C on average, 27.0 °C at most",
        ],
    );
}

#[test]
fn pull_parser_is_fed_chunks_of_odd_sizes() {
    prints(
        "push_parser",
        &[
            r#""\"]} [" completes {"id":1,"tags":["a","b"]}"#,
            r#""l]" completes [2,3.5,null]"#,
            r#""\"first\" 4" completes "first""#,
            "the end completes 4",
            r#""} {\"id\" " completes {"id":1}"#,
            r#""2}" is refused: expected `:` at line 1 column 17"#,
        ],
    );
}

#[test]
fn fringes_are_compared_no_further_than_they_agree() {
    prints(
        "same_fringe",
        &[
            "two shapes: the same fringe (20000 leaves visited)",
            "a leaf more: different (20001 leaves visited)",
            "another second leaf: different (4 leaves visited)",
        ],
    );
}

#[test]
fn stages_of_a_dialogue_delegate() {
    prints(
        "pipeline",
        &[
            "MAIL FROM:eve        503 say HELO first",
            "HELO example.org     250 hello example.org",
            "DATA                 503 the sender first",
            "MAIL FROM:ann        250 sender noted",
            "MAIL FROM:eve        503 recipients, then DATA",
            "RCPT TO:bob          250 recipient noted",
            "RCPT TO:carol        250 recipient noted",
            "DATA                 354 go on, end with a dot",
            "Dear Bob,",
            "come!",
            ".                    250 2 lines by ann at example.org to bob and carol",
        ],
    );
}
