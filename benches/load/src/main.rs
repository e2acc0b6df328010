//! The `tidings-load` program.

use std::process::ExitCode;

use clap::Parser;
use tidings_load::{Command, Host};

/// Load and measurements for a tidings server on this machine.
#[derive(Parser)]
#[command(name = "tidings-load", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    tidings_load::run(&Cli::parse().command, &Host::default())
}
