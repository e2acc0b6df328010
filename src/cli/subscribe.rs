//! `tidings sub`: prints what is published, for as long as anybody wants to see it.
//!
//! ```text
//!   Link ── opens ──▶ websocket · event stream ── frames, events ──▶ Conversation · Stream ── steps ──▶ Output
//!     └── pauses with full jitter ◀── cut ──┘                      (pure: what is missing?)
//! ```
//! Whatever is lost is said: a cut is resumed at the last position, and what cannot be resumed is a gap.

mod conversation;
mod event_source;
mod link;
mod output;
mod step;
mod stream;
mod websocket;

use std::io::{self, IsTerminal, Write};

use clap::Args;
use tidings_protocol::{Channel, Code, Position, Problem};

use self::conversation::Conversation;
use self::link::Link;
use self::output::{Form, Output};
use self::step::End;
use self::stream::Stream;
use super::exit::Exit;
use super::target::{Target, TargetArgs};
use crate::config::Sources;

/// Print what is published on channels, as it comes
///
/// A line has the time (UTC), the channel, the offset (`-` where the channel keeps no history) and the data; bytes are
/// shown as base64. After a cut the connection is made again and resumed; what is lost is reported as a gap.
#[derive(Args, Clone)]
pub struct SubscribeArgs {
    /// The channels, such as `tickets` or `room:7`
    #[arg(value_name = "CHANNEL", required = true)]
    channels: Vec<String>,
    /// Use server-sent events instead of a WebSocket
    #[arg(long)]
    sse: bool,
    /// Print one JSON object per line: gaps as `{"gap":{…}}`, outages as `{"degraded":{…}}` and `{"restored":{…}}`
    #[arg(long)]
    json: bool,
    /// Start after this position of the channel instead of now: `7-k3v9q.42`
    #[arg(long, value_name = "POSITION")]
    since: Option<Position>,
    /// End after so many publications
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    target: TargetArgs,
}

/// `tidings sub`, until Ctrl-C, `--count` or the server's last word. Fails only where `out` or `err` cannot be written.
pub async fn run(
    args: &SubscribeArgs,
    sources: &Sources,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<Exit> {
    let wants_colour = !sources.env.iter().any(|(name, value)| name == "NO_COLOR" && !value.is_empty());
    let form = match args.json {
        true => Form::Json,
        false => Form::Text { colour: wants_colour && io::stdout().is_terminal() },
    };
    tokio::select! {
        exit = follow(args, sources, Output::new(form, args.count, out, err)) => exit,
        interrupted = tokio::signal::ctrl_c() => interrupted.map(|()| Exit::Ok),
    }
}

async fn follow(args: &SubscribeArgs, sources: &Sources, mut output: Output<'_>) -> io::Result<Exit> {
    let target = match Target::new(&args.target, &sources.env) {
        Ok(target) => target,
        Err(invalid) => return Exit::Usage.because(invalid, output.err),
    };
    let channels = match channels(&args.channels) {
        Ok(channels) => channels,
        Err(problem) => return Exit::Runtime.because(problem, output.err),
    };
    if args.since.is_some() && channels.len() > 1 {
        let words = "--since is a position of one channel: subscribe to that one alone";
        return Exit::Usage.because(words, output.err);
    }
    let mut reader = match args.sse {
        true => Reader::EventSource(Stream::new(channels, args.since.clone())),
        false => Reader::WebSocket(Conversation::new(channels, args.since.clone())),
    };
    let mut link = Link::new(target);
    loop {
        let end = match &mut reader {
            Reader::WebSocket(conversation) => websocket::read(&mut link, conversation, &mut output).await?,
            Reader::EventSource(stream) => event_source::read(&mut link, stream, &mut output).await?,
        };
        match end {
            End::Counted => return Ok(Exit::Ok),
            End::Refused(words) => return Exit::Runtime.because(words, output.err),
            End::Cut { why, after } => {
                let pause = link.pause(after);
                output.note(format_args!("{why}; coming back in {} ms", pause.as_millis()))?;
                tokio::time::sleep(pause).await;
            }
        }
    }
}

/// What was read so far outlives each of its connections.
enum Reader {
    WebSocket(Conversation),
    EventSource(Stream),
}

/// Each channel once.
fn channels(names: &[String]) -> Result<Vec<Channel>, Problem> {
    let mut channels = Vec::with_capacity(names.len());
    for name in names {
        let channel = Channel::parse(name);
        let channel = channel.map_err(|invalid| Problem::new(Code::ChannelInvalid, invalid.to_string()))?;
        if !channels.contains(&channel) {
            channels.push(channel);
        }
    }
    Ok(channels)
}

#[cfg(test)]
mod tests;
