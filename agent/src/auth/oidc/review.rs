//! `TokenReview`: the API server's word on a token that verifies. It knows what a signature can't say: whether the pod,
//! the service account and the node that the token is bound to are still there.

#![forbid(unsafe_code)]

use std::{sync::LazyLock, time::Duration};

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::fault::{Fault, shown};
use crate::{
    auth::Principal,
    config::extensions::ApiClient,
    telemetry::metrics::{Counters, counter},
    transport::http::{Client, ClientOptions, HttpError, Response, api_server},
};

/// How long its word holds. A pod that is gone is noticed at once by the pod source; this is for who has none.
pub(super) const HOLDS: Duration = Duration::from_mins(10);
/// Questions at one time.
const AT_ONCE: usize = 8;
/// How long a sender waits for its turn.
const TURN: Duration = Duration::from_secs(4);
/// When to come back if the API server can't be asked.
const RETRY: Duration = Duration::from_secs(5);
/// The largest answer.
const MAX_ANSWER: usize = 64 << 10;

/// `extra` of the user that a bound token stands for (authentication.k8s.io/v1).
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

static REVIEWS: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_oidc_token_reviews",
        "Tokens that the API server was asked about, by result.",
        &["result"],
    )
});

/// See the module's description.
#[derive(Debug)]
pub(super) struct Review {
    client: Client,
    url: String,
    turns: Semaphore,
}

impl Review {
    pub(super) fn new(api: &ApiClient) -> Result<Self, HttpError> {
        let (endpoint, options) = api_server(api)?;
        let client = Client::new(ClientOptions {
            connect_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(4),
            body_limit: MAX_ANSWER,
            ..options
        })?;
        let url = format!("{endpoint}/apis/authentication.k8s.io/v1/tokenreviews");
        Ok(Self { client, url, turns: Semaphore::new(AT_ONCE) })
    }

    /// Asks. `again` tells whether somebody else got an answer while this one waited for its turn.
    pub(super) async fn ask(
        &self,
        token: &[u8],
        audience: &str,
        principal: &Principal,
        again: impl Fn() -> bool,
    ) -> Result<(), Fault> {
        let unavailable = Fault::ReviewUnavailable { retry_after: RETRY };
        let Ok(Ok(_turn)) = tokio::time::timeout(TURN, self.turns.acquire()).await else {
            REVIEWS.with_label_values(&["overloaded"]).inc();
            return Err(unavailable);
        };
        if !again() {
            return Ok(());
        }
        let text = std::str::from_utf8(token).map_err(|_| Fault::Malformed("it is no text"))?;
        let question = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": text, "audiences": [audience]},
        });
        let answer = self.client.post_json(&self.url, question.to_string().into_bytes()).await;
        let answer = answer.and_then(Response::success);
        let status = match answer.map(|answer| serde_json::from_slice::<Value>(&answer.body)) {
            Ok(Ok(mut answer)) => answer["status"].take(),
            Ok(Err(_)) => return Err(failed(&"the answer is no JSON", unavailable)),
            Err(error) => return Err(failed(&error, unavailable)),
        };
        let verdict = judge(&status, audience, principal);
        let result = match &verdict {
            Ok(()) => "accepted",
            Err(_) => "refused",
        };
        REVIEWS.with_label_values(&[result]).inc();
        verdict
    }
}

fn failed(error: &dyn std::fmt::Display, fault: Fault) -> Fault {
    REVIEWS.with_label_values(&["error"]).inc();
    tracing::warn!(%error, "the API server can't be asked about tokens; it needs `create` on `tokenreviews`");
    fault
}

/// `TokenReviewStatus` against what the token says of itself.
fn judge(status: &Value, audience: &str, principal: &Principal) -> Result<(), Fault> {
    if status["authenticated"] != Value::Bool(true) {
        let why = status["error"].as_str().filter(|why| !why.is_empty());
        return Err(Fault::Review(why.map_or_else(|| "it does not say why".to_owned(), shown)));
    }
    // An API server that knows no audiences answers without them: then the answer is about its own.
    let audiences = status["audiences"].as_array();
    if !audiences.is_some_and(|list| list.iter().any(|one| one == audience)) {
        return Err(Fault::Review(format!("not for the audience `{}`", shown(audience))));
    }
    let user = &status["user"];
    if let Some(account) = &principal.service_account {
        let name = format!("system:serviceaccount:{}:{}", account.namespace, account.name);
        if user["username"] != Value::String(name) {
            return Err(Fault::Contradiction("the API server knows it as another user's"));
        }
        if user["uid"].as_str() != account.uid.as_deref() {
            return Err(Fault::Contradiction("its service account was deleted and made anew"));
        }
    }
    if let Some(pod) = &principal.pod {
        let known = user["extra"][POD_UID].as_array().map(Vec::as_slice);
        match known {
            Some([one]) if one.as_str() == pod.uid.as_deref() => {}
            _ => return Err(Fault::Contradiction("the API server knows it as another pod's")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Method, ObjectReference, ServiceAccount};

    #[test]
    fn every_part_of_the_answer_counts() {
        let mut principal = Principal::named(Method::Oidc, "x");
        principal.service_account =
            Some(ServiceAccount { namespace: "shop".into(), name: "cart".into(), uid: Some("s1".into()) });
        principal.pod = Some(ObjectReference { name: "cart-1".into(), uid: Some("p1".into()) });
        let good = json!({
            "authenticated": true,
            "audiences": ["spanwarden"],
            "user": {"username": "system:serviceaccount:shop:cart", "uid": "s1", "extra": {POD_UID: ["p1"]}},
        });
        assert_eq!(judge(&good, "spanwarden", &principal), Ok(()));
        for (pointer, value) in [
            ("/authenticated", json!(false)),
            ("/authenticated", json!("true")),
            ("/audiences", json!([])),
            ("/audiences", Value::Null),
            ("/audiences", json!(["https://kubernetes.default.svc"])),
            ("/user/username", json!("system:serviceaccount:shop:other")),
            ("/user/uid", json!("s2")),
            ("/user/extra", json!({})),
            ("/user/extra", json!({POD_UID: ["p1", "p2"]})),
            ("/user/extra", json!({POD_UID: ["p2"]})),
            ("", Value::Null),
        ] {
            let mut status = good.clone();
            *status.pointer_mut(pointer).unwrap() = value;
            assert!(judge(&status, "spanwarden", &principal).is_err(), "{status}");
        }
    }
}
