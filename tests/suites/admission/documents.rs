//! What `deploy/docs/admission.md` shows is true.

use std::path::Path;

use spanwarden::config::{self, extensions::Extension};

/// The page.
pub(crate) fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/docs/admission.md");
    std::fs::read_to_string(path).expect("the page is there")
}

#[test]
fn the_examples_load_without_a_warning() {
    let page = page();
    let examples: Vec<&str> =
        page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(examples.len(), 2, "an agent's and a gateway's");
    for (example, (agents, rules)) in examples.iter().zip([(0, 2), (1, 0)]) {
        let config =
            config::parse(example, "admission.md").unwrap_or_else(|errors| panic!("{example}\n{errors}"));
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        let identity = config.extensions.iter().find_map(|extension| match &extension.config {
            Extension::Identity(identity) => Some(identity),
            _ => None,
        });
        let identity = identity.expect("both have an identity");
        assert_eq!((identity.agents.len(), identity.rules.len()), (agents, rules));
        assert!(identity.tenants.is_some());
        let enabled = config.service.extensions.len();
        assert_eq!(enabled, config.extensions.len(), "what is written is enabled");
    }
}
