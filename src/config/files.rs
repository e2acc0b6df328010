//! Reading the files that configuration consists of, within bounds.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// 4 MiB: some 10,000 API keys. A larger file is refused before it is read.
const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// 64 KiB: no secret is that long; a device or a log named by mistake is.
const SECRET_BYTES_MAX: u64 = 64 << 10;

/// The text of a configuration file, or why it cannot be had.
pub(crate) fn read_config(path: &Path) -> Result<String, String> {
    read(path, CONFIG_BYTES_MAX)
}

/// A secret without the newline that editors end files with, or why it cannot be had.
pub(crate) fn read_secret(path: &Path) -> Result<String, String> {
    let text = read(path, SECRET_BYTES_MAX)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

fn read(path: &Path, bytes_max: u64) -> Result<String, String> {
    let cannot = |error: io::Error| format!("cannot read {}: {error}", path.display());
    let mut bytes = Vec::new();
    File::open(path).map_err(cannot)?.take(bytes_max + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() as u64 > bytes_max {
        return Err(format!("{} has more than {bytes_max} bytes", path.display()));
    }
    String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8 text", path.display()))
}
