//! One mutation log, who watches it, and the fault.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::Mutex;

use super::hub::{Fault, text_frame};

#[derive(Debug)]
pub(crate) struct Log {
    fault: Fault,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    offset: u64,
    watchers: Vec<(Vec<String>, TcpStream)>,
}

impl Log {
    pub(crate) fn new(fault: Fault) -> Self {
        Log { fault, state: Mutex::default() }
    }

    /// Tells everybody who watches one of the tags that it was touched, and returns the mutation's offset.
    pub(crate) fn touch(&self, tags: &[String]) -> u64 {
        let mut state = self.state.lock().unwrap();
        state.offset += 1;
        let offset = state.offset;
        let times = match self.fault {
            Fault::Drop(at) if at == offset => 0,
            Fault::Repeat(at) if at == offset => 2,
            _ => 1,
        };
        state.watchers.retain_mut(|(watched, socket)| {
            let touched: Vec<String> = tags
                .iter()
                .filter(|tag| watched.contains(tag))
                .map(|tag| format!(r#""{tag}":{offset}"#))
                .collect();
            let frame = format!(
                r#"{{"invalidated":{{"at":{{"epoch":"e1","offset":{offset}}},"tags":{{{}}}}}}}"#,
                touched.join(",")
            );
            let frame = text_frame(&frame).repeat(times);
            touched.is_empty() || socket.write_all(&frame).is_ok()
        });
        offset
    }

    pub(crate) fn watch(&self, tags: Vec<String>, id: u64, socket: &TcpStream) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        let answer = format!(
            r#"{{"id":{id},"watched":{{"at":{{"epoch":"e1","offset":{}}},"stale":[],"denied":[],"escalated":[]}}}}"#,
            state.offset
        );
        (&*socket).write_all(&text_frame(&answer))?;
        state.watchers.push((tags, socket.try_clone()?));
        Ok(())
    }
}
