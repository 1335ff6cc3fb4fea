//! The parts of which a trace is made: what a run does, in few spans with few fields. They say names, numbers and the
//! words of reasons; never a message, which may hold what somebody else has said, and never a row.

use std::future::Future;

use tracing::{Instrument, Span};

/// The target of every span of a trace: by it they are told from those of log lines, which have none of them.
pub const TARGET: &str = "vouchsafe::trace";

/// Characters of a field's text at most: names of tables may have more than anybody reads.
const LONGEST: usize = 128;

/// A part of a trace, by its name, with fields. A field without a value yet is `tracing::field::Empty`.
macro_rules! part {
    ($name:literal $(, $field:ident = $value:expr)* $(,)?) => {
        tracing::info_span!(
            target: $crate::telemetry::spans::TARGET,
            $name,
            $($field = $value,)*
            "error.type" = tracing::field::Empty,
            "otel.status_code" = tracing::field::Empty,
        )
    };
}
pub(crate) use part;

/// What a process does from its begin to its end. What it is at is recorded when it is known.
#[must_use]
pub fn process(name: &'static str) -> Span {
    tracing::info_span!(
        target: TARGET,
        "process",
        "otel.name" = name,
        resource = tracing::field::Empty,
        namespace = tracing::field::Empty,
        run = tracing::field::Empty,
        destination = tracing::field::Empty,
        "error.type" = tracing::field::Empty,
        "otel.status_code" = tracing::field::Empty,
    )
}

/// Does `work` as the part `span` of a trace, and has it say the reason if it fails.
///
/// # Errors
/// Those of `work`.
pub async fn told<T, E>(
    span: Span,
    reason: impl Fn(&E) -> &str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let ended = work.instrument(span.clone()).await;
    if let Err(error) = &ended {
        failed(&span, reason(error));
    }
    ended
}

/// Has a part say that it failed, and for which reason.
pub fn failed(span: &Span, reason: &str) {
    span.record("error.type", reason);
    span.record("otel.status_code", "ERROR");
}

/// A text that is short enough for a field.
#[must_use]
pub fn short(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_field_is_longer_than_a_name() {
        assert_eq!(short("public.orders"), "public.orders");
        assert_eq!(short(&"ä".repeat(1000)).chars().count(), LONGEST);
    }
}
