//! `identity`: who may speak for whom, and which tenant that is.

#![forbid(unsafe_code)]

use super::{
    parse_id,
    selector::{bounded, is_namespace, pods},
};
use crate::config::{
    Located,
    auth::{Binding, ClaimMode, ClaimRule, EvidenceLevel, IdentityExtension, TenantRule, Tenants},
    fields::Fields,
};

const MODES: [(&str, ClaimMode); 3] =
    [("annotate", ClaimMode::Annotate), ("quarantine", ClaimMode::Quarantine), ("reject", ClaimMode::Reject)];

const LEVELS: [(&str, EvidenceLevel); 3] =
    [("kernel", EvidenceLevel::Kernel), ("address", EvidenceLevel::Address), ("none", EvidenceLevel::None)];

/// What Tempo and others accept as a tenant's name, and fits a header and a file's name (Tempo: at most 150 bytes).
const LONGEST_TENANT: usize = 150;

/// What `tenants.header` is unless told otherwise: Tempo's, Mimir's, Loki's.
const TENANT_HEADER: &str = "X-Scope-OrgID";

pub(super) fn read(mut fields: Fields<'_>) -> IdentityExtension {
    let default = binding(&mut fields, &Binding::default());
    let identity = IdentityExtension {
        receivers: receivers(&mut fields, &default),
        default,
        trust_domains: trust_domains(&mut fields),
        rules: rules(&mut fields),
        tenants: fields.table("tenants").map(tenants),
        agents: patterns(&mut fields, "agents"),
        proxies: proxies(&mut fields),
    };
    for (index, rule) in identity.rules.iter().enumerate() {
        if rule.claims.is_empty() {
            fields.error_at(
                "rules",
                format!("rule {} allows no `claims`: name the attributes and their values", index + 1),
            );
        }
    }
    identity
}

/// `evidence`, `mode` and `pod_bound`, each as in `outer` where it is absent.
fn binding(fields: &mut Fields<'_>, outer: &Binding) -> Binding {
    Binding {
        evidence: fields.choice("evidence", &LEVELS).unwrap_or(outer.evidence),
        mode: fields.choice("mode", &MODES).unwrap_or(outer.mode),
        pod_bound: fields.boolean("pod_bound").unwrap_or(outer.pod_bound),
    }
}

fn receivers(fields: &mut Fields<'_>, default: &Binding) -> Vec<(crate::config::ComponentId, Binding)> {
    let report = fields.report();
    let Some(mut table) = fields.table("receivers") else { return Vec::new() };
    let mut read = Vec::new();
    for (key, node) in table.entries() {
        let Some(id) = parse_id(report, &key.name, &key.at) else { continue };
        read.push((id, binding(&mut Fields::new(report, node), default)));
    }
    read
}

fn trust_domains(fields: &mut Fields<'_>) -> Vec<String> {
    let report = fields.report();
    let mut read = Vec::new();
    for Located { value, at } in fields.located_strings("trust_domains") {
        // SPIFFE-ID section 2.1: lower-case letters, digits, `.`, `-` and `_`, at most 255 bytes.
        let fits = (1..=255).contains(&value.len())
            && value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b));
        if !fits {
            report.error(&at, "is no SPIFFE trust domain, such as `cluster.local` (without `spiffe://`)");
        }
        read.push(value);
    }
    read
}

fn rules(fields: &mut Fields<'_>) -> Vec<ClaimRule> {
    let report = fields.report();
    let mut rules = Vec::new();
    for node in bounded(fields, "rules") {
        let mut rule = Fields::new(report, node);
        let mode = rule.choice("mode", &MODES).unwrap_or_default();
        let service_accounts = rule.strings("service_accounts");
        rules.push(ClaimRule { service_accounts, claims: claims(&mut rule), mode, pods: pods(&mut rule) });
    }
    rules
}

/// `claims`: name to one value or several.
fn claims(fields: &mut Fields<'_>) -> Vec<(String, Vec<String>)> {
    let report = fields.report();
    let Some(mut table) = fields.table("claims") else { return Vec::new() };
    let mut claims = Vec::new();
    for (key, node) in table.entries() {
        let values: Vec<String> = match &node.value {
            crate::config::yaml::Value::Seq(items) => {
                items.iter().filter_map(|item| item.text().map(str::to_owned)).collect()
            }
            _ => node.text().map(str::to_owned).into_iter().collect(),
        };
        if values.is_empty() {
            report.error(&node.at, "must be a value or a list of values; `*` stands for any characters");
        }
        claims.push((key.name.clone(), values));
    }
    claims
}

fn tenants(mut fields: Fields<'_>) -> Tenants {
    let report = fields.report();
    let mut rules = Vec::new();
    for node in bounded(&mut fields, "rules") {
        let mut rule = Fields::new(report, node);
        let tenant = rule.required("tenant");
        if let Some(tenant) = &tenant {
            check_tenant(&rule, tenant, true);
        }
        let read = TenantRule {
            tenant: tenant.map(|tenant| tenant.value).unwrap_or_default(),
            namespaces: namespaces(&mut rule),
            service_accounts: rule.strings("service_accounts"),
            principals: patterns(&mut rule, "principals"),
            claims: claims(&mut rule),
        };
        rules.push(read);
    }
    let header = fields.located("header");
    if let Some(header) = &header
        && http::HeaderName::from_bytes(header.value.as_bytes()).is_err()
    {
        report.error(&header.at, "is no header's name, such as `X-Scope-OrgID`");
    }
    let mut name = |key| {
        let tenant = fields.located(key)?;
        check_tenant(&fields, &tenant, false);
        Some(tenant.value)
    };
    let (default, quarantine) = (name("default"), name("quarantine"));
    if rules.is_empty() && default.is_none() {
        fields.error("without `rules` and without `default` every sender would be refused");
    }
    Tenants {
        header: header.map_or_else(|| TENANT_HEADER.to_owned(), |header| header.value),
        rules,
        default,
        quarantine: quarantine.unwrap_or_else(|| "quarantine".to_owned()),
    }
}

fn namespaces(fields: &mut Fields<'_>) -> Vec<String> {
    let report = fields.report();
    let mut read = Vec::new();
    for Located { value, at } in fields.located_strings("namespaces") {
        if !is_namespace(&value) {
            report.error(&at, "is no namespace's name (RFC 1123: a-z, 0-9 and `-`, at most 63)");
        }
        read.push(value);
    }
    read
}

/// A tenant's name; in rules `{namespace}` and `{service_account}` may be part of it.
fn check_tenant(fields: &Fields<'_>, tenant: &Located<String>, placeholders: bool) {
    let bare = if placeholders {
        tenant.value.replace("{namespace}", "n").replace("{service_account}", "n")
    } else {
        tenant.value.clone()
    };
    // Tempo's rules: letters, digits and a few signs, and no name that is a path; `|` would be several tenants.
    let fits = (1..=LONGEST_TENANT).contains(&bare.len())
        && bare.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && !matches!(bare.as_str(), "." | "..");
    if !fits {
        fields.report().error(
            &tenant.at,
            "is no tenant's name: letters, digits, `-`, `_` and `.`, at most 150 (in rules also `{namespace}` and `{service_account}`)",
        );
    }
}

fn patterns(fields: &mut Fields<'_>, key: &'static str) -> Vec<String> {
    let report = fields.report();
    let mut read = Vec::new();
    for Located { value, at } in fields.located_strings(key) {
        if value.is_empty() || value.bytes().all(|b| b == b'*') {
            report.error(&at, "would match everybody; name who is meant, `*` stands for a part of the name");
        }
        read.push(value);
    }
    read
}

/// `NAMESPACE/NAME` of service accounts.
fn proxies(fields: &mut Fields<'_>) -> Vec<String> {
    let report = fields.report();
    let mut read = Vec::new();
    for Located { value, at } in fields.located_strings("proxies") {
        let fits = value.split_once('/').is_some_and(|(namespace, name)| {
            is_namespace(namespace) && !name.is_empty() && !name.contains(['/', '*'])
        });
        if !fits {
            report.error(&at, "is no service account as `NAMESPACE/NAME`, such as `istio-system/ztunnel`");
        }
        read.push(value);
    }
    read
}
