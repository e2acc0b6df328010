//! `tidings config init`, `tidings config show`, `tidings check`: configuration as people handle it.
//!
//! Results go to `out`, reports to `err`; both are arguments, so that tests can look at them.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::exit::Exit;
use crate::config::{Config, Loaded, Problems, Sources};

/// Print a commented configuration file, or the configuration in effect
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand, Clone, Debug)]
enum ConfigCommand {
    /// Print a file with every key, its meaning and its default
    Init {
        /// Write to this file, which must not exist yet
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Print the configuration in effect; secrets as "***"
    Show {
        /// Say of each value where it came from
        #[arg(long)]
        origin: bool,
    },
}

/// `tidings config …`. Fails only where `out` or `err` cannot be written.
pub fn run(
    args: &ConfigArgs,
    sources: &Sources,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    match &args.command {
        ConfigCommand::Init { output: None } => {
            write!(out, "{}", Config::commented_file())?;
            Ok(Exit::Ok)
        }
        ConfigCommand::Init { output: Some(path) } => init(path, err),
        ConfigCommand::Show { origin } => match Config::load(sources) {
            Ok(loaded) => {
                write!(out, "{}", loaded.show(*origin))?;
                Ok(Exit::Ok)
            }
            Err(problems) => report(&problems, err),
        },
    }
}

/// `tidings check`: every problem, or "ok" and a summary. Fails only where `out` or `err` cannot be written.
pub fn check(sources: &Sources, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Exit> {
    match Config::load(sources) {
        Ok(loaded) => {
            write!(out, "{}", summary(sources, &loaded))?;
            Ok(Exit::Ok)
        }
        Err(problems) => report(&problems, err),
    }
}

/// Writes a report that ends the program, and says with which code.
pub fn report(problems: &Problems, err: &mut dyn Write) -> io::Result<Exit> {
    writeln!(err, "{problems}")?;
    Ok(Exit::Config)
}

fn init(path: &Path, err: &mut dyn Write) -> io::Result<Exit> {
    // `create_new` refuses and creates in one step: a file that appears meanwhile is not overwritten either.
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .and_then(|mut file| file.write_all(Config::commented_file().as_bytes()));
    match written {
        Ok(()) => {
            writeln!(err, "wrote {}: `tidings check --config {0}` checks it", path.display())?;
            Ok(Exit::Ok)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            writeln!(err, "{} exists and was left as it is: choose another name", path.display())?;
            Ok(Exit::Runtime)
        }
        Err(error) => {
            writeln!(err, "cannot write {}: {error}", path.display())?;
            Ok(Exit::Runtime)
        }
    }
}

fn summary(sources: &Sources, loaded: &Loaded) -> String {
    let config = &loaded.config;
    let file = sources.file.as_ref().map_or("no file".to_owned(), |path| path.display().to_string());
    let names: Vec<&str> = config.namespaces.iter().map(|namespace| &*namespace.name).collect();
    let tokens = tokens(config);
    let mut summary = format!(
        "ok: {file}\n  listen      {}\n  namespaces  {}\n  tokens      {tokens}\n  API keys    {}\n  rules       {}\n",
        config.server.listen,
        names.join(", "),
        config.api_keys.len(),
        config.rules.len(),
    );
    if !config.problems_for_serve().is_empty() {
        summary += "  note        `tidings serve` will not start: no credential is configured\n";
    }
    summary
}

/// What tokens may be signed with.
fn tokens(config: &Config) -> String {
    let mut keys = Vec::new();
    keys.extend(config.auth.hmac_secret.as_ref().map(|_| "HMAC".to_owned()));
    keys.extend(config.token_keys.iter().map(|key| format!("{:?}", key.algorithm.0)));
    keys.extend(config.jwks.url.iter().map(|url| format!("{url:?}")));
    if keys.is_empty() { "none".to_owned() } else { keys.join(", ") }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;
    use crate::cli::fixture::written;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        config: ConfigArgs,
    }

    /// Exit, standard output and standard error of `tidings config` with these arguments.
    fn config(args: &[&str], sources: &Sources) -> (Exit, String, String) {
        let cli = Cli::parse_from([&["config"], args].concat());
        written(|out, err| run(&cli.config, sources, out, err))
    }

    fn env(name: &str, value: &str) -> Sources {
        Sources { env: vec![(name.to_owned(), value.to_owned())], ..Sources::default() }
    }

    #[test]
    fn init_writes_a_file_once_and_leaves_it_then() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let path = folder.path().join("t.toml");
        let args = ["init", "--output", path.to_str().expect("the path is text")];
        let (exit, out, _) = config(&args, &Sources::default());
        assert_eq!((exit, out.as_str()), (Exit::Ok, ""));
        assert_eq!(fs::read_to_string(&path).expect("is written"), Config::commented_file());

        fs::write(&path, "mine").expect("is written");
        let (exit, _, err) = config(&args, &Sources::default());
        assert!(exit == Exit::Runtime && err.contains("exists and was left as it is"), "{err}");
        assert_eq!(fs::read_to_string(&path).expect("is there"), "mine");
    }

    #[test]
    fn init_without_a_file_prints() {
        let (exit, out, err) = config(&["init"], &Sources::default());
        assert_eq!((exit, out, err.as_str()), (Exit::Ok, Config::commented_file(), ""));
    }

    #[test]
    fn show_says_where_values_came_from_if_asked() {
        let sources = env("TIDINGS__LOG__FILTER", "warn");
        let (exit, out, _) = config(&["show", "--origin"], &sources);
        assert!(exit == Exit::Ok && out.contains("filter = \"warn\"  # env TIDINGS__LOG__FILTER\n"), "{out}");
        let (_, out, _) = config(&["show"], &sources);
        assert!(out.contains("filter = \"warn\"\n") && !out.contains("# env"), "{out}");
    }

    #[test]
    fn wrong_configuration_ends_with_78_and_the_report() {
        let sources = env("TIDINGS__LOG__FORMT", "text");
        let (exit, out, err) = config(&["show"], &sources);
        assert_eq!((exit, out.as_str()), (Exit::Config, ""));
        assert!(err.ends_with("\n1 problem in the configuration\n"), "{err}");
        assert_eq!(written(|out, err| check(&sources, out, err)), (exit, out, err));
        assert_eq!(exit as u8, 78);
    }

    #[test]
    fn check_sums_up_what_is_right() {
        let (exit, out, err) = written(|out, err| check(&Sources::default(), out, err));
        assert_eq!((exit, err.as_str()), (Exit::Ok, ""));
        assert!(out.starts_with("ok: no file\n  listen      127.0.0.1:8080\n"), "{out}");
        assert!(out.contains("`tidings serve` will not start"), "{out}");

        let sources = env("TIDINGS__AUTH__HMAC_SECRET", &"s".repeat(32));
        let (_, out, _) = written(|out, err| check(&sources, out, err));
        assert!(out.contains("tokens      HMAC") && !out.contains("will not start"), "{out}");
    }
}
