//! What the command line's parser refuses, written as any other failure is.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::{Arguments, Failure, OutputFormat};

/// Reads the words of a command line.
///
/// # Errors
/// The exit code, when everything is written that is to be written: a help text, the version, or a failure.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Arguments, ExitCode> {
    let words: Vec<OsString> = words.into_iter().collect();
    let mut command = Arguments::command();
    if is_plugin(&words) {
        command = command.bin_name("kubectl vouchsafe");
    }
    let parsed = command.try_get_matches_from_mut(&words).and_then(|matches| {
        Arguments::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    });
    parsed.map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp
        | ErrorKind::DisplayVersion
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // A reader that has left is no failure of ours.
            let _nobody_reads = error.print();
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
        }
        _ => failure(&error, &words).report(output(&words)),
    })
}

/// The parser's message in one line, and its tips, the usage and the way to more as the hint.
fn failure(error: &clap::Error, words: &[OsString]) -> Failure {
    let text = error.render().to_string();
    let mut message = String::new();
    let mut hints = Vec::new();
    for paragraph in text.split("\n\n") {
        let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(tip) = line.strip_prefix("tip: ") {
            hints.push(tip.to_owned());
        } else if let Some(usage) = line.strip_prefix("Usage: ") {
            hints.push(format!("usage: {usage}"));
        } else if message.is_empty() {
            line.strip_prefix("error: ").unwrap_or(&line).clone_into(&mut message);
        }
    }
    hints.push(format!("`{} --help` explains every option", program(words)));
    Failure::usage(message, hints.join("; "))
}

/// Whether kubectl started this program: it looks for a file `kubectl-vouchsafe` in PATH.
fn is_plugin(words: &[OsString]) -> bool {
    let name = words.first().and_then(|word| Path::new(word).file_stem());
    name.is_some_and(|name| name == "kubectl-vouchsafe")
}

/// `vouchsafe` as it was called, with the subcommand if one is among the words.
fn program(words: &[OsString]) -> String {
    let command = Arguments::command();
    let known =
        |word: &&OsString| command.get_subcommands().any(|of| OsStr::new(of.get_name()) == word.as_os_str());
    let program = if is_plugin(words) { "kubectl vouchsafe" } else { "vouchsafe" };
    match words.iter().skip(1).find(known) {
        Some(subcommand) => format!("{program} {}", subcommand.to_string_lossy()),
        None => program.to_owned(),
    }
}

/// How results are wanted, of words that can't be read as a whole.
fn output(words: &[OsString]) -> OutputFormat {
    let words = words.iter().skip(1).take_while(|word| *word != "--");
    let words: Vec<&OsStr> = words.map(OsString::as_os_str).collect();
    let json = words.windows(2).any(|pair| pair[0] == "--output" && pair[1] == "json")
        || words.iter().any(|word| *word == "--output=json");
    if json { OutputFormat::Json } else { OutputFormat::Text }
}

/// Checks a filter of logs. A lone word is a level here: as the name of a module, which `RUST_LOG` also takes, a
/// misspelt level would silence everything that was asked for.
pub(super) fn log(text: &str) -> Result<String, String> {
    let wanted = "off, error, warn, info, debug or trace, or MODULE=LEVEL, several with commas between; given by --log or \
                  VOUCHSAFE_LOG";
    // Fields of spans have commas of their own.
    let lone = text.split(',').filter(|part| !part.contains(['=', '[', ']', '{', '}']));
    let no_level = lone.map(str::trim).find(|word| word.parse::<LevelFilter>().is_err());
    if let Some(word) = no_level {
        return Err(format!("{word:?} is no level: {wanted}"));
    }
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("{error}: {wanted}")),
    }
}
