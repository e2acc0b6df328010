//! Instances of the real binary side by side, as many as a test likes, on one Redis.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitStatus;

use rustix::process::Signal;

use super::{FaultProxy, Process, Request, eventually, free_port, within};

/// What instances share.
#[derive(Clone)]
pub(crate) enum Link {
    /// Nothing: each keeps its channels in its own memory.
    None,
    /// The Redis of this URL.
    Direct(String),
    /// The Redis of this address, each instance through a proxy of its own.
    Proxied(SocketAddr),
}

/// Instances on addresses that they keep, dead or alive.
pub(crate) struct Fleet {
    pub(crate) instances: Vec<Instance>,
}

/// One of them.
pub(crate) struct Instance {
    pub(crate) address: SocketAddr,
    /// Between it and Redis.
    pub(crate) proxy: Option<FaultProxy>,
    config: String,
    process: Option<Process>,
}

impl Fleet {
    /// Starts so many instances in dev mode, configured by `toml`, and waits until they are ready. Further lines of the
    /// table `[redis]` are in `redis`.
    pub(crate) async fn start(count: usize, link: &Link, toml: &str, redis: &str) -> Fleet {
        let mut instances = Vec::new();
        for _ in 0..count {
            let mut instance = Instance::new(link, toml, redis).await;
            instance.launch();
            instances.push(instance);
        }
        for instance in &instances {
            instance.ready().await;
        }
        Fleet { instances }
    }

    /// Where they listen, for traffic.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.instances.iter().map(|instance| instance.address).collect()
    }
}

impl Instance {
    /// An instance that does not run yet.
    pub(crate) async fn new(link: &Link, toml: &str, redis: &str) -> Instance {
        let (proxy, url) = match link {
            Link::None => (None, None),
            Link::Direct(url) => (None, Some(url.clone())),
            Link::Proxied(target) => {
                let proxy = FaultProxy::start(*target).await;
                let url = proxy.url();
                (Some(proxy), Some(url))
            }
        };
        let table = url.map(|url| format!("[redis]\nurl = \"{url}\"\n{redis}\n")).unwrap_or_default();
        let address = (Ipv4Addr::LOCALHOST, free_port()).into();
        Instance { address, proxy, config: format!("{toml}\n{table}"), process: None }
    }

    /// What its file says.
    pub(crate) fn config(&self) -> &str {
        &self.config
    }

    fn launch(&mut self) {
        assert!(self.process.is_none(), "it still runs");
        let listen = self.address.to_string();
        self.process = Some(Process::start(&["dev", "--listen", &listen], &self.config));
    }

    async fn ready(&self) {
        let what = format!("readiness of {}", self.address);
        eventually(&what, async || {
            let answer = Request::new(self.address, "GET", "/readyz").try_send().await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    /// A counter of its own, summed over all series with labels that contain `label`.
    pub(crate) async fn metric(&self, name: &str, label: &str) -> f64 {
        Request::new(self.address, "GET", "/metrics").send().await.metric(name, label)
    }

    /// The process, while it runs.
    pub(crate) fn process(&self) -> &Process {
        self.process.as_ref().expect("it runs")
    }

    /// Takes the process out, to see it end.
    pub(crate) fn take_process(&mut self) -> Process {
        self.process.take().expect("it runs")
    }

    /// Starts it again on its address, after it ended.
    pub(crate) async fn start_again(&mut self) {
        self.launch();
        self.ready().await;
    }

    /// Ends it without a chance to say anything.
    pub(crate) async fn kill9(&mut self) {
        let process = self.take_process();
        process.signal(Signal::KILL);
        process.ended().await;
    }

    /// Ends it in good order; returns how it ended.
    pub(crate) async fn terminate(&mut self) -> ExitStatus {
        let process = self.take_process();
        process.signal(Signal::TERM);
        within("the end of a drain", process.ended()).await.0
    }
}
