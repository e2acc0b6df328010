//! The `tidings` binary.

use std::io::{stderr, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tidings::cli::config::{self, ConfigArgs};
use tidings::config::{FlagValue, Sources};

/// A real-time pub/sub event server
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Configuration file
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on
    #[arg(long, global = true, value_name = "ADDR")]
    listen: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Config(ConfigArgs),
    /// Find every mistake in the configuration
    Check,
}

fn main() -> std::io::Result<ExitCode> {
    let cli = Cli::parse();
    let listen = cli.listen.map(|value| FlagValue { key: "server.listen", value, name: "--listen" });
    let sources = Sources {
        file: cli.config,
        env: std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect(),
        flags: listen.into_iter().collect(),
        dev: false,
    };
    let (out, err) = (&mut stdout().lock(), &mut stderr().lock());
    let exit = match &cli.command {
        Command::Config(args) => config::run(args, &sources, out, err),
        Command::Check => config::check(&sources, out, err),
    }?;
    Ok(exit.into())
}
