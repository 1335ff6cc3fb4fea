//! How lines are written: for people, or one JSON object each.

use std::collections::BTreeMap;
use std::fmt;
use std::io::IsTerminal;
use std::sync::{PoisonError, RwLock};

use serde_json::Value;
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::fmt::format::{Format as Layout, Json, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use super::spans::TARGET;
use super::traces::TraceLayer;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object per line: what the process is [`about`], `timestamp`, `level`, `target`, `message`, the event's
    /// own fields, and under `span` those of what it belongs to.
    Json,
}

/// What every line of this process is about.
static ABOUT: RwLock<BTreeMap<&'static str, Value>> = RwLock::new(BTreeMap::new());

/// Has every JSON line from now on say `field`, at its top: for a process that does one thing, where a span would not
/// reach the tasks that it starts. An event must not have a field of that name.
pub fn about(field: &'static str, value: impl Into<Value>) {
    ABOUT.write().unwrap_or_else(PoisonError::into_inner).insert(field, value.into());
}

/// JSON lines that say first what the process is about.
struct Lines(Layout<Json>);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'lookup> LookupSpan<'lookup>,
    N: for<'writer> FormatFields<'writer> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let about = ABOUT.read().unwrap_or_else(PoisonError::into_inner);
        if about.is_empty() {
            return self.0.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let about = serde_json::to_string(&*about).map_err(|_| fmt::Error)?;
        // Two objects become one: never empty, so a comma is right.
        let (about, line) = (about.trim_end_matches('}'), line.trim_start_matches('{'));
        write!(writer, "{about},{line}")
    }
}

/// Writes to `writer` what passes `filter`, and has `traces` made, from now on, for the whole process.
///
/// # Errors
/// Somebody did so before.
pub fn start<W>(
    filter: EnvFilter,
    format: Format,
    writer: W,
    traces: Option<TraceLayer>,
) -> Result<(), String>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    subscriber(filter, format, writer, traces).try_init().map_err(|error| error.to_string())
}

fn subscriber<W>(
    filter: EnvFilter,
    format: Format,
    writer: W,
    traces: Option<TraceLayer>,
) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // Lines belong to no part of a trace.
    let filter = filter.and(filter_fn(|metadata| metadata.target() != TARGET));
    let beneath = tracing_subscriber::registry().with(traces);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        Format::Text => {
            let lines = lines.with_ansi(std::io::stderr().is_terminal());
            Box::new(beneath.with(lines.with_filter(filter)))
        }
        Format::Json => {
            let layout = tracing_subscriber::fmt::format().json();
            let layout = layout.flatten_event(true).with_current_span(true).with_span_list(false);
            let lines = lines.fmt_fields(JsonFields::new()).event_format(Lines(layout));
            Box::new(beneath.with(lines.with_filter(filter)))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The only test here that says what the process is about: that is said for all of it.
    #[test]
    fn a_line_is_one_json_object_with_the_run_that_it_is_about() {
        let lines = Written::default();
        let writer = lines.clone();
        let filter = EnvFilter::new("info");
        let subscriber = subscriber(filter, Format::Json, move || writer.clone(), None);
        tracing::subscriber::with_default(subscriber, || {
            let span =
                tracing::info_span!("backup", namespace = "shop", backup = "first", uid = "u-1", run = 7);
            let _entered = span.enter();
            tracing::info!(rows = 3, "two\nlines, \"quoted\"");
            tracing::debug!("not asked for");
            about("process", "worker");
            about("attempt", 2);
            tracing::info!("{{braces}}");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let [line, about] = &text.lines().collect::<Vec<_>>()[..] else { panic!("two lines: {text}") };
        let about: Value = serde_json::from_str(about).unwrap();
        assert_eq!((&about["process"], &about["attempt"]), (&"worker".into(), &2.into()));
        assert_eq!((&about["message"], &about["span"]["run"]), (&"{braces}".into(), &7.into()));
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["process"], Value::Null);
        assert_eq!(line["message"], "two\nlines, \"quoted\"");
        assert_eq!((&line["level"], &line["rows"]), (&"INFO".into(), &3.into()));
        assert_eq!(line["span"]["run"], 7);
        assert_eq!((&line["span"]["backup"], &line["span"]["uid"]), (&"first".into(), &"u-1".into()));
        assert!(line["timestamp"].is_string());
    }
}
