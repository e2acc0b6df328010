//! One subscriber: connects, subscribes, reads until it is cut, and goes on from where it stood, at the next server if there
//! are several.
//! What it reads is judged in crowd.rs; this file knows sockets and the order of steps.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};

use crate::crowd::Crowd;
use crate::http::{Head, Target};
use crate::link::{Ended, Link, Transport};
use crate::random::Random;

/// From the cut of a connection to the next try.
const RECONNECT_PAUSE_MS: (u64, u64) = (50, 500);
/// Tries in a row without getting in, after which a subscriber stays away: 100 * 275 ms are half a minute.
const FAILURES_MAX: u32 = 100;
/// From connecting to the response head.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);

/// What all subscribers of a run share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// At least one; member i begins at number i modulo their count.
    pub(crate) targets: Vec<Target>,
    pub(crate) transport: Transport,
    pub(crate) crowd: RefCell<Crowd>,
    /// One read buffer for everybody: between reads a subscriber holds only what is incomplete.
    pub(crate) scratch: RefCell<Box<[u8]>>,
    /// Bounds the handshakes under way, so that a listen queue of 128 does not overflow.
    pub(crate) handshakes: Semaphore,
}

/// One member of the crowd.
#[derive(Debug)]
pub(crate) struct Subscriber {
    pub(crate) member: usize,
    pub(crate) channel: String,
    pub(crate) shared: Rc<Shared>,
    /// Told when the connection is to be cut.
    pub(crate) cut: Rc<Notify>,
    pub(crate) random: Random,
}

impl Subscriber {
    /// Stays subscribed until it is dropped, or gives up after too many failures in a row.
    pub(crate) async fn run(mut self) {
        let mut link = Link::new(self.shared.transport, self.member, &self.channel);
        let mut failures = 0;
        let shared = self.shared.clone();
        for target in shared.targets.iter().cycle().skip(self.member % shared.targets.len()) {
            let joined_before = link.joins();
            let ended = self.connection(target, &mut link).await;
            failures = if link.joins() > joined_before { 0 } else { failures + 1 };
            self.note_end(ended, &mut link);
            if failures == FAILURES_MAX {
                return;
            }
            let (least, most) = RECONNECT_PAUSE_MS;
            tokio::time::sleep(Duration::from_millis(least + self.random.below(most - least))).await;
        }
    }

    fn note_end(&self, ended: Ended, link: &mut Link) {
        let mut crowd = self.shared.crowd.borrow_mut();
        crowd.left(self.member);
        link.reset(crowd.judge(self.member));
        if let Ended::Otherwise(reason) = ended {
            crowd.complain(reason);
        }
    }

    /// One connection from its opening to its end.
    async fn connection(&mut self, target: &Target, link: &mut Link) -> Ended {
        let opening = tokio::time::timeout(HANDSHAKE_TIMEOUT, self.open(target, link));
        let opened =
            opening.await.unwrap_or_else(|_| Err(Ended::Otherwise("no answer to the handshake".into())));
        let (mut stream, rest) = match opened {
            Ok(opened) => opened,
            Err(ended) => return ended,
        };
        let mut received = link.receive(&rest, &mut self.shared.crowd.borrow_mut());
        loop {
            match received {
                Ok(reply) if reply.is_empty() => {}
                Ok(reply) => {
                    if let Err(error) = stream.write_all(&reply).await {
                        return Ended::Otherwise(format!("write: {error}"));
                    }
                }
                Err(ended) => return ended,
            }
            received = tokio::select! {
                biased;
                () = self.cut.notified() => Err(reset(&stream)),
                received = poll_fn(|context| self.poll_receive(context, &mut stream, link)) => received,
            };
        }
    }

    /// Connects and asks for the subscription; returns the stream and what came behind the response head.
    async fn open(&self, target: &Target, link: &mut Link) -> Result<(TcpStream, Vec<u8>), Ended> {
        let failed =
            |what: &'static str| move |error: std::io::Error| Ended::Otherwise(format!("{what}: {error}"));
        let _permit = self.shared.handshakes.acquire().await.expect("never closed");
        let mut stream = TcpStream::connect(target.address).await.map_err(failed("connect"))?;
        stream.set_nodelay(true).map_err(failed("connect"))?;
        let position = self.shared.crowd.borrow_mut().judge(self.member).position().cloned();
        stream.write_all(&link.request(target)).await.map_err(failed("handshake"))?;
        let mut received = Vec::with_capacity(512);
        let head = loop {
            match Head::parse(&received) {
                Ok(Some(head)) => break head,
                Ok(None) => {}
                Err(error) => return Err(Ended::Otherwise(error.to_string())),
            }
            if stream.read_buf(&mut received).await.map_err(failed("handshake"))? == 0 {
                return Err(Ended::Otherwise("closed during the handshake".to_owned()));
            }
        };
        link.accept(&head)?;
        if let Some(command) = link.subscribe_command(position.as_ref()) {
            stream.write_all(&command).await.map_err(failed("subscribe"))?;
        }
        Ok((stream, received.split_off(head.length)))
    }

    /// Reads what is there and has it judged; ready with what must be answered.
    fn poll_receive(
        &self,
        context: &mut Context<'_>,
        stream: &mut TcpStream,
        link: &mut Link,
    ) -> Poll<Result<Vec<u8>, Ended>> {
        let mut scratch = self.shared.scratch.borrow_mut();
        let mut buffer = ReadBuf::new(&mut scratch);
        if let Err(error) = ready!(Pin::new(stream).poll_read(context, &mut buffer)) {
            return Poll::Ready(Err(Ended::Otherwise(format!("read: {error}"))));
        }
        if buffer.filled().is_empty() {
            return Poll::Ready(Err(Ended::Otherwise("closed by the server".to_owned())));
        }
        Poll::Ready(link.receive(buffer.filled(), &mut self.shared.crowd.borrow_mut()))
    }
}

/// Has the stream end in a reset, not in a goodbye, when it is dropped; that leaves no port waiting either.
fn reset(stream: &TcpStream) -> Ended {
    match stream.set_zero_linger() {
        Ok(()) => Ended::Cut,
        Err(error) => Ended::Otherwise(format!("cut: {error}")),
    }
}
