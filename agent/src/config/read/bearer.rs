//! `bearertokenauth`

use crate::config::{
    auth::{BearerTokenExtension, BearerTokens},
    fields::Fields,
};

pub(super) fn read(fields: Fields<'_>) -> BearerTokenExtension {
    fields.error("`bearertokenauth` is known but not built yet");
    BearerTokenExtension {
        header: "Authorization".to_owned(),
        scheme: "Bearer".to_owned(),
        tokens: BearerTokens::Inline(Vec::new()),
    }
}
