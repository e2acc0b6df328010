//! A session, its mailbox and its channel's history, in any interleaving: what the client is handed is contiguous, or a
//! gap was declared; and once everything has come to rest, the client stands at the head.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tidings::hub::{
    Action, Answer, Batch, CatchUp, CursorState, Grant, Heartbeat, Mail, Mailbox, PageLimit, Retention,
    Session, SessionConfig, Stream, Time, Transmit, Urgency,
};
use tidings_protocol::{
    BatchFrame, Code, Command, Continuity, Frame, HelloFrame, HistoryCommand, Offset, Outstanding, Position,
    Publication, Reaction, SubscribeCommand, SubscribedFrame,
};

use super::{channel, config, epoch, publication};

const CHANNEL: &str = "c";
const RETRY_AFTER: Duration = Duration::from_millis(500);

#[derive(Clone, Debug)]
enum Step {
    /// The channel gets publications.
    Publish { count: usize },
    /// What was published leaves as a batch.
    Seal,
    /// The broker loses what was not sealed yet, and says so.
    Lose,
    /// The channel's numbering begins anew, with nothing in it.
    Restart,
    /// The session empties its mailbox.
    Deliver,
    /// The session's next action is carried out; its answer is on its way.
    Act,
    /// The answer arrives; or an error in its place.
    Answer { fails: bool },
    /// The client reads what was written.
    Read,
    /// The connection is cut; the client comes back.
    Cut,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (1..6_usize).prop_map(|count| Step::Publish { count }),
        10 => Just(Step::Seal),
        1 => Just(Step::Lose),
        1 => Just(Step::Restart),
        8 => Just(Step::Deliver),
        12 => Just(Step::Act),
        12 => prop::bool::weighted(0.1).prop_map(|fails| Step::Answer { fails }),
        12 => Just(Step::Read),
        2 => Just(Step::Cut),
    ]
}

/// What the client's program was handed, judged as it comes.
#[derive(Default)]
struct Program {
    last: Option<u64>,
    gap_told: bool,
    received: usize,
}

impl Program {
    fn deliver(&mut self, publication: &Publication) -> Result<(), String> {
        let offset = publication.offset.expect("the channel has history").0;
        let follows = self.last.is_none_or(|last| offset == last + 1);
        if !follows && !self.gap_told {
            return Err(format!("offset {offset} came after {:?}, and no gap was told", self.last));
        }
        (self.last, self.gap_told) = (Some(offset), false);
        self.received += 1;
        Ok(())
    }
}

struct World {
    catch_up: CatchUp,
    now: Time,
    restarts: u64,
    stream: Stream,
    retention: Retention,
    /// Published since the session was attached, and not in a batch yet.
    unsealed: Vec<Arc<Publication>>,
    attached: bool,
    mailbox: Mailbox,
    session: Session,
    answer: Option<Answer>,
    continuity: Continuity,
    program: Program,
}

impl World {
    fn new(catch_up: CatchUp) -> World {
        let retention =
            Retention { publications_max: 12, bytes_max: 1 << 20, age_max: Duration::from_secs(3_600) };
        let mut world = World {
            catch_up,
            now: Time::ZERO,
            restarts: 0,
            stream: Stream::new(epoch(0)),
            retention,
            unsealed: Vec::new(),
            attached: false,
            mailbox: Mailbox::new(600),
            session: session(catch_up, None, Time::ZERO),
            answer: None,
            continuity: Continuity::new(),
            program: Program::default(),
        };
        world.connect();
        world
    }

    fn step(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Publish { count } => self.publish(*count),
            Step::Seal => self.seal(),
            Step::Lose => {
                self.unsealed.clear();
                if self.attached {
                    self.mailbox.forget(&channel(CHANNEL));
                }
            }
            Step::Restart => {
                self.restarts += 1;
                self.stream = Stream::new(epoch(self.restarts));
                self.unsealed.clear();
            }
            Step::Deliver => self.deliver(),
            Step::Act => {
                // A session is asked for actions once all that it had to say is written.
                self.read()?;
                self.act();
            }
            Step::Answer { fails } => self.answer(*fails),
            Step::Read => self.read()?,
            Step::Cut => self.cut()?,
        }
        Ok(())
    }

    fn publish(&mut self, count: usize) {
        for _ in 0..count {
            let kept = self.stream.append(publication(None, 20), &self.retention, self.now);
            if self.attached {
                self.unsealed.push(kept);
            }
        }
    }

    fn seal(&mut self) {
        let publications = std::mem::take(&mut self.unsealed);
        if !publications.is_empty() {
            let batch = Batch::new(channel(CHANNEL), Some(self.stream.epoch().clone()), publications);
            self.mailbox.offer(&Arc::new(batch), Urgency::Tick, self.now);
        }
    }

    fn deliver(&mut self) {
        let mut mail = Mail::default();
        if !self.mailbox.take(&mut mail) {
            return;
        }
        for batch in &mail.batches {
            self.session.handle_batch(batch);
        }
        for (channel, why) in &mail.forgotten {
            self.session.handle_forgotten(channel, *why);
        }
    }

    fn act(&mut self) {
        if self.session.poll_timeout().is_some_and(|at| at <= self.now) {
            self.session.handle_timeout(self.now);
        }
        let Some(action) = self.session.poll_action() else { return };
        self.answer = Some(match action {
            Action::Join { since, limit, .. } => {
                self.attached = true;
                Answer::Joined(Ok(Some(self.stream.read(since.as_ref(), limit))))
            }
            Action::Resume { since, limit, .. } => Answer::Read(Ok(self.stream.read(Some(&since), limit))),
            Action::Read { since, limit, .. } => Answer::Read(Ok(self.stream.read(since.as_ref(), limit))),
            Action::Leave { .. } => {
                self.detach();
                Answer::Left
            }
            action => panic!("nobody asked for {action:?}"),
        });
    }

    fn answer(&mut self, fails: bool) {
        let Some(answer) = self.answer.take() else { return };
        let answer = match answer {
            Answer::Joined(_) if fails => {
                self.detach();
                Answer::Joined(Err(Code::BrokerUnavailable.into()))
            }
            Answer::Read(_) if fails => Answer::Read(Err(Code::BrokerUnavailable.into())),
            answer => answer,
        };
        self.session.handle_answer(answer, self.now);
        self.now = self.now.after(RETRY_AFTER);
    }

    fn detach(&mut self) {
        self.attached = false;
        self.unsealed.clear();
    }

    fn read(&mut self) -> Result<(), String> {
        while let Some(transmit) = self.session.poll_transmit() {
            match transmit {
                Transmit::Frame(envelope) => self.read_frame(envelope.frame)?,
                Transmit::Batch { batch, from } => {
                    let reactions = self.continuity.batch(&frame_of(&batch, from));
                    self.react(reactions)?;
                }
                Transmit::Ping => {}
                Transmit::Close(_) => return self.cut(),
            }
        }
        Ok(())
    }

    fn read_frame(&mut self, frame: Frame) -> Result<(), String> {
        let reactions = match frame {
            Frame::Hello(_) if self.catch_up == CatchUp::ByServer => self.greeted(),
            Frame::Hello(_) | Frame::Unsubscribed(_) => Vec::new(),
            Frame::Subscribed(frame) => self.continuity.subscribed(&frame),
            Frame::History(frame) => self.continuity.history(&frame),
            Frame::Gap(frame) => self.continuity.gap(&frame),
            Frame::Error(error) if error.retryable => {
                self.ask();
                Vec::new()
            }
            frame => return Err(format!("nobody asked for {frame:?}")),
        };
        self.react(reactions)
    }

    /// An event stream says no `subscribed`: its cursor tells where each channel stands.
    fn greeted(&mut self) -> Vec<Reaction> {
        let since = self.continuity.position().cloned();
        let stands = self.session.positions().next().map(|(_, position)| position.clone());
        self.continuity.subscribed(&SubscribedFrame {
            channel: channel(CHANNEL),
            recovered: since.is_some().then_some(true),
            position: since.or(stands),
            more: false,
            publications: Vec::new(),
        })
    }

    fn react(&mut self, reactions: Vec<Reaction>) -> Result<(), String> {
        for reaction in reactions {
            match reaction {
                Reaction::Deliver(publication) => self.program.deliver(&publication)?,
                Reaction::Gap(_) => self.program.gap_told = true,
                Reaction::AskHistory(_) => self.ask(),
                Reaction::Resubscribe(at) => {
                    return Err(format!("the client found a hole at {at:?} by itself"));
                }
            }
        }
        Ok(())
    }

    /// Says the command that the client waits for.
    fn ask(&mut self) {
        let (channel, since) = (channel(CHANNEL), self.continuity.position().cloned());
        let command = match self.continuity.outstanding() {
            Some(Outstanding::Subscribe) => Command::Subscribe(SubscribeCommand::new(channel, since)),
            Some(Outstanding::History) => Command::History(HistoryCommand { channel, since, limit: None }),
            None => return,
        };
        self.session.handle_command(Some(1), command);
    }

    fn cut(&mut self) -> Result<(), String> {
        let reactions = self.continuity.disconnected();
        self.react(reactions)?;
        self.connect();
        Ok(())
    }

    fn connect(&mut self) {
        self.detach();
        self.mailbox = Mailbox::new(600);
        self.answer = None;
        self.session = session(self.catch_up, self.continuity.position().cloned(), self.now);
        if self.catch_up == CatchUp::ByClient {
            self.ask();
        }
    }

    /// Lets everything happen that is on its way, and demands that the client stands at the head and receives what
    /// is published then.
    fn come_to_rest(&mut self) -> Result<(), String> {
        // What began anew is noticed by what is published after it, so nobody can know before.
        if self.stream.head().offset == Offset(0) {
            self.publish(1);
        }
        self.rest()?;
        let received = self.program.received;
        self.publish(1);
        self.rest()?;
        match self.program.received == received + 1 {
            true => Ok(()),
            false => Err("what was published at rest did not arrive".to_owned()),
        }
    }

    fn rest(&mut self) -> Result<(), String> {
        for _ in 0..20 {
            for step in [Step::Seal, Step::Deliver, Step::Act, Step::Answer { fails: false }, Step::Read] {
                self.step(&step)?;
            }
        }
        let (position, head) = (self.continuity.position(), self.stream.head());
        match position == Some(&head) {
            true => Ok(()),
            false => Err(format!("the client stands at {position:?}, the channel at {head:?}")),
        }
    }
}

fn frame_of(batch: &Batch, from: Option<Offset>) -> BatchFrame {
    let span = batch.span.as_ref().expect("the channel has history");
    let first = from.unwrap_or(span.first);
    BatchFrame {
        channel: batch.channel.clone(),
        epoch: Some(span.epoch.clone()),
        first: Some(first),
        last: Some(span.last),
        publications: batch.publications.iter().filter(|p| p.offset >= Some(first)).cloned().collect(),
    }
}

/// A session with small bounds, so that each is met often.
fn session(catch_up: CatchUp, since: Option<Position>, now: Time) -> Session {
    let hello = HelloFrame {
        session: String::new(),
        ping_interval_ms: 25_000,
        timeout_ms: 60_000,
        batch_ms: 100,
        lease_ms: 15_000,
        message_bytes_max: 1_000,
        command_bytes_max: 65_536,
    };
    let config = SessionConfig {
        hello,
        broker: "model",
        catch_up,
        heartbeat: Heartbeat { interval: Duration::from_secs(1 << 30), timeout: None },
        age_max: None,
        hello_timeout: Duration::from_secs(5),
        retry_after: RETRY_AFTER,
        channels_max: 2,
        members_max: 2,
        tags_per_command_max: 100,
        lease: Duration::from_secs(15),
        commands_max: 8,
        message_bytes_max: 1_000,
        waiting_bytes_max: 700,
        page: PageLimit { publications: 3, bytes: 10_000 },
    };
    let session = Session::new(Arc::new(config), "s".to_owned(), Some(Grant::open()), 0.5, now);
    match catch_up {
        CatchUp::ByClient => session,
        CatchUp::ByServer => {
            let subscribe = SubscribeCommand::new(channel(CHANNEL), since);
            session.with_channels(vec![subscribe], Vec::new(), CursorState::Read)
        }
    }
}

/// Plays a history; what is wrong with it, if anything is.
fn play(catch_up: CatchUp, steps: &[Step]) -> Result<(), String> {
    let mut world = World::new(catch_up);
    steps.iter().try_for_each(|step| world.step(step))?;
    world.come_to_rest()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_client_that_pages_is_given_everything_or_told(steps in prop::collection::vec(step(), 1..150)) {
        play(CatchUp::ByClient, &steps).map_err(TestCaseError::fail)?;
    }

    #[test]
    fn a_stream_that_the_server_pages_for_is_given_everything_or_told(steps in prop::collection::vec(step(), 1..150)) {
        play(CatchUp::ByServer, &steps).map_err(TestCaseError::fail)?;
    }
}

/// The model must notice each missing safeguard, or it proves nothing.
#[cfg(feature = "ablation")]
#[test]
fn a_missing_safeguard_is_noticed() {
    use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
    use tidings::ablation::{Safeguard, ablate};

    let config = Config { cases: 2_000, max_shrink_iters: 0, ..config() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::default());
    for safeguard in [Safeguard::RangeCheck, Safeguard::GapOnOverflow] {
        for catch_up in [CatchUp::ByClient, CatchUp::ByServer] {
            let mut runner = TestRunner::new_with_rng(config.clone(), rng.clone());
            let steps = prop::collection::vec(step(), 1..150);
            ablate(Some(safeguard));
            let outcome = runner.run(&steps, |steps| play(catch_up, &steps).map_err(TestCaseError::fail));
            ablate(None);
            assert!(outcome.is_err(), "without {safeguard:?} nothing was seen to go wrong");
        }
    }
}
