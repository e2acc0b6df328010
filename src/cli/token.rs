//! `tidings token`: makes a token that the server will take.

use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use tidings_protocol::{Channel, Tag};

use super::config::report;
use super::exit::{Exit, complain};
use crate::auth::{Audience, Claims, Rights, sign};
use crate::config::{Config, FlagValue, Sources};
use crate::hub::Pattern;

/// Print a token (JWT, HS256) for a client
///
/// Patterns are exact channel names, or beginnings that end in `*`; tags are exact, or subtrees that end in `:*`; options can be repeated. The secret is the one of the
/// configuration, so that the server which runs with the same configuration takes the token.
#[derive(Args, Clone)]
pub struct TokenArgs {
    /// The user; anonymous if absent
    #[arg(long, value_name = "NAME", default_value = "")]
    user: String,
    /// Channels to subscribe to: `tickets`, `room:*`, `*`
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    subscribe: Vec<String>,
    /// Channels to publish to
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    publish: Vec<String>,
    /// Channels whose history may be read [default: those of --subscribe]
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    history: Vec<String>,
    /// Channels of which it may be known who is in them [default: those of --subscribe]
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    presence: Vec<String>,
    /// Tags to watch: `tickets`, `ticket:*`, `*`
    #[arg(long, value_name = "TAG", value_parser = tag)]
    watch: Vec<String>,
    /// Tags to mutate
    #[arg(long, value_name = "TAG", value_parser = tag)]
    mutate: Vec<String>,
    /// Channels that every connection is subscribed to without asking
    #[arg(long, value_name = "CHANNEL", value_parser = channel)]
    channel: Vec<String>,
    /// Make a token for this one channel: it goes with a `subscribe`, and is no credential of a connection
    #[arg(
        long,
        value_name = "CHANNEL",
        value_parser = channel,
        conflicts_with_all = ["subscribe", "publish", "history", "presence", "watch", "mutate", "channel"]
    )]
    only_channel: Option<String>,
    /// The token's name, by which it can be revoked
    #[arg(long, value_name = "NAME")]
    id: Option<String>,
    /// Whom limits count it to
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// How long the token holds
    #[arg(long, value_name = "DURATION", value_parser = ttl, default_value = "1h")]
    ttl: Duration,
    /// Sign with this secret instead; other users of this machine can see it while the command runs
    #[arg(long, value_name = "SECRET", conflicts_with = "secret_file")]
    secret: Option<String>,
    /// Sign with the secret in this file instead
    #[arg(long, value_name = "FILE")]
    secret_file: Option<String>,
}

/// `tidings token`. Fails only where `out` or `err` cannot be written.
pub fn run(
    args: &TokenArgs,
    sources: &Sources,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let config = match Config::load(&args.sources(sources)) {
        Ok(loaded) => loaded.config,
        Err(problems) => return report(&problems, err),
    };
    let auth = config.auth;
    let Some(secret) = auth.hmac_secret else {
        let words = "no secret to sign with: set auth.hmac_secret in the configuration that the server uses, \
                     or give --secret-file";
        return Exit::Config.because(words, err);
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let claims = Claims { iss: auth.issuer, aud: auth.audience.map(Audience::One), ..args.claims(now) };
    match sign(&claims, secret.expose()) {
        Ok(token) => {
            writeln!(out, "{token}")?;
            if args.grants_nothing() {
                complain("the token grants nothing: give --subscribe, --publish or --watch", err)?;
            }
            if args.ttl > auth.token_life_max {
                let most = humantime::format_duration(auth.token_life_max);
                complain(
                    format_args!(
                        "the server refuses it: it holds for longer than auth.token_life_max, {most}"
                    ),
                    err,
                )?;
            }
            Ok(Exit::Ok)
        }
        Err(error) => Exit::Runtime.because(format_args!("the token cannot be signed: {error}"), err),
    }
}

impl TokenArgs {
    /// A secret that is given is read, and judged, as the configuration's own would be.
    fn sources(&self, sources: &Sources) -> Sources {
        let flags = [
            ("auth.hmac_secret", "--secret", &self.secret),
            ("auth.hmac_secret_file", "--secret-file", &self.secret_file),
        ];
        let flag = |(key, name, value): (_, _, &Option<String>)| {
            Some(FlagValue { key, value: value.clone()?, name })
        };
        let given: Vec<FlagValue> = flags.into_iter().filter_map(flag).collect();
        match given.is_empty() {
            true => sources.clone(),
            // Nothing else is asked of a configuration whose secret does not count.
            false => Sources { flags: given, ..Sources::default() },
        }
    }

    fn claims(&self, now: Duration) -> Claims {
        let TokenArgs {
            user,
            subscribe,
            publish,
            history,
            presence,
            watch,
            mutate,
            channel,
            only_channel,
            id,
            tenant,
            ttl,
            ..
        } = self.clone();
        Claims {
            sub: user,
            exp: now.saturating_add(ttl).as_secs(),
            iat: Some(now.as_secs()),
            jti: id,
            tenant,
            tidings: Rights {
                subscribe,
                publish,
                history: (!history.is_empty()).then_some(history),
                presence: (!presence.is_empty()).then_some(presence),
                watch,
                mutate,
                channels: channel,
                channel: only_channel,
            },
            ..Claims::default()
        }
    }

    fn grants_nothing(&self) -> bool {
        let TokenArgs { subscribe, publish, history, presence, watch, mutate, channel, .. } = self;
        let rights = [subscribe, publish, history, presence, watch, mutate, channel];
        self.only_channel.is_none() && rights.iter().all(|rights| rights.is_empty())
    }
}

fn pattern(text: &str) -> Result<String, String> {
    Pattern::parse(text).map(|_| text.to_owned()).map_err(|invalid| invalid.0)
}

fn channel(text: &str) -> Result<String, String> {
    Channel::parse(text).map(|_| text.to_owned()).map_err(|invalid| invalid.to_string())
}

fn tag(text: &str) -> Result<String, String> {
    Tag::parse(text).map(|_| text.to_owned()).map_err(|invalid| invalid.to_string())
}

/// Tokens count whole seconds, so that a shorter life would be none.
fn ttl(text: &str) -> Result<Duration, String> {
    let ttl =
        humantime::parse_duration(text).map_err(|error| format!("{error}: write it as \"1h\" or \"90s\""))?;
    match ttl.as_secs() {
        0 => Err("a token holds for at least 1s".to_owned()),
        _ => Ok(ttl),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use clap::Parser;
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::fixture::written;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        token: TokenArgs,
    }

    fn token(args: &[&str], sources: &Sources) -> (Exit, String, String) {
        let cli = Cli::parse_from([&["token"], args].concat());
        written(|out, err| run(&cli.token, sources, out, err))
    }

    fn claims_of(token: &str) -> Value {
        let payload = token.split('.').nth(1).expect("three parts");
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).expect("base64url")).expect("JSON")
    }

    #[test]
    fn a_token_says_who_and_what_and_until_when() {
        let args = [
            "--user",
            "ada",
            "--subscribe",
            "room:*",
            "--subscribe",
            "tickets",
            "--publish",
            "room:7",
            "--watch",
            "ticket:*",
            "--mutate",
            "ticket:42",
            "--ttl",
            "90s",
        ];
        let cli = Cli::parse_from([&["token"], &args[..]].concat());
        let claims = cli.token.claims(Duration::from_secs(1_000));
        let expected = json!({ "sub": "ada", "exp": 1_090, "iat": 1_000,
            "tidings": { "subscribe": ["room:*", "tickets"], "publish": ["room:7"],
                "watch": ["ticket:*"], "mutate": ["ticket:42"] } });
        assert_eq!(serde_json::to_value(claims).unwrap(), expected);
    }

    #[test]
    fn the_secret_is_the_configurations_unless_given() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let file = folder.path().join("secret");
        std::fs::write(&file, format!("{SECRET}\n")).expect("is written");
        let file = file.to_str().expect("the path is text");
        let env = vec![("TIDINGS__AUTH__HMAC_SECRET".to_owned(), SECRET.to_owned())];
        let sources = Sources { env, ..Sources::default() };
        let signature = |args: &[&str], sources: &Sources| {
            let (exit, out, _) = token(&[&["--ttl", "365000d"], args].concat(), sources);
            assert_eq!(exit, Exit::Ok, "{args:?}");
            let expected = sign(&serde_json::from_value(claims_of(out.trim())).unwrap(), SECRET.as_bytes());
            out.trim() == expected.unwrap()
        };
        assert!(signature(&[], &sources));
        assert!(signature(&["--secret-file", file], &Sources::default()));
        assert!(signature(&["--secret", SECRET], &Sources::default()));
        assert!(!signature(&["--secret", &"x".repeat(32)], &sources), "the given one wins");
    }

    #[test]
    fn without_a_secret_there_is_no_token() {
        let (exit, out, err) = token(&["--user", "ada"], &Sources::default());
        assert_eq!((exit, out.as_str()), (Exit::Config, ""));
        assert!(err.contains("auth.hmac_secret") && err.contains("--secret-file"), "{err}");
        let (exit, out, err) = token(&["--secret", "canary"], &Sources::default());
        assert_eq!((exit, out.as_str()), (Exit::Config, ""));
        assert!(
            err.contains("--secret") && err.contains("at least 32 bytes") && !err.contains("canary"),
            "{err}"
        );
    }

    #[test]
    fn rights_that_mean_nothing_are_refused() {
        for args in [
            ["--subscribe", "a*b"],
            ["--publish", "a b"],
            ["--history", "$x"],
            ["--channel", "room:*"],
            ["--watch", "tick*"],
            ["--mutate", "a b"],
            ["--ttl", "0s"],
            ["--ttl", "999ms"],
            ["--ttl", "soon"],
        ] {
            assert!(Cli::try_parse_from([&["token"], &args[..]].concat()).is_err(), "{args:?}");
        }
        let (exit, _, err) = token(&["--secret", SECRET], &Sources::default());
        assert!(exit == Exit::Ok && err.contains("grants nothing"), "{err}");
    }
}
