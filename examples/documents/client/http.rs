//! Requests over one keep-alive connection.

use std::fmt;
use std::time::Duration;

use serde_json::Value as Json;
use ureq::http::{HeaderValue, Method, Request, Uri, header};
use ureq::{Agent, AsSendBody, SendBody};

use super::ClientError;

/// How much of an answer is shown in an error.
const SHOWN: usize = 200;

/// How many idle connections an agent keeps, and for how long.
#[derive(Clone, Copy)]
pub(crate) struct KeepAlive {
    pub(crate) connections: usize,
    pub(crate) idle: Duration,
}

impl KeepAlive {
    /// For an agent that only one thread uses at a time. How long a connection may be idle is left to the pool and the
    /// server, so the agent's own limit (15 s) is out of their way.
    pub(crate) const ONE: Self = Self { connections: 1, idle: Duration::from_secs(3600) };

    pub(crate) fn agent(self) -> Agent {
        let config = Agent::config_builder()
            .max_idle_connections(self.connections)
            .max_idle_connections_per_host(self.connections)
            .max_idle_age(self.idle)
            // The pool's deadline ends where a client is lent; from there on these hold.
            .timeout_connect(Some(Duration::from_secs(2)))
            .timeout_recv_response(Some(Duration::from_secs(10)))
            .timeout_recv_body(Some(Duration::from_secs(10)))
            // A refusal has a body, and that says more than its number does.
            .http_status_as_error(false)
            // The loopback is not reached by way of a proxy, whatever the environment says.
            .proxy(None);
        config.build().new_agent()
    }
}

/// An agent with the address of a server and what has to be shown there.
pub(crate) struct Http {
    agent: Agent,
    base: String,
    /// Marked as sensitive, which is why ureq does not log it.
    authorization: HeaderValue,
    pub(crate) broken: bool,
}

/// Without what is shown at the server.
impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("base", &self.base).field("broken", &self.broken).finish_non_exhaustive()
    }
}

impl Http {
    /// `base` is like `http://127.0.0.1:8080`; `authorization` is the value of the header of this name.
    pub(crate) fn new(agent: Agent, base: &str, authorization: &str) -> Result<Self, ClientError> {
        if base.contains('@') {
            let reason = "the address of the store has an `@`: credentials do not belong there";
            return Err(ClientError::Setting(reason.to_owned()));
        }
        let uri = base.parse::<Uri>().ok();
        if !uri.is_some_and(|uri| uri.scheme_str() == Some("http") && uri.host().is_some_and(|host| !host.is_empty())) {
            return Err(ClientError::Setting(format!(
                "the address of the store is not like http://host:8080: {base:?}"
            )));
        }
        let mut authorization = HeaderValue::from_str(authorization)
            .map_err(|_| ClientError::Setting("the credentials have a character that no header may have".to_owned()))?;
        authorization.set_sensitive(true);
        Ok(Self { agent, base: base.trim_end_matches('/').to_owned(), authorization, broken: false })
    }

    /// Sends a request, and reads the answer to its end, so that the connection is free for the next one.
    pub(crate) fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Result<Answer, ClientError> {
        let request = format!("{method} {path}");
        let outcome = match body {
            Some(body) => self.exchange(method, path, headers, body),
            None => self.exchange(method, path, headers, SendBody::none()),
        };
        match outcome {
            Ok((status, bytes)) => Ok(Answer { request, status, bytes }),
            Err(cause) => {
                self.broken = true;
                Err(ClientError::NoAnswer { request, cause })
            }
        }
    }

    fn exchange(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsSendBody,
    ) -> Result<(u16, Vec<u8>), ureq::Error> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        request = request.header(header::AUTHORIZATION, self.authorization.clone());
        request = request.header(header::ACCEPT, "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = self.agent.run(request.body(body)?)?;
        Ok((response.status().as_u16(), response.body_mut().read_to_vec()?))
    }
}

/// What a server said.
pub(crate) struct Answer {
    pub(crate) request: String,
    pub(crate) status: u16,
    bytes: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Result<Json, ClientError> {
        serde_json::from_slice(&self.bytes).map_err(|_| self.nonsense())
    }

    pub(crate) fn refused(&self, reason: impl Into<String>) -> ClientError {
        ClientError::Refused { request: self.request.clone(), status: self.status, reason: reason.into() }
    }

    pub(crate) fn nonsense(&self) -> ClientError {
        let text = String::from_utf8_lossy(&self.bytes);
        let answer = text.chars().take(SHOWN).collect();
        ClientError::Nonsense { request: self.request.clone(), answer }
    }
}
