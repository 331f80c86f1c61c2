//! The decision table, row by row.

use std::net::SocketAddr;

use http::HeaderValue;

use super::*;
use crate::{
    auth::{Method, ObjectReference},
    config::{
        auth::{Binding, ClaimRule, IdentityExtension, TenantRule, Tenants},
        extensions::PodSelector,
    },
    origin::Process,
};

const HERE: &str = "node-a";
const WEB: &str = "aaaaaaaa-0000-0000-0000-000000000001";
const CART: &str = "aaaaaaaa-0000-0000-0000-000000000002";

/// Two pods of this node.
#[derive(Debug, Default)]
struct Pods {
    all: bool,
}

impl PodSource for Pods {
    fn by_uid(&self, uid: &str) -> Option<Arc<Pod>> {
        let (name, account) = match uid {
            WEB => ("web", "web"),
            CART => ("cart", "cart"),
            _ => return None,
        };
        Some(Arc::new(pod(uid, name, account)))
    }

    fn by_ip(&self, _: std::net::IpAddr) -> Option<Arc<Pod>> {
        None
    }

    fn lists_all(&self) -> bool {
        self.all
    }
}

fn pod(uid: &str, name: &str, account: &str) -> Pod {
    Pod {
        uid: uid.to_owned(),
        name: name.to_owned(),
        namespace: "shop".to_owned(),
        service_account: Some(account.to_owned()),
        labels: vec![("app".to_owned(), name.to_owned())],
        ..Pod::default()
    }
}

fn peer() -> SocketAddr {
    ([10, 0, 0, 7], 40_000).into()
}

/// The kernel saw a process of this pod.
fn seen(uid: &str) -> Origin {
    let process =
        Process { pid: 7, uid: 0, comm: "app".to_owned(), cgroup_id: 7, cgroup_path: None, netns_cookie: 7 };
    Origin {
        evidence: Evidence::Kernel,
        process: Some(process),
        pod_uid: Some(uid.to_owned()),
        ..Origin::unknown(peer())
    }
}

fn account(name: &str) -> ServiceAccount {
    ServiceAccount { namespace: "shop".to_owned(), name: name.to_owned(), uid: None }
}

/// A token of a service account, bound to a pod and a node.
fn token(name: &str, uid: &str, node: &str) -> Arc<Principal> {
    let bound = |name: &str, uid: &str| ObjectReference { name: name.to_owned(), uid: Some(uid.to_owned()) };
    Arc::new(Principal {
        service_account: Some(account(name)),
        pod: Some(bound(name, uid)),
        node: Some(bound(node, "n")),
        claims: vec![("team".to_owned(), "blue".to_owned())],
        ..Principal::named(Method::Oidc, format!("system:serviceaccount:shop:{name}"))
    })
}

fn unbound(name: &str) -> Arc<Principal> {
    Arc::new(Principal { pod: None, node: None, ..(*token(name, WEB, HERE)).clone() })
}

fn certificate(name: &str) -> Arc<Principal> {
    Arc::new(Principal {
        service_account: Some(account(name)),
        ..Principal::named(Method::Certificate, format!("spiffe://x/ns/shop/sa/{name}"))
    })
}

fn extension(binding: Binding) -> IdentityExtension {
    IdentityExtension {
        default: binding,
        receivers: Vec::new(),
        trust_domains: Vec::new(),
        rules: Vec::new(),
        tenants: None,
        agents: vec!["spiffe://x/ns/*/sa/spanwarden-agent".to_owned()],
        proxies: vec!["shop/proxy".to_owned()],
    }
}

fn receiver() -> ComponentId {
    ComponentId { kind: "otlp".to_owned(), name: None }
}

fn bind(
    extension: &IdentityExtension,
    all: bool,
    origin: &Origin,
    certificate: Option<&Arc<Principal>>,
    token: Option<&Arc<Principal>>,
    headers: &HeaderMap,
) -> Result<Identity, Refused> {
    let binder = Binder::new(extension, Arc::new(Pods { all }), Some(HERE.to_owned()));
    binder.bind(&Sender { receiver: &receiver(), origin, certificate, token, headers })
}

/// What is asked, what is shown, and what comes of it under each mode: `Ok` with the principal's name, or the cause.
struct Row {
    name: &'static str,
    evidence: EvidenceLevel,
    pod_bound: bool,
    origin: Origin,
    certificate: Option<Arc<Principal>>,
    token: Option<Arc<Principal>>,
    reject: Result<&'static str, &'static str>,
    /// Under `quarantine` and `annotate`; `None` where it is the same.
    lenient: Option<&'static str>,
}

const TOKEN: &str = "system:serviceaccount:shop:web";

#[expect(clippy::too_many_lines, reason = "a table")]
fn rows() -> Vec<Row> {
    let row = |name, origin, reject| Row {
        name,
        evidence: EvidenceLevel::None,
        pod_bound: false,
        origin,
        certificate: None,
        token: None,
        reject,
        lenient: None,
    };
    let (kernel, address) = (EvidenceLevel::Kernel, EvidenceLevel::Address);
    let unknown = || Origin::unknown(peer());
    let by_address = || Origin {
        evidence: Evidence::Address,
        pod: Some(Arc::new(pod(WEB, "web", "web"))),
        pod_uid: Some(WEB.to_owned()),
        ..unknown()
    };
    let conflict = || Origin { evidence: Evidence::Conflict, ..unknown() };
    let with = |row: Row, token: Arc<Principal>| Row { token: Some(token), ..row };
    let mut rows = vec![
        row("anonymous, nothing asked", unknown(), Ok("")),
        row("evidence in conflict", conflict(), Err("evidence_conflict")),
        Row { evidence: kernel, ..row("kernel asked, none there", unknown(), Err("evidence")) },
        Row { evidence: kernel, ..row("kernel asked, an address there", by_address(), Err("evidence")) },
        Row { evidence: kernel, ..row("kernel asked and there", seen(WEB), Ok("")) },
        Row { evidence: address, ..row("address asked, none there", unknown(), Err("evidence")) },
        Row { evidence: address, ..row("address asked and there", by_address(), Ok("")) },
        Row { evidence: address, ..row("address asked, kernel there", seen(WEB), Ok("")) },
        with(row("the pod's own token", seen(WEB), Ok(TOKEN)), token("web", WEB, HERE)),
        with(row("the pod's own token, by address", by_address(), Ok(TOKEN)), token("web", WEB, HERE)),
        with(row("another pod's token", seen(CART), Err("token_of_another_pod")), token("web", WEB, HERE)),
        with(
            row("another pod's token, by address", by_address(), Err("token_of_another_pod")),
            token("cart", CART, HERE),
        ),
        with(
            row("a token of the same account and another pod", seen(WEB), Err("token_of_another_pod")),
            token("web", CART, HERE),
        ),
        with(
            row("a token of another node", seen(WEB), Err("token_of_another_node")),
            token("web", WEB, "node-b"),
        ),
        with(
            row("a token of another node, from nowhere", unknown(), Err("token_of_another_node")),
            token("web", WEB, "node-b"),
        ),
        with(row("a token of this node's pod, from nowhere", unknown(), Ok(TOKEN)), token("web", WEB, HERE)),
        with(
            row(
                "a pod's token, from a process of the host",
                Origin { evidence: Evidence::Kernel, ..unknown() },
                Err("token_outside_of_pod"),
            ),
            token("web", WEB, HERE),
        ),
        with(row("a token that is not bound", seen(WEB), Ok(TOKEN)), unbound("web")),
        Row {
            lenient: Some(""),
            ..with(
                row("another account's token", seen(WEB), Err("token_of_another_account")),
                unbound("cart"),
            )
        },
        Row {
            certificate: Some(certificate("web")),
            ..row("the pod's own certificate", seen(WEB), Ok("spiffe://x/ns/shop/sa/web"))
        },
        Row {
            certificate: Some(certificate("cart")),
            lenient: Some(""),
            ..row("another account's certificate", seen(WEB), Err("certificate_of_another_account"))
        },
        Row {
            certificate: Some(certificate("cart")),
            lenient: Some(""),
            ..with(
                row("certificate and token of two", unknown(), Err("token_and_certificate_differ")),
                unbound("web"),
            )
        },
        Row {
            certificate: Some(certificate("web")),
            ..with(row("certificate and token of one", seen(WEB), Ok(TOKEN)), token("web", WEB, HERE))
        },
        Row {
            certificate: Some(certificate("spanwarden-agent")),
            ..row("an agent from another node", unknown(), Ok("spiffe://x/ns/shop/sa/spanwarden-agent"))
        },
        Row {
            certificate: Some(certificate("spanwarden-agent")),
            ..row("an agent by a relayed handshake", conflict(), Err("evidence_conflict"))
        },
        Row {
            certificate: Some(certificate("spanwarden-agent")),
            lenient: Some(""),
            ..with(
                row("an agent with somebody's token", unknown(), Err("token_and_certificate_differ")),
                token("web", WEB, HERE),
            )
        },
    ];
    let asked = with(row("a bound one is asked for", seen(WEB), Err("token_not_bound")), unbound("web"));
    rows.push(Row { pod_bound: true, ..asked });
    rows
}

/// Where all pods are told of, one that was not told of yet will be; where they are not, nobody waits for it.
#[test]
fn an_account_that_cannot_be_compared_yet_is_not_believed() {
    let fresh = seen("cccccccc-0000-0000-0000-000000000009");
    let proven = unbound("web");
    for (all, token, certificate) in
        [(true, Some(&proven), None), (true, None, Some(&proven)), (false, Some(&proven), None)]
    {
        let identity = extension(Binding::default());
        let got = bind(&identity, all, &fresh, certificate, token, &HeaderMap::new());
        let expected = if all { Some("workload_unknown") } else { None };
        assert_eq!(got.err().map(|refused| refused.cause), expected);
    }
}

#[test]
fn every_row_of_the_table() {
    for row in rows() {
        for mode in [ClaimMode::Reject, ClaimMode::Quarantine, ClaimMode::Annotate] {
            let binding = Binding { evidence: row.evidence, mode, pod_bound: row.pod_bound };
            let expected = match (mode, row.lenient) {
                (ClaimMode::Reject, _) | (_, None) => row.reject,
                (_, Some(name)) => Ok(name),
            };
            let got = bind(
                &extension(binding),
                false,
                &row.origin,
                row.certificate.as_ref(),
                row.token.as_ref(),
                &HeaderMap::new(),
            );
            let told = got.as_ref().map(|identity| identity.principal.as_ref().map_or("", |it| &it.name));
            assert_eq!(told.map_err(|refused| refused.cause), expected, "{} under {mode:?}", row.name);
            if let Ok(identity) = &got {
                let contradicted = row.lenient.is_some();
                assert_eq!(identity.contradiction.is_some(), contradicted, "{}", row.name);
                assert_eq!(
                    identity.quarantined,
                    contradicted && mode == ClaimMode::Quarantine,
                    "{}",
                    row.name
                );
            }
        }
    }
}

#[test]
fn a_token_of_a_pod_that_is_not_here_is_refused_once_all_pods_are_known() {
    let gone = token("web", "aaaaaaaa-0000-0000-0000-00000000dead", HERE);
    let extension = extension(Binding::default());
    let ask = |all| bind(&extension, all, &Origin::unknown(peer()), None, Some(&gone), &HeaderMap::new());
    assert!(ask(false).is_ok(), "nobody knows");
    assert_eq!(ask(true).unwrap_err().cause, "token_of_unknown_pod");
}

#[test]
fn a_replay_is_told_to_the_thief_and_names_nobody() {
    let stolen = token("cart", CART, HERE);
    let refused =
        bind(&extension(Binding::default()), false, &seen(WEB), None, Some(&stolen), &HeaderMap::new())
            .unwrap_err();
    assert_eq!((refused.cause, refused.event), ("token_of_another_pod", Some(Reason::TokenReplay)));
    assert!(!refused.message.contains("cart") && !refused.message.contains(CART), "{}", refused.message);
}

#[test]
fn a_proxy_carries_what_others_send() {
    struct Proxy;
    impl PodSource for Proxy {
        fn by_uid(&self, uid: &str) -> Option<Arc<Pod>> {
            (uid == "p").then(|| Arc::new(pod("p", "ztunnel", "proxy")))
        }
        fn by_ip(&self, _: std::net::IpAddr) -> Option<Arc<Pod>> {
            None
        }
    }
    let tenants = Tenants {
        header: "X-Scope-OrgID".to_owned(),
        rules: vec![rule("{service_account}", &[], &[])],
        default: None,
        quarantine: "q".to_owned(),
    };
    let extension = IdentityExtension { tenants: Some(tenants), ..extension(Binding::default()) };
    let binder = Binder::new(&extension, Arc::new(Proxy), None);
    let (origin, token, headers) = (seen("p"), token("web", WEB, HERE), HeaderMap::new());
    let sender = Sender {
        receiver: &receiver(),
        origin: &origin,
        certificate: None,
        token: Some(&token),
        headers: &headers,
    };
    let identity = binder.bind(&sender).expect("a proxy may");
    assert_eq!(
        identity.tenant.as_ref().map(|tenant| tenant.as_str()),
        Some("web"),
        "the token's, not the proxy's"
    );
}

fn rule(tenant: &str, namespaces: &[&str], accounts: &[&str]) -> TenantRule {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    TenantRule {
        tenant: tenant.to_owned(),
        namespaces: owned(namespaces),
        service_accounts: owned(accounts),
        principals: Vec::new(),
        claims: Vec::new(),
    }
}

/// What is tried, the default, rules, who opened the connection, certificate, token, headers: the tenant or the cause.
type Case<'a> = (
    &'a str,
    Option<&'a str>,
    &'a [TenantRule],
    &'a Origin,
    Option<&'a Arc<Principal>>,
    Option<&'a Arc<Principal>>,
    &'a HeaderMap,
    Result<&'a str, &'a str>,
);

#[test]
fn tenants_by_rule() {
    let blue =
        TenantRule { claims: vec![("team".to_owned(), vec!["bl*".to_owned()])], ..rule("blue", &[], &[]) };
    let named =
        TenantRule { principals: vec!["spiffe://x/ns/*/sa/web".to_owned()], ..rule("mesh", &[], &[]) };
    let rules =
        [rule("cart-{namespace}", &["shop"], &["cart"]), named, blue, rule("{namespace}", &["shop"], &[])];
    let with = |default: Option<&str>, rules: &[TenantRule]| IdentityExtension {
        tenants: Some(Tenants {
            header: "X-Scope-OrgID".to_owned(),
            rules: rules.to_vec(),
            default: default.map(str::to_owned),
            quarantine: "apart".to_owned(),
        }),
        ..extension(Binding { mode: ClaimMode::Quarantine, ..Binding::default() })
    };
    let mut forged = HeaderMap::new();
    forged.insert("x-scope-orgid", HeaderValue::from_static("victim"));
    let none = HeaderMap::new();
    let late = Origin { pod_uid: Some("not-known-yet".to_owned()), ..seen(WEB) };
    let agent = certificate("spanwarden-agent");
    let (own, mesh, other) = (token("web", WEB, HERE), certificate("web"), unbound("cart"));
    let (web, cart, nowhere) = (seen(WEB), seen(CART), Origin::unknown(peer()));
    let cases: [Case<'_>; 12] = [
        ("by account", None, &rules, &cart, None, None, &none, Ok("cart-shop")),
        ("by namespace", None, &rules, &web, None, None, &none, Ok("shop")),
        ("by claim", None, &rules, &web, None, Some(&own), &none, Ok("blue")),
        ("by name", None, &rules, &web, Some(&mesh), None, &none, Ok("mesh")),
        ("the sender's header is nothing", None, &rules, &web, None, None, &forged, Ok("shop")),
        ("nobody, and no default", None, &rules, &nowhere, None, None, &forged, Err("no_tenant")),
        ("nobody, and a default", Some("rest"), &rules, &nowhere, None, None, &forged, Ok("rest")),
        ("no rule fits, and no default", None, &rules[..1], &web, None, None, &none, Err("no_tenant")),
        ("metadata are late", None, &rules, &late, None, None, &none, Err("workload_unknown")),
        ("contradicted", None, &rules, &web, None, Some(&other), &none, Ok("apart")),
        ("an agent says it", None, &rules, &nowhere, Some(&agent), None, &forged, Ok("victim")),
        (
            "an agent says nothing",
            None,
            &rules,
            &nowhere,
            Some(&agent),
            None,
            &none,
            Err("agent_without_tenant"),
        ),
    ];
    for (name, default, rules, origin, certificate, token, headers, expected) in cases {
        let got = bind(&with(default, rules), false, origin, certificate, token, headers);
        let told = got.as_ref().map(|identity| identity.tenant.as_ref().map_or("", |tenant| tenant.as_str()));
        assert_eq!(told.map_err(|refused| refused.cause), expected, "{name}");
    }
}

#[test]
fn what_an_agent_names_must_be_a_tenant() {
    let tenants = Tenants {
        header: "X-Scope-OrgID".to_owned(),
        rules: Vec::new(),
        default: Some("d".to_owned()),
        quarantine: "q".to_owned(),
    };
    let extension = IdentityExtension { tenants: Some(tenants), ..extension(Binding::default()) };
    let agent = certificate("spanwarden-agent");
    for name in ["", "..", "a|b", "a/b", "a b", &"x".repeat(151)] {
        let mut headers = HeaderMap::new();
        headers.insert("x-scope-orgid", HeaderValue::from_str(name).unwrap());
        let got = bind(&extension, false, &Origin::unknown(peer()), Some(&agent), None, &headers);
        assert_eq!(got.unwrap_err().cause, "agent_without_tenant", "{name}");
    }
}

#[test]
fn the_first_rule_that_selects_says_what_may_be_claimed() {
    let rule = |namespaces: &[&str], labels: &[(&str, &str)], accounts: &[&str]| ClaimRule {
        pods: PodSelector {
            namespaces: namespaces.iter().map(|&name| name.to_owned()).collect(),
            match_labels: labels.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect(),
        },
        service_accounts: accounts.iter().map(|&name| name.to_owned()).collect(),
        claims: vec![("service.name".to_owned(), vec!["cart".to_owned()])],
        mode: ClaimMode::Reject,
    };
    let extension = IdentityExtension {
        rules: vec![
            rule(&["bank"], &[], &[]),
            rule(&["shop"], &[("app", "cart")], &[]),
            rule(&["shop"], &[], &["web"]),
            rule(&[], &[], &[]),
        ],
        ..extension(Binding::default())
    };
    let none = HeaderMap::new();
    let ask = |origin: &Origin, token: Option<&Arc<Principal>>| {
        bind(&extension, false, origin, None, token, &none).unwrap().rule
    };
    assert_eq!(ask(&seen(CART), None), Some(1), "by label");
    assert_eq!(ask(&seen(WEB), None), Some(2), "by service account");
    assert_eq!(ask(&Origin::unknown(peer()), None), Some(3), "nobody: the rule for all");
    assert_eq!(ask(&Origin::unknown(peer()), Some(&unbound("web"))), Some(2), "by the token's account");
}
