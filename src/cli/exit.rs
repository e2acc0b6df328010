//! How a command ends, and how it says why.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

/// How a command ends; the numbers are part of the command line's contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything was done.
    Ok = 0,
    /// Something outside failed: a file, the network, the server said no.
    Runtime = 1,
    /// The command line asks for what cannot be, such as dev mode on a public address.
    Usage = 2,
    /// The configuration is wrong (`EX_CONFIG` of sysexits.h).
    Config = 78,
}

impl Exit {
    /// Says why on `err` and ends so. Fails only where `err` cannot be written.
    pub fn because(self, why: impl Display, err: &mut dyn Write) -> io::Result<Exit> {
        complain(why, err)?;
        Ok(self)
    }

    /// The end of a command that fails only where its output cannot be written. Output that nobody reads any more, as
    /// with `| head`, is no failure; others are told to `err`, as far as that can be written.
    pub fn of(written: io::Result<Exit>, err: &mut dyn Write) -> Exit {
        match written {
            Ok(exit) => exit,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
            Err(error) => Exit::Runtime.because(error, err).unwrap_or(Exit::Runtime),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// One line that starts with the program's name.
pub(super) fn complain(words: impl Display, err: &mut dyn Write) -> io::Result<()> {
    writeln!(err, "tidings: {}", printable(&words.to_string()))?;
    err.flush()
}

/// The same text without characters that would command a terminal: others choose some of the words.
pub(super) fn printable(words: &str) -> String {
    words.replace(char::is_control, "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_output_is_no_failure_and_a_full_disk_is() {
        for (written, exit, words) in [
            (Ok(Exit::Usage), Exit::Usage, ""),
            (Err(io::ErrorKind::BrokenPipe), Exit::Ok, ""),
            (Err(io::ErrorKind::StorageFull), Exit::Runtime, "tidings: no storage space\n"),
        ] {
            let mut err = Vec::new();
            assert_eq!(Exit::of(written.map_err(io::Error::from), &mut err), exit);
            assert_eq!(String::from_utf8(err).unwrap(), words);
        }
    }

    #[test]
    fn words_of_others_do_not_command_the_terminal() {
        let mut err = Vec::new();
        let exit = Exit::Runtime.because("no\x1b[2J\nroom\u{9b}", &mut err).unwrap();
        assert_eq!(exit, Exit::Runtime);
        assert_eq!(String::from_utf8(err).unwrap(), "tidings: no\u{fffd}[2J\u{fffd}room\u{fffd}\n");
    }
}
