//! Real keys, an issuer on loopback that misbehaves on request, and a clock that is put forward.

mod api;
mod forged;
mod issuer;
mod keys;

use std::{path::PathBuf, task::Poll};

use serde_json::{Value, json};

use super::*;
use crate::{
    auth::{Refused, RefusedKind},
    config::extensions::ApiClient,
};
use issuer::{Issuer, Mode};
use keys::Signer;

const AUDIENCE: &str = "spanwarden";

fn provider(issuer: &str) -> OidcProvider {
    OidcProvider {
        issuer_url: issuer.to_owned(),
        audience: AUDIENCE.to_owned(),
        issuer_ca_path: None,
        public_keys_file: None,
        jwks_url: None,
        username_claim: "sub".to_owned(),
        groups_claim: None,
        leeway: Duration::from_secs(10),
        max_token_lifetime: Duration::from_hours(72),
        allow_multiple_audiences: false,
        bearer_token_file: None,
    }
}

fn extension(providers: Vec<OidcProvider>) -> OidcExtension {
    OidcExtension { attribute: "authorization".to_owned(), providers, token_review: None }
}

/// An authenticator for one issuer, with its clock.
fn oidc(provider: OidcProvider) -> (Oidc, Clock) {
    let clock = Clock::new();
    (Oidc::with_clock(&extension(vec![provider]), clock.clone()).unwrap(), clock)
}

/// What a good token says, valid for an hour from `now`.
fn claims(issuer: &str, now: Duration) -> Value {
    let now = now.as_secs();
    json!({
        "iss": issuer,
        "aud": [AUDIENCE],
        "sub": "system:serviceaccount:shop:cart",
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
        "jti": "e51f1fbc-0000-4000-8000-000000000000",
        "kubernetes.io": {
            "namespace": "shop",
            "serviceaccount": {"name": "cart", "uid": "11111111-aaaa-4000-8000-000000000001"},
            "pod": {"name": "cart-7d9f-x2", "uid": "22222222-aaaa-4000-8000-000000000002"},
            "node": {"name": "node-1", "uid": "33333333-aaaa-4000-8000-000000000003"},
        },
    })
}

fn headers(value: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("authorization", value.parse().unwrap());
    headers
}

async fn judge(oidc: &Oidc, headers: &HeaderMap) -> Proof {
    match oidc.authenticate(headers) {
        Judgement::Known(proof) => proof,
        Judgement::Later(proof) => proof.await,
    }
}

async fn ask(oidc: &Oidc, token: &str) -> Proof {
    judge(oidc, &headers(&format!("Bearer {token}"))).await
}

fn is_known(oidc: &Oidc, token: &str) -> bool {
    matches!(oidc.authenticate(&headers(&format!("Bearer {token}"))), Judgement::Known(_))
}

#[track_caller]
fn cause(proof: Proof) -> &'static str {
    match proof {
        Ok(principal) => panic!("accepted: {principal:?}"),
        Err(Refused { cause, .. }) => cause,
    }
}

struct File(PathBuf);

impl File {
    fn new(name: &str, content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("spanwarden-oidc-{}-{name}", std::process::id()));
        std::fs::write(&path, content).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn every_algorithm_by_discovery() {
    let signers = Signer::one_of_each();
    let issuer = Issuer::start(&signers).await;
    let (oidc, clock) = oidc(provider(&issuer.url));
    for signer in &signers {
        let token = signer.sign(&claims(&issuer.url, clock.unix()));
        let principal = ask(&oidc, &token).await.unwrap_or_else(|e| panic!("{}: {e}", signer.algorithm));
        assert!(is_known(&oidc, &token));
        assert_eq!(principal.name, "system:serviceaccount:shop:cart");
    }
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
async fn a_bound_token_says_who_and_where() {
    let signer = Signer::es256("a");
    let issuer = Issuer::start(std::slice::from_ref(&signer)).await;
    let mut provider = provider(&issuer.url);
    provider.groups_claim = Some("groups".to_owned());
    let (oidc, clock) = oidc(provider);
    let mut said = claims(&issuer.url, clock.unix());
    said["groups"] = json!(["a", "b"]);
    said["team"] = json!("checkout");
    let principal = ask(&oidc, &signer.sign(&said)).await.unwrap();
    let account = principal.service_account.as_ref().unwrap();
    assert_eq!((account.namespace.as_str(), account.name.as_str()), ("shop", "cart"));
    assert_eq!(account.uid.as_deref(), Some("11111111-aaaa-4000-8000-000000000001"));
    let pod = principal.pod.as_ref().unwrap();
    assert_eq!(
        (pod.name.as_str(), pod.uid.as_deref().unwrap()),
        ("cart-7d9f-x2", "22222222-aaaa-4000-8000-000000000002")
    );
    assert_eq!(principal.node.as_ref().unwrap().name, "node-1");
    assert_eq!(principal.issuer.as_deref(), Some(issuer.url.as_str()));
    assert_eq!(principal.groups, ["a", "b"]);
    assert!(principal.claims.contains(&("team".to_owned(), "checkout".to_owned())));
    assert!(!principal.claims.iter().any(|(name, _)| name == "jti"));
    let left = principal.not_after.unwrap().duration_since(SystemTime::now()).unwrap();
    assert!((3600..=3611).contains(&left.as_secs()), "{left:?}");
}

#[tokio::test]
async fn keys_of_files_are_read_again() {
    let (first, second) = (Signer::es256("a"), Signer::rsa("b", "RS256"));
    for (name, content) in [
        ("set.json", keys::set(std::slice::from_ref(&first))),
        ("key.pem", first.public_pem()),
        ("certificate.pem", first.certificate_pem()),
    ] {
        let file = File::new(name, &content);
        let mut provider = provider("https://issuer.example");
        provider.public_keys_file = Some(file.0.clone());
        let (oidc, clock) = oidc(provider);
        let sign = |signer: &Signer| signer.sign(&claims("https://issuer.example", clock.unix()));
        let good = sign(&first);
        ask(&oidc, &good).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        ask(&oidc, &sign(&second)).await.unwrap_err();
        // Broken: what was known stays.
        std::fs::write(&file.0, "{").unwrap();
        clock.advance(Duration::from_secs(100));
        ask(&oidc, &good).await.unwrap();
        std::fs::write(&file.0, second.public_pem()).unwrap();
        clock.advance(Duration::from_secs(100));
        ask(&oidc, &sign(&second)).await.unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(matches!(cause(ask(&oidc, &good).await), "wrong_algorithm" | "unknown_key"), "{name}");
        // Gone: for a day, not for ever.
        std::fs::remove_file(&file.0).unwrap();
        clock.advance(Duration::from_hours(23));
        ask(&oidc, &sign(&second)).await.unwrap();
        clock.advance(Duration::from_hours(2));
        assert_eq!(cause(ask(&oidc, &sign(&second)).await), "keys_unavailable");
        std::fs::write(&file.0, second.public_pem()).unwrap();
        clock.advance(Duration::from_secs(2));
        ask(&oidc, &sign(&second)).await.unwrap();
    }
}

#[test]
fn key_files_that_are_none_are_told_at_start() {
    let signer = Signer::es256("a");
    let set = keys::set(std::slice::from_ref(&signer));
    let twice = set.replace("\"keys\":[", &format!("\"keys\":[{},", Signer::es256("a").jwk()));
    let change = |key: &str, value: Value| {
        let mut jwk = signer.jwk();
        jwk[key] = value;
        json!({"keys": [jwk]}).to_string()
    };
    for (content, part) in [
        (String::new(), "no key in it"),
        ("{}".to_owned(), "no list `keys`"),
        (twice, "two keys are named `a`"),
        (signer.private_pem(), "private"),
        (change("d", json!("AAAA")), "private"),
        (json!({"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}).to_string(), "private or symmetric"),
        (change("use", json!("enc")), "`use` is not `sig`"),
        (change("key_ops", json!(["sign"])), "`key_ops`"),
        (change("alg", json!("HS256")), "`alg` is none"),
        (change("alg", json!("RS256")), "`alg` is not for its kind"),
        (change("x", json!("AAAA")), "length"),
        (change("crv", json!("secp256k1")), "kind is not known"),
        (json!({"keys": [keys::small_rsa()]}).to_string(), "2048"),
        (json!({"keys": vec![signer.jwk(); 65]}).to_string(), "more than 64"),
        ("x".repeat(300 << 10), "more than 262144 bytes"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n".to_owned(), "no public key"),
        ("-----BEGIN PUBLIC KEY-----\n!!\n-----END PUBLIC KEY-----\n".to_owned(), "PEM"),
    ] {
        let file = File::new("bad", &content);
        let mut provider = provider("https://issuer.example");
        provider.public_keys_file = Some(file.0.clone());
        match Oidc::new(&extension(vec![provider])) {
            Ok(_) => panic!("{part}"),
            Err(error) => assert!(error.to_string().contains(part), "{part}: {error}"),
        }
    }
}

#[tokio::test]
async fn an_issuer_that_fails_makes_nobody_a_forger_and_start_up_does_not_need_it() {
    let signer = Signer::es256("a");
    for mode in [
        Mode::Error,
        Mode::Garbage,
        Mode::Huge,
        Mode::Close,
        Mode::Redirect,
        Mode::OtherIssuer,
        Mode::OtherHost,
    ] {
        let issuer = Issuer::start(std::slice::from_ref(&signer)).await;
        issuer.be(mode);
        let (oidc, clock) = oidc(provider(&issuer.url));
        let token = signer.sign(&claims(&issuer.url, clock.unix()));
        for _ in 0..3 {
            let refused = ask(&oidc, &token).await.unwrap_err();
            assert_eq!(refused.cause, "keys_unavailable", "{mode:?}");
            let RefusedKind::Unavailable { retry_after } = refused.kind else { panic!("{mode:?}") };
            assert!((1..=10).contains(&retry_after.as_secs()), "{retry_after:?}");
        }
        assert!(issuer.requests() <= 1, "{mode:?}");
        issuer.be(Mode::Well);
        assert_eq!(cause(ask(&oidc, &token).await), "keys_unavailable", "not before the cooldown");
        clock.advance(store::COOLDOWN);
        ask(&oidc, &token).await.unwrap_or_else(|e| panic!("{mode:?}: {e}"));
    }
}

#[tokio::test]
async fn a_slow_issuer_is_waited_for_only_so_long() {
    let signer = Signer::es256("a");
    let issuer = Issuer::start(std::slice::from_ref(&signer)).await;
    issuer.be(Mode::Silent);
    let (oidc, clock) = oidc(provider(&issuer.url));
    let token = signer.sign(&claims(&issuer.url, clock.unix()));
    let many = futures_util::future::join_all((0..50).map(|_| ask(&oidc, &token))).await;
    for proof in many {
        assert_eq!(cause(proof), "keys_unavailable");
    }
    assert_eq!(issuer.requests(), 1);
}

#[tokio::test]
async fn known_keys_outlive_their_issuer_for_a_day() {
    let signer = Signer::es256("a");
    let issuer = Issuer::start(std::slice::from_ref(&signer)).await;
    let (oidc, clock) = oidc(provider(&issuer.url));
    ask(&oidc, &signer.sign(&claims(&issuer.url, clock.unix()))).await.unwrap();
    issuer.be(Mode::Error);
    for _ in 0..23 {
        clock.advance(Duration::from_hours(1));
        ask(&oidc, &signer.sign(&claims(&issuer.url, clock.unix()))).await.unwrap();
        let stranger = Signer::es256("other").sign(&claims(&issuer.url, clock.unix()));
        assert_eq!(cause(ask(&oidc, &stranger).await), "keys_unavailable", "nobody can tell");
    }
    clock.advance(Duration::from_mins(61));
    let token = signer.sign(&claims(&issuer.url, clock.unix()));
    assert_eq!(cause(ask(&oidc, &token).await), "keys_unavailable");
    issuer.be(Mode::Well);
    clock.advance(store::COOLDOWN);
    ask(&oidc, &token).await.unwrap();
}

#[tokio::test]
async fn rotation_takes_the_new_and_ends_the_old() {
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    let issuer = Issuer::start(std::slice::from_ref(&old)).await;
    let (oidc, clock) = oidc(provider(&issuer.url));
    let of = |signer: &Signer| signer.sign(&claims(&issuer.url, clock.unix()));
    let (of_old, of_new) = (of(&old), of(&new));
    ask(&oidc, &of_old).await.unwrap();
    assert_eq!(cause(ask(&oidc, &of_new).await), "unknown_key");
    issuer.set_keys(&[&old, &new]);
    clock.advance(store::COOLDOWN);
    ask(&oidc, &of_new).await.unwrap();
    ask(&oidc, &of_old).await.unwrap();
    assert!(is_known(&oidc, &of_old) && is_known(&oidc, &of_new));
    // The old key leaves. The next request for keys, whatever it is for, ends what it has proven.
    issuer.set_keys(&[&new]);
    clock.advance(store::COOLDOWN);
    ask(&oidc, &of(&Signer::es256("unknown"))).await.unwrap_err();
    assert!(!is_known(&oidc, &of_old));
    assert_eq!(cause(ask(&oidc, &of_old).await), "unknown_key");
    ask(&oidc, &of_new).await.unwrap();
}

#[tokio::test]
async fn keys_are_asked_for_again_every_hour_without_making_anybody_wait() {
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    let issuer = Issuer::start(std::slice::from_ref(&old)).await;
    let (oidc, clock) = oidc(provider(&issuer.url));
    let of_old = old.sign(&claims(&issuer.url, clock.unix() + Duration::from_mins(50)));
    clock.advance(Duration::from_mins(50));
    ask(&oidc, &of_old).await.unwrap();
    issuer.set_keys(&[&new]);
    clock.advance(Duration::from_mins(59));
    ask(&oidc, &of_old).await.unwrap();
    assert_eq!(issuer.fetches(), 1);
    clock.advance(Duration::from_mins(1));
    ask(&oidc, &of_old).await.unwrap();
    for _ in 0..500 {
        if issuer.fetches() == 2 && !is_known(&oidc, &of_old) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(cause(ask(&oidc, &of_old).await), "unknown_key");
}

#[tokio::test]
async fn a_flood_of_unknown_keys_costs_the_cooldowns_number_of_fetches() {
    let signer = Signer::es256("a");
    let issuer = Issuer::start(std::slice::from_ref(&signer)).await;
    let (oidc, clock) = oidc(provider(&issuer.url));
    let good = signer.sign(&claims(&issuer.url, clock.unix()));
    ask(&oidc, &good).await.unwrap();
    let started = clock.elapsed();
    for n in 0..10_000_u32 {
        let token = keys::unsigned(
            &json!({"alg": "ES256", "kid": n.to_string()}),
            &claims(&issuer.url, clock.unix()),
        );
        assert_eq!(cause(ask(&oidc, &token).await), "unknown_key");
        clock.advance(Duration::from_millis(10));
    }
    let elapsed = clock.elapsed().saturating_sub(started).as_secs();
    let fetches = issuer.fetches() as u64 - 1;
    assert!((5..=1 + elapsed / store::COOLDOWN.as_secs()).contains(&fetches), "{fetches} in {elapsed} s");
    ask(&oidc, &good).await.unwrap();
    // The issuer goes away: nobody is called a forger then.
    issuer.be(Mode::Close);
    clock.advance(store::COOLDOWN);
    let token = keys::unsigned(&json!({"alg": "ES256", "kid": "x"}), &claims(&issuer.url, clock.unix()));
    assert_eq!(cause(ask(&oidc, &token).await), "keys_unavailable");
    ask(&oidc, &good).await.unwrap();
}

#[tokio::test]
async fn all_threads_wait_for_one_request() {
    let signer = Signer::es256("a");
    let issuer = Issuer::start(std::slice::from_ref(&signer)).await;
    let (oidc, clock) = oidc(provider(&issuer.url));
    let oidc = Arc::new(oidc);
    let threads = (0..16).map(|_| {
        let (oidc, token) = (Arc::clone(&oidc), signer.sign(&claims(&issuer.url, clock.unix())));
        tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { ask(&oidc, &token).await.map(drop) })
        })
    });
    for proof in futures_util::future::join_all(threads).await {
        proof.unwrap().unwrap();
    }
    assert_eq!((issuer.fetches(), issuer.requests()), (1, 2));
}

#[tokio::test]
async fn who_hangs_up_does_not_end_the_request_for_keys() {
    let signer = Signer::es256("a");
    let issuer = Issuer::start(std::slice::from_ref(&signer)).await;
    let (oidc, clock) = oidc(provider(&issuer.url));
    let token = signer.sign(&claims(&issuer.url, clock.unix()));
    let headers = headers(&format!("bearer {token}"));
    let Judgement::Later(mut waiting) = oidc.authenticate(&headers) else { panic!("nothing is known yet") };
    let pending = std::future::poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending()));
    assert!(pending.await);
    drop(waiting);
    ask(&oidc, &token).await.unwrap();
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
async fn a_cached_token_still_expires() {
    let signer = Signer::es256("a");
    let issuer = Issuer::start(std::slice::from_ref(&signer)).await;
    let (oidc, clock) = oidc(provider(&issuer.url));
    let token = signer.sign(&claims(&issuer.url, clock.unix()));
    ask(&oidc, &token).await.unwrap();
    clock.advance(Duration::from_secs(3598));
    ask(&oidc, &token).await.unwrap();
    assert!(is_known(&oidc, &token));
    clock.advance(Duration::from_secs(13));
    let refused = ask(&oidc, &token).await.unwrap_err();
    assert_eq!(refused.cause, "expired");
    assert!(refused.message.contains("expired 1"), "{refused}");
    assert!(is_known(&oidc, &token), "a flood of it costs a digest each");
}

#[tokio::test]
async fn a_key_for_the_discovery_is_sent_to_the_issuer_only() {
    let signer = Signer::es256("a");
    let issuer = Issuer::start(std::slice::from_ref(&signer)).await;
    let file = File::new("bearer", "the-agents-own-token");
    let mut provider = provider(&issuer.url);
    provider.bearer_token_file = Some(file.0.clone());
    let (oidc, clock) = oidc(provider.clone());
    oidc.prefetch().await;
    ask(&oidc, &signer.sign(&claims(&issuer.url, clock.unix()))).await.unwrap();
    assert_eq!(issuer.heads_with("authorization: Bearer the-agents-own-token"), 2);
    // Without discovery the issuer may be any name.
    provider.issuer_url = "kubernetes/serviceaccount".to_owned();
    provider.jwks_url = Some(format!("{}/keys", issuer.url));
    let (oidc, clock) = super::tests::oidc(provider);
    ask(&oidc, &signer.sign(&claims("kubernetes/serviceaccount", clock.unix()))).await.unwrap();
}

#[test]
fn nothing_to_review_with_is_told_at_start() {
    let file = File::new("keys", &keys::set(&[Signer::es256("a")]));
    let mut provider = provider("https://issuer.example");
    provider.public_keys_file = Some(file.0.clone());
    let mut extension = extension(vec![provider]);
    extension.attribute = "x y".to_owned();
    assert!(Oidc::new(&extension).unwrap_err().to_string().contains("header"));
    extension.attribute = "x-token".to_owned();
    let ca_file = Some(PathBuf::from("/nonexistent/ca.crt"));
    extension.token_review =
        Some(ApiClient { endpoint: Some("https://127.0.0.1:1".into()), ca_file, ..ApiClient::default() });
    assert!(Oidc::new(&extension).unwrap_err().to_string().contains("/nonexistent/ca.crt"));
}
