//! Whether what a sender has proven agrees with what the kernel saw.
//!
//! | # | evidence | contradiction | then |
//! |---|---|---|---|
//! | 1 | less than `evidence` asks for, or in conflict with itself | – | refused |
//! | 2 | token bound to a pod | the connection is another pod's, or the kernel saw it opened in no pod | refused, whatever the mode: a stolen token |
//! | 3 | token bound to a node | this is another node | refused, whatever the mode |
//! | 4 | token bound to a pod, none known of the connection | the pod source knows no such pod here | refused |
//! | 5 | token not bound to a pod | `pod_bound: true` | refused |
//! | 6 | token of a service account | the connection's pod runs as another | by `mode` |
//! | 7 | certificate of a service account | the connection's pod runs as another | by `mode` |
//! | 8 | certificate and token of service accounts | they are two | by `mode` |
//!
//! By `mode`: `reject` refuses; `quarantine` and `annotate` let the spans pass under what the kernel saw, without the
//! principal that is contradicted. A proxy's connections (`proxies`) are only judged by rows 1, 3, 5 and 8, an
//! agent's (`agents`) by 1 and 8. `deploy/docs/admission.md` shows the same table to operators.

#![forbid(unsafe_code)]

use std::{
    fmt,
    sync::{Arc, LazyLock},
    time::Duration,
};

use http::HeaderMap;

use super::{
    Identity, Principal, Refused, ServiceAccount,
    claims::Claims,
    names,
    tenant::{Tenant, Tenants},
};
use crate::{
    config::{
        ComponentId,
        auth::{Binding, ClaimMode, EvidenceLevel, IdentityExtension},
    },
    origin::{Evidence, Origin, Pod, PodSource},
    telemetry::{
        Cause,
        events::Reason,
        metrics::{Counters, counter},
    },
};

static LET_PASS: LazyLock<Counters> = LazyLock::new(|| {
    counter(
        "spanwarden_identity_contradictions",
        "Senders whose credentials contradict the kernel's evidence or each other and who were let pass, because the mode \
         is annotate or quarantine; a sender counts again every few seconds. Refused ones are refused requests.",
        &["cause"],
    )
});

/// When to come back while a pod's metadata are on their way.
const METADATA: Duration = Duration::from_secs(1);

/// What is known of a sender when a request's headers are there.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// The receiver that it speaks to.
    pub receiver: &'a ComponentId,
    /// What the kernel saw of its connection.
    pub origin: &'a Origin,
    /// Whom its certificate proves.
    pub certificate: Option<&'a Arc<Principal>>,
    /// Whom its token proves.
    pub token: Option<&'a Arc<Principal>>,
    /// The request's headers; only an agent's are believed.
    pub headers: &'a HeaderMap,
}

/// `identity`, ready for use.
pub struct Binder {
    config: IdentityExtension,
    tenants: Option<Tenants>,
    pods: Arc<dyn PodSource>,
    /// This node's name, where it is known: `K8S_NODE_NAME`.
    node: Option<String>,
}

impl fmt::Debug for Binder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Binder")
            .field("config", &self.config)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// A row of the table that speaks against a sender.
struct Contradiction {
    cause: Cause,
    message: String,
}

impl Binder {
    /// `pods` may learn of a pod after its connection was accepted.
    pub fn new(config: &IdentityExtension, pods: Arc<dyn PodSource>, node: Option<String>) -> Self {
        Self { tenants: config.tenants.as_ref().and_then(Tenants::new), config: config.clone(), pods, node }
    }

    /// What senders may claim, for the stage that sees what they do.
    pub fn claims(&self) -> Claims {
        Claims::new(&self.config.rules, self.tenants.as_ref().map(Tenants::quarantine))
    }

    /// Who counts as the sender, or why nobody does.
    pub fn bind(&self, sender: &Sender<'_>) -> Result<Identity, Refused> {
        let binding = self.binding(sender.receiver);
        let principal = sender.token.or(sender.certificate);
        if let Some(principal) = principal.filter(|principal| self.is_agent(principal)) {
            return self.agent(sender, binding, principal);
        }
        evidence(binding, sender.origin)?;
        let pod = self.pod(sender.origin);
        let account = pod.as_deref().and_then(account_of);
        let is_proxy = account.as_ref().is_some_and(|account| self.is_proxy(account));
        self.token(sender, binding, pod.as_deref(), is_proxy)?;
        if pod.is_none() {
            self.comparable(sender)?;
        }
        let contradiction = contradiction(sender, account.as_ref().filter(|_| !is_proxy));
        let proven = match &contradiction {
            Some(found) if binding.mode == ClaimMode::Reject => {
                return Err(
                    Refused::denied(found.cause, found.message.clone()).with_event(Reason::ForgedIdentity)
                );
            }
            Some(_) => None,
            None => principal.cloned(),
        };
        let quarantined = contradiction.is_some() && binding.mode == ClaimMode::Quarantine;
        // A proxy carries others' spans: it is the token's or certificate's account that counts there.
        let whose = account.filter(|_| !is_proxy).or_else(|| proven.as_ref()?.service_account.clone());
        let tenant = self.tenant(sender, proven.as_deref(), whose.as_ref(), quarantined)?;
        if let Some(found) = &contradiction {
            LET_PASS.with_label_values(&[found.cause]).inc();
        }
        Ok(Identity {
            tenant,
            rule: self.rule(pod.as_deref(), whose.as_ref()),
            contradiction: contradiction.map(|found| found.cause),
            quarantined,
            principal: proven,
            is_agent: false,
            pod,
        })
    }

    fn binding(&self, receiver: &ComponentId) -> &Binding {
        let own = self.config.receivers.iter().find(|(id, _)| id == receiver);
        own.map_or(&self.config.default, |(_, binding)| binding)
    }

    fn is_agent(&self, principal: &Principal) -> bool {
        self.config.agents.iter().any(|pattern| names::means(pattern, principal))
    }

    fn is_proxy(&self, account: &ServiceAccount) -> bool {
        let is = |name: &String| name.split_once('/') == Some((&account.namespace, &account.name));
        self.config.proxies.iter().any(is)
    }

    /// An agent in front of us has done all this for its own senders, and says which tenant came of it.
    fn agent(
        &self,
        sender: &Sender<'_>,
        binding: &Binding,
        principal: &Arc<Principal>,
    ) -> Result<Identity, Refused> {
        if sender.origin.evidence == Evidence::Conflict {
            evidence(binding, sender.origin)?;
        }
        if let (Some(token), Some(certificate)) = (sender.token, sender.certificate)
            && let Some(found) = two_accounts(token, certificate)
        {
            return Err(Refused::denied(found.cause, found.message).with_event(Reason::ForgedIdentity));
        }
        let tenant = match &self.tenants {
            None => None,
            Some(tenants) => {
                let told = sender.headers.get(tenants.header()).and_then(|name| tenants.named(name));
                let message =
                    "the agent names no tenant for these spans; let its `identity` have `tenants` too";
                Some(told.ok_or_else(|| Refused::denied("agent_without_tenant", message))?)
            }
        };
        Ok(Identity { principal: Some(Arc::clone(principal)), tenant, is_agent: true, ..Identity::default() })
    }

    /// The pod of the connection; its metadata may have come after the connection.
    fn pod(&self, origin: &Origin) -> Option<Arc<Pod>> {
        origin.pod.clone().or_else(|| self.pods.by_uid(origin.pod_uid.as_deref()?))
    }

    /// Rows 2 to 5.
    fn token(
        &self,
        sender: &Sender<'_>,
        binding: &Binding,
        pod: Option<&Pod>,
        is_proxy: bool,
    ) -> Result<(), Refused> {
        let Some(token) = sender.token else { return Ok(()) };
        if let (Some(bound), Some(here)) = (&token.node, &self.node)
            && bound.name != *here
        {
            let message = "this token is bound to a pod of another node than the one it came from; a pod must send its own token";
            return Err(Refused::denied("token_of_another_node", message).with_event(Reason::TokenReplay));
        }
        let Some(bound) = &token.pod else {
            if binding.pod_bound {
                let message = "this token is not bound to a pod; mount one with a projected `serviceAccountToken` volume of the right audience";
                return Err(Refused::denied("token_not_bound", message));
            }
            return Ok(());
        };
        if is_proxy {
            return Ok(());
        }
        let uid = bound.uid.as_deref().unwrap_or_default();
        let seen = sender.origin.pod_uid.as_deref().or(pod.map(|pod| pod.uid.as_str()));
        // A static pod's cgroup has another name than its uid in the API; its metadata have both.
        let also = pod.map(|pod| pod.uid.as_str());
        match seen {
            Some(seen) if seen == uid || also == Some(uid) => Ok(()),
            Some(_) => {
                log_replay(token, sender.origin, pod);
                let message = "this token is bound to another pod than the one that opened the connection; send the pod's own token";
                Err(Refused::denied("token_of_another_pod", message).with_event(Reason::TokenReplay))
            }
            None if sender.origin.evidence == Evidence::Kernel => {
                log_replay(token, sender.origin, pod);
                let message = "this token is bound to a pod, and the process that opened the connection is in no pod; send the token of a pod from that pod only";
                Err(Refused::denied("token_outside_of_pod", message))
            }
            None if self.pods.lists_all() && self.pods.by_uid(uid).is_none() => {
                let message = "the pod that this token is bound to is not on this node; send spans to the agent of the pod's own node";
                Err(Refused::denied("token_of_unknown_pod", message))
            }
            None => Ok(()),
        }
    }

    /// Rows 6 and 7 for a pod that started a moment ago: an account that can't be compared yet is not believed. A
    /// bound token was compared by uid.
    fn comparable(&self, sender: &Sender<'_>) -> Result<(), Refused> {
        let unbound = sender.token.filter(|token| token.pod.is_none());
        let claims_account =
            unbound.into_iter().chain(sender.certificate).any(|proven| proven.service_account.is_some());
        if !claims_account || sender.origin.pod_uid.is_none() || !self.pods.lists_all() {
            return Ok(());
        }
        let message = "the pod is known by its uid only so far, and its service account can't be compared with the credentials; send again after the delay";
        Err(Refused::unavailable("workload_unknown", METADATA, message))
    }

    fn tenant(
        &self,
        sender: &Sender<'_>,
        proven: Option<&Principal>,
        whose: Option<&ServiceAccount>,
        quarantined: bool,
    ) -> Result<Option<Arc<Tenant>>, Refused> {
        let Some(tenants) = &self.tenants else { return Ok(None) };
        if quarantined {
            return Ok(Some(tenants.quarantine()));
        }
        if let Some(tenant) = tenants.of(proven, whose) {
            return Ok(Some(tenant));
        }
        if whose.is_none() && sender.origin.pod_uid.is_some() {
            let message = "the pod is known by its uid only so far; send again after the delay";
            return Err(Refused::unavailable("workload_unknown", METADATA, message));
        }
        let message =
            "no tenant is configured for this sender; ask for a rule under `identity.tenants.rules`";
        Err(Refused::denied("no_tenant", message))
    }

    /// The first of `rules` that selects the sender.
    fn rule(&self, pod: Option<&Pod>, whose: Option<&ServiceAccount>) -> Option<usize> {
        self.config.rules.iter().position(|rule| {
            let account = rule.service_accounts.is_empty()
                || whose.is_some_and(|account| rule.service_accounts.contains(&account.name));
            let selected = match (pod, whose) {
                (Some(pod), _) => rule.pods.selects(pod),
                // Without a pod only the namespace can be told.
                (None, Some(account)) => {
                    rule.pods.match_labels.is_empty()
                        && (rule.pods.namespaces.is_empty()
                            || rule.pods.namespaces.contains(&account.namespace))
                }
                (None, None) => rule.pods.match_labels.is_empty() && rule.pods.namespaces.is_empty(),
            };
            account && selected
        })
    }
}

/// Row 1.
fn evidence(binding: &Binding, origin: &Origin) -> Result<(), Refused> {
    if origin.evidence == Evidence::Conflict {
        let message = "the kernel saw somebody else open this connection than its handshake says; connect to the agent itself";
        return Err(Refused::denied("evidence_conflict", message).with_event(Reason::ForgedIdentity));
    }
    let level = match origin.evidence {
        Evidence::Kernel => EvidenceLevel::Kernel,
        Evidence::Address if origin.pod.is_some() => EvidenceLevel::Address,
        Evidence::Address | Evidence::None | Evidence::Conflict => EvidenceLevel::None,
    };
    if level >= binding.evidence {
        return Ok(());
    }
    let message = match binding.evidence {
        EvidenceLevel::Kernel => {
            "the kernel of this node did not see who opened this connection; send to the agent of the pod's own node, directly"
        }
        EvidenceLevel::Address | EvidenceLevel::None => {
            "this connection comes from no address of a known pod; send from a pod of this node"
        }
    };
    Err(Refused::denied("evidence", message))
}

/// Rows 6 to 8; `account` is that of the connection's pod, unless a proxy's.
fn contradiction(sender: &Sender<'_>, account: Option<&ServiceAccount>) -> Option<Contradiction> {
    let differs = |principal: &Arc<Principal>| {
        let claimed = principal.service_account.as_ref()?;
        account.filter(|account| !is_same(claimed, account)).map(|_| ())
    };
    if sender.token.and_then(differs).is_some() {
        let message = "the token's service account is not the one that the connection's pod runs as; send the pod's own token";
        return Some(Contradiction { cause: "token_of_another_account", message: message.to_owned() });
    }
    if sender.certificate.and_then(differs).is_some() {
        let message = "the certificate's service account is not the one that the connection's pod runs as; use the pod's own certificate";
        return Some(Contradiction { cause: "certificate_of_another_account", message: message.to_owned() });
    }
    two_accounts(sender.token?, sender.certificate?)
}

/// Row 8.
fn two_accounts(token: &Principal, certificate: &Principal) -> Option<Contradiction> {
    let (token, certificate) = (token.service_account.as_ref()?, certificate.service_account.as_ref()?);
    (!is_same(token, certificate)).then(|| Contradiction {
        cause: "token_and_certificate_differ",
        message: "token and certificate are of two service accounts; send those of one pod".to_owned(),
    })
}

/// By name: a certificate does not say the uid.
fn is_same(one: &ServiceAccount, other: &ServiceAccount) -> bool {
    let uids = one.uid.as_ref().zip(other.uid.as_ref());
    one.namespace == other.namespace && one.name == other.name && uids.is_none_or(|(one, other)| one == other)
}

/// The service account that a pod runs as; `None` while that is not known.
fn account_of(pod: &Pod) -> Option<ServiceAccount> {
    let name = pod.service_account.clone()?;
    Some(ServiceAccount { namespace: pod.namespace.clone(), name, uid: None })
}

/// Thief and victim, for the operator; the sender is told neither.
fn log_replay(token: &Principal, origin: &Origin, pod: Option<&Pod>) {
    let victim = token.service_account.as_ref();
    tracing::warn!(
        thief.namespace = pod.map_or("", |pod| pod.namespace.as_str()),
        thief.pod = pod.map_or("", |pod| pod.name.as_str()),
        thief.uid = origin.pod_uid.as_deref().unwrap_or_default(),
        victim.namespace = victim.map_or("", |account| account.namespace.as_str()),
        victim.service_account = victim.map_or("", |account| account.name.as_str()),
        victim.pod = token.pod.as_ref().map_or("", |pod| pod.name.as_str()),
        peer = %origin.peer,
        "a token is used by another pod than the one it is bound to"
    );
}

#[cfg(test)]
mod tests;
