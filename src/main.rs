//! sparkha: highly available standalone Spark clusters on Kubernetes, without an operator.
//!
//! Data flows one way: arguments and file → `ClusterSpec` → resources → applied → `ClusterState` → report.

mod cli;
mod clients;
mod commands;
mod console;
mod doctor;
mod drill;
mod import;
mod jobs;
mod lifecycle;
mod logs;
mod model;
mod platform;
mod render;
mod report;
mod router;
mod routes;
mod routing;
mod spec;
mod state;

fn main() -> std::process::ExitCode {
    match cli::completed() {
        Some(Ok(())) => return std::process::ExitCode::SUCCESS,
        Some(Err(error)) => return failed(&error),
        None => {}
    }
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(error) => return failed(&error),
    };
    report::logging::start(cli.global.verbose, cli.has_access_log());
    // Two threads serve hundreds of waiting requests, and cost less memory than one for each processor.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(cli::run(cli)),
        Err(error) => Err(lifecycle::Error::io("start threads")(error)),
    };
    match outcome {
        Ok(code) => code.into(),
        Err(error) => failed(&error),
    }
}

fn failed(error: &lifecycle::Error) -> std::process::ExitCode {
    report::error::report(error);
    report::exit_code::ExitCode::from(error).into()
}
