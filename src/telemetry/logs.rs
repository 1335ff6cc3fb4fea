//! How lines are written: for people, or one JSON object each.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

/// How lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object per line: `timestamp`, `level`, `target`, `message`, the event's own fields, and under `span`
    /// those of what it belongs to.
    Json,
}

/// Writes to `writer` what passes `filter`, from now on, for the whole process.
///
/// # Errors
/// Somebody did so before.
pub fn start<W>(filter: EnvFilter, format: Format, writer: W) -> Result<(), String>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    subscriber(filter, format, writer).try_init().map_err(|error| error.to_string())
}

fn subscriber<W>(
    filter: EnvFilter,
    format: Format,
    writer: W,
) -> Box<dyn tracing::Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    match format {
        Format::Text => Box::new(lines.with_ansi(std::io::stderr().is_terminal()).finish()),
        Format::Json => {
            Box::new(lines.json().flatten_event(true).with_current_span(true).with_span_list(false).finish())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_one_json_object_with_the_run_that_it_is_about() {
        let lines = Lines::default();
        let writer = lines.clone();
        let filter = EnvFilter::new("info");
        let subscriber = subscriber(filter, Format::Json, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("backup", namespace = "shop", backup = "first", uid = "u-1", run = 7);
            let _entered = span.enter();
            tracing::info!(rows = 3, "two\nlines, \"quoted\"");
            tracing::debug!("not asked for");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "two\nlines, \"quoted\"");
        assert_eq!((&line["level"], &line["rows"]), (&"INFO".into(), &3.into()));
        assert_eq!(line["span"]["run"], 7);
        assert_eq!((&line["span"]["backup"], &line["span"]["uid"]), (&"first".into(), &"u-1".into()));
        assert!(line["timestamp"].is_string());
    }
}
