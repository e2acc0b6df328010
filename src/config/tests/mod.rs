//! Configuration as a whole: sources in, a `Config` or a report out.

use std::fs;

use tempfile::TempDir;

use super::{Config, FlagValue, Loaded, Sources};

mod layers;
mod rendered;
mod reports;
mod secrets;

const SECRET: &str = "canary-canary-canary-canary-canary";

/// A folder with `t.toml` in it, and what else configures a server.
struct Setup {
    folder: TempDir,
    sources: Sources,
}

fn file(text: &str) -> Setup {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let path = folder.path().join("t.toml");
    fs::write(&path, text).expect("the file is written");
    Setup { folder, sources: Sources { file: Some(path), ..Sources::default() } }
}

impl Setup {
    fn beside(self, name: &str, content: &[u8]) -> Setup {
        fs::write(self.folder.path().join(name), content).expect("the file is written");
        self
    }

    fn env(mut self, name: &str, value: &str) -> Setup {
        self.sources.env.push((name.to_owned(), value.to_owned()));
        self
    }

    fn listen_flag(mut self, value: &str) -> Setup {
        let value = value.to_owned();
        self.sources.flags.push(FlagValue { key: "server.listen", value, name: "--listen" });
        self
    }

    fn loaded(&self) -> Loaded {
        Config::load(&self.sources).unwrap_or_else(|problems| panic!("{problems}"))
    }

    fn config(&self) -> Config {
        self.loaded().config
    }

    /// The report without the test's folder and without its last line, which counts.
    fn report(&self) -> String {
        let problems = Config::load(&self.sources).expect_err("is refused");
        let report = problems.to_string().replace(&format!("{}/", self.folder.path().display()), "");
        let (report, _) = report.rsplit_once("\n\n").expect("the report ends with a count");
        report.to_owned()
    }
}
