//! `oidc`

use crate::config::{auth::OidcExtension, fields::Fields};

pub(super) fn read(fields: Fields<'_>) -> OidcExtension {
    fields.error("`oidc` is known but not built yet");
    OidcExtension { attribute: "authorization".to_owned(), providers: Vec::new(), token_review: None }
}
