use super::*;

/// The attachments, and a broker that listens when the test says so.
#[derive(Default)]
struct Scene {
    attachments: Attachments<(), u64>,
    /// What the broker was told: `+a` and `-a`.
    told: Vec<String>,
    number: u64,
    /// Like a broker in memory, which announces everything.
    listens_at_once: bool,
}

fn at(ms: u64) -> Time {
    Time(Duration::from_millis(ms))
}

fn channel(name: &str) -> Channel {
    Channel::parse(name).unwrap()
}

fn rules() -> Arc<BatchRules> {
    Arc::new(BatchRules { window: None, leading: true, publications_max: 1, bytes_max: 1 })
}

impl Scene {
    /// Attaches a session, which waits under its own number.
    fn attach(&mut self, name: &str, session: u64, now: u64) {
        let (channel, session) = (channel(name), SessionId(session));
        let attach = Attach { channel, session, mailbox: (), rules: rules(), waiter: session.0 };
        let Scene { attachments, told, number, listens_at_once } = self;
        attachments.attach(attach, at(now), |channel, wanted| {
            told.push(format!("{}{channel}", if wanted { '+' } else { '-' }));
            *number += 1;
            (!*listens_at_once).then_some(*number)
        });
    }

    fn detach(&mut self, name: &str, session: u64) {
        let told = &mut self.told;
        self.attachments.detach(&channel(name), SessionId(session), |channel, wanted| {
            told.push(format!("{}{channel}", if wanted { '+' } else { '-' }));
            None
        });
    }

    fn remove(&mut self, session: u64) {
        let told = &mut self.told;
        self.attachments.remove(SessionId(session), |channel, wanted| {
            told.push(format!("{}{channel}", if wanted { '+' } else { '-' }));
            None
        });
    }

    /// What the broker was told since the last look.
    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    fn answers(&mut self) -> Vec<(u64, Attached)> {
        std::iter::from_fn(|| self.attachments.poll_answer()).collect()
    }
}

#[test]
fn interest_begins_with_the_first_subscriber_and_ends_with_the_last() {
    let mut scene = Scene::default();
    scene.attach("a", 1, 0);
    scene.attach("a", 2, 0);
    scene.attach("b", 2, 0);
    assert_eq!(scene.told(), ["+a", "+a", "+b"], "interest is a state: saying it twice changes nothing");
    scene.detach("a", 1);
    assert!(scene.told().is_empty(), "session 2 is attached");
    scene.detach("a", 1);
    scene.detach("b", 1);
    scene.remove(1);
    scene.remove(3);
    assert!(scene.told().is_empty(), "whoever is not attached takes nothing back");
    scene.remove(2);
    assert_eq!(scene.told(), ["-a", "-b"]);
}

#[test]
fn an_attach_is_answered_once_the_broker_listens() {
    let mut scene = Scene::default();
    scene.attach("a", 1, 0);
    scene.attach("b", 2, 0);
    assert!(scene.answers().is_empty());
    scene.attachments.handle_listening(&channel("a"), 1);
    assert_eq!(scene.answers(), [(1, Attached::Listening)]);
    assert_eq!((scene.attachments.waiting(), scene.attachments.poll_timeout()), (1, Some(at(2_000))));
    scene.listens_at_once = true;
    scene.attach("c", 3, 0);
    assert_eq!(scene.answers(), [(3, Attached::Listening)]);
}

#[test]
fn an_earlier_promise_to_listen_does_not_answer_a_later_attach() {
    let mut scene = Scene::default();
    scene.attach("a", 1, 0);
    scene.remove(1);
    scene.attach("a", 2, 0);
    // The broker said this before it heard that nobody needs the channel: by now it listens no more.
    scene.attachments.handle_listening(&channel("a"), 1);
    assert!(scene.answers().is_empty());
    scene.attachments.handle_listening(&channel("a"), 2);
    assert_eq!(scene.answers(), [(2, Attached::Listening)]);
}

#[test]
fn a_broker_that_does_not_listen_in_time_refuses_who_waits() {
    let mut scene = Scene::default();
    scene.attach("a", 1, 0);
    scene.attach("a", 2, 1);
    scene.attachments.handle_timeout(at(1_999));
    assert!(scene.answers().is_empty());
    scene.attachments.handle_timeout(at(2_000));
    assert_eq!(scene.answers(), [(1, Attached::TimedOut)]);
    scene.attachments.handle_listening(&channel("a"), 2);
    assert_eq!(scene.answers(), [(2, Attached::Listening)], "nobody is answered twice");
    assert_eq!(scene.attachments.poll_timeout(), None);
    assert_eq!(scene.told(), ["+a", "+a"], "whoever was refused is attached until it is detached");
}

#[test]
fn a_session_that_ends_while_it_waits_takes_only_its_own_back() {
    let mut scene = Scene::default();
    scene.attach("a", 1, 0);
    scene.attachments.handle_listening(&channel("a"), 1);
    scene.answers();
    scene.attach("a", 2, 0);
    scene.remove(2);
    assert_eq!(scene.told(), ["+a", "+a"], "session 1 is still attached");
    scene.attachments.handle_listening(&channel("a"), 2);
    scene.attachments.handle_timeout(at(9_000));
    assert!(scene.answers().is_empty() && scene.attachments.waiting() == 0, "nobody waits any more");
}

#[test]
fn a_session_that_leaves_while_it_waits_is_not_answered() {
    let mut scene = Scene::default();
    scene.attach("a", 1, 0);
    scene.detach("a", 1);
    assert_eq!(scene.told(), ["+a", "-a"]);
    scene.attachments.handle_listening(&channel("a"), 1);
    assert!(scene.answers().is_empty() && scene.attachments.waiting() == 0);
}
