//! What the tests of commands share: captured output.

use std::io::{self, Write};

use super::exit::Exit;

/// Exit, standard output and standard error of a command.
pub(super) fn written(
    command: impl FnOnce(&mut dyn Write, &mut dyn Write) -> io::Result<Exit>,
) -> (Exit, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = command(&mut out, &mut err).expect("a vector can be written");
    (exit, text(out), text(err))
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("output is text")
}
