//! Running other programs from the repository's top folder: with their output shown, kept, or both.
//!
//! A program that cannot be started is an error; one that ends badly is an answer.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::root;

/// A command by its words, to be run in the repository's top folder.
pub fn command(words: &[&str]) -> Command {
    let (program, arguments) = words.split_first().expect("a command has at least its program");
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    command
}

/// Shows the command and its output; true when it succeeded.
pub fn show(words: &[&str]) -> Result<bool> {
    println!("$ {}", words.join(" "));
    let status = command(words).status().with_context(|| format!("cannot start `{}`", words.join(" ")))?;
    Ok(status.success())
}

/// Shows the command and its output and gives the lines back; standard error is among them, in order.
pub fn show_and_keep(words: &[&str]) -> Result<(bool, Vec<String>)> {
    println!("$ {}", words.join(" "));
    let (reader, writer) = std::io::pipe()?;
    let mut command = command(words);
    command.stdout(writer.try_clone()?).stderr(writer).stdin(Stdio::null());
    let mut child = command.spawn().with_context(|| format!("cannot start `{}`", words.join(" ")))?;
    drop(command); // its copies of the pipe's end would keep the loop below waiting for ever
    let mut lines = Vec::new();
    for line in BufReader::new(reader).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        println!("{line}");
        lines.push(line);
    }
    Ok((child.wait()?.success(), lines))
}

/// Runs quietly and gives standard output back; a bad end is an error with what was said.
pub fn output(words: &[&str]) -> Result<String> {
    let output = command(words).output().with_context(|| format!("cannot start `{}`", words.join(" ")))?;
    if !output.status.success() {
        bail!("`{}` failed:\n{}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Whether the command can be started and succeeds, without any output.
pub fn succeeds(words: &[&str]) -> bool {
    let mut command = command(words);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_streams_are_kept_in_order() {
        let (succeeded, lines) =
            show_and_keep(&["sh", "-c", "echo one; echo two >&2; printf three; exit 3"]).unwrap();
        assert!(!succeeded);
        assert_eq!(lines, ["one", "two", "three"]);
    }

    #[test]
    fn a_bad_end_is_an_answer_and_a_missing_program_an_error() {
        assert!(!show(&["false"]).unwrap());
        assert!(show(&["no-such-program-here"]).is_err());
        assert!(output(&["sh", "-c", "echo why >&2; exit 1"]).unwrap_err().to_string().contains("why"));
        assert!(succeeds(&["true"]) && !succeeds(&["false"]) && !succeeds(&["no-such-program-here"]));
    }
}
