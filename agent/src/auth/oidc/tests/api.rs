//! `TokenReview`, with an API server on loopback.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use super::*;

/// Answers each review with what is set, and keeps the questions.
async fn api(answer: Arc<Mutex<(u16, Value)>>) -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let questions = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&questions);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut text = Vec::new();
            let question = loop {
                let mut piece = [0; 8192];
                let n = socket.read(&mut piece).await.unwrap();
                text.extend_from_slice(&piece[..n]);
                let body = text.windows(4).position(|w| w == b"\r\n\r\n").map(|at| &text[at + 4..]);
                match body.map(serde_json::from_slice::<Value>) {
                    Some(Ok(question)) => break question,
                    _ if n == 0 => return,
                    _ => {}
                }
            };
            kept.lock().unwrap().push(question);
            let (status, body) = answer.lock().unwrap().clone();
            let body = body.to_string();
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            let _ = socket.write_all(answer.as_bytes()).await;
        }
    });
    (url, questions)
}

#[tokio::test]
async fn the_api_server_is_asked_once_and_again_later() {
    let signer = Signer::es256("a");
    let file = File::new("reviewed", &keys::set(std::slice::from_ref(&signer)));
    let mut provider = provider("https://issuer.example");
    provider.public_keys_file = Some(file.0.clone());
    let good = json!({"status": {
        "authenticated": true,
        "audiences": [AUDIENCE],
        "user": {
            "username": "system:serviceaccount:shop:cart",
            "uid": "11111111-aaaa-4000-8000-000000000001",
            "extra": {"authentication.kubernetes.io/pod-uid": ["22222222-aaaa-4000-8000-000000000002"]},
        },
    }});
    let answer = Arc::new(Mutex::new((201, good.clone())));
    let (url, questions) = api(Arc::clone(&answer)).await;
    let mut extension = extension(vec![provider]);
    extension.token_review = Some(ApiClient { endpoint: Some(url), ..ApiClient::default() });
    let clock = Clock::new();
    let oidc = Oidc::with_clock(&extension, clock.clone()).unwrap();
    let token = signer.sign(&claims("https://issuer.example", clock.unix()));

    // The API server is away: nothing is known, and nothing is kept.
    *answer.lock().unwrap() = (500, json!({}));
    let refused = ask(&oidc, &token).await.unwrap_err();
    assert_eq!(refused.cause, "review_unavailable");
    assert!(matches!(refused.kind, RefusedKind::Unavailable { .. }));
    *answer.lock().unwrap() = (201, good.clone());
    ask(&oidc, &token).await.unwrap();
    assert_eq!(questions.lock().unwrap()[1]["spec"], json!({"token": token, "audiences": [AUDIENCE]}));
    // Its word holds for ten minutes, the signature is looked at again every minute.
    for _ in 0..9 {
        clock.advance(Duration::from_mins(1));
        assert!(!is_known(&oidc, &token));
        ask(&oidc, &token).await.unwrap();
    }
    assert_eq!(questions.lock().unwrap().len(), 2);
    let deleted =
        json!({"status": {"authenticated": false, "error": "[invalid bearer token, \u{1b}pod deleted]"}});
    *answer.lock().unwrap() = (201, deleted);
    clock.advance(Duration::from_mins(1));
    let refused = ask(&oidc, &token).await.unwrap_err();
    assert_eq!(refused.cause, "not_authenticated");
    assert!(refused.message.contains("pod deleted") && !refused.message.contains('\u{1b}'), "{refused}");
    // A forgery is none of its business.
    let asked = questions.lock().unwrap().len();
    let forged = Signer::es256("a").sign(&claims("https://issuer.example", clock.unix()));
    assert_eq!(cause(ask(&oidc, &forged).await), "bad_signature");
    assert_eq!(questions.lock().unwrap().len(), asked);
}
