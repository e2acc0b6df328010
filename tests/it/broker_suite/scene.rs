//! What can be made to happen to a Redis, a real one and the model alike.

use super::model::ModelSubject;
use super::subject::{BrokerSubject, Subject};
use crate::support::{Data, RedisServer};

/// A broker, and what happens to its data.
pub(super) trait Scene {
    type Subject: Subject;

    /// The broker, as an instance uses it.
    fn subject(&mut self) -> &mut Self::Subject;

    /// The replica has all that was stored until now, and gets nothing of what comes.
    async fn cut_replica(&mut self);

    /// What the replica has takes the place of what the primary has.
    async fn take_over(&mut self);

    /// Ends, and begins again.
    async fn restart(&mut self, data: Data);
}

/// Redis, perhaps with a replica.
pub(super) struct RedisScene {
    server: RedisServer,
    replica: Option<RedisServer>,
    subject: BrokerSubject,
}

impl RedisScene {
    pub(super) async fn single() -> RedisScene {
        let server = RedisServer::start("").await;
        let subject = BrokerSubject::redis(&server, "").await;
        RedisScene { server, replica: None, subject }
    }

    pub(super) async fn with_replica() -> RedisScene {
        let [server, replica] = [RedisServer::start("").await, RedisServer::start("").await];
        replica.replica_of(&server).await;
        let subject = BrokerSubject::redis(&server, "").await;
        RedisScene { server, replica: Some(replica), subject }
    }

    fn replica(&self) -> &RedisServer {
        self.replica.as_ref().expect("it was begun with a replica")
    }
}

impl Scene for RedisScene {
    type Subject = BrokerSubject;

    fn subject(&mut self) -> &mut BrokerSubject {
        &mut self.subject
    }

    async fn cut_replica(&mut self) {
        self.replica().wait_in_sync(&self.server).await;
        self.replica().promote().await;
    }

    /// At the same address, as behind a name that now leads elsewhere.
    async fn take_over(&mut self) {
        let id = self.server.replid().await;
        self.server.replica_of(self.replica()).await;
        self.server.promote().await;
        assert_ne!(self.server.replid().await, id, "the failover happened");
    }

    async fn restart(&mut self, data: Data) {
        let id = self.server.replid().await;
        self.server.restart(data).await;
        assert_ne!(self.server.replid().await, id, "the restart happened");
    }
}

impl Scene for ModelSubject {
    type Subject = ModelSubject;

    fn subject(&mut self) -> &mut ModelSubject {
        self
    }

    async fn cut_replica(&mut self) {
        self.alone.cut_replica();
    }

    async fn take_over(&mut self) {
        self.alone.take_over();
    }

    async fn restart(&mut self, data: Data) {
        match data {
            Data::Kept => self.alone.restart_with_data(),
            Data::Gone => self.alone.restart_empty(),
        }
    }
}
