//! `auth:` of servers and clients.

use super::parse_id;
use crate::config::{Located, auth::Auth, fields::Fields};

/// `auth: {authenticator: ID}`; that the extension is there and of the right kind is checked later.
pub(super) fn read(parent: &mut Fields<'_>) -> Option<Auth> {
    let mut fields = parent.table("auth")?;
    let name = fields.required("authenticator")?;
    let value = parse_id(fields.report(), &name.value, &name.at)?;
    fields.not_built(&["request_params"]);
    Some(Auth { authenticator: Located { value, at: name.at } })
}
