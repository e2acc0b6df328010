//! The PROXY header, version 1 or 2, with which a trusted proxy begins a connection.
//!
//! The header is read byte by byte to its end and not beyond: what follows is HTTP, and hyper's to read.

use std::io;
use std::net::IpAddr;

use ppp::{HeaderResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes before the length in version 2: a signature of 12, version and command, address family.
const V2_START_BYTES: usize = 16;

/// The longest line of version 1.
const V1_BYTES_MAX: usize = 107;

/// Bytes after the start of version 2: addresses take 216 at most, the rest is what proxies add, such as a certificate's name.
const V2_BYTES_MAX: usize = 4_096;

/// The address of the client; `None` where the proxy asks for itself, or does not say.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let mut header = vec![0; v2::PROTOCOL_PREFIX.len()];
    stream.read_exact(&mut header).await?;
    if header == v2::PROTOCOL_PREFIX {
        header.resize(V2_START_BYTES, 0);
        stream.read_exact(&mut header[v2::PROTOCOL_PREFIX.len()..]).await?;
        let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
        if length > V2_BYTES_MAX {
            return Err(invalid("the PROXY header is too long"));
        }
        header.resize(V2_START_BYTES + length, 0);
        stream.read_exact(&mut header[V2_START_BYTES..]).await?;
    } else {
        while !header.ends_with(b"\n") {
            if header.len() == V1_BYTES_MAX || !header.starts_with(v1::PROTOCOL_PREFIX.as_bytes()) {
                return Err(invalid(
                    "no PROXY header, which server.client_address demands of trusted proxies",
                ));
            }
            header.push(stream.read_u8().await?);
        }
    }
    client_of(&header)
}

fn client_of(header: &[u8]) -> io::Result<Option<IpAddr>> {
    let address = match HeaderResult::parse(header) {
        HeaderResult::V1(Ok(header)) => match header.addresses {
            v1::Addresses::Tcp4(addresses) => Some(IpAddr::V4(addresses.source_address)),
            v1::Addresses::Tcp6(addresses) => Some(IpAddr::V6(addresses.source_address)),
            v1::Addresses::Unknown => None,
        },
        HeaderResult::V2(Ok(header)) if header.command == v2::Command::Local => None,
        HeaderResult::V2(Ok(header)) => match header.addresses {
            v2::Addresses::IPv4(addresses) => Some(IpAddr::V4(addresses.source_address)),
            v2::Addresses::IPv6(addresses) => Some(IpAddr::V6(addresses.source_address)),
            v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
        },
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => {
            return Err(invalid("the PROXY header cannot be read"));
        }
    };
    Ok(address.map(|address| address.to_canonical()))
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version_2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [v2::PROTOCOL_PREFIX, &[0x20 | command, family], &length, addresses].concat()
    }

    #[tokio::test]
    async fn the_client_is_read_and_nothing_behind_the_header() {
        let ipv4 = [&[198, 51, 100, 1, 10, 0, 0, 1][..], &[0, 80, 0, 80]].concat();
        let with_more = [&ipv4[..], &[0x04, 0, 1, b'x']].concat();
        for (header, client) in [
            (b"PROXY TCP4 198.51.100.1 10.0.0.1 4711 80\r\n".to_vec(), Some("198.51.100.1")),
            (b"PROXY TCP6 2001:db8::1 fd00::1 4711 80\r\n".to_vec(), Some("2001:db8::1")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (version_2(1, 0x11, &ipv4), Some("198.51.100.1")),
            (version_2(1, 0x11, &with_more), Some("198.51.100.1")),
            (version_2(0, 0x00, &[]), None),
        ] {
            let mut stream = &[&header[..], b"GET / HTTP/1.1"].concat()[..];
            let read = read(&mut stream).await.expect("a header").map(|address| address.to_string());
            assert_eq!(read.as_deref(), client, "{}", String::from_utf8_lossy(&header));
            assert_eq!(stream, b"GET / HTTP/1.1");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_an_error() {
        let endless = [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat();
        let long = [v2::PROTOCOL_PREFIX, &[0x21, 0x11, 0xff, 0xff], &[0; 65_535]].concat();
        for bytes in [
            &b"GET /livez HTTP/1.1\r\n\r\n"[..],
            b"PROXY TCP4 nobody 10.0.0.1 1 80\r\n",
            b"PROXY TCP4 198.51.100.1",
            &endless,
            &long,
            &version_2(7, 0x11, &[0; 12]),
        ] {
            assert!(read(&mut &bytes[..]).await.is_err(), "{}", String::from_utf8_lossy(&bytes[..20]));
        }
    }
}
