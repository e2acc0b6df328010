//! Commands of clients: what is understood survives the way through its own words, and a refusal names a reason.

use tidings_protocol::{INTEGER_MAX, decode_command, encode_command};

pub(crate) fn command(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match decode_command(text) {
        Ok((id, command)) => {
            assert!(id.is_none_or(|id| id <= INTEGER_MAX));
            let said = encode_command(id, &command);
            let again = decode_command(&said).unwrap_or_else(|refused| panic!("{said}: {refused:?}"));
            assert_eq!((again.0, format!("{:?}", again.1)), (id, format!("{command:?}")), "{said}");
        }
        Err(refused) => assert!(!refused.problem.message.is_empty() && refused.problem.code.status() < 500),
    }
}
