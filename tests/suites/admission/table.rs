//! The forgery table: who sends, what is shown, and what comes of it, each row over gRPC and over HTTP.
//!
//! No forgery may reach the exporter, and every row has an honest one beside it: the same sender with its own
//! credentials, which must.

#[path = "table/check.rs"]
mod check;
#[path = "table/claims.rs"]
mod claims;
#[path = "table/rows.rs"]
mod rows;
#[path = "table/scene.rs"]
mod scene;

use anyhow::{Result, ensure};
use spanwarden_tests::proto::v1::KeyValue;

use super::{spans::text, world::Shown};
use scene::Scene;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Who {
    /// `shop/cart-0`, whose credentials are stolen.
    Cart,
    /// `shop/web-0`: another account of the same namespace.
    Web,
    /// `batch/report-0`
    Thief,
    /// `batch/twin-0`: a pod of its own in the network of `cart-0`, with its addresses.
    Twin,
    /// A process of the thief's in a cgroup below its own that is named like the victim's.
    Nested,
    /// A process in the thief's network that the kernel's programs do not watch.
    Unseen,
    /// A service of the node, in no pod.
    Host,
    /// `batch/fresh-0`, of which the API server has not told yet.
    Fresh,
    /// `lab/trial-0`, whose claims are quarantined.
    Lab,
    /// `dev/sandbox-0`, whose claims are corrected.
    Dev,
}

/// To whom; each is a receiver with two listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    /// A token; the kernel must have seen the sender; contradictions are refused.
    Oidc,
    /// The token must be bound to a pod.
    Bound,
    /// Contradictions are annotated.
    Annotate,
    /// Contradictions are quarantined.
    Quarantine,
    /// The sender's address is evidence enough.
    Address,
    /// A shared token.
    Bearer,
    /// A client certificate.
    Mtls,
    /// A token, and a client certificate if there is one.
    Both,
    /// Nothing but evidence.
    Open,
}

impl To {
    const ALL: [Self; 9] = [
        Self::Oidc,
        Self::Bound,
        Self::Annotate,
        Self::Quarantine,
        Self::Address,
        Self::Bearer,
        Self::Mtls,
        Self::Both,
        Self::Open,
    ];

    fn name(self) -> String {
        format!("otlp/{}", format!("{self:?}").to_lowercase())
    }

    fn port(self, grpc: bool) -> u16 {
        4300 + 10 * self as u16 + if grpc { 7 } else { 8 }
    }
}

/// What comes of it.
#[derive(Clone, Debug)]
pub(crate) enum Then {
    /// It is let in.
    Accepted {
        /// The verified name that is stamped.
        principal: Option<String>,
        /// Other attributes that must be there, once and so, in every resource; `None`: must not be there.
        has: Vec<(&'static str, Option<String>)>,
        /// How many attributes of a name were overwritten.
        overwritten: Vec<(&'static str, u64)>,
        /// How many claims were against the rule, and its mode.
        forged: Option<(&'static str, u64)>,
        /// On the sender's pod.
        event: Option<&'static str>,
    },
    /// The request is answered with an error.
    Refused {
        grpc: u16,
        http: u16,
        cause: &'static str,
        words: &'static [&'static str],
        event: Option<&'static str>,
    },
    /// There is no request.
    Broken { cause: &'static str, event: Option<&'static str> },
}

/// One row.
pub(crate) struct Row {
    name: &'static str,
    who: Who,
    to: To,
    shown: Shown,
    resources: Vec<Vec<KeyValue>>,
    then: Then,
    /// To an address that the agent does not know as its own, and that leads to it.
    relayed: bool,
}

impl Row {
    fn new(name: &'static str, who: Who, to: To, shown: Shown, then: Then) -> Self {
        let resources = vec![vec![text("service.name", "cart-default")]];
        Self { name, who, to, shown, resources, then, relayed: false }
    }

    fn is_forgery(&self) -> bool {
        !self.name.starts_with("honest")
    }
}

/// Let in, as whom.
pub(crate) fn accepted(principal: Option<String>) -> Then {
    Then::Accepted { principal, has: Vec::new(), overwritten: Vec::new(), forged: None, event: None }
}

/// Who it is was not proven.
pub(crate) fn unproven(cause: &'static str, words: &'static [&'static str]) -> Then {
    Then::Refused { grpc: 16, http: 401, cause, words, event: None }
}

/// A proof that somebody made up.
pub(crate) fn made_up(cause: &'static str, words: &'static [&'static str]) -> Then {
    Then::Refused { grpc: 16, http: 401, cause, words, event: Some("ForgedIdentity") }
}

/// Who it is is known, and it may not.
pub(crate) fn denied(
    cause: &'static str,
    words: &'static [&'static str],
    event: Option<&'static str>,
) -> Then {
    Then::Refused { grpc: 7, http: 403, cause, words, event }
}

#[test]
fn no_forgery_is_accepted_and_every_honest_sender_is() -> Result<()> {
    let mut scene = Scene::new()?;
    let mut rows = rows::honest(&scene);
    rows.extend(rows::thefts(&scene));
    rows.extend(rows::tokens(&scene));
    rows.extend(rows::headers(&scene));
    rows.extend(rows::certificates(&scene)?);
    rows.extend(claims::rows(&scene));
    let forgeries = rows.iter().filter(|row| row.is_forgery()).count();
    ensure!(forgeries >= 60, "only {forgeries} rows");
    for row in rows.iter().filter(|row| row.is_forgery()) {
        let honest = rows.iter().any(|other| {
            !other.is_forgery() && matches!(other.then, Then::Accepted { .. }) && other.who == row.who
        });
        // Whom the kernel does not see, or sees in no pod, has no honest way in.
        ensure!(honest || matches!(row.who, Who::Unseen | Who::Host), "{}: no honest row", row.name);
    }
    let mut faults = Vec::new();
    let page = super::documents::page();
    for row in &rows {
        if let Then::Refused { cause, .. } | Then::Broken { cause, .. } = row.then
            && !page.contains(&format!("`{cause}`"))
        {
            faults.push(format!("deploy/docs/admission.md does not say what to do about `{cause}`"));
        }
    }
    for (number, row) in (1..).zip(&rows) {
        for grpc in [true, false] {
            let first = number * 64 + if grpc { 0 } else { 32 };
            faults.extend(check::answer(&mut scene, row, grpc, first)?);
        }
    }
    faults.extend(check::events(&scene, &rows));
    faults.extend(check::exported(scene, &rows)?);
    ensure!(faults.is_empty(), "{} faults in {} rows:\n{}", faults.len(), rows.len(), faults.join("\n"));
    println!("{forgeries} forgeries, {} honest rows, over gRPC and HTTP", rows.len() - forgeries);
    Ok(())
}
