//! How results and failures are written, and the exit codes.

use std::borrow::Cow;
use std::io::Write;
use std::process::ExitCode;

use schemars::JsonSchema;
use serde::Serialize;

use super::OutputFormat;
use super::cluster::ClusterReason;
use crate::engine::EngineError;
use crate::engine::interrupt::{Interrupt, Interruption};
use crate::hint::WayIn;

/// Exit code for a failed command.
const FAILED: u8 = 1;
/// Exit code for what can't be asked so; clap's own.
const USAGE: u8 = 2;
/// Exit code for a verification that found damage.
const NOT_PROVEN: u8 = 3;
/// Exit code after SIGINT, as shells have it: 128 + 2.
const INTERRUPTED: u8 = 130;

/// Reasons of runs whose verification or comparison found damage: what [`exit_code`] says of the errors that have
/// them, for a failure that is known by its word alone.
const NOT_PROVEN_REASONS: [&str; 6] =
    ["DamageFound", "RestoreDiffers", "ObjectMissing", "ObjectChanged", "DocumentDamaged", "FormatVersion"];

/// Why a command failed, with its exit code.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    body: FailureBody,
    /// The hint for a reader who wrote a resource.
    hint_of_fields: Option<String>,
    /// The command's own document has said it all.
    reported: bool,
}

/// What was under way.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    Backup,
    Restore,
    Reading,
    Prune,
    Copy,
}

impl Work {
    const fn left_behind(self, asked: Option<Interruption>) -> &'static str {
        match (self, asked) {
            // What was claimed is LeftOpen.
            (Self::Backup, Some(Interruption::Leave)) => "no run was begun: the same command begins anew",
            (Self::Backup, _) => {
                "if a run was begun, it is void, and no backup: run the command again for a new run"
            }
            // What was made is taken back, or named: RestoreGivenUp.
            (Self::Restore, _) => "nothing was made on the target: the same command begins anew",
            (Self::Prune, _) => {
                "what is retired is retired, and what is deleted is gone; the same command goes on from there"
            }
            (Self::Copy, _) => {
                "what was copied stays, and is no backup yet: the same command goes on from there"
            }
            (Self::Reading, _) => "it only read, and left nothing behind: run the same command again",
        }
    }
}

/// Reasons that the command line gives itself, besides those of the engine's errors.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reason {
    Usage,
    Internal,
    DamageFound,
    Different,
    LocalFailure,
    ToolFailed,
    ServerNotStarted,
    ServerNotStopped,
    DemoFailed,
    ReferenceMissing,
    DeleteRefused,
    DeleteCredentialsMissing,
}

impl Reason {
    reasons! {
        /// The stable CamelCase word.
        pub(super) words {
            Self::Usage => "Usage",
            Self::Internal => "Internal",
            Self::DamageFound => "DamageFound",
            Self::Different => "Different",
            Self::LocalFailure => "LocalFailure",
            Self::ToolFailed => "ToolFailed",
            Self::ServerNotStarted => "ServerNotStarted",
            Self::ServerNotStopped => "ServerNotStopped",
            Self::DemoFailed => "DemoFailed",
            Self::ReferenceMissing => "ReferenceMissing",
            Self::DeleteRefused => "DeleteRefused",
            Self::DeleteCredentialsMissing => "DeleteCredentialsMissing",
        }
        passed_on {}
    }
}

/// What a failed command writes as JSON.
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct FailureDocument {
    failure: FailureBody,
}

#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct FailureBody {
    reason: Cow<'static, str>,
    message: String,
    hint: String,
}

impl Failure {
    /// What was asked for can't be done so.
    pub(super) fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        let body =
            FailureBody { reason: Reason::Usage.reason().into(), message: message.into(), hint: hint.into() };
        Self { code: USAGE, body, hint_of_fields: None, reported: false }
    }

    /// Something failed, by its name.
    pub(super) fn failed(reason: Reason, message: impl Into<String>, hint: impl Into<String>) -> Self {
        let body = FailureBody { reason: reason.reason().into(), message: message.into(), hint: hint.into() };
        Self { code: FAILED, body, hint_of_fields: None, reported: false }
    }

    /// A verification found damage, or two things differ. The command has written its result before.
    pub(super) fn not_proven(reason: Reason, message: impl Into<String>, hint: impl Into<String>) -> Self {
        let body = FailureBody { reason: reason.reason().into(), message: message.into(), hint: hint.into() };
        Self { code: NOT_PROVEN, body, hint_of_fields: None, reported: true }
    }

    /// What a cluster, or an object in it, refuses.
    pub(super) fn of_cluster(
        reason: ClusterReason,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        let code = if reason == ClusterReason::NameAmbiguous { USAGE } else { FAILED };
        let body = FailureBody { reason: reason.reason().into(), message: message.into(), hint: hint.into() };
        Self { code, body, hint_of_fields: None, reported: false }
    }

    /// How a run in a cluster ended, in the words of its status. The command has written its result before.
    pub(super) fn of_outcome(failure: crate::api::Failure) -> Self {
        let crate::api::Failure { reason, message, hint } = failure;
        let code = if NOT_PROVEN_REASONS.contains(&&*reason) { NOT_PROVEN } else { FAILED };
        let body = FailureBody { reason: reason.into(), message, hint };
        Self { code, body, hint_of_fields: None, reported: true }
    }

    /// What the controller says of a resource, where nothing was written before.
    pub(super) fn of_resource(failure: crate::api::Failure) -> Self {
        Self { reported: false, ..Self::of_outcome(failure) }
    }

    /// What `status` shows has failed. The command has written its result before.
    pub(super) fn shown(reason: &str, message: &str, hint: &str) -> Self {
        let body =
            FailureBody { reason: reason.to_owned().into(), message: message.into(), hint: hint.into() };
        Self { code: FAILED, body, hint_of_fields: None, reported: true }
    }

    /// SIGINT came while a command waited for what goes on without it.
    pub(super) fn stopped_waiting(message: impl Into<String>, hint: impl Into<String>) -> Self {
        let reason = EngineError::Interrupted.reason().into();
        let body = FailureBody { reason, message: message.into(), hint: hint.into() };
        Self { code: INTERRUPTED, body, hint_of_fields: None, reported: false }
    }

    /// Something failed that the command's own document tells of, beside what it has done.
    pub(super) fn failed_and_reported(
        reason: Reason,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { reported: true, ..Self::failed(reason, message, hint) }
    }

    /// The stable word.
    pub(super) fn reason(&self) -> &str {
        &self.body.reason
    }

    /// What happened.
    pub(super) fn message(&self) -> &str {
        &self.body.message
    }

    /// What a reader can do who wrote a resource.
    pub(super) fn hint_of_fields(&self) -> &str {
        self.hint_of_fields.as_deref().unwrap_or(&self.body.hint)
    }

    /// Something that must not happen.
    pub fn internal(message: impl Into<String>) -> Self {
        let body = FailureBody {
            reason: Reason::Internal.reason().into(),
            message: message.into(),
            hint: "this must not happen: keep the log, and report it".into(),
        };
        Self { code: FAILED, body, hint_of_fields: None, reported: false }
    }

    /// The same for a reader who gave the settings as fields of a resource.
    pub(super) fn of_fields(mut self) -> Self {
        if let Some(hint) = self.hint_of_fields.take() {
            self.body.hint = hint;
        }
        self
    }

    /// A failure of work that could be interrupted: says what an interrupted one has left, and what goes on.
    pub(super) fn of_work(error: EngineError, work: Work, interrupt: &Interrupt) -> Self {
        let interrupted = matches!(error, EngineError::Interrupted);
        let mut failure = Self::from(error);
        if interrupted {
            work.left_behind(interrupt.asked()).clone_into(&mut failure.body.hint);
            failure.hint_of_fields = None;
        }
        failure
    }

    /// Writes the failure to standard error (as JSON to standard output, if that was asked for).
    pub fn report(self, output: OutputFormat) -> ExitCode {
        let FailureBody { reason, message, hint } = &self.body;
        match output {
            OutputFormat::Text => {
                let text = format!("error: {message}\nreason: {reason}\nhint: {hint}");
                let _nobody_reads = writeln!(std::io::stderr().lock(), "{text}");
            }
            OutputFormat::Json if self.reported => {}
            OutputFormat::Json => {
                let document = FailureDocument { failure: self.body };
                // Texts alone: they are JSON always. Nobody may be left to read it; the exit code says it too.
                let text = serde_json::to_string(&document).unwrap_or_default();
                let _nobody_reads = writeln!(std::io::stdout().lock(), "{text}");
            }
        }
        ExitCode::from(self.code)
    }
}

/// The text of an error and of all that caused it, once each.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let code = exit_code(&error);
        let hint = error.hint(WayIn::Flags);
        let body = FailureBody { reason: error.reason().into(), message: chain(&error), hint };
        Self { code, body, hint_of_fields: Some(error.hint(WayIn::Fields)), reported: false }
    }
}

const fn exit_code(error: &EngineError) -> u8 {
    match error {
        EngineError::Usage { .. } => USAGE,
        EngineError::Interrupted | EngineError::LeftOpen { .. } => INTERRUPTED,
        EngineError::RestoreGivenUp { source, .. } => exit_code(source),
        EngineError::Damaged(_)
        | EngineError::SealedDamaged { .. }
        | EngineError::SurvivorDamaged { .. }
        | EngineError::NotEqual(_)
        | EngineError::Digest { .. }
        | EngineError::Missing { .. }
        | EngineError::RegisterGap { .. }
        | EngineError::DocumentTooLarge { .. }
        | EngineError::Format { .. } => NOT_PROVEN,
        _ => FAILED,
    }
}

/// Says on standard error that a newer run than the chosen one is not decided, whatever the output is.
pub(super) fn warn_of_undecided(newer: Option<u32>) {
    if let Some(run) = newer {
        let text = format!(
            "warning: run {run} is newer and not decided: it is under way, was left open, or has lost its outcome; \
             vouchsafe list shows it"
        );
        let _nobody_reads = writeln!(std::io::stderr().lock(), "{text}");
    }
}

/// Writes `document` as JSON, or `text` for people.
pub(super) fn write<T: Serialize>(
    output: OutputFormat,
    document: &T,
    text: impl FnOnce() -> String,
) -> Result<(), Failure> {
    let written = match output {
        OutputFormat::Text => text(),
        OutputFormat::Json => serde_json::to_string_pretty(document)
            .map_err(|error| Failure::internal(format!("the result is no JSON: {error}")))?,
    };
    print(written.trim_end())
}

/// Writes a text and a newline to standard output.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    // `vouchsafe list | head` is no failure.
    print_if_read(text).map(|_read| ())
}

/// The same; false: whoever read has left, and writing more is in vain.
pub(super) fn print_if_read(text: &str) -> Result<bool, Failure> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::internal(format!("standard output: {error}"))),
    }
}

/// `vouchsafe version`
#[derive(Debug, JsonSchema, Serialize)]
pub(super) struct VersionReport {
    version: &'static str,
    formats: u32,
}

/// Writes [`VersionReport`].
pub(super) fn version(output: OutputFormat) -> Result<(), Failure> {
    let document = VersionReport { version: crate::version(), formats: 1 };
    write(output, &document, || format!("vouchsafe {}", crate::version()))
}

/// A table for people.
pub(super) fn table<const N: usize>(header: [&str; N], rows: Vec<[String; N]>) -> String {
    lined(header.to_vec(), rows.into_iter().map(Vec::from).collect())
}

/// A table whose columns are known only when it is made.
pub(super) fn lined(header: Vec<&str>, rows: Vec<Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    let lines = table.to_string();
    lines.lines().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}

/// `1234567` as `1.2 MB`: decimal units, as stores bill.
pub(super) fn bytes(count: u64) -> String {
    indicatif::DecimalBytes(count).to_string()
}

/// `1234567` as `1,234,567`.
pub(super) fn count(count: u64) -> String {
    indicatif::HumanCount(count).to_string()
}
