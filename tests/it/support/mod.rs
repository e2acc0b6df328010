//! What all tests share: servers in this process, the real binary, and clients of every kind.

mod fault_proxy;
mod faults;
mod fleet;
mod http;
mod port;
mod process;
mod raw_websocket;
mod redis;
mod server;
mod sse;
mod token;
mod traffic;
mod wait;
mod websocket;

pub(crate) use fault_proxy::{FaultProxy, Way};
pub(crate) use faults::{faults_asked, is_soak, sized};
pub(crate) use fleet::{Fleet, Instance, Link};
pub(crate) use http::{Answer, Request, read_head};
pub(crate) use port::free_port;
pub(crate) use process::{Process, program};
pub(crate) use raw_websocket::{RawFrame, RawWebSocket};
pub(crate) use redis::{Data, RedisCluster, RedisServer, Reply, SentinelGroup};
pub(crate) use server::{TestServer, config};
pub(crate) use sse::EventStream;
pub(crate) use token::{API_KEY, SECRET, Token, auth_config};
pub(crate) use traffic::{Outcome, Traffic, TrafficPlan};
pub(crate) use wait::{eventually, within};
pub(crate) use websocket::{Closed, WebSocket};
