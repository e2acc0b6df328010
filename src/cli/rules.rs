//! `tidings rules`: what the rules of a configuration make of a mutation.

use std::io::{self, Read, Write};

use clap::{Args, Subcommand};
use tidings_protocol::{Mutation, decode_mutations};

use super::config::report;
use super::exit::Exit;
use crate::config::{Config, Loaded, Sources};
use crate::freshness::{By, Rules};

/// The most bytes of mutations that are read.
const EVENT_BYTES_MAX: u64 = 8 << 20;

/// See what the rules make of a mutation
#[derive(Args, Clone, Debug)]
pub struct RulesArgs {
    #[command(subcommand)]
    command: RulesCommand,
}

#[derive(Subcommand, Clone, Debug)]
enum RulesCommand {
    /// Print the tags that a mutation touches, each with the rule that gave it
    ///
    /// No server is asked: the rules are those of the configuration.
    Test {
        /// The mutation, as `POST /v1/mutations` takes it; read from standard input if absent
        #[arg(long, value_name = "JSON")]
        event: Option<String>,
    },
}

/// `tidings rules …`. Fails only where `out` or `err` cannot be written.
pub fn run(
    args: &RulesArgs,
    sources: &Sources,
    input: &mut dyn Read,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let RulesCommand::Test { event } = &args.command;
    let loaded = match Config::load(sources) {
        Ok(loaded) => loaded,
        Err(problems) => return report(&problems, err),
    };
    let mutations = match event.clone().map_or_else(|| read(input), Ok) {
        Ok(text) => decode_mutations(&text, None).map_err(|problem| problem.message.into_owned()),
        Err(words) => Err(words),
    };
    let rules = Rules::new(loaded.config.rules.clone());
    let lines = mutations.and_then(|mutations| {
        let lines = mutations.events.iter().map(|mutation| explain(&rules, mutation, &loaded));
        lines.collect::<Result<String, String>>()
    });
    match lines {
        Ok(lines) => {
            write!(out, "{lines}")?;
            Ok(Exit::Ok)
        }
        Err(words) => Exit::Runtime.because(words, err),
    }
}

fn read(input: &mut dyn Read) -> Result<String, String> {
    let mut text = String::new();
    let read = input.take(EVENT_BYTES_MAX).read_to_string(&mut text);
    read.map(|_| text).map_err(|error| format!("cannot read standard input: {error}"))
}

/// A line for each tag, with what gave it and where that stands.
fn explain(rules: &Rules, mutation: &Mutation, loaded: &Loaded) -> Result<String, String> {
    let touched = rules.explain(mutation).map_err(|unrendered| unrendered.to_string())?;
    let width = touched.iter().map(|(tag, _)| tag.as_str().len()).max().unwrap_or_default();
    let line = |(tag, by): &(_, By)| {
        let place = match by {
            By::Rule(index) => format!(" ({})", loaded.origins.of(&format!("rule[{index}].tags"))),
            By::Default | By::Mutation => String::new(),
        };
        // The formatter pads text, not what merely shows itself.
        format!("{:width$}  {by}{place}\n", format!("{tag}"))
    };
    Ok(touched.iter().map(line).collect())
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
        rules: RulesArgs,
    }

    const RULES: &str = "[[rule]]\nentity = 'ticket'\ntags = ['tickets', 'org:{row.org}:tickets']\n";

    fn rules(toml: &str, event: Option<&str>, mut input: &[u8]) -> (Exit, String, String) {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let file = folder.path().join("t.toml");
        fs::write(&file, toml).expect("is written");
        let args =
            ["rules", "test"].into_iter().chain(event.into_iter().flat_map(|event| ["--event", event]));
        let cli = Cli::parse_from(args);
        let sources = Sources { file: Some(file), ..Sources::default() };
        let (exit, out, err) = written(|out, err| run(&cli.rules, &sources, &mut input, out, err));
        (exit, out.replace(&format!("{}/", folder.path().display()), ""), err)
    }

    #[test]
    fn each_tag_is_printed_with_what_gave_it() {
        let event = r#"{"entity":"ticket","key":1,"op":"create","after":{"org":7},"tags":["x"]}"#;
        let expected = "tickets        rule 1 (t.toml:3)\norg:7:tickets  rule 1 (t.toml:3)\nx              the mutation\n";
        assert_eq!(rules(RULES, Some(event), b""), (Exit::Ok, expected.to_owned(), String::new()));
        assert_eq!(rules(RULES, None, event.as_bytes()).1, expected);
        let other =
            r#"{"events":[{"entity":"note","key":1,"op":"update"},{"entity":"note","key":2,"op":"update"}]}"#;
        assert_eq!(rules(RULES, Some(other), b"").1, "note:1  no rule\nnote:2  no rule\n");
    }

    #[test]
    fn what_makes_no_tags_says_why() {
        for (toml, event, exit, words) in [
            (
                RULES,
                r#"{"entity":"ticket","key":1,"op":"create","after":{}}"#,
                Exit::Runtime,
                "no such field",
            ),
            (RULES, r#"{"entity":"ticket"}"#, Exit::Runtime, "needs `key`"),
            (RULES, "ticket", Exit::Runtime, "cannot be read"),
            ("[[rule]]\nentity = 'a'\n", r#"{}"#, Exit::Config, "`tags` is missing"),
        ] {
            let (ended, out, err) = rules(toml, Some(event), b"");
            assert_eq!((ended, out.as_str()), (exit, ""), "{event}");
            assert!(err.contains(words), "{event}: {err}");
        }
    }
}
