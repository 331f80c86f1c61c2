//! Editors.

#![forbid(unsafe_code)]

use super::{At, Context, OttlError, Resolver, arguments, count, fail, text, texts};
use crate::{
    config::fields::nearest,
    scrub::{
        ottl::{
            functions::Glob,
            grammar::{Call, Node, What},
            program::{Editor, Expr, Field, Merge, Place, Replacement, Side, Substitute},
        },
        pattern::{PatternId, Template},
    },
};

const EDITORS: [&str; 14] = [
    "set",
    "delete_key",
    "delete_matching_keys",
    "keep_keys",
    "keep_matching_keys",
    "replace_pattern",
    "replace_all_patterns",
    "replace_match",
    "replace_all_matches",
    "truncate_all",
    "limit",
    "merge_maps",
    "append",
    "set_semconv_span_name",
];

/// Versions of the semantic conventions whose span names are those that `set_semconv_span_name` makes.
const SEMCONV: [&str; 7] = ["1.37.0", "1.38.0", "1.39.0", "1.40.0", "1.41.0", "1.42.0", "1.43.0"];

impl Resolver<'_> {
    pub(super) fn editor(&mut self, at: At, call: &Call) -> Result<Editor, OttlError> {
        let given = |names: &[&str], needed| arguments(at, call, names, needed);
        Ok(match call.name.as_str() {
            "set" => {
                let given = given(&["target", "value"], 2)?;
                let place = self.target(given[0].expect("needed"))?;
                Editor::Set(place, self.expr(given[1].expect("needed"))?)
            }
            "delete_key" => {
                let given = given(&["target", "key"], 2)?;
                let map = self.map(given[0].expect("needed"))?;
                Editor::DeleteKey(map, text(given[1].expect("needed"))?.into())
            }
            "delete_matching_keys" => {
                let given = given(&["target", "pattern"], 2)?;
                let map = self.map(given[0].expect("needed"))?;
                Editor::DeleteMatchingKeys(map, self.pattern(given[1].expect("needed"))?)
            }
            "keep_matching_keys" => {
                let given = given(&["target", "pattern"], 2)?;
                let map = self.map(given[0].expect("needed"))?;
                Editor::KeepMatchingKeys(map, self.pattern(given[1].expect("needed"))?)
            }
            "keep_keys" => {
                let given = given(&["target", "keys"], 2)?;
                let map = self.map(given[0].expect("needed"))?;
                Editor::KeepKeys(map, texts(given[1].expect("needed"))?)
            }
            "truncate_all" => {
                let given = given(&["target", "limit"], 2)?;
                let map = self.map(given[0].expect("needed"))?;
                Editor::TruncateAll(map, count(given[1].expect("needed"))?)
            }
            "limit" => {
                let given = given(&["target", "limit", "priority_keys"], 3)?;
                let map = self.map(given[0].expect("needed"))?;
                let node = given[1].expect("needed");
                let (limit, kept) = (count(node)?, texts(given[2].expect("needed"))?);
                if kept.len() > limit {
                    return fail(node.at, "the limit is below the number of keys that are kept first");
                }
                Editor::Limit(map, limit, kept)
            }
            "merge_maps" => {
                let given = given(&["target", "source", "strategy"], 3)?;
                let map = self.map(given[0].expect("needed"))?;
                let source = self.expr(given[1].expect("needed"))?;
                let node = given[2].expect("needed");
                let strategy = match text(node)? {
                    "insert" => Merge::Insert,
                    "update" => Merge::Update,
                    "upsert" => Merge::Upsert,
                    _ => return fail(node.at, "the strategy is \"insert\", \"update\" or \"upsert\""),
                };
                Editor::MergeMaps(map, source, strategy)
            }
            "append" => {
                let given = given(&["target", "value", "values"], 1)?;
                let target = self.target(given[0].expect("needed"))?;
                self.append(at, target, given[1], given[2])?
            }
            "set_semconv_span_name" => {
                let given = given(&["semconvVersion", "originalSpanNameAttribute"], 1)?;
                let node = given[0].expect("needed");
                if !SEMCONV.contains(&text(node)?) {
                    let all = SEMCONV.join(", ");
                    return fail(node.at, format!("this version is not supported; there are {all}"));
                }
                self.enter(Context::Span, at)?;
                let original = given[1].map(text).transpose()?;
                Editor::SemconvName(original.map(Into::into))
            }
            "replace_pattern" | "replace_all_patterns" | "replace_match" | "replace_all_matches" => {
                self.replace(at, call)?
            }
            name => return fail(at, no_editor(name)),
        })
    }

    fn append(
        &mut self,
        at: At,
        target: Place,
        value: Option<&Node>,
        values: Option<&Node>,
    ) -> Result<Editor, OttlError> {
        let mut all = Vec::new();
        if let Some(value) = value {
            all.push(self.expr(value)?);
        }
        if let Some(node) = values {
            let What::List(list) = &node.what else { return fail(node.at, "here stands a list") };
            for one in list {
                all.push(self.expr(one)?);
            }
        }
        if all.is_empty() {
            return fail(at, "`value` or `values` is missing: append(target, value, values)");
        }
        Ok(Editor::Append(target, all))
    }

    fn replace(&mut self, at: At, call: &Call) -> Result<Editor, OttlError> {
        let names: &[&str] = match call.name.as_str() {
            "replace_pattern" => &["target", "regex", "replacement", "function", "replacementFormat"],
            "replace_all_patterns" => {
                &["target", "mode", "regex", "replacement", "function", "replacementFormat"]
            }
            _ => &["target", "pattern", "replacement", "function", "replacementFormat"],
        };
        let all = call.name.starts_with("replace_all");
        let needed = names.len() - 2;
        let given = arguments(at, call, names, needed)?;
        let target = given[0].expect("needed");
        let place = if all { self.map(target)? } else { self.target(target)? };
        let node = given[needed - 2].expect("needed");
        if call.name.ends_with("patterns") || call.name.ends_with("pattern") {
            let pattern = self.pattern(node)?;
            let replacement = self.replacement(Some(pattern), &given[needed - 1..])?;
            if !all {
                return Ok(Editor::ReplacePattern(place, pattern, replacement));
            }
            let mode = given[1].expect("needed");
            let side = match text(mode)? {
                "value" => Side::Values,
                "key" => Side::Keys,
                _ => return fail(mode.at, "the mode is \"value\" or \"key\""),
            };
            return Ok(Editor::ReplaceAllPatterns(place, side, pattern, replacement));
        }
        let glob =
            Glob::to_pattern(text(node)?).or_else(|what| fail(node.at, format!("this glob {what}")))?;
        let pattern = self.compile(node.at, &glob)?;
        let replacement = self.replacement(None, &given[needed - 1..])?;
        Ok(if all {
            Editor::ReplaceAllMatches(place, pattern, replacement)
        } else {
            Editor::ReplaceMatch(place, pattern, replacement)
        })
    }

    /// `replacement[, SHA256[, "format %s"]]`; with a pattern, `$1` and the like are its groups.
    fn replacement(
        &mut self,
        pattern: Option<PatternId>,
        given: &[Option<&Node>],
    ) -> Result<Replacement, OttlError> {
        let node = given[0].expect("needed");
        let text_of = match &node.what {
            What::Text(known) => {
                let template = match pattern {
                    Some(pattern) => Template::parse(known, self.patterns.get(pattern)),
                    None => Template::literal(known),
                };
                Substitute::Known(template, known.as_str().into())
            }
            _ => match self.expr(node)? {
                Expr::Literal(..) => return fail(node.at, "the replacement is text"),
                value => Substitute::Computed(value),
            },
        };
        let format = match given[2] {
            None => ("".into(), "".into()),
            Some(node) => match text(node)?.split_once("%s") {
                Some((before, after)) if !before.contains('%') && !after.contains('%') => {
                    (before.into(), after.into())
                }
                _ => return fail(node.at, "the format holds `%s` once and no other `%`"),
            },
        };
        let function = match given[1] {
            None if given[2].is_some() => {
                return fail(given[2].expect("just seen").at, "a format needs a function before it");
            }
            None => None,
            Some(node) => {
                let (before, after) = format;
                Some((Self::function_name(node)?, before, after))
            }
        };
        Ok(Replacement { text: text_of, function })
    }

    /// A path that is written.
    fn target(&mut self, node: &Node) -> Result<Place, OttlError> {
        let What::Path(path) = &node.what else { return fail(node.at, "the target is a path") };
        let place = self.place(node.at, path)?;
        match place.field {
            Field::Events | Field::Links | Field::EventIndex => fail(
                node.at,
                "this can be read but not written; change events in the context spanevent, links in spanlink",
            ),
            _ => Ok(place),
        }
    }

    /// A path of a map: `attributes`, `cache`, or a value inside them.
    fn map(&mut self, node: &Node) -> Result<Place, OttlError> {
        let place = match &node.what {
            What::Path(_) => self.target(node)?,
            _ => return fail(node.at, "the target is a map, as in `attributes`"),
        };
        match place.field {
            Field::Attributes | Field::Cache => Ok(place),
            _ => fail(node.at, "the target is a map, as in `attributes`"),
        }
    }
}

fn no_editor(name: &str) -> String {
    let near = match nearest::nearest(name, &EDITORS) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => String::new(),
    };
    format!("the editor `{name}` is not supported{near}; there are {}", EDITORS.join(", "))
}
