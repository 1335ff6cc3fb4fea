//! Parses the command line and dispatches.

use std::process::ExitCode;

use tracing_subscriber::EnvFilter;
use vouchsafe::cli::{Failure, parse};
use vouchsafe::telemetry::logs;
use vouchsafe::telemetry::traces::Traces;

fn main() -> ExitCode {
    let arguments = match parse(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let output = arguments.output();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Failure::internal(format!("the runtime did not start: {error}")).report(output),
    };
    let process = arguments.process();
    let traces = process.and_then(|process| Traces::of(process, runtime.handle().clone()));
    // The parser has refused what can't be read.
    let filter = EnvFilter::new(arguments.log());
    let layer = traces.as_ref().and_then(|traces| traces.as_ref().ok()).map(Traces::layer);
    if let Err(error) = logs::start(filter, arguments.log_format(), std::io::stderr, layer) {
        return Failure::internal(format!("nothing can be logged: {error}")).report(output);
    }
    if let Some(Err(error)) = &traces {
        tracing::warn!(error, "nothing is traced");
    }
    let result = runtime.block_on(arguments.execute());
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(output),
    };
    // Everything is said by now. The runtime is there still: it sends.
    if let Some(Ok(traces)) = traces {
        traces.end();
    }
    code
}
