//! `tidings keys`: makes API keys for backends.

use std::fmt::Write as _;
use std::io::{self, Write};

use clap::{Args, Subcommand};
use serde::Serialize;

use super::config::report;
use super::exit::{Exit, complain};
use super::random;
use crate::auth::{hash_of, new_key};
use crate::config::{Config, FlagValue, Problems, Sources};

/// Make API keys for backends
#[derive(Args, Clone)]
pub struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Subcommand, Clone)]
enum KeysCommand {
    /// Print a new key, then the lines of the configuration that make the server take it
    New(NewKeyArgs),
}

#[derive(Args, Clone)]
struct NewKeyArgs {
    /// Name of the key in logs, such as `backend`
    #[arg(long, value_name = "NAME")]
    name: String,
    /// Channels that it may publish to: `tickets`, `room:*`, `*`; can be repeated
    #[arg(long, value_name = "PATTERN")]
    publish: Vec<String>,
    /// Channels that it may subscribe to; can be repeated
    #[arg(long, value_name = "PATTERN")]
    subscribe: Vec<String>,
    /// Channels whose history it may read [default: those of --publish and --subscribe]; can be repeated
    #[arg(long, value_name = "PATTERN")]
    history: Vec<String>,
    /// Channels of which it may know who is in them [default: those of --publish and --subscribe]; can be repeated
    #[arg(long, value_name = "PATTERN")]
    presence: Vec<String>,
    /// Tags that it may watch, and ask after [default: all]; can be repeated
    #[arg(long, value_name = "TAG")]
    watch: Vec<String>,
    /// Tags that it may invalidate and mutate: `tickets`, `ticket:*`, `*`; can be repeated
    #[arg(long, value_name = "TAG")]
    mutate: Vec<String>,
    /// Whom limits count its requests to
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// It may also see and close connections, and revoke tokens
    #[arg(long)]
    admin: bool,
}

/// A `[[api_key]]` of the configuration.
#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    publish: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    subscribe: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    history: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    presence: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    watch: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    mutate: &'a [String],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    admin: bool,
}

/// `tidings keys …`. Fails only where `out` or `err` cannot be written.
pub fn run(args: &KeysArgs, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Exit> {
    let KeysCommand::New(args) = &args.command;
    let key = new_key(random::bytes());
    let entry = Entry {
        name: &args.name,
        hash: hash_of(&key).iter().fold("sha256:".to_owned(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a string takes everything");
            hex
        }),
        tenant: args.tenant.as_deref(),
        publish: &args.publish,
        subscribe: &args.subscribe,
        history: &args.history,
        presence: &args.presence,
        watch: &args.watch,
        mutate: &args.mutate,
        admin: args.admin,
    };
    if let Err(problems) = entry.check() {
        report(&problems, err)?;
        return Ok(Exit::Usage);
    }
    writeln!(out, "{key}\n\n{}", entry.lines().trim_end())?;
    complain(
        "the key is on the first line and is shown only now: give it to the backend, and the rest to the server's \
         configuration, which holds its hash alone",
        err,
    )?;
    Ok(Exit::Ok)
}

impl Entry<'_> {
    fn lines(&self) -> String {
        #[derive(Serialize)]
        struct File<'a> {
            api_key: [&'a Entry<'a>; 1],
        }
        toml::to_string(&File { api_key: [self] }).expect("names, texts and a flag are always TOML")
    }

    /// Whether the configuration would take it: the judge is the configuration itself.
    fn check(&self) -> Result<(), Problems> {
        let inline = toml::Value::try_from([self]).expect("names, texts and a flag are always TOML");
        let flag = FlagValue { key: "api_key", value: inline.to_string(), name: "tidings keys new" };
        Config::load(&Sources { flags: vec![flag], ..Sources::default() }).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use tidings_protocol::Tag;

    use super::*;
    use crate::cli::fixture::written;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        keys: KeysArgs,
    }

    fn keys(args: &[&str]) -> (Exit, String, String) {
        let cli = Cli::parse_from([&["keys", "new"], args].concat());
        written(|out, err| run(&cli.keys, out, err))
    }

    #[test]
    fn the_printed_lines_make_the_configuration_know_the_key() {
        let (exit, out, err) = keys(&[
            "--name",
            "backend",
            "--publish",
            "room:*",
            "--publish",
            "tickets",
            "--mutate",
            "ticket:*",
            "--subscribe",
            "news:*",
            "--history",
            "room:1",
            "--watch",
            "ticket:*",
            "--tenant",
            "acme",
            "--admin",
        ]);
        assert!(exit == Exit::Ok && err.contains("shown only now"), "{err}");
        let (key, lines) = out.split_once("\n\n").expect("a blank line follows the key");
        assert!(key.starts_with("td_") && !lines.contains(key) && !err.contains(key), "{out}");

        let folder = tempfile::tempdir().expect("a folder for the test");
        let file = folder.path().join("t.toml");
        std::fs::write(&file, lines).expect("is written");
        let loaded = Config::load(&Sources { file: Some(file), ..Sources::default() }).expect("is legal");
        let [entry] = &loaded.config.api_keys[..] else { panic!("one key is configured") };
        assert_eq!((entry.name.as_str(), entry.hash, entry.admin), ("backend", hash_of(key), true));
        assert_eq!(entry.publish, ["room:*", "tickets"]);
        assert_eq!(
            (entry.tenant.as_deref(), &entry.subscribe[..]),
            (Some("acme"), &["news:*".to_owned()][..])
        );
        assert_eq!((entry.history.as_deref(), &entry.presence), (Some(&["room:1".to_owned()][..]), &None));
        assert_eq!(entry.watch.as_deref(), Some(&[Tag::parse("ticket:*").expect("is a tag")][..]));
        assert_eq!(entry.mutate, [Tag::parse("ticket:*").expect("is a tag")]);
    }

    #[test]
    fn no_two_keys_are_alike() {
        let [one, other] = [(); 2].map(|()| keys(&["--name", "backend"]).1);
        assert_ne!(one.lines().next(), other.lines().next());
    }

    #[test]
    fn what_the_configuration_would_refuse_is_refused_before_a_key_is_shown() {
        for (args, words) in [
            (["--name", "back end", "--publish", "*"], "a name of 1 to 64"),
            (["--name", "backend", "--publish", "a*b"], "a*b"),
            (["--name", "backend", "--mutate", "tick*"], "tick*"),
            (["--name", "\"]#", "--publish", "*"], "a name of 1 to 64"),
        ] {
            let (exit, out, err) = keys(&args);
            assert_eq!((exit, out.as_str()), (Exit::Usage, ""), "{args:?}");
            assert!(err.contains(words), "{err}");
        }
    }
}
