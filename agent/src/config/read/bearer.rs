//! `bearertokenauth`

use std::path::PathBuf;

use crate::config::{
    Located,
    auth::{BearerTokenExtension, BearerTokens},
    fields::Fields,
};

/// What a header's value can carry, with room for the scheme; servers take some 8 KiB.
const MAX_TOKEN: usize = 8 << 10;

pub(super) fn read(mut fields: Fields<'_>) -> BearerTokenExtension {
    let header = fields.located("header").filter(|header| !header.value.is_empty());
    if let Some(header) = &header {
        check_header(&fields, header);
    }
    let scheme = fields.string("scheme").unwrap_or_else(|| "Bearer".to_owned());
    if !scheme.bytes().all(|b| b.is_ascii_graphic()) {
        fields.error_at("scheme", "a scheme is one word, such as `Bearer`; empty for the bare token");
    }
    BearerTokenExtension {
        header: header.map_or_else(|| "Authorization".to_owned(), |header| header.value),
        scheme,
        tokens: tokens(&mut fields),
    }
}

fn check_header(fields: &Fields<'_>, header: &Located<String>) {
    match http::HeaderName::try_from(&header.value) {
        Err(_) => fields.report().error(&header.at, "is not a header's name"),
        Ok(name)
            if matches!(
                name.as_str(),
                "content-type" | "content-encoding" | "content-length" | "host" | "te"
            ) || name.as_str().starts_with("grpc-") =>
        {
            fields
                .report()
                .error(&header.at, format!("`{name}` is the protocol's own and can't carry a token"));
        }
        Ok(_) => {}
    }
}

/// `filename`, else `tokens`, else `token`.
fn tokens(fields: &mut Fields<'_>) -> BearerTokens {
    let file = fields.string("filename").filter(|path| !path.is_empty());
    let one = fields.located("token").filter(|token| !token.value.is_empty());
    let several = fields.located_strings("tokens");
    if let Some(file) = file {
        if one.is_some() || !several.is_empty() {
            fields.warn_at("filename", "the tokens are those of the file; `token` and `tokens` are ignored");
        }
        return BearerTokens::File(PathBuf::from(file));
    }
    if one.is_some() && !several.is_empty() {
        fields.error_at("token", "write either `token` or `tokens`");
    }
    let all: Vec<Located<String>> = one.into_iter().chain(several).collect();
    if all.is_empty() {
        fields.error("one of `filename`, `token` and `tokens` is required");
    }
    for (index, token) in all.iter().enumerate() {
        // A token is a secret: it is not shown.
        let bad = if token.value.is_empty() || !token.value.bytes().all(|b| b.is_ascii_graphic()) {
            "a token has printable ASCII characters only, and no spaces (nor a scheme: that is `scheme`)"
        } else if token.value.len() > MAX_TOKEN {
            "a token has at most 8192 characters"
        } else if all[..index].iter().any(|other| other.value == token.value) {
            "this token is in the list twice"
        } else {
            continue;
        };
        fields.report().error(&token.at, bad);
    }
    BearerTokens::Inline(all.into_iter().map(|token| token.value).collect())
}
