//! The `tidings` binary: a server, and the commands to talk to one.

use std::io::{stderr, stdin, stdout};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tidings::cli::cluster::{self, ClusterArgs};
use tidings::cli::config::{self, ConfigArgs};
use tidings::cli::connections::{self, ConnectionsArgs};
use tidings::cli::disconnect::{self, DisconnectArgs};
use tidings::cli::exit::Exit;
use tidings::cli::health::{self, HealthArgs};
use tidings::cli::keys::{self, KeysArgs};
use tidings::cli::mutate::{self, InvalidateArgs, MutateArgs};
use tidings::cli::publish::{self, PublishArgs};
use tidings::cli::revoke::{self, RevokeArgs};
use tidings::cli::rules::{self, RulesArgs};
use tidings::cli::serve::{self, Mode};
use tidings::cli::subscribe::{self, SubscribeArgs};
use tidings::cli::token::{self, TokenArgs};
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
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Start a server for development: open to this machine only (the default)
    Dev,
    /// Start a server; refuses to start without credentials
    Serve,
    #[command(name = "pub")]
    Publish(PublishArgs),
    #[command(name = "sub")]
    Subscribe(SubscribeArgs),
    Mutate(MutateArgs),
    Invalidate(InvalidateArgs),
    Rules(RulesArgs),
    Token(TokenArgs),
    Keys(KeysArgs),
    Health(HealthArgs),
    Cluster(ClusterArgs),
    Connections(ConnectionsArgs),
    Disconnect(DisconnectArgs),
    Revoke(RevokeArgs),
    Config(ConfigArgs),
    /// Find every mistake in the configuration
    Check,
    /// Measure a running server, or what a connection costs beside what the kernel alone costs
    Bench {
        #[command(subcommand)]
        command: tidings_load::Command,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let command = cli.command.unwrap_or(Command::Dev);
    let listen = cli.listen.map(|value| FlagValue { key: "server.listen", value, name: "--listen" });
    let sources = Sources {
        file: cli.config,
        env: std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .collect(),
        flags: listen.into_iter().collect(),
        dev: matches!(command, Command::Dev),
    };
    let (out, err) = (&mut stdout(), &mut stderr());
    let written = match &command {
        Command::Dev => serve::run(Mode::Dev, &sources, err).await,
        Command::Serve => serve::run(Mode::Serve, &sources, err).await,
        Command::Publish(args) => publish::run(args, &sources, &mut stdin(), out, err).await,
        Command::Subscribe(args) => subscribe::run(args, &sources, out, err).await,
        Command::Mutate(args) => mutate::mutate(args, &sources, out, err).await,
        Command::Invalidate(args) => mutate::invalidate(args, &sources, out, err).await,
        Command::Rules(args) => rules::run(args, &sources, &mut stdin(), out, err),
        Command::Token(args) => token::run(args, &sources, out, err),
        Command::Keys(args) => keys::run(args, out, err),
        Command::Health(args) => health::run(args, &sources, out, err).await,
        Command::Cluster(args) => cluster::run(args, &sources, out, err).await,
        Command::Connections(args) => connections::run(args, &sources, out, err).await,
        Command::Disconnect(args) => disconnect::run(args, &sources, out, err).await,
        Command::Revoke(args) => revoke::run(args, &sources, out, err).await,
        Command::Config(args) => config::run(args, &sources, out, err),
        Command::Check => config::check(&sources, out, err),
        Command::Bench { command } => {
            let host =
                tidings_load::Host { prefix: vec!["bench".into()], server: std::env::current_exe().ok() };
            return tidings_load::run(command, &host);
        }
    };
    Exit::of(written, err).into()
}
