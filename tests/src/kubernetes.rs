//! A strict check of manifests against Kubernetes' own schemas (`fixtures/kubernetes/schemas.json`): unknown fields,
//! missing required fields and wrong types are errors, as in `kubectl apply --validate=strict`.

pub mod api;

use serde_json::{Map, Value};

/// The schemas of the kinds that `deploy/` uses.
pub struct Schemas(Map<String, Value>);

impl Schemas {
    /// Reads the kept schemas.
    ///
    /// # Panics
    /// When the fixture is not what `reduce.py` writes.
    pub fn load() -> Self {
        let text = include_str!("../fixtures/kubernetes/schemas.json");
        let Value::Object(definitions) = serde_json::from_str(text).expect("schemas.json is JSON") else {
            panic!("schemas.json is an object of definitions");
        };
        Self(definitions)
    }

    /// All that is wrong with a manifest, each with its path.
    pub fn check(&self, manifest: &Value) -> Vec<String> {
        let text = |key: &str| manifest[key].as_str().unwrap_or_default();
        let (group, version) = text("apiVersion").rsplit_once('/').unwrap_or(("", text("apiVersion")));
        let wanted = serde_json::json!({"group": group, "kind": text("kind"), "version": version});
        let is_wanted = |d: &Value| {
            d["x-kubernetes-group-version-kind"].as_array().is_some_and(|all| all.contains(&wanted))
        };
        let Some(definition) = self.0.values().find(|d| is_wanted(d)) else {
            return vec![format!("{wanted} is no kind that the kept schemas know")];
        };
        let mut errors = Vec::new();
        self.value(definition, manifest, text("kind"), &mut errors);
        errors
    }

    fn value(&self, schema: &Value, value: &Value, path: &str, errors: &mut Vec<String>) {
        if let Some(reference) = schema["$ref"].as_str() {
            let name = reference.rsplit('/').next().unwrap_or_default();
            return self.value(&self.0[name], value, path, errors);
        }
        if schema["format"] == "int-or-string" {
            if !(value.is_string() || value.is_i64()) {
                errors.push(format!("{path}: must be a number or a string"));
            }
            return;
        }
        match schema["type"].as_str() {
            Some("object") => self.object(schema, value, path, errors),
            Some("array") => match value.as_array() {
                Some(items) => {
                    for (number, item) in items.iter().enumerate() {
                        self.value(&schema["items"], item, &format!("{path}[{number}]"), errors);
                    }
                }
                None => errors.push(format!("{path}: must be a list")),
            },
            Some("string") if !value.is_string() => errors.push(format!("{path}: must be a string")),
            Some("integer") if !value.is_i64() => errors.push(format!("{path}: must be a whole number")),
            Some("boolean") if !value.is_boolean() => errors.push(format!("{path}: must be true or false")),
            _ => {} // scalars of the right type, and the few definitions without one (Quantity, Time)
        }
    }

    fn object(&self, schema: &Value, value: &Value, path: &str, errors: &mut Vec<String>) {
        let Some(fields) = value.as_object() else {
            return errors.push(format!("{path}: must be a mapping"));
        };
        for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(required) {
                errors.push(format!("{path}.{required}: is missing"));
            }
        }
        for (key, field) in fields {
            let path = format!("{path}.{key}");
            match (&schema["properties"][key], &schema["additionalProperties"]) {
                (Value::Null, Value::Null) => errors.push(format!("{path}: unknown field")),
                (Value::Null, additional) => self.value(additional, field, &path, errors),
                (known, _) => self.value(known, field, &path, errors),
            }
        }
    }
}
