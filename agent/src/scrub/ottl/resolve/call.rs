//! Converters.

#![forbid(unsafe_code)]

use super::{At, Context, OttlError, Resolver, arguments, fail, text};
use crate::{
    config::fields::nearest,
    scrub::{
        ottl::{
            functions::{Case, Function, SIGNATURES, Signature, time_format},
            grammar::{Call, Node, What},
            program::Expr,
        },
        pattern::PatternId,
    },
};

/// Converters that are not functions of values alone.
const OTHERS: [&str; 3] = ["IsMatch", "ExtractPatterns", "IsRootSpan"];

impl Resolver<'_> {
    pub(super) fn call(&mut self, at: At, call: &Call) -> Result<Expr, OttlError> {
        match call.name.as_str() {
            "IsMatch" | "ExtractPatterns" => {
                let given = arguments(at, call, &["target", "pattern"], 2)?;
                let target = Box::new(self.expr(given[0].expect("needed"))?);
                let node = given[1].expect("needed");
                let pattern = self.pattern(node)?;
                if call.name == "IsMatch" {
                    return Ok(Expr::IsMatch(target, pattern));
                }
                if self.patterns.get(pattern).names().next().is_none() {
                    return fail(node.at, "the pattern names no group; write `(?P<name>…)`");
                }
                Ok(Expr::Extract(target, pattern))
            }
            "IsRootSpan" => {
                arguments(at, call, &[], 0)?;
                self.enter(Context::Span, at)?;
                Ok(Expr::IsRootSpan)
            }
            name => match named(name) {
                Some(signature) => self.function(at, call, signature),
                None => fail(at, no_converter(name)),
            },
        }
    }

    fn function(&mut self, at: At, call: &Call, signature: &Signature) -> Result<Expr, OttlError> {
        let given = arguments(at, call, signature.parameters, signature.needed)?;
        match (signature.function, &given[..]) {
            (Function::ConvertCase, [_, Some(case)]) if Case::named(text(case)?).is_none() => {
                return fail(case.at, "the case is \"lower\", \"upper\", \"snake\" or \"camel\"");
            }
            (Function::Time | Function::FormatTime, [_, Some(format)]) => {
                if let Err(message) = time_format(text(format)?) {
                    return fail(format.at, message);
                }
            }
            _ => {}
        }
        let values = given.into_iter().map(|node| node.map(|node| self.expr(node)).transpose());
        Ok(Expr::Call(signature.function, values.collect::<Result<_, _>>()?))
    }

    /// A pattern literal.
    pub(super) fn pattern(&mut self, node: &Node) -> Result<PatternId, OttlError> {
        let pattern = text(node)?;
        self.compile(node.at, pattern)
    }

    pub(super) fn compile(&mut self, at: At, pattern: &str) -> Result<PatternId, OttlError> {
        let compiled = self.patterns.compile(pattern, self.at);
        compiled.map_err(|error| OttlError { at, message: error.message })
    }

    /// A function that is given by name, as in `replace_pattern(…, SHA256)`: it takes one text.
    pub(super) fn function_name(node: &Node) -> Result<Function, OttlError> {
        let What::Symbol(name) = &node.what else {
            return fail(node.at, "here stands the name of a converter, such as SHA256");
        };
        match named(name) {
            Some(signature) if signature.needed == 1 => Ok(signature.function),
            Some(_) => fail(node.at, format!("`{name}` does not take one text alone, as is needed here")),
            None => fail(node.at, no_converter(name)),
        }
    }
}

fn named(name: &str) -> Option<&'static Signature> {
    SIGNATURES.iter().find(|signature| signature.name == name)
}

fn no_converter(name: &str) -> String {
    let names: Vec<&str> = SIGNATURES.iter().map(|signature| signature.name).chain(OTHERS).collect();
    let near = match nearest::nearest(name, &names) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => String::new(),
    };
    format!("the converter `{name}` is not supported{near}; there are {}", names.join(", "))
}
