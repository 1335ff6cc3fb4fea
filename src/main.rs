//! Parses the command line and dispatches.

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;
use vouchsafe::cli::{Arguments, Failure};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let output = arguments.output();
    let filter = EnvFilter::try_new(arguments.log()).unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
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
