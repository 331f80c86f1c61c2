//! Secrets that are known by their form: JSON web tokens, private keys, credentials of HTTP, hashes of passwords, and
//! tokens whose prefix is not at the beginning.

#![forbid(unsafe_code)]

use memchr::memmem;

use super::{
    bytes::{self, Class, before, begins, looking_at},
    finds::Finds,
};

/// Characters of a token's header that are looked at.
const HEADER: usize = 1024;

/// JSON web tokens, signed or encrypted, also without their last part.
pub(super) fn jwt(text: &[u8], finds: &mut Finds) {
    let mut from = 0;
    for at in memmem::find_iter(text, b"eyJ") {
        if at < from || before(text, at).is_some_and(|byte| Class::Word.has(byte)) {
            continue;
        }
        let header = Class::Word.run(text, at);
        from = header;
        if text.get(header) != Some(&b'.') || !is_header(&text[at..header.min(at + HEADER)]) {
            continue;
        }
        let mut end = Class::Word.run(text, header + 1);
        let mut parts = 2;
        while parts < 5 && text.get(end) == Some(&b'.') {
            let next = Class::Word.run(text, end + 1);
            if next == end + 1 && parts > 3 {
                break;
            }
            end = next;
            parts += 1;
        }
        from = end;
        finds.push(at..end);
    }
}

/// Whether it is the beginning of a JSON object that names an algorithm.
fn is_header(part: &[u8]) -> bool {
    let mut json = Vec::with_capacity(part.len());
    bytes::base64(part, &mut json);
    ["\"alg\"", "\"enc\"", "\"typ\"", "\"kid\""]
        .iter()
        .any(|name| memmem::find(&json, name.as_bytes()).is_some())
}

/// Private keys: PEM, `PuTTY`'s, and PEM in base64. One that has no end goes on to the end of the text.
pub(super) fn private_key(text: &[u8], finds: &mut Finds) {
    let mut from = 0;
    while let Some(found) = memmem::find(&text[from..], b"-----BEGIN ") {
        let at = from + found;
        let label = at + 11;
        let name = text[label..]
            .iter()
            .take(64)
            .take_while(|byte| byte.is_ascii_uppercase() || b" 0123456789".contains(byte));
        let name = &text[label..label + name.count()];
        from = label;
        if memmem::find(name, b"PRIVATE KEY").is_none() {
            continue;
        }
        from = memmem::find(&text[label..], b"-----END ").map_or(text.len(), |end| {
            let end = label + end + 9;
            memmem::find(&text[end..text.len().min(end + 70)], b"-----").map_or(end, |last| end + last + 5)
        });
        finds.push(at..from);
    }
    if let Some(at) = memmem::find(text, b"PuTTY-User-Key-File-") {
        finds.push(at..text.len());
    }
    from = 0;
    // "-----BEGIN"
    for at in memmem::find_iter(text, b"LS0tLS1CRUdJTi") {
        if at >= from && begins(text, at) {
            from = Class::Base64.run(text, at);
            let mut pem = Vec::new();
            bytes::base64(&text[at..from.min(at + 120)], &mut pem);
            if memmem::find(&pem, b"PRIVATE KEY").is_some() {
                while text.get(from) == Some(&b'=') {
                    from += 1;
                }
                finds.push(at..from);
            }
        }
    }
}

/// What stands after `Bearer` or `Basic`.
pub(super) fn authorization(text: &[u8], finds: &mut Finds) {
    let mut at = 0;
    while let Some(found) = text[at..].iter().position(|byte| matches!(byte, b'b' | b'B')) {
        let start = at + found;
        at = start + 1;
        let (length, basic) = if looking_at(text, start, b"bearer") {
            (6, false)
        } else if looking_at(text, start, b"basic") {
            (5, true)
        } else {
            continue;
        };
        let gap = text[start + length..]
            .iter()
            .take(4)
            .take_while(|byte| matches!(byte, b' ' | b'\t' | b'+'))
            .count();
        let from = start + length + gap;
        let mut end = Class::Token.run(text, from);
        let token = &text[from..end];
        if !begins(text, start) || gap == 0 || !(if basic { is_basic(token) } else { is_random(token) }) {
            continue;
        }
        while text.get(end) == Some(&b'=') {
            end += 1;
        }
        finds.push(from..end);
        at = end;
    }
}

/// Whether it is a name and a password.
fn is_basic(token: &[u8]) -> bool {
    let mut plain = Vec::new();
    bytes::base64(&token[..token.len().min(HEADER)], &mut plain);
    token.len() >= 4 && plain.contains(&b':') && !plain.iter().any(u8::is_ascii_control)
}

/// Whether it is unlike a word of prose.
fn is_random(token: &[u8]) -> bool {
    let has = |test: fn(&u8) -> bool| token.iter().any(test);
    let digits = has(u8::is_ascii_digit);
    token.len() >= 6 && digits
        || token.len() >= 16 && has(u8::is_ascii_uppercase) && has(u8::is_ascii_lowercase)
        || token.len() >= 32
}

/// Hashes of passwords in the forms of `crypt` that are for nothing else: bcrypt, Argon2, scrypt.
pub(super) fn password_hash(text: &[u8], finds: &mut Finds) {
    let mut from = 0;
    for at in memchr::memchr_iter(b'$', text) {
        if at < from {
            continue;
        }
        let rest = &text[at..];
        let body = |byte: &u8| byte.is_ascii_alphanumeric() || b"./+$=,-".contains(byte);
        let shortest = match rest {
            [b'$', b'2', b'a' | b'b' | b'x' | b'y', b'$', ..] => 60,
            _ if rest.starts_with(b"$argon2") || rest.starts_with(b"$scrypt$") => 40,
            _ => continue,
        };
        let length = rest.iter().position(|byte| !body(byte)).unwrap_or(rest.len());
        from = at + length;
        if length >= shortest {
            finds.push(at..from);
        }
    }
}

/// Bots of Telegram: their number, `:AA`, 33 characters.
pub(super) fn telegram(text: &[u8], finds: &mut Finds) {
    for at in memmem::find_iter(text, b":AA") {
        let start = text[at.saturating_sub(11)..at].iter().rposition(|byte| !byte.is_ascii_digit());
        let start = start.map_or(at.saturating_sub(11), |other| at.saturating_sub(11) + other + 1);
        let body = &text[at + 3..text.len().min(at + 3 + 34)];
        let length = body.iter().take_while(|byte| Class::Word.has(**byte)).count();
        let named = before(text, start).is_none_or(|byte| !byte.is_ascii_digit());
        if (8..=10).contains(&(at - start)) && length >= 32 && named {
            finds.push(start..at + 3 + length);
        }
    }
}

/// Keys of Mailchimp: 32 hex digits and the data centre.
pub(super) fn mailchimp(text: &[u8], finds: &mut Finds) {
    for at in memmem::find_iter(text, b"-us") {
        let Some(start) = at.checked_sub(32) else { continue };
        let centre = text[at + 3..].iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
        let whole = begins(text, start) && text[start..at].iter().all(|byte| Class::Hex.has(*byte));
        if whole && (1..=2).contains(&centre) {
            finds.push(start..at + 3 + centre);
        }
    }
}

/// Client secrets of Azure (`Q~` after three characters and a digit), and keys of its storage.
pub(super) fn azure(text: &[u8], finds: &mut Finds) {
    let part = |byte: &u8| Class::Word.has(*byte) || matches!(byte, b'.' | b'~');
    let mut from = 0;
    for at in memmem::find_iter(text, b"Q~") {
        let Some(start) = at.checked_sub(4).filter(|_| at >= from) else { continue };
        let length = text[at + 2..].iter().position(|byte| !part(byte)).unwrap_or(text.len() - at - 2);
        from = at + 2 + length;
        // A full stop ends the sentence.
        let length = length - usize::from(text[from - 1] == b'.' && length > 0);
        let lead =
            text[start..at - 1].iter().all(part) && text[at - 1].is_ascii_digit() && begins(text, start);
        if lead && (31..=34).contains(&length) {
            finds.push(start..at + 2 + length);
        }
    }
    for at in memmem::find_iter(text, b"AccountKey=") {
        let from = at + 11;
        let mut end = Class::Base64.run(text, from);
        if end - from >= 40 {
            while text.get(end) == Some(&b'=') {
                end += 1;
            }
            finds.push(from..end);
        }
    }
}

/// URLs to which anybody may post: the part after `head` that is the secret.
fn webhook(text: &[u8], head: &[u8], min: usize, finds: &mut Finds) {
    let part = |byte: &u8| Class::Word.has(*byte) || matches!(byte, b'/' | b'@');
    let mut measured = 0;
    for at in memmem::find_iter(text, head) {
        let from = at + head.len();
        if from < measured {
            continue;
        }
        let length = text[from..].iter().position(|byte| !part(byte)).unwrap_or(text.len() - from);
        measured = from + length;
        if length >= min {
            finds.push(from..from + length);
        }
    }
}

/// Slack's: `T…/B…/…`.
pub(super) fn slack_webhook(text: &[u8], finds: &mut Finds) {
    webhook(text, b"hooks.slack.com/services/", 20, finds);
    webhook(text, b"hooks.slack.com/workflows/", 20, finds);
    webhook(text, b"hooks.slack.com/triggers/", 20, finds);
}

/// Discord's: a number and 60 or more characters.
pub(super) fn discord_webhook(text: &[u8], finds: &mut Finds) {
    webhook(text, b"/api/webhooks/", 60, finds);
}

/// Microsoft Teams'.
pub(super) fn teams_webhook(text: &[u8], finds: &mut Finds) {
    webhook(text, b"webhook.office.com/webhookb2/", 40, finds);
}

/// Tokens of Braintree: 16 characters and 32 hex digits after `access_token$production$`.
pub(super) fn braintree(text: &[u8], finds: &mut Finds) {
    for at in memmem::find_iter(text, b"access_token$") {
        let kind = Class::Lower.run(text, at + 13);
        let id = Class::Alnum.run(text, kind + 1);
        let end = Class::Hex.run(text, id + 1);
        let parted = text.get(kind) == Some(&b'$') && text.get(id) == Some(&b'$');
        if parted && begins(text, at) && id - kind == 17 && end - id == 33 {
            finds.push(at..end);
        }
    }
}
