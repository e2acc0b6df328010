//! What the commands of operators share: a request that is answered in JSON, and tables.

use std::io::{self, Write};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::exit::{Exit, complain, printable};
use super::http;
use super::target::{Target, TargetArgs};
use crate::config::Sources;

/// Why a command ends without an answer, and how.
pub(super) type Failed = (Exit, String);

/// Asks the server. The answer as it came, and as it was understood.
pub(super) async fn ask<T: DeserializeOwned>(
    args: &TargetArgs,
    sources: &Sources,
    method: Method,
    path_and_query: &str,
    body: Option<String>,
) -> Result<(Bytes, T), Failed> {
    let target = Target::new(args, &sources.env).map_err(|invalid| (Exit::Usage, invalid.to_string()))?;
    let request = http::request(&target, method, path_and_query);
    let request = request.body(Full::<Bytes>::from(body.unwrap_or_default()));
    let answer = http::fetch(&target, request.expect("path and query were encoded")).await;
    let answer = answer.map_err(|error| (Exit::Runtime, error.to_string()))?;
    let understood = (answer.status == StatusCode::OK).then(|| serde_json::from_slice(&answer.body).ok());
    match understood.flatten() {
        Some(value) => Ok((answer.body, value)),
        None => Err((Exit::Runtime, answer.problem())),
    }
}

/// The instances that an answer speaks for.
#[derive(Deserialize)]
pub(super) struct Reach {
    pub(super) answered: Vec<String>,
    missing: Vec<String>,
}

impl Reach {
    /// Says which instances did not answer; then the command has failed, whatever the others did.
    pub(super) fn exit(&self, err: &mut dyn Write) -> io::Result<Exit> {
        match self.missing.as_slice() {
            [] => Ok(Exit::Ok),
            missing => Exit::Runtime.because(
                format_args!(
                    "no answer from {}: try again, or look at `tidings cluster`",
                    missing.join(", ")
                ),
                err,
            ),
        }
    }
}

/// Prints an answer as it came.
pub(super) fn print_body(body: &[u8], out: &mut dyn Write) -> io::Result<()> {
    out.write_all(body.trim_ascii_end())?;
    writeln!(out)
}

/// Prints rows under a head, each column as wide as its widest cell.
pub(super) fn print_table<const N: usize>(
    head: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut table = vec![head.map(str::to_owned)];
    table.extend(rows.into_iter().map(|row| row.map(|cell| printable(&cell))));
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    for row in &table {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// Ends a command that has no answer.
pub(super) fn fail((exit, words): Failed, err: &mut dyn Write) -> io::Result<Exit> {
    complain(words, err)?;
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_command_no_terminal() {
        let mut out = Vec::new();
        let rows = [["a".to_owned(), "1".to_owned()], ["l\u{1b}ng".to_owned(), String::new()]];
        print_table(["id", "count"], rows, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "id    count\na     1\nl\u{fffd}ng\n");
    }
}
