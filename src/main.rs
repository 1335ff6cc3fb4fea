//! Parses the command line and dispatches.

use std::process::ExitCode;

use tracing_subscriber::EnvFilter;
use vouchsafe::cli::{Failure, parse};
use vouchsafe::telemetry::logs;

fn main() -> ExitCode {
    let arguments = match parse(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let output = arguments.output();
    // The parser has refused what can't be read.
    let filter = EnvFilter::new(arguments.log());
    if let Err(error) = logs::start(filter, arguments.log_format(), std::io::stderr) {
        return Failure::internal(format!("nothing can be logged: {error}")).report(output);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(arguments.execute()),
        Err(error) => Err(Failure::internal(format!("the runtime did not start: {error}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(output),
    }
}
