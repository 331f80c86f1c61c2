//! Against sockets that say what they like.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

/// Answers each connection with the same bytes once the request's head has come, then waits for the client to go.
/// The heads of the requests go to the channel.
async fn server(answer: Vec<u8>) -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/path?query=1", listener.local_addr().unwrap());
    let (heads, received) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.windows(4).any(|w| w == b"\r\n\r\n") {
                let mut piece = [0; 4096];
                match socket.read(&mut piece).await {
                    Ok(n) if n > 0 => head.extend_from_slice(&piece[..n]),
                    _ => break,
                }
            }
            let _ = heads.send(String::from_utf8_lossy(&head).into_owned());
            let _ = socket.write_all(&answer).await;
            let _ = socket.read(&mut [0]).await;
        }
    });
    (url, received)
}

fn options() -> ClientOptions {
    ClientOptions {
        timeout: Duration::from_millis(400),
        idle_timeout: Duration::from_millis(300),
        body_limit: 1000,
        ..ClientOptions::default()
    }
}

async fn get(answer: &[u8]) -> Result<Response, HttpError> {
    let (url, _heads) = server(answer.to_vec()).await;
    Client::new(options()).unwrap().get(&url).await
}

#[tokio::test]
async fn an_answer_comes_whole() {
    let (url, mut heads) = server(b"HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 2\r\n\r\nok".to_vec()).await;
    let response = Client::new(options()).unwrap().get(&url).await.unwrap().success().unwrap();
    assert_eq!((&response.body[..], response.headers["x"].as_bytes()), (&b"ok"[..], &b"y"[..]));
    let head = heads.recv().await.unwrap();
    assert!(head.starts_with("GET /path?query=1 HTTP/1.1\r\nhost: 127.0.0.1:"), "{head}");
    assert!(!head.contains("authorization"), "{head}");
    assert!(head.contains("accept: application/json, */*"), "keys are no JSON by their type: {head}");
}

#[tokio::test]
async fn faults_are_named() {
    let long_head = [b"HTTP/1.1 200 OK\r\n".to_vec(), b"a: b\r\n".repeat(20_000)].concat();
    for (answer, part) in [
        (
            b"HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n".to_vec(),
            "redirects",
        ),
        (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 4\r\n\r\nno\nt".to_vec(), "RBAC: no\\nt"),
        (b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n".to_vec(), "tried again"),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "broke off"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n".to_vec(), "more than the 1000 bytes"),
        ([b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'x'; 5000]].concat(), "more than the 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort".to_vec(), "within 400ms"),
        (Vec::new(), "within 400ms"),
        (long_head, "broke off"),
    ] {
        let error = match get(&answer).await.and_then(Response::success) {
            Ok(response) => panic!("{part}: {response:?}"),
            Err(error) => error.to_string(),
        };
        assert!(error.contains(part), "{part}: {error}");
        assert!(!error.contains("query"), "{error}");
    }
}

#[tokio::test]
async fn nobody_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = Client::new(options()).unwrap();
    let error = client.get(&format!("http://{address}/")).await.unwrap_err();
    assert!(matches!(error, HttpError::Connect { .. }), "{error}");
    for url in ["", "/path", "ftp://x/", "https://u:p@h/", "https:///x"] {
        assert!(matches!(client.get(url).await.unwrap_err(), HttpError::Url { .. }), "{url}");
    }
}

#[tokio::test]
async fn a_stream_gives_pieces_and_gives_up() {
    let (url, _heads) =
        server(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n".to_vec()).await;
    let mut stream = Client::new(options()).unwrap().stream(&url).await.unwrap();
    assert_eq!(stream.chunk().await.unwrap().unwrap(), "abc");
    assert!(matches!(stream.chunk().await.unwrap_err(), HttpError::Idle { .. }));
    let (url, _heads) = server(b"HTTP/1.1 410 Gone\r\ncontent-length: 3\r\n\r\nold".to_vec()).await;
    let error = Client::new(options()).unwrap().stream(&url).await.unwrap_err();
    assert_eq!(error.status(), Some(StatusCode::GONE));
}

#[tokio::test]
async fn a_token_is_read_again_and_only_for_those_who_may_have_it() {
    let file = std::env::temp_dir().join(format!("spanwarden-http-token-{}", std::process::id()));
    fs::write(&file, "first\n").unwrap();
    let (url, mut heads) = server(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
    let client = Client::new(ClientOptions { token_file: Some(file.clone()), ..options() }).unwrap();
    client.get(&url).await.unwrap();
    assert!(heads.recv().await.unwrap().contains("authorization: Bearer first\r\n"));
    fs::write(&file, "second").unwrap();
    client.get(&url).await.unwrap();
    assert!(heads.recv().await.unwrap().contains("authorization: Bearer second\r\n"));
    let error = client.get("http://192.0.2.1/").await.unwrap_err();
    assert!(matches!(error, HttpError::PlaintextToken { .. }), "{error}");
    fs::write(&file, "two\r\nlines: injected").unwrap();
    assert!(matches!(client.get(&url).await.unwrap_err(), HttpError::Token { .. }));
    fs::remove_file(&file).unwrap();
    assert!(matches!(client.get(&url).await.unwrap_err(), HttpError::Token { .. }));
}
