//! Tokens bound to a pod, as the API server issues them, checked by the program: offline, and with `TokenReview`.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use spanwarden::{
    auth::{Authenticator as _, Judgement, Principal, Refused, oidc::Oidc},
    config::auth::{OidcExtension, OidcProvider},
};
use std::sync::Arc;

use crate::cluster::{Cluster, PATIENCE};

const WEB: (&str, &str) = ("shop", "web");

pub(crate) fn check(cluster: &Cluster) -> Result<()> {
    let uid = cluster.pod("bound", "node-a", "10.1.0.5")?;
    let token = cluster.token(WEB, &["spanwarden"], Some(("bound", &uid)))?;
    for review in [false, true] {
        let principal =
            believed(cluster, review, &token)?.map_err(|refused| anyhow::anyhow!("{refused:?}"))?;
        let account = principal.service_account.as_ref().context("a service account")?;
        ensure!((account.namespace.as_str(), account.name.as_str()) == WEB, "{principal:?}");
        let pod = principal.pod.as_ref().context("a pod")?;
        ensure!(pod.name == "bound" && pod.uid.as_deref() == Some(uid.as_str()), "{principal:?}");
        let node = principal.node.as_ref().context("a node")?;
        ensure!(node.name == "node-a" && node.uid.is_some(), "{principal:?}");
    }
    for (audiences, cause) in [
        (&["elsewhere"][..], "audience"),
        (&[][..], "audience"),
        (&["spanwarden", "https://kubernetes.default.svc"][..], "audience"),
    ] {
        let token = cluster.token(WEB, audiences, Some(("bound", &uid)))?;
        let Err(refused) = believed(cluster, false, &token)? else { bail!("{audiences:?} was believed") };
        ensure!(refused.cause.contains(cause), "{audiences:?}: {refused:?}");
    }
    let mut forged = token.clone();
    let last = if forged.ends_with('A') { 'Q' } else { 'A' };
    // The last character of a signature holds two bits that matter and is not always one; the one before is.
    let at = forged.len() - 2;
    forged.replace_range(at..=at, &last.to_string());
    ensure!(believed(cluster, false, &forged)?.is_err(), "a changed signature was believed");
    cluster.delete_pod("bound")?;
    // The API server remembers that it believed the token for about ten seconds.
    let deadline = Instant::now() + PATIENCE;
    while believed(cluster, true, &token)?.is_ok() {
        ensure!(Instant::now() < deadline, "the token outlives its pod");
        std::thread::sleep(Duration::from_secs(1));
    }
    ensure!(
        believed(cluster, false, &token)?.is_ok(),
        "offline nobody knows that the pod is gone: that is what the review is for"
    );
    Ok(())
}

/// What an agent that has just started makes of a token.
fn believed(cluster: &Cluster, review: bool, token: &str) -> Result<Result<Arc<Principal>, Refused>> {
    let reached = cluster.as_agent()?;
    let provider = OidcProvider {
        issuer_url: cluster.url().to_owned(),
        audience: "spanwarden".to_owned(),
        issuer_ca_path: Some(cluster.ca_file()),
        public_keys_file: None,
        jwks_url: None,
        username_claim: "sub".to_owned(),
        groups_claim: None,
        leeway: Duration::from_secs(10),
        max_token_lifetime: Duration::from_hours(24),
        allow_multiple_audiences: false,
        bearer_token_file: reached.token_file.clone(),
    };
    let config = OidcExtension {
        attribute: "authorization".to_owned(),
        providers: vec![provider],
        token_review: review.then_some(reached),
    };
    let oidc = Oidc::new(&config)?;
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}"))?);
    let judged = cluster.wait(async {
        let verdict = match oidc.authenticate(&headers) {
            Judgement::Known(proof) => proof,
            Judgement::Later(proof) => tokio::time::timeout(PATIENCE, proof).await?,
        };
        anyhow::Ok(verdict)
    })?;
    Ok(judged)
}
