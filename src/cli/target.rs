//! The server that a command talks to, and the credential that it shows there.

use std::fmt;

use clap::Args;
use hyper::Uri;
use hyper::header::HeaderValue;

/// Where `tidings dev` listens.
const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// Which server, and as whom
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Server")]
pub struct TargetArgs {
    /// Address of the server [env: TIDINGS_URL] [default: http://127.0.0.1:8080]
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<String>,
    /// Token (JWT) of a client [env: TIDINGS_TOKEN]
    #[arg(long, value_name = "JWT", conflicts_with = "api_key")]
    pub(super) token: Option<String>,
    /// API key of a backend [env: TIDINGS_API_KEY]
    #[arg(long, value_name = "KEY")]
    pub(super) api_key: Option<String>,
}

/// A server's address and the credential for it.
#[derive(Clone)]
pub(super) struct Target {
    authority: String,
    host: String,
    port: u16,
    /// What stands before every path, without a slash at its end: a proxy may serve tidings under a path of its own.
    prefix: String,
    authorization: Option<HeaderValue>,
}

/// Why there is no such server to talk to; the words say what to change.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TargetInvalid(String);

impl Target {
    /// The server that the arguments name, else the environment, else the one on this machine. A flag of either
    /// credential wins over both variables, and a token over an API key.
    pub(super) fn new(args: &TargetArgs, env: &[(String, String)]) -> Result<Target, TargetInvalid> {
        let variable = |name| env.iter().find(|(known, value)| known == name && !value.is_empty());
        let variable = |name| variable(name).map(|(_, value)| value.as_str());
        let url = args.url.as_deref().or_else(|| variable("TIDINGS_URL")).unwrap_or(DEFAULT_URL);
        let credential = args.token.as_deref().or(args.api_key.as_deref());
        let credential =
            credential.or_else(|| variable("TIDINGS_TOKEN")).or_else(|| variable("TIDINGS_API_KEY"));
        let authorization = credential.map(bearer).transpose()?;
        Ok(Target { authorization, ..Target::parse(url)? })
    }

    fn parse(url: &str) -> Result<Target, TargetInvalid> {
        let invalid = |why: &str| TargetInvalid(format!("{url:?} is no address of a server: {why}"));
        let uri: Uri = url.parse().map_err(|_| invalid("write it as http://127.0.0.1:8080"))?;
        match uri.scheme_str() {
            None | Some("http" | "ws") => {}
            Some("https" | "wss") => {
                return Err(invalid(
                    "TLS is not supported yet: run a TLS proxy on this machine and give its http:// address",
                ));
            }
            Some(_) => return Err(invalid("it starts with http://")),
        }
        let authority = uri.authority().ok_or_else(|| invalid("write it as http://127.0.0.1:8080"))?;
        if authority.as_str().contains('@') {
            return Err(TargetInvalid("the address holds a password: use --token or --api-key".to_owned()));
        }
        if uri.query().is_some() {
            return Err(invalid("it has no `?`"));
        }
        let port = match authority.port_u16() {
            _ if authority.host().is_empty() => return Err(invalid("it names no host")),
            Some(0) => return Err(invalid("a port goes from 1 to 65535")),
            Some(port) => port,
            None if authority.as_str() == authority.host() => 80,
            None => return Err(invalid("a port goes from 1 to 65535")),
        };
        Ok(Target {
            authority: authority.to_string(),
            host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            port,
            prefix: uri.path().trim_end_matches('/').to_owned(),
            authorization: None,
        })
    }

    /// Host and port to connect to.
    pub(super) fn address(&self) -> (&str, u16) {
        (&self.host, self.port)
    }

    /// What the `Host` header says.
    pub(super) fn authority(&self) -> &str {
        &self.authority
    }

    /// The path on this server, and the query, of one of tidings' own.
    pub(super) fn path(&self, path_and_query: &str) -> String {
        format!("{}{path_and_query}", self.prefix)
    }

    /// The value of the `Authorization` header.
    pub(super) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }
}

fn bearer(credential: &str) -> Result<HeaderValue, TargetInvalid> {
    let visible = credential.bytes().all(|byte| byte.is_ascii_graphic());
    let value = HeaderValue::try_from(format!("Bearer {credential}")).ok().filter(|_| visible);
    // The credential is not repeated: terminals and logs keep what they are shown.
    let mut value = value.ok_or_else(|| {
        TargetInvalid("the credential holds white space or characters outside of ASCII".to_owned())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.prefix)
    }
}

impl fmt::Display for TargetInvalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Target, String> {
        Target::parse(url).map_err(|TargetInvalid(words)| words)
    }

    #[test]
    fn addresses_are_read_with_and_without_scheme_port_and_path() {
        for (url, host, port, path) in [
            ("http://127.0.0.1:8080", "127.0.0.1", 8080, "/ws"),
            ("ws://rt.example.com", "rt.example.com", 80, "/ws"),
            ("localhost:9000", "localhost", 9000, "/ws"),
            ("http://[::1]:8080/", "::1", 8080, "/ws"),
            ("http://example.com/rt/", "example.com", 80, "/rt/ws"),
        ] {
            let target = parse(url).expect(url);
            assert_eq!((target.address(), target.path("/ws").as_str()), ((host, port), path), "{url}");
        }
    }

    #[test]
    fn what_cannot_be_reached_is_refused_with_what_to_do() {
        for (url, words) in [
            ("https://rt.example.com", "run a TLS proxy on this machine"),
            ("wss://rt.example.com", "TLS is not supported yet"),
            ("redis://localhost", "it starts with http://"),
            ("/ws", "write it as"),
            ("a b", "write it as"),
            ("http://localhost:", "a port goes from 1 to 65535"),
            ("http://localhost:99999", "a port goes from 1 to 65535"),
            ("http://localhost:0", "a port goes from 1 to 65535"),
            ("http://:8080", "it names no host"),
            ("http://localhost/?x=1", "it has no `?`"),
            ("http://ada:canary@localhost", "use --token"),
        ] {
            let refused = parse(url).err().expect(url);
            assert!(refused.contains(words) && !refused.contains("canary"), "{url}: {refused}");
        }
    }

    #[test]
    fn flags_win_over_the_environment_and_tokens_over_keys() {
        let env = |names: &[&str]| -> Vec<(String, String)> {
            names
                .iter()
                .map(|name| ((*name).to_owned(), format!("http://{}", name.replace('_', "-"))))
                .collect()
        };
        let all = env(&["TIDINGS_URL", "TIDINGS_API_KEY", "TIDINGS_TOKEN"]);
        let authorization = |args: &TargetArgs, env: &[(String, String)]| {
            let target = Target::new(args, env).unwrap();
            target.authorization().map(|value| value.to_str().unwrap().to_owned())
        };
        let none = TargetArgs::default();
        let key = TargetArgs { api_key: Some("td_k".to_owned()), ..none.clone() };
        assert_eq!(authorization(&key, &all).as_deref(), Some("Bearer td_k"));
        assert_eq!(authorization(&none, &all).as_deref(), Some("Bearer http://TIDINGS-TOKEN"));
        assert_eq!(authorization(&none, &all[..2]).as_deref(), Some("Bearer http://TIDINGS-API-KEY"));
        assert_eq!(authorization(&none, &[]), None);

        let url = TargetArgs { url: Some("localhost:1".to_owned()), ..none.clone() };
        assert_eq!(Target::new(&url, &all).unwrap().to_string(), "http://localhost:1");
        assert_eq!(Target::new(&none, &all).unwrap().to_string(), "http://TIDINGS-URL");
        let unset = [("TIDINGS_URL".to_owned(), String::new())];
        assert_eq!(Target::new(&none, &unset).unwrap().to_string(), DEFAULT_URL);
    }

    #[test]
    fn a_credential_that_would_break_the_header_is_refused_without_repeating_it() {
        for credential in ["canary\r\nx: y", "canary two", "canar\u{fc}"] {
            let args = TargetArgs { token: Some(credential.to_owned()), ..TargetArgs::default() };
            let TargetInvalid(words) = Target::new(&args, &[]).err().expect(credential);
            assert!(!words.contains("canar"), "{words}");
        }
    }
}
