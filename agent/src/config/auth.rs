//! `auth:` of servers and clients, and the extensions that it names: `oidc`, `bearertokenauth`, `identity`.

use std::time::Duration;

use super::{
    ComponentId, FilePath, Located,
    extensions::{ApiClient, PodSelector},
};

/// `auth:` of a server or client.
#[derive(Clone, Debug)]
pub struct Auth {
    /// `authenticator`: an extension that the service enables.
    pub authenticator: Located<ComponentId>,
}

/// `oidc`: the Collector's fields.
#[derive(Clone, Debug)]
pub struct OidcExtension {
    /// `attribute`: the header with the token. Default `authorization`, whose value is `Bearer TOKEN`.
    pub attribute: String,
    /// `providers`; the fields of one may also stand in the extension itself, as before they were a list.
    pub providers: Vec<OidcProvider>,
    /// `token_review`, ours: ask this API server about each token that is seen for the first time. `true` is the API
    /// server as a pod knows it.
    pub token_review: Option<ApiClient>,
}

/// One of `providers`.
#[derive(Clone, Debug)]
pub struct OidcProvider {
    /// `issuer_url`: what `iss` must be, and where discovery starts.
    pub issuer_url: String,
    /// `audience`: one that the token must have.
    pub audience: String,
    /// `issuer_ca_path`: CAs to trust for the issuer instead of the system's.
    pub issuer_ca_path: Option<FilePath>,
    /// `public_keys_file`: keys in PEM (public keys or certificates) or JWKS; then nothing is fetched.
    pub public_keys_file: Option<FilePath>,
    /// `jwks_url`, ours: where the keys are; then there is no discovery. Needed where the issuer names another host.
    pub jwks_url: Option<String>,
    /// `username_claim`. Default `sub`.
    pub username_claim: String,
    /// `groups_claim`
    pub groups_claim: Option<String>,
    /// `leeway`, ours: for clocks that differ. Default 10 s, at most 5 min.
    pub leeway: Duration,
    /// `max_token_lifetime`, ours: `exp - iat` beyond it is refused. Default 24 h.
    pub max_token_lifetime: Duration,
    /// `allow_multiple_audiences`, ours: a token that others take as well can be replayed to them. Default `false`.
    pub allow_multiple_audiences: bool,
    /// `bearer_token_file`, ours: sent when keys are fetched, for API servers that give them to nobody else.
    pub bearer_token_file: Option<FilePath>,
}

/// `bearertokenauth`: the Collector's fields.
#[derive(Clone, Debug)]
pub struct BearerTokenExtension {
    /// `header`. Default `Authorization`.
    pub header: String,
    /// `scheme`. Default `Bearer`; empty for the bare token.
    pub scheme: String,
    /// Where the tokens are.
    pub tokens: BearerTokens,
}

/// `token`, `tokens` or `filename`.
#[derive(Clone)]
pub enum BearerTokens {
    /// In the configuration. Clients send the first.
    Inline(Vec<String>),
    /// In a file, one a line (`TOKEN` or `TOKEN NAME`), read again when it changes.
    File(FilePath),
}

impl std::fmt::Debug for BearerTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Inline(tokens) => write!(f, "Inline({} tokens)", tokens.len()),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

/// `identity`, ours: who may speak for whom, and which tenant that is.
#[derive(Clone, Debug)]
pub struct IdentityExtension {
    /// What holds for receivers that `receivers` does not name.
    pub default: Binding,
    /// `receivers`: receiver id to the same keys.
    pub receivers: Vec<(ComponentId, Binding)>,
    /// `trust_domains`: SPIFFE trust domains that are believed; empty for any that the CA signs.
    pub trust_domains: Vec<String>,
    /// `rules`: the first that selects a sender decides what it may claim.
    pub rules: Vec<ClaimRule>,
    /// `tenants`
    pub tenants: Option<Tenants>,
    /// `agents`: principals that speak for others: an agent in front of this gateway. By name (SPIFFE ID,
    /// `system:serviceaccount:NAMESPACE:NAME`, or a token's name); `*` stands for one segment.
    pub agents: Vec<String>,
    /// `proxies`: service accounts, `NAMESPACE/NAME`, of node proxies whose connections carry others' spans (ztunnel):
    /// the kernel sees the proxy there, so pod-bound tokens are not compared with it.
    pub proxies: Vec<String>,
}

/// What is asked of a sender.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// `evidence`: the least that is accepted: `kernel`, `address` or `none` (default).
    pub evidence: EvidenceLevel,
    /// `mode`: what happens to contradictions between kernel, token, certificate and claims. Default `reject`.
    pub mode: ClaimMode,
    /// `pod_bound`: whether a token must be bound to a pod. Default `false`; one that is bound must always agree.
    pub pod_bound: bool,
}

/// The least evidence of the opener that is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum EvidenceLevel {
    /// None is needed.
    #[default]
    None,
    /// The peer's address is known as a pod's.
    Address,
    /// The kernel saw the `connect`.
    Kernel,
}

/// What is done about a contradiction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClaimMode {
    /// Corrected and counted; the spans go on.
    Annotate,
    /// Corrected, counted, marked `otlp.origin.quarantine`, and, with tenancy, of the quarantine tenant.
    Quarantine,
    /// Refused.
    #[default]
    Reject,
}

/// One of `identity.rules`: what a sender's spans may say of themselves.
#[derive(Clone, Debug)]
pub struct ClaimRule {
    /// `namespaces` and `match_labels`
    pub pods: PodSelector,
    /// `service_accounts`: names within the namespaces; empty for all.
    pub service_accounts: Vec<String>,
    /// `claims`: resource attribute to the values that are allowed, `*` for any run of characters.
    pub claims: Vec<(String, Vec<String>)>,
    /// `mode`
    pub mode: ClaimMode,
}

/// `tenants`: from who a sender is to the tenant that its spans belong to.
#[derive(Clone, Debug)]
pub struct Tenants {
    /// `header` that exporters send. Default `X-Scope-OrgID`.
    pub header: String,
    /// `rules`: the first that matches decides.
    pub rules: Vec<TenantRule>,
    /// `default`: the tenant of who matches no rule; absent: refused.
    pub default: Option<String>,
    /// `quarantine`: the tenant of what is quarantined. Default `quarantine`.
    pub quarantine: String,
}

/// One of `tenants.rules`. Every key that is there must match.
#[derive(Clone, Debug)]
pub struct TenantRule {
    /// `tenant`; `{namespace}` and `{service_account}` stand for the sender's.
    pub tenant: String,
    /// `namespaces`
    pub namespaces: Vec<String>,
    /// `service_accounts`
    pub service_accounts: Vec<String>,
    /// `principals`: names, `*` for any run of characters.
    pub principals: Vec<String>,
    /// `claims`: token claim to the values that match.
    pub claims: Vec<(String, Vec<String>)>,
}
