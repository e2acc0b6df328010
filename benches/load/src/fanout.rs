//! One fan-out run from its first connection to its report: everybody in, publish, cut, wait, count.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::task::LocalSet;

use crate::book::Book;
use crate::cli::FanoutArgs;
use crate::clock::Clock;
use crate::crowd::Crowd;
use crate::error::LoadError;
use crate::frame::FrameReader;
use crate::outlet::Outlet;
use crate::process::{self, Process};
use crate::publisher::{Published, Publisher};
use crate::random::Random;
use crate::report::{FanoutReport, ServerCost};
use crate::subscriber::{Shared, Subscriber};

const POLL_PAUSE: Duration = Duration::from_millis(50);
/// Half of a common listen queue.
const HANDSHAKES_MAX: usize = 64;
/// A burst for one subscriber; more is read in several steps.
const SCRATCH_BYTES: usize = 256 * 1024;

/// Makes one run and reports what it found. Blocks; may be called inside or outside of an async runtime, for it makes its
/// own in a thread of its own.
///
/// # Errors
/// When the run could not be made: bad options, descriptors missing, subscribers that do not get in.
pub fn fanout(args: &FanoutArgs) -> Result<FanoutReport, LoadError> {
    process::raise_descriptor_limit(args.clients as usize)?;
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(LoadError::io("start the runtime"))?;
        let local = LocalSet::new();
        local.block_on(&runtime, async { Run::new(args)?.conduct().await })
    };
    std::thread::scope(|scope| scope.spawn(run).join().expect("a run reports its errors, it does not panic"))
}

/// A run and its parts.
struct Run<'a> {
    args: &'a FanoutArgs,
    clock: Clock,
    book: Arc<Mutex<Book>>,
    shared: Rc<Shared>,
    cuts: Vec<Rc<Notify>>,
    random: Random,
    server: Option<Process>,
}

/// What is read once before the first publication and once after the last delivery.
struct Meter {
    server: Option<(Duration, u64)>,
    generator: Duration,
}

impl<'a> Run<'a> {
    fn new(args: &'a FanoutArgs) -> Result<Self, LoadError> {
        args.publication_count()?;
        let clock = Clock::start();
        // Payloads of an earlier run in the same channel must not pass for ours.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let name = format!("{:x}-{:x}", since_epoch.as_micros(), std::process::id());
        let book = Arc::new(Mutex::new(Book::new(name, args.channel_names())));
        let channels = (0..args.clients).map(|client| (client % args.channels) as usize);
        let shared = Shared {
            targets: args.subscriber_targets()?,
            transport: args.transport,
            crowd: RefCell::new(Crowd::new(clock, FrameReader::new(book.clone()), channels)),
            scratch: RefCell::new(vec![0; SCRATCH_BYTES].into()),
            handshakes: Semaphore::new(HANDSHAKES_MAX),
        };
        Ok(Run {
            args,
            clock,
            book,
            shared: Rc::new(shared),
            cuts: (0..args.clients).map(|_| Rc::new(Notify::new())).collect(),
            random: Random::new(args.seed),
            server: args.pid.map(Process::of).transpose()?,
        })
    }

    async fn conduct(mut self) -> Result<FanoutReport, LoadError> {
        self.start_subscribers();
        self.wait_for_all().await?;
        let before = self.meter()?;
        let finished = self.start_publisher()?;
        let cuts = self.start_cuts();
        let published =
            finished.await.map_err(|_| LoadError::Peer("the publisher's thread ended".to_owned()))?;
        self.settle().await;
        let after = self.meter()?;
        Ok(self.report(cuts, &published, &before, &after))
    }

    fn start_subscribers(&mut self) {
        let names = self.args.channel_names();
        for (member, cut) in self.cuts.iter().enumerate() {
            let subscriber = Subscriber {
                member,
                channel: names[member % names.len()].clone(),
                shared: self.shared.clone(),
                cut: cut.clone(),
                random: Random::new(self.random.next()),
            };
            tokio::task::spawn_local(subscriber.run());
        }
    }

    async fn wait_for_all(&self) -> Result<(), LoadError> {
        let deadline = Instant::now() + Duration::from_secs(self.args.join_timeout.into());
        loop {
            tokio::time::sleep(POLL_PAUSE).await;
            let crowd = self.shared.crowd.borrow();
            let live = crowd.live_count();
            if live == self.cuts.len() {
                return Ok(());
            }
            if Instant::now() > deadline {
                let complaints = crowd.complaint_lines().join("; ");
                return Err(LoadError::Peer(format!(
                    "{live} of {} subscribers got in within {} s; seen: {complaints}",
                    self.cuts.len(),
                    self.args.join_timeout
                )));
            }
        }
    }

    fn meter(&self) -> Result<Meter, LoadError> {
        let server = match self.server {
            Some(server) => Some((server.cpu_time()?, server.resident_kib()?)),
            None => None,
        };
        Ok(Meter { server, generator: process::own_cpu_time() })
    }

    fn start_publisher(&self) -> Result<oneshot::Receiver<Published>, LoadError> {
        let publisher = Publisher {
            outlet: Outlet::new(self.args.publisher_targets()?),
            book: self.book.clone(),
            clock: self.clock,
            rate: self.args.rate,
            count: self.args.publication_count()?,
            payload_bytes: self.args.payload as usize,
        };
        let (finished, receiver) = oneshot::channel();
        std::thread::Builder::new()
            .name("publisher".to_owned())
            // The receiver is gone only when the run was given up; then nobody wants the outcome.
            .spawn(move || drop(finished.send(publisher.run())))
            .map_err(LoadError::io("start the publisher's thread"))?;
        Ok(receiver)
    }

    /// Plans the cuts, spread over the run, and returns their number.
    fn start_cuts(&mut self) -> u64 {
        let count = self.cuts.len() * self.args.cut_percent as usize / 100;
        let duration = f64::from(self.args.seconds);
        let mut plan: Vec<(Duration, Rc<Notify>)> = self
            .random
            .choose(count, self.cuts.len())
            .into_iter()
            // Not at the very start and end, so that every cut falls between publications.
            .map(|member| (duration * (0.05 + 0.85 * self.random.fraction()), self.cuts[member].clone()))
            .map(|(seconds, cut)| (Duration::from_secs_f64(seconds), cut))
            .collect();
        plan.sort_by_key(|(due, _)| *due);
        let start = tokio::time::Instant::now();
        tokio::task::spawn_local(async move {
            for (due, cut) in plan {
                tokio::time::sleep_until(start + due).await;
                cut.notify_one();
            }
        });
        count as u64
    }

    /// Waits until everybody has everything, or until the time for it is over.
    async fn settle(&self) {
        let deadline = Instant::now() + Duration::from_secs(self.args.settle.into());
        while Instant::now() < deadline {
            tokio::time::sleep(POLL_PAUSE).await;
            let owed = self.owed();
            if self.shared.crowd.borrow().is_settled(|channel| owed[channel]) {
                return;
            }
        }
    }

    /// Number of the last publication owed, by channel.
    fn owed(&self) -> Vec<u64> {
        let book = self.book.lock().expect("no holder of the book panics");
        (0..book.channel_count()).map(|channel| book.acknowledged(channel)).collect()
    }

    fn report(&self, cuts: u64, published: &Published, before: &Meter, after: &Meter) -> FanoutReport {
        let owed = self.owed();
        let mut crowd = self.shared.crowd.borrow_mut();
        let (tally, findings) = crowd.finish(|channel| owed[channel]);
        let per_million = |time: Duration| time.as_secs_f64() * 1e6 / (tally.delivered.max(1) as f64);
        let server =
            before.server.zip(after.server).map(|((cpu_before, rss_before), (cpu_after, rss_after))| {
                ServerCost {
                    cpu_per_million: per_million(cpu_after.saturating_sub(cpu_before)),
                    resident_before_kib: rss_before,
                    resident_after_kib: rss_after,
                }
            });
        FanoutReport {
            transport: self.args.transport,
            clients: self.args.clients,
            channels: self.args.channels,
            payload: self.args.payload,
            rate_asked: self.args.rate,
            rate_achieved: published.acknowledged as f64 / published.elapsed.as_secs_f64().max(1e-9),
            published: published.acknowledged,
            publish_retries: published.retries,
            publish_failure: published.failure.clone(),
            expected: (0..self.cuts.len()).map(|client| owed[client % owed.len()]).sum(),
            delivered: tally.delivered,
            lost: tally.lost,
            gaps: tally.gaps,
            missing_in_gaps: tally.declared,
            duplicates: tally.duplicates,
            repeats: tally.repeats,
            disorder: tally.disorder,
            foreign: tally.foreign + published.contradictions,
            discontinuities: tally.discontinuities,
            errors: crowd.errors,
            cuts,
            reconnects: crowd.reconnects,
            resumed: tally.resumed,
            steady: crowd.steady.summary(),
            catch_up: crowd.catch_up.summary(),
            acknowledgement: published.answers.summary(),
            generator_cpu_per_million: per_million(after.generator.saturating_sub(before.generator)),
            server,
            findings,
        }
    }
}
