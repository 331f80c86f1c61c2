//! A small HTTP/1.1 client for the control plane: an issuer's keys, the API server, a kubelet.
//!
//! One connection a request: requests are rare here, and files with CAs and tokens are then always read anew. No
//! redirects, no proxies, no cookies. Everything the peer decides about is bounded: time, size of headers and body.
//! It needs a tokio runtime, of any kind.

#![forbid(unsafe_code)]

mod connect;
mod error;
mod kubernetes;
mod stream;

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode, Uri,
    header::{ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HOST, USER_AGENT},
};
use http_body_util::Full;
use rustls::ClientConfig;
use tokio::time::timeout;

use crate::{
    config::tls::ClientTls,
    transport::tls::{self, HTTP11},
};
use connect::Connection;
pub use error::HttpError;
pub use kubernetes::api_server;
pub use stream::Stream;

/// The largest token that is read from a file. API servers refuse headers of 64 KiB and more.
const MAX_TOKEN: u64 = 32 << 10;

/// What a [`Client`] does. The defaults are for an answer that is small and soon there.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// CAs to trust instead of the system's; read again when they change.
    pub ca_file: Option<PathBuf>,
    /// A token to send as `authorization: Bearer …`, read again for each request. Never sent in plaintext except to
    /// loopback.
    pub token_file: Option<PathBuf>,
    /// Accept any certificate.
    pub insecure_skip_verify: bool,
    /// For TCP and TLS. Default 5 s.
    pub connect_timeout: Duration,
    /// From the start to the last byte of the body; of a [`Stream`] to its headers. Default 10 s.
    pub timeout: Duration,
    /// Of a [`Stream`]: how long nothing may come. Default 60 s.
    pub idle_timeout: Duration,
    /// The largest body, in bytes. Default 1 MiB. A [`Stream`] is not bounded as a whole.
    pub body_limit: usize,
    /// Sent with each request, in place of what would be sent under the same name. Default none.
    pub headers: HeaderMap,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            ca_file: None,
            token_file: None,
            insecure_skip_verify: false,
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(1),
            body_limit: 1 << 20,
            headers: HeaderMap::new(),
        }
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Response {
    /// Of any kind; see [`Response::success`].
    pub status: StatusCode,
    /// As sent.
    pub headers: HeaderMap,
    /// All of it.
    pub body: Bytes,
    /// Where it is from, for errors: `https://host:port/path`.
    from: Arc<str>,
}

impl Response {
    /// Itself where the status is 2xx, else an error that says what to do about it.
    pub fn success(self) -> Result<Self, HttpError> {
        if self.status.is_success() {
            return Ok(self);
        }
        Err(HttpError::status_of(&self.from, self.status, &self.body))
    }
}

/// See the module's description. Cheap to keep, safe to share.
pub struct Client {
    options: ClientOptions,
    /// The TLS configuration with the CAs it was made of; built when first needed.
    tls: Mutex<Option<(Vec<u8>, Arc<ClientConfig>)>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Client {
    /// Checks the CA file, where there is one; connects to nothing.
    pub fn new(options: ClientOptions) -> Result<Self, HttpError> {
        let client = Self { options, tls: Mutex::new(None) };
        if client.options.ca_file.is_some() {
            client.tls_config()?;
        }
        Ok(client)
    }

    /// What it was made with.
    pub fn options(&self) -> &ClientOptions {
        &self.options
    }

    /// `GET`
    pub async fn get(&self, url: &str) -> Result<Response, HttpError> {
        self.send(Method::GET, url, None).await
    }

    /// `POST` of JSON.
    pub async fn post_json(&self, url: &str, json: Vec<u8>) -> Result<Response, HttpError> {
        self.send(Method::POST, url, Some(("application/json", json))).await
    }

    /// Any request, with the body's content type.
    pub async fn send(
        &self,
        method: Method,
        url: &str,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Result<Response, HttpError> {
        let after = self.options.timeout;
        let exchange = async {
            let mut stream = self.open(method, url, body, Duration::MAX).await?;
            let body = stream.rest(self.options.body_limit).await?;
            Ok(Response { status: stream.status, headers: stream.headers, body, from: stream.from })
        };
        match timeout(after, exchange).await {
            Ok(result) => result,
            Err(_) => Err(HttpError::Timeout { url: error::shown(url), after }),
        }
    }

    /// A `GET` whose body comes piece by piece, for as long as the server goes on. A status other than 2xx is an
    /// error ([`HttpError::Status`]).
    pub async fn stream(&self, url: &str) -> Result<Stream, HttpError> {
        let after = self.options.timeout;
        let exchange = async {
            let mut stream = self.open(Method::GET, url, None, self.options.idle_timeout).await?;
            if stream.status.is_success() {
                return Ok(stream);
            }
            let body = stream.rest(self.options.body_limit).await?;
            Err(HttpError::status_of(&stream.from, stream.status, &body))
        };
        match timeout(after, exchange).await {
            Ok(result) => result,
            Err(_) => Err(HttpError::Timeout { url: error::shown(url), after }),
        }
    }

    async fn open(
        &self,
        method: Method,
        url: &str,
        body: Option<(&'static str, Vec<u8>)>,
        idle: Duration,
    ) -> Result<Stream, HttpError> {
        let target = Target::parse(url)?;
        let request = self.request(&target, method, body)?;
        let tls = if target.plaintext { None } else { Some(self.tls_config()?) };
        let after = self.options.connect_timeout;
        let mut connection = match timeout(after, Connection::open(&target, tls)).await {
            Ok(connection) => connection?,
            Err(_) => return Err(HttpError::ConnectTimeout { url: target.shown.to_string(), after }),
        };
        let response = connection.sender.send_request(request).await;
        let response = response.map_err(|e| HttpError::exchange(&target.shown, &e))?;
        Ok(Stream::new(response, connection, idle, target.shown))
    }

    fn request(
        &self,
        target: &Target,
        method: Method,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Result<Request<Full<Bytes>>, HttpError> {
        let path = target.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, target.authority())
            .header(USER_AGENT, concat!("spanwarden/", env!("CARGO_PKG_VERSION")))
            // An API server gives its keys (`application/jwk-set+json`) to nobody who takes JSON only: 406.
            .header(ACCEPT, "application/json, */*;q=0.8")
            .header(CONNECTION, "close");
        if let Some(token) = self.token(target)? {
            request = request.header(AUTHORIZATION, token);
        }
        let body = match body {
            Some((kind, bytes)) => {
                request = request.header(CONTENT_TYPE, kind);
                Bytes::from(bytes)
            }
            None => Bytes::new(),
        };
        let mut request =
            request.body(Full::new(body)).map_err(|e| HttpError::url(&target.shown, &e.to_string()))?;
        for (name, value) in &self.options.headers {
            request.headers_mut().insert(name, value.clone());
        }
        Ok(request)
    }

    fn token(&self, target: &Target) -> Result<Option<HeaderValue>, HttpError> {
        use std::io::Read as _;
        let Some(path) = &self.options.token_file else { return Ok(None) };
        if target.plaintext && !target.is_loopback() {
            return Err(HttpError::PlaintextToken { url: target.shown.to_string() });
        }
        let failed = |why: String| HttpError::Token { path: path.clone(), why };
        let mut token = Vec::new();
        let file = fs::File::open(path).map_err(|e| failed(e.to_string()))?;
        file.take(MAX_TOKEN + 1).read_to_end(&mut token).map_err(|e| failed(e.to_string()))?;
        let token = token.trim_ascii();
        if token.is_empty() || token.len() as u64 > MAX_TOKEN || !token.iter().all(u8::is_ascii_graphic) {
            return Err(failed("is no token: one line of at most 32 KiB is expected".to_owned()));
        }
        let mut value = HeaderValue::from_bytes(&[b"Bearer ", token].concat())
            .map_err(|_| failed("is no token".to_owned()))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// The configuration for the CAs as they are now; the last good one where they can't be used.
    fn tls_config(&self) -> Result<Arc<ClientConfig>, HttpError> {
        let mut kept = self.tls.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = match &self.options.ca_file {
            // What can't be read is reported by the build below, or ignored for the kept one.
            Some(path) => fs::read(path).unwrap_or_default(),
            None => Vec::new(),
        };
        if let Some((of, config)) = &*kept
            && *of == bytes
        {
            return Ok(Arc::clone(config));
        }
        let settings = ClientTls {
            ca_file: self.options.ca_file.clone(),
            insecure_skip_verify: self.options.insecure_skip_verify,
            ..ClientTls::default()
        };
        match (tls::client_config(&settings, &[HTTP11]), &*kept) {
            (Ok(config), _) => {
                *kept = Some((bytes, Arc::clone(&config)));
                Ok(config)
            }
            (Err(error), Some((_, config))) => {
                tracing::warn!(%error, "the CAs stay as they were");
                Ok(Arc::clone(config))
            }
            (Err(error), None) => Err(error.into()),
        }
    }
}

/// A URL that can be asked.
struct Target {
    uri: Uri,
    plaintext: bool,
    host: String,
    port: u16,
    /// For errors: without the query.
    shown: Arc<str>,
}

impl Target {
    fn parse(url: &str) -> Result<Self, HttpError> {
        let bad = |why: &str| HttpError::url(&error::shown(url), why);
        let uri: Uri = url.parse().map_err(|_| bad("it can't be read"))?;
        let plaintext = match uri.scheme_str() {
            Some("https") => false,
            Some("http") => true,
            _ => return Err(bad("it starts with `https://`")),
        };
        let authority = uri.authority().ok_or_else(|| bad("the host is missing"))?;
        if authority.as_str().contains('@') {
            return Err(bad("credentials in a URL end up in logs"));
        }
        let host = authority.host();
        let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() {
            return Err(bad("the host is missing"));
        }
        let port = authority.port_u16().unwrap_or(if plaintext { 80 } else { 443 });
        let host = host.to_owned();
        Ok(Self { plaintext, host, port, shown: error::shown(url).into(), uri })
    }

    fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }
}

/// Whether a host (without brackets) is this machine whatever DNS says.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests;
