//! Whose spans they are: from who a sender is to a tenant.

#![forbid(unsafe_code)]

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::{Principal, ServiceAccount, names};
use crate::config::auth::{TenantRule, Tenants as Config};

/// A tenant, as exporters tell it to a backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tenant {
    /// `tenants.header`
    pub header: HeaderName,
    /// Its name: letters, digits, `-`, `_` and `.`.
    pub name: HeaderValue,
}

impl Tenant {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.name.to_str().unwrap_or_default()
    }
}

/// `tenants`, ready for use.
#[derive(Debug)]
pub(super) struct Tenants {
    header: HeaderName,
    rules: Vec<TenantRule>,
    default: Option<Arc<Tenant>>,
    quarantine: Arc<Tenant>,
}

impl Tenants {
    /// What the reader has checked can be used; anything else has no tenant.
    pub(super) fn new(config: &Config) -> Option<Self> {
        let header = HeaderName::from_bytes(config.header.as_bytes()).ok()?;
        let named = |name: &str| tenant(&header, name);
        Some(Self {
            default: config.default.as_deref().and_then(named),
            quarantine: named(&config.quarantine)?,
            rules: config.rules.clone(),
            header,
        })
    }

    /// The header's name.
    pub(super) fn header(&self) -> &HeaderName {
        &self.header
    }

    /// The tenant of what is quarantined.
    pub(super) fn quarantine(&self) -> Arc<Tenant> {
        Arc::clone(&self.quarantine)
    }

    /// A tenant that an agent names. `None` for what is no tenant's name.
    pub(super) fn named(&self, name: &HeaderValue) -> Option<Arc<Tenant>> {
        tenant(&self.header, name.to_str().ok()?)
    }

    /// The first rule's that matches, else the default.
    pub(super) fn of(
        &self,
        principal: Option<&Principal>,
        account: Option<&ServiceAccount>,
    ) -> Option<Arc<Tenant>> {
        match self.rules.iter().find(|rule| matches(rule, principal, account)) {
            Some(rule) => tenant(&self.header, &fill(&rule.tenant, account)?),
            None => self.default.clone(),
        }
    }
}

/// A tenant of this name, if it is one: what placeholders are filled with is checked again here.
fn tenant(header: &HeaderName, name: &str) -> Option<Arc<Tenant>> {
    let fits = (1..=150).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        && !matches!(name, "." | "..");
    let value = fits.then(|| HeaderValue::from_str(name).ok())??;
    Some(Arc::new(Tenant { header: header.clone(), name: value }))
}

/// Fills `{namespace}` and `{service_account}`; `None` where the sender has none.
fn fill(template: &str, account: Option<&ServiceAccount>) -> Option<String> {
    let mut filled = template.to_owned();
    for (placeholder, value) in [
        ("{namespace}", account.map(|account| account.namespace.as_str())),
        ("{service_account}", account.map(|account| account.name.as_str())),
    ] {
        if filled.contains(placeholder) {
            filled = filled.replace(placeholder, value.filter(|value| !value.is_empty())?);
        }
    }
    Some(filled)
}

/// Whether every key of the rule that is there matches.
fn matches(rule: &TenantRule, principal: Option<&Principal>, account: Option<&ServiceAccount>) -> bool {
    let one_of = |wanted: &[String], have: Option<&str>| {
        wanted.is_empty() || have.is_some_and(|have| wanted.iter().any(|name| name == have))
    };
    let named = rule.principals.is_empty()
        || principal
            .is_some_and(|principal| rule.principals.iter().any(|pattern| names::means(pattern, principal)));
    let claimed = rule.claims.iter().all(|(claim, values)| {
        principal.is_some_and(|principal| {
            principal.claims.iter().any(|(name, value)| {
                name == claim && values.iter().any(|pattern| names::matches(pattern, value))
            })
        })
    });
    one_of(&rule.namespaces, account.map(|account| account.namespace.as_str()))
        && one_of(&rule.service_accounts, account.map(|account| account.name.as_str()))
        && named
        && claimed
}
