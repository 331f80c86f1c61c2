use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::auth::{Method, Proof};

/// Believes what the header `who` says: the same principal for the same name, as a cache of tokens does.
#[derive(Debug)]
struct ByName(Vec<Arc<Principal>>);

impl Authenticator for ByName {
    fn authenticate<'a>(&'a self, headers: &'a HeaderMap) -> Judgement<'a> {
        let who = headers.get("who").map(|value| value.to_str().unwrap());
        let proof: Proof = match self.0.iter().find(|known| Some(known.name.as_str()) == who) {
            Some(known) => Ok(Arc::clone(known)),
            None if who == Some("never") => return Judgement::Later(Box::pin(std::future::pending())),
            None => Err(Refused::unauthenticated("unknown", "who is that?")),
        };
        if who == Some("later") {
            Judgement::Later(Box::pin(async { proof }))
        } else {
            Judgement::Known(proof)
        }
    }
}

/// Counts how often it is asked.
#[derive(Debug, Default)]
struct Counting {
    asked: AtomicUsize,
    by_header: bool,
}

impl Bind for Counting {
    fn bind(&self, sender: &Sender<'_>) -> Result<Arc<Identity>, Refused> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Direct.bind(sender)
    }

    fn depends_on_headers(&self, _: &Identity) -> bool {
        self.by_header
    }
}

struct Scene {
    gate: Gate,
    binder: Arc<Counting>,
    origin: Arc<Origin>,
    remembered: Remembered,
    lookups: Semaphore,
}

impl Scene {
    fn new(by_header: bool) -> Self {
        let names = ["a", "b", "later"];
        let known = names.map(|name| Arc::new(Principal::named(Method::BearerToken, name)));
        let binder = Arc::new(Counting { by_header, ..Counting::default() });
        let gate = Gate {
            receiver: Gate::default().receiver,
            authenticator: Some(Arc::new(ByName(known.into()))),
            binder: Arc::clone(&binder) as Arc<dyn Bind>,
        };
        let origin = Arc::new(Origin::unknown(([127, 0, 0, 1], 1).into()));
        Self { gate, binder, origin, remembered: Remembered::default(), lookups: Semaphore::new(2) }
    }

    async fn admit(&self, who: &'static str) -> Result<Arc<Identity>, Refused> {
        self.admit_with(who, None).await
    }

    async fn admit_with(
        &self,
        who: &'static str,
        certificate: Option<&Arc<Principal>>,
    ) -> Result<Arc<Identity>, Refused> {
        let mut headers = HeaderMap::new();
        headers.insert("who", http::HeaderValue::from_static(who));
        let Self { origin, remembered, lookups, .. } = self;
        self.gate.admit(Seat { origin, certificate, remembered, lookups }, &headers).await
    }
}

fn name(identity: &Identity) -> &str {
    &identity.principal.as_ref().unwrap().name
}

#[tokio::test]
async fn the_binder_is_asked_once_for_one_sender_after_another() {
    let scene = Scene::new(false);
    for (who, asked) in [("a", 1), ("a", 1), ("b", 2), ("b", 2), ("a", 3), ("later", 4), ("later", 4)] {
        assert_eq!(name(&scene.admit(who).await.unwrap()), who);
        assert_eq!(scene.binder.asked.load(Ordering::Relaxed), asked, "{who}");
    }
    assert_eq!(
        scene.admit("nobody").await.unwrap_err().cause,
        "unknown",
        "what is remembered is no credential"
    );
}

#[tokio::test]
async fn what_depends_on_headers_is_not_remembered() {
    let scene = Scene::new(true);
    for asked in 1..4 {
        scene.admit("a").await.unwrap();
        assert_eq!(scene.binder.asked.load(Ordering::Relaxed), asked);
    }
}

#[tokio::test(start_paused = true)]
async fn who_can_not_be_told_in_time_comes_back_later() {
    let refused = Scene::new(false).admit("never").await.unwrap_err();
    assert_eq!(
        (refused.cause, refused.kind),
        ("auth_timeout", crate::auth::RefusedKind::Unavailable { retry_after: RETRY })
    );
}

#[tokio::test]
async fn a_certificate_that_has_expired_meanwhile_is_refused_also_with_a_good_token() {
    let scene = Scene::new(false);
    let ending = |not_after| {
        Arc::new(Principal { not_after: Some(not_after), ..Principal::named(Method::Certificate, "c") })
    };
    let now = SystemTime::now();
    let good = ending(now + Duration::from_mins(1));
    assert_eq!(name(&scene.admit_with("a", Some(&good)).await.unwrap()), "a", "the token goes first");
    let refused = scene.admit_with("a", Some(&ending(now))).await.unwrap_err();
    assert_eq!((refused.cause, refused.event), ("certificate_expired", Some(Reason::CertificateExpired)));
}

#[tokio::test(start_paused = true)]
async fn only_so_many_wait_for_a_look() {
    let scene = Scene::new(false);
    let (one, two, three) = tokio::join!(scene.admit("never"), scene.admit("never"), scene.admit("never"));
    assert_eq!(
        [one, two, three].map(|it| it.unwrap_err().cause),
        ["auth_timeout", "auth_timeout", "auth_pending"]
    );
    assert!(scene.admit("later").await.is_ok(), "their places are free again");
}
