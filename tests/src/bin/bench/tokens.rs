//! What a token costs: one that was seen before, and one that is new.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use http::HeaderMap;
use nix::time::{ClockId, clock_gettime};
use spanwarden::{
    auth::{Authenticator as _, Judgement, Proof, oidc::Oidc},
    config::auth::{OidcExtension, OidcProvider},
};
use spanwarden_tests::{
    agent::Directory,
    tokens::{Signer, bound},
};

const ISSUER: &str = "https://issuer.example";
/// More than a core's caches hold of their entries, and no more than are kept.
const TOKENS: usize = 4096;
const ROUNDS: usize = 20;

pub(crate) fn run() -> Result<()> {
    let directory = Directory::new()?;
    let file = directory.path().join("key.pem");
    let signer = Signer::new("a")?;
    fs::write(&file, signer.public_pem())?;
    let oidc = Oidc::new(&OidcExtension {
        attribute: "authorization".to_owned(),
        providers: vec![OidcProvider {
            issuer_url: ISSUER.to_owned(),
            audience: "spanwarden".to_owned(),
            issuer_ca_path: None,
            public_keys_file: Some(file),
            jwks_url: None,
            username_claim: "sub".to_owned(),
            groups_claim: None,
            leeway: Duration::from_secs(10),
            max_token_lifetime: Duration::from_hours(24),
            allow_multiple_audiences: false,
            bearer_token_file: None,
        }],
        token_review: None,
    })?;
    let requests = (0..TOKENS).map(|n| request(&signer, n)).collect::<Result<Vec<_>>>()?;
    let bytes: usize = requests.iter().map(|headers| headers["authorization"].len()).sum();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("| token of {} bytes | ns CPU |", bytes / TOKENS);
    println!("|---|---|");
    let new = time(&requests, |headers| {
        runtime.block_on(async {
            match oidc.authenticate(headers) {
                Judgement::Later(proof) => Some(proof.await),
                Judgement::Known(_) => None,
            }
        })
    })?;
    println!("| new (Ed25519) | {new:.0} |");
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let warm = time(&requests, |headers| match oidc.authenticate(headers) {
            Judgement::Known(proof) => Some(proof),
            Judgement::Later(_) => None,
        })?;
        best = best.min(warm);
    }
    println!("| seen before | {best:.0} |");
    Ok(())
}

fn request(signer: &Signer, n: usize) -> Result<HeaderMap> {
    let pod = (format!("cart-{n}"), format!("22222222-aaaa-4000-8000-{n:012}"));
    let mut claims = bound(ISSUER, "spanwarden", "shop", "cart", (&pod.0, &pod.1));
    // As long as one that is signed with RSA, as most API servers do: 256 bytes of signature, not 64.
    claims["size"] = "x".repeat(230).into();
    let token = signer.sign(&claims)?;
    let mut headers = HeaderMap::new();
    headers.insert("authorization", format!("Bearer {token}").parse()?);
    Ok(headers)
}

/// The time of this thread for one of them.
fn time(requests: &[HeaderMap], mut work: impl FnMut(&HeaderMap) -> Option<Proof>) -> Result<f64> {
    let start = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?);
    for headers in requests {
        let proof = work(headers);
        ensure!(matches!(proof, Some(Ok(_))), "not accepted as expected: {proof:?}");
    }
    let end = Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?);
    Ok(end.saturating_sub(start).as_secs_f64() * 1e9 / requests.len() as f64)
}
