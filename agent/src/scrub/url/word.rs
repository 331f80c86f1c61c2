//! Which segments of a path are words that a programmer wrote, and which are identifiers.
//!
//! A rule set of our own, without a dictionary: a segment stays if all its pieces are words, versions or short names
//! with a digit, and a word is made of letters as a language could have them. In doubt it is an identifier. Somebody's
//! name is a word: what must not be seen at all is not for this rule.

#![forbid(unsafe_code)]

/// Longer segments are identifiers.
const MAX_SEGMENT: usize = 64;
/// Longer words are identifiers.
const MAX_WORD: usize = 28;
/// Longer keys of a query are data.
const MAX_KEY: usize = 64;
/// `catchphrase` has six consonants in a row; no word that names a resource has more.
const MAX_CONSONANTS: usize = 6;
/// Abbreviations without a vowel have at most so many letters: `xmlrpc`.
const MAX_ABBREVIATION: usize = 6;
/// Digits of a word: `oauth2`, `sha256` is a known name, `user12345` is not one.
const MAX_DIGITS: usize = 2;

/// Names with digits that are no identifiers.
const KNOWN: [&str; 18] = [
    "2fa", "3d", "a11y", "b2b", "b2c", "base64", "h264", "h265", "i18n", "ipv4", "ipv6", "k8s", "l10n",
    "p2p", "sha256", "sha512", "u2f", "x509",
];

/// Pairs of letters that words and the usual abbreviations do not have.
const PAIRS: [&str; 80] = [
    "bq", "bx", "cj", "cx", "dx", "fq", "fz", "gq", "gx", "gz", "hx", "jb", "jc", "jd", "jf", "jg", "jh",
    "jk", "jl", "jm", "jn", "jq", "jt", "jv", "jw", "jx", "jy", "jz", "kq", "kx", "kz", "lx", "mq", "mx",
    "pq", "px", "pz", "qb", "qc", "qd", "qf", "qg", "qh", "qj", "qk", "qm", "qn", "qp", "qt", "qv", "qw",
    "qx", "qy", "qz", "sx", "tq", "vb", "vf", "vh", "vj", "vk", "vq", "vw", "vx", "vz", "wq", "wv", "wx",
    "xg", "xj", "xk", "xz", "yq", "zb", "zf", "zj", "zn", "zq", "zr", "zx",
];

/// The second letters of [`PAIRS`] as bits, by the first.
const STRANGE: [u32; 26] = {
    let mut table = [0; 26];
    let mut at = 0;
    while at < PAIRS.len() {
        let pair = PAIRS[at].as_bytes();
        table[(pair[0] - b'a') as usize] |= 1 << (pair[1] - b'a');
        at += 1;
    }
    table
};

/// Whether a segment has nothing that looks like an identifier.
pub(super) fn is_plain(segment: &[u8]) -> bool {
    if segment.len() > MAX_SEGMENT {
        return false;
    }
    if is_placeholder(segment) {
        return true;
    }
    // `$metadata`, `@scope`, `.well-known`, `~user` begin with a delimiter; `batch:get` is a method of Google's APIs.
    let delimiter = |byte: &u8| Kinds::of(*byte) & Kinds::DELIMITER != 0;
    let digit = |index: usize, piece: &[u8]| index > 0 && piece.len() == 1 && piece[0].is_ascii_digit();
    segment.split(delimiter).enumerate().all(|(index, piece)| is_piece(piece) || digit(index, piece))
}

/// Whether the key of a query's value says what the value is, and is not data itself.
pub(super) fn is_key(key: &[u8]) -> bool {
    let good = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.[]$:*".contains(byte);
    let digits = key.iter().filter(|byte| byte.is_ascii_digit()).count();
    key.len() <= MAX_KEY
        && digits <= 3
        && key.iter().all(good)
        && key.split(|byte| !byte.is_ascii_alphanumeric()).all(|piece| piece.len() <= 2 || is_piece(piece))
}

/// `*`, `{id}`, `<id>`, `:id`: what stands for an identifier in a route.
#[inline]
fn is_placeholder(segment: &[u8]) -> bool {
    let name = match segment {
        b"*" | b"**" => return true,
        [b'{', name @ .., b'}'] | [b'<', name @ .., b'>'] | [b':', name @ ..] => name,
        _ => return false,
    };
    name.split(|byte| b"_-.:".contains(byte)).all(is_piece)
}

/// What stands between delimiters: nothing, a version, a word, perhaps with a digit or two.
fn is_piece(piece: &[u8]) -> bool {
    if piece.is_empty() || piece == b"*" {
        return true;
    }
    if piece.len() > MAX_WORD {
        return false;
    }
    let all = Kinds::all(piece);
    if all & (Kinds::OTHER | Kinds::DELIMITER) != 0 {
        return false;
    }
    // Nearly all are letters only; known names and versions have digits.
    if all & Kinds::DIGIT == 0 {
        return is_word(piece, all);
    }
    if all & Kinds::LETTER == 0 {
        return false;
    }
    let known = |known: &&str| known.len() == piece.len() && known.as_bytes().eq_ignore_ascii_case(piece);
    if KNOWN.iter().any(known) || is_version(piece) {
        return true;
    }
    let letters = piece.len() - piece.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (word, digits) = piece.split_at(letters);
    let all = Kinds::all(word);
    !word.is_empty()
        && all & Kinds::DIGIT == 0
        && digits.len() <= MAX_DIGITS
        && word.len() <= MAX_WORD / 2
        && !(piece.len() >= 6 && all & Kinds::NOT_HEX == 0)
        && is_word(word, all)
}

/// What a byte can be, as bits.
struct Kinds;

impl Kinds {
    const UPPER: u8 = 1 << 0;
    const DIGIT: u8 = 1 << 1;
    const VOWEL: u8 = 1 << 2;
    /// A letter that is no digit of hex.
    const NOT_HEX: u8 = 1 << 3;
    /// Between the pieces of a segment.
    const DELIMITER: u8 = 1 << 4;
    /// Neither a letter nor a digit nor a delimiter.
    const OTHER: u8 = 1 << 5;
    const LETTER: u8 = 1 << 6;

    const TABLE: [u8; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let c = byte as u8;
            table[byte] = match c {
                b'-' | b'_' | b'.' | b'~' | b':' | b'$' | b'@' | b'+' | b'!' => Self::DELIMITER,
                b'0'..=b'9' => Self::DIGIT,
                b'a'..=b'z' | b'A'..=b'Z' => {
                    let upper = if c.is_ascii_uppercase() { Self::UPPER } else { 0 };
                    let hex = if c.is_ascii_hexdigit() { 0 } else { Self::NOT_HEX };
                    let vowel = matches!(c.to_ascii_lowercase(), b'a' | b'e' | b'i' | b'o' | b'u' | b'y');
                    Self::LETTER | upper | hex | if vowel { Self::VOWEL } else { 0 }
                }
                _ => Self::OTHER,
            };
            byte += 1;
        }
        table
    };

    #[inline]
    const fn of(byte: u8) -> u8 {
        Self::TABLE[byte as usize]
    }

    /// What there is in a text.
    #[inline]
    fn all(text: &[u8]) -> u8 {
        text.iter().fold(0, |all, byte| all | Self::of(*byte))
    }
}

/// `v1`, `v12`, `v1beta1`, `v2alpha`.
fn is_version(piece: &[u8]) -> bool {
    let Some(rest) = piece.strip_prefix(b"v").or_else(|| piece.strip_prefix(b"V")) else { return false };
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let major = digits(rest);
    if !(1..=3).contains(&major) {
        return false;
    }
    let stage = &rest[major..];
    let stage = [&b"alpha"[..], b"beta", b"rc", b"p"]
        .iter()
        .find_map(|name| stage.strip_prefix(*name))
        .unwrap_or(stage);
    stage.len() <= 2 && digits(stage) == stage.len()
}

/// Whether letters, of which there are these kinds, could be a word of a language, or several in camel case.
fn is_word(word: &[u8], all: u8) -> bool {
    // Hex without a digit is still hex: `deadbeef`, but `facade`.
    if word.len() >= 8 && all & Kinds::NOT_HEX == 0 {
        return false;
    }
    // A hump begins where a small letter is followed by a capital one.
    let (mut humps, mut run, mut longest) = (1, 0, 0);
    let (mut small_before, mut before) = (false, None);
    for byte in word {
        let kinds = Kinds::of(*byte);
        let small = kinds & Kinds::UPPER == 0;
        let letter = (byte | 0x20) - b'a';
        if small_before && !small {
            humps += 1;
        } else if let Some(before) = before
            && STRANGE[usize::from(before)] >> letter & 1 == 1
        {
            return false;
        }
        run = if kinds & Kinds::VOWEL == 0 { run + 1 } else { 0 };
        longest = longest.max(run);
        (small_before, before) = (small, Some(letter));
    }
    if humps > 1 + word.len() / 3 {
        return false;
    }
    if all & Kinds::VOWEL == 0 {
        return word.len() <= MAX_ABBREVIATION;
    }
    // An abbreviation inside camel case has consonants only: `getHTTPSUrl`.
    longest <= MAX_CONSONANTS + usize::from(humps > 1) * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay() {
        assert!(PAIRS.is_sorted());
        for segment in [
            "",
            "api",
            "v1",
            "v2beta1",
            "users",
            "user-profiles",
            "order_items",
            "getUserById",
            "HTTPSConnections",
            "index.html",
            "oauth2",
            "callback",
            ".well-known",
            "openid-configuration",
            "s3",
            "k8s",
            "graphql",
            "batch:get",
            "$metadata",
            "*",
            "{id}",
            "{user_id}",
            ":id",
            "<id>",
            "healthz",
            "readyz",
            "livez",
            "metrics",
            "catchphrase",
            "rhythms",
            "app.min.js",
            "favicon.ico",
            "checkout",
            "search",
            "products",
            "package.Service",
            "UpdateOrder",
            "TRACES",
            "wp-admin",
            "xmlrpc.php",
            "sql",
            "nodejs",
            "step-2",
            "i18n",
            "facade",
            "WeirdnessService",
            "SayHello",
            "opentelemetry.proto.collector.trace.v1.TraceService",
        ] {
            assert!(is_plain(segment.as_bytes()), "{segment}");
        }
    }

    #[test]
    fn identifiers_go() {
        for segment in [
            "1",
            "42",
            "2024",
            "123-45-6789",
            "550e8400-e29b-41d4-a716-446655440000",
            "deadbeef",
            "5f3a9c",
            "a1b2c3d4",
            "user12345",
            "ORD-2024-0001",
            "eyJhbGciOiJIUzI1NiJ9",
            "XkqzVbnPw",
            "qwxzkrtv",
            "bcdfghjkl",
            "AKIAIOSFODNN7EXAMPLE",
            "alice%20smith",
            "naïve",
            "a,b",
            "x=y",
            "aBcDeFgHiJkLmN",
            "0x1f",
            "Users(12)",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "app.1f2e3d4c.js",
            "acbd18db4cc2f85c",
            "thisisaveryveryverylongwordindeed",
            "cus_NffrFeUfNV2Hib",
        ] {
            assert!(!is_plain(segment.as_bytes()), "{segment}");
        }
    }

    #[test]
    fn keys_of_a_query() {
        for key in
            ["", "a", "page", "utm_source", "X-Amz-Signature", "filter[0][name]", "$top", "sort.by", "q", "*"]
        {
            assert!(is_key(key.as_bytes()), "{key}");
        }
        for key in ["alice@example.com", "alice smith", "4111111111111111", "%41", "5f3a9c2b1d", "é"] {
            assert!(!is_key(key.as_bytes()), "{key}");
        }
    }
}
