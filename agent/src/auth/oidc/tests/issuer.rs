//! An issuer on loopback.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::keys::Signer;

/// How it behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Well,
    Error,
    Garbage,
    Huge,
    Close,
    Silent,
    Redirect,
    OtherIssuer,
    OtherHost,
}

struct State {
    url: String,
    mode: Mutex<Mode>,
    keys: Mutex<String>,
    /// Heads of all requests.
    heads: Mutex<Vec<String>>,
    fetches: AtomicUsize,
}

/// See the module's description. It ends when dropped.
pub(super) struct Issuer {
    pub(super) url: String,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Issuer {
    pub(super) async fn start(signers: &[Signer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            url: url.clone(),
            mode: Mutex::new(Mode::Well),
            keys: Mutex::new(super::keys::set(signers)),
            heads: Mutex::default(),
            fetches: AtomicUsize::new(0),
        });
        let served = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(serve(socket, Arc::clone(&served)));
            }
        });
        Self { url, state, task }
    }

    pub(super) fn be(&self, mode: Mode) {
        *self.state.mode.lock().unwrap() = mode;
    }

    pub(super) fn set_keys(&self, signers: &[&Signer]) {
        let keys: Vec<_> = signers.iter().map(|signer| signer.jwk()).collect();
        *self.state.keys.lock().unwrap() = json!({ "keys": keys }).to_string();
    }

    /// How often the keys were asked for.
    pub(super) fn fetches(&self) -> usize {
        self.state.fetches.load(Ordering::SeqCst)
    }

    /// How many requests came, of any kind.
    pub(super) fn requests(&self) -> usize {
        self.state.heads.lock().unwrap().len()
    }

    pub(super) fn heads_with(&self, part: &str) -> usize {
        self.state.heads.lock().unwrap().iter().filter(|head| head.contains(part)).count()
    }
}

async fn serve(mut socket: TcpStream, state: Arc<State>) {
    let mut head = Vec::new();
    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
        let mut piece = [0; 4096];
        match socket.read(&mut piece).await {
            Ok(n) if n > 0 => head.extend_from_slice(&piece[..n]),
            _ => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let keys = head.starts_with("GET /keys ");
    if keys {
        state.fetches.fetch_add(1, Ordering::SeqCst);
    }
    state.heads.lock().unwrap().push(head);
    let mode = *state.mode.lock().unwrap();
    let (issuer, place) = match mode {
        Mode::OtherIssuer => (format!("{}/", state.url), format!("{}/keys", state.url)),
        Mode::OtherHost => (state.url.clone(), "https://192.0.2.1/keys".to_owned()),
        _ => (state.url.clone(), format!("{}/keys", state.url)),
    };
    let body = match mode {
        Mode::Garbage => "<html>".to_owned(),
        Mode::Huge => "x".repeat(1 << 20),
        _ if keys => state.keys.lock().unwrap().clone(),
        _ => json!({"issuer": issuer, "jwks_uri": place}).to_string(),
    };
    let status = match mode {
        Mode::Close => return,
        Mode::Silent => return std::future::pending().await,
        Mode::Error => "500 Internal Server Error",
        Mode::Redirect => "302 Found\r\nlocation: http://127.0.0.1:1/",
        _ => "200 OK",
    };
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let _ = socket.write_all(answer.as_bytes()).await;
    let _ = socket.read(&mut [0]).await;
}
